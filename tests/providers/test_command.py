"""Programs run with what they are given and no more, and nobody of them is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from app import clock
from app.domain.values import Secret, reveal
from app.providers.base import ErrorKind, JsonObject, OperationCancelled, ProviderError
from app.providers.command.task import Allowance, RunTask
from app.providers.conformance import OWNER, StandaloneContext
from app.settings import Settings, SettingsError

PYTHON = sys.executable
ROOT = Path(__file__).parents[2]
TASK = RunTask(Allowance(frozenset({PYTHON, "/bin/sh"})))


@pytest.fixture
def context(tmp_path: Path) -> StandaloneContext:
    return StandaloneContext("op", OWNER, None, tmp_path, deadline=clock.monotonic() + 30)


def shell(script: str, **more: Any) -> JsonObject:
    """Inputs that run a script; a test's own program."""
    inputs, faults = TASK.check({"argv": ["/bin/sh", "-c", script], **more})
    assert faults == []
    return dict(reveal(inputs))


async def failure(context: StandaloneContext, inputs: JsonObject) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await TASK.run(context, inputs)
    return caught.value


async def test_a_program_gets_its_arguments_as_they_are_and_no_environment(context: StandaloneContext) -> None:
    script = "import os, sys; print(sys.argv[1:], sorted(os.environ), os.listdir('.'))"
    inputs = {"argv": [PYTHON, "-c", script, "$HOME; rm -rf /", "*"], "environment": {"LC_ALL": "C", "ONE": "1"}}
    outputs = await TASK.run(context, inputs)
    assert outputs == {"exitCode": 0, "output": "['$HOME; rm -rf /', '*'] ['LC_ALL', 'ONE'] []"}
    assert [line for _, line in context.lines] == [outputs["output"]]


async def test_its_folder_is_its_own_and_removed(context: StandaloneContext) -> None:
    outputs = await TASK.run(context, shell("pwd; echo x > file; mkdir sub; ls"))
    folder, *files = outputs["output"].split("\n")
    assert files == ["file", "sub"]
    assert not os.path.exists(folder)  # noqa: PTH110, ASYNC240  a look at what is gone


async def test_secrets_come_by_stdin_and_environment_and_are_masked(context: StandaloneContext) -> None:
    inputs = shell('read a; echo "$a/$KEY" >&2; read b; echo "$b"', stdin="word-one\nword-two\n",
                   secretEnvironment={"KEY": "word-three"})  # fmt: skip
    outputs = await TASK.run(context, inputs)
    assert sorted(line for _, line in context.lines) == ["***", "***/***"]
    assert outputs["output"] == "***"
    checked, _ = TASK.check(inputs)
    assert checked["stdin"] == Secret("word-one\nword-two\n")
    assert checked["secretEnvironment"] == Secret({"KEY": "word-three"})


async def test_lines_are_live(context: StandaloneContext) -> None:
    running = asyncio.ensure_future(TASK.run(context, shell("echo first; sleep 20")))
    async with asyncio.timeout(5):
        while not context.lines:  # noqa: ASYNC110  nobody would tell
            await asyncio.sleep(0.01)
    context.cancelled = True
    with pytest.raises(OperationCancelled, match="sh was stopped"):
        await running


async def test_nobody_is_left_when_it_is_stopped_or_has_ended(context: StandaloneContext) -> None:
    """Children in the background and one that is deaf to being asked go too."""
    done = await TASK.run(context, shell("sleep 30 & echo $!"))
    context.deadline = clock.monotonic() + 0.5
    with pytest.raises(OperationCancelled):
        await TASK.run(context, shell("trap '' TERM; (trap '' TERM; sleep 30) & echo $!; wait"))
    for pid in (done["output"], context.lines[-1][1]):
        assert not _lives(int(pid))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


