"""Commands that talk to a running server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli import manifests
from app.cli.applying import Applier, submittable
from app.cli.client import Client, CommandFailed, find_server
from app.cli.watching import LOGS, PlainView, line_text, show_lines, watch

_FAILED = 1
_ERRORS = "userErrors { code message path }"
_PLANS = """query($filter: PlanFilter, $first: Int) { deploymentPlans(filter: $filter, first: $first) { nodes {
  id name type status stage stack createdAt completedAt activeJob { id } lastJob { id } } } }"""
_JOBS = """query($filter: JobFilter, $first: Int) { orchestrationJobs(filter: $filter, first: $first) { nodes {
  id name type status stage stack direction queuedAt durationSeconds progress { total done failed } } } }"""
_LOG = """query($id: ID!, $filter: LogFilter, $after: Cursor) { orchestrationJob(id: $id) {
  logs(filter: $filter, first: 500, after: $after) { nodes { at level stepKey attempt stream message }
    pageInfo { hasNextPage endCursor } } } }"""
_BY_NAME = """query($name: String!) { deploymentPlans(filter: {name: {eq: $name}}, first: 1) { nodes {
  id status version } } }"""
_PLAN = "plan { id status activeJob { id } lastJob { id } diagnostics { code message path } }"
_SUBMIT = f"mutation($input: PlanActionInput!) {{ submitPlan(input: $input) {{ {_PLAN} {_ERRORS} }} }}"
_EXECUTE = f"mutation($input: ExecutePlanInput!) {{ executePlan(input: $input) {{ job {{ id }} {_ERRORS} }} }}"


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Remote:
    """Which server to talk to."""

    url: str | None = None
    """Address of the API; otherwise WINDLASS_URL, or that of a running `windlass up`."""
    token: str | None = None
    """API token; otherwise WINDLASS_TOKEN, or that of a running `windlass up`."""
    data_dir: Path | None = None
    """Where a running `windlass up` keeps its data."""


_HERE = Remote()
Output = Annotated[Literal["table", "json"], Parameter(name=["--output", "-o"])]
JobId = Annotated[str, Parameter(help="Id of a job, as `submit` prints it.")]
StageName = Annotated[str | None, Parameter(help="AUTHORING, GATED, ACTIVE, ATTENTION or DONE.")]
Limit = Annotated[int, Parameter(help="How many at most.")]
Level = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"]
_FILE_HELP = "A YAML file with one or more documents, or a folder of such files."
_PLAN_HELP = "A YAML file with plans, or the name of a plan that is there already."
_WATCH_HELP = "Stay until the job has ended; the exit code is that of `watch`."


def register(app: App) -> None:
    """Give `app` the commands of this module."""
    for command in (apply, submit, watch_job, logs, plans, jobs):
        name = "watch" if command is watch_job else None
        app.command(command, name=name)


def apply(
    *,
    file: Annotated[Path, Parameter(name=["--file", "-f"], help=_FILE_HELP)],
    dry_run: Annotated[bool, Parameter(help="Say what would happen, and change nothing.")] = False,
    remote: Remote = _HERE,
) -> int:
    """Create or update templates and workflows, and hand in plans, as manifests say."""

    async def run(client: Client) -> int:
        applier = Applier(client, _say, dry_run=dry_run)
        for manifest in manifests.read(file):
            await applier.apply(manifest)
        return 0

    return _run(remote, run)


def submit(
    plan: Annotated[str, Parameter(help=_PLAN_HELP)],
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help=_WATCH_HELP)] = False,
    remote: Remote = _HERE,
) -> int:
    """Have a plan executed, and say which job does it."""
    path = Path(plan) if Path(plan).is_file() else None

    async def run(client: Client) -> int:
        job_ids = await (_submit_name(client, plan) if path is None else _submit_file(client, path))
        return max([await _watched(client, job_id) for job_id in job_ids], default=0) if watch else 0

    return _run(remote, run)


def watch_job(job: JobId, *, remote: Remote = _HERE) -> int:
    """Show a job and its log until it ends. Exit code: 0 succeeded, 1 failed, 2 rolled back, 3 cancelled."""

    async def run(client: Client) -> int:
        return await _watched(client, job)

    return _run(remote, run)


def logs(
    job: JobId,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on until the job has ended.")] = False,
    tail: Annotated[int | None, Parameter(help="With --follow: begin with so many last lines.")] = None,
    step: Annotated[str | None, Parameter(help="Lines of this step only.")] = None,
    level: Annotated[Level | None, Parameter(help="Lines that matter at least this much.")] = None,
    contains: Annotated[str | None, Parameter(help="Lines with this text.")] = None,
    remote: Remote = _HERE,
) -> int:
    """Print the log of a job."""
    wanted = {"stepKey": step, "minLevel": level, "contains": contains}
    chosen = {key: value for key, value in wanted.items() if value is not None}

    async def run(client: Client) -> int:
        if follow:
            with PlainView(Console()) as view:
                variables = {"id": job, "tail": tail, "filter": chosen}
                async with aclosing(client.follow(LOGS, variables)) as frames:
                    async for frame in frames:
                        show_lines(view, frame)
        else:
            await _print_log(client, job, chosen)
        return 0

    return _run(remote, run)


def plans(*, stage: StageName = None, limit: Limit = 20, output: Output = "table", remote: Remote = _HERE) -> int:
    """List plans, newest first."""

    async def run(client: Client) -> int:
        found = (await client.ask(_PLANS, _listing(stage, limit)))["deploymentPlans"]["nodes"]
        _show(found, output, ("id", "name", "type", "status", "stack", "createdAt"))
        return 0

    return _run(remote, run)


def jobs(*, stage: StageName = None, limit: Limit = 20, output: Output = "table", remote: Remote = _HERE) -> int:
    """List jobs, newest first."""

    async def run(client: Client) -> int:
        found = (await client.ask(_JOBS, _listing(stage, limit)))["orchestrationJobs"]["nodes"]
        _show(found, output, ("id", "name", "type", "status", "stack", "queuedAt", "durationSeconds"))
        return 0

    return _run(remote, run)


def _run(remote: Remote, command: Callable[[Client], Awaitable[int]]) -> int:
    async def connected() -> int:
        async with Client(find_server(remote.url, remote.token, remote.data_dir)) as client:
            return await command(client)

    try:
        return asyncio.run(connected())
    except CommandFailed as failure:
        console = Console(stderr=True)
        for line in failure.lines:
            console.print(Text(f"error: {line}", style="red"), soft_wrap=True)
        return _FAILED


async def _watched(client: Client, job_id: str) -> int:
    return await watch(client, job_id, Console())


async def _submit_file(client: Client, path: Path) -> list[str]:
    applier = Applier(client, _say)
    submitted = [await applier.submit(manifest) for manifest in submittable(path, manifests.read(path))]
    return [plan.job_id for plan in submitted if plan.job_id is not None]


async def _submit_name(client: Client, name: str) -> list[str]:
    found = (await client.ask(_BY_NAME, {"name": name}))["deploymentPlans"]["nodes"]
    if not found:
        message = f"there is neither a file nor a plan named {name}"
        raise CommandFailed(message)
    plan = found[0]
    given = {"idempotencyKey": f"submit-{plan['id']}-{plan['version']}", "planId": plan["id"]}
    if plan["status"] in {"DRAFT", "INVALID"}:
        plan = (await client.mutate(_SUBMIT, given))["plan"]
        job = plan["activeJob"] or plan["lastJob"]
        _say(f"plan {name} {plan['status']}")
        if plan["status"] == "INVALID":
            raise CommandFailed(*(f"{'.'.join(d['path'])}: {d['message']} ({d['code']})" for d in plan["diagnostics"]))
    elif plan["status"] == "READY":
        job = (await client.mutate(_EXECUTE, given))["job"]
    else:
        message = f"plan {name} is {plan['status']}: submit a file to make a new one"
        raise CommandFailed(message)
    if job is None:
        return []
    _say(f"job {job['id']}")
    return [job["id"]]


async def _print_log(client: Client, job_id: str, chosen: dict[str, Any]) -> None:
    console = Console()
    after: str | None = None
    while True:
        job = (await client.ask(_LOG, {"id": job_id, "filter": chosen, "after": after}))["orchestrationJob"]
        if job is None:
            message = "there is no such job (NOT_FOUND)"
            raise CommandFailed(message)
        for line in job["logs"]["nodes"]:
            console.print(Text(line_text(line)), soft_wrap=True)
        page = job["logs"]["pageInfo"]
        if not page["hasNextPage"]:
            return
        after = page["endCursor"]


def _listing(stage: str | None, limit: int) -> dict[str, Any]:
    return {"filter": {"stage": [stage.upper()]} if stage else None, "first": limit}


def _show(rows: list[dict[str, Any]], output: str, columns: tuple[str, ...]) -> None:
    console = Console()
    if output == "json":
        console.print(Text(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode()), soft_wrap=True)
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text("" if row[column] is None else str(row[column])) for column in columns))
    console.print(table, soft_wrap=not console.is_terminal)


def _say(text: str) -> None:
    Console().print(Text(text), soft_wrap=True)
