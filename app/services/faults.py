"""Refusals collected before they are raised: whoever fills in a form hears of all its faults at once."""

from __future__ import annotations

from collections.abc import Iterable

from app.characters import control_in
from app.domain.errors import Diagnostic, DomainError, Invalid, Required, Several, Severity, TypeMismatch

_KINDS: dict[str, type[Invalid]] = {kind.code: kind for kind in (Required, TypeMismatch)}


def refuse(faults: Iterable[DomainError | None]) -> None:
    """Raise what is in `faults`: nothing, the one, or Several."""
    found = [fault for fault in faults if fault is not None]
    if len(found) == 1:
        raise found[0]
    if found:
        raise Several(found)


def text_fault(value: str, limit: int, what: str, *path: str) -> DomainError | None:
    """What is wrong with a text that must be there and have at most `limit` characters; `what` is a noun phrase."""
    if not value.strip():
        return Required(f"{what} is missing", path=path)
    if len(value.strip()) > limit:
        return Invalid(f"{what} has at most {limit} characters", path=path)
    return None


def name_fault(value: str, limit: int, what: str, *path: str) -> DomainError | None:
    """The same of a name, which is printed on one line of whatever shows it: it holds no control character either."""
    return text_fault(value, limit, what, *path) or control_fault(value, what, *path)


def control_fault(value: str, what: str, *path: str) -> DomainError | None:
    """Whether a text holds a control character; those around it are cut off with the spaces."""
    found = control_in(value.strip())
    return None if found is None else Invalid(f"{what} may not contain the control character {found}", path=path)


def errors_of(diagnostics: Iterable[Diagnostic], *prefix: str) -> list[DomainError]:
    """The errors among diagnostics, each as a refusal of its own, with paths that begin with `prefix`."""
    return [
        _KINDS.get(found.code, Invalid)(found.message, path=(*prefix, *found.path), diagnostics=(found,))
        for found in diagnostics
        if found.severity is Severity.ERROR
    ]
