"""What an error of PostgreSQL, or of the way to it, means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from app.providers.base import ErrorKind, ProviderError

_BY_STATE = {
    "42710": ErrorKind.ALREADY_EXISTS,  # duplicate_object
    "42P04": ErrorKind.ALREADY_EXISTS,  # duplicate_database
    "23505": ErrorKind.ALREADY_EXISTS,  # unique_violation: two creations at the same moment
    "42501": ErrorKind.ACCESS_DENIED,  # insufficient_privilege
    "25006": ErrorKind.ACCESS_DENIED,  # read_only_sql_transaction
    "42704": ErrorKind.NOT_FOUND,  # undefined_object
    "42P01": ErrorKind.NOT_FOUND,  # undefined_table
    "3D000": ErrorKind.NOT_FOUND,  # invalid_catalog_name
    "3F000": ErrorKind.NOT_FOUND,  # invalid_schema_name
    "2BP01": ErrorKind.DEPENDENCY,  # dependent_objects_still_exist
    "55006": ErrorKind.CONFLICT,  # object_in_use
    "55P03": ErrorKind.CONFLICT,  # lock_not_available
    "40001": ErrorKind.CONFLICT,  # serialization_failure
    "40P01": ErrorKind.CONFLICT,  # deadlock_detected
    "XX000": ErrorKind.CONFLICT,  # internal_error: in practice "tuple concurrently updated"
    "53300": ErrorKind.THROTTLED,  # too_many_connections
    "57014": ErrorKind.UNAVAILABLE,  # query_canceled
}
_BY_CLASS = {
    "08": ErrorKind.UNAVAILABLE,  # connection exception
    "57": ErrorKind.UNAVAILABLE,  # operator intervention
    "58": ErrorKind.UNAVAILABLE,  # system error
    "28": ErrorKind.ACCESS_DENIED,  # invalid authorization
    "53": ErrorKind.QUOTA,  # insufficient resources
    "54": ErrorKind.QUOTA,  # program limit exceeded
    "22": ErrorKind.INVALID,
    "42": ErrorKind.INVALID,
    "0A": ErrorKind.INVALID,  # feature not supported
}
# The server ended the session, or the session vanished: a write that was under way may or may not have happened.
_SEVERED = frozenset({"57P01", "57P02", "57P05", "08000", "08003", "08006", "08007"})
# What the driver raises by itself; InternalClientError is its word for a session that ended while it was idle.
DRIVER_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def kind_of(sqlstate: str | None) -> ErrorKind:
    """The meaning of an SQLSTATE."""
    state = sqlstate or ""
    return _BY_STATE.get(state) or _BY_CLASS.get(state[:2]) or ErrorKind.INTERNAL


@asynccontextmanager
async def connecting() -> AsyncIterator[None]:
    """Nothing was sent yet: whatever is in the way, it is safe to try again."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise ProviderError(kind_of(error.sqlstate), str(error), code=error.sqlstate) from error
    except DRIVER_ERRORS as error:
        message = f"the server cannot be reached: {error or type(error).__name__}"
        raise ProviderError(ErrorKind.UNAVAILABLE, message) from error


@asynccontextmanager
async def speaking(*, writes: bool) -> AsyncIterator[None]:
    """Statements are under way: a session lost while writing leaves the outcome unknown."""
    lost = ErrorKind.OUTCOME_UNKNOWN if writes else ErrorKind.UNAVAILABLE
    try:
        yield
    except asyncpg.PostgresError as error:
        kind = lost if error.sqlstate in _SEVERED else kind_of(error.sqlstate)
        detail = f" ({error.detail})" if getattr(error, "detail", None) else ""
        raise ProviderError(kind, f"{error}{detail}", code=error.sqlstate) from error
    except DRIVER_ERRORS as error:
        message = f"the session with the server was lost: {error or type(error).__name__}"
        raise ProviderError(lost, message) from error
