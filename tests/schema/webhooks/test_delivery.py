"""What receivers get: signed, in order, at least once, and nothing of anybody else."""

from __future__ import annotations

import asyncio
import random

import pytest
from standardwebhooks import WebhookVerificationError

from app.db import webhooks
from app.db.feed import Position
from app.domain.events import Event, EventKind, Stream
from app.domain.values import Secret
from app.domain.webhooks import event_message_id
from schema.nodes import encode_id
from tests.chaos.integrator import wrong_deliveries
from tests.engine.mutants import planted
from tests.factories.databases import fetch, run
from tests.schema.belongings import CANARY, belongings
from tests.schema.verbs import done
from tests.schema.webhooks.conftest import DEADLINE, Desk, gid
from tests.schema.webhooks.receiver import Answer

SELECTION = """{ __typename seq ...About }
fragment About on Event { ... on JobStatusChanged { was: previousJobStatus jobStatus job { id plan { name } } } }"""


async def test_events_arrive_in_order_signed_and_with_their_place(desk: Desk) -> None:
    job = await desk.job()
    await desk.happen(job)
    hook = await desk.create()
    await desk.happen(job, 3)
    received = await desk.arrive(3)
    assert desk.receiver.seqs == [2, 3, 4]
    messages = [each.verified(hook.secret) for each in received]
    first = messages[0]
    assert first.keys() == {"type", "timestamp", "data", "cursor", "seq"}
    assert first["type"] == "job.status_changed"
    assert first["data"]["job"] == {"__typename": "OrchestrationJob", "id": gid(job)}
    assert (first["data"]["previousJobStatus"], first["data"]["jobStatus"]) == ("QUEUED", "RUNNING")
    assert first["data"]["actor"] == {"__typename": "User", "id": encode_id("User", desk.api.acme.principal.user_id)}
    assert [each.headers["content-type"] for each in received] == ["application/json"] * 3
    assert len({each.id for each in received}) == 3
    seen = await desk.look(hook)
    assert (seen["status"], seen["failures"]) == ("ACTIVE", 0)
    assert Position.decode(seen["cursor"]) == Position.decode(messages[-1]["cursor"])
    log = seen["deliveries"]
    assert [entry["messageId"] for entry in log] == [each.id for each in received]
    assert {(entry["source"], entry["status"], entry["statusCode"], entry["answer"]) for entry in log} == {
        ("EVENT", "DELIVERED", 200, "thanks")
    }


async def test_an_event_that_is_not_told_would_be_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 3)
    chances = iter([1.0, 0.0, 1.0])
    monkeypatch.setattr(random, "random", lambda: next(chances))
    with planted("event-not-told"):
        received = await desk.arrive(2)
    assert {entry["status"] for entry in (await desk.look(hook))["deliveries"]} == {"DELIVERED"}
    rows = await fetch(desk.url, "SELECT id FROM webhook_endpoint")
    expected = [event_message_id(rows[0]["id"], Stream.JOB, job.id, seq) for seq in (1, 2, 3)]
    told = [each.id for each in received]
    assert list(wrong_deliveries(expected, told)) == ["webhooks: 1 of 3 events were never told"]


async def test_somebody_elses_signature_is_none(desk: Desk) -> None:
    first, second = await desk.create(), await desk.create()
    await desk.happen(await desk.job())
    for received in await desk.arrive(2):
        believed = []
        for hook in (first, second):
            try:
                believed.append(received.verified(hook.secret))
            except WebhookVerificationError:
                continue
        assert len(believed) == 1


async def test_a_webhook_is_told_what_it_asks_for(desk: Desk) -> None:
    job = await desk.job(name="shop")
    await desk.create(selection=SELECTION)
    await desk.happen(job)
    ((received),) = await desk.arrive(1)
    assert received.message["data"] == {
        "__typename": "JobStatusChanged",
        "seq": "1",
        "was": "QUEUED",
        "jobStatus": "RUNNING",
        "job": {"id": gid(job), "plan": {"name": "shop"}},
    }


async def test_events_of_other_kinds_are_passed_over(desk: Desk) -> None:
    job = await desk.job()
    hook = await desk.create(types=["StepProgressed"])
    await desk.happen(job, 2)
    deliverer = desk.deliverer()
    progressed = Event(EventKind.STEP_PROGRESSED, {"jobId": job.id, "stepRunId": 1, "stepKey": "a", "percent": 1.0})
    await desk.api.acme.rows.events(Stream.JOB, job.id, progressed)
    await desk.happen(job, 1)
    (received,) = await desk.arrive(1, deliverer)
    assert (received.message["type"], received.message["seq"]) == ("step.progressed", 3)
    await desk.settle(deliverer)
    assert Position.decode((await desk.look(hook))["cursor"]).seq == 4


