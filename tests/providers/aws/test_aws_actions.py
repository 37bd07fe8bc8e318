"""Backups, restorations and what may be scaled, on the emulator."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.values import reveal
from app.providers.aws.dynamodb import TableType
from app.providers.aws.marks import OPERATION, from_list
from app.providers.aws.rds import DatabaseInstanceType
from app.providers.aws.volume import VolumeType
from app.providers.base import ErrorKind, ProviderError, ResourceState
from tests.providers.aws.conftest import MakeContext
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.samples import SAMPLES
from tests.providers.aws.world import World

DATABASES, VOLUMES, TABLES = DatabaseInstanceType(), VolumeType(), TableType()


async def _made(kind: Any, make_context: MakeContext, world: World, **more: Any) -> ResourceState:
    properties = {**SAMPLES[kind.name](world).properties, **more}
    declared: dict[str, Any] = reveal(kind.check(properties)[0])
    made = await kind.create(make_context(f"make-{kind.name}"), declared)
    assert isinstance(made, ResourceState)
    return made


def _databases(emulator: Emulator) -> dict[str, str]:
    """By name, the operation that made it."""
    found = emulator.client("rds").describe_db_instances()["DBInstances"]
    return {each["DBInstanceIdentifier"]: from_list(each["TagList"])[OPERATION] for each in found}


@pytest.fixture(autouse=True)
def no_other_databases(emulator: Emulator) -> None:
    """What other tests of this process have left goes: these look at all that there are."""
    rds = emulator.client("rds")
    for name in _databases(emulator):
        rds.modify_db_instance(DBInstanceIdentifier=name, DeletionProtection=False)
        rds.delete_db_instance(DBInstanceIdentifier=name, SkipFinalSnapshot=True)
    for snapshot in rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]:
        rds.delete_db_snapshot(DBSnapshotIdentifier=snapshot["DBSnapshotIdentifier"])


async def test_a_database_is_restored_beside_itself_and_swapped(
    make_context: MakeContext, world: World, emulator: Emulator
) -> None:
    state = await _made(DATABASES, make_context, world, DBInstanceIdentifier="restored")
    before = _databases(emulator)["restored"]
    backup = make_context("backup")
    result = await DATABASES.act(backup, "backup", state, {})
    assert result.outputs["size"] == 20
    assert await DATABASES.act(backup, "backup", state, {}) == result
    assert await DATABASES.recover_action(backup, "backup", state, {}) == result
    snapshots = emulator.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
    assert [each["DBSnapshotIdentifier"] for each in snapshots] == [result.outputs["snapshot"]]

    context, arguments = make_context("restore"), {"snapshot": result.outputs["snapshot"]}
    assert await DATABASES.recover_action(context, "restore", state, arguments) is None
    swapped = await DATABASES.act(context, "restore", state, arguments)
    assert swapped.state is not None
    assert swapped.undo is not None
    assert swapped.state.properties == state.properties
    there = _databases(emulator)
    assert (there[swapped.undo["old"]], there["restored"]) == (before, "restore")
    assert set(there) == {"restored", swapped.undo["old"]}
    assert await DATABASES.recover_action(context, "restore", state, arguments) == swapped
    assert _databases(emulator) == there

    for _ in range(2):
        await DATABASES.undo_action(make_context("undo"), "restore", state, swapped.undo)
        assert _databases(emulator) == {"restored": before}
    again = await DATABASES.act(make_context("restore-2"), "restore", state, arguments)
    assert again.undo is not None
    for _ in range(2):
        await DATABASES.finalize_action(make_context("finalize"), "restore", state, again.undo)
        assert set(_databases(emulator)) == {"restored"}
    await DATABASES.delete(make_context("delete"), state)
    assert _databases(emulator) == {}


async def test_a_restoration_that_was_cut_off_is_finished_and_can_be_taken_back(
    make_context: MakeContext, world: World, emulator: Emulator
) -> None:
    """The worker died between the two changes of names: for a moment nobody has the name."""
    state = await _made(DATABASES, make_context, world, DBInstanceIdentifier="cut")
    before = _databases(emulator)["cut"]
    snapshot = (await DATABASES.act(make_context("cut-backup"), "backup", state, {})).outputs["snapshot"]
    rds, context = emulator.client("rds"), make_context("cut-restore")
    writes: list[str] = []
    write = context.connection.write

    async def dying(service: str, operation: str, **parameters: Any) -> Any:
        writes.append(operation)
        if writes.count("modify_db_instance") == 2:
            raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, "the worker died")
        return await write(service, operation, **parameters)

    context.connection = _Account(context.connection, dying)
    with pytest.raises(ProviderError, match="the worker died"):
        await DATABASES.act(context, "restore", state, {"snapshot": snapshot})
    assert "cut" not in _databases(emulator)
    recovered = await DATABASES.recover_action(make_context("cut-restore"), "restore", state, {"snapshot": snapshot})
    assert recovered is not None
    assert recovered.undo is not None
    assert _databases(emulator)["cut"] != before
    assert len(_databases(emulator)) == 2
    await DATABASES.undo_action(make_context("undo"), "restore", state, recovered.undo)
    assert _databases(emulator) == {"cut": before}
    rds.delete_db_instance(DBInstanceIdentifier="cut", SkipFinalSnapshot=True)


class _Account:
    """An account whose writes go through something else."""

    def __init__(self, inner: Any, write: Any) -> None:
        self._inner, self.write = inner, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("kind", [VOLUMES, TABLES], ids=lambda kind: kind.name)
async def test_a_backup_is_made_once_by_an_operation(
    kind: Any, make_context: MakeContext, world: World, emulator: Emulator
) -> None:
    state = await _made(kind, make_context, world)
    context = make_context(f"backup-{kind.name}")
    assert await kind.recover_action(context, "backup", state, {}) is None
    result = await kind.act(context, "backup", state, {})
    assert await kind.act(context, "backup", state, {}) == result
    assert await kind.recover_action(context, "backup", state, {}) == result
    if kind is VOLUMES:
        made = [{"Name": "volume-id", "Values": [state.id]}]
        found = emulator.client("ec2").describe_snapshots(Filters=made)["Snapshots"]
        assert [each["SnapshotId"] for each in found] == [result.outputs["snapshot"]]
    else:
        found = emulator.client("dynamodb").list_backups(TableName=state.id)["BackupSummaries"]
        assert [each["BackupArn"] for each in found] == [result.outputs["snapshot"]]
    await kind.delete(make_context("delete"), state)


async def test_what_is_gone_cannot_be_backed_up(make_context: MakeContext, world: World) -> None:
    state = await _made(VOLUMES, make_context, world)
    await VOLUMES.delete(make_context("delete"), state)
    with pytest.raises(ProviderError) as caught:
        await VOLUMES.act(make_context("backup-gone"), "backup", state, {})
    assert caught.value.kind is ErrorKind.NOT_FOUND
