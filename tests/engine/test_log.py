"""What a step says while it runs: gathered, cleaned, written in order, and neither lost nor doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from app.db import chunks, journal
from app.db.uow import Database
from app.domain.enums import LogLevel
from app.domain.logs import LogRoom
from app.domain.values import Secret
from app.engine import log as engine_log
from app.engine.log import StepLog
from tests.factories import records
from tests.factories.tenants import Access, tenant


@dataclass(slots=True)
class Running:
    """A step in a worker's hands."""

    access: Access
    url: str
    job_id: int
    step_id: int

    def log(self, *, fence: int = 1, **more: Any) -> StepLog:
        return StepLog(
            self.access.database,
            tenant_id=self.access.tenant_id,
            job_id=self.job_id,
            step_id=self.step_id,
            step_key="a",
            attempt=1,
            fence=fence,
            **more,
        )

    async def rows(self) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        rows: list[Any] = await connection.fetch("SELECT * FROM job_log ORDER BY first_seq")
        await connection.close()
        return rows

    async def said(self) -> list[str]:
        """What is stored, line by line."""
        return [
            message
            for row in await self.rows()
            for message in chunks.unpack(chunks.plain_text(row["codec"], row["body"])).messages
        ]

    async def job(self) -> Any:
        connection = await asyncpg.connect(self.url)
        row = await connection.fetchrow("SELECT event_seq, log_lines, log_left_out FROM orchestration_job")
        await connection.close()
        return tuple(row)


@pytest.fixture
async def database(database_url: str) -> Any:
    opened = Database.connect(database_url, name="windlass-tests", pool_size=3)
    yield opened
    await opened.close()


@pytest.fixture
async def running(database: Database, database_url: str) -> Running:
    access = await tenant(database)
    job = await records.job(access, await records.plan(access))
    connection = await asyncpg.connect(database_url)
    step = await connection.fetchval(
        "WITH w AS (INSERT INTO worker (name, host, pid, app_version, lease_until)"
        " VALUES ('w', 'h', 1, '0', 'infinity') RETURNING id)"
        " INSERT INTO step_run (tenant_id, job_id, step_key, name, step_type, operation, change, status, needs,"
        " spec, timeout_seconds, operation_id, worker_id, fence) SELECT $1, $2, 'a', 'A', 'CUSTOM', 'RUN',"
        " 'RUN', 'RUNNING', '{}', '{}', 60, gen_random_uuid(), w.id, 1 FROM w RETURNING id",
        access.tenant_id,
        job.id,
    )
    await connection.close()
    return Running(access, database_url, job.id, step)


async def until(look: Callable[[], Awaitable[Any]], is_so: Callable[[Any], bool]) -> None:
    """Wait until what is looked at is so; five seconds at most."""
    for _ in range(500):
        if is_so(await look()):
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come to be")


def say(log: StepLog, *messages: str) -> None:
    for message in messages:
        log.add(message, LogLevel.INFO, "stdout", {})


def taken(log: StepLog) -> list[str]:
    return [line.message for line in log.take()]


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("plain", ["plain"]),
        ("", [""]),
        ("one\ntwo\n", ["one", "two"]),
        ("one\r\ntwo", ["one", "two"]),
        ("10%\r20%\r30%", ["30%"]),
        ("10%\r20%\r", ["20%"]),
        ("a\n1\r2\nb", ["a", "2", "b"]),
        ("nul\x00byte", ["nulbyte"]),
        ("half \udc80 of a pair", ["half ? of a pair"]),
        ("Straße", ["Straße"]),
        ("x" * 40_000, ["x" * 16_384, "x" * 16_384, "x" * 7_232]),
    ],
)
async def test_what_is_said_is_cleaned_and_never_cut_silently(running: Running, message: str, lines: list[str]) -> None:
    log = running.log()
    say(log, message)
    assert taken(log) == lines
    await log.settle()


async def test_a_secret_is_hidden_before_a_line_is_continued(running: Running) -> None:
    log = running.log(secrets=[Secret("s3cr3t-value")])
    say(log, "y" * 16_380 + "s3cr3t-value")
    log.add("with fields", LogLevel.WARN, "stdout", {"url": "x://s3cr3t-value@h"})
    # Hidden before it is cut, it fits; in two parts it would be seen by nobody who looks for it.
    first, second = log.take()
    assert (first.message, second.fields) == ("y" * 16_380 + "***", {"url": "x://***@h"})
    await log.settle()


async def test_the_first_line_is_there_at_once(running: Running) -> None:
    log = running.log()
    say(log, "first")
    await until(running.said, lambda said: said == ["first"])
    await log.settle()
    assert taken(log) == []


