"""`http.resource`: whatever a REST interface keeps, by the requests that create, read, update and delete it.

Whose a resource is, and which operation made it, is told by a field of it that is named `mark`. Without one, whatever
has the recorded identity is taken for ours, and what an interrupted creation has made is found by `lookup` or by asking
again under the same Idempotency-Key, where the connection says that the server heeds that; else by nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from app.domain import diffing
from app.domain.diffing import Difference
from app.domain.errors import Diagnostic, Severity
from app.egress import Answer
from app.providers.base import (
    Context,
    ErrorKind,
    Idempotency,
    JsonObject,
    Pending,
    ProviderError,
    ResourceState,
    ResourceType,
    Schema,
)
from app.providers.http.api import Api, decoded
from app.providers.http.endpoints import PROPERTIES, Endpoints, Request
from app.providers.http.templates import ABSENT, places, pointed

_ABSENT_CODES = frozenset({404, 410})
_POLL_SECONDS = 2.0
_LONGEST_POLL = 300.0
# A creation may take a moment to be seen by whoever reads.
_LOOKS, _BETWEEN_LOOKS = 4, 0.25


class HttpResourceType(ResourceType):
    """A thing behind a REST interface; its id is the interface's own."""

    name = "http.resource"
    title = "REST resource"
    description = "Anything that a REST interface creates, reads, updates and deletes."
    idempotency = Idempotency.TOKEN
    create_only = frozenset({"/path"})
    secret = frozenset({"/secretFields"})
    scalable = frozenset({"/fields"})
    schema: ClassVar[Schema] = PROPERTIES
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["identity"],
        "additionalProperties": True,
        "properties": {"identity": {"type": "string"}},
    }

    def check(self, properties: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, faults = super().check(properties)
        for name in ("create", "lookup"):
            request = value.get(name)
            if isinstance(request, Mapping) and "id" in places(dict(request)):
                message = "the identity is not known before the resource is created"
                faults.append(Diagnostic(Severity.ERROR, "INVALID", message, (name,)))
        return value, faults

    def compare(
        self, prior: Mapping[str, Any] | None, desired: Mapping[str, Any], *, unknown_forces: bool = False
    ) -> Difference:
        wanted = desired.get("replaceOn")
        fixed = {str(name) for name in wanted} if isinstance(wanted, list) else set()
        pointers = {"/fields"} if "*" in fixed else {f"/fields/{_escaped(name)}" for name in fixed}
        return diffing.compare(prior, desired, self.create_only | pointers, self.secret, unknown_forces=unknown_forces)

    async def read(self, context: Context, state: ResourceState) -> ResourceState | None:
        found = await self._found(context, state.properties, state.id)
        if found is None or not _is_ours(context, state, found):
            return None
        return _state(state.properties, state.id, found, state.private)

    async def create(self, context: Context, properties: JsonObject) -> ResourceState | Pending:
        api: Api = context.connection
        request = Endpoints(properties, context).create()
        try:
            answer = await _ask(api, context, request)
        except ProviderError as error:
            if error.code != "HTTP_409" or error.retry_after_seconds is not None:
                raise
            mine = await self._looked_up(context, properties) if properties.get("lookup") else None
            if mine is None:
                raise ProviderError(ErrorKind.ALREADY_EXISTS, error.message, code=error.code) from error
            return mine
        return await self._begun(context, properties, answer)

    async def recover(self, context: Context, properties: JsonObject) -> ResourceState | Pending | None:
        api: Api = context.connection
        if properties.get("lookup"):
            return await self._looked_up(context, properties)
        if not api.honours_keys:
            return await super().recover(context, properties)
        context.log("asking again under the same Idempotency-Key")
        try:
            answer = await _ask(api, context, Endpoints(properties, context).create())
            identity = _identity(properties, decoded(answer))
        except ProviderError as error:
            if error.code == "HTTP_409" and error.retry_after_seconds is None:
                raise ProviderError(ErrorKind.ALREADY_EXISTS, error.message, code=error.code) from error
            raise
        if answer.status_code == 202 or identity is None:
            message = "the server has begun with it again, and does not say with what"
            raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message)
        # The answer may be the one that was lost, and what it tells of may be gone by now.
        found = await self._found(context, properties, identity)
        return None if found is None else _state(properties, identity, found, {})

    async def update(
        self,
        context: Context,
        prior: ResourceState,
        properties: JsonObject,
        difference: Difference,  # noqa: ARG002  a body is sent whole
    ) -> ResourceState | Pending:
        found = await self._found(context, prior.properties, prior.id)
        if found is None or not _is_ours(context, prior, found):
            message = f"{prior.id} is gone, or is not the one that is managed here"
            raise ProviderError(ErrorKind.NOT_FOUND, message)
        mark = _mark(prior.properties, found) or prior.private.get("mark")
        request = Endpoints(properties, context).update(prior.id, mark)
        answer = await _ask(context.connection, context, request)
        if answer.status_code == 202:
            return _pending(context.connection, "update", properties, prior.id, answer, prior.private)
        return await self._settled(context, properties, prior.id, prior.private)

    async def delete(self, context: Context, prior: ResourceState) -> Pending | None:
        found = await self._found(context, prior.properties, prior.id)
        if found is None or not _is_ours(context, prior, found):
            return None
        request = Endpoints(prior.properties, context).delete(prior.id)
        answer = await _ask(context.connection, context, request, accepted=_ABSENT_CODES)
        if answer.status_code == 202:
            return _pending(context.connection, "delete", prior.properties, prior.id, answer, prior.private)
        return None

    async def poll(self, context: Context, handle: JsonObject) -> ResourceState | Pending | None:
        api: Api = context.connection
        properties, deletes = handle["properties"], handle["for"] == "delete"
        accepted = frozenset({303, *(_ABSENT_CODES if deletes else ())})
        answer = await api.ask(context, "GET", handle["at"], rooted=True, accepted=accepted)
        if answer.status_code in _ABSENT_CODES:
            return None
        document = decoded(answer) if answer.status_code != 303 else None
        progress = properties.get("progress")
        if _is_under_way(progress, answer, document):
            return Pending(handle, _wait(answer), f"{handle['for']} is under way")
        if deletes:
            return None
        identity = handle.get("id") or _identity(properties, document, (progress or {}).get("identity"))
        if identity is None and answer.status_code == 303:
            identity = answer.headers.get("location", "").partition("?")[0].rstrip("/").rpartition("/")[2] or None
        if identity is None:
            return await self._nameless(context, properties)
        return await self._settled(context, properties, identity, handle.get("private") or {})

    async def import_(self, context: Context, identity: str) -> ResourceState:
        """`identity` is the path of the resource: that of its collection, and its id."""
        path, _, name = identity.rpartition("/")
        if not path.startswith("/") or not name:
            message = 'a REST resource is imported by its path, as "/records/7"'
            raise ProviderError(ErrorKind.INVALID, message)
        properties, _ = super().check({"path": path})
        answer = await context.connection.ask(context, "GET", identity)
        document = decoded(answer)
        fields = dict(document) if isinstance(document, Mapping) else {}
        key = _identity(properties, document)
        return _state({**properties, "secretFields": {}, "fields": fields}, key or name, document, {})

    async def _begun(self, context: Context, properties: JsonObject, answer: Answer) -> ResourceState | Pending:
        identity = _identity(properties, decoded(answer))
        if answer.status_code == 202:
            return _pending(context.connection, "create", properties, identity, answer, {})
        if identity is None:
            return await self._nameless(context, properties)
        return await self._settled(context, properties, identity, {})

    async def _nameless(self, context: Context, properties: JsonObject) -> ResourceState:
        """It was made, and no answer tells its identity."""
        found = await self._looked_up(context, properties) if properties.get("lookup") else None
        if found is None:
            message = f"it was made, but nothing at {properties.get('identity') or '/id'} of the answer tells its id"
            raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message)
        return found

    async def _settled(
        self, context: Context, properties: JsonObject, identity: str, private: JsonObject
    ) -> ResourceState:
        for look in range(_LOOKS):
            found = await self._found(context, properties, identity)
            if found is not None:
                return _state(properties, identity, found, private)
            await context.sleep(_BETWEEN_LOOKS * 2**look)
        message = f"the server has made {identity}, and does not find it"
        partial = ResourceState(identity, dict(properties), {"identity": identity}, private)
        raise ProviderError(ErrorKind.NOT_STABILIZED, message, partial=partial)

    async def _found(self, context: Context, properties: Mapping[str, Any], identity: str) -> Any:
        """What is read of it; None where there is nothing."""
        request = Endpoints(properties, context).read(identity)
        answer = await _ask(context.connection, context, request, accepted=_ABSENT_CODES)
        return None if answer.status_code in _ABSENT_CODES else decoded(answer)

    async def _looked_up(self, context: Context, properties: JsonObject) -> ResourceState | None:
        """What this operation made, as far as the lookup can tell."""
        endpoints = Endpoints(properties, context)
        answer = await _ask(context.connection, context, endpoints.lookup(), accepted=_ABSENT_CODES)
        if answer.status_code in _ABSENT_CODES:
            return None
        item = pointed(decoded(answer), properties["lookup"].get("found", ""))
        if item is ABSENT or item is None or item in ({}, []):
            return None
        identity = _identity(properties, item)
        if identity is None:
            message = f"nothing at {properties.get('identity') or '/id'} of what was looked up tells its id"
            raise ProviderError(ErrorKind.INVALID, message, path=("lookup",))
        mark = _mark(properties, item)
        exact = places(dict(properties["lookup"])) & {"operation", "mark"}
        if mark != endpoints.mark and (properties.get("mark") or not exact):
            if not properties.get("mark"):
                message = f"there is {identity}, and nobody can tell who made it"
                raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message)
            message = f"{identity} exists already, and this operation did not make it"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message)
        return await self._settled(context, properties, identity, {})


