"""The engine in this process: real PostgreSQL, real files as resources, and workers that can be lost at will.

Doorbells go into a list instead of a broker. `settle` answers them and ticks until nothing is left to do; time that a
step waits for is skipped by making it due.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from app.auth.principal import Principal
from app.db.models import DeploymentPlan, OrchestrationJob, ResourceTemplate, TemplateRevision, Workflow
from app.db.sealing import Sealer
from app.db.uow import Database, Rings, SystemRole
from app.domain.enums import (
    DefinitionStatus,
    FailureStrategy,
    Permission,
    PlanType,
    Role,
    RollbackScope,
    TemplateType,
    WorkflowType,
)
from app.domain.statuses import JOB
from app.engine.claims import Claimer
from app.engine.connections import Connections
from app.engine.executor import Executor
from app.engine.liveness import Worker
from app.engine.recorder import Recorder
from app.engine.runner import Runner
from app.engine.ticking import tick
from app.messages import StepDue
from app.providers.base import ResourceType
from app.providers.core.provider import CoreProvider
from app.providers.faults import Fault, FaultyType
from app.providers.registry import Registry
from app.providers.sessions import Sessions
from app.services import plans
from app.services.dependencies import Dependencies
from app.services.plans import CreatePlan

SEALER = Sealer(bytes(range(32)))


class AccidentalCore(CoreProvider):
    """The provider `core` whose notes meet planned accidents."""

    def __init__(self, accidents: Mapping[str, Sequence[Fault | None]]) -> None:
        super().__init__()
        self.notes = FaultyType(next(kind for kind in super().types() if kind.name == "core.note"), accidents)

    def types(self) -> Sequence[ResourceType]:
        return (self.notes,)


@dataclass
class Workshop:
    """One tenant, one database, any number of workers."""

    database: Database
    tenant_id: int
    folder: Path
    provider: AccidentalCore
    registry: Registry
    principal: Principal
    rung: list[StepDue] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    @classmethod
    async def open(
        cls,
        database_url: str,
        tenant_id: int,
        user_id: int,
        folder: Path,
        accidents: Mapping[str, Sequence[Fault | None]] | None = None,
    ) -> Workshop:
        rung: list[StepDue] = []

        def after_commit(rings: Rings) -> None:
            rung.extend(rings.due)

        database = Database.connect(
            database_url, name="test-engine", pool_size=6, after_commit=after_commit, own_rings=lambda: 1_000_000
        )
        provider = AccidentalCore(accidents or {})
        principal = Principal(
            tenant_id, "acme", user_id, Role.ADMIN, frozenset(Permission), 1, datetime.now(UTC) + timedelta(hours=1)
        )
        workshop = cls(database, tenant_id, folder, provider, Registry([provider]), principal, rung)
        await workshop.hire()
        return workshop

    @property
    def dependencies(self) -> Dependencies:
        return Dependencies(self.registry, SEALER)

    async def hire(self) -> Runner:
        """One more worker."""
        worker = Worker(self.database, 30, f"worker-{len(self.workers) + 1}", "0")
        await worker.register()
        self.workers.append(worker)
        runner = Runner(
            self.database,
            Claimer(worker.id, self.registry, SEALER),
            Executor(self.registry),
            Recorder(self.registry, SEALER, lambda: 0.5),
            Connections(self.database, SEALER, Sessions(self.registry), {"core": {}}),
            self.folder,
        )
        self.runners.append(runner)
        return runner

    async def lose(self, worker: Worker) -> None:
        """The worker is gone: its lease is over."""
        async with self.database.system(SystemRole.TICK) as transaction:
            await transaction.session.execute(
                text("UPDATE worker SET lease_until = clock_timestamp() - interval '1 second' WHERE id = :id"),
                {"id": worker.id},
            )

    async def template(self, content: dict[str, Any], name: str = "template") -> int:
        """A published template; the id of its revision."""
        async with self.database.write(self.tenant_id, actor="user:1", correlation_id="test") as transaction:
            transaction.authorize("test")
            template = ResourceTemplate(
                tenant_id=self.tenant_id,
                template_name=name,
                template_type=TemplateType.CUSTOM,
                status=DefinitionStatus.PUBLISHED,
                template_content=content,
            )
            transaction.session.add(template)
            await transaction.session.flush()
            revision = TemplateRevision(
                tenant_id=self.tenant_id, template_id=template.id, number=1, content=content, checksum="0" * 64
            )
            transaction.session.add(revision)
            await transaction.session.flush()
            return revision.id

    async def workflow(self, *steps: dict[str, Any], name: str = "workflow") -> int:
        async with self.database.write(self.tenant_id, actor="user:1", correlation_id="test") as transaction:
            transaction.authorize("test")
            workflow = Workflow(
                tenant_id=self.tenant_id,
                workflow_name=name,
                workflow_type=WorkflowType.DEPLOYMENT,
                status=DefinitionStatus.PUBLISHED,
                definition={"steps": list(steps)},
            )
            transaction.session.add(workflow)
            await transaction.session.flush()
            return workflow.id

    async def submit(
        self,
        template: int | None = None,
        workflow: int | None = None,
        *,
        stack: str = "stack",
        strategy: FailureStrategy = FailureStrategy.ROLLBACK,
        scope: RollbackScope = RollbackScope.JOB,
        configuration: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> int:
        """A plan that runs at once; the id of its job."""
        async with self.database.write(
            self.tenant_id, actor=self.principal.actor, correlation_id="test"
        ) as transaction:
            plan = await plans.create(
                transaction,
                self.principal,
                CreatePlan(
                    name="plan",
                    type=PlanType.IMMEDIATE,
                    template_revision_id=template,
                    workflow_id=workflow,
                    parameters=parameters,
                    stack=stack,
                    failure_strategy=strategy,
                    rollback_scope=scope,
                    configuration=configuration,
                ),
                self.dependencies,
            )
            assert plan.last_job_id is not None, plan.status
            return plan.last_job_id

    async def settle(self, job_id: int, *, seconds: float = 20) -> OrchestrationJob:
        """Work until the job has ended."""
        async with asyncio.timeout(seconds):
            while True:
                await self.answer()
                job = await self.job(job_id)
                if job.status in JOB.closed:
                    return job
                await self.skip_time()
                await tick(self.database, ring_again_seconds=0)

    async def answer(self) -> None:
        """Answer every doorbell, side by side."""
        while self.rung:
            rings, self.rung[:] = list(self.rung), []
            runners = self.runners
            await asyncio.gather(*(runners[n % len(runners)].run(ring) for n, ring in enumerate(rings)))

    async def skip_time(self) -> None:
        """Whatever waits for its time is due now."""
        async with self.database.system(SystemRole.TICK) as transaction:
            await transaction.session.execute(
                text("UPDATE step_run SET due_at = clock_timestamp() WHERE due_at > clock_timestamp()")
            )

    async def job(self, job_id: int) -> OrchestrationJob:
        async with self.database.read(self.tenant_id) as session:
            return await session.get_one(OrchestrationJob, job_id)

    async def plan_of(self, job_id: int) -> DeploymentPlan:
        job = await self.job(job_id)
        async with self.database.read(self.tenant_id) as session:
            return await session.get_one(DeploymentPlan, job.plan_id)

    async def rows(self, statement: str, **values: Any) -> list[Any]:
        async with self.database.read(self.tenant_id) as session:
            return list((await session.execute(text(statement), values)).all())

    async def rows_written(self, statement: str, **values: Any) -> None:
        """Change rows behind the engine's back."""
        async with self.database.write(self.tenant_id, actor="user:1", correlation_id="test") as transaction:
            transaction.authorize("test")
            await transaction.session.execute(text(statement), values)

    async def steps(self, job_id: int) -> dict[str, str]:
        rows = await self.rows("SELECT step_key, status FROM step_run WHERE job_id = :job", job=job_id)
        return {row.step_key: row.status for row in rows}

    def notes(self) -> dict[str, str]:
        """What really exists: the text of each note by its name."""
        contents = [json.loads(path.read_text()) for path in self.folder.rglob("notes/**/*.json")]
        return {content["name"]: content["text"] for content in contents}

    async def close(self) -> None:
        await self.database.close()


def note(name: str, text_: str = "x", *, needs: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """A declared note."""
    return {"type": "core.note", "properties": {"name": name, "text": text_}, "dependsOn": list(needs), **more}
