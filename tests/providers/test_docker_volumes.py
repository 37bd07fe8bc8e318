"""Volumes are backed up, restored and moved; on dockerds of the tests' own, skipped where none can run."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import clock
from app.providers.base import ErrorKind, ProviderError, ResourceState
from app.providers.conformance import OWNER, StandaloneContext
from app.providers.docker.contents import fill, save
from app.providers.docker.provider import DockerProvider
from app.providers.docker.volume import VolumeType
from tests.providers import engines

pytestmark = [
    pytest.mark.skipif(engines.missing() is not None, reason=engines.missing() or ""),
    pytest.mark.xdist_group("docker"),
]
KIND = VolumeType()


@pytest.fixture(scope="module")
def hosts() -> Iterator[list[str]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(engines.engine()) for _ in range(2)]


@pytest.fixture
async def make(hosts: list[str], tmp_path: Path) -> AsyncIterator[Any]:
    provider = DockerProvider(hosts)
    async with provider.session({"host": hosts[0]}) as here, provider.session({"host": hosts[1]}) as there:

        def context(operation: str = "op", engine: Any = here) -> StandaloneContext:
            return StandaloneContext(
                operation, OWNER, engine, tmp_path, deadline=clock.monotonic() + 60, connections={"there": there}
            )

        yield context


async def write(context: StandaloneContext, volume: str, folder: Path, **files: str) -> None:
    """Puts files into a volume, beside those that are there."""
    packed = folder / "in.tar"
    with tarfile.open(packed, "w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    await fill(context, context.connection, volume, packed)


async def content(context: StandaloneContext, volume: str, folder: Path) -> dict[str, str]:
    """What is in a volume."""
    packed = folder / "out.tar"
    await save(context, context.connection, volume, packed)
    with tarfile.open(packed) as archive:
        entries = [entry for entry in archive.getmembers() if entry.isfile()]
        return {Path(entry.name).name: archive.extractfile(entry).read().decode() for entry in entries}  # type: ignore[union-attr]


@pytest.fixture
async def volume(make: Any, tmp_path: Path) -> AsyncIterator[ResourceState]:
    made = await KIND.create(make("create"), {"name": "data"})
    await write(make(), "data", tmp_path, one="first", two="second")
    yield made
    await KIND.delete(make("delete"), made)


async def test_a_backup_is_restored_whole_and_the_restoration_taken_back(
    make: Any, volume: ResourceState, tmp_path: Path
) -> None:
    backup = await KIND.act(make("backup"), "backup", volume, {})
    assert await KIND.recover_action(make("backup"), "backup", volume, {}) == backup
    assert await KIND.recover_action(make("other"), "backup", volume, {}) is None
    await write(make(), "data", tmp_path, one="changed", three="new")
    arguments = {"uri": backup.outputs["uri"], "sha256": backup.outputs["sha256"]}
    assert await KIND.recover_action(make("restore"), "restore", volume, arguments) is None
    done = await KIND.act(make("restore"), "restore", volume, arguments)
    assert await content(make(), "data", tmp_path) == {"one": "first", "two": "second"}
    restored = await KIND.read(make(), volume)
    assert restored is not None
    assert restored.id == volume.id
    assert done.undo is not None
    for _ in range(2):
        await KIND.undo_action(make("restore"), "restore", volume, done.undo)
    assert await content(make(), "data", tmp_path) == {"one": "changed", "two": "second", "three": "new"}
    await KIND.finalize_action(make("restore"), "restore", volume, done.undo)
    assert list((tmp_path / "volumes").iterdir()) == [Path(backup.outputs["uri"].removeprefix("file://"))]


async def test_a_restoration_that_was_interrupted_is_brought_to_its_end(
    make: Any, volume: ResourceState, tmp_path: Path
) -> None:
    backup = await KIND.act(make("backup"), "backup", volume, {})
    await write(make(), "data", tmp_path, one="changed")
    arguments = {"uri": backup.outputs["uri"]}
    await KIND.act(make("restore"), "restore", volume, arguments)
    # The worker died while the volume was being made anew.
    await make().connection.remove_volume("data")
    done = await KIND.recover_action(make("restore"), "restore", volume, arguments)
    assert done is not None
    assert await content(make(), "data", tmp_path) == {"one": "first", "two": "second"}
    assert done.undo is not None
    await KIND.undo_action(make("restore"), "restore", volume, done.undo)
    assert (await content(make(), "data", tmp_path))["one"] == "changed"


async def test_only_whole_backups_of_the_tenant_are_restored(make: Any, volume: ResourceState, tmp_path: Path) -> None:
    backup = await KIND.act(make("backup"), "backup", volume, {})
    refusals = [
        ({"uri": "file:///etc/passwd"}, ErrorKind.ACCESS_DENIED),
        ({"uri": f"file://{tmp_path}/nothing"}, ErrorKind.NOT_FOUND),
        ({"uri": backup.outputs["uri"], "sha256": "0" * 64}, ErrorKind.INVALID),
    ]
    for arguments, kind in refusals:
        with pytest.raises(ProviderError) as caught:
            await KIND.act(make("restore"), "restore", volume, arguments)
        assert caught.value.kind is kind
    assert await content(make(), "data", tmp_path) == {"one": "first", "two": "second"}


async def test_a_volume_moves_to_another_engine_and_back(make: Any, volume: ResourceState, tmp_path: Path) -> None:
    context = make("move")
    async with context.connect("there") as there:
        moved = await KIND.act(context, "migrate", volume, {"connection": "there", "source": "DROP"})
        assert (moved.connection, moved.outputs) == ("there", {"name": "data"})
        over_there = make("look", there)
        assert await content(over_there, "data", tmp_path) == {"one": "first", "two": "second"}
        with pytest.raises(ProviderError) as again:
            await KIND.act(make("again"), "migrate", volume, {"connection": "there"})
        assert again.value.kind is ErrorKind.ALREADY_EXISTS
        assert moved.undo is not None
        for _ in range(2):
            await KIND.undo_action(make("undo"), "migrate", volume, moved.undo)
        assert await there.volume("data") is None
        moved = await KIND.act(context, "migrate", volume, {"connection": "there", "source": "DROP"})
        assert await KIND.recover_action(context, "migrate", volume, {"connection": "there"}) is None
        assert await there.volume("data") is None
        moved = await KIND.act(context, "migrate", volume, {"connection": "there", "source": "DROP"})
        await KIND.finalize_action(make("end"), "migrate", volume, moved.undo or {})
        assert await KIND.read(make(), volume) is None
        await KIND.delete(over_there, volume)
    assert list((tmp_path / "volumes").iterdir()) == []
