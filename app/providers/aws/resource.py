"""What all types of AWS have in common: finding, making, adjusting and removing, each safe to repeat.

A type says how AWS is asked; when it is asked, and whose the answer is, is decided here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.diffing import Difference
from app.domain.enums import ChangeAction, LogLevel
from app.domain.errors import Diagnostic
from app.providers.aws.catalogue import Declaration, declaration
from app.providers.aws.differences import elsewhere, moved
from app.providers.aws.marks import Mark, generated_name, require_free, require_own, vanished, without_marks
from app.providers.aws.outcomes import maybe_later, with_state
from app.providers.aws.procedures import Procedure
from app.providers.aws.things import Found, Phase
from app.providers.base import (
    ActionResult,
    Context,
    ErrorKind,
    Idempotency,
    JsonObject,
    Pending,
    ProviderError,
    ResourceState,
    ResourceType,
)

if TYPE_CHECKING:
    from app.providers.aws.account import Account

# How often something that was just made may be missing when it is looked for.
_LOOKS = 6
# How often one attempt asks for the same settings of a thing that is there.
_SETTING_ATTEMPTS = 4
# At a look every ten seconds, five minutes.
_REMOVAL_TRIES = 30
_STANDS_IN_THE_WAY = ("DependencyViolation", "ResourceInUse")
_WORTH_REPEATING = (ErrorKind.OUTCOME_UNKNOWN, ErrorKind.UNAVAILABLE, ErrorKind.THROTTLED)


class AwsType(ResourceType):
    """One kind of thing in an account.

    `service` is its name in the SDK. `named`: the property that is the thing's name among its like, which is made up
    when it is left out; None where nothing but the tags tells one from another.
    """

    service: ClassVar[str]
    named: ClassVar[str | None] = None
    idempotency: ClassVar[Idempotency] = Idempotency.TAG
    # How many of the account's pauses lie between two looks at what AWS is busy with.
    pauses: ClassVar[int] = 2
    # After how many looks something that is still not ready is taken for one that never will be: half an hour.
    looks: ClassVar[int] = 180
    # Properties that cannot be given to the request that makes the thing, nor set before it is ready.
    late: ClassVar[frozenset[str]] = frozenset()
    # Whether AWS takes a change while an earlier one is under way.
    changes_while_busy: ClassVar[bool] = False
    declaration: ClassVar[Declaration]
    # The list of subnets that AWS lets nobody change to those of another network.
    networked: ClassVar[str | None] = None
    procedures: ClassVar[Mapping[str, Procedure]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in cls.__dict__:
            cls.declaration = declaration(cls.name)
            cls.schema = cls.declaration.schema
            cls.outputs_schema = cls.declaration.outputs
            cls.create_only = cls.declaration.create_only
            cls.secret = cls.declaration.secret
            cls.computed = cls.declaration.computed
            cls.actions = {name: procedure.spec for name, procedure in cls.procedures.items()}

    # ── what a type says ─────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    async def find(self, account: Account, identity: str) -> Found | None:
        """The thing of that id; None where there is none."""

    @abstractmethod
    async def locate(self, context: Context, properties: JsonObject) -> Found | None:
        """What is in the place of the declared thing, whoever made it, or what this operation made; None if nothing."""

    @abstractmethod
    async def make(self, context: Context, properties: JsonObject, tags: dict[str, str]) -> str:
        """One request that makes the thing with all its tags; gives its id."""

    @abstractmethod
    async def change(self, context: Context, found: Found, properties: JsonObject, touched: frozenset[str]) -> None:
        """Brings the `touched` properties, without Tags, to what is declared."""

    @abstractmethod
    async def retag(self, account: Account, found: Found, tags: dict[str, str], gone: list[str]) -> None:
        """Sets tags, and removes others by their keys."""

    @abstractmethod
    async def remove(self, context: Context, found: Found) -> None:
        """Asks for the thing to be removed."""

    def everything(self, account: Account) -> AsyncIterator[Found]:  # noqa: ARG002
        """Every thing of this kind in the region."""
        message = f"{self.name} cannot be listed"
        raise ProviderError(ErrorKind.INVALID, message)

    # ── the contract ─────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, diagnostics = super().check(properties)
        return self.declaration.in_order(value), diagnostics

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        ordered = None if prior is None else self.declaration.in_order(prior)
        difference = super().compare(ordered, self.declaration.in_order(desired), unknown_forces=unknown_forces)
        if self.networked and moved(prior, desired, self.networked, unknown_forces=unknown_forces):
            return elsewhere(difference, self.networked)
        return difference

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        found = await self.find(context.connection, state.id)
        if found is None or not self._is_ours(context, found, state):
            return None
        return self._state(found, state.properties)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState | Pending:
        properties = self.settled(context, properties)
        found = await self.locate(context, properties)
        if found is not None:
            if found.phase is Phase.LEAVING:
                message = f"{self.title} {found.id} is still being removed"
                raise ProviderError(ErrorKind.CONFLICT, message)
            found = await self._claimed(context, found, properties)
            return await self._bring(context, found, properties, properties, "create")
        try:
            identity = await self.make(context, properties, Mark.of(context).tags(properties.get("Tags") or {}))
        except ProviderError as error:
            raise maybe_later(context, error) from error
        context.log(f"{self.title} {identity} is made")
        found = await self.find(context.connection, identity)
        if found is None:
            return Pending({"id": identity, "for": "create", "looks": _LOOKS}, context.connection.pause)
        # Some services answer the request to make what is there already as if they had made it.
        found = await self._claimed(context, found, properties, new=True)
        return await self._bring(context, found, properties, properties, "create")

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | Pending | None:
        properties = self.settled(context, properties)
        found = await self._located(context, properties)
        if found is None or found.phase is Phase.LEAVING:
            return None
        found = await self._claimed(context, found, properties)
        answer = await self._bring(context, found, properties, properties, "create")
        return answer if isinstance(answer, Pending) else self.with_undisclosed(answer, properties)

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002  what differs is asked of AWS, which knows better
    ) -> ResourceState | Pending:
        found = await self.find(context.connection, prior.id)
        if found is None or not self._is_ours(context, found, prior):
            raise vanished(prior.id, self.title)
        return await self._bring(context, found, prior.properties, properties, "update")

    async def delete(self, context: Context, prior: ResourceState) -> Pending | None:
        account: Account = context.connection
        found = await self.find(account, prior.id)
        if found is None:
            return None
        if not self._is_ours(context, found, prior):
            context.log(f"{self.title} {prior.id} is another one by now, and stays", LogLevel.WARN)
            return None
        handle = {"id": prior.id, "for": "delete", "unique": found.unique, "tries": _REMOVAL_TRIES, "left": self.looks}
        return await self._removed(context, found, handle)

    async def poll(self, context: Context, handle: JsonObject) -> ResourceState | Pending | None:
        account: Account = context.connection
        found = await self.find(account, handle["id"])
        if handle["for"] == "delete":
            known = ResourceState(handle["id"], {}, {}, {"unique": handle["unique"]})
            if found is None or not self._is_ours(context, found, known):
                return None
            return await self._removed(context, found, handle)
        if found is None:
            looks = int(handle.get("looks", _LOOKS)) - 1
            if looks < 0:
                message = f"{self.title} {handle['id']} is gone while AWS was busy with it"
                raise ProviderError(ErrorKind.NOT_STABILIZED, message)
            return Pending({**handle, "looks": looks}, account.pause)
        if found.phase is Phase.READY and handle.get("late"):
            return await self._bring(
                context, found, {}, {**self._state(found, {}).properties, **handle["late"]}, handle["for"]
            )
        return self._awaited(account, found, handle.get("late", {}), handle["for"], handle.get("left", self.looks) - 1)

    async def import_(self, context: Context, identity: str) -> ResourceState:
        found = await self.find(context.connection, identity)
        if found is None:
            raise vanished(identity, self.title)
        require_free(context, found.tags, f"{self.title} {identity}")
        return self._state(found, {})

    async def discover(self, context: Context) -> AsyncIterator[ResourceState]:
        async for found in self.everything(context.connection):
            yield self._state(found, {})

    async def act(self, context: Context, action: str, prior: ResourceState, arguments: JsonObject) -> ActionResult:
        procedure = self._procedure(action)
        if await self.read(context, prior) is None:
            raise vanished(prior.id, self.title)
        return await self._after(context, procedure, prior, await procedure.run(context, prior, arguments))

    async def recover_action(
        self, context: Context, action: str, prior: ResourceState, arguments: JsonObject
    ) -> ActionResult | None:
        procedure = self._procedure(action)
        result = await procedure.recover(context, prior, arguments)
        return None if result is None else await self._after(context, procedure, prior, result)

    async def undo_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await self._procedure(action).undo(context, prior, undo)

    async def finalize_action(self, context: Context, action: str, prior: ResourceState, undo: JsonObject) -> None:
        await self._procedure(action).finalize(context, prior, undo)

    # ── how ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def settled(self, context: Context, properties: JsonObject) -> JsonObject:
        """The properties with the name that is made up where none is declared."""
        if self.named is None or properties.get(self.named):
            return properties
        return {**properties, self.named: self.made_up(context, properties)}

    def made_up(self, context: Context, properties: JsonObject) -> str:  # noqa: ARG002
        """A name for a thing whose declaration gives none."""
        return generated_name(context)

    async def _bring(
        self, context: Context, found: Found, known: JsonObject, properties: JsonObject, purpose: str
    ) -> ResourceState | Pending:
        """Brings a thing of ours to the properties; `known` holds those that AWS tells nobody."""
        account: Account = context.connection
        state = self._state(found, known)
        if found.phase is not Phase.READY and purpose == "create":
            return self._awaited(account, found, properties, purpose)
        difference = self.compare(state.properties, properties)
        if difference.action is ChangeAction.NO_CHANGE:
            return self._awaited(account, found, properties, purpose)
        if found.phase is Phase.LEAVING or (found.phase is Phase.BUSY and not self.changes_while_busy):
            message = f"AWS is busy with {self.title} {found.id}: {found.message}"
            raise ProviderError(ErrorKind.CONFLICT, message, retry_after_seconds=self._pause(account))
        for attempt in range(1, _SETTING_ATTEMPTS + 1):
            try:
                await self._set(context, found, properties, difference)
                break
            except ProviderError as error:
                # Whether a lost request had its effect is of no matter: what still differs is asked for again.
                again = error.kind in _WORTH_REPEATING and attempt < _SETTING_ATTEMPTS
                if not again:
                    raise with_state(error, state) from error
                context.log(f"{error.message}; once more", LogLevel.WARN)
                await context.sleep(min(error.retry_after_seconds or account.pause, account.pause))
                found = await self._there(account, found.id)
                difference = self.compare(self._state(found, known).properties, properties)
        return self._awaited(account, await self._there(account, found.id), properties, purpose)

    async def _set(self, context: Context, found: Found, properties: JsonObject, difference: Difference) -> None:
        """Sets what differs. Safe to repeat."""
        touched = frozenset(change.path[0] for change in difference.changes)
        if touched - {"Tags"}:
            await self.change(context, found, properties, touched - {"Tags"})
        if "Tags" in touched:
            wanted = properties.get("Tags") or {}
            gone = sorted(without_marks(found.tags).keys() - wanted.keys())
            await self.retag(context.connection, found, dict(wanted), gone)

    async def _removed(self, context: Context, found: Found, handle: JsonObject) -> Pending | None:
        """Asks for the removal, once; None where the thing is gone.

        What was in a network goes on standing in its way for minutes after it is gone itself, so a refusal for that is
        waited for, and the removal asked for again.
        """
        account: Account = context.connection
        message = found.message if found.phase is Phase.LEAVING else f"{found.id} is being removed"
        if found.phase is not Phase.LEAVING and not handle.get("asked"):
            try:
                await self.remove(context, found)
                handle = {**handle, "asked": True}
            except ProviderError as error:
                if error.kind is ErrorKind.DEPENDENCY and error.code in _STANDS_IN_THE_WAY and handle["tries"] > 1:
                    handle, message = {**handle, "tries": handle["tries"] - 1}, error.message
                elif error.kind is not ErrorKind.NOT_FOUND:
                    raise
            if await self.find(account, found.id) is None:
                return None
        elif found.phase is Phase.BROKEN or handle["left"] <= 1:
            message = f"{self.title} {found.id} is still not removed: {found.message or found.phase.value.lower()}"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        else:
            handle = {**handle, "left": handle["left"] - 1}
        return Pending(handle, self._pause(account), message)

    async def _there(self, account: Account, identity: str) -> Found:
        found = await self.find(account, identity)
        if found is None:
            raise vanished(identity, self.title)
        return found

    def _awaited(
        self, account: Account, found: Found, known: JsonObject, purpose: str, left: int | None = None
    ) -> ResourceState | Pending:
        """The state of what is ready; otherwise what to wait for. `left`: how many looks there will still be."""
        left = self.looks if left is None else left
        state = self._state(found, known)
        if found.phase is Phase.READY:
            return state
        if found.phase is Phase.BUSY and left > 0:
            late = {name: known[name] for name in self.late & known.keys()}
            handle = {"id": found.id, "for": purpose, "left": left, "late": late}
            return Pending(handle, self._pause(account), found.message, partial=state)
        message = f"{self.title} {found.id} has not become ready: {found.message or found.phase.value.lower()}"
        raise ProviderError(ErrorKind.NOT_STABILIZED, message, partial=state)

    async def _located(self, context: Context, properties: JsonObject) -> Found | None:
        """What the operation may have made. What is only known by its tags may take a while to be told of."""
        account: Account = context.connection
        waited = 0.0
        while True:
            found = await self.locate(context, properties)
            if found is not None or self.named is not None or waited >= account.patience:
                return found
            pause = max(account.pause, 0.1)
            await context.sleep(pause)
            waited += pause

    async def _claimed(self, context: Context, found: Found, properties: JsonObject, *, new: bool = False) -> Found:
        """The thing, if this very operation made it; raises ALREADY_EXISTS. `new`: it was not there a moment ago."""
        made_up = self.named is not None and properties[self.named] == self.made_up(context, properties)
        if Mark.parse(found.tags) is None and (new or made_up):
            # Servers that speak the language of AWS may forget what a new thing was tagged with; nobody else makes up
            # this name.
            marks = Mark.of(context).tags({**properties.get("Tags", {}), **found.tags})
            await self.retag(context.connection, found, marks, [])
            return replace(found, tags=marks)
        require_own(context, found.tags, f"{self.title} {found.id}")
        return found

    def _is_ours(self, context: Context, found: Found, state: ResourceState) -> bool:
        """Whether the thing found by the id of `state` is the one it describes.

        A mark decides. Without one (the thing was imported) what AWS never gives twice does.
        """
        mark = Mark.parse(found.tags)
        return mark.owner == Mark.of(context).owner if mark else state.private.get("unique") == found.unique

    def _state(self, found: Found, known: Mapping[str, Any]) -> ResourceState:
        properties = {key: value for key, value in found.properties.items() if value is not None}
        if "Tags" in self.schema["properties"]:
            properties["Tags"] = without_marks(found.tags)
        state = ResourceState(
            found.id,
            self.declaration.in_order(properties),
            found.outputs,
            {"unique": found.unique},
            self.schema_version,
        )
        return self.with_undisclosed(state, known)

    def _pause(self, account: Account) -> float:
        return self.pauses * account.pause

    async def _after(
        self, context: Context, procedure: Procedure, prior: ResourceState, result: ActionResult
    ) -> ActionResult:
        return replace(result, state=await self.read(context, prior)) if procedure.changes else result

    def _procedure(self, action: str) -> Procedure:
        try:
            return self.procedures[action]
        except KeyError:
            raise self._no_action(action) from None
