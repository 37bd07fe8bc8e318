"""Provider connections: how the tenant's resources are reached. What is secret about them is sealed and never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select

from app.auth.principal import Principal
from app.db.models import CloudResource, ProviderConnection
from app.db.places import connection_place
from app.db.uow import Transaction
from app.domain.enums import Permission
from app.domain.errors import Conflict, DomainError, Invalid, UnknownReference
from app.domain.statuses import RESOURCE
from app.services.authorizing import authorize
from app.services.dependencies import Dependencies
from app.services.faults import errors_of, name_fault, refuse
from app.services.records import locked, one_at_a_time, same_version, store

NAME_LIMIT = 120
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class CreateConnection:
    """A connection to be. `config` is what the provider's schema asks for, secrets in the clear."""

    name: str
    provider: str
    config: Mapping[str, Any]
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class UpdateConnection:
    """Changes to a connection; None leaves a field as it is, `config` replaces the whole configuration.

    Name and provider stay: resources refer to them.
    """

    id: int
    expected_version: int | None = None
    config: Mapping[str, Any] | None = None
    is_default: bool | None = None


@dataclass(frozen=True, slots=True)
class DeleteConnection:
    """A connection to be removed."""

    id: int
    expected_version: int | None = None


async def create(
    transaction: Transaction, principal: Principal, command: CreateConnection, dependencies: Dependencies
) -> ProviderConnection:
    """Add a connection. Raises Conflict when the name is taken, Invalid and its kin for its configuration."""
    authorize(transaction, principal, Permission.ADMIN)
    config, faults = _checked(command.provider, command.config, dependencies)
    refuse([_name_fault(command.name), *faults])
    await one_at_a_time(transaction)
    name = command.name.strip()
    place = connection_place(command.provider, name)
    connection = ProviderConnection(
        tenant_id=transaction.tenant_id,
        name=name,
        provider=command.provider,
        config=dependencies.sealer.seal(config, transaction.tenant_id, place),
        is_default=command.is_default,
        created_by=transaction.actor,
        updated_by=transaction.actor,
    )
    if command.is_default:
        await _no_other_default(transaction, command.provider)
    taken = Conflict(f"there already is a connection '{connection.name}'", path=("name",))
    await store(transaction, connection, {"uq_provider_connection_name": taken})
    return connection


async def update(
    transaction: Transaction, principal: Principal, command: UpdateConnection, dependencies: Dependencies
) -> ProviderConnection:
    """Change how a system is reached. Running steps keep the session they have."""
    authorize(transaction, principal, Permission.ADMIN, f"connection:{command.id}")
    await one_at_a_time(transaction)
    connection = await _find(transaction, command.id, command.expected_version)
    if command.config is not None:
        config, faults = _checked(connection.provider, command.config, dependencies)
        refuse(faults)
        place = connection_place(connection.provider, connection.name)
        connection.config = dependencies.sealer.seal(config, transaction.tenant_id, place)
    if command.is_default is not None:
        if command.is_default and not connection.is_default:
            await _no_other_default(transaction, connection.provider)
        connection.is_default = command.is_default
    connection.updated_by = transaction.actor
    await store(transaction, connection)
    return connection


async def delete(transaction: Transaction, principal: Principal, command: DeleteConnection) -> ProviderConnection:
    """Remove a connection. Raises Conflict while resources are reached through it."""
    authorize(transaction, principal, Permission.ADMIN, f"connection:{command.id}")
    await one_at_a_time(transaction)
    connection = await _find(transaction, command.id, command.expected_version)
    user = await transaction.session.scalar(_users_of(connection).limit(1))
    if user is not None:
        message = f"the resource '{user}' is reached through this connection"
        raise Conflict(message, path=("id",))
    connection.is_deleted = True
    connection.is_default = False
    connection.updated_by = transaction.actor
    await store(transaction, connection)
    return connection


async def _find(transaction: Transaction, connection_id: int, expected_version: int | None) -> ProviderConnection:
    query = select(ProviderConnection).where(
        ProviderConnection.tenant_id == transaction.tenant_id,
        ProviderConnection.id == connection_id,
        ~ProviderConnection.is_deleted,
    )
    connection = await locked(transaction, query, "connection")
    same_version(connection.version, expected_version, "connection")
    return connection


def _name_fault(name: str) -> DomainError | None:
    fault = name_fault(name, NAME_LIMIT, "the name of the connection", "name")
    if fault is None and not _NAME.fullmatch(name.strip()):
        return Invalid("a name is made of letters, digits, dots, dashes and underscores", path=("name",))
    return fault


def _checked(
    provider: str, config: Mapping[str, Any], dependencies: Dependencies
) -> tuple[Mapping[str, Any], list[DomainError]]:
    """The configuration with its secrets wrapped, and every fault in it."""
    try:
        checked, diagnostics = dependencies.catalogue.check_config(provider, config)
    except UnknownReference as error:
        return {}, [error.under("provider")]
    return checked, errors_of(diagnostics, "config")


async def _no_other_default(transaction: Transaction, provider: str) -> None:
    # Row by row, so that the audit log says which one it was.
    others = await transaction.session.scalars(
        select(ProviderConnection)
        .where(
            ProviderConnection.tenant_id == transaction.tenant_id,
            ProviderConnection.provider == provider,
            ProviderConnection.is_default,
        )
        .with_for_update()
    )
    for other in others:
        other.is_default = False
        other.updated_by = transaction.actor
    await transaction.session.flush()


def _users_of(connection: ProviderConnection) -> Any:
    named = CloudResource.connection == connection.name
    unnamed = CloudResource.connection.is_(None)
    return select(CloudResource.resource_key).where(
        CloudResource.tenant_id == connection.tenant_id,
        CloudResource.provider == connection.provider,
        CloudResource.status.not_in(RESOURCE.closed),
        or_(named, unnamed) if connection.is_default else named,
    )
