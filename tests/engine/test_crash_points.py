"""A worker dies at every named point, before and after it: the job ends as if nobody had died."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.engine.crashes import Case, MortalWorkshop, cases, suffer
from tests.engine.mortal import Killed

OpenMortal = Callable[[Case], Awaitable[MortalWorkshop]]


@pytest.fixture
async def open_mortal(database_url: str, tmp_path: Path) -> AsyncIterator[OpenMortal]:
    opened: list[MortalWorkshop] = []
    # What a dead process had begun beside its step ends with its death, too, and nobody is there to hear of it.
    asyncio.get_running_loop().set_exception_handler(_unless_killed)
    gc.freeze()

    async def open_it(case: Case) -> MortalWorkshop:
        connection = await asyncpg.connect(database_url)
        try:
            tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('Acme', 'acme') RETURNING id")
            user = await connection.fetchval(
                "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@acme.test', 'A', 'ADMIN')"
                " RETURNING id",
                tenant,
            )
        finally:
            await connection.close()
        opened.append(await MortalWorkshop.open_mortal(database_url, tenant, user, tmp_path, case))
        return opened[-1]

    yield open_it
    for workshop in opened:
        await workshop.close()


def _unless_killed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
async def test_a_death_changes_nothing_of_the_result(open_mortal: OpenMortal, case: Case) -> None:
    workshop = await open_mortal(case)
    job, faults = await suffer(workshop, case)
    assert not faults
    assert workshop.buried == len(case.deaths)
    # A death before the commit of a claim, or after that of an outcome, leaves nothing to be recovered.
    assert job.recoveries <= len(case.deaths) * 2


async def test_there_is_a_case_for_each_point() -> None:
    assert len({case.name for case in cases()}) == 5 * 2 * 7 + 1
