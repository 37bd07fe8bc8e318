"""Commands that talk to a running server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

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
EXIT_HELP = (
    "Exit code: 0 succeeded, 1 failed (wholly, in part, or its rollback did), 2 rolled back, 3 cancelled,"
    " 130 interrupted."
)
_FILE_HELP = "A YAML file with one or more documents, or a folder of such files."
_PLAN_HELP = "A YAML file with plans, or the name of a plan that is there already."
_TAIL_HELP = "So many last lines only; with --follow, begin with them (1000 at most)."
FAIL_HELP = "Key of a step that shall fail, or KEY:undo for its undoing; may be given several times."
_WATCH_HELP = f"Stay until the job has ended. {EXIT_HELP}"


def register(app: App) -> None:
    """Give `app` the commands of this module."""
    for command in (apply, submit, simulate, watch_job, logs, plans, jobs):
        watches = command is watch_job
        told = f"Show a job and its log until it ends. {EXIT_HELP}" if watches else None
        app.command(command, name="watch" if watches else None, help=told)
    audit = App(name="audit", help="The audit log: who did what, chained by hashes.")
    audit.command(audit_export, name="export")
    audit.command(audit_verify, name="verify")
    app.command(audit)


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
    fail_at: Annotated[list[str] | None, Parameter(name=["--fail-at"], help=FAIL_HELP)] = None,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"], help=_WATCH_HELP)] = False,
    remote: Remote = _HERE,
) -> int:
    """Show what a plan would do, in a job that touches nothing."""
    from app.cli import commands

    return _run(remote, commands.simulating(plan, fail_at or [], stay=watch))


def watch_job(job: JobId, *, remote: Remote = _HERE) -> int:
    from app.cli import commands

    return _run(remote, commands.watching(job))


def logs(
    job: JobId,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], help="Go on until the job has ended.")] = False,
    tail: Annotated[int | None, Parameter(help=_TAIL_HELP, validator=Number(gte=0))] = None,
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


def audit_export(
    file: Annotated[Path, Parameter(help="Where to write it.")],
    *,
    remote: Remote = _HERE,
) -> int:
    """Write the sealed audit log into a file, one entry a line, and say where the chain ends: note that."""
    from app.cli.audit import exporting

    return _run(remote, exporting(file))


def audit_verify(
    file: Annotated[Path | None, Parameter(help="An exported file; otherwise the server is asked.")] = None,
    *,
    head: Annotated[
        str | None, Parameter(help="Where the chain ended when you last looked, as it was printed.")
    ] = None,
    remote: Remote = _HERE,
) -> int:
    """Follow the chain of the audit log from its beginning. Exit code 1 where it is broken."""
    from app.cli import audit, commands

    if file is not None:
        return commands.failing(lambda: audit.verify_file(file, head))
    return _run(remote, audit.verifying(head))
