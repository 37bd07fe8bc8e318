"""Where OpenTofu keeps what it has made in a rehearsal: the platform's own state backend, on a port of its own."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from app.cli.client import CommandFailed
from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.tofu import signing_key
from app.providers.tofu.backend import Backend
from app.services.tofu_states import States
from app.web.tofu import METHODS, PATH, BodyLimits, tofu_states

_USUAL_BYTES = 64 * 1024
_LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Desk:
    """The address is taken before anybody serves there: the provider has to know it."""

    listening: socket.socket
    secret: bytes

    @property
    def backend(self) -> Backend:
        """How runs are told of it."""
        return Backend(f"http://127.0.0.1:{self.listening.getsockname()[1]}", signing_key(self.secret))

    @asynccontextmanager
    async def serving(self, database_url: str) -> AsyncIterator[None]:
        """States are kept in this database, as long as the block lasts."""
        database = Database.connect(database_url, name="windlass-rehearsal-states", pool_size=4)
        states = States(database, Sealer(self.secret), signing_key(self.secret))
        application = Starlette(
            routes=[Route(PATH, tofu_states(states), methods=METHODS)],
            middleware=[Middleware(BodyLimits, usual=_USUAL_BYTES)],
        )
        server = uvicorn.Server(
            uvicorn.Config(application, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
        )
        task = asyncio.create_task(server.serve(sockets=[self.listening]))
        try:
            while not server.started:
                if task.done():
                    message = "the states of OpenTofu cannot be served here"
                    raise CommandFailed(message)
                await asyncio.sleep(_LOOK_SECONDS)
            yield
        finally:
            server.should_exit = True
            await task
            await database.close()


@contextmanager
def desk() -> Iterator[Desk]:
    """An address of this machine that nobody else has."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Desk(listening, secrets.token_bytes(32))
