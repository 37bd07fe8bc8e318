"""How long somebody who was let in stays in."""

from __future__ import annotations

import asyncio

import structlog

from app import clock
from app.auth.principal import Principal
from schema.context import Services

REVALIDATE_SECONDS = 15.0

_logger = structlog.get_logger("windlass.live")


def seconds_left(principal: Principal) -> float:
    """Until the token expires."""
    return (principal.expires_at - clock.utc_now()).total_seconds()


async def is_valid(services: Services, principal: Principal) -> bool:
    """Whether the token still is what it was."""
    try:
        return await services.authenticator.revalidate(principal)
    except Exception:  # a database that is away has not revoked anything; the streams say what they cannot read
        _logger.warning("a live connection could not be checked", exc_info=True)
        return True


async def still_valid(services: Services, principal: Principal) -> None:
    """Returns when the principal may not be here any more."""
    while (left := seconds_left(principal)) > 0:
        await asyncio.sleep(min(left, REVALIDATE_SECONDS))
        if not await is_valid(services, principal):
            return
