"""People who step in while everything falls over: they pause plans and resume them, answer what plans ask, and go on
with rollbacks that got stuck when what held them up is gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.domain.errors import DomainError
from app.domain.statuses import JOB, JobStatus
from app.services import gates, jobs, plans
from app.services.gates import AnswerGate
from app.services.jobs import ContinueRollback
from app.services.plans import PlanAction
from tests.chaos.eyes import Eyes
from tests.chaos.load import AWAY, Customers, Order
from tests.engine.history import Row

_LOOK_SECONDS = 0.3
_REST_SECONDS = (0.3, 2.5)
_LAST = text(
    "SELECT p.id AS plan_id, j.id AS job_id, j.status FROM deployment_plan p"
    " JOIN orchestration_job j ON j.tenant_id = p.tenant_id AND j.id = p.last_job_id WHERE p.plan_name = :name"
)
_ASKING = text(
    "SELECT s.id FROM deployment_plan p JOIN step_run s ON s.tenant_id = p.tenant_id AND s.job_id = p.last_job_id"
    " WHERE p.plan_name = :name AND s.step_key = 'ask' AND s.status = 'WAITING'"
)
_MOVES = (
    "SELECT p.plan_name, e.stream_id AS job_id, e.seq, e.kind, e.data->>'status' AS status,"
    " e.data->>'previous' AS previous, e.data->>'stepKey' AS step FROM event_log e"
    " JOIN orchestration_job j ON j.id = e.stream_id JOIN deployment_plan p ON p.id = j.plan_id"
    " WHERE e.stream = 'JOB' AND e.kind IN ('JobStatusChanged', 'StepStatusChanged')"
    " AND p.plan_name = ANY($1::text[]) AND p.parent_plan_id IS NULL ORDER BY e.stream_id, e.seq"
)
_CLOSED = {status.value for status in JOB.closed}


@dataclass
class Interventions:
    """`paused` are the plans that somebody paused, `answered` those that had asked something, `freed`
    those whose rollback had got stuck and was gone on with.
    """

    customers: Customers
    chance: random.Random
    paused: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)
    freed: set[str] = field(default_factory=set)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def prepare(self, order: Order) -> None:
        """Before a plan is handed in: what is to get stuck is."""
        if order.stuck is not None:
            (self.customers.town.stuck / order.stuck).touch()

    def begin(self, order: Order) -> None:
        """Step in, beside everything else, now that the plan is there."""
        if order.paused:
            self._do(self._pause(order, random.Random(self.chance.getrandbits(64))))
        if order.gated:
            self._do(self._answer(order))
        if order.stuck is not None:
            self._do(self._free(order, order.stuck))

    async def go(self, more: Callable[[], bool]) -> None:
        """Nothing of its own: it steps in where plans are handed in."""

    async def rests(self, eyes: Eyes) -> bool:
        del eyes
        return not self._under_way

    @property
    def proved(self) -> bool:
        return bool(self.paused) and bool(self.freed)

    def said(self) -> str:
        return (
            f"Paused and resumed: {len(self.paused)} plans; gates answered: {len(self.answered)};"
            f" stuck rollbacks gone on with: {len(self.freed)}"
        )

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        del folder
        rows = await eyes.rows(_MOVES, sorted(self.paused | self.answered | self.freed))
        return [
            *wrong_pauses([row for row in rows if row["plan_name"] in self.paused]),
            *wrong_answers([row for row in rows if row["plan_name"] in self.answered]),
            *wrong_continuations([row for row in rows if row["plan_name"] in self.freed]),
        ]

    def _do(self, deed: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(deed)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _pause(self, order: Order, chance: random.Random) -> None:
        """Pause it once it runs, and resume it when it has come to rest."""
        asked = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                plan_id, _, status = await self._last(order)
                if status is JobStatus.RUNNING and not asked:
                    # Said of it before: a pause whose answer is lost was one.
                    self.paused.add(order.name)
                    await self._act(order, plans.pause, PlanAction(plan_id))
                    asked = True
                elif status is JobStatus.PAUSED:
                    asked = True
                    await asyncio.sleep(chance.uniform(*_REST_SECONDS))
                    await self._act(order, plans.resume, PlanAction(plan_id))
                    return
                elif status is JobStatus.PAUSING:
                    asked = True
                elif status in JOB.closed:
                    return
            except (DomainError, *AWAY):
                # It has moved on meanwhile, or nobody could be asked.
                continue

    async def _answer(self, order: Order) -> None:
        """Answer when it asks."""
        principal = self.customers.principals[order.tenant]
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                _, _, status = await self._last(order)
                if status in JOB.closed:
                    return
                async with self.customers.database.read(principal.tenant_id) as session:
                    step_id = await session.scalar(_ASKING, {"name": order.name})
                if step_id is not None:
                    self.answered.add(order.name)
                    await self._act(order, gates.answer, AnswerGate(step_id, answer={"number": 1}))
            except (DomainError, *AWAY):
                continue

    async def _free(self, order: Order, note: str) -> None:
        """Wait until the rollback has failed, mend what held it up, and go on with it."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                _, job_id, status = await self._last(order)
                if status is JobStatus.ROLLBACK_FAILED:
                    (self.customers.town.stuck / note).unlink(missing_ok=True)
                    self.freed.add(order.name)
                    await self._act(order, jobs.continue_rollback, ContinueRollback(job_id))
                elif status in JOB.closed:
                    return
            except (DomainError, *AWAY):
                continue

    async def _last(self, order: Order) -> tuple[int, int, JobStatus]:
        principal = self.customers.principals[order.tenant]
        async with self.customers.database.read(principal.tenant_id) as session:
            row = (await session.execute(_LAST, {"name": order.name})).one()
        return row.plan_id, row.job_id, JobStatus(row.status)

    async def _act(self, order: Order, verb: Any, command: Any) -> None:
        principal = self.customers.principals[order.tenant]
        async with self.customers.writing(principal) as write:
            await verb(write, principal, command, self.customers.dependencies)


