"""Findings about documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import strawberry

from app.domain import errors
from app.domain.enums import LogLevel


@strawberry.type(description="One finding about a document: where it is, what it is, what would be right.")
class Diagnostic:
    severity: LogLevel
    code: str
    message: str
    path: list[str]
    suggestion: str | None

    @classmethod
    def of(cls, found: errors.Diagnostic) -> Diagnostic:
        return cls(
            severity=LogLevel(found.severity.value),
            code=found.code,
            message=found.message,
            path=list(found.path),
            suggestion=found.suggestion,
        )

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Diagnostic:
        """From a stored finding: {"severity", "code", "message", "path", "suggestion"}."""
        return cls(
            severity=LogLevel(stored["severity"]),
            code=stored["code"],
            message=stored["message"],
            path=[str(part) for part in stored.get("path") or ()],
            suggestion=stored.get("suggestion"),
        )
