"""The provider `http`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from app.egress import Caller, Egress
from app.providers.base import Provider, ResourceType, Schema, TaskType
from app.providers.http.api import CONFIG_SCHEMA, Api
from app.providers.http.resource import HttpResourceType
from app.providers.http.tasks import RequestTask, WebhookTask

_CONNECTIONS = 8


class HttpProvider(Provider):
    """Servers that speak HTTP and JSON. `egress` says which may be reached: by default those of the public internet."""

    name = "http"
    title = "HTTP"
    version = "1"
    config_schema: ClassVar[Schema] = CONFIG_SCHEMA

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    def types(self) -> Sequence[ResourceType]:
        return (HttpResourceType(),)

    def tasks(self) -> Sequence[TaskType]:
        return (RequestTask(), WebhookTask())

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[Api]:
        return self._session(config)

    @asynccontextmanager
    async def _session(self, config: Mapping[str, Any]) -> AsyncIterator[Api]:
        # A pool for each connection: tenants do not queue behind each other, nor share a TLS session.
        caller = Caller(
            self._egress, connections=_CONNECTIONS, deadline_seconds=float(config.get("timeoutSeconds", 10))
        )
        try:
            yield Api(caller, config)
        finally:
            await caller.close()
