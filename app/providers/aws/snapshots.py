"""Backups that AWS makes and keeps, and what is restored from them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import Reversibility, StepType
from app.providers.aws.marks import Mark, as_list, generated_name
from app.providers.aws.procedures import Procedure
from app.providers.base import (
    ActionResult,
    ActionSpec,
    Context,
    ErrorKind,
    JsonObject,
    ProviderError,
    ResourceState,
    Schema,
)

if TYPE_CHECKING:
    from app.providers.aws.account import Account

BACKUP_OUTPUTS: Schema = {
    "type": "object",
    "required": ["snapshot", "size"],
    "properties": {
        "snapshot": {"type": "string", "description": "AWS's name for the backup"},
        "size": {"type": "integer", "description": "in the unit that AWS gives: GiB, for DynamoDB bytes"},
    },
}
NOTHING: Schema = {"type": "object", "additionalProperties": False, "properties": {}}


def backup_spec(what: str) -> ActionSpec:
    """The action `backup` of a kind of resource."""
    return ActionSpec(
        "backup",
        NOTHING,
        StepType.RESOURCE_BACKUP,
        Reversibility.REVERSIBLE,
        BACKUP_OUTPUTS,
        f"Has AWS make {what} and waits for it; taking the step back keeps it.",
    )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A backup as AWS tells of it. `size` as in BACKUP_OUTPUTS, `percent` from 0 to 100."""

    id: str
    size: int
    ready: bool
    failed: bool = False
    percent: float | None = None


class Backup(Procedure):
    """Makes a backup under a name, or with a mark, that only this operation has."""

    @abstractmethod
    async def look(self, context: Context, prior: ResourceState) -> Snapshot | None:
        """The backup that this operation made."""

    @abstractmethod
    async def begin(self, context: Context, prior: ResourceState) -> None:
        """One request for the backup."""

    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        if await self.look(context, prior) is None:
            await self.begin(context, prior)
        result = await self.recover(context, prior, arguments)
        if result is None:
            message = f"AWS took the request for a backup of {prior.id}, and knows of none"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        return result

    async def recover(
        self,
        context: Context,
        prior: ResourceState,
        arguments: JsonObject,  # noqa: ARG002
    ) -> ActionResult | None:
        account: Account = context.connection
        while True:
            found = await self.look(context, prior)
            if found is None:
                return None
            if found.failed:
                raise ProviderError(ErrorKind.NOT_STABILIZED, f"AWS could not make the backup {found.id}")
            if found.ready:
                context.log(f"backup {found.id} is there")
                return ActionResult(outputs={"snapshot": found.id, "size": found.size})
            context.progress(found.percent, f"backup {found.id}")
            await context.sleep(account.pause)


class DatabaseBackup(Backup):
    """A snapshot of a DB instance."""

    spec: ClassVar[ActionSpec] = backup_spec("a snapshot of the instance")

    async def look(self, context: Context, prior: ResourceState) -> Snapshot | None:  # noqa: ARG002
        account: Account = context.connection
        answer = await account.find(
            "rds", "describe_db_snapshots", DBSnapshotIdentifier=generated_name(context), SnapshotType="manual"
        )
        for item in (answer or {}).get("DBSnapshots", ()):
            status = item["Status"]
            return Snapshot(
                item["DBSnapshotIdentifier"],
                int(item["AllocatedStorage"]),
                status == "available",
                status == "failed",
                item.get("PercentProgress"),
            )
        return None

    async def begin(self, context: Context, prior: ResourceState) -> None:
        await context.connection.write(
            "rds",
            "create_db_snapshot",
            DBSnapshotIdentifier=generated_name(context),
            DBInstanceIdentifier=prior.id,
            Tags=as_list(Mark.of(context).tags({})),
        )


