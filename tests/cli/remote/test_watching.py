"""Looking at plans, jobs and logs from the command line."""

from __future__ import annotations

import asyncio
import io
import json

from rich.console import Console

from app.cli.client import Client, Server
from app.cli.watching import watch
from app.domain.events import Event, EventKind, Stream
from app.domain.statuses import JobStatus
from tests.cli.remote.conftest import Shell
from tests.schema.live.conftest import job_id


async def test_lists_are_tables_or_json(shell: Shell) -> None:
    rows = shell.live.api.acme.rows
    plan = await rows.plan("alpha")
    job = await rows.job(plan)
    await shell.live.api.rival.rows.plan("foreign")
    table = await shell.run("plans")
    assert table.code == 0
    assert "alpha" in table.out
    assert "foreign" not in table.out
    found = json.loads((await shell.run("jobs", "-o", "json")).out)
    assert [(item["id"], item["status"]) for item in found] == [(job_id(job), "RUNNING")]
    assert json.loads((await shell.run("jobs", "--stage", "done", "-o", "json")).out) == []
    assert "GRAPHQL_VALIDATION_FAILED" in (await shell.run("jobs", "--stage", "nonsense")).err


async def test_a_log_is_printed_and_filtered(shell: Shell) -> None:
    job = await shell.live.job()
    rows = shell.live.api.acme.rows
    await rows.lines(job, *(f"line {n} " + "x" * 200 for n in range(600)))
    await rows.lines(job, "bad [bold]news", level="ERROR", step="b")
    await rows.step(job, "b")
    printed = await shell.run("logs", job_id(job))
    assert printed.code == 0
    assert len(printed.lines) == 601
    assert printed.lines[-1].endswith(" ERROR b | bad [bold]news")
    assert len((await shell.run("logs", job_id(job), "--step", "b")).lines) == 1
    assert len((await shell.run("logs", job_id(job), "--level", "WARN", "--contains", "NEWS")).lines) == 1
    tail = await shell.run("logs", job_id(job), "--tail", "502")
    assert tail.lines == printed.lines[-502:]
    assert (await shell.run("logs", job_id(job), "--tail", "0")).out == ""
    assert (await shell.run("logs", job_id(job), "--tail", "9", "--step", "b")).lines == printed.lines[-1:]
    for follow in ((), ("--follow",)):
        unknown = await shell.run("logs", job_id(job), "--step", "bb", *follow)
        assert (unknown.code, unknown.out) == (1, "")
        assert unknown.err == "error: the job has no step 'bb'; did you mean 'b'?\n"
    absent = await shell.run("logs", "nonsense")
    assert (absent.code, absent.out, absent.err) == (1, "", "error: there is no such job (NOT_FOUND)\n")


async def test_a_log_is_followed_to_its_end(shell: Shell) -> None:
    job = await shell.live.job()
    rows = shell.live.api.acme.rows
    await rows.lines(job, "one", "two", "three")
    following = asyncio.create_task(shell.run("logs", job_id(job), "-f", "--tail", "1"))
    async with asyncio.timeout(10):
        while not len(shell.live.api.services.bus._bells):  # noqa: ASYNC110  the follower has come
            await asyncio.sleep(0.01)
    await rows.lines(job, "four")
    await shell.live.finish(job)
    done = await following
    assert [line.rpartition("| ")[2] for line in done.lines] == ["three", "four"]


async def test_watching_ends_as_the_job_does(shell: Shell) -> None:
    codes = {
        JobStatus.SUCCEEDED: 0,
        JobStatus.FAILED: 1,
        JobStatus.PARTIALLY_SUCCEEDED: 1,
        JobStatus.ROLLBACK_FAILED: 1,
        JobStatus.ROLLED_BACK: 2,
        JobStatus.CANCELLED: 3,
    }
    for status, code in codes.items():
        job = await shell.live.job(status)
        await shell.live.finish(job, status)
        done = await shell.run("watch", job_id(job))
        assert done.code == code, status
        assert done.lines[-1] == f"job {job_id(job)} ended {status}"


async def test_everything_that_happens_is_a_line(shell: Shell) -> None:
    job = await shell.live.job()
    rows = shell.live.api.acme.rows
    step = await rows.step(job, "a")
    watching = asyncio.create_task(shell.run("watch", job_id(job)))
    async with asyncio.timeout(10):
        while len(shell.live.api.services.bus._bells) < 2:  # noqa: ASYNC110  both streams are followed
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    data = {
        "jobId": job.id,
        "stepRunId": step.id,
        "stepKey": "a",
        "previous": "READY",
        "status": "RUNNING",
        "reason": "NONE",
        "attempt": 2,
    }
    await rows.events(Stream.JOB, job.id, Event(EventKind.STEP_STATUS_CHANGED, data))
    await rows.lines(job, "hello")
    await shell.live.finish(job, JobStatus.ROLLED_BACK)
    done = await watching
    assert done.code == 2
    assert done.lines[0] == f"job {job_id(job)} plan #1 RUNNING"
    assert any(line.endswith(" step a RUNNING attempt 2") for line in done.lines)
    assert any(line.endswith(" INFO  a | hello") for line in done.lines)
    assert any(line.endswith(" job ROLLED_BACK") for line in done.lines)


async def test_on_a_terminal_there_is_a_bar(shell: Shell) -> None:
    live = shell.live
    job = await live.job()
    await live.api.acme.rows.step(job, "a")
    await live.finish(job)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    async with Client(Server(live.http, live.websocket, live.api.acme.token)) as client:
        assert await watch(client, job_id(job), console) == 0
    assert "\x1b[" in screen.getvalue()
    assert "1/1" in screen.getvalue()


async def test_what_was_before_is_shown_from_the_start_and_nothing_twice(shell: Shell) -> None:
    live = shell.live
    job = await live.job()
    rows = live.api.acme.rows
    said = Event(EventKind.STEP_PROGRESSED, {"jobId": job.id, "stepKey": "a", "percent": None, "message": "one"})
    await rows.events(Stream.JOB, job.id, said)
    await rows.lines(job, "two")
    await live.finish(job)
    told = io.StringIO()
    async with Client(Server(live.http, live.websocket, live.api.acme.token)) as client:
        assert await watch(client, job_id(job), Console(file=told, width=200), from_start=True) == 0
    lines = [line.partition(" ")[2] for line in told.getvalue().splitlines()]
    assert lines[0] == f"{job_id(job)} plan #1"
    assert sorted(lines[1:-1]) == ["INFO  a | two", "job SUCCEEDED", "step a one"]
    assert lines[-1] == f"{job_id(job)} ended SUCCEEDED"
