"""Every request of the three tiers meets an accident: what comes of it is there once, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from app.domain.statuses import JobStatus
from app.providers.faults import FaultKind
from tests.engine.conftest import open_workshop  # noqa: F401  a fixture
from tests.engine.harness import Workshop
from tests.providers.aws.fault_proxy import between, once_each
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.shop import NOTHING, PASSWORD, WHOLE, Shop, content_of

Open = Callable[..., Awaitable[Workshop]]
# What happens to every request, one after the other: it is refused, lost, and carried out without an answer.
ACCIDENTS = (FaultKind.THROTTLE, FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER)
# One resource takes up to four requests, and each meets three accidents; the policy of a step would allow for two.
PATIENT = {
    "key": "all",
    "type": "RESOURCE_CREATE",
    "order": 1,
    "configuration": {"resource": "*"},
    "retry": {"maxAttempts": 40},
}
# The requests that make the example and change something, and those of them of which it takes exactly one.
REQUESTS = 30
ONCE = {
    "CreateVpc", "CreateInternetGateway", "AttachInternetGateway", "CreateRouteTable", "CreateRoute",
    "CreateDBInstance", "CreateDBSubnetGroup", "CreateLaunchTemplate", "CreateTargetGroup", "CreateLoadBalancer",
    "CreateListener", "CreateAutoScalingGroup",
}  # fmt: skip


async def test_what_is_made_is_there_once(
    open_workshop: Open,  # noqa: F811
    emulator: Emulator,
) -> None:
    emulator.reset()
    async with between(emulator, once_each(*ACCIDENTS)) as proxy:
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
        times = Counter(proxy.seen)
        assert len(proxy.faulted) >= REQUESTS * len(ACCIDENTS)
        # The third of them had its effect although its answer was lost, so it was not sent again.
        assert {operation: times[operation] for operation in ONCE} == dict.fromkeys(ONCE, len(ACCIDENTS))


async def test_what_fails_is_removed(
    open_workshop: Open,  # noqa: F811
    emulator: Emulator,
) -> None:
    emulator.reset()
    async with between(emulator, once_each(*ACCIDENTS)) as proxy:
        shop = await Shop.open(open_workshop, emulator, proxy.url)
        template = await shop.workshop.template(content_of("three-tier-broken"))
        workflow = await shop.workshop.workflow(PATIENT)
        given: dict[str, Any] = {"name": "broken", "image": shop.image(), "databasePassword": PASSWORD}
        submitted = await shop.workshop.submit(template, workflow, **given)
        try:
            job = await shop.workshop.settle(submitted, seconds=60)
        finally:
            await shop.close()
        assert (job.status, (job.error or {}).get("stepKey")) == (JobStatus.ROLLED_BACK, "machines"), job.error
        gone = {"DeleteVpc", "DeleteSubnet", "DeleteDBInstance", "DeleteDBSubnetGroup"}
        assert all(proxy.faulted.count(operation) >= len(ACCIDENTS) for operation in gone)
        assert shop.there() == NOTHING
