"""The provider `postgres`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

from app.providers.base import ErrorKind, Provider, ProviderError, ResourceType, Schema
from app.providers.postgres.address import CONFIG_SCHEMA, Address
from app.providers.postgres.archives import Archives
from app.providers.postgres.database import DatabaseType
from app.providers.postgres.grant import GrantType
from app.providers.postgres.role import RoleType
from app.providers.postgres.server import Server


class PostgresProvider(Provider):
    """Roles, databases and grants of PostgreSQL servers.

    `directories`: where to look first for pg_dump and pg_restore. `sockets`: whether a connection may name a socket in
    the worker's file system. An installation whose tenants are strangers to each other forbids it: who may connect
    through a socket is often not asked for a password.
    """

    name = "postgres"
    title = "PostgreSQL"
    version = "1"
    config_schema: ClassVar[Schema] = CONFIG_SCHEMA

    def __init__(self, *, directories: Sequence[Path] = (), sockets: bool = True) -> None:
        self._sockets = sockets
        self._types: tuple[ResourceType, ...] = (RoleType(), DatabaseType(Archives(directories)), GrantType())

    def types(self) -> Sequence[ResourceType]:
        return self._types

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[Server]:
        return self._session(config)

    @asynccontextmanager
    async def _session(self, config: Mapping[str, Any]) -> AsyncIterator[Server]:
        address = Address.parse(config)
        if address.is_socket and not self._sockets:
            message = "this installation does not connect to servers through sockets"
            raise ProviderError(ErrorKind.ACCESS_DENIED, message, path=("url",))
        server = Server(address)
        try:
            yield server
        finally:
            await server.close()
