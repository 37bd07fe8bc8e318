"""The store of log lines: numbering, bounds, retention, and the way in and out of its migration."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text as _text

from app.db import chunks, journal, tails
from app.db.migrating import migrate, unmigrate
from app.db.uow import Database
from app.domain.enums import LogLevel
from app.domain.events import Event, EventKind, Stream
from app.domain.logs import CHUNK_LINES, CHUNK_TEXT, LogLine, LogRoom, chunked, moment_of, stamps
from app.engine.housekeeping import tidy_logs
from app.reads import logs
from app.reads.filters import LogFilter
from schema.scalars import SCALARS
from tests.factories import records
from tests.factories.databases import empty_database, fetch, run
from tests.factories.tenants import Access, tenant

# Text as JSON and UTF-8 can say it; what they cannot is replaced, which has a test of its own.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LINES = st.builds(
    LogLine,
    st.integers(0, 2**52),
    st.sampled_from(LogLevel),
    st.sampled_from(["stdout", "stderr", "engine"]),
    TEXTS,
    st.one_of(st.none(), st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=2)),
)


@given(st.lists(LINES, min_size=1, max_size=40))
def test_what_is_packed_is_unpacked(lines: list[LogLine]) -> None:
    packed = chunks.pack(lines)
    plain = chunks.plain_text(packed.codec, packed.body)
    columns = chunks.unpack(plain)
    assert packed.size == len(plain)
    assert packed.levels == chunks.bits([line.level for line in lines])
    assert [
        LogLine(
            columns.moments[place],
            chunks.LEVELS[int(columns.levels[place])],
            columns.streams[place],
            columns.messages[place],
            columns.fields.get(place),
        )
        for place in range(len(columns.messages))
    ] == lines


def test_what_utf_8_cannot_say_is_replaced() -> None:
    packed = chunks.pack([LogLine(1, LogLevel.INFO, "stdout", "half \udc80", {"k\ud800": "v"})])
    columns = chunks.unpack(chunks.plain_text(packed.codec, packed.body))
    assert (columns.messages, columns.fields) == (["half ?"], {0: {"k?": "v"}})


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ValueError, match=r"in a way \(9\)"):
        chunks.plain_text(9, b"")


@given(st.lists(st.integers(0, 40_000), max_size=60))
def test_chunks_keep_their_bounds_and_every_line(sizes: list[int]) -> None:
    lines = [_line("x" * size) for size in sizes] + [_line("")] * 1_100
    parts = list(chunked(lines))
    assert [line for part in parts for line in part] == lines
    assert all(0 < len(part) <= CHUNK_LINES for part in parts)
    assert all(len(part) == 1 or sum(len(line.message) for line in part) <= CHUNK_TEXT for part in parts)


@given(st.lists(st.integers(0, 4 * 10**15), max_size=20))
def test_moments_are_written_as_the_api_writes_them(moments: list[int]) -> None:
    write: Any = SCALARS[datetime].serialize
    assert list(stamps(moments)) == [write(moment_of(moment)) for moment in moments]


async def test_many_writers_number_without_gap_and_each_in_its_order(database: Database) -> None:
    acme = await tenant(database)
    job = await records.job(acme, await records.plan(acme))

    async def write(name: str) -> list[str]:
        chance, said = random.Random(name), []
        for number in range(30):
            entries: list[journal.Entry] = [Event(EventKind.STEP_PROGRESSED, {})] if chance.random() < 0.5 else []
            batch = [f"{name} {number} {place}" for place in range(chance.choice([1, 3, 600]))]
            said += batch
            entries.append(journal.Lines([_line(text) for text in batch], None, name, 1))
            async with acme.write() as transaction:
                transaction.authorize("test")
                await journal.append(transaction, Stream.JOB, job.id, entries)
        return said

    said = await asyncio.gather(*(write(name) for name in "abcd"))
    lines = await _lines(acme, job.id)
    facts = await _events(acme, job.id)
    assert sorted([line.seq for line in lines] + facts) == list(range(1, len(lines) + len(facts) + 1))
    assert [line.seq for line in lines] == sorted(line.seq for line in lines)
    assert [[line.message for line in lines if line.step_key == name] for name in "abcd"] == said
    async with database.read(acme.tenant_id) as session:
        row = (await session.execute(_text("SELECT event_seq, log_lines, log_left_out FROM orchestration_job"))).one()
    assert row == (len(lines) + len(facts), len(lines), None)


@pytest.mark.parametrize("room", [LogRoom(lines=10), LogRoom(bytes=300)])
async def test_a_full_log_says_so_once_and_takes_no_more(database: Database, room: LogRoom) -> None:
    acme = await tenant(database)
    job = await records.job(acme, await records.plan(acme))

    async def say(*texts: str, events: int = 1) -> None:
        entries: list[journal.Entry] = [Event(EventKind.STEP_PROGRESSED, {"n": n}) for n in range(events)]
        entries.insert(events // 2, journal.Lines([_line(text) for text in texts], None, "a", 1, room))
        async with acme.write() as transaction:
            transaction.authorize("test")
            await journal.append(transaction, Stream.JOB, job.id, entries)

    await say(*(f"a rather long line {n}" for n in range(6)), events=2)
    await say(*(f"another long line {n}" for n in range(5)), events=2)
    kept = await _lines(acme, job.id)
    bytes_kept = (await _job(acme))["log_bytes"]
    assert [line.seq for line in kept] == [2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 16]
    mark = kept[-1]
    assert mark.message == (
        f"TRUNCATED: the log of this job is full with 11 lines of {bytes_kept} bytes; further lines are left out"
    )
    assert (mark.level, mark.stream, mark.step_key) == (LogLevel.WARN, "engine", None)
    assert mark.fields == {"truncated": True, "lines": 11, "bytes": bytes_kept}
    await asyncio.gather(say("left", "out", events=3), say("as well"))
    assert await _lines(acme, job.id) == kept
    row = await _job(acme)
    assert (row["log_lines"], row["log_left_out"], row["event_seq"]) == (11, 3, 20)
    assert sorted([line.seq for line in kept] + await _events(acme, job.id)) == list(range(1, 21))
    async with acme.write() as transaction:
        transaction.authorize("test")
        told = await tails.tail(transaction, job.id)
    assert (told["lines"], told["leftOut"], told["complete"], told["lastSeq"]) == (11, 3, False, 16)


async def test_the_column_has_all_of_a_short_log_and_the_end_of_a_long_one(database: Database) -> None:
    acme = await tenant(database)
    job = await records.job(acme, await records.plan(acme))

    async def told(*texts: str) -> dict[str, Any]:
        async with acme.write() as transaction:
            transaction.authorize("test")
            if texts:
                entry = journal.Lines([_line(text) for text in texts], None, "a", 1)
                await journal.append(transaction, Stream.JOB, job.id, [entry])
            return await tails.tail(transaction, job.id)

    counts = {"v": 1, "lastSeq": None, "lines": 0, "bytes": 0, "complete": True, "leftOut": 0}
    assert await told() == {**counts, "entries": []}
    short = await told("one", "two")
    assert (short["complete"], short["lastSeq"], short["lines"]) == (True, 2, 2)
    assert short["entries"][1] == {
        "seq": 2,
        "at": "2023-11-14T22:13:20.000000Z",
        "level": "INFO",
        "stream": "stdout",
        "message": "two",
        "step": "a",
    }
    await told(*(f"{n}" for n in range(60)))
    long = await told(*(f"{n}" for n in range(60, 130)))
    assert [entry["message"] for entry in long["entries"]] == [f"{n}" for n in range(30, 130)]
    assert (long["complete"], long["lastSeq"], long["lines"]) == (False, 132, 132)
    wide = await told(*("w" * 16_000 for _ in range(10)))
    assert len(wide["entries"]) == 4


async def test_old_weeks_are_dropped_and_a_cursor_into_them_is_told(database: Database, database_url: str) -> None:
    acme = await tenant(database)
    job = await records.job(acme, await records.plan(acme))
    async with acme.write() as transaction:
        transaction.authorize("test")
        first = journal.Lines([_line(f"{n}") for n in range(3)], None, "a", 1)
        event, later = Event(EventKind.STEP_PROGRESSED, {}), journal.Lines([_line("kept")], None, "a", 2)
        await journal.append(transaction, Stream.JOB, job.id, [event, first, event, later])
    long_ago = datetime.now(UTC) - timedelta(days=200)
    monday = long_ago.date() - timedelta(days=long_ago.weekday())
    week = f"w{monday:%G_%V}"
    await run(
        database_url,
        f"CREATE TABLE job_log_weeks.{week} PARTITION OF job_log"
        f" FOR VALUES FROM ('{monday}+00') TO ('{monday + timedelta(days=7)}+00')",
    )
    moved = await fetch(database_url, "UPDATE job_log SET at = $1 WHERE first_seq = 2 RETURNING 1", long_ago)
    assert len(moved) == 1
    assert [line.message for line in await _lines(acme, job.id)] == ["0", "1", "2", "kept"]
    assert await _kept(acme, job.id, 0) == (1, 0)
    assert await tidy_logs(database, 0) == 0
    assert await tidy_logs(database, 210) == 0
    assert await tidy_logs(database, 90) == 1
    assert await fetch(database_url, "SELECT 1 FROM pg_class WHERE relname = $1", week) == []
    assert [(line.seq, line.message) for line in await _lines(acme, job.id)] == [(6, "kept")]
    # Behind the event before the first line that is kept, nothing is missing.
    assert [await _kept(acme, job.id, place) for place in (0, 2, 4, 5, 6)] == [(5, 3), (5, 2), (5, 0), (5, 0), (5, 0)]


async def test_lines_of_a_week_that_nobody_made_go_too(database: Database, database_url: str) -> None:
    acme = await tenant(database)
    job = await records.job(acme, await records.plan(acme))
    async with acme.write() as transaction:
        transaction.authorize("test")
        for number in range(4):
            await journal.append(
                transaction, Stream.JOB, job.id, [journal.Lines([_line(f"{number}")], None, None, None)]
            )
    old = datetime.now(UTC) - timedelta(days=300)
    await fetch(database_url, "UPDATE job_log SET at = $1 WHERE first_seq <= 3", old)
    in_rest = "SELECT count(*) AS n FROM job_log WHERE tableoid = 'job_log_weeks.rest'::regclass"
    assert (await fetch(database_url, in_rest))[0]["n"] == 3
    assert await tidy_logs(database, 90, limit=2) == 2
    assert await tidy_logs(database, 90, limit=2) == 1
    assert await tidy_logs(database, 90, limit=2) == 0
    assert [line.message for line in await _lines(acme, job.id)] == ["3"]
    assert await _kept(acme, job.id, 0) == (3, 3)


async def test_a_week_that_is_missing_is_made(database: Database, database_url: str) -> None:
    weeks = "SELECT relname::text AS week FROM pg_class WHERE relname LIKE 'w____\\___' AND relkind = 'r' ORDER BY 1"
    before = await fetch(database_url, weeks)
    assert len(before) == 3
    await run(database_url, f"DROP TABLE job_log_weeks.{before[-1]['week']}")
    await tidy_logs(database, 90)
    assert await fetch(database_url, weeks) == before
    unprotected = await fetch(
        database_url,
        "SELECT relname FROM pg_class WHERE relnamespace = 'job_log_weeks'::regnamespace AND relkind = 'r'"
        " AND NOT (relrowsecurity AND relforcerowsecurity)",
    )
    assert unprotected == []


@pytest.mark.parametrize("role", ["windlass_app", "windlass_tick"])
async def test_nobody_enters_the_weeks_but_through_the_table(database_url: str, role: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings={"role": role})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.fetch("SELECT * FROM job_log_weeks.rest")
    await connection.close()
    if role == "windlass_app":
        connection = await asyncpg.connect(database_url, server_settings={"role": role})
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT job_log_keep(1, 1)")
        await connection.close()


async def test_the_migration_keeps_every_line_both_ways(database_url: str) -> None:
    async with empty_database(database_url) as url:
        await asyncio.to_thread(migrate, url, "0023")
        connection = await asyncpg.connect(url)
        tenant_id = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('A', 'a') RETURNING id")
        plan = await connection.fetchval(
            "INSERT INTO deployment_plan (tenant_id, plan_name, plan_type, stack) VALUES ($1, 'p', 'IMMEDIATE', 'p')"
            " RETURNING id",
            tenant_id,
        )
        insert = (
            "INSERT INTO job_log (tenant_id, job_id, first_seq, last_seq, step_run_id, step_key, attempt, at, lines)"
            " VALUES ($1, $2, $3, $4, 7, $5, 2, $6, $7)"
        )
        written: list[tuple[int, int, dict[str, Any]]] = []
        chance = random.Random(1)
        for _ in range(2):
            job = await connection.fetchval(
                "INSERT INTO orchestration_job (tenant_id, plan_id, job_name, job_type, stack) VALUES ($1, $2, 'j',"
                " 'CUSTOM', 'p') RETURNING id",
                tenant_id,
                plan,
            )
            seq = 1
            for number in range(30):
                lines = [_old_line(chance) for _ in range(chance.choice([1, 2, 40, 1_200]))]
                written += [(job, seq + place, line) for place, line in enumerate(lines)]
                last = seq + len(lines) - 1
                at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number)
                await connection.execute(
                    insert, tenant_id, job, seq, last, f"s{number}", at, orjson.dumps(lines).decode()
                )
                # An event has the number between.
                seq = last + 2
        await asyncio.to_thread(migrate, url)
        rows = await connection.fetch("SELECT * FROM job_log ORDER BY job_id, first_seq")
        assert [found for row in rows for found in _unpacked(row)] == written
        assert max(row["last_seq"] - row["first_seq"] for row in rows) < CHUNK_LINES
        assert {row["step_run_id"] for row in rows} == {7}
        counts = await connection.fetch("SELECT id, log_lines, log_bytes FROM orchestration_job ORDER BY id")
        assert [(row["id"], row["log_lines"]) for row in counts] == [
            (job, sum(one == job for one, _, _ in written)) for job in sorted({job for job, _, _ in written})
        ]
        assert sum(row["log_bytes"] for row in counts) == sum(row["size"] for row in rows)
        assert await connection.fetchval("SELECT count(*) FROM ONLY job_log_weeks.rest") == 0
        await asyncio.to_thread(unmigrate, url, "0023")
        back = await connection.fetch("SELECT job_id, first_seq, lines FROM job_log ORDER BY job_id, first_seq")
        assert [
            (row["job_id"], row["first_seq"] + place, line)
            for row in back
            for place, line in enumerate(orjson.loads(row["lines"]))
        ] == written
        await connection.close()


def _line(text: str) -> LogLine:
    return LogLine(1_700_000_000_000_000, LogLevel.INFO, "stdout", text)


def _old_line(chance: random.Random) -> dict[str, Any]:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(10**12))
    line = {
        "at": at.isoformat(),
        "level": chance.choice(list(LogLevel)).value,
        "stream": chance.choice(["stdout", "engine"]),
        "message": chance.choice(["plain", "Straße \u2028 \U0001f600", 'q"\\']) * chance.randrange(4),
    }
    return line | {"fields": {"k": "v"}} if chance.random() < 0.1 else line


def _unpacked(row: Any) -> list[tuple[int, int, dict[str, Any]]]:
    columns = chunks.unpack(chunks.plain_text(row["codec"], row["body"]))
    found = []
    for place, message in enumerate(columns.messages):
        line: dict[str, Any] = {
            "at": moment_of(columns.moments[place]).isoformat(),
            "level": chunks.LEVELS[int(columns.levels[place])].value,
            "stream": columns.streams[place],
            "message": message,
        }
        if place in columns.fields:
            line["fields"] = columns.fields[place]
        found.append((row["job_id"], row["first_seq"] + place, line))
    return found


async def _lines(access: Access, job_id: int) -> list[logs.Line]:
    async with access.database.read(access.tenant_id) as session:
        page = await logs.pages(session, access.tenant_id, [job_id], LogFilter(), logs.Reach(), 100_000)
    return page[job_id].lines


async def _kept(access: Access, job_id: int, after: int) -> tuple[int, int]:
    async with access.database.read(access.tenant_id) as session:
        found = (await logs.kept(session, access.tenant_id, [job_id], after))[job_id]
    return found.before, found.lost


async def _events(access: Access, job_id: int) -> list[int]:
    async with access.database.read(access.tenant_id) as session:
        query = _text("SELECT seq FROM event_log WHERE stream = 'JOB' AND stream_id = :id ORDER BY seq")
        return list((await session.scalars(query, {"id": job_id})).all())


async def _job(access: Access) -> Any:
    async with access.database.read(access.tenant_id) as session:
        return (await session.execute(_text("SELECT * FROM orchestration_job"))).mappings().one()
