"""What every type does beyond the conformance kit, and what the emulator does otherwise than AWS."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.enums import ChangeAction
from app.domain.values import UNKNOWN, reveal
from app.providers.aws.differences import moved
from app.providers.aws.network import VpcType
from app.providers.aws.provider import AwsProvider
from app.providers.aws.rds import SubnetGroupType
from app.providers.base import ErrorKind, Pending, ProviderError, ResourceState
from app.providers.faults import FaultKind
from tests.providers.aws.conftest import MakeContext
from tests.providers.aws.ecs_agent import scheduling
from tests.providers.aws.fault_proxy import Request, between, once_each
from tests.providers.aws.laxities import LAXITIES, NAMELESS, Laxity
from tests.providers.aws.moto_server import Emulator
from tests.providers.aws.samples import SAMPLES
from tests.providers.aws.test_aws_conformance import TYPES
from tests.providers.aws.world import World

# AWS, or we, cannot list these without knowing where they are.
NOT_LISTED = {"aws.elbv2.listener", "aws.ecs.service"}
STRANGER = "windlass:conformance:other:subject"


async def _settled(kind: Any, context: Any, answer: Any) -> Any:
    while isinstance(answer, Pending):
        await context.sleep(answer.poll_after_seconds)
        answer = await kind.poll(context, answer.handle)
    return answer


@pytest.mark.parametrize("name", TYPES)
async def test_no_lost_answer_makes_a_second_thing(
    name: str, emulator: Emulator, world: World, make_context: MakeContext
) -> None:
    """The answer to every request that makes it is lost. Then it is imported, listed and removed."""
    kind = TYPES[name]
    sample = SAMPLES[name](world).properties
    properties = {key: value for key, value in sample.items() if key not in NAMELESS.get(name, ())}
    declared: dict[str, Any] = reveal(kind.check(properties)[0])
    provider = AwsProvider(endpoints=["127.0.0.1"], patience=0, pause=0.01)
    calm, faults = False, once_each(FaultKind.DROP_AFTER)

    def judge(request: Request) -> FaultKind | None:
        return None if calm else faults(request)

    async with (
        scheduling(),
        between(emulator, judge) as proxy,
        provider.session(emulator.config(endpointUrl=proxy.url)) as account,
    ):
        context = make_context(f"lost-{name}", connection=account)
        with pytest.raises(ProviderError) as caught:
            await kind.create(context, declared)
        kinds, made = {caught.value.kind}, None
        for _ in range(12):
            try:
                # It may be on its way still.
                made = await _settled(kind, context, await kind.recover(context, declared))
                break
            except ProviderError as error:
                kinds.add(error.kind)
        # What is lost after the thing was made is a setting, which may be made twice.
        assert kinds <= {ErrorKind.OUTCOME_UNKNOWN, ErrorKind.UNAVAILABLE}
        assert isinstance(made, ResourceState)
        assert kind.compare(made.properties, declared).action is ChangeAction.NO_CHANGE
        assert sorted(proxy.seen) == sorted(proxy.faulted)

        calm = True
        assert (await kind.import_(context, made.id)).id == made.id
        with pytest.raises(ProviderError, match="is managed by") as foreign:
            await kind.import_(make_context("foreign", owner=STRANGER, connection=account), made.id)
        assert foreign.value.kind is ErrorKind.ALREADY_EXISTS
        if name in NOT_LISTED:
            with pytest.raises(ProviderError, match="cannot be listed"):
                _ = [found async for found in kind.discover(context)]
        else:
            assert [found.id async for found in kind.discover(context)].count(made.id) == 1
        assert await _settled(kind, context, await kind.delete(context, made)) is None
        with pytest.raises(ProviderError) as gone:
            await kind.import_(context, made.id)
        assert gone.value.kind is ErrorKind.NOT_FOUND


async def test_what_somebody_made_by_hand_is_managed_until_it_is_another(
    emulator: Emulator, make_context: MakeContext
) -> None:
    ec2, kind = emulator.client("ec2"), VpcType()
    identity = ec2.create_vpc(CidrBlock="10.55.0.0/16")["Vpc"]["VpcId"]
    state = await kind.import_(make_context(), identity)
    assert state.properties["CidrBlock"] == "10.55.0.0/16"
    assert await kind.read(make_context(), state) == state
    ec2.create_tags(Resources=[identity], Tags=[{"Key": "windlass:owner", "Value": STRANGER}])
    assert await kind.read(make_context(), state) is None
    await kind.delete(make_context(), state)
    assert ec2.describe_vpcs(VpcIds=[identity])["Vpcs"]
    ec2.delete_tags(Resources=[identity], Tags=[{"Key": "windlass:owner"}])
    await kind.delete(make_context(), state)
    assert await kind.read(make_context(), state) is None


async def test_a_creation_that_cannot_be_finished_says_what_there_is(world: World, make_context: MakeContext) -> None:
    """The table is made, and its route leads to a gateway that does not exist: what was made is not forgotten."""
    kind = TYPES["aws.ec2.route_table"]
    route = {"DestinationCidrBlock": "0.0.0.0/0", "GatewayId": "igw-0123456789abcdef0"}
    declared: dict[str, Any] = reveal(kind.check({"VpcId": world.vpc, "Routes": [route]})[0])
    with pytest.raises(ProviderError) as caught:
        await kind.create(make_context("half"), declared)
    partial = caught.value.partial
    assert partial is not None
    assert await kind.read(make_context("half"), partial) is not None
    await kind.delete(make_context("half"), partial)
    assert await kind.recover(make_context("half"), declared) is None


async def test_a_network_waits_for_what_is_still_in_it_and_not_for_ever(
    emulator: Emulator, make_context: MakeContext
) -> None:
    kind, ec2, context = VpcType(), emulator.client("ec2"), make_context("occupied")
    made = await kind.create(context, {"CidrBlock": "10.54.0.0/16"})
    assert isinstance(made, ResourceState)
    subnet = ec2.create_subnet(VpcId=made.id, CidrBlock="10.54.1.0/24")["Subnet"]["SubnetId"]
    waiting = await kind.delete(context, made)
    assert isinstance(waiting, Pending)
    again = await kind.poll(context, waiting.handle)
    assert isinstance(again, Pending)
    assert again.handle["tries"] == waiting.handle["tries"] - 1
    assert "dependencies" in again.message
    with pytest.raises(ProviderError) as caught:
        await kind.poll(context, {**again.handle, "tries": 1})
    assert caught.value.kind is ErrorKind.DEPENDENCY
    ec2.delete_subnet(SubnetId=subnet)
    assert await kind.poll(context, again.handle) is None
    assert await kind.read(context, made) is None


@pytest.mark.parametrize(
    ("after", "forces", "expected"),
    [
        (["c", "d"], False, True),
        (["b", "c"], False, False),
        ([UNKNOWN, UNKNOWN], True, True),
        ([UNKNOWN, UNKNOWN], False, False),
        (["a", UNKNOWN], True, False),
        ([], False, False),
    ],
)
def test_subnets_of_another_network_are_none_of_those_before(after: list[Any], forces: bool, expected: bool) -> None:
    assert moved({"x": ["a", "b"]}, {"x": after}, "x", unknown_forces=forces) is expected
    kind = SubnetGroupType()
    base = {"DBSubnetGroupDescription": "d"}
    difference = kind.compare({**base, "SubnetIds": ["a", "b"]}, {**base, "SubnetIds": after}, unknown_forces=forces)
    assert (difference.action is ChangeAction.REPLACE) is expected


@pytest.mark.parametrize("laxity", LAXITIES, ids=lambda laxity: laxity.name)
def test_the_emulator_is_as_lax_as_it_is_said_to_be(laxity: Laxity, emulator: Emulator, world: World) -> None:
    """When it is not any more, the line goes, and the tests that it excuses become stricter."""
    assert laxity.shown(emulator, world), f"{laxity.name}: {laxity.on_aws} – and so it is on the emulator by now"
