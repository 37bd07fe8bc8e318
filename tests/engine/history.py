"""What a database says has happened, and what is really there: read once, after everything has come to rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import asyncpg

from app.db import chunks

Row = Mapping[str, Any]

_JOBS = (
    "SELECT j.id, j.tenant_id, j.plan_id, j.status, j.direction, j.stack, j.parent_job_id, j.event_seq, j.recoveries,"
    " j.simulated, j.dispatched_at, j.completed_at, j.cancel_requested_at, j.error::text AS error,"
    " j.logs::text AS logs,"
    " p.plan_name, p.status AS plan_status, p.active_job_id, p.last_job_id, p.workflow_id FROM orchestration_job j"
    " JOIN deployment_plan p ON p.id = j.plan_id ORDER BY j.id"
)
_STEPS = (
    "SELECT id, job_id, step_key, status, needs, worker_id, touched, attempt, undo_attempt, fence, due_at, crashes,"
    " coalesce((spec->>'ignore')::boolean, false) AS ignored FROM step_run ORDER BY job_id, wave, id"
)
_ATTEMPTS = (
    "SELECT a.step_run_id, a.direction, a.number, a.worker, a.fence, a.started_at, a.ended_at, s.job_id"
    " FROM step_attempt a JOIN step_run s ON s.id = a.step_run_id ORDER BY a.step_run_id, a.direction, a.number"
)
_EVENTS = (
    "SELECT stream_id, seq, kind, at, data::text AS data FROM event_log WHERE stream = 'JOB' ORDER BY stream_id, seq"
)
_PLAN_EVENTS = (
    "SELECT stream_id, seq, kind, at, data::text AS data FROM event_log WHERE stream = 'PLAN' ORDER BY stream_id, seq"
)
_PLANS = "SELECT id, status, parent_plan_id, scheduled_at FROM deployment_plan ORDER BY id"
_FIRINGS = "SELECT plan_id, fire_at, outcome, child_plan_id FROM plan_firing ORDER BY plan_id, fire_at"
_EVERY_RESOURCE = "SELECT id, status FROM cloud_resource ORDER BY id"
_LINES = "SELECT job_id, first_seq, last_seq, codec, body FROM job_log ORDER BY job_id, first_seq"
_LOCKS = "SELECT lock_key, job_id FROM resource_lock"
_RESOURCES = (
    "SELECT tenant_id, stack, resource_key, status, external_id, applied->>'text' AS text FROM cloud_resource"
    " WHERE NOT is_deleted AND type = 'core.note'"
)
_WORKFLOWS = "SELECT id, execution_count, success_count, failure_count FROM workflow"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job's journal."""

    job_id: int
    seq: int
    kind: str
    at: Any
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The text of each note of a job's stack, by name: when the job has succeeded, and when it was rolled back."""

    success: Mapping[str, str]
    rollback: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """Everything the invariants are asked of. `world`: the text of each note by tenant id, stack and name.

    `wanted` by job id; `secrets` are texts that must not be found anywhere; `hands`: how many steps a worker may hold
    at a time, where that is bounded.
    """

    jobs: Sequence[Row]
    steps: Sequence[Row]
    attempts: Sequence[Row]
    events: Sequence[Event]
    lines: Sequence[Row]
    locks: Sequence[Row]
    resources: Sequence[Row]
    workflows: Sequence[Row]
    world: Mapping[tuple[int, str], Mapping[str, str]]
    wanted: Mapping[int, Wanted] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    hands: int | None = None
    plans: Sequence[Row] = ()
    # Of plans, whose id stands for that of a job.
    plan_events: Sequence[Event] = ()
    # Deleted ones, too.
    every_resource: Sequence[Row] = ()
    # The times of recurring plans that were entered, and what became of each.
    firings: Sequence[Row] = ()

    @classmethod
    async def read(
        cls,
        database_url: str,
        folder: Path,
        wanted: Mapping[int, Wanted],
        *,
        secrets: Sequence[str] = (),
        hands: int | None = None,
    ) -> History:
        """Read the database as its owner, and the notes under `folder`."""
        connection = await asyncpg.connect(database_url)
        try:
            tables = [
                await connection.fetch(query)
                for query in (_JOBS, _STEPS, _ATTEMPTS, _EVENTS, _LINES, _LOCKS, _RESOURCES, _WORKFLOWS)
            ]
            plans, told, every, firings = [
                await connection.fetch(query) for query in (_PLANS, _PLAN_EVENTS, _EVERY_RESOURCE, _FIRINGS)
            ]
        finally:
            await connection.close()
        jobs, steps, attempts, events, lines, locks, resources, workflows = tables
        return cls(
            jobs, steps, attempts, [_event(row) for row in events], [_lines(row) for row in lines], locks, resources,
            workflows,
            world(folder), wanted, secrets, hands, plans, [_event(row) for row in told], every, firings,
        )  # fmt: skip

    @cached_property
    def steps_of(self) -> Mapping[int, Mapping[str, Row]]:
        """The steps of each job by key."""
        found: dict[int, dict[str, Row]] = {row["id"]: {} for row in self.jobs}
        for step in self.steps:
            found[step["job_id"]][step["step_key"]] = step
        return found

    @cached_property
    def events_of(self) -> Mapping[int, Sequence[Event]]:
        """The events of each job, in order."""
        found: dict[int, list[Event]] = {row["id"]: [] for row in self.jobs}
        for event in self.events:
            found[event.job_id].append(event)
        return found

    def moves(self, job_id: int) -> Iterable[tuple[Event, dict[str, str]]]:
        """Each step event of the job, with the status of every step as it was just before."""
        steps = self.steps_of[job_id]
        now: dict[str, str] = {key: step["status"] for key, step in steps.items()}
        events = [event for event in self.events_of[job_id] if event.kind == "StepStatusChanged"]
        for event in reversed(events):
            now[event.data["stepKey"]] = event.data["previous"]
        for event in events:
            yield event, now
            now[event.data["stepKey"]] = event.data["status"]


def world(folder: Path) -> dict[tuple[int, str], dict[str, str]]:
    """The notes that exist under FOLDER/TENANT/notes, by tenant and by the stack that is written in them."""
    found: dict[tuple[int, str], dict[str, str]] = {}
    for path in folder.glob("*/notes/**/*.json"):
        content = json.loads(path.read_text())
        stack = content["mark"]["owner"].split(":")[2]
        tenant = int(path.relative_to(folder).parts[0])
        found.setdefault((tenant, stack), {})[content["name"]] = content["text"]
    return found


def _lines(row: Row) -> Row:
    """A chunk with its text as `lines`."""
    return {**row, "lines": chunks.plain_text(row["codec"], row["body"]).decode()}


def _event(row: Row) -> Event:
    return Event(row["stream_id"], row["seq"], row["kind"], row["at"], json.loads(row["data"]))
