from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from app.domain.enums import ChangeAction, ErrorClass, StepType
from app.domain.errors import UnknownReference
from app.domain.values import UNKNOWN, Secret
from app.providers import registry as module
from app.providers.base import ErrorKind, Provider, ProviderError, ResourceType
from app.providers.core.note import NoteType
from app.providers.core.provider import CoreProvider
from app.providers.reach import Reach
from app.providers.registry import Registry
from app.providers.sessions import Sessions
from app.providers.tofu.backend import Backend
from app.providers.tofu.runs import Installation

# What an installation has to allow is allowed here.
REACH = Reach(tofu=Installation(backend=Backend("http://127.0.0.1", b"key"), inline=True))
REGISTRY = Registry.default(reach=REACH)


class Counting(Provider):
    """Counts the sessions that are open, and refuses to open one for "bad"."""

    name = "counting"
    title = "Counting"
    version = "1"

    def __init__(self) -> None:
        self.open: list[str] = []

    def types(self) -> Sequence[ResourceType]:
        return ()

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[str]:
        return self._session(config["name"])

    @asynccontextmanager
    async def _session(self, name: str) -> AsyncIterator[str]:
        if name == "bad":
            message = "no"
            raise ProviderError(ErrorKind.UNAVAILABLE, message)
        self.open.append(name)
        yield name
        self.open.remove(name)


def test_the_catalogue_answers_for_every_type() -> None:
    assert {"core.note", "postgres.database", "postgres.grant", "postgres.role"} < set(REGISTRY.type_names())
    assert {"core.assert", "core.log", "core.pass", "core.wait"} < set(REGISTRY.task_names())
    assert REGISTRY.actions("postgres.database") == {"backup", "restore", "migrate"}
    assert REGISTRY.secret("postgres.role") == {"/password"}
    assert REGISTRY.provider_of("postgres.role").name == REGISTRY.provider_of("core.wait").name.replace(
        "core", "postgres"
    )
    difference = REGISTRY.compare("core.note", {"name": "a"}, {"name": "b"})
    assert difference.action is ChangeAction.REPLACE


def _pointers(schema: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, part in schema.get("properties", {}).items():
        yield f"{above}/{name}", part
        yield from _pointers(part, f"{above}/{name}")


@pytest.mark.parametrize("resource", REGISTRY.resources(), ids=lambda resource: resource.name)
def test_what_a_type_declares_about_its_properties_exists(resource: ResourceType) -> None:
    declared = dict(_pointers(resource.schema))
    assert resource.create_only | resource.secret | resource.scalable | resource.computed <= declared.keys()
    marked = {pointer for pointer, schema in declared.items() if schema.get("x-sensitive")}
    assert marked == resource.secret
    assert set(resource.outputs_schema["required"]) <= set(resource.outputs_schema["properties"])
    kinds = {StepType.RESOURCE_BACKUP, StepType.RESOURCE_RESTORE, StepType.RESOURCE_MIGRATE}
    for name, action in resource.actions.items():
        assert (action.name, action.step_type in kinds) == (name, True)


@pytest.mark.parametrize("resource", REGISTRY.resources(), ids=lambda resource: resource.name)
def test_every_property_may_be_unknown_while_planning(resource: ResourceType) -> None:
    unknown = dict.fromkeys(resource.schema["properties"], UNKNOWN)
    properties, diagnostics = resource.check(unknown)
    assert diagnostics == []
    created = resource.compare(None, properties)
    assert created.action is ChangeAction.CREATE
    assert all(change.after_unknown for change in created.changes)
    known = dict.fromkeys(unknown, "known")
    assert resource.compare(known, properties).action is ChangeAction.UPDATE
    assert resource.compare(known, properties, unknown_forces=True).action is ChangeAction.REPLACE


def test_a_property_that_the_outside_world_fills_in_is_no_change_when_left_out() -> None:
    database = REGISTRY.resource("postgres.database")
    prior, _ = database.check({"name": "a", "owner": "somebody"})
    assert database.compare(prior, database.check({"name": "a"})[0]).action is ChangeAction.NO_CHANGE
    assert database.compare(prior, database.check({"name": "a", "owner": "me"})[0]).paths == {("owner",)}


def test_a_password_in_a_configuration_is_wrapped() -> None:
    config, diagnostics = REGISTRY.check_config("postgres", {"url": "postgresql://u:p@h/d"})
    assert (config["url"], diagnostics) == (Secret("postgresql://u:p@h/d"), [])
    assert REGISTRY.check_config("postgres", {"port": 3})[1]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownReference, match=r"did you mean 'postgres\.role'"):
        REGISTRY.resource("postgres.rolle")
    with pytest.raises(UnknownReference):
        REGISTRY.provider("nothing")


