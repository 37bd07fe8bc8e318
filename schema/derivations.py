"""What resolvers make of columns: of a value in Python, of a symbol the same in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Double, Text, case, cast, func

from schema.symbols import Symbol, Written, literal


def derived(value: Any, of: Callable[[Any], StrEnum]) -> Any:
    """`of(value)`, for a function of an enum to an enum; for a symbol, the same function in SQL."""
    if not isinstance(value, Symbol):
        return of(value)
    kind: Any = value.kind
    cases = {literal(member): literal(of(member)) for member in kind.enum_class}
    return Symbol(case(cases, value=value.expression), value.kind, nullable=value.nullable)


def texts(values: Any) -> Any:
    """A list of texts."""
    if not isinstance(values, Symbol):
        return list(values)
    return Written(cast(func.to_json(values.expression), Text))


def chosen(value: Any, other: Any, same: Sequence[StrEnum], different: Sequence[StrEnum]) -> Any:
    """One list where a column has that value, the other one where it has not."""
    if not isinstance(value, Symbol):
        return same if value == other else different
    written = (literal("[" + ",".join(f'"{item.value}"' for item in items) + "]") for items in (same, different))
    yes, no = written
    return Written(case((value.expression == other, yes), else_=no))


def only_where(value: Any, wanted: Any, column: Any) -> Any:
    """A column where another value is as wanted, or else null."""
    if not isinstance(value, Symbol):
        return column if value == wanted else None
    return Symbol(case((value.expression == wanted, column.expression)), column.kind, nullable=True)


def seconds_between(start: Any, end: Any) -> Any:
    """Whole seconds from one moment to another, halves to the even number; null where one of them is."""
    if not isinstance(start, Symbol):
        return None if start is None or end is None else round((end - start).total_seconds())
    seconds = cast(func.extract("epoch", end.expression - start.expression), Double)
    return Symbol(cast(func.round(seconds), BigInteger), BigInteger(), nullable=True)


def either(first: Any, second: Any) -> Any:
    """`first`, or `second` where that is null."""
    if not isinstance(first, Symbol):
        return second if first is None else first
    return Symbol(func.coalesce(first.expression, second.expression), first.kind, nullable=second.nullable)
