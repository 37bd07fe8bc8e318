"""Every type of AWS meets the contract, on an emulator that is laxer than AWS in ways that are written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.providers.aws.account import Account
from app.providers.aws.provider import types
from app.providers.conformance import StandaloneContext, check_resource_type
from tests.providers.aws.ecs_agent import scheduling
from tests.providers.aws.laxities import FAILING_CHECKS
from tests.providers.aws.samples import SAMPLES
from tests.providers.aws.world import World

TYPES = {resource.name: resource for resource in types()}


def test_every_type_is_tried() -> None:
    assert list(SAMPLES) == list(TYPES)


@pytest.mark.parametrize("name", TYPES)
async def test_a_type_conforms(name: str, account: Account, world: World, tmp_path: Path) -> None:
    def contexts(operation_id: str, owner: str) -> StandaloneContext:
        return StandaloneContext(f"{operation_id}-{name}", owner, account, tmp_path)

    async with scheduling():
        checks = await check_resource_type(TYPES[name], contexts, SAMPLES[name](world))
    failed = {check.name: check.detail for check in checks if not check.passed}
    expected = FAILING_CHECKS.get(name, {})
    assert {check: detail for check, detail in failed.items() if check not in expected} == {}
    assert failed.keys() == expected.keys()
