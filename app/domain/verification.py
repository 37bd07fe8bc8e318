"""Verification: what has to hold for a while after a deployment, before anything is removed for good.

    {"verification": {"monitorFor": "PT1M", "every": "PT10S",
                      "checks": [{"resource": "database", "that": "${live.properties.connectionLimit >= 5}"}]}}

Each check looks at its resource as it really is, at once and then at the interval until the time is over. Without
`that` it has to be there, and as it was applied. A check that does not hold rolls the deployment back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.durations import seconds_of
from app.domain.errors import Invalid, Path
from app.domain.expressions import embedded

LIVE = "live"
_EVERY = 10.0
_LONGEST = 86400.0
_MOST_ROUNDS = 10_000
_MOST_CHECKS = 100


@dataclass(frozen=True, slots=True)
class Check:
    """One resource of the template, or "*" for all; `that` is an expression over `live`."""

    resource: str
    that: str | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What is checked, and how often after the first time."""

    checks: tuple[Check, ...]
    rounds: int = 0
    every_seconds: float = _EVERY


def verification_of(configuration: Mapping[str, Any] | None, path: Path = ("configuration",)) -> Verification | None:
    """What a plan's configuration says; None where it says nothing. Raises Invalid, its path beginning with `path`."""
    given = (configuration or {}).get("verification")
    here = (*path, "verification")
    if given is None:
        return None
    fields = _fields(given, ("monitorFor", "every", "checks"), here)
    checks = fields.get("checks")
    if not isinstance(checks, list) or not 0 < len(checks) <= _MOST_CHECKS:
        message = f"a list of 1 to {_MOST_CHECKS} checks is needed here"
        raise Invalid(message, path=(*here, "checks"))
    every = seconds_of(fields["every"], (*here, "every"), most=_LONGEST) if "every" in fields else _EVERY
    whole = 0.0
    if "monitorFor" in fields:
        whole = seconds_of(fields["monitorFor"], (*here, "monitorFor"), most=_LONGEST)
    rounds = math.ceil(whole / every)
    if rounds > _MOST_ROUNDS:
        message = f"that would be {rounds} rounds of checks; at most {_MOST_ROUNDS} are possible"
        raise Invalid(message, path=(*here, "every"))
    read = tuple(_check(check, (*here, "checks", str(place))) for place, check in enumerate(checks))
    return Verification(read, rounds, every)


def _check(given: object, here: Path) -> Check:
    fields = _fields(given, ("resource", "that"), here)
    resource, that = fields.get("resource"), fields.get("that")
    if not isinstance(resource, str) or not resource:
        message = "the key of a resource is needed here, or '*' for all of them"
        raise Invalid(message, path=(*here, "resource"))
    if that is not None:
        _require_condition(that, (*here, "that"))
    return Check(resource, that)


def _require_condition(that: object, here: Path) -> None:
    if not isinstance(that, str):
        message = "an expression is needed here, such as ${live.outputs.size < 100}"
        raise Invalid(message, path=here)
    found, faults = embedded.survey(that, here)
    if faults:
        raise Invalid(faults[0].message, path=here, diagnostics=tuple(faults))
    if not embedded.is_expression(that):
        message = "this has to be one expression, such as ${live.outputs.size < 100}"
        raise Invalid(message, path=here)
    strange = sorted({reference.root for one in found for reference in one.expression.references} - {LIVE})
    if strange:
        message = f"a check knows '{LIVE}' only (properties and outputs as they are), and not {', '.join(strange)}"
        raise Invalid(message, path=here)


def _fields(given: object, known: tuple[str, ...], here: Path) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        message = f"a map with {', '.join(known)} is needed here"
        raise Invalid(message, path=here)
    for name in given:
        if name not in known:
            message = f"'{name}' means nothing here: use {', '.join(known)}"
            raise Invalid(message, path=(*here, str(name)))
    return given
