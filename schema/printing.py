"""`python -m schema.printing` writes the schema's SDL, sorted, beside this file. A test compares the two."""

from __future__ import annotations

from pathlib import Path

from graphql import lexicographic_sort_schema, print_schema

from schema.root import build_schema

PATH = Path(__file__).with_name("schema.graphql")


def printed() -> str:
    """The SDL, sorted: the order of declarations in Python is no part of the contract."""
    # Sorting rebuilds the enums without their Python values, so only what is printed is ever sorted.
    return print_schema(lexicographic_sort_schema(build_schema()._schema)) + "\n"  # noqa: SLF001


if __name__ == "__main__":
    PATH.write_text(printed())
