"""A small GraphQL client: requests over HTTP, subscriptions over graphql-transport-ws, resumed by cursor."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from app import clock

_SUBPROTOCOL = Subprotocol("graphql-transport-ws")
_ANSWER_SECONDS = 60.0
# The server pings every 15 seconds; a connection that is silent for longer than this is gone.
_SILENCE_SECONDS = 45.0
_DELAYS = (0.1, 0.3, 1.0, 2.0, 5.0)
_PATIENCE_SECONDS = 120.0
_FINAL_CODES = frozenset({4400, 4401, 4403, 4406, 4409, 4429})


class CommandFailed(Exception):
    """A command cannot go on; `lines` say why, one finding each."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class ConnectionLost(Exception):
    """The live connection ended before the stream did; another one can resume it."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where the API is, and the token to use there."""

    graphql: str
    websocket: str
    token: str


def find_server(url: str | None, token: str | None, data_dir: Path | None) -> Server:
    """By arguments, then by WINDLASS_URL and WINDLASS_TOKEN, then by what a running `windlass up` wrote down.

    Raises CommandFailed when either the address or the token cannot be found.
    """
    url = url or os.environ.get("WINDLASS_URL")
    token = token or os.environ.get("WINDLASS_TOKEN")
    running = {} if url and token else _running(data_dir)
    address = url or running.get("graphql")
    token = token or running.get("token")
    if not address:
        message = "no server: give --url, set WINDLASS_URL, or start one with `windlass up`"
        raise CommandFailed(message)
    if not token:
        message = "no token: give --token or set WINDLASS_TOKEN"
        raise CommandFailed(message)
    if not all("!" <= letter <= "~" for letter in token):
        message = "the token is none: it has characters other than letters, digits and signs of ASCII"
        raise CommandFailed(message)
    parts = urlsplit(address if "://" in address else f"http://{address}")
    path = parts.path if parts.path.rstrip("/").endswith("/graphql") else parts.path.rstrip("/") + "/graphql"
    live = "wss" if parts.scheme == "https" else "ws"
    return Server(
        urlunsplit((parts.scheme, parts.netloc, path, "", "")), urlunsplit((live, parts.netloc, path, "", "")), token
    )


def _running(data_dir: Path | None) -> dict[str, Any]:
    given = data_dir or os.environ.get("WINDLASS_DATA_DIR")
    places = [Path(given)] if given else [Path(".windlass"), Path.home() / ".local" / "share" / "windlass"]
    for place in places:
        try:
            found = json.loads((place / "up.json").read_text())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict):
            return found
    return {}