WORKER = """
import asyncio, sys
from pathlib import Path
from app.providers.command.task import Allowance, RunTask
from app.providers.conformance import OWNER, StandaloneContext

class Loud(StandaloneContext):
    def log(self, message, *more, **fields):
        print(message, flush=True)

task = RunTask(Allowance(frozenset({"/bin/sh"})))
inputs = {"argv": ["/bin/sh", "-c", "echo $$; exec sleep 60"], "environment": {"PATH": "/usr/bin:/bin"}}
asyncio.run(task.run(Loud("op", OWNER, None, Path(".")), inputs))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_worker_that_is_killed_takes_its_program_with_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    worker = subprocess.Popen([PYTHON, "-c", WORKER], stdout=subprocess.PIPE, env=environment, cwd=tmp_path)
    assert worker.stdout is not None
    program = int(worker.stdout.readline())
    assert _lives(program)
    worker.kill()
    worker.wait()
    worker.stdout.close()
    ends = clock.monotonic() + 5
    while _lives(program) and clock.monotonic() < ends:
        time.sleep(0.02)
    assert not _lives(program)


async def test_a_failure_says_the_last_lines(context: StandaloneContext) -> None:
    inputs = shell("echo fine; echo broken >&2; exit 3", retryCodes=[4])
    error = await failure(context, inputs)
    assert (error.kind, error.code) == (ErrorKind.INTERNAL, "EXIT_3")
    assert error.message.startswith("sh ended with 3: ")
    assert "broken" in error.message
    again = await failure(context, shell("exit 4", retryCodes=[4]))
    assert again.kind is ErrorKind.UNAVAILABLE
    assert (await TASK.run(context, shell("exit 3", successCodes=[0, 3])))["exitCode"] == 3


@pytest.mark.parametrize(
    ("script", "limits"),
    [
        ("x = bytearray(400 * 1024 * 1024)", {"memoryMegabytes": 128}),
        ("open('f', 'wb').write(bytes(3 * 1024 * 1024))", {"fileMegabytes": 1}),
        ("[open('/dev/null') for _ in range(100)]; f = [open(f'{n}', 'w') for n in range(50)]", {"files": 20}),
        ("while True: pass", {"cpuSeconds": 1}),
    ],
)
async def test_limits_hold(script: str, limits: JsonObject, context: StandaloneContext) -> None:
    inputs = {"argv": [PYTHON, "-I", "-S", "-c", f"{script}\nprint('done')"], "limits": limits}
    error = await failure(context, inputs)
    assert error.kind is ErrorKind.INTERNAL
    assert "done" not in [line for _, line in context.lines]


async def test_much_output_is_bounded_and_says_so(context: StandaloneContext) -> None:
    script = "import sys\nfor n in range(30000): print(n)\nsys.stdout.write('x' * 100000)"
    outputs = await TASK.run(context, {"argv": [PYTHON, "-c", script]})
    assert len(context.lines) == 10_001
    assert context.lines[-1][1] == "what it says beyond this is left out"
    assert outputs["output"].endswith("x" * 100)
    assert len(outputs["output"]) <= 16 * 1024


async def test_what_it_prints_may_be_json(context: StandaloneContext) -> None:
    assert (await TASK.run(context, shell("echo '{\"a\": [1]}'", json=True)))["output"] == {"a": [1]}
    assert (await failure(context, shell("echo no", json=True))).kind is ErrorKind.INVALID


async def test_it_is_taken_back_by_another_program(context: StandaloneContext, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inputs = shell(f"touch {mark}", undo={"argv": ["/bin/sh", "-c", f"rm -f {mark}"]})
    await TASK.run(context, inputs)
    assert mark.exists()
    await TASK.undo(context, inputs, {})
    await TASK.undo(context, inputs, {})
    assert not mark.exists()
    assert (TASK.can_undo(inputs), TASK.can_undo({"argv": []})) == (True, False)


def test_off_it_is_refused_while_planning() -> None:
    off = RunTask(Allowance())
    for inputs in ({"argv": ["/bin/sh"]}, {"argv": "${unknown}"}):
        assert off.check(inputs)[1]
    [fault] = off.check({"argv": ["/bin/sh"]})[1]
    assert (fault.code, fault.path) == ("NOT_ALLOWED", ("argv", "0"))
    assert "runs no commands" in fault.message


async def test_only_named_programs_are_run(context: StandaloneContext) -> None:
    for argv in (["/bin/rm"], ["sh"], ["/bin/../bin/sh"]):
        [fault] = TASK.check({"argv": argv})[1]
        assert f"does not allow {argv[0]}" in fault.message
        assert (await failure(context, {"argv": argv})).kind is ErrorKind.ACCESS_DENIED
    [fault] = TASK.check({"argv": ["/bin/sh"], "undo": {"argv": ["/bin/rm"]}})[1]
    assert fault.path == ("undo", "argv", "0")


async def test_too_much_is_refused(context: StandaloneContext) -> None:
    assert (await failure(context, {"argv": ["/bin/sh", "x" * 100_000]})).kind is ErrorKind.INVALID


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_it_may_be_another_user(context: StandaloneContext) -> None:
    task = RunTask(Allowance(frozenset({"/bin/sh"}), uid=65_534))
    script = "read _ a b c _ <<x\n$(grep Uid /proc/self/status)\nx\necho $a $b $c; touch mine && ls; cat /etc/shadow"
    with pytest.raises(ProviderError, match="Permission denied"):
        await task.run(context, {"argv": ["/bin/sh", "-c", script], "environment": {"PATH": "/usr/bin:/bin"}})
    assert [line for _, line in context.lines][:2] == ["65534 65534 65534", "mine"]


def test_settings_name_programs_by_their_paths() -> None:
    settings = Settings.from_environment(
        {"WINDLASS_COMMANDS": "/usr/bin/rsync, /bin/true", "WINDLASS_COMMAND_UID": "9"}
    )
    assert Allowance.of(settings) == Allowance(frozenset({"/usr/bin/rsync", "/bin/true"}), 9)
    for wrong in ({"WINDLASS_COMMANDS": "rsync"}, {"WINDLASS_COMMANDS": "/bin/true", "WINDLASS_COMMAND_UID": "0"}):
        with pytest.raises(SettingsError, match="WINDLASS_COMMAND"):
            Allowance.of(Settings.from_environment(wrong))