def test_names_are_unique_and_belong_to_their_provider() -> None:
    with pytest.raises(ValueError, match="two providers claim the name core"):
        Registry([CoreProvider(), CoreProvider()])

    class Foreign(Counting):
        def types(self) -> Sequence[ResourceType]:
            return (NoteType(),)

    with pytest.raises(ValueError, match="does not begin with counting"):
        Registry([Foreign()])


def test_other_packages_are_loaded_only_when_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    point = EntryPoint("counting", f"{__name__}:Counting", "windlass.providers")
    monkeypatch.setattr(EntryPoint, "load", lambda _self: Counting)
    monkeypatch.setattr(module, "entry_points", lambda group: [point] if group == "windlass.providers" else [])
    assert "counting" not in [provider.name for provider in Registry.default().providers()]
    assert "counting" in [provider.name for provider in Registry.default(allowed=["counting"]).providers()]
    with pytest.raises(UnknownReference, match="has the provider evil"):
        Registry.default(allowed=["evil"])


def test_error_kinds_say_whether_to_try_again() -> None:
    assert ErrorKind.THROTTLED.error_class is ErrorClass.TRANSIENT
    assert ErrorKind.QUOTA.error_class is ErrorClass.PERMANENT
    assert ErrorKind.CANCELLED.error_class is ErrorClass.CANCELLED
    assert ErrorKind.OUTCOME_UNKNOWN.error_class is ErrorClass.INDETERMINATE


async def test_a_session_is_shared_by_the_same_tenant_and_configuration_only() -> None:
    provider = Counting()
    sessions = Sessions(Registry([provider]))
    async with (
        sessions.session("a", "counting", "main", {"name": "x"}),
        sessions.session("a", "counting", "main", {"name": "x"}),
    ):
        assert provider.open == ["x"]
        async with sessions.session("b", "counting", "main", {"name": "x"}):
            assert provider.open == ["x", "x"]
        async with sessions.session("a", "counting", "main", {"name": "y"}):
            assert provider.open == ["x", "x", "y"]
    await sessions.close()
    assert provider.open == []


async def test_an_idle_session_is_closed_and_a_busy_one_is_not() -> None:
    provider = Counting()
    sessions = Sessions(Registry([provider]), idle_seconds=0)
    async with sessions.session("a", "counting", "main", {"name": "busy"}):
        async with sessions.session("a", "counting", "main", {"name": "idle"}):
            pass
        await sessions.close_idle()
        assert provider.open == ["busy"]
    await sessions.close()


async def test_the_number_of_sessions_is_bounded() -> None:
    provider = Counting()
    sessions = Sessions(Registry([provider]), limit=2)
    async with sessions.session("a", "counting", "main", {"name": "1"}):
        async with sessions.session("a", "counting", "main", {"name": "2"}):
            with pytest.raises(ProviderError) as caught:
                async with sessions.session("a", "counting", "main", {"name": "3"}):
                    pass
            assert caught.value.kind is ErrorKind.THROTTLED
        async with sessions.session("a", "counting", "main", {"name": "3"}):
            assert provider.open == ["1", "3"]
    await sessions.close()


async def test_a_session_that_cannot_be_opened_is_not_kept() -> None:
    sessions = Sessions(Registry([Counting()]))
    for _ in range(2):
        with pytest.raises(ProviderError):
            async with sessions.session("a", "counting", "main", {"name": "bad"}):
                pass
    assert len(sessions) == 0


def test_the_inputs_of_an_action_are_checked_but_may_be_more_than_it_needs() -> None:
    registry = Registry.default()
    _, faults = registry.check_action("postgres.database", "migrate", {"nope": 1})
    assert [(fault.code, fault.path) for fault in faults] == [("REQUIRED", ("connection",))]
    given = {"uri": "file:///x", "sha256": "0" * 64, "size": 7}
    assert registry.check_action("postgres.database", "restore", given) == (given, [])