class Client:
    """Asks one server. Use it as `async with`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {server.token}", "accept": "application/json"}, timeout=_ANSWER_SECONDS
        )

    async def __aenter__(self) -> Client:  # noqa: PYI034
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, document: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data of a query or mutation. Raises CommandFailed for errors of any kind."""
        try:
            response = await self._http.post(
                self.server.graphql, json={"query": document, "variables": variables or {}}
            )
            answer = response.json()
        except httpx.HTTPError as error:
            message = f"{self.server.graphql} cannot be reached: {str(error) or type(error).__name__}"
            raise CommandFailed(message) from error
        except ValueError as error:
            message = f"{self.server.graphql} answered {response.status_code}, and not with GraphQL"
            raise CommandFailed(message) from error
        if answer.get("errors"):
            raise CommandFailed(*(described(error) for error in answer["errors"]))
        data: dict[str, Any] = answer["data"]
        return data

    async def save(self, path: str, file: Path) -> None:
        """Write what GET `path` answers into a file. Raises CommandFailed, and OSError for the file."""
        url = self.server.graphql.rstrip("/").removesuffix("/graphql") + path
        try:
            async with self._http.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    message = f"{url} answered {response.status_code}: {response.text[:200]}"
                    raise CommandFailed(message)
                with file.open("wb") as written:
                    async for part in response.aiter_bytes():
                        written.write(part)
        except httpx.HTTPError as error:
            message = f"{url} cannot be read: {str(error) or type(error).__name__}"
            raise CommandFailed(message) from error

    async def mutate(self, document: str, given: dict[str, Any]) -> dict[str, Any]:
        """The payload of a document with one mutation. Raises CommandFailed with every user error and its path."""
        data = await self.ask(document, {"input": given})
        payload: dict[str, Any] = next(iter(data.values()))
        if payload["userErrors"]:
            raise CommandFailed(*itertools.chain.from_iterable(map(_findings, payload["userErrors"])))
        return payload

    async def follow(self, document: str, variables: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The frames of a document with one subscription, until its END, over as many connections as it takes.

        The document declares `$after: Cursor`. Raises CommandFailed when the server refuses or stays away.
        """
        variables = dict(variables)
        delays = iter(_DELAYS)
        lost_at: float | None = None
        while True:
            try:
                async with aclosing(self._frames(document, variables)) as frames:
                    async for frame in frames:
                        lost_at, delays = None, iter(_DELAYS)
                        variables["after"] = frame["cursor"]
                        yield frame
                        if frame["kind"] == "END":
                            return
            except (ConnectionLost, WebSocketException, OSError, TimeoutError) as error:
                now = clock.monotonic()
                lost_at = lost_at or now
                if now - lost_at > _PATIENCE_SECONDS:
                    message = f"{self.server.websocket} cannot be reached: {str(error) or type(error).__name__}"
                    raise CommandFailed(message) from error
            await asyncio.sleep(next(delays, _DELAYS[-1]))

    async def _frames(self, document: str, variables: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """The frames of one connection."""
        try:
            async with connect(
                self.server.websocket, subprotocols=[_SUBPROTOCOL], ping_interval=None, max_size=None
            ) as socket:
                await _send(socket, type="connection_init", payload={"authorization": f"Bearer {self.server.token}"})
                while True:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        message = json.loads(await socket.recv())
                    match message["type"]:
                        case "connection_ack":
                            payload = {"query": document, "variables": variables}
                            await _send(socket, type="subscribe", id="1", payload=payload)
                        case "next":
                            yield _frame(message["payload"])
                        case "error":
                            raise CommandFailed(*(described(error) for error in message["payload"]))
                        case "ping":
                            await _send(socket, type="pong")
                        case "complete":
                            return
        except (ConnectionClosed, InvalidStatus) as error:
            raise _ended(error) from error


def _ended(error: ConnectionClosed | InvalidStatus) -> CommandFailed | ConnectionLost:
    """What the end of a connection means: that it is final, or that another one may go on."""
    if isinstance(error, InvalidStatus):
        code, reason = error.response.status_code, "the handshake is refused"
        final = 400 <= code < 500
    else:
        code = 1006 if error.rcvd is None else error.rcvd.code
        reason = "the token is not accepted" if code == 4403 else str(error)
        final = code in _FINAL_CODES
    return CommandFailed(f"no live connection: {reason} ({code})") if final else ConnectionLost(str(error))


async def _send(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


def _frame(payload: dict[str, Any]) -> dict[str, Any]:
    errors = payload.get("errors")
    if errors:
        if all(error.get("extensions", {}).get("code") == "INTERNAL" for error in errors):
            raise ConnectionLost(errors[0]["message"])
        raise CommandFailed(*(described(error) for error in errors))
    frame: dict[str, Any] = next(iter(payload["data"].values()))
    return frame


def described(error: dict[str, Any]) -> str:
    """A GraphQL error on one line: where, what, and its code."""
    extensions = error.get("extensions") or {}
    where = ".".join(map(str, extensions.get("path") or ()))
    code = extensions.get("code")
    return f"{where + ': ' if where else ''}{error['message']}{f' ({code})' if code else ''}"


def _findings(error: dict[str, Any]) -> list[str]:
    where = ".".join(error.get("path") or ())
    lines = [f"{where + ': ' if where else ''}{error['message']} ({error['code']})"]
    for found in error.get("diagnostics") or ():
        place = ".".join(found["path"])
        hint = f" — {found['suggestion']}" if found.get("suggestion") else ""
        lines.append(f"  {place + ': ' if place else ''}{found['message']} ({found['code']}){hint}")
    return lines
