"""Anything by its id."""

from __future__ import annotations

import asyncio
from typing import Any

import strawberry

from app.domain.enums import Permission
from app.domain.errors import LimitExceeded
from schema.context import Info
from schema.fields import described
from schema.nodes import MalformedId, Node, decode_id, load
from schema.types.tokens import ApiToken

_MAX_IDS = 100


@strawberry.type
class NodeQueries:
    @described("Null for an id of nothing, of nothing any more, or of nothing of yours.")
    async def node(self, info: Info, id: strawberry.ID) -> Node | None:
        found: Node | None = await node_of(info, id)
        return found

    @described("In the order asked for; at most 100.")
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Node | None]:
        if len(ids) > _MAX_IDS:
            message = f"at most {_MAX_IDS} ids at once"
            raise LimitExceeded(message, path=("ids",))
        found: list[Any] = await asyncio.gather(*(node_of(info, text) for text in ids), return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException):
                # The first; the others were looked at, too, so that nothing is left behind that nobody asks for.
                raise one
        return found


async def node_of(info: Info, id: str, kind: str | None = None) -> Any:
    """The object of a global id, of the type `kind` where one is given; None for what the viewer may not know of."""
    try:
        named, number = decode_id(id, kind)
    except MalformedId:
        return None
    loader = info.context.loaders.of_type(named)
    found = None if loader is None else await load(loader, number, named)
    return None if isinstance(found, ApiToken) and not _may_see(info, found) else found


def _may_see(info: Info, token: ApiToken) -> bool:
    principal = info.context.principal
    return token.row.user_id == principal.user_id or principal.may(Permission.ADMIN)
