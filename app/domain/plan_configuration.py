"""What a plan's configuration may say, each part of it read elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.domain.errors import DomainError, Invalid
from app.domain.naming import hint, nearest

PARTS: Final = (
    "approvals",
    "automation",
    "concurrency",
    "drift",
    "pause",
    "preflight",
    "rollback",
    "timeouts",
    "ttl",
    "verification",
)


def unknown_parts(configuration: Mapping[str, Any] | None) -> list[DomainError]:
    """A refusal of each part that nobody would read: a safeguard that was misspelt would be none."""
    return [
        Invalid(
            f"a plan's configuration knows no '{name[:80]}'{hint(nearest(name[:80], PARTS))}",
            path=("configuration", name),
        )
        for name in configuration or ()
        if name not in PARTS
    ]
