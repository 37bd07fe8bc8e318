"""What must hold of every history, whatever was lost, killed, repeated or late while it was made.

Each invariant is one function from a `History` to the violations that it finds. They are asked after everything has
come to rest, by the crash points, the simulation and the chaos alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from app.domain.lifecycle import Lifecycle
from app.domain.statuses import JOB, PLAN, RESOURCE, ResourceStatus
from tests.engine.history import Event, History, Row

Invariant = Callable[[History], Iterator[str]]

_CLOSED = {status.value for status in JOB.closed}
_SATISFIED = {"SUCCEEDED", "NO_CHANGE", "SKIPPED"}
_WITHOUT_EFFECT = {"PENDING", "BLOCKED", "CANCELLED", "NO_CHANGE", "COMPENSATED", "COMPENSATION_SKIPPED"}
_REAL = {"ACTIVE"}
_PERHAPS = {"FAILED", "UNKNOWN"}


def every_job_ends(history: History) -> Iterator[str]:
    """I1. Every accepted job reaches a terminal status, and nothing of it is left to do."""
    for job in history.jobs:
        if job["status"] not in _CLOSED:
            yield f"job {job['id']} is {job['status']}"
            continue
        for step in history.steps_of[job["id"]].values():
            if step["due_at"] is not None:
                yield f"job {job['id']} has ended and its step {step['step_key']} is still due"


def each_step_succeeds_once(history: History) -> Iterator[str]:
    """I2. A step has at most one event that says it succeeded."""
    told = Counter(
        (event.job_id, event.data["stepKey"])
        for event in history.events
        if event.kind == "StepStatusChanged" and event.data["status"] in ("SUCCEEDED", "NO_CHANGE")
    )
    yield from (f"step {key} of job {job_id} succeeded {n} times" for (job_id, key), n in told.items() if n > 1)


def needs_come_first(history: History) -> Iterator[str]:
    """I3. No step is claimed before all that it needs has succeeded."""
    for job in history.jobs:
        steps = history.steps_of[job["id"]]
        for event, now in history.moves(job["id"]):
            if event.data["status"] != "RUNNING":
                continue
            for need in steps[event.data["stepKey"]]["needs"]:
                ignored = need in steps and steps[need]["ignored"] and now[need] == "FAILED"
                if need in steps and now[need] not in _SATISFIED and not ignored:
                    yield f"step {event.data['stepKey']} of job {job['id']} ran while {need} was {now[need]}"


def one_live_attempt(history: History) -> Iterator[str]:
    """I4. One attempt at a time has a step: each event begins where the last one ended, fences only grow."""
    for job in history.jobs:
        for event, now in history.moves(job["id"]):
            if event.data["previous"] != now[event.data["stepKey"]]:
                yield (
                    f"step {event.data['stepKey']} of job {job['id']} left {event.data['previous']} while it was"
                    f" {now[event.data['stepKey']]} (seq {event.seq})"
                )
    closed = {job["id"] for job in history.jobs if job["status"] in _CLOSED}
    for step in history.steps:
        if step["worker_id"] is not None and step["job_id"] in closed:
            yield f"step {step['step_key']} of ended job {step['job_id']} is still held by worker {step['worker_id']}"
    for one, next_one in pairwise(history.attempts):
        same = one["step_run_id"] == next_one["step_run_id"] and one["direction"] == next_one["direction"]
        if same and one["fence"] >= next_one["fence"]:
            yield f"attempt {next_one['number']} of step run {one['step_run_id']} has no newer fence"


def the_world_is_as_recorded(history: History) -> Iterator[str]:
    """I5. A job that succeeded left exactly its notes, one that was rolled back what was there before."""
    last: dict[tuple[int, str], Row] = {}
    for job in history.jobs:
        last[job["tenant_id"], job["stack"]] = job
    for place, job in last.items():
        found = dict(history.world.get(place, {}))
        wanted = history.wanted.get(job["id"])
        target = None
        if wanted is not None:
            target = {"SUCCEEDED": wanted.success, "ROLLED_BACK": wanted.rollback}.get(job["status"])
        if target is not None and found != dict(target):
            yield f"job {job['id']} is {job['status']}: there are {_brief(found)} instead of {_brief(target)}"
    yield from _unlike_the_record(history)


def _unlike_the_record(history: History) -> Iterator[str]:
    recorded: dict[tuple[int, str], dict[str, Row]] = {}
    for row in history.resources:
        if row["external_id"] is not None:
            recorded.setdefault((row["tenant_id"], row["stack"]), {})[row["external_id"]] = row
    doubted = {row["stack"] for row in history.resources if row["status"] in _PERHAPS}
    for place, notes in history.world.items():
        for name in notes:
            known = name in recorded.get(place, {})
            if not known and place[1] not in doubted:
                yield f"note {name} of stack {place[1]} exists and nobody knows of it"
    for place, rows in recorded.items():
        for name, row in rows.items():
            text = history.world.get(place, {}).get(name)
            if row["status"] in _REAL and text != row["text"]:
                yield f"note {name} of stack {place[1]} is recorded as {row['text']!r} and is {text!r}"


def no_way_forward_after_rollback(history: History) -> Iterator[str]:
    """I6. Once a job rolls back, none of its steps is claimed to go forward."""
    yield from _claims_after(history, "ROLLING_BACK")


def undone_in_reverse(history: History) -> Iterator[str]:
    """I7. A step is undone only when everything that depends on it, however far, has no effect left."""
    for job in history.jobs:
        steps = history.steps_of[job["id"]]
        behind = _dependents(steps)
        for event, now in history.moves(job["id"]):
            if event.data["status"] != "COMPENSATING" or event.data["previous"] == "COMPENSATING":
                continue
            for key in behind[event.data["stepKey"]]:
                if steps[key]["touched"] and now[key] not in _WITHOUT_EFFECT:
                    yield f"step {event.data['stepKey']} of job {job['id']} was undone while {key} was {now[key]}"


def _dependents(steps: Mapping[str, Row]) -> dict[str, set[str]]:
    """All steps that need a step, directly or by others."""
    found: dict[str, set[str]] = {key: set() for key in steps}
    grown = True
    while grown:
        grown = False
        for key, step in steps.items():
            for need in step["needs"]:
                more = {key} | found[key]
                if need in found and not more <= found[need]:
                    found[need] |= more
                    grown = True
    return found


def told_once_and_without_gap(history: History) -> Iterator[str]:
    """I8. Journals number from 1 without gap or double; each transition of a job, a plan or a resource is one event.

    One event ends a job, and it is its last move.
    """
    spans: dict[int, list[tuple[int, int]]] = {job["id"]: [] for job in history.jobs}
    for event in history.events:
        spans[event.job_id].append((event.seq, event.seq))
    for batch in history.lines:
        spans[batch["job_id"]].append((batch["first_seq"], batch["last_seq"]))
    for job in history.jobs:
        following = 1
        for first, last in sorted(spans[job["id"]]):
            if first != following:
                yield f"the journal of job {job['id']} goes on with {first} where {following} is due"
                break
            following = last + 1
        told = [event.data for event in history.events_of[job["id"]] if event.kind == "JobStatusChanged"]
        yield from _one_event_a_transition(f"job {job['id']}", JOB, told, job["status"])
        moves = [data["status"] for data in told]
        ends = sum(status in _CLOSED for status in moves)
        if job["status"] in _CLOSED and (ends != 1 or moves[-1] != job["status"]):
            yield f"job {job['id']} is {job['status']} and its journal says {moves}"
    yield from _plans_told(history)
    yield from _resources_told(history)


def _plans_told(history: History) -> Iterator[str]:
    events: dict[int, list[Event]] = {plan["id"]: [] for plan in history.plans}
    for event in history.plan_events:
        events[event.job_id].append(event)
    for plan in history.plans:
        numbers = [event.seq for event in events[plan["id"]]]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"the journal of plan {plan['id']} is numbered {numbers}"
        told = [event.data for event in events[plan["id"]] if event.kind == "PlanStatusChanged"]
        yield from _one_event_a_transition(f"plan {plan['id']}", PLAN, told, plan["status"])


def _resources_told(history: History) -> Iterator[str]:
    """Their events are in the journals of jobs and plans, so there is no order among all of them: they are counted.

    What was only planned and never begun is dropped without a word, and is nobody's news.
    """
    simulated = {job["id"] for job in history.jobs if job["simulated"]}
    by_jobs = [event for event in history.events if event.job_id not in simulated]
    balance: dict[int, Counter[str]] = {row["id"]: Counter() for row in history.every_resource}
    for event in (*by_jobs, *history.plan_events):
        data = event.data
        if event.kind != "ResourceChanged" or data["previous"] in (None, data["status"]):
            continue
        if not RESOURCE.connects(ResourceStatus(data["previous"]), ResourceStatus(data["status"])):
            yield f"resource {data['resourceId']} went from {data['previous']} to {data['status']}"
        balance[data["resourceId"]].update({data["status"]: 1})
        balance[data["resourceId"]].subtract({data["previous"]: 1})
    for row in history.every_resource:
        left = {status: n for status, n in balance[row["id"]].items() if n}
        begun = next((status for status, n in left.items() if n < 0), None)
        if left and left != {row["status"]: 1, begun: -1}:
            yield f"resource {row['id']} is {row['status']} and its events come to {left}"


def _one_event_a_transition(
    what: str, machine: Lifecycle[Any], told: Sequence[Mapping[str, Any]], status: str
) -> Iterator[str]:
    """Each event begins where the one before has ended, goes a declared way, and the last is where it stands."""
    for one, other in pairwise(told):
        if other["previous"] != one["status"]:
            yield f"{what} left {other['previous']} while it was {one['status']}"
    statuses = {member.value: member for member in machine.statuses}
    for data in told:
        if data["previous"] is not None and not machine.connects(statuses[data["previous"]], statuses[data["status"]]):
            yield f"{what} went from {data['previous']} to {data['status']}"
    if told and told[-1]["status"] != status:
        yield f"{what} is {status} and was last told to be {told[-1]['status']}"


def counters_equal_a_recount(history: History) -> Iterator[str]:
    """I9. What is counted along the way is what a recount gives; a plan stands where its last job does."""
    numbers = Counter[tuple[int, str]]()
    for attempt in history.attempts:
        place = attempt["step_run_id"], attempt["direction"]
        numbers[place] = max(numbers[place], attempt["number"])
    for step in history.steps:
        for column, direction in (("attempt", "FORWARD"), ("undo_attempt", "ROLLBACK")):
            entered = numbers[step["id"], direction]
            if step[column] != entered and not (entered == 0 and direction == "FORWARD"):
                yield f"step {step['step_key']} of job {step['job_id']}: {column} {step[column]}, {entered} entered"
    spans_of: dict[int, list[int]] = {job["id"]: [] for job in history.jobs}
    for batch in history.lines:
        spans_of[batch["job_id"]].append(batch["last_seq"])
    for job in history.jobs:
        events, spans = history.events_of[job["id"]], spans_of[job["id"]]
        newest = max([event.seq for event in events] + spans, default=0)
        if job["event_seq"] != newest:
            yield f"job {job['id']} counts {job['event_seq']} events and has {newest}"
        lost = sum(e.data.get("reason") == "WORKER_LOST" for e in events if e.kind == "StepStatusChanged")
        if job["recoveries"] != lost:
            yield f"job {job['id']} counts {job['recoveries']} recoveries and tells of {lost}"
        ended_last = job["status"] in _CLOSED and job["last_job_id"] == job["id"]
        if ended_last and (job["plan_status"] != job["status"] or job["active_job_id"] is not None):
            yield f"job {job['id']} is {job['status']} and its plan {job['plan_status']}"
    yield from _miscounted_workflows(history)


def _miscounted_workflows(history: History) -> Iterator[str]:
    ended: dict[int, list[str]] = {}
    for job in history.jobs:
        if job["status"] in _CLOSED:
            ended.setdefault(job["workflow_id"], []).append(job["status"])
    for workflow in history.workflows:
        of_it = ended.get(workflow["id"], [])
        good = of_it.count("SUCCEEDED")
        counted = workflow["execution_count"], workflow["success_count"], workflow["failure_count"]
        if counted != (len(of_it), good, len(of_it) - good):
            yield f"workflow {workflow['id']} counts {counted} of {len(of_it)} jobs, {good} of them good"


def locks_have_one_living_holder(history: History) -> Iterator[str]:
    """I10. No ended job holds a lock, and no two jobs ever worked on one stack at a time."""
    status = {job["id"]: job["status"] for job in history.jobs}
    for lock in history.locks:
        if status[lock["job_id"]] in _CLOSED:
            yield f"{lock['lock_key']} is held by job {lock['job_id']}, which is {status[lock['job_id']]}"
    started = [job for job in history.jobs if job["dispatched_at"] is not None]
    in_turn = sorted(started, key=lambda job: (job["tenant_id"], job["stack"], job["dispatched_at"]))
    for one, other in pairwise(in_turn):
        same = (one["tenant_id"], one["stack"]) == (other["tenant_id"], other["stack"])
        if same and (one["completed_at"] is None or one["completed_at"] > other["dispatched_at"]):
            yield f"jobs {one['id']} and {other['id']} worked on stack {one['stack']} at the same time"


def nobody_has_more_than_their_hands(history: History) -> Iterator[str]:
    """I11. No worker ever held more steps than it has hands. What a tenant may is held to by tests of its own."""
    if history.hands is None:
        return
    changes: dict[str, list[tuple[Any, int]]] = {}
    for attempt in history.attempts:
        if attempt["ended_at"] is not None:
            of_worker = changes.setdefault(attempt["worker"], [])
            of_worker += [(attempt["started_at"], 1), (attempt["ended_at"], -1)]
    for worker, moments in changes.items():
        held = most = 0
        for _, change in sorted(moments):
            held += change
            most = max(most, held)
        if most > history.hands:
            yield f"worker {worker} held {most} steps at a time"


def each_time_fires_once(history: History) -> Iterator[str]:
    """I12. One firing of a plan makes exactly one job; every further job has the one it continues as its parent. A time
    of a schedule is entered once, and what ran for it is one plan of its own, for that time and not before it.
    """
    fired = Counter(job["plan_id"] for job in history.jobs if job["parent_job_id"] is None)
    yield from (f"plan {plan_id} was fired {n} times" for plan_id, n in fired.items() if n != 1)
    times = Counter((firing["plan_id"], firing["fire_at"]) for firing in history.firings)
    yield from (f"plan {plan_id} entered {at} {n} times" for (plan_id, at), n in times.items() if n != 1)
    runs = Counter(firing["child_plan_id"] for firing in history.firings if firing["child_plan_id"] is not None)
    yield from (f"plan {child} is the run of {n} times" for child, n in runs.items() if n != 1)
    plans = {plan["id"]: plan for plan in history.plans}
    begun = {job["plan_id"]: job["dispatched_at"] for job in history.jobs if job["dispatched_at"] is not None}
    for firing in history.firings:
        child, at = plans.get(firing["child_plan_id"]), firing["fire_at"]
        if (firing["outcome"] == "SPAWNED") != (child is not None):
            yield f"plan {firing['plan_id']} is {firing['outcome']} for {at}, and its run is {firing['child_plan_id']}"
        elif child is not None and (child["parent_plan_id"], child["scheduled_at"]) != (firing["plan_id"], at):
            yield f"plan {child['id']} is for {child['scheduled_at']}, and ran for {at} of plan {firing['plan_id']}"
        elif child is not None and child["id"] in begun and begun[child["id"]] < at:
            yield f"plan {child['id']} began at {begun[child['id']]}, before {at}"


def cancelled_means_nothing_new(history: History) -> Iterator[str]:
    """I13. Once a job is being cancelled, no step is claimed to go forward."""
    yield from _claims_after(history, "CANCELLING")


def _claims_after(history: History, status: str) -> Iterator[str]:
    for job in history.jobs:
        begun = False
        for event in history.events_of[job["id"]]:
            if event.kind == "JobStatusChanged":
                begun = begun or event.data["status"] == status
            elif begun and event.kind == "StepStatusChanged" and event.data["status"] == "RUNNING":
                yield f"step {event.data['stepKey']} of job {job['id']} was claimed after the job was {status}"


def no_secret_is_told(history: History) -> Iterator[str]:
    """I14. No secret is in an event, a line, an error."""
    for secret in history.secrets:
        for event in history.events:
            if secret in str(event.data):
                yield f"event {event.seq} of job {event.job_id} tells a secret"
        for batch in history.lines:
            if secret in batch["lines"]:
                yield f"line {batch['first_seq']} of job {batch['job_id']} tells a secret"
        for job in history.jobs:
            if secret in (job["error"] or "") + (job["logs"] or ""):
                yield f"job {job['id']} tells a secret"


INVARIANTS: dict[str, Invariant] = {
    "I1": every_job_ends,
    "I2": each_step_succeeds_once,
    "I3": needs_come_first,
    "I4": one_live_attempt,
    "I5": the_world_is_as_recorded,
    "I6": no_way_forward_after_rollback,
    "I7": undone_in_reverse,
    "I8": told_once_and_without_gap,
    "I9": counters_equal_a_recount,
    "I10": locks_have_one_living_holder,
    "I11": nobody_has_more_than_their_hands,
    "I12": each_time_fires_once,
    "I13": cancelled_means_nothing_new,
    "I14": no_secret_is_told,
}


def violations(history: History) -> list[str]:
    """Everything that is wrong, each with the invariant's number."""
    return [f"{name}: {fault}" for name, invariant in INVARIANTS.items() for fault in invariant(history)]


def _brief(notes: Mapping[str, str]) -> str:
    return str(dict(sorted(notes.items())))[:200]
