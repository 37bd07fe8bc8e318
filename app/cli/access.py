"""`windlass access`: who runs the installation, and their times in tenants. It needs WINDLASS_DATABASE_URL."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

from cyclopts import App, Parameter

from app.auth.authenticator import Unauthenticated
from app.characters import spelled
from app.db.uow import Database
from app.domain.enums import Role
from app.domain.errors import DomainError
from app.services import platform
from app.settings import Settings, SettingsError

access = App(name="access", help="Times of platform administrators in tenants; see docs/howto/access.md.")
Verb = Callable[[Database, Settings], Awaitable[list[str]]]


@access.command(name="admit")
def admit(email: str) -> int:
    """Make somebody a platform administrator; prints their key, once. What an earlier key has opened ends."""

    async def verb(database: Database, _: Settings) -> list[str]:
        return [await platform.admit(database, email)]

    return run_verb(verb)


@access.command(name="dismiss")
def dismiss(email: str) -> int:
    """Somebody is a platform administrator no more; what they have open ends."""

    async def verb(database: Database, _: Settings) -> list[str]:
        await platform.dismiss(database, email)
        return []

    return run_verb(verb)


@access.command(name="open")
def open_(
    *,
    tenant: Annotated[str, Parameter(help="The slug of the tenant.")],
    reason: Annotated[str, Parameter(help="Why; the tenant reads it.")],
    minutes: Annotated[int, Parameter(help="For how long; WINDLASS_PLATFORM_ACCESS_MINUTES at most.")],
    role: Annotated[Role, Parameter(help="What is needed there.")] = Role.VIEWER,
) -> int:
    """Get into a tenant for a while, with WINDLASS_PLATFORM_KEY; prints a token."""

    async def verb(database: Database, settings: Settings) -> list[str]:
        given = platform.OpenAccess(tenant, reason, minutes, role, settings.platform_access_minutes)
        opened = await platform.open_access(database, settings.required("platform_key"), given)
        sys.stderr.write(f"access {opened.row.id} to {tenant} as {role} until {opened.row.expires_at:%H:%M} UTC\n")
        return [opened.text]

    return run_verb(verb)


@access.command(name="list")
def list_(*, tenant: Annotated[str | None, Parameter(help="Of this tenant alone, by its slug.")] = None) -> int:
    """The newest accesses: number, tenant, who, as what, until when, why."""

    async def verb(database: Database, settings: Settings) -> list[str]:
        found = await platform.list_accesses(database, settings.required("platform_key"), tenant)
        return [
            f"{row.id}\t{slug}\t{row.administrator}\t{row.role}\t{row.expires_at:%Y-%m-%d %H:%M}"
            f"{' (ended)' if row.ended_at is not None else ''}\t{spelled(row.reason)}"
            for row, slug in found
        ]

    return run_verb(verb)


@access.command(name="close")
def close(number: int) -> int:
    """End an access before its time."""

    async def verb(database: Database, settings: Settings) -> list[str]:
        await platform.close_access(database, settings.required("platform_key"), number)
        return []

    return run_verb(verb)


def run_verb(verb: Verb) -> int:
    """Print what a verb has to say, or why not; the exit code."""

    async def connected() -> list[str]:
        settings = Settings.from_environment(os.environ)
        database = Database.connect(settings.required("database_url"), name="windlass-access", pool_size=1)
        try:
            return await verb(database, settings)
        finally:
            await database.close()

    try:
        lines = asyncio.run(connected())
    except (DomainError, Unauthenticated) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except SettingsError as error:
        sys.stderr.write(f"windlass: {error}\n")
        return 2
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
