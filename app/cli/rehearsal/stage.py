"""An installation that lasts for one rehearsal: the real services, engine and database, in this process.

Doorbells go into a list instead of to a broker, and what waits for a time is due at once.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from app.auth.authenticator import Authenticator
from app.auth.principal import Principal
from app.cli.manifests import Kind, Manifest
from app.cli.rehearsal import documents
from app.cli.rehearsal.injecting import InjectingExecutor
from app.cli.rehearsal.standins import Cast
from app.db.models import CloudResource, DeploymentPlan, EventLog, OrchestrationJob, StepRun
from app.db.sealing import Sealer
from app.db.uow import Database, Rings, SystemRole, Transaction
from app.domain.definitions.workflow import parse_workflow
from app.domain.enums import TemplateType, WorkflowType
from app.domain.errors import NotFound
from app.domain.events import Stream
from app.domain.simulation import Simulation
from app.domain.statuses import JOB, RESOURCE, JobStatus
from app.domain.values import reveal
from app.engine.claims import Claimer
from app.engine.connections import Connections
from app.engine.liveness import LOCK_CLASS, Worker
from app.engine.recorder import Recorder
from app.engine.runner import Runner
from app.engine.ticking import tick
from app.messages import StepDue
from app.providers.registry import Registry
from app.providers.sessions import Sessions
from app.reads import events
from app.services import connections, plans, policies, templates, workflows
from app.services.connections import CreateConnection
from app.services.dependencies import Dependencies
from app.services.policies import CreatePolicy
from app.services.seeding import create_tenant
from app.services.templates import CreateTemplate, TemplateAction
from app.services.workflows import CreateWorkflow

# Nobody renews it: a rehearsal is over before.
_LEASE_SECONDS = 86_400.0
_LOOK_SECONDS = 0.05
_EVENTS = 500
_SLUG = "rehearsal"
_ENDED = JOB.closed | {JobStatus.PAUSED}

Tell = Callable[[EventLog], None]


@dataclass(frozen=True, slots=True)
class Left:
    """A resource as it is recorded."""

    type: str
    status: str
    external_id: str | None
    properties: Mapping[str, Any] = field(repr=False)


@dataclass
class Stage:
    """One tenant, one worker."""

    database: Database
    cast: Cast
    registry: Registry
    sealer: Sealer
    principal: Principal
    runner: Runner
    sessions: Sessions
    folder: Path
    rung: list[StepDue]
    executor: InjectingExecutor
    _revisions: dict[str, int] = field(default_factory=dict)
    _workflows: dict[str, int] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def open(cls, database_url: str, cast: Cast, folder: Path) -> AsyncIterator[Stage]:
        """On a migrated database that has no tenant of this name. `folder` is where files are written."""
        rung: list[StepDue] = []

        def after_commit(rings: Rings) -> None:
            rung.extend(rings.due)

        database = Database.connect(
            database_url, name="windlass-rehearsal", pool_size=8, after_commit=after_commit, own_rings=lambda: 1_000_000
        )
        registry, sealer = cast.registry, Sealer(secrets.token_bytes(32))
        sessions = Sessions(registry)
        try:
            _, token = await create_tenant(database, "Rehearsal", _SLUG, "rehearsal@rehearsal.example")
            principal = await Authenticator(database).authenticate(token)
            async with _worker(database) as worker:
                executor = InjectingExecutor(registry)
                pool = Connections(database, sealer, sessions, {name: part.config for name, part in cast.parts.items()})
                runner = Runner(
                    database,
                    Claimer(worker.id, registry, sealer),
                    executor,
                    Recorder(registry, sealer, random.random),
                    pool,
                    folder,
                )
                yield cls(database, cast, registry, sealer, principal, runner, sessions, folder, rung, executor)
        finally:
            await sessions.close()
            await database.close()

    @property
    def files(self) -> Path:
        """The folder of the tenant's files."""
        return self.folder / str(self.principal.tenant_id)

    @property
    def dependencies(self) -> Dependencies:
        return Dependencies(self.registry, self.sealer)

    async def connect(self, wanted: Mapping[str, set[str]]) -> None:
        """Every connection that the plans ask for, each leading to what stands in for its provider."""
        # Names are the tenant's, whatever the provider: whoever names one twice is told so by the planner.
        taken: set[str] = set()
        for provider in sorted(wanted.keys() & self.cast.parts.keys()):
            own = f"{_SLUG}-{provider}"
            for name in [own, *sorted(wanted[provider] - taken)]:
                taken.add(name)
                command = CreateConnection(
                    name, provider, dict(self.cast.parts[provider].config), is_default=name == own
                )
                async with self._write() as transaction:
                    await connections.create(transaction, self.principal, command, self.dependencies)

    async def judge_by(self, wanted: Sequence[CreatePolicy]) -> None:
        """Policies that plans are judged by from now on."""
        for policy in wanted:
            async with self._write() as transaction:
                await policies.create(transaction, self.principal, policy)

    async def define(self, manifest: Manifest) -> None:
        """A template or a workflow; a later one of the same name takes the place of an earlier one."""
        if manifest.kind is Kind.TEMPLATE:
            await self._template(manifest)
        else:
            await self._workflow(manifest)

    async def submit(self, manifest: Manifest) -> DeploymentPlan:
        """A plan that was worked out and begins at once. Raises DomainError with every fault."""
        spec = manifest.spec
        revision = _named(self._revisions, spec.get("template"), "template")
        workflow = _named(self._workflows, spec.get("workflow"), "workflow")
        async with self._write() as transaction:
            return await plans.create(
                transaction, self.principal, documents.plan_of(manifest, revision, workflow), self.dependencies
            )

    async def inject(self, job_id: int, fail_at: Sequence[str]) -> None:
        """Let steps of the job, or their undoings, fail. Raises UnknownReference for a step that there is not."""
        self.executor.injected[job_id] = Simulation.planned(
            fail_at, [step.step_key for step in await self.steps(job_id)]
        )

    async def carry_out(self, job_id: int, tell: Tell) -> OrchestrationJob:
        """Work until the job has ended, or waits for a person; `tell` hears each event."""
        journal = _Journal(self, job_id, tell)
        telling = asyncio.create_task(journal.follow())
        try:
            while True:
                await self._answer()
                job = await self.job(job_id)
                if job.status in _ENDED:
                    break
                await self._skip_time()
                await tick(self.database, ring_again_seconds=0)
                if not self.rung:
                    # Somebody outside is waited for.
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await journal.look()
        return job

    async def removed(self, stack: str) -> dict[str, Left]:
        """Remove all that is recorded of the stack, by a plan that wants nothing; what is left in spite of it."""
        if await self.recorded(stack):
            nothing = f"nothing of {stack}"
            await self._template(_of_ours(Kind.TEMPLATE, nothing, {"resources": {}}))
            spec = {"template": nothing, "stack": stack}
            plan = await self.submit(_of_ours(Kind.PLAN, f"remove {stack}", spec))
            if plan.last_job_id is not None:
                await self.carry_out(plan.last_job_id, lambda _event: None)
        return await self.recorded(stack)

    async def job(self, job_id: int) -> OrchestrationJob:
        async with self.database.read(self.principal.tenant_id) as session:
            return await session.get_one(OrchestrationJob, job_id)

    async def steps(self, job_id: int) -> list[StepRun]:
        """The steps of a job, in order."""
        async with self.database.read(self.principal.tenant_id) as session:
            found = await session.scalars(
                select(StepRun)
                .where(StepRun.tenant_id == self.principal.tenant_id, StepRun.job_id == job_id)
                .order_by(StepRun.wave, StepRun.id)
            )
            return list(found)

    async def told(self, job_id: int, after: int) -> list[EventLog]:
        """The events of a job with a number above `after`."""
        tenant = self.principal.tenant_id
        async with self.database.read(tenant) as session:
            return (await events.after(session, tenant, Stream.JOB, [job_id], seq=after, limit=_EVENTS))[job_id]

    async def recorded(self, stack: str) -> dict[str, Left]:
        """What is recorded of the stack and really there, by key."""
        gone = [*RESOURCE.closed]
        async with self.database.read(self.principal.tenant_id) as session:
            rows = await session.scalars(
                select(CloudResource)
                .where(
                    CloudResource.tenant_id == self.principal.tenant_id,
                    CloudResource.stack == stack,
                    CloudResource.status.not_in(gone),
                    CloudResource.external_id.is_not(None),
                )
                .order_by(CloudResource.resource_key)
            )
            return {row.resource_key: self._left(row) for row in rows}

    def _left(self, row: CloudResource) -> Left:
        properties = reveal(self.sealer.open(row.applied or {}, row.tenant_id))
        return Left(row.type, row.status.value, row.external_id, properties)

    async def _template(self, manifest: Manifest) -> None:
        number = len(self._revisions)
        command = CreateTemplate(
            name=manifest.name if manifest.name not in self._revisions else f"{manifest.name} ({number})",
            type=documents.chosen(TemplateType, manifest.spec.get("type", "CUSTOM"), "type", manifest.source),
            content=manifest.without("type", "public"),
            description=manifest.description,
            tags=manifest.tags,
        )
        async with self._write() as transaction:
            template = await templates.create(transaction, self.principal, command, self.dependencies)
            _, revision = await templates.publish(
                transaction, self.principal, TemplateAction(template.id), self.dependencies
            )
            self._revisions[manifest.name] = revision.id

    async def _workflow(self, manifest: Manifest) -> None:
        # As it is written, gates and all: what stands in for them is in order anyway.
        parse_workflow(manifest.without("type"), self.registry, path=("definition",))
        changed, _ = documents.without_people(manifest)
        number = len(self._workflows)
        command = CreateWorkflow(
            name=manifest.name if manifest.name not in self._workflows else f"{manifest.name} ({number})",
            type=documents.chosen(WorkflowType, manifest.spec.get("type", "CUSTOM"), "type", manifest.source),
            definition=changed.without("type"),
            description=manifest.description,
        )
        async with self._write() as transaction:
            workflow = await workflows.create(transaction, self.principal, command, self.dependencies)
            self._workflows[manifest.name] = workflow.id

    async def _answer(self) -> None:
        """Answer every doorbell, side by side."""
        while self.rung:
            rings, self.rung[:] = list(self.rung), []
            await asyncio.gather(*(self.runner.run(ring) for ring in rings))

    async def _skip_time(self) -> None:
        """Whatever waits for its time is due now."""
        async with self.database.system(SystemRole.TICK) as transaction:
            await transaction.session.execute(
                text("UPDATE step_run SET due_at = clock_timestamp() WHERE due_at > clock_timestamp()")
            )

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[Transaction]:
        tenant = self.principal.tenant_id
        async with self.database.write(tenant, actor=self.principal.actor, correlation_id=_SLUG) as transaction:
            yield transaction


