"""Random plans, handed in while everything falls over: through the services, and some through the API."""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.auth.principal import Principal
from app.db.away import DATABASE_AWAY
from app.db.models import ResourceTemplate, TemplateRevision, Workflow
from app.db.sealing import Sealer
from app.db.uow import Database, Transaction
from app.domain.enums import (
    CancelMode,
    CancelOutcome,
    DefinitionStatus,
    Permission,
    PlanType,
    Role,
    TemplateType,
    WorkflowType,
)
from app.domain.errors import DomainError
from app.providers.registry import Registry
from app.services import jobs, plans
from app.services.dependencies import Dependencies
from app.services.plans import CreatePlan
from schema.nodes import encode_id
from tests.chaos.town import Town
from tests.engine.history import Row, Wanted

SECRET = "correct-horse-battery-staple"
_FAILING = 0.3
_CANCELLED = 0.05
_BY_API = 0.1
_AGAIN = 0.15
_PAUSED = 0.06
_GATED = 0.05
_STUCK = 0.04
AWAY = (*DATABASE_AWAY, DBAPIError, TimeoutError)
_PLAN = """mutation($input: CreatePlanInput!) { createPlan(input: $input) {
  plan { id } userErrors { code message } } }"""
_ALL = {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}}
_TELL = {"key": "tell", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.log"},
         "inputs": {"message": "the password is ${parameters.password}"}, "retry": {"maxAttempts": 3}}  # fmt: skip
_FAIL = {"key": "fail", "type": "CUSTOM", "order": 3, "configuration": {"task": "core.assert"},
         "inputs": {"that": False, "message": "on purpose"}}  # fmt: skip


_FORM = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
_ASK = {"key": "ask", "type": "CUSTOM", "gate": {"kind": "INPUT", "prompt": "how many?", "inputSchema": _FORM}}


@dataclass(frozen=True, slots=True)
class Order:
    """One plan: the notes of its stack (what each needs), the text that all of them get."""

    name: str
    tenant: str
    stack: str
    notes: Mapping[str, tuple[str, ...]]
    text: str
    fails: bool
    workflow: bool
    by_api: bool
    cancel: tuple[CancelMode, CancelOutcome] | None
    # Whether somebody pauses it and resumes it a while later.
    paused: bool = False
    # Whether it asks something before it goes on.
    gated: bool = False
    # The note that cannot be deleted until somebody has seen that the rollback failed.
    stuck: str | None = None


def orders(seed: int) -> Iterator[Order]:
    """Plans without end, the same for the same seed. Nine in ten belong to one tenant."""
    chance = random.Random(seed)
    # Those whose stack others may change afterwards.
    made: list[Order] = []
    number = 0
    while True:
        order = _order(chance, number, made)
        if order.stuck is None:
            made.append(order)
        yield order
        number += 1


def _order(chance: random.Random, number: int, made: list[Order]) -> Order:
    earlier = chance.choice(made) if made and chance.random() < _AGAIN else None
    stack = earlier.stack if earlier else f"stack-{number}"
    notes = dict(earlier.notes) if earlier else _graph(chance, stack)
    fails = chance.random() < _FAILING
    cancel, paused, gated, stuck = None, False, False, None
    fate = chance.random()
    if fate < _CANCELLED:
        cancel = chance.choice(list(CancelMode)), chance.choice(list(CancelOutcome))
    elif fate < _CANCELLED + _PAUSED:
        paused = True
    elif fate < _CANCELLED + _PAUSED + _GATED:
        gated = True
    elif earlier is None and fate < _CANCELLED + _PAUSED + _GATED + _STUCK:
        fails, stuck = True, chance.choice(list(notes))
    return Order(
        name=f"plan-{number}",
        tenant=earlier.tenant if earlier else "beta" if chance.random() < 0.1 else "alpha",
        stack=stack,
        notes=notes,
        text=f"text {number}",
        fails=fails,
        workflow=fails or gated or chance.random() < 0.4,
        by_api=chance.random() < _BY_API,
        cancel=cancel,
        paused=paused,
        gated=gated,
        stuck=stuck,
    )


