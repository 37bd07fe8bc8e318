"""Every request of the three tiers meets an accident: what comes of it is there once, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.domain.statuses import JobStatus
from app.providers.faults import FaultKind
from tests.engine.conftest import open_workshop  # noqa: F401  a fixture
from tests.engine.harness import Workshop
from tests.providers.aws.fault_proxy import between, once_each
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.shop import NOTHING, PASSWORD, WHOLE, Shop, content_of

Open = Callable[..., Awaitable[Workshop]]
# One resource takes up to four requests, each of which is lost once; the policy of a step would allow for two.
PATIENT = {
    "key": "all",
    "type": "RESOURCE_CREATE",
    "order": 1,
    "configuration": {"resource": "*"},
    "retry": {"maxAttempts": 12},
}
# The requests that make the example and change something, and those of them of which it takes exactly one.
REQUESTS = 30
ONCE = {
    "CreateVpc", "CreateInternetGateway", "AttachInternetGateway", "CreateRouteTable", "CreateRoute",
    "CreateDBInstance", "CreateDBSubnetGroup", "CreateLaunchTemplate", "CreateTargetGroup", "CreateLoadBalancer",
    "CreateListener", "CreateAutoScalingGroup",
}  # fmt: skip


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.THROTTLE])
async def test_every_request_meets_it_once_and_there_is_one_of_each(
    kind: FaultKind,
    open_workshop: Open,  # noqa: F811
    emulator: Emulator,
) -> None:
    emulator.reset()
    async with between(emulator, once_each(kind)) as proxy:
        shop = await Shop.open(open_workshop, emulator, proxy.url)
        template = await shop.workshop.template(content_of("three-tier"))
        given: dict[str, Any] = {"name": "shop", "image": shop.image(), "databasePassword": PASSWORD}
        workflow = await shop.workshop.workflow(PATIENT)
        try:
            job = await shop.workshop.settle(await shop.workshop.submit(template, workflow, **given), seconds=60)
        finally:
            await shop.close()
        assert job.status is JobStatus.SUCCEEDED, job.error
        assert shop.there() == WHOLE
        assert len(proxy.faulted) >= REQUESTS
        times = {count for operation, count in Counter(proxy.seen).items() if operation in ONCE}
        assert times == ({1} if kind is FaultKind.DROP_AFTER else {2})


@pytest.mark.parametrize("kind", [FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.THROTTLE])
async def test_every_request_meets_it_once_and_what_fails_is_removed(
    kind: FaultKind,
    open_workshop: Open,  # noqa: F811
    emulator: Emulator,
) -> None:
    emulator.reset()
    async with between(emulator, once_each(kind)) as proxy:
        shop = await Shop.open(open_workshop, emulator, proxy.url)
        template = await shop.workshop.template(content_of("three-tier-broken"))
        workflow = await shop.workshop.workflow(PATIENT)
        submitted = await shop.workshop.submit(
            template, workflow, name="broken", image=shop.image(), databasePassword=PASSWORD
        )
        try:
            job = await shop.workshop.settle(submitted, seconds=60)
        finally:
            await shop.close()
        assert (job.status, (job.error or {}).get("stepKey")) == (JobStatus.ROLLED_BACK, "machines"), job.error
        assert {"DeleteVpc", "DeleteSubnet", "DeleteDBInstance", "DeleteDBSubnetGroup"} <= set(proxy.faulted)
        assert shop.there() == NOTHING
