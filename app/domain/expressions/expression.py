"""Expressions: parsed once, evaluated often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from app.domain.expressions.budget import MAX_RESULT, Budget
from app.domain.expressions.errors import BudgetExceeded
from app.domain.expressions.evaluator import Evaluator
from app.domain.expressions.parser import parse_tree
from app.domain.expressions.references import Reference, find_references
from app.domain.expressions.syntax import Node
from app.domain.values import Value


@dataclass(frozen=True, slots=True)
class Expression:
    """A text in the expression language, its syntax tree, and what it reads."""

    text: str
    tree: Node = field(repr=False, compare=False)
    references: tuple[Reference, ...] = field(repr=False, compare=False)


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression that `text` (without `${` and `}`) says. Raises ExpressionError, with the position."""
    tree = parse_tree(text)
    return Expression(text, tree, find_references(tree))


def evaluate(expression: Expression, scope: Mapping[str, Value]) -> Value:
    """The value of the expression where `scope` gives the roots.

    UNKNOWN where the value depends on something unknown; a Secret where it depends on something secret. Raises
    MissingReference for what is not in the scope, BudgetExceeded for what costs too much, else ExpressionError.
    """
    budget = Budget()
    value = Evaluator(scope, budget).value_of(expression.tree)
    if budget.read(value, 0) > MAX_RESULT:
        message = f"the result of an expression may have {MAX_RESULT} characters; this one is larger"
        raise BudgetExceeded(message)
    return value