def _steps(order: Order) -> list[dict[str, Any]]:
    """The steps of an order's workflow, one after the other."""
    chosen: list[dict[str, Any]] = [_ALL, *([_ASK] if order.gated else []), _TELL, *([_FAIL] if order.fails else [])]
    return [{**step, "order": number} for number, step in enumerate(chosen, 1)]


def _graph(chance: random.Random, stack: str) -> dict[str, tuple[str, ...]]:
    names = [f"{stack}.{n}" for n in range(chance.randint(3, 8))]
    return {
        name: tuple(chance.sample(names[:place], chance.randint(0, min(place, 2)))) for place, name in enumerate(names)
    }


def wanted(given: list[Order], rows: list[Row]) -> dict[int, Wanted]:
    """What each job should have left, by job id, from what those before it on its stack have left."""
    by_name = {order.name: order for order in given}
    standing: dict[str, dict[str, str] | None] = {}
    found: dict[int, Wanted] = {}
    # Jobs of one stack run one after the other (I10), in the order in which they got the stack. That need not be the
    # order of their ids: what was handed in by an API that was held still is committed after others that came later.
    began = [row for row in rows if row["dispatched_at"] is not None]
    for row in sorted(began, key=lambda row: row["dispatched_at"]):
        order = by_name.get(row["plan_name"])
        if order is None:
            # Nobody has ordered it: the run of a standing plan, or a rehearsal.
            continue
        success = dict.fromkeys(order.notes, order.text)
        before = standing.get(order.stack, {})
        if before is not None:
            found[row["id"]] = Wanted(success, before)
        if row["status"] == "SUCCEEDED":
            standing[order.stack] = success
        elif row["status"] == "CANCELLED":
            standing[order.stack] = None
    return found