async def test_a_failing_event_holds_back_its_endpoint_and_no_other(desk: Desk) -> None:
    job, other = await desk.job(), await desk.another_receiver()
    hook, good = await desk.create(), await desk.create(receiver=other)
    desk.receiver.script.extend([Answer(200), Answer(500, b"no"), Answer(503, b"", {"retry-after": "120"})])
    await desk.happen(job, 4)
    deliverer = desk.deliverer()
    await desk.settle(deliverer, lambda: len(other.received) == 4)
    assert (other.seqs, desk.receiver.seqs) == ([1, 2, 3, 4], [1, 2])
    seen = await desk.look(hook)
    assert (seen["status"], seen["failures"], seen["lastError"]) == ("FAILING", 1, "the receiver answered 500")
    assert Position.decode(seen["cursor"]) == Position.decode(desk.receiver.received[0].message["cursor"])
    assert (seen["deliveries"][-1]["status"], seen["deliveries"][-1]["answer"]) == ("FAILED", "no")
    await desk.due_now()
    await desk.settle(deliverer)
    (row,) = await fetch(
        desk.url, "SELECT extract(epoch FROM next_attempt_at - clock_timestamp())::float8 AS pause"
        " FROM webhook_endpoint WHERE status = 'FAILING'",
    )  # fmt: skip
    assert 100 < row["pause"] <= 120
    await desk.due_now()
    await desk.settle(deliverer)
    assert desk.receiver.seqs == [1, 2, 2, 2, 3, 4]
    assert len({each.id for each in desk.receiver.received[1:4]}) == 1
    seen = await desk.look(hook)
    assert (seen["status"], seen["failures"], seen["failingSince"], seen["lastError"]) == ("ACTIVE", 0, None, None)
    assert [entry["attempt"] for entry in seen["deliveries"]] == [1, 1, 2, 3, 1, 1]
    assert (await desk.look(good))["failures"] == 0


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        (Answer(hangs=True), None, f"no answer within {DEADLINE:g} s"),
        (Answer(drops=True), None, "RemoteProtocolError: Server disconnected without sending a response."),
        (Answer(302, b"", {"location": "/elsewhere"}), 302, "the receiver answered 302"),
        (Answer(199), 199, "the receiver answered 199"),
        (Answer(400, b"x" * 100_000), 400, "the receiver answered 400"),
        (Answer(500, b"a\0b\xff"), 500, "the receiver answered 500"),
    ],
)
async def test_what_is_no_success_is_tried_again(desk: Desk, answer: Answer, code: int | None, error: str) -> None:
    job = await desk.job()
    hook = await desk.create()
    desk.receiver.script.append(answer)
    await desk.happen(job, 2)
    deliverer = desk.deliverer()
    await desk.arrive(1, deliverer)
    seen = await desk.look(hook)
    (entry,) = seen["deliveries"]
    if code == 199:
        # Informational: not an answer yet, and none came.
        assert (seen["status"], entry["statusCode"]) == ("FAILING", None)
    else:
        assert (seen["status"], entry["statusCode"], entry["error"]) == ("FAILING", code, error)
    assert len(entry["answer"] or "") <= 1000
    await desk.due_now()
    await desk.settle(deliverer, lambda: len(desk.receiver.received) == 3)
    assert desk.receiver.seqs == [1, 1, 2]
    assert {each.path for each in desk.receiver.received} == {"/hook"}


async def test_a_yes_counts_although_its_body_never_ends(desk: Desk) -> None:
    hook = await desk.create()
    desk.receiver.script.append(Answer(200, b"still talking", endless=True))
    await desk.happen(await desk.job())
    await desk.arrive(1)
    (entry,) = (await desk.look(hook))["deliveries"]
    assert (entry["status"], entry["answer"]) == ("DELIVERED", "still talking")


