"""Whether this process lives, and whether it should be sent requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cache

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.bus.bus import Bus
from app.db.migrating import configuration
from app.db.uow import Database

_TIMEOUT_SECONDS = 3.0
_NO_STORE = {"Cache-Control": "no-store"}


@cache
def migration_head() -> str | None:
    """The revision that this version of the code was written for."""
    return ScriptDirectory.from_config(configuration("")).get_current_head()


async def alive(_: Request) -> Response:
    """GET /healthz: 200 while the process answers at all."""
    return JSONResponse({"status": "ok"}, headers=_NO_STORE)


def readiness(database: Database, bus: Bus, head: str | None) -> Callable[[Request], Awaitable[Response]]:
    """GET /readyz: 200 when the database answers and has been migrated to `head`, 503 otherwise.

    A silent bus is shown and makes nobody unready: without it everything works, more slowly.
    """

    async def ready(_: Request) -> Response:
        state = await _database_state(database, head)
        body = {
            "status": "ok" if state == "ok" else "unavailable",
            "database": state,
            "bus": "ok" if bus.healthy else "silent",
        }
        return JSONResponse(body, status_code=200 if state == "ok" else 503, headers=_NO_STORE)

    return ready


async def _database_state(database: Database, head: str | None) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), database.engine.connect() as connection:
            found = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except (SQLAlchemyError, OSError, TimeoutError):
        return "unreachable or not migrated"
    return "ok" if found == head else f"at revision {found}, wanted {head}"
