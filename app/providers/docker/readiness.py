"""Whether a container does what it is for: it is asked, and given time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app import clock
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine

_TAIL_LINES = 10
_ASK_SECONDS = 3.0
# Without a probe, one that still runs after so long is taken for ready.
_STEADY_SECONDS = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


async def await_ready(context: Context, engine: Engine, identity: str, name: str, probe: JsonObject | None) -> None:
    """Raises ProviderError NOT_STABILIZED, with the container's last lines, when it ends or time is up."""
    began = clock.monotonic()
    until = min(began + float((probe or {}).get("timeoutSeconds", 30)), context.deadline)
    pause = _FIRST_PAUSE
    while True:
        found = await engine.container(identity)
        if found is None:
            message = f"{name} vanished while it was started"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        state = found["State"]
        if not state.get("Running") or found.get("RestartCount", 0) > 0:
            raise await _failure(engine, identity, f"{name} ended with {state.get('ExitCode')}")
        if probe is None or not probe.keys() & {"http", "tcp", "command"}:
            if clock.monotonic() - began >= _STEADY_SECONDS:
                return
        elif await _answers(engine, found, probe):
            return
        if clock.monotonic() >= until:
            raise await _failure(engine, identity, f"{name} was not ready after {until - began:.0f} s")
        await context.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


async def _failure(engine: Engine, identity: str, what: str) -> ProviderError:
    lines = await engine.last_lines(identity, _TAIL_LINES)
    said = "; ".join(filter(None, lines))[-1500:]
    message = f"{what}; the last it said: {said}" if said else f"{what}, and said nothing"
    return ProviderError(ErrorKind.NOT_STABILIZED, message, code="NOT_READY")


async def _answers(engine: Engine, found: Mapping[str, Any], probe: JsonObject) -> bool:
    if "command" in probe:
        return await engine.run(found["Id"], probe["command"]) == 0
    asked = probe.get("http") or probe["tcp"]
    place = _place(engine.host, found, int(asked["port"]))
    if place is None:
        return False
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            reader, writer = await asyncio.open_connection(*place)
            try:
                return "http" not in probe or await _says_yes(reader, writer, asked)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return False


async def _says_yes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: JsonObject) -> bool:
    request = f"GET {asked.get('path', '/')} HTTP/1.0\r\nhost: localhost\r\nuser-agent: windlass\r\n\r\n"
    writer.write(request.encode("ascii"))
    await writer.drain()
    words = (await reader.readline()).split()
    return len(words) > 1 and words[1].isdigit() and 200 <= int(words[1]) < 400


def _place(host: str, found: Mapping[str, Any], port: int) -> tuple[str, int] | None:
    """Where the container's port is found: beside the engine at its own address, else at what is published."""
    settings = found["NetworkSettings"]
    if host.startswith("unix:"):
        addresses = [each.get("IPAddress") for each in settings.get("Networks", {}).values()]
        return next(((address, port) for address in addresses if address), None)
    published = (settings.get("Ports") or {}).get(f"{port}/tcp") or []
    machine = urlsplit(host).hostname
    return (machine, int(published[0]["HostPort"])) if published and machine else None
