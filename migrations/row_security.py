"""Roles, grants and row-level security as the migrations write them.

Five roles act on the tables, and none of them owns one:

    windlass_app       people and workers, inside the tenant that the transaction names in `app.tenant_id`
    windlass_tick      the scheduler: the machinery of all tenants, without the values that may be secret
    windlass_auth      credentials of all tenants, read only
    windlass_platform  makes tenants
    windlass_keys      seals again what is sealed, when the installation's key is replaced

Every tenant table has FORCE ROW LEVEL SECURITY and one policy of one shape, so that the catalogue can be tested for it.
The comparison is written as a sub-select: it is then evaluated once per statement and not once per row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from alembic import op

APP = "windlass_app"
TICK = "windlass_tick"
AUTH = "windlass_auth"
PLATFORM = "windlass_platform"
KEYS = "windlass_keys"
ROLES = (APP, TICK, AUTH, PLATFORM)

# After a commit the setting reads '' and not NULL.
CURRENT_TENANT = "(SELECT nullif(current_setting('app.tenant_id', true), '')::bigint)"


def create_role(role: str) -> None:
    """Make a role that others switch to, and let the login role switch to it.

    Roles belong to the whole server: several databases may be migrated at the same time. Before PostgreSQL 16 a grant
    could not be limited to SET ROLE.
    """
    op.execute(
        f"""
        DO $$
        BEGIN
            -- Asked first, so that whoever may not make roles can work with those that somebody made for them.
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
                BEGIN
                    CREATE ROLE {role} NOLOGIN NOINHERIT;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN
                    NULL;
                END;
            END IF;
            IF current_setting('server_version_num')::int >= 160000 THEN
                IF NOT pg_has_role(current_user, '{role}', 'SET') THEN
                    EXECUTE 'GRANT {role} TO CURRENT_USER WITH INHERIT FALSE, SET TRUE';
                END IF;
            ELSIF NOT pg_has_role(current_user, '{role}', 'MEMBER') THEN
                EXECUTE 'GRANT {role} TO CURRENT_USER';
            END IF;
        END
        $$
        """
    )
    op.execute(f"GRANT USAGE ON SCHEMA public TO {role}")


def release_role(role: str) -> None:
    """Take away what `create_role` gave in this database. The role stays: other databases may use it."""
    op.execute(f"REVOKE USAGE ON SCHEMA public FROM {role}")


def protect(table: str, owner: str = "tenant_id") -> None:
    """Let windlass_app see and write only rows whose `owner` column is the current tenant."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    # FORCE: without it the policies do not bind the owner, who is whoever migrates.
    op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    own = f"{owner} = {CURRENT_TENANT}"
    op.execute(f"CREATE POLICY tenant ON {table} FOR ALL TO {APP} USING ({own}) WITH CHECK ({own})")


def publish(table: str, condition: str) -> None:
    """Let every tenant read, and only read, rows that meet `condition`."""
    op.execute(f"CREATE POLICY public_read ON {table} FOR SELECT TO {APP} USING ({condition})")


def grant(role: str, table: str, *privileges: str, columns: Iterable[str] = ()) -> None:
    """Grant privileges on a table, or on some of its columns only."""
    narrowed = f" ({', '.join(columns)})" if columns else ""
    listed = ", ".join(f"{privilege}{narrowed}" for privilege in privileges)
    op.execute(f"GRANT {listed} ON {table} TO {role}")


def across_tenants(role: str, table: str) -> None:
    """Let a system role meet the rows of all tenants, as far as its grants go."""
    op.execute(f"CREATE POLICY {role.removeprefix('windlass_')} ON {table} FOR ALL TO {role} USING (true)")


@contextmanager
def unforced(*tables: str) -> Iterator[None]:
    """Let the owner read all rows for a moment: a new foreign key looks at them. Nobody else sees this uncommitted."""
    for table in tables:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    yield
    for table in tables:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