@dataclass
class _Journal:
    """What has been told of a job's events."""

    stage: Stage
    job_id: int
    tell: Tell
    seen: int = 0

    async def follow(self) -> None:
        """Tell of events as they come, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """Tell of what has come since the last look."""
        while found := await self.stage.told(self.job_id, self.seen):
            for event in found:
                self.seen = event.seq
                self.tell(event)


@asynccontextmanager
async def _worker(database: Database) -> AsyncIterator[Worker]:
    """A worker that lives, as its lock says, until the block is left."""
    worker = Worker(database, _LEASE_SECONDS, _SLUG, version("windlass"))
    await worker.register()
    alive = await database.engine.connect()
    try:
        await alive.execution_options(isolation_level="AUTOCOMMIT")
        await alive.execute(text("SELECT pg_advisory_lock(:class, :id)"), {"class": LOCK_CLASS, "id": worker.id})
        yield worker
    finally:
        await alive.close()


def _of_ours(kind: Kind, name: str, spec: dict[str, Any]) -> Manifest:
    """A document that nobody wrote."""
    return Manifest(kind, name, None, None, spec, "the rehearsal")


def _named(known: Mapping[str, int], name: Any, what: str) -> int | None:
    if name is None:
        return None
    if name not in known:
        message = f"there is no {what} '{name}' in what is rehearsed"
        raise NotFound(message, path=("spec", what))
    return known[name]
