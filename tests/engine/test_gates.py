"""Gates: a step asks, holds nothing, and is answered once; or its time passes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from app.auth.principal import Principal
from app.db.uow import SystemRole
from app.domain.enums import FailureStrategy, Permission, StatusReason, StepAction
from app.domain.errors import Forbidden, IllegalState, Invalid, NotFound, Required
from app.domain.statuses import JobStatus, PlanStatus
from app.engine.ticking import tick
from app.providers.base import ErrorKind
from app.providers.faults import Fault, FaultKind
from app.reads import plans as plan_reads
from app.reads.filters import PlanFilter, Reviewer
from app.services import gates, plans, steps
from app.services.gates import AnswerGate, DelegateGate
from app.services.plans import PlanAction
from app.services.steps import DecideStep
from tests.engine.conftest import Open
from tests.engine.harness import Workshop, note
from tests.engine.test_pausing import act, locks, until
from tests.engine.test_rollback import FAILING

FORM = {
    "type": "object",
    "properties": {"size": {"type": "integer", "minimum": 1}},
    "required": ["size"],
    "additionalProperties": False,
}


def ask(kind: str = "INPUT", **gate: Any) -> dict[str, Any]:
    given = {"kind": kind, "prompt": "how large?", **({"inputSchema": FORM} if kind == "INPUT" else {}), **gate}
    return {"key": "ask", "type": "CUSTOM", "gate": given}


def made(size: str = "${string(steps.ask.outputs.size)}") -> dict[str, Any]:
    """A step that writes down what was answered."""
    return {
        "key": "made",
        "type": "RESOURCE_CREATE",
        "configuration": {"type": "core.note"},
        "inputs": {"name": "made", "text": size},
    }


async def asked(workshop: Workshop, *flow: dict[str, Any], strategy: FailureStrategy = FailureStrategy.ROLLBACK) -> int:
    """A job that rests at its gate."""
    job_id = await workshop.submit(workflow=await workshop.workflow(*flow), strategy=strategy)
    await until(workshop, job_id, JobStatus.PAUSED)
    return job_id


async def failing(workshop: Workshop) -> dict[str, Any]:
    """A step whose note's name belongs to another stack already."""
    template = await workshop.template({"resources": {"t": note("taken", "theirs")}})
    await workshop.settle(await workshop.submit(template, stack="other"))
    return {**made("x"), "key": "bad", "inputs": {"name": "taken", "text": "x"}}


async def step_id(workshop: Workshop, job_id: int, key: str = "ask") -> int:
    (row,) = await workshop.rows("SELECT id FROM step_run WHERE job_id = :job AND step_key = :key", job=job_id, key=key)
    return int(row.id)


async def pass_deadlines(workshop: Workshop) -> None:
    """The deadlines of all gates and pauses are over."""
    async with workshop.database.write(workshop.tenant_id, actor="test", correlation_id="test") as transaction:
        transaction.authorize("test")
        for statement in (
            "UPDATE gate SET deadline_at = clock_timestamp() - interval '1 second'",
            "UPDATE orchestration_job SET pause_until = now() - interval '1 second' WHERE pause_until IS NOT NULL",
        ):
            await transaction.session.execute(text(statement))


