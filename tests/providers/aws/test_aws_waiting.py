"""What takes AWS a while: the emulator is done at once, so its answers are made to say otherwise for a time."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.domain.statuses import JobStatus
from app.domain.values import reveal
from app.providers.aws.elbv2 import LoadBalancerType
from app.providers.aws.provider import AwsProvider
from app.providers.base import ErrorKind, Pending, ProviderError, ResourceState
from tests.engine.conftest import open_workshop  # noqa: F401  a fixture
from tests.engine.harness import Workshop
from tests.providers.aws.conftest import MakeContext
from tests.providers.aws.fault_proxy import Request, Rewrite, between
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.samples import SAMPLES
from tests.providers.aws.shop import ANOTHER_PASSWORD, PASSWORD, Shop
from tests.providers.aws.world import World

DATABASE = {
    "parameters": {
        "type": "object",
        "properties": {"password": {"type": "string", "x-sensitive": True}, "class": {"type": "string"}},
    },
    "resources": {
        "database": {
            "type": "aws.rds.instance",
            "properties": {
                "DBInstanceClass": "${parameters.class}",
                "Engine": "postgres",
                "AllocatedStorage": 20,
                "MasterUsername": "windlass",
                "MasterUserPassword": "${parameters.password}",
            },
        }
    },
}


def _nothing(request: Request) -> None:
    """Every request comes through."""


def _slow(operation: str, done: str, busy: str, times: int, after: str) -> tuple[Rewrite, list[str]]:
    """After each request `after`, the next `times` answers to `operation` say `busy` in place of `done`."""
    left = 0
    said: list[str] = []

    def rewrite(request: Request, body: str) -> str:
        nonlocal left
        if re.match(after, request.operation):
            left = times
        if request.operation != operation or not left or done not in body:
            return body
        left -= 1
        said.append(busy)
        return body.replace(done, busy)

    return rewrite, said


async def test_a_database_that_takes_long_is_waited_for_and_its_password_is_not_forgotten(
    open_workshop: Callable[..., Awaitable[Workshop]],  # noqa: F811
    emulator: Emulator,
) -> None:
    emulator.reset()
    rewrite, said = _slow("DescribeDBInstances", ">available<", ">modifying<", 3, "CreateDBInstance|ModifyDBInstance")
    async with between(emulator, _nothing, rewrite) as proxy:
        shop = await Shop.open(open_workshop, emulator, proxy.url)
        try:
            template = await shop.workshop.template(DATABASE)
            small, large = ({"password": PASSWORD, "class": f"db.t3.{size}"} for size in ("small", "large"))
            assert (await shop.deploy(template, **small)).status is JobStatus.SUCCEEDED
            assert len(said) == 3
            assert await shop.preview(template, **small) == {"database": "NO_CHANGE"}
            assert await shop.preview(template, **{**small, "password": ANOTHER_PASSWORD}) == {"database": "UPDATE"}
            assert (await shop.deploy(template, **large)).status is JobStatus.SUCCEEDED
            assert len(said) == 6
            assert await shop.preview(template, **large) == {"database": "NO_CHANGE"}
        finally:
            await shop.close()
    assert proxy.seen == ["CreateDBInstance", "ModifyDBInstance"]
    (row,) = await shop.workshop.rows("SELECT applied::text AS applied FROM cloud_resource")
    assert PASSWORD not in row.applied


async def test_a_load_balancer_is_pending_until_it_is_active_and_one_that_fails_is_not_forgotten(
    emulator: Emulator, world: World, make_context: MakeContext
) -> None:
    kind = LoadBalancerType()
    declared: dict[str, Any] = reveal(kind.check({**SAMPLES[kind.name](world).properties, "Name": "slow"})[0])
    state = "active"

    def rewrite(request: Request, body: str) -> str:
        told = request.operation == "DescribeLoadBalancers"
        return body.replace("<Code>active</Code>", f"<Code>{state}</Code>") if told else body

    provider = AwsProvider(endpoints=["127.0.0.1"], patience=0, pause=0.01)
    async with (
        between(emulator, _nothing, rewrite) as proxy,
        provider.session(emulator.config(endpointUrl=proxy.url)) as account,
    ):
        context = make_context("slow", connection=account)
        state = "provisioning"
        waiting = await kind.create(context, declared)
        assert isinstance(waiting, Pending)
        assert waiting.partial is not None
        assert isinstance(await kind.poll(context, waiting.handle), Pending)
        # Whoever comes back to it, or begins again, waits for the same one.
        assert isinstance(again := await kind.create(context, declared), Pending)
        assert again.handle == waiting.handle
        state = "failed"
        with pytest.raises(ProviderError) as caught:
            await kind.poll(context, waiting.handle)
        assert (caught.value.kind, caught.value.partial) == (ErrorKind.NOT_STABILIZED, waiting.partial)
        state = "active"
        made = await kind.poll(context, waiting.handle)
        assert isinstance(made, ResourceState)
        assert made.id == waiting.handle["id"]
        assert await kind.delete(context, made) is None
    assert proxy.seen == ["CreateLoadBalancer", "DeleteLoadBalancer"]
