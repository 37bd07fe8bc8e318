"""A session with one account of AWS in one region: clients that write with a single attempt, and clients that read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials, AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.loaders import Loader, create_loader

from app.providers.aws.failures import speaking
from app.providers.aws.transport import SingleAttempt
from app.providers.base import ErrorKind, ProviderError

CONNECT_SECONDS = 5
READ_SECONDS = 30
# A repeated write makes a second thing; a repeated read does not. AWS's own client would repeat both.
WRITE_ATTEMPTS = 1
READ_ATTEMPTS = 4
CONNECTIONS = 16
PAGES = 1000
ROLE_SECONDS = 3600


@dataclass(slots=True)
class Account:
    """One for a connection, shared by its operations.

    `config` is that of the connection, checked. `patience` is for how many seconds something that was just made may be
    missing from what AWS tells; `pause` how long to wait between two looks.
    """

    config: Mapping[str, Any]
    patience: float = 12.0
    pause: float = 5.0
    # The operations of a server other than AWS's that are known to do nothing where they are run dry.
    dry_runs: frozenset[str] = frozenset()
    _session: AioSession = field(init=False)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _clients: dict[tuple[str, bool], Any] = field(default_factory=dict)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._session = _session(_Given(self.config, self._stack))

    @property
    def region(self) -> str:
        """The region that everything of this session is in."""
        return str(self.config["region"])

    def runs_dry(self, operation: str) -> bool:
        """Whether an operation of EC2 can be run dry without being carried out."""
        return "endpointUrl" not in self.config or operation in self.dry_runs

    async def close(self) -> None:
        """Closes every client."""
        await self._stack.aclose()

    async def read(self, service: str, operation: str, /, **parameters: Any) -> Any:
        """The answer to a question. Raises ProviderError, never OUTCOME_UNKNOWN."""
        return await self._call(service, operation, parameters, writes=False)

    async def write(self, service: str, operation: str, /, **parameters: Any) -> Any:
        """The answer to a request that changes something, sent at most once. Raises ProviderError."""
        return await self._call(service, operation, parameters, writes=True)

    async def find(self, service: str, operation: str, /, **parameters: Any) -> Any:
        """The answer to a question, None where AWS says that there is no such thing."""
        try:
            return await self.read(service, operation, **parameters)
        except ProviderError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            return None

    async def pages(self, service: str, operation: str, key: str, /, **parameters: Any) -> AsyncIterator[Any]:
        """Every item of a list that comes in pages, of at most PAGES pages."""
        client = await self._client(service, writes=False)
        paginator = client.get_paginator(operation)
        async with speaking(f"{service}.{operation}", writes=False):
            count = 0
            async for page in paginator.paginate(**parameters):
                for item in page.get(key, ()):
                    yield item
                count += 1
                if count >= PAGES:
                    return

    async def _call(self, service: str, operation: str, parameters: dict[str, Any], *, writes: bool) -> Any:
        client = await self._client(service, writes=writes)
        async with speaking(f"{service}.{operation}", writes=writes):
            return await getattr(client, operation)(**parameters)

    async def _client(self, service: str, *, writes: bool) -> Any:
        key = (service, writes)
        async with self._opening:
            if key not in self._clients:
                opening = self._session.create_client(
                    service,
                    region_name=self.region,
                    endpoint_url=self.config.get("endpointUrl"),
                    config=_config(
                        WRITE_ATTEMPTS if writes else READ_ATTEMPTS, own_endpoint="endpointUrl" in self.config
                    ),
                )
                self._clients[key] = await self._stack.enter_async_context(opening)
        return self._clients[key]


# Profiles and settings of whoever runs the worker are none of a tenant's business. By name: the name in a configuration
# file and in the environment, which there are none of, the default, and how to convert it.
_WITHOUT_ENVIRONMENT = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


class _Given:
    """The credentials of the connection and no others: never those of the worker's environment or machine."""

    def __init__(self, config: Mapping[str, Any], stack: AsyncExitStack) -> None:
        self._config = config
        self._stack = stack
        self._found: AioCredentials | None = None

    async def load_credentials(self) -> AioCredentials:
        """What requests are signed with."""
        if self._found is None:
            self._found = await self._load()
        return self._found

    async def _load(self) -> AioCredentials:
        if not self._config.get("roleArn"):
            return _credentials(self._config)
        return AioRefreshableCredentials.create_from_metadata(
            metadata=await self._assume(), refresh_using=self._assume, method="sts-assume-role"
        )

    async def _assume(self) -> dict[str, str]:
        base = _session(_Given({key: value for key, value in self._config.items() if key != "roleArn"}, self._stack))
        asked = {
            "RoleArn": self._config["roleArn"],
            "RoleSessionName": "windlass",
            "DurationSeconds": ROLE_SECONDS,
        }
        if self._config.get("externalId"):
            asked["ExternalId"] = self._config["externalId"]
        opening = base.create_client(
            "sts",
            region_name=self._config["region"],
            endpoint_url=self._config.get("endpointUrl"),
            config=_config(READ_ATTEMPTS, own_endpoint="endpointUrl" in self._config),
        )
        async with opening as client, speaking("sts.assume_role", writes=False):
            found = (await client.assume_role(**asked))["Credentials"]
        return {
            "access_key": found["AccessKeyId"],
            "secret_key": found["SecretAccessKey"],
            "token": found["SessionToken"],
            "expiry_time": found["Expiration"].isoformat(),
        }


def _credentials(config: Mapping[str, Any]) -> AioCredentials:
    return AioCredentials(config["accessKeyId"], config["secretAccessKey"], config.get("sessionToken"))


def _session(given: _Given) -> AioSession:
    session = AioSession(session_vars=_WITHOUT_ENVIRONMENT)
    session.register_component("credential_provider", given)
    session.register_component("data_loader", _loader())
    return session


def _config(attempts: int, *, own_endpoint: bool) -> AioConfig:
    return AioConfig(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        s3={"addressing_style": "path"} if own_endpoint else {},
        http_session_cls=SingleAttempt,
        ignore_configured_endpoint_urls=True,
        user_agent_extra="windlass",
    )


@cache
def _loader() -> Loader:
    """The descriptions of the services, which take long to parse: once for a process."""
    return create_loader()
