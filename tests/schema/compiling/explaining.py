"""The plan that a prepared statement is executed by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


async def generic_plan(connection: Any, sql: str, values: Sequence[Any]) -> str:
    """As JSON. EXPLAIN with parameters would plan for their values, which a plan made once does not know."""
    written = (str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'" for value in values)
    await connection.execute(f"DEALLOCATE ALL; PREPARE asked AS {sql}")
    explained: str = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked({', '.join(written)})")
    return explained


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan, and all that are below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes_of(below)
