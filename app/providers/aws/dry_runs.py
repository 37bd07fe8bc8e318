"""What EC2 says of a request without carrying it out."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.domain.enums import LogLevel
from app.providers.base import Context, ErrorKind, ProviderError
from app.providers.preflights import PreflightRequest

if TYPE_CHECKING:
    from app.providers.aws.account import Account

# How EC2 says that the request would have been carried out.
_WOULD_SUCCEED = "DryRunOperation"


class WouldSucceed(Exception):
    """Nobody refused the request, and nothing was done."""


class CarriedOut(Exception):
    """The request was carried out by a server of which it was believed that it knows dry runs."""


class NotAsked(Exception):
    """A server that only speaks AWS's language may carry a dry run out: it is asked only where it is known not to."""


class NotKnown(Exception):
    """The request depends on what there is not yet."""


class Known(dict[str, Any]):
    """The properties of a request, of which some are not known: whoever asks for these gets NotKnown."""

    def __init__(self, request: PreflightRequest) -> None:
        super().__init__(request.properties)
        self._unknown = request.unknown

    def __missing__(self, name: str) -> Any:
        if name in self._unknown:
            raise NotKnown(name)
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self or name in self._unknown else default


@dataclass(frozen=True, slots=True)
class DryRuns:
    """An account whose first write is a dry run, and has no second.

    It raises WouldSucceed, NotAsked, CarriedOut, or what EC2 refuses it by.
    """

    account: Account

    async def write(self, service: str, operation: str, /, **parameters: Any) -> Any:
        if service != "ec2":
            message = f"{service} has no dry runs"
            raise ProviderError(ErrorKind.INTERNAL, message)
        if not self.account.runs_dry(operation):
            message = f"{service}.{operation}"
            raise NotAsked(message)
        try:
            await self.account.write(service, operation, **parameters, DryRun=True)
        except ProviderError as error:
            if error.code == _WOULD_SUCCEED:
                raise WouldSucceed from error
            raise
        message = f"{service}.{operation}"
        raise CarriedOut(message)


@dataclass(frozen=True, slots=True)
class DryContext:
    """The context of an operation that writes dry."""

    inner: Context
    connection: DryRuns

    @property
    def operation_id(self) -> str:
        return self.inner.operation_id

    @property
    def attempt(self) -> int:
        return self.inner.attempt

    @property
    def owner(self) -> str:
        return self.inner.owner

    @property
    def cancelled(self) -> bool:
        return self.inner.cancelled

    @property
    def deadline(self) -> float:
        return self.inner.deadline

    @property
    def workspace(self) -> Path:
        return self.inner.workspace

    def connect(self, name: str) -> AbstractAsyncContextManager[Any]:
        return self.inner.connect(name)

    def log(self, message: str, level: LogLevel = LogLevel.INFO, stream: str = "provider", **fields: Any) -> None:
        self.inner.log(message, level, stream, **fields)

    def progress(self, percent: float | None, message: str = "") -> None:
        self.inner.progress(percent, message)

    async def drain(self) -> None:
        await self.inner.drain()

    async def sleep(self, seconds: float) -> None:
        await self.inner.sleep(seconds)
