"""The whole API in this process: on a migrated database of its own, with two tenants that must not see each other."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.auth.authenticator import Authenticator
from app.auth.principal import Principal
from app.bus.bus import Bus
from app.db.sealing import Sealer
from app.db.uow import Database
from app.providers.registry import Registry
from app.services.seeding import create_tenant
from app.settings import Settings
from schema.asgi import assemble
from schema.context import Services
from schema.root import build_schema
from tests.schema.rows import Rows

SECRET_KEY = base64.b64encode(bytes(range(32))).decode()
# Nobody listens there: bells are hints, and everything but the live tests does without.
NO_REDIS = "redis://127.0.0.1:1/0"


@dataclass(frozen=True, slots=True)
class Access:
    """A tenant, and its administrator's way in."""

    tenant_id: int
    slug: str
    token: str
    principal: Principal
    rows: Rows


@dataclass(slots=True)
class Api:
    """The running application. `acme` asks unless somebody else is named."""

    app: Starlette
    services: Services
    client: httpx.AsyncClient
    acme: Access
    rival: Access

    async def post(self, body: Any, *, token: str | None = None, **headers: str) -> httpx.Response:
        """One POST to /graphql; `headers` with underscores for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        authorization = {"authorization": f"Bearer {token or self.acme.token}"}
        return await self.client.post("/graphql", json=body, headers={**authorization, **named})

    async def ask(
        self, document: str, variables: dict[str, Any] | None = None, *, access: Access | None = None
    ) -> dict[str, Any]:
        """The whole answer, errors and all."""
        token = (access or self.acme).token
        response = await self.post({"query": document, "variables": variables}, token=token)
        answer: dict[str, Any] = response.json()
        return answer

    async def data(
        self, document: str, variables: dict[str, Any] | None = None, *, access: Access | None = None
    ) -> dict[str, Any]:
        """The data of an answer that must have no errors."""
        answer = await self.ask(document, variables, access=access)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data


@pytest.fixture(scope="session", autouse=True)
def one_schema() -> Iterator[None]:
    """All applications of a run share a schema: it takes longer to build than most tests to run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("schema.asgi.build_schema", cache(build_schema))
        yield


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    """What an application is made of, on the test's own database."""
    bus = Bus(NO_REDIS)
    database = Database.connect(database_url, name="windlass-tests", pool_size=5, after_commit=bus.ring)
    yield Services(
        database=database,
        catalogue=Registry.default(),
        sealer=Sealer(base64.b64decode(SECRET_KEY)),
        bus=bus,
        authenticator=Authenticator(database),
    )
    await database.close()


async def admit(services: Services, name: str) -> Access:
    """A new tenant and its administrator."""
    tenant_id, token = await create_tenant(services.database, name.title(), name, f"admin@{name}.example")
    principal = await services.authenticator.authenticate(token)
    rows = Rows(services.database, tenant_id, principal.user_id, principal.actor)
    return Access(tenant_id, name, token, principal, rows)


@pytest.fixture
async def api(services: Services) -> AsyncIterator[Api]:
    """The application, its client, and two tenants."""
    app = assemble(services, Settings.from_environment({"WINDLASS_ALLOWED_HOSTS": "*"}))
    acme, rival = await admit(services, "acme"), await admit(services, "rival")
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://windlass.test") as client,
    ):
        yield Api(app, services, client, acme, rival)
