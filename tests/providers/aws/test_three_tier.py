"""The examples, carried out by the real engine on an emulator, and looked at by another client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from app.domain.statuses import JobStatus
from tests.engine.conftest import open_workshop  # noqa: F401  a fixture
from tests.engine.harness import Workshop
from tests.engine.observing import go_round, refresh
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.shop import ANOTHER_PASSWORD, NOTHING, PASSWORD, WHOLE, Shop, content_of

NO_TARGETS = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/nope/1234567890123456"


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
    job = await shop.deploy(template, name="broken", image=shop.image(), databasePassword=PASSWORD)
    assert (job.status, (job.error or {}).get("stepKey")) == (JobStatus.ROLLED_BACK, "machines"), job.error
    assert shop.there() == NOTHING


async def _made(shop: Shop) -> tuple[int, dict[str, Any]]:
    template = await shop.workshop.template(content_of("three-tier"))
    given = {"name": "shop", "image": shop.image(), "databasePassword": PASSWORD}
    job = await shop.deploy(template, **given)
    assert job.status is JobStatus.SUCCEEDED, job.error
    return template, given


async def test_a_change_in_place_is_made_and_a_failing_one_is_taken_back(shop: Shop) -> None:
    template, given = await _made(shop)
    more = {**given, "machines": 3, "databasePassword": ANOTHER_PASSWORD}
    expected = {"machines": "UPDATE", "database": "UPDATE"}
    assert {key: act for key, act in (await shop.preview(template, **more)).items() if act != "NO_CHANGE"} == expected
    assert (await shop.deploy(template, **more)).status is JobStatus.SUCCEEDED
    assert (shop.machines()["DesiredCapacity"], len(shop.machines()["Instances"])) == (3, 3)
    assert {key: act for key, act in (await shop.preview(template, **more)).items() if act != "NO_CHANGE"} == {}

    broken = content_of("three-tier")
    broken["resources"]["machines"]["properties"]["TargetGroupARNs"] = [NO_TARGETS]
    failing = await shop.workshop.template(broken, "failing")
    bigger = {**more, "databaseClass": "db.m5.large", "machineType": "t3.large", "machines": 4}
    job = await shop.deploy(failing, **bigger)
    assert (job.status, (job.error or {}).get("stepKey")) == (JobStatus.ROLLED_BACK, "machines"), job.error
    assert shop.database()["DBInstanceClass"] == "db.t3.small"
    assert len(shop.machines()["Instances"]) == 3
    assert shop.machine()["InstanceType"] == "t3.small"
    assert shop.there() == WHOLE
    assert {key: act for key, act in (await shop.preview(template, **more)).items() if act != "NO_CHANGE"} == {}


async def test_the_example_is_made_and_what_somebody_else_changes_is_seen_as_drift(shop: Shop) -> None:
    template, given = await _made(shop)
    assert shop.there() == WHOLE
    assert set((await shop.preview(template, **given)).values()) == {"NO_CHANGE"}
    shop.emulator.client("autoscaling").set_desired_capacity(AutoScalingGroupName="shop-web", DesiredCapacity=5)
    (vpc,) = (each for each in shop.emulator.client("ec2").describe_vpcs()["Vpcs"] if not each["IsDefault"])
    shop.emulator.client("ec2").create_tags(Resources=[vpc["VpcId"]], Tags=[{"Key": "Name", "Value": "mine"}])
    await refresh(shop.workshop, "network")
    await refresh(shop.workshop, "machines")
    for _ in range(5):
        await go_round(shop.workshop)
    rows = await shop.workshop.rows("SELECT resource_key, drift_status, drift FROM cloud_resource")
    drifted = {row.resource_key: [change["path"] for change in row.drift] for row in rows if row.drift}
    assert drifted == {"machines": [["DesiredCapacity"]], "network": [["Tags", "Name"]]}
    assert {row.drift_status for row in rows if not row.drift} == {"IN_SYNC"}


async def test_another_network_replaces_everything_that_is_in_it_and_says_so_before(shop: Shop) -> None:
    template, given = await _made(shop)
    other = {**given, "network": "10.21"}
    shown = await shop.preview(template, **other)
    stays = {"assets": "NO_CHANGE", "machine": "UPDATE", "machines": "UPDATE", "preflight:aws": "RUN"}
    assert shown == {key: stays.get(key, "REPLACE") for key in shown}
    job = await shop.deploy(template, **other)
    assert job.status is JobStatus.SUCCEEDED, job.error
    assert shop.there() == WHOLE
    (vpc,) = (each for each in shop.emulator.client("ec2").describe_vpcs()["Vpcs"] if not each["IsDefault"])
    assert vpc["CidrBlock"] == "10.21.0.0/16"
