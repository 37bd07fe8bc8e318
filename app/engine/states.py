"""Provider states between the database and the provider: sealed where they rest, plain where they are used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.db.sealing import Sealer
from app.domain.diffing import split_pointer
from app.domain.drifting import Deviation, as_found
from app.domain.values import Secret, Value, reveal
from app.providers.base import ResourceState


def conceal(tree: Mapping[str, Value], pointers: frozenset[str]) -> dict[str, Value]:
    """The tree with the values that `pointers` name wrapped as Secrets; absent and null ones are left alone."""
    result: dict[str, Value] = dict(tree)
    for pointer in pointers:
        path = split_pointer(pointer)
        place: Any = result
        for name in path[:-1]:
            inner = place.get(name)
            if not isinstance(inner, Mapping):
                break
            place[name] = dict(inner)
            place = place[name]
        else:
            value = place.get(path[-1])
            if value is not None and not isinstance(value, Secret):
                place[path[-1]] = Secret(value)
    return result


def pack(state: ResourceState | None, secret: frozenset[str], sealer: Sealer, tenant_id: int) -> dict[str, Any] | None:
    """A state as it may be stored."""
    if state is None:
        return None
    return {
        "id": state.id,
        "properties": sealer.seal(conceal(state.properties, secret), tenant_id),
        "outputs": sealer.seal(state.outputs, tenant_id),
        "private": state.private,
        "version": state.version,
    }


def unpack(stored: Mapping[str, Any] | None, sealer: Sealer, tenant_id: int) -> ResourceState | None:
    """A stored state, plain: for a provider call only."""
    if stored is None:
        return None
    return ResourceState(
        id=stored["id"],
        properties=reveal(sealer.open(stored["properties"], tenant_id)),
        outputs=reveal(sealer.open(stored["outputs"], tenant_id)),
        private=dict(stored.get("private") or {}),
        version=stored.get("version", 1),
    )


def found_state(stored: Mapping[str, Any], sealer: Sealer, tenant_id: int) -> ResourceState | None:
    """A recorded state with the "drift" that was found since: as the resource really is, as far as anybody knows."""
    state = unpack(stored, sealer, tenant_id)
    if state is None or not stored.get("drift"):
        return state
    drift = [Deviation.from_document(reveal(sealer.open(found, tenant_id))) for found in stored["drift"]]
    return replace(state, properties=as_found(state.properties, drift))
