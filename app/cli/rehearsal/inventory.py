"""What there really is in the emulators: asked of them, and not read in what the engine has recorded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.cli.rehearsal.stage import Stage
from app.cli.rehearsal.standins import Stand
from app.providers.base import ErrorKind, ProviderError, ResourceType
from app.providers.conformance import StandaloneContext


@dataclass(frozen=True, slots=True, order=True)
class Thing:
    """One thing in an emulator."""

    type: str
    id: str


async def things(stage: Stage, types: Iterable[str]) -> frozenset[Thing]:
    """Everything of these types that the emulators have. Types that are only simulated, or cannot be listed, have no
    part in it.
    """
    found: set[Thing] = set()
    for name in sorted(types):
        if not stage.registry.has_type(name) or stage.cast.of(name) is not Stand.EMULATED:
            continue
        provider = name.split(".", 1)[0]
        config = stage.cast.parts[provider].config
        async with stage.sessions.session("inventory", provider, "inventory", config) as session:
            found |= await _listed(stage.registry.resource(name), session, stage.files)
    return frozenset(found)


async def _listed(kind: ResourceType, session: Any, folder: Path) -> set[Thing]:
    context = StandaloneContext("inventory", "windlass:inventory", session, folder)
    try:
        return {Thing(kind.name, state.id) async for state in kind.discover(context)}
    except ProviderError as error:
        if error.kind is ErrorKind.INVALID:
            return set()
        raise
