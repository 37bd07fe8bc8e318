"""`aws.dynamodb.table`: a table, its throughput and its backups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import TemplateType
from app.providers.aws.marks import as_list, from_list, generated_name
from app.providers.aws.procedures import Procedure
from app.providers.aws.resource import AwsType
from app.providers.aws.snapshots import Backup, Snapshot, backup_spec
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import ActionSpec, Context, Idempotency, JsonObject, ResourceState

if TYPE_CHECKING:
    from app.providers.aws.account import Account

FIXED = ("TableName", "AttributeDefinitions", "KeySchema")
ON_DEMAND = "PAY_PER_REQUEST"
PHASES = {"CREATING": Phase.BUSY, "UPDATING": Phase.BUSY, "DELETING": Phase.LEAVING}


class TableBackup(Backup):
    """A backup of a table on demand. AWS restores it under another name, so there is no restoration in place."""

    spec: ClassVar[ActionSpec] = backup_spec("a backup of the table")

    async def look(self, context: Context, prior: ResourceState) -> Snapshot | None:
        account: Account = context.connection
        wanted = generated_name(context)
        async for item in account.pages(
            "dynamodb", "list_backups", "BackupSummaries", TableName=prior.id, BackupType="USER"
        ):
            if item["BackupName"] == wanted:
                ready = item["BackupStatus"] == "AVAILABLE"
                return Snapshot(item["BackupArn"], int(item.get("BackupSizeBytes") or 0), ready)
        return None

    async def begin(self, context: Context, prior: ResourceState) -> None:
        name = generated_name(context)
        await context.connection.write("dynamodb", "create_backup", TableName=prior.id, BackupName=name)


class TableType(AwsType):
    """A table of DynamoDB."""

    name = "aws.dynamodb.table"
    title = "table"
    description = "A table of DynamoDB; its throughput can be scaled, and it can be backed up."
    template_type = TemplateType.DATABASE
    service, named, idempotency = "dynamodb", "TableName", Idempotency.NAME
    scalable = frozenset({"/ProvisionedThroughput", "/BillingMode"})
    stateful = True
    procedures: ClassVar[Mapping[str, Procedure]] = {"backup": TableBackup()}

    async def find(self, account: Account, identity: str) -> Found | None:
        answer = await account.find("dynamodb", "describe_table", TableName=identity)
        if answer is None:
            return None
        item = answer["Table"]
        tags = await account.find("dynamodb", "list_tags_of_resource", ResourceArn=item["TableArn"])
        return _told(item, from_list((tags or {}).get("Tags")))

    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        return await self.find(context.connection, properties["TableName"])

    async def everything(self, account: Account) -> AsyncIterator[Found]:
        async for name in account.pages("dynamodb", "list_tables", "TableNames"):
            found = await self.find(account, name)
            if found is not None:
                yield found

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        wanted = chosen(properties, *FIXED, "BillingMode", "ProvisionedThroughput", "DeletionProtectionEnabled")
        await context.connection.write("dynamodb", "create_table", **wanted, Tags=as_list(tags))
        return str(properties["TableName"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        account: Account = context.connection
        if "DeletionProtectionEnabled" in touched:
            protected = bool(properties.get("DeletionProtectionEnabled"))
            await account.write("dynamodb", "update_table", TableName=found.id, DeletionProtectionEnabled=protected)
        # AWS takes one kind of change at a time; a refusal for the second is tried again when the first is done.
        wanted = chosen(properties, *(name for name in ("BillingMode", "ProvisionedThroughput") if name in touched))
        if wanted:
            await account.write("dynamodb", "update_table", TableName=found.id, **wanted)

    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        if tags:
            await account.write("dynamodb", "tag_resource", ResourceArn=found.arn, Tags=as_list(tags))
        if gone:
            await account.write("dynamodb", "untag_resource", ResourceArn=found.arn, TagKeys=gone)

    async def remove(self, context: Context, found: Found) -> None:
        await context.connection.write("dynamodb", "delete_table", TableName=found.id)


def _told(item: Mapping[str, Any], tags: dict[str, str]) -> Found:
    name, arn = item["TableName"], item["TableArn"]
    billing = (item.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED")
    properties = {**chosen(item, *FIXED, "DeletionProtectionEnabled"), "BillingMode": billing}
    if billing != ON_DEMAND:
        properties["ProvisionedThroughput"] = chosen(
            item.get("ProvisionedThroughput") or {}, "ReadCapacityUnits", "WriteCapacityUnits"
        )
    status = item["TableStatus"]
    outputs = {"TableName": name, "Arn": arn}
    unique = str(item.get("TableId") or arn)
    return Found(name, properties, outputs, tags, unique, PHASES.get(status, Phase.READY), f"it is {status}", arn=arn)
