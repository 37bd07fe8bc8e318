"""Who was let in and may not be here any more: one question to the database for all connections of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Looks again and again while somebody is here, and sets the event of whoever has to go."""

    def __init__(self) -> None:
        self._here: dict[Principal, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self.looks = 0

    @contextmanager
    def watching(self, authenticator: Authenticator, principal: Principal) -> Iterator[asyncio.Event]:
        """The event is set once the token is no longer what it was."""
        revoked = asyncio.Event()
        self._here.setdefault(principal, set()).add(revoked)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._look(authenticator))
        try:
            yield revoked
        finally:
            events = self._here.get(principal, set())
            events.discard(revoked)
            if not events:
                self._here.pop(principal, None)
            if not self._here and self._task is not None:
                self._task.cancel()
                self._task = None

    async def until_gone(self, authenticator: Authenticator, principal: Principal) -> None:
        """Returns when the principal may not be here any more."""
        with self.watching(authenticator, principal) as revoked, suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds_left(principal))):
                await revoked.wait()

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
                    for revoked in self._here.get(principal, ()):
                        revoked.set()
