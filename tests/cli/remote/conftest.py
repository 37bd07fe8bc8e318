"""The commands against the API on a real server."""

from __future__ import annotations

import asyncio
import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclopts import App

from app.cli import remote
from tests.schema.conftest import api
from tests.schema.live.conftest import Live, live, services, valkey

__all__ = ["api", "live", "services", "valkey"]


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """Runs commands as a person would type them, in a thread: they have an event loop of their own."""

    def __init__(self, live: Live) -> None:
        self.live = live

    async def run(self, *words: str) -> Done:
        where = ("--url", self.live.http, "--token", self.live.api.acme.token)
        return await asyncio.to_thread(run, *words, *where)


def run(*words: str) -> Done:
    """Run one command in this process."""
    app = App(name="windlass")
    remote.register(app)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app(list(words), exit_on_error=False)
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A place where no server is to be found by itself."""
    for name in ("WINDLASS_URL", "WINDLASS_TOKEN", "WINDLASS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shell(live: Live) -> Shell:
    return Shell(live)
