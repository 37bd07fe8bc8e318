"""Where sealed values belong: what is authenticated with them besides their tenant.

The standing secrets of a tenant (connections, webhooks, hooks, states of OpenTofu) each have a place of their own, made
of table, column and what the row is known by; the path within the document goes with it. What the engine carries from
row to row (parameters, specs, states, outputs) shares one place, ENGINE. So a connection's password that somebody
copies to another connection, to another field of it, or into the parameters of a plan, does not open there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed value belongs. `row` is what the row is known by before it is stored: never a random number."""

    table: str
    column: str
    row: tuple[str | int, ...]


# Of values that statements copy from row to row, or that are put together anew from parts.
ENGINE = Place("engine", "", ())


def connection_place(provider: str, name: str) -> Place:
    """Of a connection's configuration."""
    return Place("provider_connection", "config", (provider, name))


def webhook_place(endpoint_id: int) -> Place:
    """Of a webhook's secret, which one day is its previous one."""
    return Place("webhook_endpoint", "secret", (endpoint_id,))


def hook_place(plan_id: int) -> Place:
    """Of what the calls of a plan's hook are signed with."""
    return Place("plan_hook", "signing_secret", (plan_id,))


def tofu_place(state_id: int, serial: int) -> Place:
    """Of one version of a workspace's state."""
    return Place("tofu_state_version", "body", (state_id, serial))


def place_of(table: str, column: str, row: Mapping[str, Any]) -> Place:
    """The place of what a stored row has in the column: for who goes through all tables."""
    match table, column:
        case "provider_connection", "config":
            return connection_place(row["provider"], row["name"])
        case "webhook_endpoint", "secret" | "previous_secret":
            return webhook_place(row["id"])
        case "plan_hook", "signing_secret":
            return hook_place(row["plan_id"])
        case "tofu_state_version", "body":
            return tofu_place(row["state_id"], row["serial"])
    return ENGINE


def associated(tenant_id: int, place: Place, path: tuple[str | int, ...]) -> bytes:
    """What is authenticated; as JSON, so that no two places are written alike."""
    where = () if place is ENGINE else path
    return orjson.dumps(("windlass", 2, tenant_id, place.table, place.column, place.row, where))