async def test_an_answer_becomes_the_outputs_of_its_step(workshop: Workshop) -> None:
    job_id = await asked(workshop, ask(), made())
    job, plan = await workshop.job(job_id), await workshop.plan_of(job_id)
    assert (job.status_reason, plan.status, plan.status_reason) == (
        StatusReason.GATE,
        PlanStatus.PAUSED,
        StatusReason.GATE,
    )
    held = await workshop.rows("SELECT 1 FROM step_run WHERE worker_id IS NOT NULL OR due_at IS NOT NULL")
    assert (await workshop.steps(job_id), held) == ({"ask": "WAITING", "made": "PENDING"}, [])
    with pytest.raises(IllegalState):
        await act(workshop, plans.resume, PlanAction(plan.id))
    number = await step_id(workshop, job_id)
    for wrong, path in (({}, ("answer", "size")), ({"size": 0}, ("answer", "size"))):
        with pytest.raises(Invalid) as refused:
            await act(workshop, gates.answer, AnswerGate(number, answer=wrong))
        assert refused.value.path == path
    await act(workshop, gates.answer, AnswerGate(number, answer={"size": 3}, comment="large enough"))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert (workshop.notes(), await locks(workshop)) == ({"made": "3"}, [])
    (gate,) = await workshop.rows("SELECT answer, answered_by, comment, approved FROM gate")
    assert tuple(gate) == ({"size": 3}, workshop.principal.actor, "large enough", True)
    with pytest.raises(IllegalState):
        await act(workshop, gates.answer, AnswerGate(number, answer={"size": 4}))


async def test_other_branches_go_on_while_a_gate_waits(workshop: Workshop) -> None:
    aside = {**made("x"), "key": "aside", "order": 1, "inputs": {"name": "aside", "text": "x"}}
    job_id = await asked(workshop, {**ask(), "order": 1}, aside, {**made(), "order": 2})
    assert await workshop.steps(job_id) == {"ask": "WAITING", "aside": "SUCCEEDED", "made": "PENDING"}


async def test_only_one_of_two_answers_counts(workshop: Workshop) -> None:
    job_id = await asked(workshop, ask(), made())
    number = await step_id(workshop, job_id)
    answers = await asyncio.gather(
        *(act(workshop, gates.answer, AnswerGate(number, answer={"size": size})) for size in (1, 2)),
        return_exceptions=True,
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["IllegalState", "OrchestrationJob"]
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    (gate,) = await workshop.rows("SELECT answer FROM gate")
    assert workshop.notes() == {"made": str(gate.answer["size"])}


async def test_a_deadline_and_an_answer_do_not_both_count(workshop: Workshop) -> None:
    job_id = await asked(workshop, ask(onTimeout="HALT"), made())
    number = await step_id(workshop, job_id)
    await pass_deadlines(workshop)
    answer: Any
    ticked: Any
    answer, ticked = await asyncio.gather(
        act(workshop, gates.answer, AnswerGate(number, answer={"size": 1})),
        tick(workshop.database, ring_again_seconds=0),
        return_exceptions=True,
    )
    assert not isinstance(ticked, BaseException)
    job = await workshop.settle(job_id)
    told = await workshop.rows(
        "SELECT data->>'status' AS status FROM event_log WHERE data->>'stepKey' = 'ask'"
        " AND data->>'previous' = 'WAITING'"
    )
    if isinstance(answer, IllegalState):
        assert (job.status, [row.status for row in told]) == (JobStatus.FAILED, ["FAILED"])
    else:
        assert (job.status, [row.status for row in told]) == (JobStatus.SUCCEEDED, ["READY"])


@pytest.mark.parametrize(
    ("on_timeout", "status", "notes"),
    [
        ("HALT", JobStatus.FAILED, {"first"}),
        ("ROLLBACK", JobStatus.ROLLED_BACK, set()),
        ("CONTINUE", JobStatus.PARTIALLY_SUCCEEDED, {"first"}),
    ],
)
async def test_nobody_answers(workshop: Workshop, on_timeout: str, status: JobStatus, notes: set[str]) -> None:
    first = {**made("x"), "key": "first", "inputs": {"name": "first"}}
    job_id = await asked(workshop, first, ask(onTimeout=on_timeout), made(), strategy=FailureStrategy.HALT)
    await pass_deadlines(workshop)
    await tick(workshop.database, ring_again_seconds=0)
    job = await workshop.settle(job_id)
    assert (job.status, set(workshop.notes()), await locks(workshop)) == (status, notes, [])
    (row,) = await workshop.rows("SELECT status_reason, error->>'code' AS code FROM step_run WHERE step_key = 'ask'")
    assert tuple(row) == ("APPROVAL_TIMEOUT", "GATE_TIMEOUT")


async def test_a_timer_fires_by_itself(workshop: Workshop) -> None:
    timer = {"key": "ask", "type": "CUSTOM", "gate": {"kind": "TIMER", "deadline": "PT1H"}}
    job_id = await asked(workshop, timer, made("x"))
    with pytest.raises(Invalid):
        await act(workshop, gates.answer, AnswerGate(await step_id(workshop, job_id), approve=True))
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.steps(job_id))["ask"] == "WAITING"
    await pass_deadlines(workshop)
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_rejection_fails_the_step_and_the_strategy_decides(workshop: Workshop) -> None:
    first = {**made("x"), "key": "first", "inputs": {"name": "first"}}
    job_id = await asked(workshop, first, ask("APPROVAL"), made("x"))
    number = await step_id(workshop, job_id)
    with pytest.raises(Required):
        await act(workshop, gates.answer, AnswerGate(number))
    await act(workshop, gates.answer, AnswerGate(number, approve=False, comment="not today"))
    job = await workshop.settle(job_id)
    assert (job.status, job.error_message) == (JobStatus.ROLLED_BACK, "ask: rejected: not today")
    assert workshop.notes() == {}


