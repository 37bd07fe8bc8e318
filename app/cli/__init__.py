"""The command line. Starting it is cheap: a command imports what it needs when it runs."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from app.cli import remote

DataDir = Annotated[Path, Parameter(name="--data-dir", help="Where everything is kept.")]
_DATA_DIR = Path(".windlass")

app = App(
    name="windlass",
    help="A control plane that deploys resources and can always wind them back.",
    help_epilogue="Exit code: 0 done; 1 it failed or was refused; 2 it was not understood, or settings make no sense;"
    " 130 interrupted. What stays with a job (watch, submit --watch, simulate --watch) ends as it does.",
    version=version("windlass"),
)
remote.register(app)


@app.command
def up(
    *,
    data_dir: DataDir = _DATA_DIR,
    port: Annotated[int, Parameter(help="Port of the API; 0 picks a free one.")] = 8080,
    workers: Annotated[int, Parameter(help="How many worker processes.")] = 2,
    reset: Annotated[bool, Parameter(help="Begin with nothing: deletes what the data directory holds.")] = False,
) -> int:
    """Start everything on this machine: PostgreSQL, Valkey, API, workers, scheduler and webhooks. Ctrl-C stops it."""
    from app.cli.up import run

    return run(data_dir, port=port, workers=workers, reset=reset)


@app.command
def api() -> int:
    """Run the API (GraphQL over HTTP and WebSocket)."""
    from app.cli.serve import serve_api

    return _guarded(serve_api)


@app.command
def worker() -> int:
    """Run a worker process."""
    from app.cli.serve import serve_worker

    return _guarded(serve_worker)


@app.command
def scheduler() -> int:
    """Run a scheduler process; any number may run."""
    from app.cli.serve import serve_scheduler

    return _guarded(serve_scheduler)


@app.command
def webhooks() -> int:
    """Run a process that delivers webhooks; any number may run."""
    from app.cli.serve import serve_webhooks

    return _guarded(serve_webhooks)


keys = App(name="keys", help="The keys that secrets are sealed with.")
app.command(keys)


@keys.command
def rotate() -> int:
    """Seal everything again that WINDLASS_PREVIOUS_SECRET_KEYS have sealed, under WINDLASS_SECRET_KEY.

    Give the new key, with the old one as a previous one, to every process first; take the old one away afterwards.
    """
    from app.cli.serve import rotate_keys

    return _guarded(rotate_keys)


app.command("app.cli.access:access", name="access", help="Times of platform administrators in tenants.")
app.command("app.cli.tenant:tenant", name="tenant", help="Tenants of the installation.")


@app.command
def migrate() -> int:
    """Bring the database to the newest revision of the tables."""
    from app.cli.serve import migrate_database

    return _guarded(migrate_database)


@app.command
def seed(
    *, token: Annotated[str | None, Parameter(help="A token of the demo tenant, to be kept if it still works.")] = None
) -> int:
    """Make sure of a demo tenant; prints {"tenant", "token"} as JSON."""
    from app.cli.serve import seed_database

    return _guarded(lambda: seed_database(token))


@app.command
def rehearse(
    file: Annotated[Path, Parameter(help="A YAML file with a plan and what it needs, as `submit` takes it.")],
    *,
    fail_at: Annotated[list[str] | None, Parameter(name=["--fail-at"], help=remote.FAIL_HELP)] = None,
    after: Annotated[
        list[Path] | None, Parameter(help="A file whose plans are carried out before; may be given several times.")
    ] = None,
    policies: Annotated[
        Path | None, Parameter(help="A YAML file with a list of policies to judge the plan by.")
    ] = None,
    region: Annotated[str, Parameter(help="The region of AWS that is emulated.")] = "eu-central-1",
    set_: Annotated[
        list[str] | None, Parameter(name="--set", help="NAME=VALUE: another value of a parameter; several times.")
    ] = None,
    docker: Annotated[
        str | None, Parameter(help="Really use this engine (unix:///… or tcp://…), and tidy up afterwards.")
    ] = None,
    modules: Annotated[
        bool, Parameter(help="Really run modules of OpenTofu on this machine, without credentials.")
    ] = False,
    source: Annotated[
        list[Path] | None, Parameter(help="A folder that archives and modules may be in; several times.")
    ] = None,
    timeout: Annotated[float, Parameter(help="Seconds after which it is given up.")] = 600.0,
    output: remote.Output = "table",
) -> int:
    """Carry a plan out on emulators in this process; no installation is needed, and nothing outside is touched.

    Exit code: 0 it would succeed, 3 it would fail and be rolled back, 4 it would fail and leave something behind; 1 it
    was refused before, 2 it was not understood.
    """
    from app.cli import commands
    from app.cli.rehearsal.command import Wish, run

    values = {name: value for name, _, value in (pair.partition("=") for pair in set_ or ())}
    wish = Wish(
        file, after or (), fail_at or (), policies, region, timeout, docker, modules, source or (), parameters=values
    )
    return _guarded(lambda: commands.failing(lambda: run(wish, output)))


def main() -> None:
    """The entry point `windlass`."""
    sys.exit(app(result_action="return_value") or 0)


def _guarded(action: object) -> int:
    """Run a command; settings that make no sense are told in a line, without a stack trace."""
    from app.settings import SettingsError

    try:
        return action() or 0  # type: ignore[operator]
    except SettingsError as error:
        sys.stderr.write(f"windlass: {error}\n")
        return 2
