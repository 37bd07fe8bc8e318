"""Kinds of columns as the migrations write them."""

from __future__ import annotations

import sqlalchemy as sa


def one_of(name: str, values: str) -> sa.Enum:
    """Text that admits only `values`, which are separated by spaces. `name` names its CHECK.

    No native enum: its comparison is not leakproof, so no index on it could be used behind row-level security.
    """
    return sa.Enum(*values.split(), name=name, native_enum=False, create_constraint=True, length=40)
