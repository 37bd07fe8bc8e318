"""The examples, carried out by the real engine on an emulator, and looked at by another client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from app.domain.statuses import JobStatus
from tests.engine.conftest import open_workshop  # noqa: F401  a fixture
from tests.engine.harness import Workshop
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.shop import NOTHING, PASSWORD, WHOLE, Shop, content_of


@pytest.fixture
async def shop(
    open_workshop: Callable[..., Awaitable[Workshop]],  # noqa: F811
    emulator: Emulator,
) -> AsyncIterator[Shop]:
    emulator.reset()
    opened = await Shop.open(open_workshop, emulator)
    yield opened
    await opened.close()


async def test_the_broken_example_leaves_nothing_behind(shop: Shop) -> None:
    template = await shop.workshop.template(content_of("three-tier-broken"))
    job = await shop.deploy(template, name="broken", databasePassword=PASSWORD)
    assert (job.status, (job.error or {}).get("stepKey")) == (JobStatus.ROLLED_BACK, "machines"), job.error
    assert shop.there() == NOTHING


async def test_the_example_is_made(shop: Shop) -> None:
    template = await shop.workshop.template(content_of("three-tier"))
    given = {"name": "shop", "image": shop.image(), "databasePassword": PASSWORD}
    job = await shop.deploy(template, **given)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert shop.there() == WHOLE
    assert set((await shop.preview(template, **given)).values()) == {"NO_CHANGE"}
