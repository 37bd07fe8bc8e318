"""Batches: what many resolvers of one operation ask for, one statement fetches.

Siblings are resolved concurrently, so every batch opens its own short read. A loader remembers what it fetched until
the operation ends or something was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from app.db import models, pages
from app.db.pages import Count, Page, Window
from app.db.uow import Database
from app.domain.definitions.workflow import WorkflowDefinition, parse_workflow
from app.domain.errors import DomainError
from app.domain.estimating import Usual
from app.domain.limits import Usage
from app.domain.statuses import StepStatus
from app.reads import (
    accesses,
    approvals,
    audit,
    estimates,
    jobs,
    limits,
    plans,
    policies,
    resources,
    roles,
    steps,
    templates,
    tenants,
    triggers,
    upstream,
    webhooks,
    workflows,
)
from app.reads.rows import Relation
from schema.symbols import NotExpressible, SymbolicLoader, Tracing

Found = TypeVar("Found")
Answer = TypeVar("Answer")
Fetch = Callable[[AsyncSession, int, Sequence[int]], Awaitable[Mapping[int, Found]]]

_MAX_BATCH = 1000
# The loader of whatever has a global id, by its type.
_BY_TYPE = {
    "ApiToken": "token",
    "CloudResource": "resource",
    "CustomRole": "role",
    "DeploymentPlan": "plan",
    "OrchestrationJob": "job",
    "PlatformAccess": "platform_access",
    "Policy": "policy",
    "ProviderConnection": "connection",
    "ResourceTemplate": "template",
    "ServiceAccount": "service_account",
    "StepRun": "step_run",
    "TemplateRevision": "revision",
    "Tenant": "tenant",
    "User": "user",
    "Webhook": "webhook",
    "WebhookDelivery": "webhook_delivery",
    "Workflow": "workflow",
    "WorkflowStep": "live_workflow_step",
}


def of_type(kind: str) -> str | None:
    """What the loader of a type is called whose objects have global ids; None for another type."""
    return _BY_TYPE.get(kind)


class Loaders:
    """The loaders of one operation of one tenant. `load(id)` gives the row, or None for what is not there."""

    def __init__(self, database: Database, tenant_id: int) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._made: dict[Hashable, DataLoader[int, Any]] = {}

    def of_type(self, kind: str) -> DataLoader[int, Any] | None:
        """The loader of the objects of a type that have global ids; None for another type."""
        name = of_type(kind)
        return None if name is None else getattr(self, name)

    def made(self, key: Hashable, make: Callable[[], DataLoader[int, Any]]) -> DataLoader[int, Any]:
        """The loader under `key`, or else the one that `make` gives; forgotten with the others."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def forget(self) -> None:
        """What was fetched may have changed."""
        self._made.clear()

    @property
    def tenant(self) -> DataLoader[int, models.Tenant | None]:
        return self._optional(tenants.by_ids)

    @property
    def user(self) -> DataLoader[int, models.User | None]:
        return self._optional(tenants.users_by_ids)

    @property
    def actor(self) -> DataLoader[int, models.User | None]:
        return self._optional(tenants.actors_by_ids)

    @property
    def token(self) -> DataLoader[int, models.ApiToken | None]:
        return self._optional(tenants.tokens_by_ids)

    @property
    def connection(self) -> DataLoader[int, models.ProviderConnection | None]:
        return self._optional(tenants.connections_by_ids)

    @property
    def audit_seal(self) -> DataLoader[int, models.AuditSeal | None]:
        """By entry."""
        return self._optional(audit.seals_of)

    @property
    def policy(self) -> DataLoader[int, models.Policy | None]:
        return self._optional(policies.by_ids)

    @property
    def platform_access(self) -> DataLoader[int, models.PlatformAccess | None]:
        return self._optional(accesses.by_ids)

    @property
    def service_account(self) -> DataLoader[int, models.User | None]:
        return self._optional(tenants.service_accounts_by_ids)

    @property
    def service_actor(self) -> DataLoader[int, models.User | None]:
        """Also deleted ones: as authors of what happened."""
        return self._optional(tenants.service_actors_by_ids)

    @property
    def role(self) -> DataLoader[int, models.CustomRole | None]:
        return self._optional(roles.by_ids)

    @property
    def webhook(self) -> DataLoader[int, models.WebhookEndpoint | None]:
        return self._optional(webhooks.by_ids)

    @property
    def webhook_delivery(self) -> DataLoader[int, models.WebhookDelivery | None]:
        return self._optional(webhooks.deliveries_by_ids)

    @property
    def workflow(self) -> DataLoader[int, models.Workflow | None]:
        return self._optional(workflows.by_ids)

    @property
    def workflow_definition(self) -> DataLoader[int, WorkflowDefinition | None]:
        """By workflow: its document, or None when it makes no sense."""
        return self._optional(_definitions)

    @property
    def workflow_step(self) -> DataLoader[int, models.WorkflowStep | None]:
        """Also deleted ones: what a run referred to."""
        return self._optional(workflows.steps_by_ids)

    @property
    def live_workflow_step(self) -> DataLoader[int, models.WorkflowStep | None]:
        return self._optional(workflows.live_steps_by_ids)

    @property
    def workflow_steps(self) -> DataLoader[int, list[models.WorkflowStep]]:
        """By workflow."""
        return self._listed(workflows.steps_of)

    @property
    def template(self) -> DataLoader[int, models.ResourceTemplate | None]:
        return self._optional(templates.by_ids)

    @property
    def revision(self) -> DataLoader[int, models.TemplateRevision | None]:
        return self._optional(templates.revisions_by_ids)

    @property
    def plan(self) -> DataLoader[int, models.DeploymentPlan | None]:
        return self._optional(plans.by_ids)

    @property
    def plan_resources(self) -> DataLoader[int, list[models.CloudResource]]:
        """By plan."""
        return self._listed(plans.resources_of)

    @property
    def plan_upstream(self) -> DataLoader[int, list[models.DeploymentPlan]]:
        """By plan: what it depends on."""
        return self._listed(upstream.of_plans)

    @property
    def plan_unmet(self) -> DataLoader[int, list[models.DeploymentPlan]]:
        """By plan: what it still waits for."""
        return self._listed(upstream.unmet)

    @property
    def plan_reviews(self) -> DataLoader[int, list[models.Approval]]:
        """By plan, the newest last."""
        return self._listed(approvals.of_plans)

    @property
    def trigger(self) -> DataLoader[int, models.PlanTrigger | None]:
        """By run of a standing plan: what made it."""
        return self._optional(triggers.of_runs)

    @property
    def last_trigger(self) -> DataLoader[int, models.PlanTrigger | None]:
        """By standing plan."""
        return self._optional(triggers.latest)

    @property
    def stack_changed_at(self) -> DataLoader[int, datetime | None]:
        """By plan: when a resource of its stack was last written."""
        return self._optional(plans.stacks_changed_at)

    @property
    def job(self) -> DataLoader[int, models.OrchestrationJob | None]:
        return self._optional(jobs.by_ids)

    @property
    def step_run(self) -> DataLoader[int, models.StepRun | None]:
        return self._optional(steps.by_ids)

    @property
    def job_steps(self) -> DataLoader[int, list[models.StepRun]]:
        """By job."""
        return self._listed(steps.of_jobs)

    @property
    def job_step_statuses(self) -> DataLoader[int, Counter[StepStatus]]:
        """By job."""
        return self._loader(steps.statuses_of, Counter)

    @property
    def step_attempts(self) -> DataLoader[int, list[models.StepAttempt]]:
        """By step run."""
        return self._listed(steps.attempts_of)

    @property
    def step_gate(self) -> DataLoader[int, models.Gate | None]:
        """By step run."""
        return self._optional(steps.gates_of)

    @property
    def queue_place(self) -> DataLoader[int, jobs.Place | None]:
        """By queued job: its place among those that wait for its stack. None: nothing stands in its way."""
        return self._optional(jobs.queue_places)

    @property
    def queue_turn(self) -> DataLoader[int, int | None]:
        """By queued job: its place among those of the tenant that wait for room. None: it does not."""
        return self._optional(jobs.turns)

    @property
    def unattended(self) -> DataLoader[int, bool | None]:
        """By job: True where it could begin and there is no worker."""
        return self._optional(jobs.unattended)

    @property
    def completion(self) -> DataLoader[int, datetime | None]:
        """By job under way: when it will be over, where that can be told."""
        return self._optional(estimates.completions)

    @property
    def usual_seconds(self) -> DataLoader[int, Usual | None]:
        """By tenant: how long its steps take."""
        return self._optional(estimates.usual_of_tenants)

    @property
    def quotas(self) -> DataLoader[int, list[Usage] | None]:
        """By tenant."""
        return self._optional(limits.usages)

    @property
    def resource(self) -> DataLoader[int, models.CloudResource | None]:
        return self._optional(resources.by_ids)

    @property
    def resource_needs(self) -> DataLoader[int, list[models.CloudResource]]:
        """By resource: what it was applied against."""
        return self._listed(resources.depended_on_by)

    @property
    def resource_dependents(self) -> DataLoader[int, list[models.CloudResource]]:
        """By resource: what was applied against it."""
        return self._listed(resources.depending_on)

    @property
    def lock_holder(self) -> DataLoader[int, int | None]:
        """By resource: the id of the job that holds it."""
        return self._optional(resources.lock_holders)

    def page(self, relation: Relation[Found], window: Window) -> DataLoader[int, Page[Found]]:
        """Pages of children by parent. Raises Invalid and LimitExceeded for an impossible window, when loaded."""

        async def fetch(session: AsyncSession, _: int, ids: Sequence[int]) -> Mapping[int, Page[Found]]:
            return await pages.fetch_nested(session, relation.query, relation.parent, ids, relation.order, window)

        return self._loader(fetch, _absent, key=("page", relation.key, window))

    def count(self, relation: Relation[Any]) -> DataLoader[int, Count]:
        """Bounded numbers of children by parent."""

        async def fetch(session: AsyncSession, _: int, ids: Sequence[int]) -> Mapping[int, Count]:
            return await pages.count_nested(session, relation.query, relation.parent, ids)

        return self._loader(fetch, _absent, key=("count", relation.key))

    def by(self, key: Hashable, fetch: Fetch[Found]) -> DataLoader[int, Found]:
        """A loader of `fetch`, which answers for every id; `key` tells it from every other one."""
        return self._loader(fetch, _absent, key=key)

    def _optional(self, fetch: Fetch[Found]) -> DataLoader[int, Found | None]:
        return self._loader(fetch, _none)

    def _listed(self, fetch: Fetch[list[Found]]) -> DataLoader[int, list[Found]]:
        return self._loader(fetch, list)

    def _loader(
        self, fetch: Fetch[Found], absent: Callable[[], Answer], *, key: Hashable = None
    ) -> DataLoader[int, Any]:
        key = fetch if key is None else key
        if key not in self._made:

            async def load(ids: list[int]) -> list[Found | Answer]:
                async with self._database.read(self._tenant_id) as session:
                    found = await fetch(session, self._tenant_id, ids)
                return [found[number] if number in found else absent() for number in ids]

            self._made[key] = DataLoader(load_fn=load, max_batch_size=_MAX_BATCH)
        return self._made[key]


class TracingLoaders(Loaders):
    """Loaders that fetch nothing, and tell what they would."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def _optional(self, fetch: Fetch[Found]) -> Any:
        return SymbolicLoader(self._tracing, fetch, many=False)

    def _listed(self, fetch: Fetch[list[Found]]) -> Any:
        return SymbolicLoader(self._tracing, fetch, many=True)

    def _loader(self, *_: Any, **__: Any) -> Any:
        message = "a loader of something else than rows"
        raise NotExpressible(message)


async def _definitions(session: AsyncSession, tenant_id: int, ids: Sequence[int]) -> dict[int, WorkflowDefinition]:
    found = {}
    for number, row in (await workflows.by_ids(session, tenant_id, ids)).items():
        with suppress(DomainError):
            found[number] = parse_workflow(row.definition)
    return found


def _none() -> None:
    return None


def _absent() -> None:
    message = "a batch answers for every id that it was asked for"
    raise LookupError(message)
