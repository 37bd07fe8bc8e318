"""`aws.ec2.volume`: a disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.enums import TemplateType
from app.providers.aws.ec2 import Ec2Type, tags_of
from app.providers.aws.marks import OPERATION, Mark, as_list, token
from app.providers.aws.procedures import Procedure
from app.providers.aws.snapshots import Backup, Snapshot, backup_spec
from app.providers.aws.things import Found, Phase, chosen
from app.providers.base import ActionSpec, Context, JsonObject, ResourceState

if TYPE_CHECKING:
    from app.providers.aws.account import Account

GIVEN = (
    "AvailabilityZone", "Size", "VolumeType", "Iops", "Throughput", "Encrypted", "KmsKeyId", "SnapshotId",
)  # fmt: skip
CHANGED = ("Size", "VolumeType", "Iops", "Throughput")
PHASES = {"creating": Phase.BUSY, "deleting": Phase.LEAVING, "error": Phase.BROKEN}


class VolumeBackup(Backup):
    """A snapshot of a volume. A volume is restored by declaring it with the snapshot."""

    spec: ClassVar[ActionSpec] = backup_spec("a snapshot of the volume")

    async def look(self, context: Context, prior: ResourceState) -> Snapshot | None:
        account: Account = context.connection
        mine = [
            {"Name": f"tag:{OPERATION}", "Values": [Mark.of(context).operation]},
            {"Name": "volume-id", "Values": [prior.id]},
        ]
        async for item in account.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=mine):
            state, done = item["State"], str(item.get("Progress", "")).rstrip("%")
            percent = float(done) if done.isdigit() else None
            return Snapshot(
                item["SnapshotId"], int(item["VolumeSize"]), state == "completed", state == "error", percent
            )
        return None

    async def begin(self, context: Context, prior: ResourceState) -> None:
        tags = [{"ResourceType": "snapshot", "Tags": as_list(Mark.of(context).tags({}))}]
        await context.connection.write("ec2", "create_snapshot", VolumeId=prior.id, TagSpecifications=tags)


class VolumeType(Ec2Type):
    """A disk, which can be made larger but not smaller."""

    name = "aws.ec2.volume"
    title = "volume"
    description = "A disk for machines of one availability zone; it can be made larger and backed up."
    template_type = TemplateType.INFRASTRUCTURE
    kind, describes, items, key, removes = "volume", "describe_volumes", "Volumes", "VolumeId", "delete_volume"
    scalable = frozenset({"/Size", "/Iops", "/Throughput"})
    stateful = True
    procedures: ClassVar[Mapping[str, Procedure]] = {"backup": VolumeBackup()}

    async def told(self, account: Account, item: Mapping[str, Any]) -> Found | None:
        identity, state = item["VolumeId"], item["State"]
        if state == "deleted":
            return None
        properties = chosen(item, *GIVEN)
        if not properties.get("SnapshotId"):
            properties.pop("SnapshotId", None)
        phase, message = PHASES.get(state, Phase.READY), f"it is {state}"
        if phase is Phase.READY and await self._is_modified(account, identity):
            phase, message = Phase.BUSY, "it is being modified"
        return Found(identity, properties, {"VolumeId": identity}, tags_of(item), identity, phase, message)

    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        answer = await context.connection.write(
            "ec2",
            "create_volume",
            **chosen(properties, *GIVEN),
            ClientToken=token(context),
            TagSpecifications=self.tagged(tags),
        )
        return str(answer["VolumeId"])

    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        wanted = chosen(properties, *(name for name in CHANGED if name in touched))
        await context.connection.write("ec2", "modify_volume", VolumeId=found.id, **wanted)

    async def _is_modified(self, account: Account, identity: str) -> bool:
        """Whether AWS is at a modification, and tells the old values meanwhile."""
        answer = await account.find("ec2", "describe_volumes_modifications", VolumeIds=[identity])
        return any(
            item.get("ModificationState") == "modifying" for item in (answer or {}).get("VolumesModifications", ())
        )
