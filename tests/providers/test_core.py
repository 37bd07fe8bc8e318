from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.domain.enums import LogLevel
from app.providers.base import ErrorKind, OperationCancelled, ProviderError
from app.providers.conformance import OWNER, StandaloneContext
from app.providers.core import files
from app.providers.core.note import NoteType
from app.providers.core.provider import CoreProvider
from app.providers.core.tasks import AssertTask, LogTask, PassTask, WaitTask
from app.providers.faults import Fault, FaultKind, FaultyType


@pytest.fixture
def context(tmp_path: Path) -> StandaloneContext:
    return StandaloneContext("one", OWNER, None, tmp_path)


async def test_pass_hands_on_its_outputs(context: StandaloneContext) -> None:
    assert await PassTask().run(context, {"outputs": {"a": 1}}) == {"a": 1}
    assert await PassTask().run(context, {}) == {}


async def test_wait_says_how_far_it_is_and_stops_when_cancelled(context: StandaloneContext) -> None:
    await WaitTask().run(context, {"seconds": 0.02})
    assert context.percents[-1] == 100
    waiting = asyncio.create_task(WaitTask().run(context, {"seconds": 3600}))
    await asyncio.sleep(0)
    context.cancelled = True
    async with asyncio.timeout(5):
        with pytest.raises(OperationCancelled):
            await waiting


async def test_assert_fails_with_its_message(context: StandaloneContext) -> None:
    assert await AssertTask().run(context, {"that": True}) == {}
    with pytest.raises(ProviderError, match="too few") as caught:
        await AssertTask().run(context, {"that": False, "message": "too few"})
    assert caught.value.kind is ErrorKind.INVALID


async def test_log_repeats_its_line(context: StandaloneContext) -> None:
    await LogTask().run(context, {"message": "hi", "level": "WARN", "repeat": 3})
    assert context.lines == [(LogLevel.WARN, "hi")] * 3


async def test_every_task_can_be_taken_back(context: StandaloneContext) -> None:
    for task in CoreProvider().tasks():
        assert task.undoable
        await task.undo(context, {}, {})


async def test_a_session_keeps_its_notes_apart(tmp_path: Path) -> None:
    notes = NoteType()
    async with CoreProvider().session({"folder": "east"}) as east, CoreProvider().session({}) as main:
        for number, session in enumerate((east, main)):
            context = StandaloneContext(str(number), OWNER, session, tmp_path)
            await notes.create(context, {"name": "same", "text": "x", "size": 1})
            assert [state.id async for state in notes.discover(context)] == ["same"]
    assert _files(tmp_path) == ["notes/east/same.json", "notes/same.json"]


async def test_no_line_says_where_on_the_server_a_note_is(context: StandaloneContext) -> None:
    kind = NoteType()
    made = await kind.create(context, {"name": "a", "text": "hello"})
    await kind.delete(context, made)
    assert context.lines == [(LogLevel.INFO, "wrote the note a")]


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))


async def test_of_two_creations_at_once_one_wins(tmp_path: Path) -> None:
    contexts = [StandaloneContext(str(number), OWNER, None, tmp_path) for number in range(8)]
    creations = [NoteType().create(context, {"name": "n", "text": context.operation_id}) for context in contexts]
    results = await asyncio.gather(*creations, return_exceptions=True)
    refused = [result for result in results if isinstance(result, ProviderError)]
    assert [error.kind for error in refused] == [ErrorKind.ALREADY_EXISTS] * 7
    assert len(list((tmp_path / "notes").iterdir())) == 1


async def test_a_note_written_by_hand_can_be_imported_and_kept(context: StandaloneContext) -> None:
    path = context.workspace / "notes" / "hand.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"name": "hand", "text": "a", "size": 1}))
    state = await NoteType().import_(context, "hand")
    properties = {"name": "hand", "text": "b", "size": 1}
    difference = NoteType().compare(state.properties, properties)
    changed = await NoteType().update(context, state, properties, difference)
    assert await NoteType().read(context, changed) == changed
    await NoteType().delete(context, changed)
    assert not path.exists()


async def test_a_file_that_is_no_note_is_not_touched(context: StandaloneContext) -> None:
    path = context.workspace / "notes" / "odd.json"
    path.parent.mkdir()
    path.write_text("not json")
    with pytest.raises(ProviderError, match=r"odd\.json is not a note"):
        await NoteType().import_(context, "odd")
    assert path.read_text() == "not json"


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write_new(path, "old")
    monkeypatch.setattr("os.fsync", _no_space)
    with pytest.raises(OSError, match="full"):
        files.write_over(path, "new")
    assert path.read_text() == "old"


def _no_space(descriptor: int) -> None:
    message = f"disk full at {descriptor}"
    raise OSError(message)


async def test_planned_faults_come_in_order(context: StandaloneContext) -> None:
    plan: dict[str, list[Fault | None]] = {
        "create": [Fault(FaultKind.ERROR, error=ErrorKind.QUOTA), None],
        "delete": [Fault(FaultKind.DROP_AFTER), Fault(FaultKind.DELAY, 0.01)],
    }
    notes = FaultyType(NoteType(), plan)
    properties = {"name": "n", "text": "", "size": 1}
    with pytest.raises(ProviderError) as caught:
        await notes.create(context, properties)
    assert caught.value.kind is ErrorKind.QUOTA
    assert await notes.recover(context, properties) is None
    state = await NoteType().create(context, properties)
    assert await notes.create(context, properties) == state
    with pytest.raises(ProviderError) as lost:
        await notes.delete(context, state)
    assert lost.value.kind is ErrorKind.OUTCOME_UNKNOWN
    assert await notes.read(context, state) is None
    assert await notes.delete(context, state) is None
