"""Sessions with the outside world for the engine: the tenant's connections opened, unsealed and pooled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text

from app.db.places import connection_place
from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.values import reveal
from app.providers.base import ErrorKind, ProviderError
from app.providers.sessions import Sessions

_READ = text(
    "SELECT name, config FROM provider_connection WHERE tenant_id = :tenant AND provider = :provider"
    " AND NOT is_deleted AND (name = :name OR (CAST(:name AS text) IS NULL AND is_default))"
)


class Connections:
    """Finds the configuration of a connection and keeps sessions on it.

    `defaults` are configurations by provider name, used by tenants that have no default connection of their own.
    """

    def __init__(
        self, database: Database, sealer: Sealer, pool: Sessions, defaults: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._pool = pool
        self._defaults = defaults

    @asynccontextmanager
    async def session(self, tenant_id: int, provider: str | None, name: str | None) -> AsyncIterator[Any]:
        """A session. Raises ProviderError NOT_FOUND when the tenant has no connection of that name."""
        if provider is None:
            yield None
            return
        label, config = await self._config(tenant_id, provider, name)
        async with self._pool.session(str(tenant_id), provider, label, config) as session:
            yield session

    async def _config(self, tenant_id: int, provider: str, name: str | None) -> tuple[str, Mapping[str, Any]]:
        async with self._database.read(tenant_id) as session:
            found = await session.execute(_READ, {"tenant": tenant_id, "provider": provider, "name": name})
            row = found.first()
        if row is not None:
            return row.name, reveal(self._sealer.open(row.config, tenant_id, connection_place(provider, row.name)))
        if name is None and provider in self._defaults:
            return "default", self._defaults[provider]
        message = (
            f"there is no connection {name!r} for {provider}" if name else f"there is no connection for {provider}"
        )
        raise ProviderError(ErrorKind.NOT_FOUND, message, code="NO_CONNECTION")
