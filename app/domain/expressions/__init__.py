"""The language between `${` and `}`: a subset of CEL that can tell what it reads before it is evaluated.

It adds to CEL what a plan needs: values that are not known yet, secrets that stay secret, `?.` and `default()`, and a
budget. It leaves out macros and regular expressions, whose cost nobody can bound.
"""

from __future__ import annotations

from app.domain.expressions.errors import BudgetExceeded, ExpressionError, MissingReference
from app.domain.expressions.expression import Expression, evaluate, parse
from app.domain.expressions.references import Reference

__all__ = ["BudgetExceeded", "Expression", "ExpressionError", "MissingReference", "Reference", "evaluate", "parse"]