class DatabaseRestoration(Procedure):
    """Restores a snapshot beside the instance and swaps the names of both.

    The instance that stood there before is kept under another name: to be swapped back when the step is taken back,
    to be removed when nobody will.
    """

    changes = True
    spec: ClassVar[ActionSpec] = ActionSpec(
        "restore",
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["snapshot"],
            "properties": {"snapshot": {"type": "string", "minLength": 1, "description": "what a backup has given"}},
        },
        StepType.RESOURCE_RESTORE,
        Reversibility.REVERSIBLE,
        NOTHING,
        "Restores a snapshot beside the instance and swaps both; taking the step back swaps them again.",
    )

    async def run(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        names = _Names.of(context)
        current = await _instance(context, prior.id)
        if current is None or not _is_of(context, current):
            if await _instance(context, names.restored) is None:
                context.log(f"restoring {arguments['snapshot']} as {names.restored}")
                await context.connection.write(
                    "rds",
                    "restore_db_instance_from_db_snapshot",
                    **_request(context, prior, names.restored, arguments["snapshot"]),
                )
            await _available(context, names.restored)
            if current is not None:
                await _rename(context, prior.id, names.old)
            await _rename(context, names.restored, prior.id, prior.properties.get("MasterUserPassword"))
        else:
            await _available(context, prior.id)
        return ActionResult(undo={"old": names.old, "restored": names.restored})

    async def recover(self, context: Context, prior: ResourceState, arguments: JsonObject) -> ActionResult | None:
        names = _Names.of(context)
        begun = [await _instance(context, name) for name in (names.restored, names.old)]
        current = await _instance(context, prior.id)
        if not any(begun) and (current is None or not _is_of(context, current)):
            return None
        return await self.run(context, prior, arguments)

    async def undo(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:
        old = await _instance(context, undo["old"])
        current = await _instance(context, prior.id)
        if old is not None:
            if current is not None:
                await _rename(context, prior.id, undo["restored"])
            await _rename(context, undo["old"], prior.id)
        await _remove(context, undo["restored"])

    async def finalize(self, context: Context, prior: ResourceState, undo: JsonObject) -> None:  # noqa: ARG002
        await _remove(context, undo["old"])


@dataclass(frozen=True, slots=True)
class _Names:
    """What stands aside has names that only this operation uses."""

    restored: str
    old: str

    @classmethod
    def of(cls, context: Context) -> _Names:
        return cls(generated_name(context), f"{generated_name(context)}-before")


def _request(context: Context, prior: ResourceState, name: str, snapshot: str) -> JsonObject:
    properties = prior.properties
    wanted: JsonObject = {
        "DBInstanceIdentifier": name,
        "DBSnapshotIdentifier": snapshot,
        "Tags": as_list(Mark.of(context).tags(properties.get("Tags") or {})),
    }
    same = ("DBInstanceClass", "DBSubnetGroupName", "Port", "MultiAZ", "PubliclyAccessible", "DeletionProtection")
    wanted.update({key: properties[key] for key in (*same, "StorageType") if properties.get(key) is not None})
    if properties.get("VPCSecurityGroups"):
        wanted["VpcSecurityGroupIds"] = properties["VPCSecurityGroups"]
    return wanted


async def _instance(context: Context, name: str) -> Mapping[str, Any] | None:
    account: Account = context.connection
    answer = await account.find("rds", "describe_db_instances", DBInstanceIdentifier=name)
    return next(iter((answer or {}).get("DBInstances", ())), None)


def _is_of(context: Context, item: Mapping[str, Any]) -> bool:
    """Whether this operation restored the instance."""
    tags = {tag["Key"]: tag["Value"] for tag in item.get("TagList", ())}
    return Mark.parse(tags) == Mark.of(context)


async def _available(context: Context, name: str) -> None:
    account: Account = context.connection
    while True:
        found = await _instance(context, name)
        if found is not None and found["DBInstanceStatus"] == "available":
            return
        context.progress(None, f"{name} is {found['DBInstanceStatus'] if found else 'not there yet'}")
        await context.sleep(account.pause)


async def _rename(context: Context, name: str, aim: str, password: str | None = None) -> None:
    """Gives an instance another name, and the password that is known for it. Nothing where that was done before."""
    account: Account = context.connection
    if await _instance(context, name) is None and await _instance(context, aim) is not None:
        await _available(context, aim)
        return
    more = {"MasterUserPassword": password} if password else {}
    await account.write(
        "rds",
        "modify_db_instance",
        DBInstanceIdentifier=name,
        NewDBInstanceIdentifier=aim,
        ApplyImmediately=True,
        **more,
    )
    await _available(context, aim)


async def _remove(context: Context, name: str) -> None:
    account: Account = context.connection
    while True:
        found = await _instance(context, name)
        if found is None:
            return
        if found["DBInstanceStatus"] != "deleting":
            await account.write(
                "rds", "modify_db_instance", DBInstanceIdentifier=name, DeletionProtection=False, ApplyImmediately=True
            )
            await account.write("rds", "delete_db_instance", DBInstanceIdentifier=name, SkipFinalSnapshot=True)
        await context.sleep(account.pause)
