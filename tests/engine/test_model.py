"""Random plans that make, change, replace and delete, held to what the model says must come of them.

Whatever fails, before or after its effect, and whatever cannot be undone at first: the world is what was declared, or
what it was before; nothing was ever deleted that something pointed at; only what a stuck undoing needs is held back.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.domain.enums import FailureStrategy
from app.domain.statuses import JobStatus
from app.providers.registry import Registry
from app.services import jobs
from app.services.jobs import ContinueRollback
from tests.engine.harness import Workshop
from tests.engine.model import Graph, ModelCore, World, graphs

TRIALS = 6
_STUCK = 0.25


class Bench(Workshop):
    """A workshop whose provider has a world of its own for each trial."""

    world: World
    number = 0

    def begin(self) -> str:
        """A new world; the stack that is in it."""
        self.number += 1
        self.world = World()
        self.provider = ModelCore(self.world)
        self.registry = Registry([self.provider])
        return f"stack-{self.number}"

    async def apply(self, graph: Graph, stack: str, strategy: FailureStrategy = FailureStrategy.ROLLBACK) -> Any:
        template = await self.template(graph.template(), f"{stack}-{random.random()}")
        job_id = await self.submit(template, stack=stack, strategy=strategy)
        return await self.settle(job_id)


Trial = Callable[[random.Random], Awaitable[tuple[Bench, str, Graph, Graph]]]


@pytest.fixture
async def trial(database_url: str, tmp_path: Path) -> AsyncIterator[Trial]:
    connection = await asyncpg.connect(database_url)
    tenant = await connection.fetchval("INSERT INTO tenant (name, slug) VALUES ('Acme', 'acme') RETURNING id")
    user = await connection.fetchval(
        "INSERT INTO app_user (tenant_id, email, display_name, role) VALUES ($1, 'a@acme.test', 'A', 'ADMIN')"
        " RETURNING id",
        tenant,
    )
    await connection.close()
    bench = await Bench.open(database_url, tenant, user, tmp_path)
    assert isinstance(bench, Bench)

    async def begin(chance: random.Random) -> tuple[Bench, str, Graph, Graph]:
        """A stack as it stands, and the change that is to come."""
        while True:
            old, new = graphs(chance)
            if old.template() != new.template():
                break
        stack = bench.begin()
        bench.runners.clear()
        await bench.hire()
        job = await bench.apply(old, stack)
        assert job.status is JobStatus.SUCCEEDED, job.error
        assert bench.world.snapshot() == old.snapshot()
        return bench, stack, old, new

    yield begin
    await bench.close()


def changed(old: Graph, new: Graph) -> list[str]:
    """The keys that are made, changed or replaced."""
    return [
        key
        for key in new.needs
        if key not in old.needs
        or (old.kinds[key], old.values[key], old.needs[key]) != (new.kinds[key], new.values[key], new.needs[key])
    ]


@pytest.mark.parametrize("seed", range(TRIALS))
async def test_what_succeeds_is_exactly_what_was_declared(trial: Trial, seed: int) -> None:
    bench, stack, _, new = await trial(random.Random(seed))
    job = await bench.apply(new, stack)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert bench.world.snapshot() == new.snapshot()
    assert bench.world.wrong == []


@pytest.mark.parametrize("seed", range(100, 100 + 2 * TRIALS))
async def test_what_fails_is_as_if_it_had_never_been(trial: Trial, seed: int) -> None:
    chance = random.Random(seed)
    bench, stack, old, new = await trial(chance)
    world, before, ids = bench.world, bench.world.snapshot(), bench.world.ids()
    failing = chance.choice(changed(old, new) or [next(iter(new.needs))])
    world.fails = (failing, chance.random() < 0.5)
    world.stuck = {key for key in new.needs if chance.random() < _STUCK}
    job = await bench.apply(new, stack)
    if not changed(old, new):
        assert job.status is JobStatus.SUCCEEDED
        return
    rounds = 0
    while job.status is JobStatus.ROLLBACK_FAILED:
        held_back = {
            row.key
            for row in await bench.rows(
                "SELECT spec->>'resourceKey' AS key FROM step_run WHERE job_id = :job"
                " AND status IN ('COMPENSATION_FAILED', 'COMPENSATING', 'SUCCEEDED') AND operation = 'APPLY'",
                job=job.id,
            )
        }
        assert held_back <= new.behind(world.stuck), "only what a stuck undoing needs waits for it"
        world.stuck = set(list(world.stuck)[: len(world.stuck) // 2])
        job = await _go_on(bench, job.id)
        rounds += 1
        assert rounds < 10
    assert job.status is JobStatus.ROLLED_BACK, job.error
    assert world.snapshot() == before
    remade = {key for key in new.brittle if key in changed(old, new)}
    assert {key: id_ for key, id_ in world.ids().items() if key not in remade} == {
        key: id_ for key, id_ in ids.items() if key not in remade
    }
    assert world.wrong == []


async def _go_on(bench: Bench, job_id: int) -> Any:
    async with bench.database.write(bench.tenant_id, actor="user:1", correlation_id="test") as write:
        job = await jobs.continue_rollback(write, bench.principal, ContinueRollback(job_id), bench.dependencies)
    return await bench.settle(job.id)


@pytest.mark.parametrize("seed", range(200, 200 + TRIALS))
async def test_what_cannot_be_deleted_any_more_takes_nothing_back(trial: Trial, seed: int) -> None:
    """Beyond the point of no return: the new is accepted, and what should have gone stays behind."""
    chance = random.Random(seed)
    bench, stack, old, new = await trial(chance)
    gone = [key for key in old.needs if key not in new.needs]
    bench.world.kept = set(gone)
    job = await bench.apply(new, stack)
    assert job.status is (JobStatus.PARTIALLY_SUCCEEDED if gone else JobStatus.SUCCEEDED), job.error
    assert {key: found for key, found in bench.world.snapshot().items() if key not in gone} == new.snapshot()
    assert set(gone) <= set(bench.world.snapshot())
    assert bench.world.wrong == []


@pytest.mark.parametrize("strategy", [FailureStrategy.CONTINUE, FailureStrategy.HALT])
@pytest.mark.parametrize("seed", range(300, 300 + TRIALS))
async def test_what_is_kept_is_what_was_done(trial: Trial, seed: int, strategy: FailureStrategy) -> None:
    """CONTINUE leaves out what needs the failed one, and nothing else; HALT keeps what there is."""
    chance = random.Random(seed)
    bench, stack, old, new = await trial(chance)
    if not changed(old, new):
        return
    failing = chance.choice(changed(old, new))
    bench.world.fails = (failing, False)
    job = await bench.apply(new, stack, strategy)
    found = bench.world.snapshot()
    undone = {failing} if strategy is FailureStrategy.CONTINUE else set(new.needs)
    for key in new.needs.keys() - new.before(undone):
        assert found[key] == new.snapshot()[key], f"{key} does not need {failing}"
    if failing in old.needs:
        assert found[failing][0] == old.values[failing], "what was refused is as it was"
    else:
        assert failing not in found
    ended = JobStatus.FAILED if strategy is FailureStrategy.HALT else JobStatus.PARTIALLY_SUCCEEDED
    assert job.status in (ended, JobStatus.FAILED), job.error
    assert bench.world.wrong == []