async def test_gone_pauses_and_resuming_goes_on_where_it_was(desk: Desk) -> None:
    hook = await desk.create()
    desk.receiver.script.append(Answer(410))
    await desk.happen(await desk.job(), 2)
    deliverer = desk.deliverer()
    await desk.arrive(1, deliverer)
    seen = await desk.look(hook)
    assert (seen["status"], seen["statusReason"]) == ("PAUSED", "GONE")
    await desk.settle(deliverer)
    assert desk.receiver.seqs == [1]
    await done(desk.api, "updateWebhook", id=hook.id, expectedVersion=seen["version"], paused=False)
    await desk.arrive(3, deliverer)
    assert desk.receiver.seqs == [1, 1, 2]
    assert (await desk.look(hook))["statusReason"] == "NONE"


async def test_after_three_days_it_is_paused(desk: Desk) -> None:
    hook = await desk.create()
    desk.receiver.script.extend([Answer(500), Answer(500)])
    await desk.happen(await desk.job())
    deliverer = desk.deliverer()
    await desk.arrive(1, deliverer)
    await run(desk.url, "UPDATE webhook_endpoint SET failing_since = now() - interval '73 hours'")
    await desk.due_now()
    await desk.arrive(2, deliverer)
    seen = await desk.look(hook)
    assert (seen["status"], seen["statusReason"], seen["nextAttemptAt"]) == ("PAUSED", "EXHAUSTED", None)