async def test_who_may_answer(workshop: Workshop) -> None:
    job_id = await asked(workshop, ask("APPROVAL", approvers=["a@acme.test"]), made("x"))
    number, named = await step_id(workshop, job_id), workshop.principal
    workshop.principal = replace(named, user_id=named.user_id + 1000)
    with pytest.raises(Forbidden):
        await act(workshop, gates.answer, AnswerGate(number, approve=True))
    workshop.principal = replace(named, permissions=frozenset({Permission.READ}))
    await act(workshop, gates.answer, AnswerGate(number, approve=True))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED


async def test_a_pause_outlasts_the_answer(workshop: Workshop) -> None:
    """Somebody pauses a job while a gate waits beside a running step: the answer is kept, and nothing starts."""
    aside = {"key": "aside", "type": "CUSTOM", "order": 1, "configuration": {"task": "core.wait"}}
    flow = ({**ask(), "order": 1}, {**aside, "inputs": {"seconds": 1}}, {**made(), "order": 2})
    job_id = await workshop.submit(workflow=await workshop.workflow(*flow))
    working = asyncio.create_task(workshop.answer())
    async with asyncio.timeout(10):
        while not {"ask": "WAITING", "aside": "RUNNING"}.items() <= (await workshop.steps(job_id)).items():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    plan = await workshop.plan_of(job_id)
    await act(workshop, plans.pause, PlanAction(plan.id))
    await act(workshop, gates.answer, AnswerGate(await step_id(workshop, job_id), answer={"size": 2}))
    await working
    await until(workshop, job_id, JobStatus.PAUSED)
    for _ in range(2):
        await tick(workshop.database, ring_again_seconds=0)
        await workshop.answer()
    assert (await workshop.steps(job_id))["ask"] == "READY"
    await act(workshop, plans.resume, PlanAction(plan.id))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert workshop.notes() == {"made": "2"}


async def test_a_paused_failure_is_retried_with_other_inputs(workshop: Workshop) -> None:
    bad = await failing(workshop)
    job_id = await asked(workshop, bad, {**made("x")}, strategy=FailureStrategy.PAUSE)
    job = await workshop.job(job_id)
    assert (job.status_reason, await workshop.steps(job_id)) == (
        StatusReason.STEP_FAILED,
        {"bad": "FAILED", "made": "BLOCKED"},
    )
    number, plan = await step_id(workshop, job_id, "bad"), await workshop.plan_of(job_id)
    with pytest.raises(IllegalState):
        await act(workshop, plans.resume, PlanAction(plan.id))
    with pytest.raises(Invalid) as refused:
        await act(workshop, steps.decide, DecideStep(number, StepAction.RETRY, {"name": 5}))
    assert refused.value.path == ("inputs", "name")
    with pytest.raises(Invalid):
        await act(workshop, steps.decide, DecideStep(number, StepAction.RETRY, {"text": "${steps.made.outputs.x}"}))
    await act(workshop, steps.decide, DecideStep(number, StepAction.RETRY, {"name": "good"}))
    job = await workshop.settle(job_id)
    assert (job.status, job.error, workshop.notes()) == (
        JobStatus.SUCCEEDED,
        None,
        {"taken": "theirs", "good": "x", "made": "x"},
    )


