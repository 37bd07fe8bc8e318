"""Policies, and what they say of plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import strawberry

from app.db import models
from app.domain.enums import PolicyLevel, PolicySubject
from app.domain.policies import Finding
from app.reads import policies as reads
from schema.fields import computed, described
from schema.types.entities import Entity


@strawberry.input
class PolicyFilter:
    level: list[PolicyLevel] | None = None
    enabled: bool | None = None

    def wanted(self) -> reads.PolicyFilter:
        level = None if self.level is None else tuple(sorted(set(self.level)))
        return reads.PolicyFilter(level, self.enabled)


@strawberry.type(description="A rule that every plan of the tenant is judged by: docs/howto/policies.md.")
class Policy(Entity):
    row: strawberry.Private[models.Policy]

    @strawberry.field
    def name(self) -> str:
        return self.row.name

    @strawberry.field
    def description(self) -> str | None:
        return self.row.description

    @computed("level")
    def level(self) -> PolicyLevel:
        return self.row.level

    @strawberry.field
    def subject(self) -> PolicySubject:
        return self.row.subject

    @described("What it speaks of, one expression ${…}; null: of everything.")
    def when(self) -> str | None:
        return self.row.condition

    @described("What has to be true then, one expression ${…}.")
    def require(self) -> str:
        return self.row.requirement

    @described("What whoever breaks it is told; may hold expressions.")
    def message(self) -> str | None:
        return self.row.message

    @described("Whose clocks `time` shows.")
    def time_zone(self) -> str:
        return self.row.time_zone

    @strawberry.field
    def enabled(self) -> bool:
        return self.row.is_enabled


@strawberry.type(description="What one policy says of a plan. One that is not met by several changes says it of each.")
class PolicyResult:
    policy: str
    level: PolicyLevel
    passed: bool
    message: str | None
    path: list[str] | None = strawberry.field(description="What it speaks of: [changes, <key>]; null: the plan.")

    @classmethod
    def of(cls, found: Finding) -> PolicyResult:
        return cls(
            policy=found.policy,
            level=found.level,
            passed=found.passed,
            message=found.message,
            path=list(found.path) or None,
        )

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> PolicyResult:
        return cls.of(Finding.of(stored))
