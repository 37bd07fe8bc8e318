"""Connections of the machinery, as the driver has them."""

from __future__ import annotations

import asyncpg
import orjson


class MachineConnection(asyncpg.Connection):  # type: ignore[misc]  # the driver is untyped
    """A connection that is given back without being asked to forget.

    What it was told is for one transaction, or is the tenant of its last statement without one; whoever has it next
    says whose it is before anything else.
    """

    _tenant_id: int | None = None

    def get_reset_query(self) -> str:
        return ""

    async def enter(self, tenant_id: int) -> None:
        """Be of this tenant until another is named; a transaction may still be another's."""
        if self._tenant_id != tenant_id:
            await self.execute(f"SELECT set_config('app.tenant_id', '{int(tenant_id)}', false)")
            self._tenant_id = tenant_id


async def prepare(connection: asyncpg.Connection) -> None:
    """JSON goes in as text and comes out as values, as on the session's connections."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + value.encode(),
        decoder=lambda value: orjson.loads(value[1:]),
    )
