"""What arrives at a provider after the worker that sent it has died, and after its step was undone, does not stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from app.domain.statuses import JobStatus
from app.engine.connections import Connections
from app.engine.sweeping import Sweeper
from app.engine.work import Mode
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError, ResourceState
from app.providers.sessions import Sessions
from tests.engine.crashes import DIAMOND, STEPS, Case, MortalWorkshop
from tests.engine.harness import SEALER, note
from tests.engine.mortal import Death, Point
from tests.engine.mutants import planted
from tests.engine.test_crash_points import OpenMortal, open_mortal  # noqa: F401  a fixture

# Its worker dies with the request on its way; whoever comes after it begins again, and the job fails later.
CASE = Case("late", (Death(Point.SEND, True, Mode.RUN, "d"),), fails=True)
Late = Callable[[], Awaitable[MortalWorkshop]]


@pytest.fixture
def late(open_mortal: OpenMortal) -> Late:  # noqa: F811
    async def undone() -> MortalWorkshop:
        """A job that was rolled back while a request of its is still under way."""
        workshop = await open_mortal(CASE)
        workshop.real.held_back = True
        template = await workshop.template({"resources": DIAMOND})
        job = await workshop.settle(await workshop.submit(template, await workshop.workflow(*STEPS)))
        assert (job.status, workshop.notes()) == (JobStatus.ROLLED_BACK, {})
        return workshop

    return undone


def sweeper(workshop: MortalWorkshop) -> Sweeper:
    connections = Connections(workshop.database, SEALER, Sessions(workshop.registry), {"core": {}})
    return Sweeper(workshop.database, workshop.registry, SEALER, connections, workshop.folder)


async def armed(workshop: MortalWorkshop) -> dict[str, int]:
    """By step key how often was looked behind the effects that are looked behind again."""
    rows = await workshop.rows(
        "SELECT s.step_key, e.sweeps FROM step_effect e JOIN step_run s ON s.id = e.step_run_id"
        " WHERE e.sweep_at IS NOT NULL"
    )
    return {row.step_key: row.sweeps for row in rows}


async def sweep(workshop: MortalWorkshop, *, undone_hours_ago: int = 0) -> int:
    """Look behind everything now; how many things were removed."""
    async with workshop.database.write(workshop.tenant_id, actor="test", correlation_id="test") as transaction:
        transaction.authorize("test")
        await transaction.session.execute(
            text(
                "UPDATE step_effect SET sweep_at = clock_timestamp(),"
                " completed_at = completed_at - make_interval(hours => :hours) WHERE sweep_at IS NOT NULL"
            ),
            {"hours": undone_hours_ago},
        )
    return await sweeper(workshop).round()


async def test_what_arrives_after_its_step_was_undone_is_removed(late: Late) -> None:
    workshop = await late()
    assert await armed(workshop) == {"d": 0}, "of the others every answer was heard"
    assert await sweeper(workshop).round() == 0, "nothing is due yet"
    assert await sweep(workshop) == 0
    assert await armed(workshop) == {"d": 1}
    await workshop.real.arrive()
    assert workshop.notes() == {"d": "x"}
    assert await sweep(workshop) == 1
    assert workshop.notes() == {}
    assert await armed(workshop) == {"d": 2}
    assert await sweep(workshop, undone_hours_ago=2) == 0
    assert await armed(workshop) == {}, "an hour later that was the last look"


async def test_with_the_planted_bug_it_stays(late: Late) -> None:
    with planted("late-request-left"):
        workshop = await late()
    await workshop.real.arrive()
    assert await sweep(workshop) == 0
    assert workshop.notes() == {"d": "x"}


async def test_what_a_later_plan_has_made_in_its_place_stays(late: Late) -> None:
    workshop = await late()
    again = await workshop.submit(await workshop.template({"resources": {"d": note("d", "again")}}, "again"))
    assert (await workshop.settle(again)).status is JobStatus.SUCCEEDED
    assert await sweep(workshop) == 0
    assert workshop.notes() == {"d": "again"}


async def test_what_is_recorded_as_a_resource_stays(late: Late) -> None:
    workshop = await late()
    await workshop.real.arrive()
    async with workshop.database.write(workshop.tenant_id, actor="test", correlation_id="test") as transaction:
        transaction.authorize("somebody has adopted it")
        await transaction.session.execute(
            text("UPDATE cloud_resource SET status = 'ACTIVE', is_deleted = false, external_id = 'd'"
                 " WHERE resource_key = 'd'")
        )  # fmt: skip
    assert await sweep(workshop) == 0
    assert workshop.notes() == {"d": "x"}


async def test_who_does_not_answer_is_asked_again(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop = await late()
    await workshop.real.arrive()

    async def away(_context: Context, _properties: JsonObject) -> ResourceState | None:
        raise ProviderError(ErrorKind.UNAVAILABLE, "nobody answers")

    with monkeypatch.context() as patch:
        patch.setattr(workshop.real, "recover", away)
        assert await sweep(workshop) == 0
    assert workshop.notes() == {"d": "x"}
    assert await sweep(workshop) == 1
    assert workshop.notes() == {}
