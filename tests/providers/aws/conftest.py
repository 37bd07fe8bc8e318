from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli.rehearsal.standins import MOTO_DRY_RUNS
from app.providers.aws.account import Account
from app.providers.aws.provider import AwsProvider
from app.providers.conformance import OWNER, StandaloneContext
from tests.providers.aws.moto_server import Emulator, running
from tests.providers.aws.world import World

MakeContext = Callable[..., StandaloneContext]


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    """One emulator for all tests of this process."""
    with running() as found:
        yield found


@pytest.fixture(scope="session")
def worlds() -> list[World]:
    """The last world that was made, if any."""
    return []


@pytest.fixture
def world(emulator: Emulator, worlds: list[World]) -> World:
    """What the resources under test need around them, made by somebody else; again after the emulator was reset."""
    if not worlds or not worlds[-1].is_there(emulator):
        worlds.append(World.make(emulator))
    return worlds[-1]


@pytest.fixture
def provider(emulator: Emulator) -> AwsProvider:
    return AwsProvider(endpoints=[f"{emulator.host}:{emulator.port}"], patience=0, pause=0.01, dry_runs=MOTO_DRY_RUNS)


@pytest.fixture
async def account(provider: AwsProvider, emulator: Emulator) -> AsyncIterator[Account]:
    async with provider.session(emulator.config()) as session:
        yield session


@pytest.fixture
def make_context(account: Account, tmp_path: Path) -> MakeContext:
    def make(
        operation_id: str = "one", owner: str = OWNER, connection: Any = account, **more: Any
    ) -> StandaloneContext:
        return StandaloneContext(operation_id, owner, connection, tmp_path, **more)

    return make
