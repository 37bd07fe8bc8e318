"""Who was let in and may not be here any more: one question to the database for all connections of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from app import clock
from app.auth.authenticator import Authenticator
from app.auth.principal import Principal

# A revocation ends a connection within a second.
LOOK_SECONDS: Final = 0.5

_logger = structlog.get_logger("windlass.live")


def seconds_left(principal: Principal) -> float:
    """Until the token expires."""
    return (principal.expires_at - clock.utc_now()).total_seconds()


class Guard:
    """Looks again and again while somebody is here, and tells whoever has to go."""

    def __init__(self) -> None:
        # The principal itself as well: thousands of connections of one token keep one.
        self._here: dict[Principal, tuple[Principal, set[Callable[[], None]]]] = {}
        self._task: asyncio.Task[None] | None = None
        self.looks = 0

    def watch(self, authenticator: Authenticator, principal: Principal, revoked: Callable[[], None]) -> Principal:
        """Call `revoked` once the token is no longer what it was. Returns the principal to keep."""
        kept, told = self._here.setdefault(principal, (principal, set()))
        told.add(revoked)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._look(authenticator))
        return kept

    def leave(self, principal: Principal, revoked: Callable[[], None]) -> None:
        """Whoever leaves is not told any more."""
        _, told = self._here.get(principal, (principal, set()))
        told.discard(revoked)
        if not told:
            self._here.pop(principal, None)
        if not self._here and self._task is not None:
            self._task.cancel()
            self._task = None

    async def until_gone(self, authenticator: Authenticator, principal: Principal) -> None:
        """Returns when the principal may not be here any more."""
        revoked = asyncio.Event()
        self.watch(authenticator, principal, revoked.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, seconds_left(principal))):
                    await revoked.wait()
        finally:
            self.leave(principal, revoked.set)

    async def _look(self, authenticator: Authenticator) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            asked = list(self._here)
            try:
                good = await authenticator.still_good(asked)
            except Exception:  # a database that is away has not revoked anything; the streams say what they cannot read
                _logger.warning("live connections could not be checked", exc_info=True)
                continue
            self.looks += 1
            for principal in asked:
                if principal not in good:
                    for revoked in list(self._here.get(principal, (principal, set()))[1]):
                        revoked()
