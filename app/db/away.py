"""How a database that cannot be reached shows itself, under one name whoever was asked."""

from __future__ import annotations

from typing import Any

import asyncpg
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_DRIVER = (
    OSError,
    # Connections that broke, and a server that starts or stops.
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The driver's word when the server ended an idle session and its end was not read yet.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
)
# What comes up when the database cannot be reached, whether SQLAlchemy or the driver was asked.
DATABASE_AWAY = (InterfaceError, OperationalError, PoolTimeout, *_DRIVER)


def renew(connection: Any, record: Any, fairy: Any) -> None:  # noqa: ARG001  as SQLAlchemy calls it
    """Before a session has a pooled connection: one that has ended meanwhile, and others of its time, are made anew.

    Otherwise each of them would have to fail somebody first, which may be long after the server has come back.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError


def as_away(context: ExceptionContext) -> Exception | None:
    """What SQLAlchemy shall raise instead: to it most of the driver's lost connections are errors like any other."""
    cause: BaseException | None = context.original_exception
    while cause is not None and not isinstance(cause, _DRIVER):
        cause = cause.__cause__
    if cause is None or isinstance(context.sqlalchemy_exception, DATABASE_AWAY):
        return None
    return OperationalError(context.statement, None, context.original_exception)


def took_too_long(error: BaseException | None) -> bool:
    """Whether a statement was ended for the time that it took: the database is there, and somebody holds something."""
    while error is not None and not isinstance(error, asyncpg.QueryCanceledError):
        error = error.__cause__ or getattr(error, "orig", None)
    return error is not None
