"""Expected refusals as data: one GraphQL type for each kind that has something to say beyond its message."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import strawberry

from app.db import models
from app.domain import errors
from app.domain.enums import StatusReason
from schema.context import Info
from schema.enums import Permission
from schema.fields import described
from schema.nodes import MalformedId, Node, decode_id, load
from schema.types.actions import AvailableAction, Blocker, actions_of
from schema.types.diagnostics import Diagnostic
from schema.types.graphs import GraphEdge
from schema.types.previews import Preview
from schema.types.quotas import Quota


@strawberry.enum(description="Stable; treat a value you do not know as INVALID.")
class UserErrorCode(StrEnum):
    INVALID = "INVALID"
    REQUIRED = "REQUIRED"
    NOT_FOUND = "NOT_FOUND"
    FORBIDDEN = "FORBIDDEN"
    CONFLICT = "CONFLICT"
    STALE_VERSION = "STALE_VERSION"
    STALE_PREVIEW = "STALE_PREVIEW"
    ILLEGAL_STATE = "ILLEGAL_STATE"
    CYCLE = "CYCLE"
    UNKNOWN_REFERENCE = "UNKNOWN_REFERENCE"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    LOCKED = "LOCKED"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    POLICY_DENIED = "POLICY_DENIED"
    APPROVAL_REQUIRED = "APPROVAL_REQUIRED"
    IDEMPOTENCY_MISMATCH = "IDEMPOTENCY_MISMATCH"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"


@strawberry.interface(description="Why a mutation was refused. Nothing was written.")
class UserError:
    code: UserErrorCode
    message: str
    path: list[str] | None = strawberry.field(description="Path into `input`.")


@strawberry.type(description="A refusal with nothing to add to its message.")
class SimpleUserError(UserError):
    pass


@strawberry.type(description="The input makes no sense; every fault that was found is named.")
class ValidationError(UserError):
    diagnostics: list[Diagnostic]


@strawberry.type(description="Dependencies run in circles.")
class CycleError(UserError):
    cycle: list[GraphEdge] = strawberry.field(description="The edges of every circle, one after the other.")


@strawberry.type(description="It collides with what is there.")
class ConflictError(UserError):
    current_version: int | None
    about: strawberry.Private[str | None] = None

    @described("What was to be changed, as it is now. Null where something was to be made.")
    async def node(self, info: Info) -> Node | None:
        return await _named(info, self.about)


@strawberry.type(description="What would happen is no longer what was reviewed.")
class StalePreviewError(UserError):
    current: Preview


@strawberry.type(description="The object's status does not permit it.")
class IllegalStateError(UserError):
    status: str
    about: strawberry.Private[str | None] = None

    @described("What can be done now, where a plan or a job was to be changed.")
    async def available_actions(self, info: Info) -> list[AvailableAction]:
        found: Any = await _named(info, self.about)
        return [] if found is None or found.row.__class__ not in _WITH_ACTIONS else await actions_of(info, found.row)


@strawberry.type(description="A job is working on the same resources.")
class LockedError(UserError):
    job_id: strawberry.Private[int]

    @described("The job, and when it may be over.")
    async def blockers(self, info: Info) -> list[Blocker]:
        job = await info.context.loaders.job.load(self.job_id)
        if job is None:
            return []
        since = job.started_at or job.created_at
        return [Blocker(reason=StatusReason.LOCK_HELD, message=self.message, since=since, holder_id=self.job_id)]


@strawberry.type(description="The token, or the person behind it, may not do this.")
class PermissionError(UserError):  # noqa: A001  the public contract's name
    required: Permission


@strawberry.type(description="The tenant has used up what it was given.")
class QuotaError(UserError):
    quota: Quota


_WITH_ACTIONS = (models.DeploymentPlan, models.OrchestrationJob)
ERROR_TYPES = (
    SimpleUserError,
    ValidationError,
    CycleError,
    ConflictError,
    StalePreviewError,
    IllegalStateError,
    LockedError,
    PermissionError,
    QuotaError,
)


def user_errors(error: errors.DomainError, about: str | None = None) -> list[UserError]:
    """The GraphQL objects of a refusal; several where it holds several. `about`: the id of what was to be changed."""
    if isinstance(error, errors.Several):
        return [one for inner in error.errors for one in user_errors(inner, about)]
    for kind, build in _BUILDERS:
        if isinstance(error, kind):
            found = build(error, _common(error))
            if isinstance(found, ConflictError | IllegalStateError):
                found.about = about
            return [found]
    return [SimpleUserError(**_common(error))]


async def _named(info: Info, about: str | None) -> Node | None:
    """The object of a global id; None for what is none, or not to be seen."""
    try:
        kind, number = ("", 0) if about is None else decode_id(about)
    except MalformedId:
        return None
    # Tokens are seen by those they belong to.
    loader = None if kind == "ApiToken" else info.context.loaders.of_type(kind)
    found: Node | None = None if loader is None else await load(loader, number, kind)
    return found


def _common(error: errors.DomainError) -> dict[str, Any]:
    return {"code": _code(error), "message": error.message, "path": list(error.path) or None}


def _code(error: errors.DomainError) -> UserErrorCode:
    """The error's own code, or what all of its findings agree on where that says more than INVALID."""
    if type(error) is errors.Invalid:
        found = {item.code for item in error.diagnostics if item.severity is errors.Severity.ERROR}
        if len(found) == 1 and (code := found.pop()) in UserErrorCode.__members__:
            return UserErrorCode(code)
    return UserErrorCode(error.code)


Builder = Callable[[Any, dict[str, Any]], UserError]

# The first kind that fits; the special ones stand before those they are kinds of.
_BUILDERS: tuple[tuple[type[errors.DomainError], Builder], ...] = (
    (
        errors.Cyclic,
        lambda error, common: CycleError(
            **common, cycle=[GraphEdge.of(edge) for cycle in error.cycles for edge in cycle]
        ),
    ),
    (
        errors.Invalid,
        lambda error, common: ValidationError(
            **common, diagnostics=[Diagnostic.of(found) for found in error.diagnostics]
        ),
    ),
    (
        errors.StalePreview,
        lambda error, common: StalePreviewError(**common, current=Preview.of_json(error.current)),
    ),
    (errors.StaleVersion, lambda error, common: ConflictError(**common, current_version=error.current)),
    (errors.Locked, lambda error, common: LockedError(**common, job_id=error.job_id)),
    (errors.Conflict, lambda _error, common: ConflictError(**common, current_version=None)),
    (errors.IllegalState, lambda error, common: IllegalStateError(**common, status=str(error.status))),
    (errors.Forbidden, lambda error, common: PermissionError(**common, required=Permission(error.required))),
    (
        errors.QuotaExceeded,
        lambda error, common: QuotaError(**common, quota=Quota(key=error.key, limit=error.limit, used=error.used)),
    ),
)
