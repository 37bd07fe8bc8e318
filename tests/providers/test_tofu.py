"""The provider `tofu` with the real program, where there is one; skipped, with the reason, where there is none."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from app import clock
from app.domain.enums import ChangeAction
from app.domain.errors import Severity
from app.domain.tofu import Pass
from app.domain.values import Secret
from app.providers.base import ErrorKind, JsonObject, OperationCancelled, ProviderError
from app.providers.conformance import OWNER, Sample, StandaloneContext, check_resource_type
from app.providers.preflights import PreflightRequest
from app.providers.reach import Reach
from app.providers.sources import Sources
from app.providers.tofu.provider import TofuProvider
from app.providers.tofu.runs import Installation
from app.providers.tofu.workspace import TofuSession, WorkspaceType
from app.settings import Settings
from tests.providers.tofu import KEY, Keeper, client, keeping, module, program

MODULE = """
variable "size" { type = number }
variable "names" {
  type    = list(string)
  default = ["a"]
}
variable "word" {
  type      = string
  default   = ""
  sensitive = true
}
variable "fail" {
  type    = bool
  default = false
}
variable "seconds" {
  type    = number
  default = 0
}
resource "terraform_data" "each" {
  for_each = toset(var.names)
  input    = "${each.key}-${var.size}"
}
resource "terraform_data" "last" {
  input      = [var.size, sha256(var.word)]
  depends_on = [terraform_data.each]
  triggers_replace = [var.fail, var.seconds]
  provisioner "local-exec" { command = "echo about to end; sleep ${var.seconds}; ${var.fail ? "exit 3" : "exit 0"}" }
}
output "size" { value = terraform_data.last.output[0] }
output "word" {
  value     = var.word
  sensitive = true
}
"""
needs_program = pytest.mark.skipif(program() is None, reason="there is neither tofu nor terraform on the PATH")
Make = Callable[..., StandaloneContext]


@pytest.fixture
async def keeper(database_url: str) -> AsyncIterator[Keeper]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO tenant (name, slug) VALUES ('C', 'conformance')")
    await connection.close()
    async with keeping(database_url) as made:
        yield made


@pytest.fixture
def kind(keeper: Keeper, tmp_path: Path) -> WorkspaceType:
    module(tmp_path / "modules" / "net", MODULE)
    sources = Sources([tmp_path / "modules"])
    return WorkspaceType(Installation(program() or "tofu", keeper.backend, sources, inline=True))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def context(operation: str = "op", owner: str = OWNER) -> StandaloneContext:
        return StandaloneContext(operation, owner, TofuSession({}), tmp_path, deadline=clock.monotonic() + 60)

    return context


@pytest.fixture
def declared(tmp_path: Path) -> Callable[..., JsonObject]:
    def properties(**variables: Any) -> JsonObject:
        source = str(tmp_path / "modules" / "net")
        return {"name": "net", "source": source, "variables": {"size": 1, **variables}, "converged": True}

    return properties


async def refused(attempt: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await attempt
    return caught.value


@needs_program
async def test_a_workspace_conforms(kind: WorkspaceType, make: Make, declared: Any) -> None:
    sample = Sample(
        {**declared(), "sensitiveVariables": {"word": "sesame"}},
        declared(size=2),
        {**declared(), "name": "other"},
        ({}, {"name": "net"}, {**declared(), "converged": False}, {**declared(), "files": {"../x.tf": ""}}),
    )
    checks = await check_resource_type(kind, make, sample)
    assert [(check.name, check.detail) for check in checks if not check.passed] == []


@needs_program
async def test_a_module_is_validated_beforehand_and_nothing_is_kept_of_it(
    kind: WorkspaceType, make: Make, declared: Any
) -> None:
    broken = {**declared(), "files": {"more.tf": 'resource "terraform_data" "x" {\n  imput = var.missing\n}\n'}}
    found = await kind.preflight(make(), PreflightRequest(ChangeAction.CREATE, broken))
    assert {(one.severity, one.code, one.path) for one in found} == {(Severity.ERROR, "TOFU", ("source",))}
    assert any("more.tf line 2" in one.message and "imput" in one.message for one in found)
    assert list(await kind.preflight(make(), PreflightRequest(ChangeAction.UPDATE, declared()))) == []
    assert await kind.recover(make(), declared()) is None
    unknown = PreflightRequest(ChangeAction.CREATE, {"name": "net"}, frozenset({"source"}))
    assert list(await kind.preflight(make(), unknown)) == []


@needs_program
async def test_outputs_lines_and_secrets(kind: WorkspaceType, make: Make, declared: Any) -> None:
    context = make()
    state = await kind.create(context, {**declared(names=["a", "b"]), "sensitiveVariables": {"word": "sesame-open"}})
    assert state.outputs == {"size": 1, "workspace": "net"}
    lines = [line for _, line in context.lines]
    assert "Plan: 3 to add, 0 to change, 0 to destroy." in lines
    assert any("Creation complete" in line for line in lines)
    assert not any("sesame-open" in line for line in lines)
    assert context.percents[-1] == 100
    checked, faults = kind.check({**declared(), "sensitiveVariables": {"word": "x"}})
    assert (faults, checked["sensitiveVariables"]) == ([], Secret({"word": "x"}))


@needs_program
async def test_a_failure_leaves_what_there_is_and_goes_back(kind: WorkspaceType, make: Make, declared: Any) -> None:
    """As the engine does it: the partial state is recorded, then what was before is put back."""
    before = await kind.create(make(), declared())
    worse = declared(size=2, fail=True)
    error = await refused(kind.update(make("worse"), before, worse, kind.compare(before.properties, worse)))
    assert "terraform_data.last: local-exec provisioner error" in error.message
    assert error.partial is not None
    assert error.partial.properties["converged"] is False
    live = await kind.read(make("back"), error.partial)
    assert live is not None
    back = kind.compare(live.properties, before.properties)
    assert back.action is ChangeAction.UPDATE
    restored = await kind.update(make("back"), live, before.properties, back)
    assert restored == before
    again = await kind.read(make("look"), before)
    assert again == before


@needs_program
async def test_a_creation_that_fails_can_be_taken_back(kind: WorkspaceType, make: Make, declared: Any) -> None:
    error = await refused(kind.create(make(), declared(fail=True)))
    assert error.partial is not None
    # A worker that was lost in it: what was made in part goes.
    assert await kind.recover(make(), declared(fail=True)) is None
    assert await kind.read(make("look"), error.partial) is None


@needs_program
async def test_what_somebody_else_did_is_drift(kind: WorkspaceType, make: Make, declared: Any, keeper: Keeper) -> None:
    state = await kind.create(make(), declared(names=["a", "b"]))
    passed = Pass(OWNER, "net", "by-hand", 2_000_000_000).written(KEY)
    async with client(keeper.backend, passed) as hand:
        kept = (await hand.get("/net")).json()
        kept["serial"] += 1
        kept["resources"] = [each for each in kept["resources"] if each["name"] != "each"]
        assert (await hand.post("/net", content=json.dumps(kept))).status_code == 200
    live = await kind.read(make("look"), state)
    assert live is not None
    drift = kind.compare(live.properties, state.properties)
    assert [(change.path, change.before, change.after) for change in drift.changes] == [(("converged",), False, True)]
    healed = await kind.update(make("heal"), live, state.properties, drift)
    assert healed == await kind.read(make("again"), healed)


@needs_program
async def test_a_run_that_is_stopped_keeps_its_state_and_lets_go(
    kind: WorkspaceType, make: Make, declared: Any
) -> None:
    context = make()
    running = asyncio.ensure_future(kind.create(context, declared(seconds=30)))
    async with asyncio.timeout(20):
        while not any("about to end" in line for _, line in context.lines):  # noqa: ASYNC110  nobody would tell
            await asyncio.sleep(0.02)
    context.cancelled = True
    with pytest.raises(OperationCancelled) as stopped:
        await running
    assert stopped.value.partial is not None
    await kind.delete(make("undo"), stopped.value.partial)
    assert await kind.read(make(), stopped.value.partial) is None


@needs_program
async def test_a_run_that_was_killed_is_for_a_person_to_look_at_until_its_time_is_over(
    kind: WorkspaceType, make: Make, declared: Any, database_url: str
) -> None:
    """It writes its state now and then: what it made last is in none."""
    context = make()
    running = asyncio.ensure_future(kind.create(context, declared(seconds=30)))
    async with asyncio.timeout(20):
        while not any("about to end" in line for _, line in context.lines):  # noqa: ASYNC110  nobody would tell
            await asyncio.sleep(0.02)
    for process in psutil.Process().children(recursive=True):
        if process.name() in {"tofu", "terraform"}:
            process.kill()
    assert (await refused(running)).kind is ErrorKind.OUTCOME_UNKNOWN
    for attempt in (kind.recover(make(), declared()), kind.create(make(), declared())):
        error = await refused(attempt)
        assert error.kind is ErrorKind.OUTCOME_UNKNOWN
        assert "was killed while it applied" in error.message
    # Another operation has to wait for the lock.
    assert (await refused(kind.create(make("other"), declared()))).kind is ErrorKind.CONFLICT
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE tofu_state SET lock_until = now()")
    await connection.close()
    assert await kind.recover(make(), declared()) is None
    assert (await kind.create(make(), declared())).outputs["size"] == 1


@needs_program
async def test_a_module_of_ones_own_and_a_bad_one(kind: WorkspaceType, make: Make) -> None:
    good: JsonObject = {
        "name": "own", "variables": {}, "converged": True,
        "files": {"main.tf": 'terraform {\n  backend "local" {}\n}\noutput "x" { value = 1 }'},
    }  # fmt: skip
    state = await kind.create(make("own", "windlass:conformance:stack:own"), good)
    assert state.outputs == {"x": 1, "workspace": "own"}
    bad = {**good, "name": "bad", "files": {"main.tf": 'resource "nothing" {'}}
    error = await refused(kind.create(make("bad", "windlass:conformance:stack:bad"), bad))
    assert error.partial is None
    assert "nothing" in error.message


def test_without_a_place_for_states_it_is_refused_while_planning() -> None:
    off = WorkspaceType(Installation())
    [fault] = off.check({"name": "net", "source": "/modules/net"})[1]
    assert (fault.code, "WINDLASS_TOFU_STATE_URL" in fault.message) == ("NOT_ALLOWED", True)


async def test_tenants_bring_modules_only_where_that_is_allowed(keeper: Keeper, make: Make, tmp_path: Path) -> None:
    kind = WorkspaceType(Installation("/bin/true", keeper.backend, Sources([tmp_path / "modules"])))
    [fault] = kind.check({"name": "net", "files": {"main.tf": ""}})[1]
    assert (fault.code, fault.path) == ("NOT_ALLOWED", ("files",))
    for given in ({"files": {"main.tf": ""}}, {"source": "/etc"}, {"source": str(tmp_path)}):
        error = await refused(kind.create(make(), {"name": "net", **given}))
        assert error.kind is ErrorKind.ACCESS_DENIED, given


def test_settings_put_it_together(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {
            "WINDLASS_SECRET_KEY": base64.b64encode(bytes(range(32))).decode(),
            "WINDLASS_TOFU_STATE_URL": "https://windlass.example",
            "WINDLASS_TOFU_BINARY": "/opt/terraform",
            "WINDLASS_SOURCE_DIRECTORIES": str(tmp_path),
        }
    )
    tofu = Reach.of(settings).tofu
    assert tofu.backend is not None
    assert (tofu.binary, tofu.backend.key, tofu.inline, tofu.uid) == ("/opt/terraform", KEY, False, None)
    assert tofu.sources == Sources([tmp_path])


@pytest.mark.parametrize("name", ["PATH", "TF_LOG_PATH", "LD_PRELOAD", "GIT_SSH_COMMAND", "TF_TOKEN", "aws_secret_key"])
def test_a_connection_holds_credentials_and_nothing_that_is_run_or_written(name: str) -> None:
    provider = TofuProvider(Installation())
    assert provider.check_config({"environment": {name: "x"}})[1]
    config, faults = provider.check_config({"environment": {"AWS_SECRET_ACCESS_KEY": "x", "HCLOUD_TOKEN": "y"}})
    assert (faults, config["environment"]) == ([], Secret({"AWS_SECRET_ACCESS_KEY": "x", "HCLOUD_TOKEN": "y"}))
