"""What can go wrong, as named facts.

    DomainError                     every expected failure; carries `code`, `message`, `path`
    ├── Invalid                     INVALID            input does not mean anything; carries diagnostics
    │   ├── Required                REQUIRED
    │   ├── TypeMismatch            TYPE_MISMATCH
    │   ├── UnknownReference        UNKNOWN_REFERENCE
    │   ├── Cyclic                  CYCLE              carries every cycle as edges
    │   └── LimitExceeded           LIMIT_EXCEEDED
    ├── NotFound                    NOT_FOUND          absent, or another tenant's: nobody can tell which
    ├── Forbidden                   FORBIDDEN          carries the permission that was needed
    ├── Conflict                    CONFLICT
    │   ├── StaleVersion            STALE_VERSION      carries the current version
    │   ├── StalePreview            STALE_PREVIEW      carries the current preview
    │   ├── Locked                  LOCKED             carries the job
    │   └── IdempotencyMismatch     IDEMPOTENCY_MISMATCH
    ├── IllegalState                ILLEGAL_STATE      carries the status it is in
    ├── PolicyDenied                POLICY_DENIED
    ├── ApprovalRequired            APPROVAL_REQUIRED
    ├── QuotaExceeded               QUOTA_EXCEEDED
    └── Several                     more than one of the above at once

A DomainError is a message to the person who asked. Anything else that escapes is a bug of ours.
`path` leads from the root of the input to the offending value, list positions as decimal strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from app.domain.graph import Edge

Path = tuple[str, ...]


class Severity(StrEnum):
    """How much a diagnostic matters; only ERROR prevents an action."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about a document: where it is, what it is, what would be right."""

    severity: Severity
    code: str
    message: str
    path: Path = ()
    suggestion: str | None = None


class DomainError(Exception):
    """An expected refusal. `code` is stable and machine-readable; `message` is for a person."""

    code: ClassVar[str] = "INVALID"

    def __init__(self, message: str, *, path: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path: Path = tuple(path)

    def under(self, *prefix: str) -> DomainError:
        """The same error, its path seen from further outside."""
        self.path = (*prefix, *self.path)
        return self


class Invalid(DomainError):
    """The input does not mean anything; `diagnostics` lists every fault found, not only the first."""

    def __init__(self, message: str, *, path: Sequence[str] = (), diagnostics: Sequence[Diagnostic] = ()) -> None:
        super().__init__(message, path=path)
        self.diagnostics = tuple(diagnostics)


class Required(Invalid):
    """A value that must be given is absent."""

    code = "REQUIRED"


class TypeMismatch(Invalid):
    """A value has another type than its schema or its use asks for."""

    code = "TYPE_MISMATCH"


class UnknownReference(Invalid):
    """A name refers to nothing."""

    code = "UNKNOWN_REFERENCE"


class LimitExceeded(Invalid):
    """The input is larger than a documented bound."""

    code = "LIMIT_EXCEEDED"


class Cyclic(Invalid):
    """Dependencies run in circles; every circle is given as the edges that close it."""

    code = "CYCLE"

    def __init__(self, message: str, *, cycles: Sequence[Sequence[Edge]], path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.cycles = tuple(tuple(cycle) for cycle in cycles)


class NotFound(DomainError):
    """Nothing by this id that the asker may know of."""

    code = "NOT_FOUND"


class Forbidden(DomainError):
    """The asker sees the object but lacks a permission on it."""

    code = "FORBIDDEN"

    def __init__(self, message: str, *, required: str, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.required = required


class Conflict(DomainError):
    """The request collides with what is there."""

    code = "CONFLICT"


class StaleVersion(Conflict):
    """Somebody changed the object since the asker read it."""

    code = "STALE_VERSION"

    def __init__(self, message: str, *, current: int, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.current = current


class StalePreview(Conflict):
    """What would happen is no longer what was reviewed."""

    code = "STALE_PREVIEW"

    def __init__(self, message: str, *, current: Any, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.current = current


class Locked(Conflict):
    """Another job is working on the same resources."""

    code = "LOCKED"

    def __init__(self, message: str, *, job_id: int, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.job_id = job_id


class IdempotencyMismatch(Conflict):
    """The idempotency key was used before, for something else."""

    code = "IDEMPOTENCY_MISMATCH"


class IllegalState(DomainError):
    """The object's status does not permit the action."""

    code = "ILLEGAL_STATE"

    def __init__(self, message: str, *, status: str, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.status = status


class PolicyDenied(DomainError):
    """A policy of the tenant forbids it."""

    code = "POLICY_DENIED"


class ApprovalRequired(DomainError):
    """Somebody else has to agree first."""

    code = "APPROVAL_REQUIRED"


class QuotaExceeded(DomainError):
    """The tenant has used up what it was given."""

    code = "QUOTA_EXCEEDED"

    def __init__(self, message: str, *, key: str, limit: int, used: int, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.key, self.limit, self.used = key, limit, used


class Several(DomainError):
    """Several refusals at once: a form has many fields, and each wrong one is named."""

    def __init__(self, errors: Sequence[DomainError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = tuple(errors)
