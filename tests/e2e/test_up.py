"""What a user does: deploy, watch, fail on purpose, kill a worker, stop everything and go on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.e2e.conftest import Up

ROOT = Path(__file__).parents[2]

PUBLISH = """mutation($create: CreateTemplateInput!) { createResourceTemplate(input: $create) {
  resourceTemplate { id version } userErrors { code message path } } }"""
REVISION = """mutation($input: PublishTemplateInput!) { publishResourceTemplate(input: $input) {
  revision { id } userErrors { code message path } } }"""
WORKFLOW = """mutation($input: CreateWorkflowInput!) { createWorkflow(input: $input) {
  workflow { id } userErrors { code message path } } }"""
PLAN = """mutation($input: CreatePlanInput!) { createPlan(input: $input) {
  plan { id status lastJob { id } } userErrors { code message path } } }"""
JOB = """query($id: ID!) { orchestrationJob(id: $id) { status recoveries error { message }
  steps { key status attempts { number } } plan { status } } }"""
WATCH = """subscription($id: ID!, $after: Cursor) { jobUpdated(id: $id, after: $after) { kind cursor
  job { status } events { seq __typename ... on StepStatusChanged { step { key } stepStatus }
  ... on JobStatusChanged { jobStatus } } } }"""
LOGS = "subscription($id: ID!) { jobLogs(id: $id) { kind lines { seq message stepKey } } }"


def key() -> str:
    return uuid4().hex


def template(up: Up, content: dict[str, Any]) -> str:
    made = up.ask(
        PUBLISH, {"create": {"idempotencyKey": key(), "name": f"t-{key()}", "type": "CUSTOM", "content": content}}
    )["createResourceTemplate"]
    assert made["userErrors"] == []
    published = up.ask(
        REVISION,
        {"input": {"idempotencyKey": key(), "id": made["resourceTemplate"]["id"],
                   "expectedVersion": made["resourceTemplate"]["version"]}},
    )["publishResourceTemplate"]  # fmt: skip
    assert published["userErrors"] == []
    return str(published["revision"]["id"])


def workflow(up: Up, *steps: dict[str, Any]) -> str:
    made = up.ask(
        WORKFLOW,
        {"input": {"idempotencyKey": key(), "name": f"w-{key()}", "type": "CUSTOM", "definition": {"steps": steps}}},
    )["createWorkflow"]
    assert made["userErrors"] == []
    return str(made["workflow"]["id"])


def submit(up: Up, **plan: Any) -> str:
    made = up.ask(PLAN, {"input": {"idempotencyKey": key(), "name": f"p-{key()}", "type": "IMMEDIATE", **plan}})
    assert made["createPlan"]["userErrors"] == [], made
    return str(made["createPlan"]["plan"]["lastJob"]["id"])


def job(up: Up, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = up.ask(JOB, {"id": job_id})["orchestrationJob"]
    return found


def settled(up: Up, job_id: str, seconds: float = 60) -> dict[str, Any]:
    open_statuses = {"QUEUED", "DISPATCHED", "RUNNING", "ROLLING_BACK", "CANCELLING"}
    up.until(lambda: job(up, job_id)["status"] not in open_statuses, seconds)
    return job(up, job_id)


def databases(up: Up) -> set[str]:
    async def ask() -> set[str]:
        connection = await asyncpg.connect(up.known["target"])
        try:
            rows = await connection.fetch("SELECT datname AS name FROM pg_database UNION SELECT rolname FROM pg_roles")
            return {row["name"] for row in rows}
        finally:
            await connection.close()

    return asyncio.run(ask())


async def frames(up: Up, document: str, field: str, job_id: str) -> list[dict[str, Any]]:
    """Every frame of a stream, as the Python client `gql` gets it."""
    transport = WebsocketsTransport(
        url=up.known["websocket"], init_payload={"authorization": f"Bearer {up.known['token']}"}
    )
    query = gql(document)
    query.variable_values = {"id": job_id}
    async with Client(transport=transport) as session:
        return [answer[field] async for answer in session.subscribe(query)]


def onboarding(customer: str) -> dict[str, Any]:
    return {
        "resources": {
            "owner": {"type": "postgres.role", "properties": {"name": f"{customer}_owner", "login": True}},
            "database": {
                "type": "postgres.database",
                "properties": {"name": customer, "owner": "${resources.owner.outputs.name}"},
            },
        }
    }


def test_a_plan_deploys_real_resources_and_is_watched_by_a_foreign_client(shared_up: Up) -> None:
    job_id = submit(shared_up, templateRevisionId=template(shared_up, onboarding("ada")))

    async def watch() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return await asyncio.gather(
            frames(shared_up, WATCH, "jobUpdated", job_id), frames(shared_up, LOGS, "jobLogs", job_id)
        )

    seen, logged = asyncio.run(watch())
    assert seen[0]["kind"] == "SNAPSHOT"
    assert (seen[-1]["kind"], seen[-1]["job"]["status"]) == ("END", "SUCCEEDED")
    numbers = [int(event["seq"]) for frame in seen for event in frame["events"]]
    assert numbers == sorted(set(numbers)), "in order, nothing twice"
    lines = [int(line["seq"]) for frame in logged for line in frame["lines"]]
    assert lines == sorted(set(lines))
    assert lines
    assert {"ada", "ada_owner"} <= databases(shared_up)


def test_plans_do_not_deploy_to_where_everything_is_kept(shared_up: Up) -> None:
    asked = "SELECT system_identifier::text, to_regclass('public.api_token')::text FROM pg_control_system()"

    async def look(url: str) -> tuple[str, str | None]:
        connection = await asyncpg.connect(url)
        try:
            return tuple(await connection.fetchrow(asked))
        finally:
            await connection.close()

    kept, deployed = (asyncio.run(look(shared_up.known[name])) for name in ("database", "target"))
    assert kept[0] != deployed[0]
    assert (kept[1], deployed[1]) == ("api_token", None)
    # An administrator of the demo tenant who lets a role of their own read all tenants' tokens.
    tokens = {"database": "windlass", "schema": "public", "tables": ["api_token"], "privileges": ["SELECT"]}
    content = {
        "resources": {
            "spy": {"type": "postgres.role", "properties": {"name": "spy", "login": True}},
            "way": {"type": "postgres.grant", "properties": {"role": "${resources.spy.outputs.name}", **tokens}},
        }
    }
    ended = settled(shared_up, submit(shared_up, templateRevisionId=template(shared_up, content)))
    assert ended["status"] == "ROLLED_BACK"
    assert "api_token" in ended["error"]["message"]


def test_a_plan_that_fails_leaves_nothing_behind(shared_up: Up) -> None:
    content = onboarding("eve")
    content["resources"]["connect"] = {
        "type": "postgres.grant",
        "properties": {
            "role": "eve_nobody",
            "database": "${resources.database.outputs.name}",
            "privileges": ["CONNECT"],
        },
    }
    ended = settled(shared_up, submit(shared_up, templateRevisionId=template(shared_up, content)))
    assert ended["status"] == "ROLLED_BACK"
    assert ended["plan"]["status"] == "ROLLED_BACK"
    assert "eve_nobody" in ended["error"]["message"]
    assert not {"eve", "eve_owner"} & databases(shared_up)


def slow(up: Up, note: str, seconds: float) -> str:
    revision = template(up, {"resources": {"a": {"type": "core.note", "properties": {"name": note, "text": "x"}}}})
    steps = workflow(
        up,
        {"key": "make", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "a"}},
        {"key": "wait", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.wait"},
         "inputs": {"seconds": seconds}},
        {"key": "last", "type": "CUSTOM", "order": 3, "configuration": {"task": "core.pass"}},
    )  # fmt: skip
    return submit(up, templateRevisionId=revision, workflowId=steps)


def running(up: Up, job_id: str, step: str) -> bool:
    return any(s["key"] == step and s["status"] == "RUNNING" for s in job(up, job_id)["steps"])


def test_killed_workers_are_noticed_and_their_job_goes_on(shared_up: Up) -> None:
    up = shared_up
    job_id = slow(up, "killed", 2)
    up.until(lambda: running(up, job_id, "wait"))
    began = time.monotonic()
    for name, pid in up.reread().items():
        if name.startswith("worker"):
            os.kill(pid, signal.SIGKILL)
    ended = settled(up, job_id)
    assert ended["status"] == "SUCCEEDED"
    assert ended["recoveries"] == 1
    assert time.monotonic() - began < 30
    notes = list(up.folder.glob("artifacts/*/notes/*killed*"))
    assert [path.name for path in notes] == ["killed.json"]


def test_everything_may_stop_in_the_middle_and_nothing_is_lost(shared_up: Up) -> None:
    up = shared_up
    job_id = slow(up, "stopped", 4)
    up.until(lambda: running(up, job_id, "wait"))
    token = up.known["token"]
    up.kill()
    up.start_again()
    assert up.known["token"] == token
    assert settled(up, job_id)["status"] == "SUCCEEDED"


def test_killed_servers_come_back(shared_up: Up) -> None:
    up = shared_up
    pids = up.reread()
    for name in ("postgres", "valkey"):
        os.kill(pids[name], signal.SIGKILL)
    up.until(lambda: up.reread()["postgres"] != pids["postgres"] and up.reread()["valkey"] != pids["valkey"])

    def works() -> bool:
        try:
            return str(settled(up, slow(up, f"after-{key()}", 0.1))["status"]) == "SUCCEEDED"
        except AssertionError:
            return False

    up.until(works)


def test_the_examples_run_from_the_command_line(shared_up: Up) -> None:
    def windlass(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments, "--data-dir", str(shared_up.folder)],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    good = windlass("submit", "examples/onboarding/onboarding.yaml", "--watch")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "acme is ready; its first backup has" in good.stdout
    assert {"acme", "acme_owner", "acme_reader"} <= databases(shared_up)
    broken = windlass("submit", "examples/onboarding-broken/onboarding-broken.yaml", "--watch")
    assert broken.returncode == 2, broken.stdout + broken.stderr
    assert not {"bolt", "bolt_owner"} & databases(shared_up)
    again = windlass("apply", "-f", "examples/onboarding", "--dry-run")
    assert again.returncode == 0, again.stdout + again.stderr


def test_two_ups_do_not_share_a_folder(shared_up: Up) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "app.cli", "up", "--data-dir", str(shared_up.folder), "--port", "0"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert second.returncode == 1
    assert "another `windlass up` uses" in second.stdout
    assert shared_up.process.poll() is None