async def test_a_paused_failure_is_skipped(workshop: Workshop) -> None:
    bad = await failing(workshop)
    job_id = await asked(workshop, bad, made("x"), strategy=FailureStrategy.PAUSE)
    number = await step_id(workshop, job_id, "bad")
    await act(workshop, steps.decide, DecideStep(number, StepAction.SKIP))
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert await workshop.steps(job_id) == {"bad": "SKIPPED", "made": "SUCCEEDED"}


async def test_what_a_skipped_failure_has_left_is_undone_by_a_later_rollback(open_workshop: Open) -> None:
    """Its answer was lost and could not be asked for: the note is there, and nobody knew when the step was skipped."""
    lost, broken = Fault(FaultKind.DROP_AFTER), Fault(FaultKind.ERROR, error=ErrorKind.ACCESS_DENIED)
    workshop = await open_workshop({"create": [lost], "recover": [broken]})
    first = {**made("x"), "key": "first", "order": 1, "inputs": {"name": "first"}}
    then = {**made("x"), "key": "then", "order": 2, "inputs": {"name": "then"}}
    failure = {**FAILING, "errorHandling": {"strategy": "ROLLBACK"}}
    job_id = await asked(workshop, first, then, failure, strategy=FailureStrategy.PAUSE)
    assert await workshop.steps(job_id) == {"first": "FAILED", "then": "BLOCKED", "fail": "BLOCKED"}
    await act(workshop, steps.decide, DecideStep(await step_id(workshop, job_id, "first"), StepAction.SKIP))
    job = await workshop.settle(job_id)
    assert (job.status, workshop.notes()) == (JobStatus.ROLLED_BACK, {})
    assert await workshop.steps(job_id) == {"first": "COMPENSATED", "then": "COMPENSATED", "fail": "FAILED"}
    undone = await workshop.rows(
        "SELECT data->>'stepKey' AS key FROM event_log WHERE kind = 'StepStatusChanged'"
        " AND data->>'status' = 'COMPENSATED' ORDER BY seq"
    )
    assert [row.key for row in undone] == ["then", "first"]


async def test_a_pause_that_nobody_ends_falls_back(workshop: Workshop) -> None:
    bad = await failing(workshop)
    first = {**made("x"), "key": "first", "inputs": {"name": "first"}}
    job_id = await asked(workshop, first, bad, strategy=FailureStrategy.PAUSE)
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.job(job_id)).status is JobStatus.PAUSED
    await pass_deadlines(workshop)
    await tick(workshop.database, ring_again_seconds=0)
    job = await workshop.job(job_id)
    assert (job.status, (await workshop.plan_of(job_id)).status) == (JobStatus.FAILED, PlanStatus.FAILED)
    assert (set(workshop.notes()), await locks(workshop)) == ({"first", "taken"}, [])


async def test_a_fallback_may_undo(workshop: Workshop) -> None:
    bad = await failing(workshop)
    first = {**made("x"), "key": "first", "inputs": {"name": "first"}}
    job_id = await asked(workshop, first, bad, strategy=FailureStrategy.PAUSE)
    async with workshop.database.system(SystemRole.TICK) as transaction:
        await transaction.session.execute(
            text('UPDATE orchestration_job SET configuration = configuration || \'{"pause": {"then": "ROLLBACK"}}\'')
        )
    await pass_deadlines(workshop)
    await tick(workshop.database, ring_again_seconds=0)
    assert (await workshop.settle(job_id)).status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {"taken": "theirs"}