@dataclass
class Customers:
    """Whoever hands plans in. An order that got no answer is looked for, and handed in again if it is not there."""

    town: Town
    database: Database
    dependencies: Dependencies
    principals: dict[str, Principal]
    accepted: set[str] = field(default_factory=set)
    cancelled: int = 0
    by_api: int = 0
    # Plans refused because an earlier one of the stack left nothing to do.
    refused: set[str] = field(default_factory=set)

    @classmethod
    async def of(cls, town: Town) -> Customers:
        # Over a wire that may be cut, where there is one: a person's service meets lost answers, too.
        wire = town.wires.get("customer")
        url = town.environment["WINDLASS_DATABASE_URL"] if wire is None else wire.leading
        database = Database.connect(url, name="chaos-customers", pool_size=10)
        until = datetime.now(UTC) + timedelta(hours=5)
        principals = {}
        for slug, (tenant_id, _) in town.tenants.items():
            async with database.read(tenant_id) as session:
                user = (await session.execute(text("SELECT id FROM app_user ORDER BY id LIMIT 1"))).scalar_one()
            principals[slug] = Principal(tenant_id, slug, user, Role.ADMIN, frozenset(Permission), 1, until)
        sealer = Sealer(base64.b64decode(town.environment["WINDLASS_SECRET_KEY"]))
        return cls(town, database, Dependencies(Registry.default(sockets=False), sealer), principals)

    def writing(self, principal: Principal) -> AbstractAsyncContextManager[Transaction]:
        """A transaction in somebody's name."""
        return self.database.write(principal.tenant_id, actor=principal.actor, correlation_id="chaos")

    async def hand_in(self, order: Order) -> None:
        """Hand the order in until it is accepted; then cancel it, if that is what becomes of it."""
        while not await self._is_there(order):
            try:
                await self._submit(order)
            except AWAY:
                await asyncio.sleep(0.3)
        self.accepted.add(order.name)
        if order.cancel is not None:
            await asyncio.sleep(0.5)
            await self._cancel(order, *order.cancel)

    async def _is_there(self, order: Order) -> bool:
        while True:
            try:
                async with self.database.read(self.principals[order.tenant].tenant_id) as session:
                    found = await session.execute(
                        text("SELECT 1 FROM deployment_plan WHERE plan_name = :name"), {"name": order.name}
                    )
                    return found.first() is not None
            except AWAY:
                await asyncio.sleep(0.3)

    async def _submit(self, order: Order) -> None:
        principal = self.principals[order.tenant]
        async with self.database.write(principal.tenant_id, actor=principal.actor, correlation_id="chaos") as write:
            revision, workflow = await self.define(write, principal, order)
            if not order.by_api:
                command = CreatePlan(
                    name=order.name, type=PlanType.IMMEDIATE, template_revision_id=revision, workflow_id=workflow,
                    parameters={"text": order.text, "password": SECRET}, stack=order.stack,
                )  # fmt: skip
                await plans.create(write, principal, command, self.dependencies)
        if order.by_api:
            await self._ask_api(order, revision, workflow)

    async def define(self, write: Any, principal: Principal, order: Order) -> tuple[int, int | None]:
        """The template of an order, and its workflow where it has one: their ids."""
        tenant_id = principal.tenant_id
        write.authorize("chaos")
        content = {
            "parameters": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "password": {"type": "string", "x-sensitive": True}},
            },
            "resources": {
                name.replace(".", "-"): {
                    "type": "core.note",
                    "properties": {"name": name, "text": "${parameters.text}"},
                    "dependsOn": [need.replace(".", "-") for need in needs],
                }
                for name, needs in order.notes.items()
            },
        }
        name = f"{order.name}-{random.random()}"
        template = ResourceTemplate(
            tenant_id=tenant_id, template_name=name, template_type=TemplateType.CUSTOM,
            status=DefinitionStatus.PUBLISHED, template_content=content,
        )  # fmt: skip
        write.session.add(template)
        await write.session.flush()
        revision = TemplateRevision(
            tenant_id=tenant_id, template_id=template.id, number=1, content=content, checksum="0" * 64
        )
        write.session.add(revision)
        workflow = None
        if order.workflow:
            workflow = Workflow(
                tenant_id=tenant_id, workflow_name=name, workflow_type=WorkflowType.DEPLOYMENT,
                status=DefinitionStatus.PUBLISHED,
                definition={"steps": _steps(order)},
            )  # fmt: skip
            write.session.add(workflow)
        await write.session.flush()
        return revision.id, workflow.id if workflow is not None else None

    async def _ask_api(self, order: Order, revision: int, workflow: int | None) -> None:
        given: dict[str, Any] = {
            "idempotencyKey": order.name, "name": order.name, "type": "IMMEDIATE", "stack": order.stack,
            "templateRevisionId": encode_id("TemplateRevision", revision),
            "parameters": {"text": order.text, "password": SECRET},
        }  # fmt: skip
        if workflow is not None:
            given["workflowId"] = encode_id("Workflow", workflow)
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                answer = await client.post(
                    f"http://127.0.0.1:{self.town.ports[0]}/graphql",
                    json={"query": _PLAN, "variables": {"input": given}},
                    headers={"authorization": f"Bearer {self.town.tenants[order.tenant][1]}"},
                )
        except httpx.HTTPError as error:
            raise TimeoutError from error
        if answer.status_code != 200 or "errors" in answer.json():
            raise TimeoutError(answer.text[:300])
        faults = answer.json()["data"]["createPlan"]["userErrors"]
        if [fault["code"] for fault in faults] == ["IDEMPOTENCY_MISMATCH"]:
            # The answer was lost, not the request: it came through after we had looked.
            raise TimeoutError(faults)
        if faults:
            raise AssertionError(faults)
        self.by_api += 1

    async def _cancel(self, order: Order, mode: CancelMode, outcome: CancelOutcome) -> None:
        principal = self.principals[order.tenant]
        try:
            async with self.database.write(principal.tenant_id, actor=principal.actor, correlation_id="chaos") as write:
                found = await write.session.execute(
                    text(
                        "SELECT j.id FROM orchestration_job j JOIN deployment_plan p ON p.id = j.plan_id"
                        " WHERE p.plan_name = :name"
                    ),
                    {"name": order.name},
                )
                job_id = found.scalar_one_or_none()
                if job_id is not None:
                    await jobs.cancel(write, principal, jobs.CancelJob(job_id, mode, outcome), self.dependencies)
                    self.cancelled += 1
        except (DomainError, *AWAY):
            # It has ended, or nobody could be asked: then it goes on.
            return