async def test_much_is_written_in_full_chunks_and_in_order(running: Running) -> None:
    log = running.log()
    said = [f"line {number}" for number in range(7_300)]
    most = 0
    for message in said:
        say(log, message)
        await log.drain()
        most = max(most, log._ready_lines)
    await log.settle()
    rest = taken(log)
    assert await running.said() + rest == said
    # Whoever awaits is held back: no more waits than a few batches.
    assert most <= engine_log._ENOUGH_LINES
    sizes = [row["last_seq"] - row["first_seq"] + 1 for row in await running.rows()]
    assert max(sizes) == 500
    assert sizes.count(500) >= 10
    assert (await running.job())[:2] == (len(said) - len(rest), len(said) - len(rest))


async def test_wide_lines_make_chunks_of_64_kib(running: Running) -> None:
    log = running.log()
    said = [f"{number:05d}" + "w" * 9_995 for number in range(40)]
    for message in said:
        say(log, message)
        await log.drain()
    await log.settle()
    assert await running.said() + taken(log) == said
    assert {row["last_seq"] - row["first_seq"] + 1 for row in await running.rows()} <= set(range(1, 7))


async def test_lines_beyond_what_memory_shall_hold_are_left_out_and_counted(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_log, "_BOUND_LINES", 100)
    log = running.log()
    say(log, *(f"{number}" for number in range(130)))
    lines = log.take()
    assert [line.message for line in lines] == [
        *(f"{number}" for number in range(100)),
        "30 lines came faster than they could be written, and are left out",
    ]
    assert (lines[-1].level, lines[-1].fields) == (LogLevel.WARN, {"leftOut": 30})
    await log.settle()


async def test_who_has_lost_the_step_says_nothing_more(running: Running) -> None:
    log = running.log(fence=2)
    say(log, "late")
    await asyncio.sleep(0.2)
    say(log, "later")
    await log.settle()
    assert taken(log) == []
    assert await running.said() == []
    assert await running.job() == (0, 0, None)


async def test_a_full_log_is_gathered_for_no_more(running: Running) -> None:
    log = running.log(room=LogRoom(lines=3))
    say(log, "1", "2", "3", "4")
    await until(running.said, lambda said: len(said) == 5)
    say(log, *(f"{number}" for number in range(50)))
    await log.settle()
    assert taken(log) == []
    said = await running.said()
    assert said[:4] == ["1", "2", "3", "4"]
    assert said[4].startswith("TRUNCATED: ")
    assert await running.job() == (5, 4, 50)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_batch_whose_commit_is_in_doubt_is_there_once(
    running: Running, monkeypatch: pytest.MonkeyPatch, *, committed: bool
) -> None:
    """The connection breaks at the commit: the answer is lost, the lines perhaps not."""
    append = journal.append_held
    broken: list[bool] = []

    async def breaking(*arguments: Any, **named: Any) -> Any:
        if broken:
            return await append(*arguments, **named)
        broken.append(True)
        if committed:
            await append(*arguments, **named)
        message = "the connection is gone"
        raise ConnectionResetError(message)

    monkeypatch.setattr(journal, "append_held", breaking)
    log = running.log()
    say(log, "one", "two")
    await until(running.job, lambda _: bool(broken))
    say(log, "three")
    await asyncio.sleep(0.3)
    await log.settle()
    assert await running.said() + taken(log) == ["one", "two", "three"]


async def test_while_the_database_is_away_lines_wait_and_nobody_asks_in_a_hurry(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, asked, twice = journal.append_held, [], asyncio.Event()
    away = True

    async def refusing(*arguments: Any, **named: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            twice.set()
        if away:
            raise ConnectionRefusedError
        return await append(*arguments, **named)

    monkeypatch.setattr(journal, "append_held", refusing)
    log = running.log(batch_lines=2)
    said = [f"{number}" for number in range(9)]
    say(log, *said[:5])
    await asyncio.sleep(0.4)
    assert len(asked) <= 9
    async with asyncio.timeout(20):
        await twice.wait()
    away = False
    say(log, *said[5:])
    await until(running.said, lambda found: found == said)
    await log.settle()
    assert taken(log) == []


async def test_progress_is_told_with_the_lines(running: Running) -> None:
    log = running.log()
    say(log, "before")
    log.progress(40, "first")
    log.progress(50, "half\x00")
    await until(running.job, lambda job: job[0] == 2)
    await log.settle()
    connection = await asyncpg.connect(running.url)
    event = await connection.fetchrow("SELECT seq, kind, data->>'message' AS message FROM event_log")
    percent = await connection.fetchval("SELECT percent FROM step_run")
    await connection.close()
    assert (tuple(event), percent) == ((2, "StepProgressed", "half"), 50)
    assert await running.said() == ["before"]
