"""For the tests of a provider of your own: a plugin for pytest.

    pytest_plugins = ["app.providers.testing"]      # in conftest.py

    async def test_my_type_conforms(windlass_conforms):
        async with MyProvider().session({...}) as session:
            await windlass_conforms(MyType(), session, Sample(...))

`windlass_conforms` runs the conformance kit on the real thing and fails with every check that did not pass.
`windlass_context` makes contexts without an engine. `windlass_faulty` wraps a type so that its calls meet accidents.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

from app import clock
from app.providers.base import ResourceType
from app.providers.conformance import OWNER, Sample, StandaloneContext, check_resource_type
from app.providers.faults import Fault, FaultyType

_SECONDS = 300.0


class MakeContext(Protocol):
    """Makes the context of an operation on a session; the same operation id means the same operation."""

    def __call__(self, session: Any, operation_id: str = ..., owner: str = ...) -> StandaloneContext: ...


@pytest.fixture
def windlass_context(tmp_path: Path) -> MakeContext:
    """Contexts that keep their lines and their progress in lists."""

    def make(session: Any, operation_id: str = "operation", owner: str = OWNER) -> StandaloneContext:
        return StandaloneContext(operation_id, owner, session, tmp_path, deadline=clock.monotonic() + _SECONDS)

    return make


@pytest.fixture
def windlass_conforms(windlass_context: MakeContext) -> Callable[[ResourceType, Any, Sample], Awaitable[None]]:
    """Runs the conformance kit; the subject of the sample must not exist before, and does not afterwards."""

    async def conforms(resource: ResourceType, session: Any, sample: Sample) -> None:
        # Another run's operation ids would be other operations' to the outside world.
        run = uuid4().hex[:8]

        def contexts(operation_id: str, owner: str) -> StandaloneContext:
            return windlass_context(session, f"{operation_id}-{run}", owner)

        checks = await check_resource_type(resource, contexts, sample)
        failed = [f"{check.name}: {check.detail}" for check in checks if not check.passed]
        if failed:
            message = f"{resource.name} does not conform:\n" + "\n".join(failed)
            raise AssertionError(message)

    return conforms


@pytest.fixture
def windlass_faulty() -> Callable[..., FaultyType]:
    """Wraps a type: `windlass_faulty(MyType(), create=[Fault(FaultKind.DROP_AFTER)])`."""

    def faulty(resource: ResourceType, **plan: Sequence[Fault | None]) -> FaultyType:
        return FaultyType(resource, plan)

    return faulty
