"""Plans that wait for something while everything falls over: each fires once for each time that it comes true.

Some wait for a signal, and run once. One fires each time that a note is found to be otherwise than it was made:
somebody changes it behind the product's back, and puts it right when the plan has fired.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.db.models import Workflow
from app.domain.enums import DefinitionStatus, PlanType, WorkflowType
from app.domain.errors import DomainError
from app.services import drift, plans
from app.services.drift import OfResource
from app.services.plans import CreatePlan, SignalPlan
from tests.chaos.eyes import Eyes
from tests.chaos.load import AWAY, Customers, Order
from tests.engine.history import Row

_TENANT = "alpha"
_EVERY_SECONDS = 3.0
_SIGNAL_SECONDS = (0.2, 4.0)
_AGAIN = 0.3
_LOOK_SECONDS = 0.4
_PATIENCE_SECONDS = 120.0
_WATCHED, _EACH = "watched", "each"
_NOTE = f"{_WATCHED}.0"
_GO = "${signals.go.received}"
_MODIFIED = f'${{resources["{_WATCHED}/{_WATCHED}-0"].drift == "MODIFIED"}}'
_STEP = {"key": "tell", "type": "CUSTOM", "configuration": {"task": "core.log"}, "inputs": {"message": "it is so"},
         "retry": {"maxAttempts": 20}}  # fmt: skip
_FIND = text("SELECT id, status FROM deployment_plan WHERE plan_name = :name AND parent_plan_id IS NULL")
_DRIFT = text("SELECT id, status, drift_status FROM cloud_resource WHERE stack = :stack AND NOT is_deleted")
_FIRED = text("SELECT count(*) FROM deployment_plan WHERE parent_plan_id = :id")
_SEEN = text("SELECT result FROM condition_evaluation WHERE plan_id = :id ORDER BY at DESC, id DESC LIMIT 1")
_ONCE = (
    "SELECT p.plan_name, p.status, (SELECT count(*) FROM orchestration_job j WHERE j.plan_id = p.id) AS jobs,"
    " (SELECT count(*) FROM condition_evaluation e WHERE e.plan_id = p.id AND e.spawned_plan_id IS NOT NULL) AS fired"
    " FROM deployment_plan p WHERE p.plan_name LIKE 'when-%' AND p.parent_plan_id IS NULL ORDER BY p.id"
)
_CHILDREN = (
    "SELECT c.id, c.status, (SELECT count(*) FROM orchestration_job j WHERE j.plan_id = c.id) AS jobs"
    " FROM deployment_plan c JOIN deployment_plan p ON p.id = c.parent_plan_id WHERE p.plan_name = $1 ORDER BY c.id"
)
_TOLD = (
    "SELECT e.data->>'drift' AS drift FROM event_log e JOIN deployment_plan p ON p.id = e.stream_id"
    " WHERE e.stream = 'PLAN' AND e.kind = 'ResourceChanged' AND p.plan_name = $1 ORDER BY e.seq"
)
_WAITING = "SELECT count(*) FROM deployment_plan WHERE plan_name LIKE 'when-%' AND status = 'WAITING'"


@dataclass
class Watchers:
    """`asked`: the plans that wait for a signal; `changes`: how often the note was changed and put right."""

    customers: Customers
    chance: random.Random
    asked: set[str] = field(default_factory=set)
    changes: int = 0
    late: list[str] = field(default_factory=list)
    _fired: int = 0
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def go(self, more: Callable[[], bool]) -> None:
        """Plans that wait for a signal now and then, and beside them the note that is changed."""
        watching = asyncio.create_task(self._change(more))
        number = 0
        while more():
            name = f"when-{number}"
            self.asked.add(name)
            task = asyncio.create_task(self._signalled(name, random.Random(self.chance.getrandbits(64))))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1
            await asyncio.sleep(_EVERY_SECONDS)
        await watching

    async def rests(self, eyes: Eyes) -> bool:
        return not self._under_way and await eyes.number(_WAITING) == 0

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        del folder
        once = await eyes.rows(_ONCE)
        children, told = await eyes.rows(_CHILDREN, _EACH), await eyes.rows(_TOLD, _WATCHED)
        self._fired = len(children)
        missing = self.asked - {row["plan_name"] for row in once}
        return [
            *self.late,
            *wrong_onces(once),
            *wrong_edges(children, [row["drift"] for row in told], self.changes),
            *(f"condition: {name} was accepted and is not there" for name in sorted(missing)),
        ]

    @property
    def proved(self) -> bool:
        return bool(self.asked) and bool(self.changes)

    def said(self) -> str:
        return (
            f"Waited for a signal: {len(self.asked)} plans; a note was changed from outside {self.changes} times,"
            f" and the plan that waits for that fired {self._fired} times"
        )

    async def _signalled(self, name: str, chance: random.Random) -> None:
        """A plan, and its signal; now and then twice, as one gives it who has lost the answer."""
        await self._create(name, {"when": _GO})
        await asyncio.sleep(chance.uniform(*_SIGNAL_SECONDS))
        times = 2 if chance.random() < _AGAIN else 1
        given = 0

        async def give() -> bool:
            nonlocal given
            async with self.customers.writing(self._principal) as write:
                write.authorize("chaos")
                row = (await write.session.execute(_FIND, {"name": name})).one()
                if row.status != "WAITING":
                    return True
                await plans.signal(write, self._principal, SignalPlan(row.id, "go", None), self.customers.dependencies)
            given += 1
            return given >= times

        await self._until(give)

    async def _change(self, more: Callable[[], bool]) -> None:
        order = Order(
            name=_WATCHED, tenant=_TENANT, stack=_WATCHED, notes={_NOTE: ()}, text="x", fails=False, workflow=False,
            by_api=False, cancel=None,
        )  # fmt: skip
        await self.customers.hand_in(order)
        await self._until(self._is_found("IN_SYNC", ask=False))
        each = await self._create(_EACH, {"when": _MODIFIED, "fire": "EACH"})
        while more():
            await asyncio.to_thread(self._write, f"changed {self.changes}")
            if not await self._all(self._is_found("MODIFIED"), self._has_fired(each, self.changes + 1)):
                self.late.append(f"condition: change {self.changes} was not acted on")
            await asyncio.to_thread(self._write, "x")
            self.changes += 1
            if not await self._all(self._is_found("IN_SYNC"), self._is_false(each)):
                self.late.append(f"condition: that change {self.changes - 1} was put right was not seen")

    async def _all(self, *conditions: Callable[[], Awaitable[bool]]) -> bool:
        """Whether each came true, one after the other, in good time."""
        return all([await self._until(condition, _PATIENCE_SECONDS) for condition in conditions])

    async def _until(self, condition: Callable[[], Awaitable[bool]], seconds: float = float("inf")) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if await condition():
                    return True
            except (DomainError, *AWAY):
                pass
            await asyncio.sleep(_LOOK_SECONDS)
        return False

    def _is_found(self, status: str, *, ask: bool = True) -> Callable[[], Awaitable[bool]]:
        """Whether that is what the record says of the note; if not, it is looked at again."""

        async def found() -> bool:
            async with self.customers.writing(self._principal) as write:
                write.authorize("chaos")
                row = (await write.session.execute(_DRIFT, {"stack": _WATCHED})).one_or_none()
                if row is not None and ask and row.drift_status != status:
                    await drift.refresh(write, self._principal, OfResource(row.id))
                return row is not None and row.status == "ACTIVE" and row.drift_status == status

        return found

    def _has_fired(self, plan_id: int, times: int) -> Callable[[], Awaitable[bool]]:
        async def fired() -> bool:
            return bool(await self._ask(_FIRED, plan_id) >= times)

        return fired

    def _is_false(self, plan_id: int) -> Callable[[], Awaitable[bool]]:
        async def seen() -> bool:
            return await self._ask(_SEEN, plan_id) is False

        return seen

    async def _ask(self, statement: Any, plan_id: int) -> Any:
        async with self.customers.database.read(self._principal.tenant_id) as session:
            return await session.scalar(statement, {"id": plan_id})

    @property
    def _principal(self) -> Any:
        return self.customers.principals[_TENANT]

    def _write(self, words: str) -> None:
        """Change the note as somebody does who knows nothing of the product."""
        (path,) = (self.customers.town.folder / "artifacts").glob(f"*/notes/**/{_NOTE}.json")
        other = path.with_suffix(".other")
        other.write_text(json.dumps({**json.loads(path.read_text()), "text": words}))
        other.rename(path)

    async def _create(self, name: str, condition: Mapping[str, Any]) -> int:
        made = 0

        async def create() -> bool:
            nonlocal made
            async with self.customers.writing(self._principal) as write:
                write.authorize("chaos")
                row = (await write.session.execute(_FIND, {"name": name})).one_or_none()
                if row is not None:
                    made = row.id
                    return True
                workflow = Workflow(
                    tenant_id=self._principal.tenant_id, workflow_name=name, definition={"steps": [_STEP]},
                    workflow_type=WorkflowType.DEPLOYMENT, status=DefinitionStatus.PUBLISHED,
                )  # fmt: skip
                write.session.add(workflow)
                await write.session.flush()
                command = CreatePlan(
                    name=name, type=PlanType.CONDITIONAL, workflow_id=workflow.id, stack=name, condition=condition
                )
                await plans.create(write, self._principal, command, self.customers.dependencies)
            # Its id is read when it is known to be there.
            return False

        await self._until(create)
        return made


def wrong_onces(rows: Sequence[Row]) -> Iterator[str]:
    """What is wrong with plans that wait for a signal: each fires once and makes one job, which succeeds."""
    for row in rows:
        if (row["status"], row["jobs"], row["fired"]) != ("SUCCEEDED", 1, 1):
            found = f"{row['status']} with {row['jobs']} jobs, and fired {row['fired']} times"
            yield f"condition: {row['plan_name']} is {found}"


def wrong_edges(children: Sequence[Row], told: Sequence[str], changes: int) -> Iterator[str]:
    """What is wrong with the plan that fires each time: it has one run for each change, no more than the note was
    found changed; what was found is told when it is something else than before, and only then.
    """
    news = [drift for place, drift in enumerate(told) if place == 0 or told[place - 1] != drift]
    found = Counter(news)["MODIFIED"]
    # Being made is told as well, with what is known of the drift then.
    if Counter(told)["MODIFIED"] != found:
        yield f"drift: told {list(told)}"
    if not changes <= len(children) <= found:
        yield f"condition: {changes} changes were found {found} times and fired {len(children)} times"
    for child in children:
        if (child["status"], child["jobs"]) != ("SUCCEEDED", 1):
            yield f"condition: run {child['id']} is {child['status']} with {child['jobs']} jobs"
