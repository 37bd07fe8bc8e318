"""The platform's state backend on loopback, over a real database, and programs to run against it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.tofu import signing_key
from app.providers.tofu.backend import Backend
from app.services.tofu_states import States
from app.web.tofu import METHODS, PATH, BodyLimits, tofu_states

KEY = signing_key(bytes(range(32)))
USUAL = 1000


@dataclass(frozen=True, slots=True)
class Keeper:
    """The backend, and the database behind it."""

    backend: Backend
    database: Database


def program() -> str | None:
    """What can be run here; None: nothing."""
    return shutil.which("tofu") or shutil.which("terraform")


@asynccontextmanager
async def keeping(database_url: str) -> AsyncIterator[Keeper]:
    database = Database.connect(database_url, name="test-tofu", pool_size=4)
    route = Route(PATH, tofu_states(States(database, Sealer(bytes(range(32))), KEY)), methods=METHODS)
    application = Starlette(routes=[route], middleware=[Middleware(BodyLimits, usual=USUAL)])
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(application, log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110  nobody would tell
        await asyncio.sleep(0.005)
    try:
        yield Keeper(Backend(f"http://127.0.0.1:{listening.getsockname()[1]}", KEY), database)
    finally:
        server.should_exit = True
        await serving
        await database.close()


def client(backend: Backend, password: str) -> httpx.AsyncClient:
    """Whoever has the password, as the program asks."""
    return httpx.AsyncClient(base_url=f"{backend.url}/tofu/states", auth=("windlass", password), trust_env=False)


def module(folder: Path, text: str) -> Path:
    """A module of one file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.tf").write_text(text)
    return folder
