"""What every object of a tenant shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy import BigInteger, cast, func, literal_column

from app.domain.enums import Permission
from schema import rendering
from schema.context import Info
from schema.derivations import chosen
from schema.nodes import Node, load
from schema.symbols import Symbol, SymbolicChoice, SymbolicValues, literal
from schema.types.references import ActorRef

# How audit columns begin for whom: the type that clients see, and its loader.
_ACTORS = {
    "user": ("User", "actor"),
    "service-account": ("ServiceAccount", "service_actor"),
    "platform-access": ("PlatformAccess", "platform_access"),
}

_NUMBER = BigInteger()


@strawberry.type(description="A part of the product itself, or of the machinery around it.")
class SystemActor:
    name: str


async def actor_of(info: Info, name: Any) -> Any:
    """The Actor named in an audit column or an event; None for nobody, or for somebody of another tenant."""
    if isinstance(name, Symbol):
        return await _symbolic_actor(info, name)
    if name is None:
        return None
    prefix, _, number = name.partition(":")
    if prefix in _ACTORS and number.isdigit():
        kind, loader = _ACTORS[prefix]
        return await load(getattr(info.context.loaders, loader), int(number), kind)
    return SystemActor(name=name.removeprefix("system:"))


async def _symbolic_actor(info: Info, name: Symbol) -> SymbolicChoice:
    """The same in SQL."""
    text = name.expression
    number = Symbol(cast(func.split_part(text, literal(":"), literal_column("2")), BigInteger), _NUMBER, nullable=False)
    cases: list[tuple[Any, str, Any]] = []
    for prefix, (kind, loader) in _ACTORS.items():
        view = await load(getattr(info.context.loaders, loader), number, kind)
        cases.append((text.op("~")(literal(f"^{prefix}:[0-9]+$")), kind, view))
    plain = rendering.escaped(func.regexp_replace(text, literal("^system:"), literal("")))
    return SymbolicChoice([*cases, (text.is_not(None), "SystemActor", SymbolicValues(None, {"name": plain}))])


@strawberry.interface(
    description="Everything a tenant owns: carries an optimistic-lock version and what THIS viewer may do with it."
)
class Entity(Node):
    @strawberry.field
    def version(self) -> int:
        version: int = self.row.version
        return version

    @strawberry.field
    def created_at(self) -> datetime:
        moment: datetime = self.row.created_at
        return moment

    @strawberry.field
    def updated_at(self) -> datetime:
        moment: datetime = self.row.updated_at
        return moment

    @strawberry.field
    async def created_by(self, info: Info) -> ActorRef | None:
        actor: ActorRef | None = await actor_of(info, self.row.created_by)
        return actor

    @strawberry.field
    async def updated_by(self, info: Info) -> ActorRef | None:
        actor: ActorRef | None = await actor_of(info, self.row.updated_by)
        return actor

    @strawberry.field
    def viewer_can(self, info: Info) -> list[Permission]:
        # Another tenant's public template can be seen, and nothing else.
        context = info.context
        owner = getattr(self.row, "tenant_id", context.tenant_id)
        granted = [permission for permission in Permission if context.principal.may(permission)]
        allowed: list[Permission] = chosen(owner, context.tenant_id, granted, [Permission.READ])
        return allowed
