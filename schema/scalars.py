"""The scalars that JSON does not have, and how each is written on the wire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NewType

import strawberry
from strawberry.scalars import JSON

from app.db.sealing import masked
from app.domain.durations import parse_duration
from app.domain.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)
Cursor = NewType("Cursor", str)
# Seconds in Python, ISO-8601 on the wire.
Duration = NewType("Duration", float)

_MAX_BIGINT = 2**63 - 1


def json_of(tree: Any) -> JSON | None:
    """A stored JSON column as anyone may see it: sealed secrets show as {"$sensitive": true}."""
    return None if tree is None else JSON(masked(tree))


def required_json_of(tree: Any) -> JSON:
    """Like `json_of`, for a column that is never null."""
    return JSON(masked(tree))


def _write_datetime(value: datetime) -> str:
    text = value.astimezone(UTC).isoformat(timespec="microseconds")
    return text.removesuffix("+00:00") + "Z"


def _read_datetime(value: Any) -> datetime:
    if not isinstance(value, str):
        message = "a DateTime is written as text"
        raise TypeError(message)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        message = "a DateTime is written like 2026-01-31T08:00:00Z"
        raise ValueError(message) from error
    if moment.tzinfo is None:
        message = "a DateTime names its offset, like 2026-01-31T08:00:00Z"
        raise ValueError(message)
    return moment.astimezone(UTC)


def _read_big_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        message = "a BigInt is a whole number or its decimal text"
        raise TypeError(message)
    number = int(value)
    if abs(number) > _MAX_BIGINT:
        message = "a BigInt has 64 bits"
        raise ValueError(message)
    return number


def _write_duration(seconds: float) -> str:
    whole = timedelta(seconds=seconds)
    minutes, rest = divmod(whole.total_seconds(), 60)
    hours, minutes = divmod(int(minutes), 60)
    parts = [f"{hours}H" if hours else "", f"{minutes}M" if minutes else ""]
    if rest or not any(parts):
        parts.append(f"{rest:.6f}".rstrip("0").rstrip(".") + "S")
    return "PT" + "".join(parts)


def _read_duration(value: Any) -> float:
    try:
        return parse_duration(value).total_seconds()
    except Invalid as error:
        raise ValueError(error.message) from error


def _read_cursor(value: Any) -> str:
    if not isinstance(value, str):
        message = "a Cursor is the text that the server gave"
        raise TypeError(message)
    return value


SCALARS: Mapping[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt", description="Signed 64-bit; written as text.", serialize=str, parse_value=_read_big_int
    ),
    Cursor: strawberry.scalar(
        name="Cursor",
        description="Opaque: give back what you were given, with the same arguments.",
        serialize=str,
        parse_value=_read_cursor,
    ),
    Duration: strawberry.scalar(
        name="Duration",
        description="ISO-8601 duration, e.g. PT15M.",
        serialize=_write_duration,
        parse_value=_read_duration,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="RFC 3339 with an offset; written in UTC, e.g. 2026-01-31T08:00:00.000000Z.",
        specified_by_url="https://scalars.graphql.org/andimarek/date-time",
        serialize=_write_datetime,
        parse_value=_read_datetime,
    ),
}
