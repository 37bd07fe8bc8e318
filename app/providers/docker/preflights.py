"""What an engine knows beforehand: names that are taken, images that there are not, ports that somebody has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.domain.enums import ChangeAction
from app.domain.errors import Diagnostic, Severity
from app.providers.base import Context
from app.providers.docker.labels import OWNER, is_ours, taken
from app.providers.preflights import PreflightRequest
from app.providers.sources import Sources

if TYPE_CHECKING:
    from app.providers.docker.engine import Engine

_NOBODY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  an address that stands for all


def require_free(context: Context, request: PreflightRequest, labels: Mapping[str, str] | None, kind: str) -> None:
    """Raises ALREADY_EXISTS where the name of something that is to be made is somebody else's."""
    if request.action is ChangeAction.CREATE and not is_ours(context, labels):
        raise taken(str(request.properties["name"]), kind)


async def image_to_make(context: Context, request: PreflightRequest, sources: Sources) -> Sequence[Diagnostic]:
    """Whether there is what an image is to be made of. Raises what the installation refuses."""
    engine: Engine = context.connection
    given = request.properties
    if given.get("from") != "PULL":
        if "archive" in given:
            await asyncio.to_thread(sources.find, given["archive"], field="archive")
        return ()
    source = given.get("source")
    if source is None or await engine.image(source) is not None or await engine.can_be_pulled(source):
        return ()
    message = f"no registry that the engine reaches has the image {source}, or gives it to the engine"
    return [Diagnostic(Severity.ERROR, "NOT_FOUND", message, ("source",))]


async def image_to_run(context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
    """Whether the engine has the image of a service, which it does not pull."""
    engine: Engine = context.connection
    image = request.properties.get("image")
    if image is None or await engine.image(image) is not None:
        return ()
    return [Diagnostic(Severity.ERROR, "NOT_FOUND", f"the engine has no image {image}", ("image",))]


async def ports_to_take(context: Context, request: PreflightRequest) -> Sequence[Diagnostic]:
    """The ports of the machine that a service asks for and that containers of others have.

    Of what else on the machine listens the engine knows nothing.
    """
    engine: Engine = context.connection
    asked = list(_asked(request.properties))
    if not asked:
        return ()
    held = [
        (str(port.get("IP", "")), int(port["PublicPort"]), container["Names"][0].lstrip("/"))
        for container in await engine.running()
        if container.get("Labels", {}).get(OWNER) != context.owner
        for port in container.get("Ports") or ()
        if port.get("PublicPort")
    ]
    return [
        Diagnostic(Severity.ERROR, "PORT_TAKEN", f"port {number} of the machine is that of {name}", place)
        for place, address, number in asked
        for other, taken_number, name in held
        if number == taken_number and (address == other or _NOBODY & {address, other})
    ]


def _asked(given: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Where it is asked for, its address, and the port; each replica has the next one."""
    replicas = int(given.get("replicas", 1))
    for position, port in enumerate(given.get("ports") or ()):
        if port.get("host"):
            for number in range(port["host"], port["host"] + replicas):
                yield ("ports", str(position), "host"), port.get("address", "127.0.0.1"), number
