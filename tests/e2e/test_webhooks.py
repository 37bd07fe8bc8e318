"""A receiver beside `windlass up` hears of a job from its beginning to its end."""

from __future__ import annotations

import asyncio
import threading
from uuid import uuid4

from tests.e2e.conftest import Up
from tests.schema.webhooks.receiver import Receiver, receiving

CREATE = """mutation($input: CreateWebhookInput!) { createWebhook(input: $input) {
  webhook { id } secret userErrors { code message path } } }"""
LOOK = (
    """query($id: ID!) { webhook(id: $id) { status failures lastError deliveries { nodes { status statusCode } } } }"""
)
TEMPLATE = """mutation($input: CreateTemplateInput!) { createResourceTemplate(input: $input) {
  resourceTemplate { id version } userErrors { code message path } } }"""
PUBLISH = """mutation($input: PublishTemplateInput!) { publishResourceTemplate(input: $input) {
  revision { id } userErrors { code message path } } }"""
PLAN = """mutation($input: CreatePlanInput!) { createPlan(input: $input) {
  plan { id lastJob { id } } userErrors { code message path } } }"""
SELECTION = "{ seq ... on JobStatusChanged { jobStatus job { id plan { name } } } }"


def _carried_out(up: Up) -> str:
    """The job of a plan with one note."""
    name = f"noted-{uuid4().hex[:8]}"
    content = {"resources": {"note": {"type": "core.note", "properties": {"name": name}}}}
    given = {"idempotencyKey": uuid4().hex, "name": name, "type": "CUSTOM", "content": content}
    template = up.ask(TEMPLATE, {"input": given})["createResourceTemplate"]["resourceTemplate"]
    publish = {"idempotencyKey": uuid4().hex, "id": template["id"], "expectedVersion": template["version"]}
    revision = up.ask(PUBLISH, {"input": publish})["publishResourceTemplate"]["revision"]["id"]
    plan = {"idempotencyKey": uuid4().hex, "name": name, "type": "IMMEDIATE", "templateRevisionId": revision}
    job: str = up.ask(PLAN, {"input": plan})["createPlan"]["plan"]["lastJob"]["id"]
    return job


class _Beside:
    """A receiver with a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.receiver: Receiver | None = None
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: self.loop.run_until_complete(self._run()))

    async def _run(self) -> None:
        async with receiving(Receiver()) as self.receiver:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Receiver:
        self._thread.start()
        assert self._ready.wait(10)
        assert self.receiver is not None
        return self.receiver

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self.loop.close()


def test_a_receiver_hears_of_a_job_from_beginning_to_end(shared_up: Up) -> None:
    with _Beside() as receiver:
        given = {"name": uuid4().hex, "url": receiver.url, "types": ["JobStatusChanged"], "selection": SELECTION}
        made = shared_up.ask(CREATE, {"input": {"idempotencyKey": uuid4().hex, **given}})["createWebhook"]
        assert made["userErrors"] == []
        job = _carried_out(shared_up)

        def statuses() -> list[str]:
            messages = [each.verified(made["secret"])["data"] for each in receiver.received]
            return [data["jobStatus"] for data in messages if data["job"]["id"] == job]

        shared_up.until(lambda: "SUCCEEDED" in statuses())
        heard = statuses()
        assert heard[0] == "QUEUED"
        assert heard[-2:] == ["RUNNING", "SUCCEEDED"]
        assert len(heard) == len(set(heard))
        seen = shared_up.ask(LOOK, {"id": made["webhook"]["id"]})["webhook"]
        assert (seen["status"], seen["failures"], seen["lastError"]) == ("ACTIVE", 0, None)
        assert {node["statusCode"] for node in seen["deliveries"]["nodes"]} == {200}
