"""`aws.ecs.service`: as many tasks of a definition as are desired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list, token
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, Idempotency, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account


class ServiceType(AwsType):
    """A service of a cluster is ready when as many of its tasks run as are desired, all of the newest definition."""

    name = "aws.ecs.service"
    title = "service"
    description = "As many tasks of a definition as are desired, in a cluster of ECS."
    template_type = TemplateType.APPLICATION
    service, named, idempotency = "ecs", "ServiceName", Idempotency.NAME
    scalable = frozenset({"/DesiredCount"})
    changes_while_busy = True

    async def find(self, account: Account, identity: str) -> Found | None:
        # The ARN ends with "service/<cluster>/<name>".
        cluster, name = identity.split("/")[-2:]
        return await self._first(account, cluster, name)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self._first(context.connection, properties["Cluster"], properties["ServiceName"])

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = _lowered(
            chosen(properties, "Cluster", "TaskDefinition", "DesiredCount", "LaunchType", "LoadBalancers")
        )
        if properties.get("NetworkConfiguration"):
            wanted["networkConfiguration"] = _lowered(properties["NetworkConfiguration"])
        answer = await context.connection.write(
            "ecs",
            "create_service",
            **wanted,
            serviceName=properties["ServiceName"],
            clientToken=token(context),
            tags=as_list(tags, "key", "value"),
        )
        return str(answer["service"]["serviceArn"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        names = [name for name in ("TaskDefinition", "DesiredCount", "NetworkConfiguration") if name in touched]
        await context.connection.write(
            "ecs",
            "update_service",
            cluster=properties["Cluster"],
            service=found.properties["ServiceName"],
            **_lowered(chosen(properties, *names)),
        )

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("ecs", "tag_resource", resourceArn=found.id, tags=as_list(tags, "key", "value"))
        if gone:
            await account.write("ecs", "untag_resource", resourceArn=found.id, tagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        cluster, name = found.id.split("/")[-2:]
        await context.connection.write("ecs", "delete_service", cluster=cluster, service=name, force=True)

    async def _first(self, account: Account, cluster: str, name: str) -> Found | None:
        answer = await account.find("ecs", "describe_services", cluster=cluster, services=[name], include=["TAGS"])
        return next((_told(item) for item in (answer or {}).get("services", ()) if item["status"] != "INACTIVE"), None)


def _told(item: Mapping[str, Any]) -> Found:
    arn = item["serviceArn"]
    properties: JsonObject = {
        "ServiceName": item["serviceName"],
        "Cluster": item["clusterArn"],
        "TaskDefinition": item["taskDefinition"],
        "DesiredCount": item["desiredCount"],
        "LaunchType": item.get("launchType"),
    }
    if item.get("loadBalancers"):
        properties["LoadBalancers"] = [
            chosen(_raised(one), "ContainerName", "ContainerPort", "TargetGroupArn") for one in item["loadBalancers"]
        ]
    network = (item.get("networkConfiguration") or {}).get("awsvpcConfiguration")
    if network:
        found = chosen(_raised(network), "AssignPublicIp", "SecurityGroups", "Subnets")
        properties["NetworkConfiguration"] = {"AwsvpcConfiguration": found}
    running, desired = item.get("runningCount", 0), item["desiredCount"]
    phase, message = Phase.READY, ""
    if item["status"] == "DRAINING":
        phase, message = Phase.LEAVING, f"{running} tasks are still running"
    elif running != desired or len(item.get("deployments", ())) > 1:
        phase, message = Phase.BUSY, f"{running} of {desired} tasks are running"
    outputs = {"ServiceArn": arn, "ServiceName": item["serviceName"]}
    tags = from_list(item.get("tags"), "key", "value")
    return Found(arn, properties, outputs, tags, str(item.get("createdAt", arn)), phase, message)


def _lowered(value: Any) -> Any:
    """ECS begins every name with a small letter where CloudFormation begins it with a capital one."""
    if isinstance(value, Mapping):
        return {name[:1].lower() + name[1:]: _lowered(item) for name, item in value.items()}
    return [_lowered(item) for item in value] if isinstance(value, list) else value


def _raised(value: Mapping[str, Any]) -> JsonObject:
    return {name[:1].upper() + name[1:]: item for name, item in value.items()}
