"""What is read of a log is what a naive reader of all its lines finds: pages both ways, and the next of a stream."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from app.db import journal
from app.db.models import OrchestrationJob
from app.db.pages import Window
from app.db.uow import Database
from app.domain.cursors import Place
from app.domain.enums import LogLevel
from app.domain.events import Event, EventKind, Stream
from app.domain.logs import LogLine
from app.reads import logs, streams
from app.reads.filters import LEVELS, LogFilter
from app.reads.logs import Line
from tests.factories import records
from tests.factories.databases import run
from tests.factories.tenants import Access, tenant

_WORDS = ["error", "Straße", "İstanbul", "a\\b", 'say "hi"', "\u212a", "tab\there", "plain", "ΣΊΣΥΦΟΣ", ""]
_STEPS = [None, "a", "b"]


@dataclass(frozen=True, slots=True)
class Written:
    """A job, every line of it, and the number of its last fact."""

    access: Access
    job_id: int
    lines: list[Line]
    last: int


async def write(access: Access, chance: random.Random, batches: int) -> Written:
    """A job whose log is a mixture of events and batches of very different size."""
    job = await records.job(access, await records.plan(access))
    lines: list[Line] = []
    seq = 0
    for number in range(batches):
        entries, told = list[journal.Entry](), list[tuple[int, LogLine, str | None, int | None]]()
        for _ in range(chance.randint(1, 3)):
            if chance.random() < 0.3:
                entries.append(Event(EventKind.STEP_PROGRESSED, {"n": number}))
                seq += 1
                continue
            step, attempt = chance.choice(_STEPS), chance.choice([None, 1, 2])
            batch = [
                LogLine(
                    1_700_000_000_000_000 + seq * 37 + place,
                    chance.choice(LEVELS) if number % 3 else LogLevel.INFO,
                    chance.choice(["stdout", "stderr"]) if number % 2 else "stdout",
                    f"{chance.choice(_WORDS)} {chance.randrange(30)}",
                    {"k": str(number)} if chance.random() < 0.1 else None,
                )
                for place in range(chance.choice([1, 1, 2, 5, 40, 700]))
            ]
            entries.append(journal.Lines(batch, None, step, attempt))
            for line in batch:
                seq += 1
                told.append((seq, line, step, attempt))
        async with access.write() as transaction:
            transaction.authorize("test")
            assert await journal.append(transaction, Stream.JOB, job.id, entries) == seq
            at = await transaction.session.scalar(
                select(OrchestrationJob.event_at).where(OrchestrationJob.id == job.id)
            )
        assert at is not None
        lines += [
            Line(place, line.at, line.level, line.stream, line.message, line.fields, step, attempt, at)
            for place, line, step, attempt in told
        ]
    return Written(access, job.id, lines, seq)


def fits(line: Line, wanted: LogFilter) -> bool:
    """As the documentation of the filter has it."""
    return (
        (wanted.min_level is None or LEVELS.index(line.level) >= LEVELS.index(wanted.min_level))
        and (wanted.step_key is None or line.step_key == wanted.step_key)
        and (wanted.contains is None or wanted.contains.lower() in line.message.lower())
    )


FILTERS = st.builds(
    LogFilter,
    st.sampled_from([None, *LEVELS]),
    st.sampled_from([None, "a", "b", "absent"]),
    st.one_of(st.none(), st.sampled_from([*_WORDS, "ERROR", "k", "17", "HI", "\\", '"', "nowhere", "σ"])),
)


@pytest.mark.slow
def test_pages_are_those_of_a_naive_reader(database_url: str) -> None:
    with asyncio.Runner() as loop:
        database = Database.connect(database_url, name="windlass-tests", pool_size=2)
        written = loop.run(write(loop.run(tenant(database)), random.Random(3), 60))

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(
            FILTERS,
            st.booleans(),
            st.one_of(st.none(), st.integers(0, written.last + 3)),
            st.one_of(st.none(), st.integers(1, written.last + 3)),
            st.integers(0, 40),
        )
        def agree(wanted: LogFilter, backwards: bool, after: int | None, before: int | None, size: int) -> None:
            fitting = [line for line in written.lines if fits(line, wanted)]
            inside = [
                line
                for line in fitting
                if (after is None or line.seq > after) and (before is None or line.seq < before)
            ]
            page = inside[max(len(inside) - size, 0) :] if backwards else inside[:size]
            cut = len(inside) > size
            window = Window(last=size) if backwards else Window(first=size)
            found = loop.run(_page(written, wanted, logs.reach_of(window, after, before), size))
            assert found.lines == page
            assert found.has_next == (
                (cut and not backwards) or any(before is not None and line.seq >= before for line in fitting)
            )
            assert found.has_previous == (
                (cut and backwards) or any(after is not None and line.seq <= after for line in fitting)
            )

        agree()
        loop.run(database.close())


@pytest.mark.slow
def test_the_next_of_a_stream_add_up_to_what_a_naive_reader_finds(database_url: str) -> None:
    with asyncio.Runner() as loop:
        database = Database.connect(database_url, name="windlass-tests", pool_size=2)
        written = loop.run(write(loop.run(tenant(database)), random.Random(4), 40))

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(FILTERS, st.integers(0, written.last), st.integers(0, written.last), st.sampled_from([7, 500, 5_000]))
        def agree(wanted: LogFilter, after: int, until: int, limit: int) -> None:
            expected = [line for line in written.lines if after < line.seq <= until and fits(line, wanted)]
            assert loop.run(_followed(written, wanted, after, until, limit)) == expected

        agree()
        loop.run(database.close())


async def test_pages_of_several_jobs_are_read_together(database_url: str) -> None:
    database = Database.connect(database_url, name="windlass-tests", pool_size=2)
    access = await tenant(database)
    both = [await write(access, random.Random(seed), 4) for seed in (5, 6)]
    async with database.read(access.tenant_id) as session:
        found = await logs.pages(session, access.tenant_id, [one.job_id for one in both], LogFilter(), logs.Reach(), 10)
    assert {number: page.lines for number, page in found.items()} == {one.job_id: one.lines[:10] for one in both}
    await database.close()


async def _page(written: Written, wanted: LogFilter, reach: logs.Reach, size: int) -> logs.LinePage:
    tenant_id = written.access.tenant_id
    async with written.access.database.read(tenant_id) as session:
        return (await logs.pages(session, tenant_id, [written.job_id], wanted, reach, size))[written.job_id]


async def _followed(written: Written, wanted: LogFilter, after: int, until: int, limit: int) -> list[Line]:
    tenant_id = written.access.tenant_id
    found: list[Line] = []
    async with written.access.database.read(tenant_id) as session:
        while after < until:
            batch = await streams.lines_after(
                session, tenant_id, written.job_id, wanted, after=Place(after), until=Place(until), limit=limit
            )
            assert len(batch.items) <= limit
            assert after < batch.place.seq <= until
            assert all(after < line.seq <= batch.place.seq for line in batch.items)
            found += batch.items
            after = batch.place.seq
    return found


async def test_a_place_in_a_long_log_is_found_without_reading_what_is_before_it(database_url: str) -> None:
    """Thousands of small chunks, as slow steps make them: a look at the midst or the end touches a few pages."""
    database = Database.connect(database_url, name="windlass-tests", pool_size=1)
    access = await tenant(database)
    written = await write(access, random.Random(7), 1)
    copied = (
        "INSERT INTO job_log (tenant_id, job_id, first_seq, last_seq, size, levels, codec, body)"
        " SELECT tenant_id, job_id, 100000 + n, 100000 + n, size, levels, codec, body FROM job_log,"
        " generate_series(1, 20000) n WHERE first_seq = (SELECT min(first_seq) FROM job_log)"
    )
    await run(database_url, copied, "ANALYZE job_log")
    for reach in (logs.Reach(110_000), logs.Reach(119_990), logs.Reach(0, 110_000, backwards=True)):
        for _ in range(8):
            async with database.read(access.tenant_id) as session:
                before = await _buffers(session)
                found = await logs.look(
                    session, access.tenant_id, {written.job_id: reach}, LogFilter(), lines=10, backwards=reach.backwards
                )
                assert len(found[written.job_id].chunks) == 10
                assert await _buffers(session) - before < 200
    await database.close()


async def _buffers(session: Any) -> int:
    """Pages of tables and indexes that this transaction has looked at."""
    query = text(
        "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class WHERE relnamespace IN"
        " ('job_log_weeks'::regnamespace, 'public'::regnamespace)"
    )
    return int(await session.scalar(query) or 0)
