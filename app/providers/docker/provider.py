"""The provider `docker`: containers of engines that the installation names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from app.domain.errors import Diagnostic, Severity
from app.providers.base import ErrorKind, JsonObject, Provider, ProviderError, ResourceType, Schema
from app.providers.docker.image import ImageType
from app.providers.docker.network import NetworkType
from app.providers.docker.service import ServiceType
from app.providers.docker.volume import VolumeType
from app.providers.sources import Sources

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine


class DockerProvider(Provider):
    """Docker engines, and Podman's interface of that name. `hosts`: those that a connection may name.

    Whoever may use an engine's socket owns its machine. So tenants get no more of it than the types give: no
    privileges, no folders of the machine, no network or volume that was not made for the same tenant.
    """

    name = "docker"
    title = "Docker"
    version = "1"
    config_schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["host"],
        "properties": {
            "host": {
                "type": "string",
                "pattern": "^(unix:///.+|tcp://[^/]+)$",
                "description": "unix:///var/run/docker.sock or tcp://host:port, if the installation allows it",
            }
        },
    }

    def __init__(self, hosts: Sequence[str] = (), sources: Sources | None = None) -> None:
        self._hosts = frozenset(hosts)
        self._types: tuple[ResourceType, ...] = (
            NetworkType(), VolumeType(), ImageType(sources or Sources()), ServiceType(),
        )  # fmt: skip

    def types(self) -> Sequence[ResourceType]:
        return self._types

    def check_config(self, config: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, faults = super().check_config(config)
        refusal = None if faults else self._refusal(value["host"])
        if refusal is not None:
            faults.append(Diagnostic(Severity.ERROR, "NOT_ALLOWED", refusal, ("host",)))
        return value, faults

    def session(self, config: Mapping[str, Any]) -> AbstractAsyncContextManager[Engine]:
        return self._session(config)

    @asynccontextmanager
    async def _session(self, config: Mapping[str, Any]) -> AsyncIterator[Engine]:
        host = config["host"]
        refusal = self._refusal(host)
        if refusal is not None:
            raise ProviderError(ErrorKind.ACCESS_DENIED, refusal, path=("host",))
        try:
            from app.providers.docker.engine import Engine  # noqa: PLC0415  an extra, which may not be installed
        except ImportError as error:
            message = "this installation lacks the extra 'docker'"
            raise ProviderError(ErrorKind.INVALID, message) from error
        async with Engine.open(host) as engine:
            yield engine

    def _refusal(self, host: str) -> str | None:
        if host in self._hosts:
            return None
        return f"this installation does not allow the engine {host} (WINDLASS_DOCKER_HOSTS)"
