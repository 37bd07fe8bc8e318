"""What is found out before anything is done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.db.models import DeploymentPlan, OrchestrationJob
from app.domain.enums import PlanType
from app.domain.errors import Diagnostic, Severity, TypeMismatch
from app.domain.statuses import JobStatus
from app.engine import preflighting
from app.providers.base import Context, ErrorKind, ProviderError, ResourceType
from app.providers.core.note import NoteType
from app.providers.core.provider import CoreProvider
from app.providers.preflights import PreflightRequest
from app.providers.registry import Registry
from app.services import plans
from app.services.plans import CreatePlan, ExecutePlan
from tests.engine.harness import Workshop, note

KEY = "preflight:core"


class AskedNote(NoteType):
    """A note whose text says what comes of asking about it."""

    def __init__(self) -> None:
        self.asked: dict[str, PreflightRequest] = {}
        self.at_once = self.most_at_once = 0

    async def preflight(self, context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
        self.asked[context.owner] = request
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0)
            return await self._say(request.properties.get("text", ""))
        finally:
            self.at_once -= 1

    async def _say(self, text: str) -> Sequence[Diagnostic]:
        match text:
            case "forbidden":
                return [Diagnostic(Severity.ERROR, "NO_PAPER", "there is no paper", ("text",))]
            case "away":
                raise ProviderError(ErrorKind.UNAVAILABLE, "nobody answers")
            case "denied":
                raise ProviderError(ErrorKind.ACCESS_DENIED, "you may not", path=("name",))
            case "never":
                await asyncio.Event().wait()
            case "bug":
                raise ZeroDivisionError
        return ()


class AskedCore(CoreProvider):
    def __init__(self) -> None:
        self.notes = AskedNote()

    def types(self) -> Sequence[ResourceType]:
        return (self.notes,)


@pytest.fixture
async def asked(workshop: Workshop) -> AskedNote:
    """The workshop's notes are of this type."""
    provider = AskedCore()
    workshop.registry = Registry([provider])
    workshop.runners.clear()
    await workshop.hire()
    return provider.notes


async def _plan(workshop: Workshop, resources: dict[str, Any], **more: Any) -> DeploymentPlan:
    template = await workshop.template({"resources": resources}, f"template-{id(resources)}")
    command = CreatePlan(
        **{"name": "plan", "type": PlanType.IMMEDIATE, "template_revision_id": template, "stack": "stack", **more}
    )
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        return await plans.create(transaction, workshop.principal, command, workshop.dependencies)


async def _done(workshop: Workshop, resources: dict[str, Any], **more: Any) -> OrchestrationJob:
    plan = await _plan(workshop, resources, **more)
    assert plan.last_job_id is not None
    return await workshop.settle(plan.last_job_id)


async def _findings(workshop: Workshop) -> dict[str, tuple[str, str]]:
    (row,) = await workshop.rows("SELECT outputs FROM step_run WHERE step_key = :key", key=KEY)
    return {".".join(found["path"]): (found["severity"], found["code"]) for found in row.outputs["findings"]}


async def test_what_stands_in_the_way_ends_the_job_before_its_first_effect(
    workshop: Workshop, asked: AskedNote
) -> None:
    resources = {"a": note("a"), "b": note("b", "forbidden"), "c": note("c", "denied")}
    job = await _done(workshop, resources)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["stepKey"], job.error["code"], job.error["retryable"]) == (KEY, "PREFLIGHT", False)
    assert job.error["message"] == (
        "resources.b.properties.text: there is no paper; resources.c.properties.name: you may not"
    )
    assert workshop.notes() == {}
    assert await workshop.steps(job.id) == {KEY: "FAILED", "a": "BLOCKED", "b": "BLOCKED", "c": "BLOCKED"}
    assert set(asked.asked) == {f"windlass:acme:stack:{key}" for key in "abc"}
    (row,) = await workshop.rows("SELECT count(*) AS n FROM step_run WHERE touched")
    assert row.n == 0


async def test_what_the_job_itself_may_remedy_is_only_warned_about(workshop: Workshop, asked: AskedNote) -> None:
    resources = {
        "a": note("a"),
        "b": note("b", "forbidden", needs=["a"]),
        "c": {**note("c", "forbidden"), "when": "${true}"},
        "d": note("d", "${resources.a.outputs.checksum}"),
    }
    job = await _done(workshop, resources)
    assert job.status is JobStatus.SUCCEEDED
    path = "resources.{}.properties.text"
    assert await _findings(workshop) == {path.format(key): ("WARN", "NO_PAPER") for key in "bc"}
    request = asked.asked["windlass:acme:stack:d"]
    assert request.unknown == {"text"}
    assert "text" not in request.properties


@pytest.mark.usefixtures("asked")
async def test_what_cannot_be_found_out_stops_nobody(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflighting, "ASKING_SECONDS", 0.05)
    job = await _done(workshop, {"a": note("a", "away"), "b": note("b", "never"), "c": note("c", "bug")})
    assert job.status is JobStatus.SUCCEEDED
    assert await _findings(workshop) == {f"resources.{key}": ("WARN", "NOT_ASKED") for key in "abc"}


async def test_so_many_are_asked_at_a_time_and_no_more(workshop: Workshop, asked: AskedNote) -> None:
    job = await _done(workshop, {f"n{number}": note(f"n{number}") for number in range(30)})
    assert job.status is JobStatus.SUCCEEDED
    assert (len(asked.asked), asked.most_at_once) == (30, preflighting.AT_A_TIME)


async def test_nobody_is_asked_about_what_stays_nor_where_that_is_switched_off_nor_in_simulations(
    workshop: Workshop, asked: AskedNote
) -> None:
    off = {"preflight": False}
    job = await _done(workshop, {"a": note("a", "forbidden")}, configuration=off)
    assert (job.status, await workshop.steps(job.id)) == (JobStatus.SUCCEEDED, {"a": "SUCCEEDED"})
    assert asked.asked == {}
    job = await _done(workshop, {"a": note("a", "forbidden"), "b": note("b")})
    assert job.status is JobStatus.SUCCEEDED
    assert set(asked.asked) == {"windlass:acme:stack:b"}
    asked.asked.clear()
    plan = await _plan(workshop, {"z": note("z", "forbidden")}, type=PlanType.MANUAL, stack="other")
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        command = ExecutePlan(plan.id, simulate=True)
        simulated = await plans.execute(transaction, workshop.principal, command, workshop.dependencies)
    assert (await workshop.settle(simulated.id)).status is JobStatus.SUCCEEDED
    assert asked.asked == {}


@pytest.mark.usefixtures("asked")
async def test_the_preview_shows_it_and_the_switch_is_a_boolean(workshop: Workshop) -> None:
    plan = await _plan(workshop, {"a": note("a")}, type=PlanType.MANUAL)
    assert plan.preview is not None
    assert [(change["key"], change["action"], change["wave"]) for change in plan.preview["changes"]] == [
        (KEY, "RUN", 0),
        ("a", "CREATE", 1),
    ]
    without = await _plan(
        workshop, {"a": note("a")}, name="without", type=PlanType.MANUAL, configuration={"preflight": False}
    )
    assert without.preview_hash == plan.preview_hash
    with pytest.raises(TypeMismatch) as refused:
        await _plan(workshop, {"b": note("b")}, configuration={"preflight": "no"})
    assert refused.value.path == ("configuration", "preflight")