def wrong_pauses(moves: Sequence[Row]) -> Iterator[str]:
    """What is wrong in the moves of jobs that were paused: while one pauses or is paused, nothing new begins, and it
    does not stay so.
    """
    for job_id, of_job in _by_job(moves).items():
        status = ""
        for move in of_job:
            if move["kind"] == "JobStatusChanged":
                status = move["status"]
            elif status in ("PAUSING", "PAUSED") and (move["previous"], move["status"]) == ("READY", "RUNNING"):
                yield f"pause: step {move['step']} of job {job_id} began while the job was {status}"
        if status not in _CLOSED:
            yield f"pause: job {job_id} stayed {status}"


def wrong_answers(moves: Sequence[Row]) -> Iterator[str]:
    """What is wrong in the moves of jobs that asked: each answer is taken once, and the gate is passed once."""
    for job_id, of_job in _by_job(moves).items():
        asked = [(move["previous"], move["status"]) for move in of_job if move["step"] == "ask"]
        taken, passed = asked.count(("WAITING", "READY")), sum(status == "SUCCEEDED" for _, status in asked)
        if (taken, passed) != (1, 1):
            yield f"gate: job {job_id} took {taken} answers and passed its gate {passed} times"


def wrong_continuations(moves: Sequence[Row]) -> Iterator[str]:
    """What is wrong in the moves of plans whose rollback got stuck: it must have failed, been gone on with in another
    job, and come to its end there; and nothing is undone there that was undone before.
    """
    by_plan: dict[str, list[Row]] = {}
    for move in moves:
        by_plan.setdefault(move["plan_name"], []).append(move)
    for name, of_plan in by_plan.items():
        jobs_of_it = _by_job(of_plan)
        ends = [
            [move["status"] for move in of_job if move["kind"] == "JobStatusChanged"][-1]
            for of_job in jobs_of_it.values()
        ]
        if len(ends) < 2 or set(ends[:-1]) != {"ROLLBACK_FAILED"} or ends[-1] != "ROLLED_BACK":
            yield f"continuation: the jobs of {name} came to {ends}"
        undone: set[str] = set()
        for of_job in jobs_of_it.values():
            steps = [move for move in of_job if move["kind"] == "StepStatusChanged"]
            again = {m["step"] for m in steps if m["status"] == "COMPENSATING" and m["previous"] != "COMPENSATING"}
            yield from (f"continuation: step {key} of {name} was undone twice" for key in sorted(again & undone))
            undone |= {move["step"] for move in steps if move["status"] == "COMPENSATED"}


def _by_job(moves: Sequence[Row]) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for move in moves:
        found.setdefault(move["job_id"], []).append(move)
    return found