async def _ask(api: Api, context: Context, request: Request, *, accepted: frozenset[int] = frozenset()) -> Answer:
    return await api.ask(context, request.method, request.path, request.body, accepted=accepted)


def _state(properties: Mapping[str, Any], identity: str, document: Any, private: JsonObject) -> ResourceState:
    observed = pointed(document, properties.get("observed") or "")
    live = _projected(properties.get("fields") or {}, observed)
    found = {name: pointed(document, pointer) for name, pointer in (properties.get("outputs") or {}).items()}
    outputs = {name: None if value is ABSENT else value for name, value in found.items()}
    mark = _mark(properties, document)
    kept = {**private, "mark": mark} if mark else private
    return ResourceState(identity, {**properties, "fields": live}, {**outputs, "identity": identity}, kept)


def _projected(declared: Any, live: Any) -> Any:
    """What is there, as far as it was declared: an interface tells much that nobody has asked for."""
    if isinstance(declared, Mapping):
        inner = live if isinstance(live, Mapping) else {}
        return {name: _projected(value, inner[name]) for name, value in declared.items() if name in inner}
    return live


def _identity(properties: Mapping[str, Any], document: Any, pointer: str | None = None) -> str | None:
    found = pointed(document, pointer or properties.get("identity") or "/id")
    return str(found) if isinstance(found, (str, int)) and not isinstance(found, bool) and found != "" else None


