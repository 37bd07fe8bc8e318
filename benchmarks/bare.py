"""The least that a server of these answers can do: the statement of `BARE_PLAN` (JSON), its text, as bytes.

`uvicorn benchmarks.bare:application`. No authentication, no parsing, no limits, no row-level security to enter but what
the statement does itself.
"""

from __future__ import annotations

import json
import os
from typing import Any

import asyncpg

_PLANS = json.loads(os.environ["BARE_PLANS"])
_pool: asyncpg.Pool | None = None


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    global _pool  # noqa: PLW0603
    if scope["type"] != "http":
        return
    if _pool is None:
        settings = {"role": "windlass_app", "jit": "off", "plan_cache_mode": "force_generic_plan"}
        _pool = await asyncpg.create_pool(
            os.environ["WINDLASS_DATABASE_URL"], min_size=10, max_size=10, server_settings=settings,
            max_cacheable_statement_size=0, max_cached_statement_lifetime=0, connection_class=_Connection,
        )  # fmt: skip
    while (await receive()).get("more_body"):
        pass
    plan = _PLANS[scope["path"].strip("/")]
    async with _pool.acquire() as connection:
        text = await connection.fetchval(plan["sql"], *plan["parameters"])
    body = text.encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver is untyped
    def get_reset_query(self) -> str:
        return ""
