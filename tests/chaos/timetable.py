"""Schedules that are kept while everything falls over: each time of a plan makes one run, and none is left out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from sqlalchemy import text

from app.db.models import Workflow
from app.domain.enums import DefinitionStatus, OverlapPolicy, PlanType, WorkflowType
from app.domain.errors import DomainError
from app.domain.scheduling import Schedule
from app.services import plans
from app.services.plans import CreatePlan, PlanAction
from tests.chaos.eyes import Eyes
from tests.chaos.load import AWAY, Customers
from tests.engine.history import Row

_TENANT = "alpha"
_EVERY_SECONDS = 2.0
_AHEAD_SECONDS = (1.0, 8.0)
# Recurring plans: every minute, on clocks of different zones.
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu")
_MINUTE = timedelta(minutes=1)
# How late a time may be entered, at the least while PostgreSQL recovers.
_LATE = timedelta(seconds=30)
_ONCE, _OFTEN = "once", "often"
_STEP = {"key": "tell", "type": "CUSTOM", "configuration": {"task": "core.log"}, "inputs": {"message": "it is time"},
         "retry": {"maxAttempts": 20}}  # fmt: skip
_FIND = text("SELECT id, status FROM deployment_plan WHERE plan_name = :name AND parent_plan_id IS NULL")
_RUNS_ONCE = (
    "SELECT p.plan_name, p.status, p.scheduled_at, count(j.id) AS jobs, min(j.created_at) AS began"
    " FROM deployment_plan p LEFT JOIN orchestration_job j ON j.plan_id = p.id"
    " WHERE p.plan_type = 'SCHEDULED' AND p.plan_name LIKE 'once-%' GROUP BY p.id ORDER BY p.id"
)
_FIRINGS = (
    "SELECT p.plan_name, f.fire_at, f.outcome, f.child_plan_id FROM plan_firing f JOIN deployment_plan p"
    " ON p.id = f.plan_id WHERE p.plan_name LIKE 'often-%' ORDER BY p.id, f.fire_at"
)
_CHILDREN = (
    "SELECT p.plan_name, c.id, c.scheduled_at, c.status, count(j.id) AS jobs, min(j.created_at) AS began"
    " FROM deployment_plan c JOIN deployment_plan p ON p.id = c.parent_plan_id"
    " LEFT JOIN orchestration_job j ON j.plan_id = c.id WHERE p.plan_name LIKE 'often-%' GROUP BY p.id, c.id"
    " ORDER BY p.id, c.id"
)
_WAITING = (
    "SELECT (SELECT count(*) FROM plan_firing WHERE outcome = 'QUEUED')"
    " + (SELECT count(*) FROM deployment_plan WHERE status = 'SCHEDULED' AND plan_name LIKE 'once-%')"
)


@dataclass
class Timetable:
    """`asked` are the plans that run once."""

    customers: Customers
    chance: random.Random
    asked: set[str] = field(default_factory=set)
    # When each recurring plan was cancelled.
    _until: dict[str, datetime] = field(default_factory=dict)
    _fired: int = 0

    async def go(self, more: Callable[[], bool]) -> None:
        """Plans that come again from the beginning; plans for one time now and then; in the end nothing comes again."""
        for number, zone in enumerate(_ZONES):
            await self._create(f"{_OFTEN}-{number}", partial(_every_minute, zone))
        number = 0
        while more():
            ahead = self.chance.uniform(*_AHEAD_SECONDS)
            name = f"{_ONCE}-{number}"
            await self._create(name, partial(_soon, ahead))
            self.asked.add(name)
            number += 1
            await asyncio.sleep(_EVERY_SECONDS)
        for number in range(len(_ZONES)):
            await self._cancel(f"{_OFTEN}-{number}")

    async def rests(self, eyes: Eyes) -> bool:
        return await eyes.number(_WAITING) == 0

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        del folder
        once, firings, children = [await eyes.rows(query) for query in (_RUNS_ONCE, _FIRINGS, _CHILDREN)]
        self._fired = len(children)
        wrong = list(wrong_runs_once(once)) + list(wrong_firings(firings, children, self._until))
        wrong += [f"I12: {name} was accepted and is not there" for name in self.asked - {r["plan_name"] for r in once}]
        return wrong

    @property
    def proved(self) -> bool:
        return bool(self.asked)

    def said(self) -> str:
        return f"Fired by the clock: {len(self.asked)} plans once, {len(_ZONES)} every minute {self._fired} times"

    async def _create(self, name: str, schedule: Callable[[], Schedule]) -> None:
        principal, dependencies = self.customers.principals[_TENANT], self.customers.dependencies
        while True:
            try:
                async with self.customers.writing(principal) as write:
                    write.authorize("chaos")
                    if (await write.session.execute(_FIND, {"name": name})).one_or_none() is not None:
                        return
                    workflow = Workflow(
                        tenant_id=principal.tenant_id, workflow_name=name, definition={"steps": [_STEP]},
                        workflow_type=WorkflowType.DEPLOYMENT, status=DefinitionStatus.PUBLISHED,
                    )  # fmt: skip
                    write.session.add(workflow)
                    await write.session.flush()
                    command = CreatePlan(
                        name=name, type=PlanType.SCHEDULED, workflow_id=workflow.id, stack=name, schedule=schedule()
                    )
                    await plans.create(write, principal, command, dependencies)
                return
            except (DomainError, *AWAY):
                # The database was away, perhaps until the time had passed.
                await asyncio.sleep(0.3)

    async def _cancel(self, name: str) -> None:
        principal = self.customers.principals[_TENANT]
        self._until[name] = datetime.now(UTC)
        while True:
            try:
                async with self.customers.writing(principal) as write:
                    write.authorize("chaos")
                    row = (await write.session.execute(_FIND, {"name": name})).one()
                    if row.status == "CANCELLED":
                        return
                    await plans.cancel(write, principal, PlanAction(row.id), self.customers.dependencies)
            except (DomainError, *AWAY):
                await asyncio.sleep(0.3)


def _every_minute(zone: str) -> Schedule:
    return Schedule(zone, recurrence="* * * * *", overlap=OverlapPolicy.QUEUE_ALL)


def _soon(seconds: float) -> Schedule:
    return Schedule("UTC", at=datetime.now(UTC) + timedelta(seconds=seconds))


def wrong_runs_once(rows: Sequence[Row]) -> Iterator[str]:
    """What is wrong with plans that run once: each makes one job, not before its time, and it succeeds."""
    for row in rows:
        if (row["status"], row["jobs"]) != ("SUCCEEDED", 1):
            yield f"I12: {row['plan_name']} is {row['status']} with {row['jobs']} jobs"
        elif row["began"] < row["scheduled_at"]:
            yield f"I12: {row['plan_name']} was to run at {row['scheduled_at']} and began at {row['began']}"


def wrong_firings(
    firings: Sequence[Row], children: Sequence[Row], until: Mapping[str, datetime] = MappingProxyType({})
) -> Iterator[str]:
    """What is wrong with plans that run every minute: each minute from the first one `until` the plan was cancelled is
    entered once, and each that was run made one child with one job, not before its time. Only what was cancelled last
    may be missed.
    """
    of_plan: dict[str, list[Row]] = {}
    for firing in firings:
        of_plan.setdefault(firing["plan_name"], []).append(firing)
    for name, times in of_plan.items():
        for one, other in pairwise(times):
            if other["fire_at"] - one["fire_at"] != _MINUTE:
                yield f"I12: {name} fired at {one['fire_at']} and next at {other['fire_at']}"
            if one["outcome"] != "SPAWNED" and other["outcome"] == "SPAWNED":
                yield f"I12: {name} is {one['outcome']} for {one['fire_at']}, and a later time was run"
        if until.get(name, times[-1]["fire_at"]) - times[-1]["fire_at"] > _MINUTE + _LATE:
            yield f"I12: {name} fired last at {times[-1]['fire_at']} and was cancelled at {until[name]}"
        yield from _wrong_children(name, times, [child for child in children if child["plan_name"] == name])


def _wrong_children(name: str, times: Sequence[Row], children: Sequence[Row]) -> Iterator[str]:
    run: Mapping[int, Row] = {time["child_plan_id"]: time for time in times if time["outcome"] == "SPAWNED"}
    if len(run) != len(children) or {child["id"] for child in children} != run.keys():
        yield f"I12: {name} was to run {len(run)} times and has {len(children)} runs"
    for child in children:
        if (child["status"], child["jobs"]) != ("SUCCEEDED", 1):
            yield f"I12: the run of {name} for {child['scheduled_at']} is {child['status']}, {child['jobs']} jobs"
        elif child["began"] < child["scheduled_at"]:
            yield f"I12: the run of {name} for {child['scheduled_at']} began at {child['began']}"
