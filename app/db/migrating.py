"""Brings a database to a revision of the tables.

The migrations are found by the name of their package and never imported from here: they stand above this floor.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config


def configuration(database_url: str) -> Config:
    """What Alembic needs to know of a database (postgresql://…, as the role that owns or will own the tables)."""
    found = find_spec("migrations")
    if found is None or not found.submodule_search_locations:
        message = "the package migrations is not installed"
        raise ModuleNotFoundError(message, name="migrations")
    config = Config()
    config.set_main_option("script_location", str(Path(found.submodule_search_locations[0])))
    # An attribute and not an option: options would take a % in a password for a placeholder.
    config.attributes["url"] = database_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    return config


def migrate(database_url: str, revision: str = "head") -> None:
    """Upgrade to `revision`. Runs its own event loop: from within one, call it in a thread."""
    command.upgrade(configuration(database_url), revision)


def unmigrate(database_url: str, revision: str = "base") -> None:
    """Downgrade to `revision`; `base` removes every table and everything in it."""
    command.downgrade(configuration(database_url), revision)
