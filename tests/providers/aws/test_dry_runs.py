"""What EC2 is asked before anything is made. What the emulator does not say, such as of permissions, is put in."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import ChangeAction
from app.domain.values import reveal
from app.providers.aws.account import Account
from app.providers.aws.ec2 import Ec2Type
from app.providers.aws.network import SubnetType, VpcType
from app.providers.aws.provider import types
from app.providers.base import ErrorKind, ProviderError
from app.providers.preflights import PreflightRequest
from tests.providers.aws.conftest import MakeContext
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.samples import SAMPLES
from tests.providers.aws.world import World

EC2 = {kind.name: kind for kind in types() if isinstance(kind, Ec2Type)}


async def _count(kind: Ec2Type, account: Account) -> int:
    return len([found async for found in kind.everything(account)])


# The emulator carries these out, dry or not: see laxities.py.
NOT_DRY = {"aws.ec2.vpc", "aws.ec2.subnet", "aws.ec2.route_table"}


@pytest.mark.parametrize("name", EC2)
async def test_it_asks_and_makes_nothing(name: str, world: World, account: Account, make_context: MakeContext) -> None:
    kind = EC2[name]
    declared = reveal(kind.check(SAMPLES[name](world).properties)[0])
    before = await _count(kind, account)
    found = await kind.preflight(make_context("dry"), PreflightRequest(ChangeAction.CREATE, declared))
    assert [one.code for one in found] == (["NOT_ASKED"] if name in NOT_DRY else [])
    assert await _count(kind, account) == before


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator is taken for AWS itself, which knows all dry runs."""
    monkeypatch.setattr(Account, "runs_dry", lambda *_: True)


@pytest.mark.usefixtures("aws")
async def test_what_it_refuses_is_told(
    world: World, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Any]] = []

    async def refuse(self: Account, service: str, operation: str, /, **parameters: Any) -> Any:
        del self
        sent.append({"call": f"{service}.{operation}", "dry": parameters.get("DryRun")})
        message = "You are not authorized to perform this operation"
        raise ProviderError(ErrorKind.ACCESS_DENIED, message, code="UnauthorizedOperation")

    monkeypatch.setattr(Account, "write", refuse)
    request = PreflightRequest(ChangeAction.CREATE, {"VpcId": world.vpc, "CidrBlock": "10.99.7.0/24"})
    with pytest.raises(ProviderError, match="not authorized") as refused:
        await SubnetType().preflight(make_context("dry"), request)
    assert refused.value.code == "UnauthorizedOperation"
    assert sent == [{"call": "ec2.create_subnet", "dry": True}]


@pytest.mark.usefixtures("aws")
async def test_nothing_is_asked_of_what_is_not_known_yet_nor_of_updates(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **parameters: Any) -> Any:
        raise AssertionError(parameters)

    monkeypatch.setattr(Account, "write", never)
    context = make_context("dry")
    half = PreflightRequest(ChangeAction.CREATE, {"CidrBlock": "10.99.7.0/24"}, frozenset({"VpcId"}))
    assert list(await SubnetType().preflight(context, half)) == []
    update = PreflightRequest(ChangeAction.UPDATE, {"CidrBlock": "10.1.0.0/16"})
    assert list(await VpcType().preflight(context, update)) == []


@pytest.mark.usefixtures("aws")
async def test_a_server_that_knows_no_dry_runs_leaves_nothing_behind(
    emulator: Emulator, world: World, account: Account, make_context: MakeContext
) -> None:
    del world
    before = await _count(VpcType(), account)
    request = PreflightRequest(ChangeAction.CREATE, {"CidrBlock": "10.77.0.0/16"})
    with pytest.raises(ProviderError, match="it is removed again") as refused:
        await VpcType().preflight(make_context("ignorant"), request)
    assert refused.value.code == "DRY_RUN_IGNORED"
    assert await _count(VpcType(), account) == before
    assert all(vpc["CidrBlock"] != "10.77.0.0/16" for vpc in emulator.client("ec2").describe_vpcs()["Vpcs"])
