"""Commands that talk to a running server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from app.cli.commands import Command


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
_FAIL_HELP = "Key of a step that shall fail, or KEY:undo for its undoing; may be given several times."
_WATCH_HELP = "Stay until the job has ended; the exit code is that of `watch`."


def register(app: App) -> None:
    """Give `app` the commands of this module."""
    for command in (apply, submit, simulate, watch_job, logs, plans, jobs):
        name = "watch" if command is watch_job else None
        app.command(command, name=name)


def apply(
    *,
    file: Annotated[Path, Parameter(name=["--file", "-f"], help=_FILE_HELP)],
    dry_run: Annotated[bool, Parameter(help="Say what would happen, and change nothing.")] = False,
    remote: Remote = _HERE,
) -> int:
    """Create or update templates and workflows, and hand in plans, as manifests say."""
    from app.cli import commands

    return _run(remote, commands.applying(file, dry_run=dry_run))


def submit(
    plan: Annotated[str, Parameter(help=_PLAN_HELP)],
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help=_WATCH_HELP)] = False,
    remote: Remote = _HERE,
) -> int:
    """Have a plan executed, and say which job does it."""
    from app.cli import commands

    return _run(remote, commands.submitting(plan, stay=watch))


def simulate(
    plan: Annotated[str, Parameter(help="The name of a plan that is there already.")],
    *,
    fail_at: Annotated[list[str] | None, Parameter(name=["--fail-at"], help=_FAIL_HELP)] = None,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help=_WATCH_HELP)] = False,
    remote: Remote = _HERE,
) -> int:
    """Show what a plan would do, in a job that touches nothing."""
    from app.cli import commands

    return _run(remote, commands.simulating(plan, fail_at or [], stay=watch))


def watch_job(job: JobId, *, remote: Remote = _HERE) -> int:
    """Show a job and its log until it ends. Exit code: 0 succeeded, 1 failed, 2 rolled back, 3 cancelled."""
    from app.cli import commands

    return _run(remote, commands.watching(job))


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
    from app.cli import commands

    wanted = {"stepKey": step, "minLevel": level, "contains": contains}
    chosen = {key: value for key, value in wanted.items() if value is not None}
    return _run(remote, commands.reading(job, chosen, tail=tail, follow=follow))


def plans(*, stage: StageName = None, limit: Limit = 20, output: Output = "table", remote: Remote = _HERE) -> int:
    """List plans, newest first."""
    from app.cli import commands

    return _run(remote, commands.listing_plans(stage, limit, output))


def jobs(*, stage: StageName = None, limit: Limit = 20, output: Output = "table", remote: Remote = _HERE) -> int:
    """List jobs, newest first."""
    from app.cli import commands

    return _run(remote, commands.listing_jobs(stage, limit, output))


def _run(remote: Remote, command: Command) -> int:
    from app.cli import commands

    return commands.run(command, url=remote.url, token=remote.token, data_dir=remote.data_dir)
