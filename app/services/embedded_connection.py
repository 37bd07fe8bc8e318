"""The demo tenant's connection to the embedded server: kept up to date with where that server is today.

Only that tenant has it. Whoever may use the connection is a superuser of the server, and so the operator of everything
on it: Windlass's own database is on another. Another tenant brings a connection of its own.
"""

from __future__ import annotations

from sqlalchemy import select

from app.db.models import ProviderConnection, Tenant
from app.db.places import connection_place
from app.db.sealing import Sealer
from app.db.uow import Database, SystemRole
from app.providers.registry import Registry
from app.settings import Settings

NAME = "embedded"
_ACTOR = "system:platform"


async def ensure_connection(settings: Settings, tenant_slug: str) -> None:
    """Make or renew the connection `embedded` of the tenant; nothing where no default server is set."""
    if settings.default_postgres_url is None:
        return
    database = Database.connect(settings.required("database_url"), name="windlass-seed", pool_size=2)
    sealer = Sealer.of(settings)
    config, _ = Registry.default().check_config("postgres", {"url": settings.default_postgres_url})
    try:
        async with database.system(SystemRole.AUTH) as lookup:
            tenant_id = await lookup.session.scalar(select(Tenant.id).where(Tenant.slug == tenant_slug))
        if tenant_id is None:
            message = f"there is no tenant '{tenant_slug}'"
            raise LookupError(message)
        async with database.write(tenant_id, actor=_ACTOR, correlation_id="seed") as transaction:
            transaction.authorize("the platform seeds the demo tenant")
            query = select(ProviderConnection).where(
                ProviderConnection.tenant_id == tenant_id,
                ProviderConnection.name == NAME,
                ~ProviderConnection.is_deleted,
            )
            connection = await transaction.session.scalar(query)
            if connection is None:
                connection = ProviderConnection(
                    tenant_id=tenant_id, name=NAME, provider="postgres", is_default=True, created_by=_ACTOR
                )
                transaction.session.add(connection)
            connection.config = sealer.seal(config, tenant_id, connection_place("postgres", NAME))
            connection.updated_by = _ACTOR
            await transaction.session.flush()
    finally:
        await database.close()
