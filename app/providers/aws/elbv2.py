"""`aws.elbv2.load_balancer`, `aws.elbv2.target_group` and `aws.elbv2.listener`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError

if TYPE_CHECKING:
    from app.providers.aws.account import Account

HEALTH = (
    "HealthCheckProtocol", "HealthCheckPath", "HealthCheckIntervalSeconds", "HealthyThresholdCount",
    "UnhealthyThresholdCount", "Matcher",
)  # fmt: skip


class _LoadBalancingType(AwsType):
    """What has an ARN for its id, and tags that are asked for apart.

    `describes` tells of things by `arns`, as `items`, each with its ARN as `key`.
    """

    service = "elbv2"
    template_type = TemplateType.NETWORK
    describes: ClassVar[str]
    items: ClassVar[str]
    key: ClassVar[str]
    removes: ClassVar[str]

    @abstractmethod
    def told(self, item: Mapping[str, Any], tags: dict[str, str]) -> Found:
        """What an item of the answer says."""

    async def find(self, account: Account, identity: str) -> Found | None:
        return await self._first(account, **{f"{self.key}s": [identity]})

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self._first(context.connection, Names=[properties["Name"]])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("elbv2", self.describes, self.items):
            yield self.told(item, await self._tags(account, item[self.key]))

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("elbv2", "add_tags", ResourceArns=[found.id], Tags=as_list(tags))
        if gone:
            await account.write("elbv2", "remove_tags", ResourceArns=[found.id], TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("elbv2", self.removes, **{self.key: found.id})

    async def _first(self, account: Account, **asked: Any) -> Found | None:
        answer = await account.find("elbv2", self.describes, **asked)
        for item in (answer or {}).get(self.items, ()):
            return self.told(item, await self._tags(account, item[self.key]))
        return None

    async def _tags(self, account: Account, arn: str) -> dict[str, str]:
        answer = await account.find("elbv2", "describe_tags", ResourceArns=[arn])
        described = (answer or {}).get("TagDescriptions", ())
        return from_list(described[0].get("Tags")) if described else {}


class LoadBalancerType(_LoadBalancingType):
    """A load balancer; it takes AWS minutes to make one."""

    name = "aws.elbv2.load_balancer"
    title = "load balancer"
    description = "An address that spreads requests over targets."
    named, networked = "Name", "Subnets"
    describes, items, key = "describe_load_balancers", "LoadBalancers", "LoadBalancerArn"
    removes = "delete_load_balancer"

    def told(self, item: Mapping[str, Any], tags: dict[str, str]) -> Found:
        arn = item["LoadBalancerArn"]
        properties = {
            "Name": item["LoadBalancerName"],
            **chosen(item, "Type", "Scheme", "SecurityGroups"),
            "Subnets": [zone["SubnetId"] for zone in item["AvailabilityZones"]],
        }
        outputs = {
            **chosen(item, "LoadBalancerArn", "DNSName"),
            "LoadBalancerFullName": arn.partition("loadbalancer/")[2],
            "CanonicalHostedZoneID": item["CanonicalHostedZoneId"],
        }
        status = (item.get("State") or {}).get("Code", "active")
        # "active_impaired" serves requests, and gets better by itself.
        phases = {"provisioning": Phase.BUSY, "failed": Phase.BROKEN}
        return Found(arn, properties, outputs, tags, arn, phases.get(status, Phase.READY), f"it is {status}")

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, "Name", "Type", "Scheme", "Subnets", "SecurityGroups")
        answer = await context.connection.write("elbv2", "create_load_balancer", **wanted, Tags=as_list(tags))
        return str(answer["LoadBalancers"][0]["LoadBalancerArn"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        if "Subnets" in touched:
            await account.write("elbv2", "set_subnets", LoadBalancerArn=found.id, Subnets=properties["Subnets"])
        if "SecurityGroups" in touched:
            await account.write(
                "elbv2",
                "set_security_groups",
                LoadBalancerArn=found.id,
                SecurityGroups=properties.get("SecurityGroups") or [],
            )


class TargetGroupType(_LoadBalancingType):
    """Where a load balancer sends requests to, and how it finds out who can take them."""

    name = "aws.elbv2.target_group"
    title = "target group"
    description = "Targets of a load balancer, and how their health is checked."
    named = "Name"
    describes, items, key, removes = "describe_target_groups", "TargetGroups", "TargetGroupArn", "delete_target_group"

    def told(self, item: Mapping[str, Any], tags: dict[str, str]) -> Found:
        arn = item["TargetGroupArn"]
        properties = {
            "Name": item["TargetGroupName"],
            **chosen(item, "Port", "Protocol", "VpcId", "TargetType", *HEALTH),
        }
        if "Matcher" in properties:
            properties["Matcher"] = chosen(properties["Matcher"], "HttpCode")
        outputs = {
            "TargetGroupArn": arn,
            "TargetGroupName": item["TargetGroupName"],
            "TargetGroupFullName": arn.rpartition(":")[2],
        }
        return Found(arn, properties, outputs, tags, arn)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, "Name", "Port", "Protocol", "VpcId", "TargetType", *HEALTH)
        answer = await context.connection.write("elbv2", "create_target_group", **wanted, Tags=as_list(tags))
        return str(answer["TargetGroups"][0]["TargetGroupArn"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        wanted = chosen(properties, *(name for name in HEALTH if name in touched))
        await context.connection.write("elbv2", "modify_target_group", TargetGroupArn=found.id, **wanted)


class ListenerType(_LoadBalancingType):
    """What a load balancer does with what arrives at a port, of which it has one listener each."""

    name = "aws.elbv2.listener"
    title = "listener"
    description = "What a load balancer does with requests to one of its ports."
    describes, items, key, removes = "describe_listeners", "Listeners", "ListenerArn", "delete_listener"

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        account: Account = context.connection
        try:
            async for item in account.pages(
                "elbv2", "describe_listeners", "Listeners", LoadBalancerArn=properties["LoadBalancerArn"]
            ):
                if item["Port"] == properties["Port"]:
                    return self.told(item, await self._tags(account, item["ListenerArn"]))
        except ProviderError as error:
            # Without its load balancer there is no listener either.
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
        return None

    def everything(self, account: Account) -> AsyncIterator[Found]:
        return AwsType.everything(self, account)

    def told(self, item: Mapping[str, Any], tags: dict[str, str]) -> Found:
        arn = item["ListenerArn"]
        properties = {
            **chosen(item, "LoadBalancerArn", "Port", "Protocol", "SslPolicy"),
            "DefaultActions": [_action(action) for action in item.get("DefaultActions", ())],
        }
        if item.get("Certificates"):
            properties["Certificates"] = [chosen(one, "CertificateArn") for one in item["Certificates"]]
        return Found(arn, properties, {"ListenerArn": arn}, tags, arn)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, "LoadBalancerArn", *SETTINGS, "Port")
        answer = await context.connection.write("elbv2", "create_listener", **wanted, Tags=as_list(tags))
        return str(answer["Listeners"][0]["ListenerArn"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        wanted = chosen(properties, *(name for name in SETTINGS if name in touched))
        await context.connection.write("elbv2", "modify_listener", ListenerArn=found.id, **wanted)


SETTINGS = ("Protocol", "SslPolicy", "Certificates", "DefaultActions")


def _action(action: Mapping[str, Any]) -> JsonObject:
    """An action as it is declared. AWS says where to forward to in two ways, and gives what was left out."""
    kept = chosen(action, "Type", "TargetGroupArn")
    groups = (action.get("ForwardConfig") or {}).get("TargetGroups", ())
    if "TargetGroupArn" not in kept and len(groups) == 1:
        kept["TargetGroupArn"] = groups[0]["TargetGroupArn"]
    for name, members in (
        ("FixedResponseConfig", ("ContentType", "MessageBody", "StatusCode")),
        ("RedirectConfig", ("Host", "Path", "Port", "Protocol", "Query", "StatusCode")),
    ):
        if action.get(name):
            kept[name] = chosen(action[name], *members)
    return kept
