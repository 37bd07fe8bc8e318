"""Lists that mean sets: kept sorted, so that another order is no change."""

from __future__ import annotations

from app.providers.base import JsonObject


def in_order(properties: JsonObject, *names: str) -> JsonObject:
    """The properties with the named lists sorted and without repetitions. A list that is not all text stays."""
    ordered = dict(properties)
    for name in names:
        items = ordered.get(name)
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            ordered[name] = sorted(set(items))
    return ordered
