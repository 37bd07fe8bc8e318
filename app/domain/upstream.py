"""What a plan takes from other plans of its tenant: that they have succeeded, and what they have put out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.domain.errors import Diagnostic, Path, Severity
from app.domain.expressions import embedded
from app.domain.statuses import PLAN, PlanStatus
from app.domain.values import UNKNOWN, Value

# How many plans one may name as those that it depends on.
MOST = 100
# What may still succeed by itself, without anybody who takes it up again.
UNDER_WAY = frozenset(PlanStatus) - PLAN.closed - PLAN.settled
# What never will.
NEVER = PLAN.closed - {PlanStatus.SUCCEEDED}


@dataclass(frozen=True, slots=True)
class Mention:
    """A place of a document where an expression reads plans["name"]; `path` within it, `text` as written."""

    name: str
    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class Upstream:
    """A plan whose outputs another one reads under its name. They are UNKNOWN until it has succeeded."""

    plan_id: int
    name: str
    outputs: Value

    @property
    def is_known(self) -> bool:
        return self.outputs is not UNKNOWN


def mentions(document: Value, path: Path = ()) -> Iterator[Mention]:
    """Every place of a document where other plans are read. What cannot be read is somebody else's to complain of."""
    found, _ = embedded.survey(document, path)
    for item in found:
        for reference in item.expression.references:
            if reference.root == "plans" and reference.path:
                yield Mention(reference.path[0], item.path, item.text)


def scope_of(upstream: Iterable[Upstream]) -> dict[str, Value]:
    """`plans` as expressions see it."""
    return {found.name: {"outputs": found.outputs} for found in upstream}


def awaited(upstream: Iterable[Upstream]) -> list[Diagnostic]:
    """A hint for each plan that has to succeed before what it puts out is known."""
    return [
        Diagnostic(
            Severity.INFO,
            "UPSTREAM_PENDING",
            f"the plan '{found.name}' has to succeed first: what it puts out is not known before",
            ("plans", found.name),
        )
        for found in upstream
        if not found.is_known
    ]