def _mark(properties: Mapping[str, Any], document: Any) -> str | None:
    """The mark of what was read; None where it has none."""
    name = properties.get("mark")
    if not name:
        return None
    found = pointed(document, f"{properties.get('observed') or ''}/{_escaped(name)}")
    return found if isinstance(found, str) and found else None


def _is_ours(context: Context, state: ResourceState, document: Any) -> bool:
    """Without marks the identity has to do. What was imported without a mark is ours while it has none."""
    if not state.properties.get("mark"):
        return True
    mark = _mark(state.properties, document)
    return mark == state.private.get("mark") if mark is None else mark.rpartition("#")[0] == context.owner


def _pending(
    api: Api, what: str, properties: Mapping[str, Any], identity: str | None, answer: Answer, private: JsonObject
) -> Pending:
    location = answer.headers.get("location")
    if not location:
        message = "the server answered 202, and no Location says where to ask what becomes of it"
        partial = ResourceState(identity, dict(properties), {"identity": identity}, private) if identity else None
        raise ProviderError(ErrorKind.OUTCOME_UNKNOWN, message, partial=partial)
    handle = {
        "for": what, "at": api.local(location), "id": identity, "properties": dict(properties), "private": private,
    }  # fmt: skip
    # What is begun and has an identity can be removed again, whatever becomes of it.
    begun = ResourceState(identity, dict(properties), {"identity": identity}, private) if identity else None
    return Pending(handle, _wait(answer), f"{what} is under way", partial=begun if what == "create" else None)


def _wait(answer: Answer) -> float:
    return min(answer.retry_after or _POLL_SECONDS, _LONGEST_POLL)


def _is_under_way(progress: Mapping[str, Any] | None, answer: Answer, document: Any) -> bool:
    """Raises ProviderError NOT_STABILIZED where it has failed."""
    if progress is None or answer.status_code == 303:
        return answer.status_code == 202
    status = pointed(document, progress["status"])
    if status in progress["failed"]:
        told = pointed(document, progress["message"]) if progress.get("message") else ABSENT
        message = f"the server says {status}" + ("" if told is ABSENT else f": {told}")
        raise ProviderError(ErrorKind.NOT_STABILIZED, message[:1000])
    return status not in progress["done"]


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
