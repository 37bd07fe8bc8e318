"""`aws.rds.subnet_group` and `aws.rds.instance`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list
from app.providers.aws.procedures import Procedure
from app.providers.aws.resource import AwsType
from app.providers.aws.snapshots import DatabaseBackup, DatabaseRestoration
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import Context, Idempotency, JsonObject

if TYPE_CHECKING:
    from app.providers.aws.account import Account

# Given to the request that makes an instance and to that which changes it, under the same name.
SETTINGS = (
    "DBInstanceClass", "EngineVersion", "AllocatedStorage", "StorageType", "MasterUserPassword", "MultiAZ",
    "PubliclyAccessible", "BackupRetentionPeriod", "DeletionProtection",
)  # fmt: skip
FIXED = (
    "DBInstanceIdentifier", "Engine", "MasterUsername", "DBName", "DBSubnetGroupName", "Port", "StorageEncrypted",
)  # fmt: skip
READY = ("available", "storage-optimization", "stopped")
BROKEN = (
    "failed", "incompatible-network", "incompatible-option-group", "incompatible-parameters", "incompatible-restore",
    "insufficient-capacity", "restore-error", "storage-full", "inaccessible-encryption-credentials",
)  # fmt: skip


class _RdsType(AwsType):
    service, idempotency = "rds", Idempotency.NAME

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("rds", "add_tags_to_resource", ResourceName=found.arn, Tags=as_list(tags))
        if gone:
            await account.write("rds", "remove_tags_from_resource", ResourceName=found.arn, TagKeys=gone)


class SubnetGroupType(_RdsType):
    """The subnets that a database may be in."""

    name = "aws.rds.subnet_group"
    title = "DB subnet group"
    description = "The subnets that a database instance may be in."
    template_type = TemplateType.DATABASE
    named, networked = "DBSubnetGroupName", "SubnetIds"

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("rds", "describe_db_subnet_groups", DBSubnetGroupName=identity)
        for item in (answer or {}).get("DBSubnetGroups", ()):
            return await self._told(account, item)
        return None

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["DBSubnetGroupName"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("rds", "describe_db_subnet_groups", "DBSubnetGroups"):
            yield await self._told(account, item)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, "DBSubnetGroupName", "DBSubnetGroupDescription", "SubnetIds")
        await context.connection.write("rds", "create_db_subnet_group", **wanted, Tags=as_list(tags))
        return str(properties["DBSubnetGroupName"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:  # noqa: ARG002
        wanted = chosen(properties, "DBSubnetGroupDescription", "SubnetIds")
        await context.connection.write("rds", "modify_db_subnet_group", DBSubnetGroupName=found.id, **wanted)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("rds", "delete_db_subnet_group", DBSubnetGroupName=found.id)

    async def _told(self, account: Account, item: Mapping[str, Any]) -> Found:
        name, arn = item["DBSubnetGroupName"], item["DBSubnetGroupArn"]
        answer = await account.find("rds", "list_tags_for_resource", ResourceName=arn)
        properties = {
            "DBSubnetGroupName": name,
            "DBSubnetGroupDescription": item["DBSubnetGroupDescription"],
            "SubnetIds": [subnet["SubnetIdentifier"] for subnet in item["Subnets"]],
        }
        outputs = {"DBSubnetGroupName": name, "DBSubnetGroupArn": arn}
        return Found(name, properties, outputs, from_list((answer or {}).get("TagList")), arn, arn=arn)


class DatabaseInstanceType(_RdsType):
    """A database server. Nobody tells its password, so a change of it by somebody else is not seen."""

    name = "aws.rds.instance"
    title = "DB instance"
    description = "A database server that AWS runs, which can be backed up, restored and scaled."
    template_type = TemplateType.DATABASE
    named = "DBInstanceIdentifier"
    stateful = True
    poll_seconds = 30.0
    scalable = frozenset({"/DBInstanceClass", "/AllocatedStorage", "/MultiAZ"})
    procedures: ClassVar[Mapping[str, Procedure]] = {"backup": DatabaseBackup(), "restore": DatabaseRestoration()}

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("rds", "describe_db_instances", DBInstanceIdentifier=identity)
        return next((_told(item) for item in (answer or {}).get("DBInstances", ())), None)

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["DBInstanceIdentifier"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for item in account.pages("rds", "describe_db_instances", "DBInstances"):
            yield _told(item)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, *FIXED, *SETTINGS)
        if properties.get("VPCSecurityGroups"):
            wanted["VpcSecurityGroupIds"] = properties["VPCSecurityGroups"]
        await context.connection.write("rds", "create_db_instance", **wanted, Tags=as_list(tags))
        return str(properties["DBInstanceIdentifier"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        wanted = chosen(properties, *(name for name in SETTINGS if name in touched))
        if "VPCSecurityGroups" in touched:
            wanted["VpcSecurityGroupIds"] = properties.get("VPCSecurityGroups") or []
        await context.connection.write(
            "rds", "modify_db_instance", DBInstanceIdentifier=found.id, **wanted, ApplyImmediately=True
        )

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write(
            "rds", "delete_db_instance", DBInstanceIdentifier=found.id, SkipFinalSnapshot=True
        )


def _told(item: Mapping[str, Any]) -> Found:
    name, arn, endpoint = item["DBInstanceIdentifier"], item["DBInstanceArn"], item.get("Endpoint") or {}
    pending = item.get("PendingModifiedValues") or {}
    properties: JsonObject = {
        **chosen(item, *FIXED, *(each for each in SETTINGS if each != "MasterUserPassword")),
        "VPCSecurityGroups": [group["VpcSecurityGroupId"] for group in item.get("VpcSecurityGroups", ())],
    }
    if item.get("DBSubnetGroup"):
        properties["DBSubnetGroupName"] = item["DBSubnetGroup"]["DBSubnetGroupName"]
    if endpoint.get("Port"):
        properties["Port"] = endpoint["Port"]
    outputs: JsonObject = {"DBInstanceIdentifier": name, "DBInstanceArn": arn}
    if endpoint.get("Address"):
        outputs["Endpoint"] = {"Address": endpoint["Address"], "Port": str(endpoint["Port"])}
    status = item["DBInstanceStatus"]
    if status == "deleting":
        phase = Phase.LEAVING
    elif status in BROKEN:
        phase = Phase.BROKEN
    else:
        # What was asked for a moment ago is pending while the status still says that all is well.
        phase = Phase.READY if status in READY and not pending else Phase.BUSY
    unique = str(item.get("DbiResourceId") or arn)
    return Found(
        name, properties, outputs, from_list(item.get("TagList")), unique, phase, f"{name} is {status}", arn=arn
    )
