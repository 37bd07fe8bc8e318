"""The embedded servers: started, stopped, killed, and left behind by a process that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest
import redis

from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def test_postgres_keeps_its_data_when_it_is_stopped_killed_or_left_behind(server_folder: Path) -> None:
    server = EmbeddedPostgres(server_folder / "pg")
    url = server.start()
    asyncio.run(ask(url, "CREATE TABLE kept AS SELECT 42 AS answer"))
    server.stop()
    assert not server.alive()

    assert server.start() == url, "the same address as before"
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    while server.alive():
        pass
    assert server.start() == url
    assert asyncio.run(ask(url, "SELECT answer FROM kept")) == 42

    # Another process of ours finds the server of one that died: it takes over the data, not the server.
    successor = EmbeddedPostgres(server_folder / "pg")
    url = successor.start()
    assert asyncio.run(ask(url, "SELECT answer FROM kept")) == 42
    successor.stop()
    server.stop()


def test_a_pid_file_that_is_nobodys_is_not_believed(server_folder: Path) -> None:
    server = EmbeddedPostgres(server_folder / "pg", durable=False)
    server.start()
    server.stop()
    (server_folder / "pg" / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{server_folder}\n1\n1\n\n\n\n")
    url = server.start()
    assert asyncio.run(ask(url, "SELECT 1")) == 1
    server.stop()


def test_postgres_lets_nobody_in_without_the_password(server_folder: Path) -> None:
    server = EmbeddedPostgres(server_folder / "pg", durable=False)
    url = server.start()
    host = url.rpartition("@")[2]
    with pytest.raises(asyncpg.InvalidPasswordError):
        asyncio.run(ask(f"postgresql://windlass:guess@{host}", "SELECT 1"))
    assert asyncio.run(ask(url, "SHOW unix_socket_directories")) == ""
    assert asyncio.run(ask(url, "SHOW listen_addresses")) == "127.0.0.1"
    server.stop()


def test_valkey_keeps_its_data_and_asks_for_the_password(server_folder: Path) -> None:
    server = EmbeddedValkey(server_folder / "valkey")
    url = server.start()
    with redis.Redis.from_url(url) as client:
        client.set("kept", "yes")
    server.stop()
    assert server.start() == url
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"
    stranger = redis.Redis.from_url(f"redis://{url.rpartition('@')[2]}")
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.get("kept")
    server.stop()
