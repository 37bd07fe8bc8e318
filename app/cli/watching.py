"""A job as it runs, on a terminal or in a file."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.characters import spelled
from app.cli.client import Client
from app.cli.terminal import plain

EXIT_CODES = {
    "SUCCEEDED": 0,
    "PARTIALLY_SUCCEEDED": 1,
    "FAILED": 1,
    "ROLLBACK_FAILED": 1,
    "ROLLED_BACK": 2,
    "CANCELLED": 3,
}
_EVENT = """__typename at ... on JobStatusChanged { jobStatus reason message rollbackCompleteness }
    ... on StepStatusChanged { stepKey stepStatus reason attempt message }
    ... on StepProgressed { stepKey percent message }
    ... on ResourceChanged { resourceKey resourceStatus }"""
_JOB = f"""subscription($id: ID!, $after: Cursor) {{ jobUpdated(id: $id, after: $after) {{ kind cursor
  job {{ id name status statusMessage errorMessage progress {{ total done running failed compensated }} }}
  events {{ {_EVENT} }} }} }}"""
_FIRST = f"""query($id: ID!) {{ orchestrationJob(id: $id) {{ id name
  events(first: 1) {{ edges {{ cursor node {{ {_EVENT} }} }} }} }} }}"""
LOGS = """subscription($id: ID!, $after: Cursor, $tail: Int, $filter: LogFilter) {
  jobLogs(id: $id, after: $after, tail: $tail, filter: $filter) { kind cursor
    lines { at level stepKey attempt stream message } } }"""

_STYLES = {
    "TRACE": "dim",
    "DEBUG": "dim",
    "WARN": "yellow",
    "ERROR": "red",
    "SUCCEEDED": "green",
    "COMPENSATED": "green",
    "ACTIVE": "green",
    "FAILED": "red",
    "COMPENSATION_FAILED": "red",
    "ROLLBACK_FAILED": "red",
    "COMPENSATING": "yellow",
    "ROLLING_BACK": "yellow",
    "ROLLED_BACK": "yellow",
    "CANCELLED": "yellow",
}


class View(Protocol):
    """Shows a job."""

    def line(self, text: str, style: str | None = None) -> None:
        """Something happened."""

    def job(self, job: dict[str, Any]) -> None:
        """How far the job is."""


class PlainView:
    """One line for everything that happens, each greppable by itself."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> PlainView:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def line(self, text: str, style: str | None = None) -> None:  # noqa: ARG002
        # Not wrapped: a long line of a log stays one line.
        self._console.print(plain(text), soft_wrap=True)

    def job(self, job: dict[str, Any]) -> None:
        """The lines say it already."""


class LiveView:
    """A bar that stays at the bottom, and coloured lines above it."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._bar = self._progress.add_task("…", total=None)

    def __enter__(self) -> LiveView:  # noqa: PYI034
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)

    def line(self, text: str, style: str | None = None) -> None:
        self._progress.console.print(plain(text, style), soft_wrap=True)

    def job(self, job: dict[str, Any]) -> None:
        counts = job["progress"]
        settled = counts["done"] + counts["failed"] + counts["compensated"]
        self._progress.update(
            self._bar, description=spelled(f"{job['name']} {job['status']}"), total=counts["total"], completed=settled
        )


async def watch(client: Client, job_id: str, console: Console, *, from_start: bool = False) -> int:
    """Show a job and its log from INFO up until it ends; the exit code that tells how. Raises CommandFailed.

    From now on, or with `from_start` all that has happened.
    """
    job: dict[str, Any] = {}
    with LiveView(console) if console.is_terminal else PlainView(console) as view:
        # Events and lines share their numbering: behind the first event come all others of both.
        variables = {"id": job_id, "after": await _show_first(client, view, job_id) if from_start else None}

        async def follow_job() -> None:
            async with aclosing(client.follow(_JOB, variables)) as frames:
                async for frame in frames:
                    job.update(frame["job"] or {})
                    if frame["kind"] in {"SNAPSHOT", "RESYNC"}:
                        view.line(f"job {job_id} {job['name']} {job['status']}", _STYLES.get(job["status"]))
                    for event in frame["events"]:
                        _show_event(view, event)
                    view.job(job)

        async def follow_log() -> None:
            # `windlass logs` has the rest.
            wanted = {**variables, "filter": {"minLevel": "INFO"}}
            async with aclosing(client.follow(LOGS, wanted)) as frames:
                async for frame in frames:
                    show_lines(view, frame)

        await _together(follow_job(), follow_log())
        reason = job["errorMessage"] or job["statusMessage"]
        status = job["status"]
        view.line(f"job {job_id} ended {status}{f': {reason}' if reason else ''}", _STYLES.get(status))
    return EXIT_CODES.get(status, 1)


async def _show_first(client: Client, view: View, job_id: str) -> str | None:
    """Show the first event of a job; the cursor behind it, or None where there is none to be seen."""
    job = (await client.ask(_FIRST, {"id": job_id}))["orchestrationJob"]
    if job is None or not job["events"]["edges"]:
        return None
    view.line(f"job {job_id} {job['name']}")
    first = job["events"]["edges"][0]
    _show_event(view, first["node"])
    cursor: str = first["cursor"]
    return cursor


async def _together(*coroutines: Any) -> None:
    """Run all; the first failure ends them all and is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def show_lines(view: View, frame: dict[str, Any]) -> None:
    """The lines of a frame of `jobLogs`."""
    if frame["kind"] == "RESYNC":
        view.line("the log begins anew")
    for line in frame["lines"]:
        view.line(line_text(line), _STYLES.get(line["level"]))


def line_text(line: dict[str, Any]) -> str:
    """A line of a log: when, how bad, where, what."""
    return f"{_clock(line['at'])} {line['level']:5} {line['stepKey'] or '-'} | {line['message']}"


def _show_event(view: View, event: dict[str, Any]) -> None:
    at = _clock(event["at"])
    match event["__typename"]:
        case "JobStatusChanged":
            partly = " (not everything was undone)" if event.get("rollbackCompleteness") == "PARTIAL" else ""
            view.line(f"{at} job {event['jobStatus']}{partly}{_why(event)}", _STYLES.get(event["jobStatus"]))
        case "StepStatusChanged":
            again = f" attempt {event['attempt']}" if event["attempt"] > 1 else ""
            status = event["stepStatus"]
            view.line(f"{at} step {event['stepKey']} {status}{again}{_why(event)}", _STYLES.get(status))
        case "StepProgressed":
            percent = "" if event["percent"] is None else f" {event['percent']:.0f} %"
            view.line(f"{at} step {event['stepKey']}{percent} {event['message'] or ''}".rstrip(), "dim")
        case "ResourceChanged":
            status = event["resourceStatus"]
            view.line(f"{at} resource {event['resourceKey']} {status}", _STYLES.get(status))


def _why(event: dict[str, Any]) -> str:
    reason = "" if event["reason"] == "NONE" else f" {event['reason']}"
    return reason + (f": {event['message']}" if event["message"] else "")


def _clock(at: str) -> str:
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
