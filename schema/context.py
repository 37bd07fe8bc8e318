"""What a resolver may use. One `Context` per operation: on a WebSocket each operation gets its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.authenticator import Authenticator
from app.auth.principal import Principal
from app.bus.bus import Bus
from app.db.sealing import Sealer
from app.db.uow import Database, Origin, Transaction
from app.domain.enums import Permission
from app.domain.errors import Forbidden
from app.egress import Egress
from app.providers.registry import Registry
from app.services.dependencies import Dependencies
from app.web.credentials import Origins
from schema.allowance import Allowance
from schema.documents import Documents
from schema.draining import Draining
from schema.guard import Guard
from schema.live_lists import LiveLists
from schema.loaders import Loaders
from schema.looks import Looks
from schema.occupancy import Occupancy, Strangers
from schema.sharers import Sharers
from schema.sharing import Course, Groups
from schema.symbols import NotExpressible, Tracing

# Whoever has arranged nothing with others.
_ALONE = Course()


@dataclass(frozen=True, slots=True)
class Services:
    """What all operations of a process share."""

    database: Database
    catalogue: Registry
    sealer: Sealer
    bus: Bus
    authenticator: Authenticator
    origins: Origins = field(default_factory=Origins)
    egress: Egress = field(default_factory=Egress)
    lists: LiveLists = field(default_factory=LiveLists)
    draining: Draining = field(default_factory=Draining)
    sharers: Sharers = field(default_factory=Sharers)
    groups: Groups = field(default_factory=Groups)
    looks: Looks = field(default_factory=Looks)
    guard: Guard = field(default_factory=Guard)
    allowance: Allowance = field(default_factory=Allowance)
    occupancy: Occupancy = field(default_factory=Occupancy)
    strangers: Strangers = field(default_factory=Strangers)
    documents: Documents = field(default_factory=Documents)
    operation_seconds: float = 20.0

    def context(
        self, principal: Principal, request_id: str, course: Course | None = None, *, address: str = ""
    ) -> Context:
        """A fresh context for one operation of `principal`; `request_id` joins its log lines and events."""
        loaders = Loaders(self.database, principal.tenant_id)
        return Context(self, principal, request_id, loaders, course=course or _ALONE, address=address)


@dataclass(slots=True)
class Bill:
    """What an operation has cost."""

    points: int = 0


# Nobody changes one; that it cannot be would take as long again as making it, for every request.
@dataclass(slots=True, eq=False)
class Context:
    """One operation of one principal. Resolvers run concurrently: it holds ways to open sessions, never a session."""

    services: Services
    principal: Principal
    request_id: str
    loaders: Loaders
    # Set while a selection is turned into SQL: then there are no values, and nothing can be read.
    tracing: Tracing | None = None
    # What a subscription has arranged with others that follow the same.
    course: Course = _ALONE
    bill: Bill = field(default_factory=Bill)
    address: str = ""

    @property
    def origin(self) -> Origin:
        """For the audit log."""
        return Origin(self.principal.token_id, self.address, self.principal.reason)

    @property
    def tenant_id(self) -> int:
        return self.principal.tenant_id

    @property
    def database(self) -> Database:
        return self.services.database

    @property
    def catalogue(self) -> Registry:
        return self.services.catalogue

    @property
    def sealer(self) -> Sealer:
        return self.services.sealer

    @property
    def bus(self) -> Bus:
        return self.services.bus

    @property
    def authenticator(self) -> Authenticator:
        return self.services.authenticator

    @property
    def dependencies(self) -> Dependencies:
        """What the services floor asks for beside a transaction."""
        return Dependencies(self.services.catalogue, self.services.sealer)

    def charge(self, points: int) -> None:
        """Let the principal pay for the operation, once however it is executed. Raises RateLimited."""
        if self.bill.points:
            return
        self.services.allowance.charge(self.principal, points)
        self.bill.points = points

    def require_read(self) -> None:
        """Raises Forbidden for whoever may not read."""
        if not self.principal.may(Permission.READ):
            message = "this needs the permission to read"
            raise Forbidden(message, required=Permission.READ.value)

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A short read-only transaction of the principal's tenant."""
        if self.tracing is not None:
            message = "it reads"
            raise NotExpressible(message)
        return self.database.read(self.tenant_id)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """The one transaction of a mutation field. What was loaded before it is forgotten when it commits."""
        async with self.database.write(
            self.tenant_id, actor=self.principal.actor, correlation_id=self.request_id, origin=self.origin
        ) as transaction:
            yield transaction
        self.loaders.forget()


Info = strawberry.Info[Context, None]
