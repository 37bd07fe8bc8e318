"""The plan that a prepared statement is executed by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


async def generic_plan(connection: Any, sql: str, values: Sequence[Any]) -> str:
    """As JSON. EXPLAIN with parameters would plan for their values, which a plan made once does not know."""
    written = (str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'" for value in values)
    await connection.execute(f"DEALLOCATE ALL; PREPARE asked AS {sql}")
    explained: str = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked({', '.join(written)})")
    return explained
