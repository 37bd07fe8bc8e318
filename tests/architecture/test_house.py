"""The rules of the house that import contracts cannot say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("app", "schema", "workers", "migrations")
LINE_LIMIT = 400
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc", "core", "shared", "lib"}
# `core` is the name of a provider (core.pass, core.wait, …), not a drawer.
NAMED_FOR_A_REASON = {Path("app/providers/core")}


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in sources(*PACKAGES, "tests", "benchmarks")
    }
    assert {name: length for name, length in lengths.items() if length > LINE_LIMIT} == {}


def test_there_are_no_drawers() -> None:
    found = [
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.stem in DRAWERS and path.suffix in ("", ".py") and path.relative_to(ROOT) not in NAMED_FOR_A_REASON
    ]
    assert found == []


def test_only_the_unit_of_work_commits() -> None:
    committing = {
        str(path.relative_to(ROOT))
        for path in sources("app", "schema", "workers")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
    }
    assert committing == {"app/db/uow.py"}


def test_only_the_clock_asks_for_the_time() -> None:
    pattern = re.compile(r"\b(datetime\.(now|utcnow|today)|time\.(time|monotonic)|date\.today)\(")
    asking = {
        str(path.relative_to(ROOT))
        for path in sources("app", "schema", "workers")
        if path != ROOT / "app/clock.py" and pattern.search(path.read_text())
    }
    assert asking == set()


def test_every_message_has_its_actor() -> None:
    from dramatiq.brokers.stub import StubBroker

    from app.messages import CATALOGUE
    from workers.actors import declare_actors

    broker = StubBroker(middleware=[])
    declare_actors(broker)
    assert broker.get_declared_actors() == {message.actor for message in CATALOGUE}
    for message in CATALOGUE:
        assert broker.get_actor(message.actor).queue_name == message.queue


def test_nothing_we_depend_on_installs_over_our_packages() -> None:
    """The PyPI library `schema` would overwrite ours without a word, and uninstalling it would delete ours."""
    intruders = {
        distribution.metadata["Name"]
        for distribution in distributions()
        if distribution.metadata["Name"] != "windlass"
        for file in distribution.files or ()
        if file.parts[0] in PACKAGES
    }
    assert intruders == set()


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("package", ["domain", "engine", "services", "reads", "db", "providers"])
def test_packages_say_what_they_are(package: str) -> None:
    missing = [
        str(path.relative_to(ROOT))
        for path in sources(f"app/{package}")
        if path.name != "__init__.py" and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert missing == []


def test_no_exception_is_swallowed_without_a_word() -> None:
    """`except …: pass` hides faults; where silence is meant, contextlib.suppress says so."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(*PACKAGES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
    ]
    assert silent == []


def test_the_version_is_the_changelogs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text()
