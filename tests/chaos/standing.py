"""A standing plan that is called while everything falls over, and rehearsals beside it: each call makes one run, and no
rehearsal leaves anything behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from sqlalchemy import text

from app.db.models import Workflow
from app.domain.enums import DefinitionStatus, PlanType, WorkflowType
from app.services import hooks, plans
from app.services.hooks import RotateHook
from app.services.plans import CreatePlan, ExecutePlan
from tests.chaos.eyes import Eyes
from tests.chaos.load import AWAY, SECRET, Customers, Order
from tests.engine.history import world

# Between one call and rehearsal and the next.
_EVERY_SECONDS = 2.0
_TWICE = 0.3
_FAILING = 0.4
_TENANT = "alpha"
_STANDING = "standing"
_STEP = {"key": "tell", "type": "CUSTOM", "configuration": {"task": "core.log"}, "inputs": {"message": "called"},
         "retry": {"maxAttempts": 20}}  # fmt: skip
_AUTOMATION = {
    "triggers": [{"on": "WEBHOOK"}],
    "maxConcurrent": 3,
    "overlap": "QUEUE_ALL",
    "rate": {"count": 1000, "per": "PT1M"},
}


@dataclass
class Beside:
    """Whoever calls and rehearses. `calls` were taken, `rehearsed` says of each rehearsal whether it was to fail."""

    customers: Customers
    chance: random.Random
    calls: set[str] = field(default_factory=set)
    rehearsed: dict[str, bool] = field(default_factory=dict)

    async def go(self, more: Callable[[], bool]) -> None:
        """Call and rehearse, until every call was taken and every rehearsal has begun."""
        path = await self._hook()
        number = 0
        while more():
            await self._call(path, f"call-{number}")
            if self.chance.random() < _TWICE:
                # It asks again, as a caller does that has lost the answer.
                await self._call(path, f"call-{number}")
            await self._rehearse(f"rehearsal-{number}", fails=self.chance.random() < _FAILING)
            number += 1
            await asyncio.sleep(_EVERY_SECONDS)

    async def rests(self, eyes: Eyes) -> bool:
        return await eyes.number("SELECT count(*) FROM plan_trigger WHERE outcome = 'PENDING'") == 0

    @property
    def proved(self) -> bool:
        return bool(self.calls) and bool(self.rehearsed)

    def said(self) -> str:
        return f"A standing plan was called {len(self.calls)} times; simulations: {len(self.rehearsed)}"

    async def _hook(self) -> str:
        principal, dependencies = self.customers.principals[_TENANT], self.customers.dependencies
        while True:
            try:
                async with self.customers.writing(principal) as write:
                    plan_id = await write.session.scalar(_PLAN, {"name": _STANDING})
                    if plan_id is None:
                        write.authorize("chaos")
                        workflow = Workflow(
                            tenant_id=principal.tenant_id, workflow_name=_STANDING, definition={"steps": [_STEP]},
                            workflow_type=WorkflowType.DEPLOYMENT, status=DefinitionStatus.PUBLISHED,
                        )  # fmt: skip
                        write.session.add(workflow)
                        await write.session.flush()
                        command = CreatePlan(
                            name=_STANDING, type=PlanType.AUTOMATED, workflow_id=workflow.id, stack=_STANDING,
                            configuration={"automation": _AUTOMATION},
                        )  # fmt: skip
                        plan_id = (await plans.create(write, principal, command, dependencies)).id
                    hook = await hooks.rotate(write, principal, RotateHook(plan_id), dependencies)
                return f"/hooks/{hook.token}"
            except AWAY:
                await asyncio.sleep(0.3)

    async def _call(self, path: str, call_id: str) -> None:
        """Until it is taken: each time under the same id."""
        address = f"http://127.0.0.1:{self.customers.town.ports[0]}{path}"
        while True:
            try:
                async with httpx.AsyncClient(timeout=10) as client:
                    answer = await client.post(address, json={}, headers={"webhook-id": call_id})
                if answer.status_code == 202:
                    self.calls.add(call_id)
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.3)

    async def _rehearse(self, name: str, *, fails: bool) -> None:
        principal, dependencies = self.customers.principals[_TENANT], self.customers.dependencies
        order = _order(name)
        while name not in self.rehearsed:
            try:
                async with self.customers.writing(principal) as write:
                    write.authorize("chaos")
                    if await write.session.scalar(_PLAN, {"name": name}) is None:
                        revision, _ = await self.customers.define(write, principal, order)
                        command = CreatePlan(
                            name=name, type=PlanType.MANUAL, template_revision_id=revision, stack=name,
                            parameters={"text": "x", "password": SECRET},
                        )  # fmt: skip
                        plan = await plans.create(write, principal, command, dependencies)
                        failing = (f"{name}-2",) if fails else ()
                        await plans.execute(
                            write,
                            principal,
                            ExecutePlan(plan.id, simulate=True, simulate_failure_at=failing),
                            dependencies,
                        )
                self.rehearsed[name] = fails
            except AWAY:
                await asyncio.sleep(0.3)

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        """What is wrong when everything has come to rest."""
        heard = await eyes.rows(_HEARD, _STANDING)
        runs = await eyes.rows(_RUNS, _STANDING)
        rehearsals = {row["plan_name"]: row for row in await eyes.rows(_REHEARSALS)}
        recorded = {row["stack"] for row in await eyes.rows("SELECT DISTINCT stack FROM cloud_resource")}
        wrong = [f"{row['key']} was heard and is {row['outcome']}" for row in heard if row["outcome"] != "SPAWNED"]
        wrong += [f"{key} was taken and not heard" for key in sorted(self.calls - {row["key"] for row in heard})]
        if len({row["child_plan_id"] for row in heard}) != len(heard) or len(runs) != len(heard):
            wrong.append(f"{len(heard)} calls made {len(runs)} runs")
        wrong += [
            f"run {row['id']} is {row['status']} with {row['jobs']} jobs"
            for row in runs
            if (row["status"], row["jobs"]) != ("SUCCEEDED", 1)
        ]
        left = {stack for _, stack in world(folder)} | recorded
        for name, fails in self.rehearsed.items():
            row = rehearsals.get(name)
            found = None if row is None else (row["status"], row["plan_status"], row["number"])
            wanted = ("ROLLED_BACK" if fails else "SUCCEEDED", "READY", 1)
            if found != wanted:
                wrong.append(f"{name} came to {found} and not to {wanted}")
            if name in left:
                wrong.append(f"{name} was only rehearsed and has left something")
        return [f"beside: {fault}" for fault in wrong]


def _order(name: str) -> Order:
    notes = {f"{name}.1": (), f"{name}.2": (f"{name}.1",), f"{name}.3": (f"{name}.2",)}
    return Order(
        name=name, tenant=_TENANT, stack=name, notes=notes, text="x", fails=False, workflow=False,
        by_api=False, cancel=None,
    )  # fmt: skip


_PLAN = text("SELECT id FROM deployment_plan WHERE plan_name = :name AND parent_plan_id IS NULL")
_HEARD = (
    "SELECT t.key, t.outcome, t.child_plan_id FROM plan_trigger t JOIN deployment_plan p ON p.id = t.plan_id"
    " WHERE p.plan_name = $1"
)
_RUNS = (
    "SELECT c.id, c.status, (SELECT count(*) FROM orchestration_job j WHERE j.plan_id = c.id) AS jobs"
    " FROM deployment_plan c JOIN deployment_plan p ON p.id = c.parent_plan_id WHERE p.plan_name = $1"
)
_REHEARSALS = (
    "SELECT p.plan_name, p.status AS plan_status, min(j.status) AS status, count(*) AS number"
    " FROM orchestration_job j JOIN deployment_plan p ON p.id = j.plan_id WHERE j.simulated GROUP BY 1, 2"
)
