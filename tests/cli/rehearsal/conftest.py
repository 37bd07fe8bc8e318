from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli.rehearsal.command import Wish, rehearse
from app.cli.rehearsal.findings import Finding
from app.cli.rehearsal.standins import standing_in
from app.embedded.postgres import EmbeddedPostgres
from app.settings import Settings
from tests.providers.tofu import program

EXAMPLES = Path(__file__).parents[3] / "examples"


def example(name: str) -> Path:
    return EXAMPLES / name / f"{name}.yaml"


class Told(list[str]):
    """The lines of a rehearsal."""

    def __call__(self, text: str, style: str) -> None:
        del style
        self.append(text)


Rehearse = Callable[..., Awaitable[list[Finding]]]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def held(database_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path, told: Told) -> Rehearse:
    """Holds a rehearsal in this process; the server of the tests is the one that is thrown away."""

    async def hold(file: Path, **wishes: Any) -> list[Finding]:
        wish = Wish(file, **wishes)
        settings = Settings(tofu_binary=program() or "tofu")
        with standing_in(settings, wish.given(), postgres_server.url) as cast:
            return await rehearse(wish, cast, database_url, tmp_path / "files", told)

    return hold
