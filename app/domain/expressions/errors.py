"""What can be wrong with an expression."""

from __future__ import annotations

from collections.abc import Sequence

from app.domain.errors import Invalid, UnknownReference


class ExpressionError(Invalid):
    """An expression that cannot be read or evaluated. `position` counts characters of its text, from 0."""

    def __init__(self, message: str, *, position: int = 0, path: Sequence[str] = ()) -> None:
        super().__init__(message, path=path)
        self.position = position


class MissingReference(ExpressionError, UnknownReference):
    """An expression asks for something that is not there; `default(…)` and `?.` catch it."""

    code = "UNKNOWN_REFERENCE"


class BudgetExceeded(ExpressionError):
    """An expression takes more steps, or makes a larger value, than one evaluation may."""

    code = "LIMIT_EXCEEDED"
