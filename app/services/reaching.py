"""Whether what a deployment needs can be reached: said before anything is done, and not found out half way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.models import ProviderConnection
from app.domain.enums import ChangeAction
from app.domain.errors import Diagnostic, Invalid, NotFound, Severity
from app.domain.planning import Deployment
from app.domain.planning.deployment import PlannedStep
from app.providers.sessions import WITHOUT_CONNECTION

NO_CONNECTION = "NO_CONNECTION"
_UNTOUCHED = frozenset({ChangeAction.NO_CHANGE, ChangeAction.DETACH})


async def with_missing_connections(session: AsyncSession, tenant_id: int, deployment: Deployment) -> Deployment:
    """The deployment, with a diagnostic for every step whose connection the tenant does not have.

    A warning where the step will need it, a hint where it has a condition: a connection may still be made.
    """
    needing = [step for step in deployment.steps if _provider(step) is not None and step.change not in _UNTOUCHED]
    if not needing:
        return deployment
    found = await session.execute(
        select(ProviderConnection.provider, ProviderConnection.name, ProviderConnection.is_default).where(
            ProviderConnection.tenant_id == tenant_id,
            ProviderConnection.provider.in_({_provider(step) for step in needing}),
            ~ProviderConnection.is_deleted,
        )
    )
    known = {(provider, name) for row in found for provider, name in _names(*row)}
    known |= {(provider, None) for provider in WITHOUT_CONNECTION}
    missing = tuple(_missing(step) for step in needing if (_provider(step), step.spec.get("connection")) not in known)
    return replace(deployment, diagnostics=(*deployment.diagnostics, *missing)) if missing else deployment


def require_connections(deployment: Deployment) -> None:
    """Raises Invalid when a step would fail because there is no connection for it."""
    missing = [
        replace(found, severity=Severity.ERROR)
        for found in deployment.diagnostics
        if found.code == NO_CONNECTION and found.severity is Severity.WARN
    ]
    if missing:
        message = "; ".join(found.message for found in missing[:5])
        raise Invalid(message, path=missing[0].path, diagnostics=missing)


async def require_named(session: AsyncSession, tenant_id: int, provider: str, name: str) -> None:
    """Raises NotFound when the tenant has no connection of that name to the provider."""
    query = select(ProviderConnection.id).where(
        ProviderConnection.tenant_id == tenant_id,
        ProviderConnection.provider == provider,
        ProviderConnection.name == name,
        ~ProviderConnection.is_deleted,
    )
    if await session.scalar(query) is None:
        message = f"there is no connection of that name to {provider}"
        raise NotFound(message, path=("connection",))


def _provider(step: PlannedStep) -> str | None:
    provider: str | None = step.spec.get("provider")
    return provider


def _names(provider: str, name: str, is_default: bool) -> Iterator[tuple[str, str | None]]:
    yield provider, name
    if is_default:
        yield provider, None


def _missing(step: PlannedStep) -> Diagnostic:
    provider, name = _provider(step), step.spec.get("connection")
    what = f"connection '{name}'" if name else "default connection"
    message = f"there is no {what} for {provider}, which '{step.key}' needs"
    severity = Severity.WARN if step.spec.get("when") is None else Severity.INFO
    return Diagnostic(severity, NO_CONNECTION, message, ("resources", step.resource_key or step.key, "connection"))
