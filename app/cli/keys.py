"""The turning of keys at the command line, on the database that is set."""

from __future__ import annotations

import asyncio
import os
import sys

from app.services.keys import Rotation
from app.settings import Settings


def rotate_keys() -> int:
    """Rotate, and say what was done: 0 when the other keys of the ring can go, 1 when something still needs them."""
    rotation = asyncio.run(_rotate(Settings.from_environment(os.environ)))
    lines = [
        f"{rotation.tenants} tenants: {rotation.wrapped} data keys wrapped anew, {rotation.resealed} rows sealed anew"
    ]
    if rotation.held:
        lines.append(f"{rotation.held} rows were held by others: run it again")
    lines += [f"{count} in {place} do not open with any key of the ring" for place, count in rotation.broken.items()]
    if rotation.is_done:
        lines.append("nothing needs any other key than the first")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if rotation.is_done else 1


async def _rotate(settings: Settings) -> Rotation:
    from app.db.keys import KeyRing
    from app.db.uow import Database
    from app.services.keys import rotate

    ring = KeyRing(settings.ring())
    database = Database.connect(settings.required("database_url"), name="windlass-keys", pool_size=2)
    try:
        return await rotate(database, ring)
    finally:
        await database.close()
