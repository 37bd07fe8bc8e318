"""Where the API is put together: `uvicorn --factory schema.asgi:application`."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.orm import configure_mappers
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from app import garbage
from app.auth.authenticator import Authenticator
from app.auth.oidc import Issuer
from app.bus.bus import Bus
from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.tofu import signing_key
from app.egress import Egress
from app.providers.reach import Reach
from app.providers.registry import Registry
from app.services.sessions import Sessions
from app.services.tofu_states import States
from app.settings import Settings
from app.telemetry.logging import configure
from app.web import tofu
from app.web.arriving import BodyDeadlines
from app.web.credentials import Origins
from app.web.health import alive, migration_head, readiness
from app.web.hooks import PATH, hooks
from app.web.requests import RequestIds
from app.web.sessions import SessionRoutes
from schema import audit_download, downloads
from schema.allowance import Allowance
from schema.context import Services
from schema.documents import Documents
from schema.door import PATH as GRAPHQL
from schema.door import Door
from schema.http import GraphQLEndpoint
from schema.occupancy import Occupancy, Strangers
from schema.one_authorization import OneAuthorization
from schema.root import build_schema

MAX_BODY = 128 * 1024


class _Application(Starlette):
    """Starlette with a door before all of its layers."""

    def __init__(self, door: Callable[[ASGIApp], Door], **given: Any) -> None:
        super().__init__(**given)
        self._door = door

    def build_middleware_stack(self) -> ASGIApp:
        door = self._door(super().build_middleware_stack())
        self.state.straight = door.straight
        return door


def application() -> Starlette:
    """The API as the environment describes it. Raises SettingsError."""
    settings = Settings.from_environment(os.environ)
    configure(settings.log_level, settings.log_format)
    built = build(settings)
    garbage.settle()
    return built


def build(settings: Settings) -> Starlette:
    """The API of `settings`. Connections are opened when needed and closed when it stops. Raises SettingsError."""
    bus = Bus(settings.required("redis_url"))
    database = Database.connect(
        settings.required("database_url"),
        name="windlass-api",
        pool_size=settings.pool_size,
        after_commit=bus.ring,
        replica_url=settings.replica_url,
    )
    services = Services(
        database=database,
        catalogue=Registry.default(allowed=settings.providers, reach=Reach.of(settings)),
        sealer=Sealer.of(settings),
        bus=bus,
        authenticator=Authenticator(database, Issuer.of(settings)),
        origins=Origins.of(settings.allowed_origins),
        egress=Egress.of(settings),
        allowance=Allowance.of(settings),
        occupancy=Occupancy(per_principal=settings.live_per_principal, per_tenant=settings.live_per_tenant),
        strangers=Strangers(per_address=settings.strangers_per_address, in_all=settings.strangers),
        documents=Documents.of(settings),
        operation_seconds=settings.operation_seconds,
    )
    return assemble(services, settings)


def assemble(services: Services, settings: Settings) -> Starlette:
    """The routes over `services`, which live as long as the application runs."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # Now, and not while the first who asks waits for it.
        configure_mappers()
        await services.bus.start()
        try:
            yield
        finally:
            await services.bus.stop()
            await services.authenticator.close()
            await services.database.close()

    graphql = GraphQLEndpoint(
        build_schema(introspection=settings.introspection == "allowed", compiled=settings.compiled_queries),
        services,
        allowed_origins=settings.allowed_origins,
        compiled=settings.compiled_queries,
    )
    application = _Application(
        lambda layers: Door(layers, graphql, settings.allowed_hosts, MAX_BODY),
        routes=[
            Route(GRAPHQL, graphql),
            WebSocketRoute(GRAPHQL, graphql),
            Route(PATH, hooks(services.database, services.sealer), methods=["POST"]),
            Route(downloads.PATH, downloads.LogDownload(services).answer, methods=["GET"]),
            *SessionRoutes(
                Sessions(services.database, services.authenticator), services.authenticator, services.origins
            ).routes(),
            Route(audit_download.PATH, audit_download.AuditDownload(services).answer, methods=["GET"]),
            *_states(services, settings),
            Route("/healthz", alive),
            Route("/readyz", readiness(services.database, services.bus, migration_head())),
        ],
        middleware=[
            Middleware(RequestIds),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts), www_redirect=False),
            Middleware(OneAuthorization, graphql=GRAPHQL),
            Middleware(BodyDeadlines),
            Middleware(tofu.BodyLimits, usual=MAX_BODY),
        ],
        lifespan=lifespan,
    )
    application.state.draining = services.draining
    return application


def _states(services: Services, settings: Settings) -> list[Route]:
    """Where runs of OpenTofu keep their state; nowhere without a key for their passes."""
    if settings.secret_key is None:
        return []
    key, *before = (signing_key(base64.b64decode(one)) for one in (settings.secret_key, *settings.previous_secret_keys))
    states = States(services.database, services.sealer, key, tuple(before))
    return [Route(tofu.PATH, tofu.tofu_states(states), methods=tofu.METHODS)]
