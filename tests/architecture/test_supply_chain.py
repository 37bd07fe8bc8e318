"""What comes with the product: hashed, licensed, and not older than what is known to be dangerous."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LICENCES: dict[str, Any] = runpy.run_path(str(ROOT / "bin" / "licences"))
# The first release without the faults that are known of the ones before (docs/decisions/0002-dependencies.md).
FLOORS = {
    "asyncpg": "0.22",
    "cryptography": "46.0.6",
    "graphql-core": "3.3.2",
    "httpx": "0.27",
    "pyjwt": "2.15",
    "redis": "4.5.5",
    "starlette": "1.3.0",
    "strawberry-graphql": "0.327.2",
    "uvicorn": "0.54",
}


def parsed(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def declared() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = (re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", text) for text in project["dependencies"])
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_nobody_gets_a_release_that_is_known_to_be_dangerous(name: str) -> None:
    assert parsed(declared()[name]) >= parsed(FLOORS[name])


def test_every_dependency_says_how_old_it_may_be() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(declared()) == len(project["dependencies"])


def test_everything_that_is_fetched_is_known_by_its_hash() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    fetched = [package for package in lock if "registry" in package["source"]]
    files = [file for package in fetched for file in [*package.get("wheels", ()), package.get("sdist")] if file]
    assert len(files) > len(fetched) > 50
    assert [file["url"] for file in files if not file.get("hash", "").startswith("sha256:")] == []
    assert [package["name"] for package in lock if set(package["source"]) - {"registry", "editable"}] == []


def test_licences_are_allowed_and_written_down() -> None:
    """`uv run bin/licences` writes them anew."""
    assert (ROOT / "docs" / "licences.md").read_text() == LICENCES["page"]()


@pytest.mark.parametrize(
    ("expression", "refused"),
    [
        ("MIT", False),
        ("GPL-3.0-only", True),
        ("GPL-3.0-only OR MIT", False),
        ("MIT AND GPL-2.0-only", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", False),
        ("MIT AND (SSPL-1.0 OR BUSL-1.1)", True),
    ],
)
def test_one_of_several_licences_is_enough(expression: str, refused: bool) -> None:
    assert LICENCES["refused"](expression) is refused