async def person(workshop: Workshop, email: str) -> Principal:
    """Somebody of the tenant who may only read."""
    async with workshop.database.write(workshop.tenant_id, actor="user:1", correlation_id="test") as transaction:
        transaction.authorize("test")
        number = await transaction.session.scalar(
            text(
                "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES (:tenant, :email, 'X', 'VIEWER')"
                " RETURNING id"
            ),
            {"tenant": workshop.tenant_id, "email": email},
        )
    assert number is not None
    return replace(workshop.principal, user_id=number, permissions=frozenset({Permission.READ}))


async def as_(workshop: Workshop, who: Principal, verb: Any, command: Any) -> Any:
    async with workshop.database.write(workshop.tenant_id, actor=who.actor, correlation_id="test") as transaction:
        return await verb(transaction, who, command, workshop.dependencies)


async def waiting_for(workshop: Workshop, who: Principal) -> list[int]:
    """The plans that need their word."""
    may = Permission.APPROVE in who.permissions
    wanted = PlanFilter(reviewer=Reviewer(who.user_id, may, waited_for=True))
    async with workshop.database.read(workshop.tenant_id) as session:
        return [plan.id for plan in await session.scalars(plan_reads.listed(workshop.tenant_id, wanted))]


@pytest.mark.parametrize("named", [True, False])
async def test_whoever_may_answer_lets_somebody_else(workshop: Workshop, named: bool) -> None:
    deputy, other = await person(workshop, "deputy@acme.test"), await person(workshop, "other@acme.test")
    job_id = await asked(workshop, ask(approvers=["a@acme.test"] if named else []))
    step_id = (await workshop.rows("SELECT id FROM step_run"))[0].id
    plan_id = (await workshop.plan_of(job_id)).id
    given = AnswerGate(step_id, answer={"size": 2})
    assert [await waiting_for(workshop, who) for who in (workshop.principal, deputy)] == [[plan_id], []]
    with pytest.raises(Forbidden):
        await as_(workshop, deputy, gates.delegate, DelegateGate(step_id, other.user_id))
    with pytest.raises(Forbidden):
        await as_(workshop, deputy, gates.answer, given)
    await act(workshop, gates.delegate, DelegateGate(step_id, deputy.user_id, "I am away"))
    assert [await waiting_for(workshop, who) for who in (workshop.principal, deputy, other)] == [[plan_id]] * 2 + [[]]
    for again in (deputy.user_id, workshop.principal.user_id):
        with pytest.raises(Invalid):
            await act(workshop, gates.delegate, DelegateGate(step_id, again))
    with pytest.raises(NotFound):
        await act(workshop, gates.delegate, DelegateGate(step_id, 10**9))
    (event,) = await workshop.rows("SELECT actor, data FROM event_log WHERE kind = 'GateDelegated'")
    told = {"jobId": job_id, "stepRunId": step_id, "stepKey": "ask", "to": deputy.actor, "comment": "I am away"}
    assert (event.actor, event.data) == (workshop.principal.actor, told)
    await as_(workshop, deputy, gates.answer, given)
    assert (await workshop.settle(job_id)).status is JobStatus.SUCCEEDED
    assert [await waiting_for(workshop, who) for who in (workshop.principal, deputy)] == [[], []]
    (gate,) = await workshop.rows("SELECT answered_by, delegations FROM gate")
    (kept,) = gate.delegations
    assert (gate.answered_by, kept["from"], kept["to"]) == (deputy.actor, workshop.principal.actor, deputy.actor)
    with pytest.raises(IllegalState):
        await act(workshop, gates.delegate, DelegateGate(step_id, other.user_id))
