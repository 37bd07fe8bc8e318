"""`aws.autoscaling.group`: as many machines of a launch template as are desired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from app.domain.enums import TemplateType
from app.providers.aws.marks import from_list
from app.providers.aws.resource import AwsType
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, Idempotency, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account

KIND = "auto-scaling-group"
SIZES = ("MinSize", "MaxSize", "DesiredCapacity")
IN_SERVICE = "InService"


class AutoScalingGroupType(AwsType):
    """A group is ready when as many of its machines are in service as are desired."""

    name = "aws.autoscaling.group"
    title = "auto-scaling group"
    description = "As many machines of a launch template as are desired, in the subnets of a VPC."
    template_type = TemplateType.APPLICATION
    service, named, idempotency = "autoscaling", "AutoScalingGroupName", Idempotency.NAME
    changes_while_busy = True
    scalable = frozenset(f"/{name}" for name in SIZES)

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.read("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[identity])
        return next((_told(item) for item in answer["AutoScalingGroups"]), None)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["AutoScalingGroupName"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups"):
            yield _told(item)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        name = properties["AutoScalingGroupName"]
        await context.connection.write(
            "autoscaling",
            "create_auto_scaling_group",
            AutoScalingGroupName=name,
            **_settings(properties),
            **chosen(properties, "TargetGroupARNs"),
            Tags=_tags(name, tags),
        )
        return str(name)

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        name = found.id
        if touched - {"TargetGroupARNs"}:
            settings = {key: value for key, value in _settings(properties).items() if key in touched}
            await account.write("autoscaling", "update_auto_scaling_group", AutoScalingGroupName=name, **settings)
        if "TargetGroupARNs" in touched:
            there, wanted = set(found.properties["TargetGroupARNs"]), set(properties.get("TargetGroupARNs") or [])
            for operation, groups in (
                ("attach_load_balancer_target_groups", wanted - there),
                ("detach_load_balancer_target_groups", there - wanted),
            ):
                if groups:
                    await account.write(
                        "autoscaling", operation, AutoScalingGroupName=name, TargetGroupARNs=sorted(groups)
                    )

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("autoscaling", "create_or_update_tags", Tags=_tags(found.id, tags))
        if gone:
            keys = [{"ResourceId": found.id, "ResourceType": KIND, "Key": key} for key in gone]
            await account.write("autoscaling", "delete_tags", Tags=keys)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write(
            "autoscaling", "delete_auto_scaling_group", AutoScalingGroupName=found.id, ForceDelete=True
        )


def _told(item: Mapping[str, Any]) -> Found:
    name = item["AutoScalingGroupName"]
    template = item.get("LaunchTemplate") or {}
    properties = {
        "AutoScalingGroupName": name,
        **chosen(item, *SIZES, "HealthCheckType", "HealthCheckGracePeriod"),
        "LaunchTemplate": chosen(template, "LaunchTemplateId", "Version"),
        "VPCZoneIdentifier": [part for part in item.get("VPCZoneIdentifier", "").split(",") if part],
        "TargetGroupARNs": list(item.get("TargetGroupARNs", ())),
    }
    outputs = {"AutoScalingGroupName": name, "AutoScalingGroupARN": item["AutoScalingGroupARN"]}
    machines = item.get("Instances", ())
    serving = sum(machine.get("LifecycleState") == IN_SERVICE for machine in machines)
    phase, message = Phase.READY, ""
    if item.get("Status"):
        # The only status that a group ever has.
        phase, message = Phase.LEAVING, f"{len(machines)} machines are still there"
    elif serving != item["DesiredCapacity"] or len(machines) != serving:
        phase, message = Phase.BUSY, f"{serving} of {item['DesiredCapacity']} machines are in service"
    return Found(
        name, properties, outputs, from_list(item.get("Tags")), str(item.get("CreatedTime", "")), phase, message
    )


def _settings(properties: JsonObject) -> JsonObject:
    settings = chosen(properties, *SIZES, "LaunchTemplate", "HealthCheckType", "HealthCheckGracePeriod")
    if properties.get("VPCZoneIdentifier"):
        settings["VPCZoneIdentifier"] = ",".join(properties["VPCZoneIdentifier"])
    return settings


def _tags(name: str, tags: dict[str, str]) -> list[JsonObject]:
    """The tags as they are for the group, and for the machines that it starts."""
    about = {"ResourceId": name, "ResourceType": KIND}
    return [
        {**about, "Key": key, "Value": value, "PropagateAtLaunch": not key.startswith("windlass:")}
        for key, value in sorted(tags.items())
    ]