async def test_a_rotated_secret_signs_beside_the_new_one_for_a_while(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    rotated = await done(desk.api, "rotateWebhookSecret", id=hook.id, grace="PT1H")
    new = rotated["secret"]
    assert new != hook.secret
    await desk.happen(job)
    (received,) = await desk.arrive(1)
    assert received.verified(hook.secret) == received.verified(new)
    await run(desk.url, "UPDATE webhook_endpoint SET previous_until = now()")
    await desk.happen(job)
    _, received = await desk.arrive(2)
    assert received.verified(new)
    with pytest.raises(WebhookVerificationError):
        received.verified(hook.secret)


async def test_no_secret_leaves(desk: Desk) -> None:
    hook = await desk.create(selection="{ ... on JobStatusChanged { job { plan { parameters } outputs } } }")
    rows, sealer = desk.api.acme.rows, desk.api.services.sealer
    told = sealer.seal({"password": Secret(CANARY)}, rows.tenant_id)
    plan = await rows.plan(parameters=told)
    await desk.happen(await rows.job(plan, outputs=told))
    (received,) = await desk.arrive(1)
    hidden = {"password": {"$sensitive": True}}
    assert received.message["data"] == {"job": {"plan": {"parameters": hidden}, "outputs": hidden}}
    stored = await fetch(desk.url, "SELECT webhook_endpoint::text AS row FROM webhook_endpoint")
    assert hook.secret.removeprefix("whsec_") not in stored[0]["row"]


async def test_another_tenants_events_never_arrive(desk: Desk) -> None:
    rival, theirs = desk.api.rival, await desk.another_receiver()
    ours_hook = await desk.create(selection="{ ... on JobStatusChanged { job { name plan { name } } } }")
    await desk.create(access=rival, receiver=theirs)
    await belongings(rival, CANARY)
    job, their_job = await desk.job(), await desk.job(rival, CANARY)
    for _ in range(3):
        await desk.happen(their_job, access=rival)
        await desk.happen(job)
    deliverer = desk.deliverer()
    await desk.settle(deliverer, lambda: len(theirs.received) >= 4)
    foreign = theirs.received[0].message["cursor"]
    await done(desk.api, "replayWebhook", id=ours_hook.id, after=foreign)
    await desk.settle(deliverer)
    assert desk.receiver.seqs[:3] == [1, 2, 3]
    assert set(desk.receiver.seqs[3:]) <= {1, 2, 3}
    assert CANARY.encode() not in b"".join(each.body for each in desk.receiver.received)
    # An event that names what is another's, as none should: still nothing of it is told.
    data = {"jobId": their_job.id, "planId": 1, "previous": None, "status": "RUNNING", "reason": "NONE"}
    await desk.api.acme.rows.events(Stream.JOB, job.id, Event(EventKind.JOB_STATUS_CHANGED, data))
    before = len(desk.receiver.received)
    await desk.settle(deliverer, lambda: len(desk.receiver.received) > before)
    assert desk.receiver.received[-1].message["data"] == {"job": None}


async def test_a_replay_sends_the_same_again_under_the_same_ids(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 4)
    deliverer = desk.deliverer()
    first = list(await desk.arrive(4, deliverer))
    await done(desk.api, "replayWebhook", id=hook.id, after=first[1].message["cursor"])
    again = (await desk.arrive(6, deliverer))[4:]
    assert [(each.id, each.message["seq"]) for each in again] == [(each.id, each.message["seq"]) for each in first[2:]]
    await done(desk.api, "replayWebhook", id=hook.id, **{"from": first[0].message["timestamp"]})
    await desk.arrive(10, deliverer)
    assert desk.receiver.seqs[6:] == [1, 2, 3, 4]
    await done(desk.api, "replayWebhook", id=hook.id, **{"from": "2100-01-01T00:00:00Z"})
    await desk.happen(job)
    await desk.arrive(11, deliverer)
    assert desk.receiver.seqs[-1] == 5


async def test_a_replay_while_something_is_being_sent_stands(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    start = (await desk.look(hook))["cursor"]
    await desk.happen(job, 3)
    answer = asyncio.Event()
    deliverer = desk.deliverer()
    desk.receiver.script.extend([Answer(), Answer(after=answer)])
    turn = asyncio.create_task(desk.settle(deliverer, lambda: len(desk.receiver.received) >= 5))
    await desk.receiver.came(2)
    await done(desk.api, "replayWebhook", id=hook.id, after=start)
    answer.set()
    await turn
    assert desk.receiver.seqs == [1, 2, 1, 2, 3]
    assert [entry["status"] for entry in (await desk.look(hook))["deliveries"]] == ["DELIVERED"] * 5


async def test_pings_and_redeliveries_go_beside_the_events_also_while_paused(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 2)
    deliverer = desk.deliverer()
    (first, _) = await desk.arrive(2, deliverer)
    place = (await desk.look(hook))["cursor"]
    seen = await desk.look(hook)
    await done(desk.api, "updateWebhook", id=hook.id, expectedVersion=seen["version"], paused=True)
    await desk.happen(job)
    ping = (await done(desk.api, "testWebhook", id=hook.id))["delivery"]
    assert (ping["status"], ping["source"], ping["type"]) == ("PENDING", "PING", "webhook.ping")
    again = (await done(desk.api, "redeliverWebhook", deliveryId=seen["deliveries"][0]["id"]))["delivery"]
    desk.receiver.script.append(Answer(500))
    pinged, redelivered = (await desk.arrive(4, deliverer))[2:]
    assert pinged.verified(hook.secret)["type"] == "webhook.ping"
    assert (redelivered.id, redelivered.message) == (first.id, first.message)
    log = {entry["id"]: entry for entry in (await desk.look(hook))["deliveries"]}
    assert (log[ping["id"]]["status"], log[ping["id"]]["statusCode"]) == ("FAILED", 500)
    assert (log[again["id"]]["status"], log[again["id"]]["source"]) == ("DELIVERED", "REDELIVERY")
    # Neither moved anything, and neither is tried again.
    seen = await desk.look(hook)
    assert (seen["cursor"], seen["status"], seen["failures"]) == (place, "PAUSED", 0)
    await desk.arrive(4, deliverer)


async def test_the_log_keeps_the_newest(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "KEPT", 3)
    job, hook = await desk.job(), await desk.create()
    await desk.happen(job, 5)
    await desk.arrive(5)
    log = (await desk.look(hook))["deliveries"]
    assert [Position.decode(entry["cursor"]).seq for entry in log] == [3, 4, 5]


async def test_what_cannot_be_found_out_now_is_not_told_as_if_it_were_not_there(desk: Desk) -> None:
    job, hook = await desk.job(), await desk.create(selection=SELECTION)
    await desk.happen(job)
    deliverer = desk.deliverer()
    await run(desk.url, "REVOKE SELECT ON deployment_plan FROM windlass_app")
    seen = await desk.look(hook)
    async with asyncio.timeout(20):
        while not seen["deliveries"]:
            await deliverer.deliver_next()
            seen = await desk.look(hook)
    assert desk.receiver.received == []
    assert (seen["status"], seen["deliveries"][0]["statusCode"]) == ("FAILING", None)
    assert seen["lastError"] == "the selection could not be answered: Internal error"
    await run(desk.url, "GRANT SELECT ON deployment_plan TO windlass_app")
    await desk.due_now()
    (received,) = await desk.arrive(1, deliverer)
    assert received.message["data"]["job"] == {"id": gid(job), "plan": {"name": "plan"}}
