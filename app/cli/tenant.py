"""`windlass tenant`: tenants of the installation. It needs WINDLASS_DATABASE_URL."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from app.cli.access import run_verb
from app.db.uow import Database
from app.services import seeding
from app.settings import Settings

tenant = App(name="tenant", help="Tenants of the installation; see docs/howto/access.md.")


@tenant.command(name="create")
def create(
    slug: Annotated[str, Parameter(help="Its short name: small letters, digits and hyphens.")],
    *,
    admin: Annotated[str, Parameter(help="The e-mail address of its first administrator.")],
    name: Annotated[str | None, Parameter(help="What it is called; the slug, if nothing is said.")] = None,
) -> int:
    """Make a tenant and its first administrator; prints a token of theirs, once, that is good for 90 days."""

    async def verb(database: Database, _: Settings) -> list[str]:
        number, token = await seeding.create_tenant(database, name or slug, slug, admin)
        sys.stderr.write(f"tenant {slug} is number {number}\n")
        return [token]

    return run_verb(verb)
