"""Children that die are started again, until they die too often."""

from __future__ import annotations

import io
import os
import signal
import tempfile
import time

import pytest

from app.cli.supervisor import Child, Supervisor


def sleeper(monkeypatch: pytest.MonkeyPatch, code: str) -> Child:
    """A child whose command is a line of Python."""
    import subprocess
    import sys
    from collections.abc import Sequence
    from typing import Any

    started = subprocess.Popen

    def start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[1:3] == ["-m", "app.cli"]
        return started([sys.executable, "-c", code], **options)

    monkeypatch.setattr("app.cli.supervisor.subprocess.Popen", start)
    return Child("sleeper", "worker", {})


def test_a_killed_child_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(io.StringIO())
    supervisor.add(sleeper(monkeypatch, "import time; time.sleep(60)"))
    first = supervisor.pids()["sleeper"]
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while supervisor.pids().get("sleeper") in (first, None):
        supervisor.check()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    supervisor.stop()
    assert supervisor.pids() == {}


def test_a_child_that_always_dies_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.supervisor._FIRST_PAUSE", 0.0)
    output = io.StringIO()
    supervisor = Supervisor(output)
    supervisor.add(sleeper(monkeypatch, "print('no'); raise SystemExit(3)"))
    deadline = time.monotonic() + 30

    def keep() -> None:
        while time.monotonic() < deadline:
            supervisor.check()
            time.sleep(0.01)

    with pytest.raises(RuntimeError, match="sleeper died 9 times within 60 s, last with 3"):
        keep()
    assert "sleeper │ no" in output.getvalue()


def test_children_are_told_to_end_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them ends only once the other has been told, too."""
    code = (
        "import os, pathlib, signal, sys, time\n"
        "here = pathlib.Path(os.environ['HERE'])\n"
        "def go(*_):\n"
        "    (here / str(os.getpid())).touch()\n"
        "    while len(list(here.iterdir())) < 2: time.sleep(0.01)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, go)\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(0.01)\n"
    )
    output = io.StringIO()
    supervisor = Supervisor(output)
    child = sleeper(monkeypatch, code)
    with tempfile.TemporaryDirectory() as folder:
        children = [Child(name, child.command, {"HERE": folder}) for name in ("one", "two")]
        for each in children:
            supervisor.add(each)
        deadline = time.monotonic() + 10
        while output.getvalue().count("ready") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ended = [each.process for each in children]
        supervisor.stop()
        assert [process.returncode for process in ended if process is not None] == [0, 0]
