"""What the commands of `app.cli.remote` do. Apart from them because it takes a while to import."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from rich.console import Console

from app.cli import manifests
from app.cli.applying import Applier, submittable
from app.cli.client import Client, CommandFailed, find_server
from app.cli.terminal import plain, show_table
from app.cli.watching import LOGS, PlainView, line_text, show_lines, watch
from app.domain.naming import hint, nearest

Command = Callable[[Client], Awaitable[int]]

_FAILED = 1
_NO_JOB = "there is no such job (NOT_FOUND)"
_ERRORS = "userErrors { code message path }"
_PLANS = """query($filter: PlanFilter, $first: Int) { deploymentPlans(filter: $filter, first: $first) { nodes {
  id name type status stage stack createdAt completedAt activeJob { id } lastJob { id } } } }"""
_JOBS = """query($filter: JobFilter, $first: Int) { orchestrationJobs(filter: $filter, first: $first) { nodes {
  id name type status stage stack direction simulated queuedAt durationSeconds progress { total done failed } } } }"""
_LOG = """query($id: ID!, $filter: LogFilter, $after: Cursor) { orchestrationJob(id: $id) {
  logs(filter: $filter, first: 500, after: $after) { nodes { at level stepKey attempt stream message }
    pageInfo { hasNextPage endCursor } } } }"""
_LOG_END = """query($id: ID!, $filter: LogFilter, $last: Int!, $before: Cursor) { orchestrationJob(id: $id) {
  logs(filter: $filter, last: $last, before: $before) { nodes { at level stepKey attempt stream message }
    pageInfo { hasPreviousPage startCursor } } } }"""
_PAGE = 500
_STEPS = "query($id: ID!) { orchestrationJob(id: $id) { steps { key } } }"
_BY_NAME = """query($name: String!) { deploymentPlans(filter: {name: {eq: $name}}, first: 1) { nodes {
  id status version preview { hash } } } }"""
_PLAN = "plan { id status activeJob { id } lastJob { id } diagnostics { code message path } }"
_SUBMIT = f"mutation($input: PlanActionInput!) {{ submitPlan(input: $input) {{ {_PLAN} {_ERRORS} }} }}"
_EXECUTE = f"mutation($input: ExecutePlanInput!) {{ executePlan(input: $input) {{ job {{ id }} {_ERRORS} }} }}"


def run(command: Command, *, url: str | None, token: str | None, data_dir: Path | None) -> int:
    """Run a command against the server that these describe; its exit code, or 1 after saying what went wrong."""

    async def connected() -> int:
        async with Client(find_server(url, token, data_dir)) as client:
            return await command(client)

    return failing(lambda: asyncio.run(connected()))


def failing(command: Callable[[], int]) -> int:
    """The exit code of what is called, or 1 after saying what went wrong."""
    try:
        return command()
    except CommandFailed as failure:
        console = Console(stderr=True)
        for line in failure.lines:
            console.print(plain(f"error: {line}", "red"), soft_wrap=True)
        return _FAILED


def applying(path: Path, *, dry_run: bool) -> Command:
    """Apply every manifest of a file or folder."""

    async def command(client: Client) -> int:
        applier = Applier(client, _say, dry_run=dry_run)
        for manifest in manifests.read(path):
            await applier.apply(manifest)
        return 0

    return command


def submitting(plan: str, *, stay: bool) -> Command:
    """Hand in the plans of a file, or the plan of that name; with `stay` until their jobs have ended."""
    path = Path(plan) if Path(plan).is_file() else None

    async def command(client: Client) -> int:
        job_ids = await (_submit_name(client, plan) if path is None else _submit_file(client, path))
        if not stay:
            return 0
        return max([await watch(client, job_id, Console(), from_start=True) for job_id in job_ids], default=0)

    return command


def simulating(name: str, fail_at: list[str], *, stay: bool) -> Command:
    """Simulate the plan of that name; with `stay` until the job has ended."""

    async def command(client: Client) -> int:
        plan = await _named(client, name)
        given = {"idempotencyKey": uuid4().hex, "planId": plan["id"], "simulate": True, "simulateFailureAt": fail_at}
        job_id = (await client.mutate(_EXECUTE, given))["job"]["id"]
        _say(f"job {job_id}")
        return await watch(client, job_id, Console(), from_start=True) if stay else 0

    return command


def watching(job_id: str) -> Command:
    """Show a job until it ends."""

    async def command(client: Client) -> int:
        return await watch(client, job_id, Console())

    return command


def reading(job_id: str, wanted: dict[str, Any], *, tail: int | None, follow: bool) -> Command:
    """Print the lines of a job that the LogFilter `wanted` describes."""

    async def command(client: Client) -> int:
        if "stepKey" in wanted:
            await _require_step(client, job_id, wanted["stepKey"])
        if not follow:
            await _print_log(client, job_id, wanted, tail)
            return 0
        with PlainView(Console()) as view:
            variables = {"id": job_id, "tail": tail, "filter": wanted}
            async with aclosing(client.follow(LOGS, variables)) as frames:
                async for frame in frames:
                    show_lines(view, frame)
        return 0

    return command


def listing_plans(stage: str | None, limit: int, output: str) -> Command:
    async def command(client: Client) -> int:
        found = (await client.ask(_PLANS, _listing(stage, limit)))["deploymentPlans"]["nodes"]
        _show(found, output, ("id", "name", "type", "status", "stack", "createdAt"))
        return 0

    return command


def listing_jobs(stage: str | None, limit: int, output: str) -> Command:
    async def command(client: Client) -> int:
        found = (await client.ask(_JOBS, _listing(stage, limit)))["orchestrationJobs"]["nodes"]
        _show(found, output, ("id", "name", "type", "status", "stack", "queuedAt", "durationSeconds"))
        return 0

    return command


async def _submit_file(client: Client, path: Path) -> list[str]:
    """What the plans need may stand in the same file: it is applied before they are handed in."""
    applier = Applier(client, _say)
    found = manifests.read(path)
    wanted = submittable(path, found)
    for manifest in found:
        if manifest not in wanted:
            await applier.apply(manifest)
    submitted = [await applier.submit(manifest) for manifest in wanted]
    return [plan.job_id for plan in submitted if plan.job_id is not None]


async def _submit_name(client: Client, name: str) -> list[str]:
    plan = await _named(client, name)
    given = {"idempotencyKey": f"submit-{plan['id']}-{plan['version']}", "planId": plan["id"]}
    if plan["status"] in {"DRAFT", "INVALID"}:
        plan = (await client.mutate(_SUBMIT, given))["plan"]
        job = plan["activeJob"] or plan["lastJob"]
        _say(f"plan {name} {plan['status']}")
        if plan["status"] == "INVALID":
            raise CommandFailed(*(f"{'.'.join(d['path'])}: {d['message']} ({d['code']})" for d in plan["diagnostics"]))
    elif plan["status"] == "READY":
        reviewed = {**given, "expectedPreviewHash": plan["preview"] and plan["preview"]["hash"]}
        job = (await client.mutate(_EXECUTE, reviewed))["job"]
    else:
        message = f"plan {name} is {plan['status']}: submit a file to make a new one"
        raise CommandFailed(message)
    if job is None:
        return []
    _say(f"job {job['id']}")
    return [job["id"]]


async def _named(client: Client, name: str) -> dict[str, Any]:
    """The newest plan of that name."""
    found = (await client.ask(_BY_NAME, {"name": name}))["deploymentPlans"]["nodes"]
    if not found:
        message = f"there is neither a file nor a plan named {name}"
        raise CommandFailed(message)
    plan: dict[str, Any] = found[0]
    return plan


async def _require_step(client: Client, job_id: str, key: str) -> None:
    """Refuse to look for lines of a step that there is not: there will never be one."""
    job = (await client.ask(_STEPS, {"id": job_id}))["orchestrationJob"]
    if job is None:
        raise CommandFailed(_NO_JOB)
    keys = [step["key"] for step in job["steps"]]
    if key not in keys:
        message = f"the job has no step '{key}'{hint(nearest(key, keys))}"
        raise CommandFailed(message)


async def _print_log(client: Client, job_id: str, chosen: dict[str, Any], tail: int | None) -> None:
    """Print the lines, or only the last `tail` ones."""
    console = Console()
    if tail is not None:
        for line in await _last_lines(client, job_id, chosen, tail):
            console.print(plain(line), soft_wrap=True)
        return
    after: str | None = None
    while True:
        found = await _log_page(client, _LOG, {"id": job_id, "filter": chosen, "after": after})
        for line in found["nodes"]:
            console.print(plain(line_text(line)), soft_wrap=True)
        if not found["pageInfo"]["hasNextPage"]:
            return
        after = found["pageInfo"]["endCursor"]


async def _last_lines(client: Client, job_id: str, chosen: dict[str, Any], count: int) -> list[str]:
    """The last lines, by pages from the end."""
    lines: list[str] = []
    before: str | None = None
    while True:
        size = min(count - len(lines), _PAGE)
        found = await _log_page(client, _LOG_END, {"id": job_id, "filter": chosen, "last": size, "before": before})
        lines[:0] = [line_text(line) for line in found["nodes"]]
        if len(lines) >= count or not found["pageInfo"]["hasPreviousPage"]:
            return lines
        before = found["pageInfo"]["startCursor"]


async def _log_page(client: Client, document: str, variables: dict[str, Any]) -> dict[str, Any]:
    job = (await client.ask(document, variables))["orchestrationJob"]
    if job is None:
        raise CommandFailed(_NO_JOB)
    found: dict[str, Any] = job["logs"]
    return found


def _listing(stage: str | None, limit: int) -> dict[str, Any]:
    return {"filter": {"stage": [stage.upper()]} if stage else None, "first": limit}


def _show(rows: list[dict[str, Any]], output: str, columns: tuple[str, ...]) -> None:
    console = Console()
    if output == "json":
        console.print(plain(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode()), soft_wrap=True)
        return
    shown = [{column: _cell(column, row[column]) for column in columns} for row in rows]
    # An id that is cut off is of no use: it is what the other commands take.
    show_table(console, shown, columns, kept=("id",))


def _cell(column: str, value: Any) -> Any:
    """What the table shows of a value; of times, which are in UTC, no more than the second."""
    return value[:19].replace("T", " ") if value and column.endswith("At") else value


def _say(text: str) -> None:
    Console().print(plain(text), soft_wrap=True)
