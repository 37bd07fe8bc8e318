"""How resources differ from what was applied, and which of it does not count."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import strawberry
from strawberry.scalars import JSON

from app import clock
from app.domain.drifting import IgnoreRule
from schema.scalars import json_of


@strawberry.type(description="One property that is not as we left it. Sensitive values are never shown.")
class PropertyDrift:
    path: list[str]
    expected: JSON | None = strawberry.field(description="As it was last applied; null where it was not there.")
    actual: JSON | None = strawberry.field(description="As it was last observed; null where it is not there.")
    sensitive: bool

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> PropertyDrift:
        return cls(
            path=list(stored["path"]),
            expected=json_of(stored["expected"]),
            actual=json_of(stored["actual"]),
            sensitive=stored["sensitive"],
        )


@strawberry.type(description="Differences at the path and below it do not count.")
class DriftIgnoreRule:
    path: list[str]
    reason: str
    expires_at: datetime | None
    expired: bool = strawberry.field(description="Whether they count again.")

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> DriftIgnoreRule:
        rule = IgnoreRule.from_document(stored)
        expired = not rule.holds(clock.utc_now())
        return cls(path=list(rule.path), reason=rule.reason, expires_at=rule.expires_at, expired=expired)


@strawberry.type(description="Why a resource could not be looked at, or not be imported.")
class ObservationError:
    code: str
    message: str

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> ObservationError:
        return cls(code=stored["code"], message=stored["message"])
