"""Starts the doors by name: this floor may know that they exist, not what is in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from importlib import import_module

from app.settings import Settings, SettingsError

# A client that never reads is gone after eight seconds and costs little until then: the kernel's own buffers would keep
# megabytes for it, and no server above can evict it.
_USER_TIMEOUT_MILLISECONDS = 8_000
_SEND_BUFFER = 128 * 1024
_UNSENT = 64 * 1024
_WS_MESSAGE = 128 * 1024
_GRACE_SECONDS = 10


def serve_api() -> int:
    """Serve `schema.asgi:application`."""
    import uvicorn

    from app.web.serving import DrainingServer
    from app.web.sockets import Socket
    from app.web.straight import StraightHttp

    settings = Settings.from_environment(os.environ)

    # Settings that are missing are told before a port that is taken.
    application = import_module("schema.asgi").application()
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=StraightHttp,
        ws=Socket,
        # The protocol's own pings are used: uvicorn would close with 1011, after which clients do not come back.
        ws_ping_interval=None,
        ws_max_size=_WS_MESSAGE,
        ws_per_message_deflate=False,
        server_header=False,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=_GRACE_SECONDS - int(settings.live_drain_seconds),
        lifespan="on",
    )
    listening = listen(settings.host, settings.port)
    DrainingServer(config, application.state.draining.drain, settings.live_drain_seconds).run(sockets=[listening])
    return 0


def listen(host: str, port: int) -> socket.socket:
    """The listening socket; connections inherit its options. Raises SettingsError when the address is not to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    for name, value in (("TCP_USER_TIMEOUT", _USER_TIMEOUT_MILLISECONDS), ("TCP_NOTSENT_LOWAT", _UNSENT)):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                listening.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        message = f"WINDLASS_HOST, WINDLASS_PORT: cannot listen on {host} port {port}: {error.strerror}"
        raise SettingsError(message) from error
    listening.listen(2048)
    listening.set_inheritable(True)
    return listening


def serve_worker() -> int:
    """Run `workers.main`."""
    import_module("workers.main").main()
    return 0


def serve_scheduler() -> int:
    """Run `workers.tick_main`."""
    import_module("workers.tick_main").main()
    return 0


def serve_webhooks() -> int:
    """Run `schema.delivering`."""
    import_module("schema.delivering").main()
    return 0


def migrate_database() -> int:
    """Bring the database that is set to the newest revision."""
    from app.db.migrating import migrate

    migrate(Settings.from_environment(os.environ).required("database_url"))
    return 0


def rotate_keys() -> int:
    """Seal everything under the newest key, and say how much that was."""
    from app.db.resealing import Resealed, reseal
    from app.db.sealing import SealBroken, Sealer
    from app.db.uow import Database

    settings = Settings.from_environment(os.environ)
    sealer = Sealer.of(settings)

    async def resealed() -> Resealed:
        database = Database.connect(settings.required("database_url"), name="windlass-keys", pool_size=2)
        try:
            return await reseal(database, sealer)
        finally:
            await database.close()

    try:
        done = asyncio.run(resealed())
    except SealBroken as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{done.values} secrets in {done.rows} rows were sealed again\n")
    if done.skipped:
        sys.stdout.write(f"{done.skipped} rows were changed meanwhile: run this once more\n")
    return 1 if done.skipped else 0


def seed_database(token: str | None) -> int:
    """Seed the database that is set, and print the way in."""
    tenant, text = asyncio.run(seeded(Settings.from_environment(os.environ), token))
    sys.stdout.write(json.dumps({"tenant": tenant, "token": text}) + "\n")
    return 0


async def seeded(settings: Settings, token: str | None) -> tuple[str, str]:
    """The demo tenant's name and a token of its administrator."""
    from app.services.embedded_connection import ensure_connection
    from app.services.seeding import seed_demo

    settings.required("database_url")
    result = await seed_demo(settings, token)
    await ensure_connection(settings, result.tenant_slug)
    return result.tenant_slug, result.token
