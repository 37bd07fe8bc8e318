"""What every table shares: names of constraints, kinds of columns, and the tenant that owns a row.

JSON columns are jsonb (the customer's "text (JSON)"), enums are text with a CHECK: an index on them stays usable behind
row-level security, which a native enum's is not. No relationships are mapped: a question is asked in `app.reads`, never
by touching an attribute.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Computed,
    DateTime,
    Enum,
    ForeignKeyConstraint,
    Identity,
    Integer,
    MetaData,
    String,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column

NAMING = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "ix": "idx_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    """The root of all tables. Columns typed `dict` are jsonb, `datetime` is timestamptz, `int` bigint where an id."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        dict[str, Any]: JSONB,
        list[Any]: JSONB,
        Any: JSONB,
        datetime: DateTime(timezone=True),
    }


def identity() -> MappedColumn[int]:
    """The bigint primary key."""
    return mapped_column(BigInteger, Identity(), primary_key=True)


def one_of(
    values: type[StrEnum], name: str, *, default: StrEnum | None = None, primary_key: bool = False
) -> MappedColumn[Any]:
    """A text column that admits the values of `values` only. `name` names its CHECK."""
    kind = Enum(values, name=name, native_enum=False, create_constraint=True, length=40)
    if default is None:
        return mapped_column(kind, primary_key=primary_key)
    return mapped_column(kind, default=default, server_default=default.value)


def owned_by_tenant() -> MappedColumn[int]:
    """The tenant that owns the row: row-level security compares it on every access."""
    return mapped_column(BigInteger, nullable=False)


def within_tenant(column: str, table: str, *, ondelete: str | None = None) -> ForeignKeyConstraint:
    """A reference that cannot leave the tenant: (tenant_id, column) -> table (tenant_id, id)."""
    return ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], ondelete=ondelete)


def or_later(column: str) -> MappedColumn[datetime]:
    """What rows are ordered by in place of a moment that may be missing: then it counts as later than all others.

    One index leads through such a column both ways, and a place in it is one range; through NULLs neither is so.
    """
    return mapped_column(Computed(f"COALESCE({column}, '9999-01-01 00:00:00+00'::timestamptz)", persisted=True))


def or_longer(column: str) -> MappedColumn[int]:
    """The same for a number of seconds: what is missing counts as longer than all others."""
    return mapped_column(Integer, Computed(f"COALESCE({column}, {2**31 - 1})", persisted=True))


class Audited:
    """When and by whom. Actors are written `user:12`, `service-account:3` or `system:engine`."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    created_by: Mapped[str | None] = mapped_column(String(120))
    updated_by: Mapped[str | None] = mapped_column(String(120))


class SoftDeleted:
    """A deleted business object stays for history; every read leaves it out."""

    is_deleted: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("false"))
