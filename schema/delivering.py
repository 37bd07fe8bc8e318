"""A process that delivers webhooks: `windlass webhooks`. Any number may run; without one, events wait.

It stands in `schema` because what a webhook says is answered by GraphQL. Delivery itself is `app.engine.webhooks`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import structlog

from app.auth.authenticator import Authenticator
from app.bus.bus import Bus
from app.db.sealing import Sealer
from app.db.uow import Database
from app.egress import Egress, Poster
from app.engine.webhooks import Deliverer, Sender
from app.providers.reach import Reach
from app.providers.registry import Registry
from app.settings import Settings
from app.telemetry.logging import configure
from schema.context import Services
from schema.selections import Projector, event_schema

TURNS = 16

_logger = structlog.get_logger(__name__)


def main() -> None:
    """Run until SIGTERM or SIGINT. Raises SettingsError."""
    settings = Settings.from_environment(os.environ)
    configure(settings.log_level, settings.log_format)
    services = _services(settings)
    asyncio.run(_run(services))


def _services(settings: Settings) -> Services:
    database = Database.connect(
        settings.required("database_url"), name="windlass-webhooks", pool_size=settings.pool_size
    )
    return Services(
        database=database,
        catalogue=Registry.default(allowed=settings.providers, reach=Reach.of(settings)),
        sealer=Sealer.of(settings),
        # Nothing is watched here; what events lead to may name it.
        bus=Bus(settings.required("redis_url")),
        authenticator=Authenticator(database),
        egress=Egress.of(settings),
    )


async def _run(services: Services) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    # Names are looked up in threads, and one that takes long keeps its thread: no other sender shall wait for it.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * TURNS))
    # Made now, and not while the first event waits for it.
    event_schema()
    poster = Poster(services.egress, connections=TURNS)
    sender = Sender(services.sealer, poster, Projector(services))
    _logger.info("webhooks ready")
    try:
        await Deliverer(services.database, sender, random.random, turns=TURNS).run(stopping)
    finally:
        await poster.close()
        await services.database.close()
