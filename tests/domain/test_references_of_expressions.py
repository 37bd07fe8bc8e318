"""What an expression says that it reads: names, paths, whether it copes with nothing there, and where it is written."""

from __future__ import annotations

import pytest

from app.domain.expressions.expression import parse
from app.domain.expressions.references import Reference


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", [("a", (), False, 0)]),
        ("  a", [("a", (), False, 2)]),
        ("a + b", [("a", (), False, 0), ("b", (), False, 4)]),
        ("a + a + a.b", [("a", (), False, 0), ("a", ("b",), False, 8)]),
        ("a.b.c", [("a", ("b", "c"), False, 0)]),
        ('a["b"][0].c', [("a", ("b", "0", "c"), False, 0)]),
        # As far as it is written; what stands in the brackets is read as well.
        ("a.b[c].d", [("a", ("b",), False, 0), ("c", (), False, 4)]),
        ("a.b?.c", [("a", ("b", "c"), True, 0)]),
        # What is read in brackets has to be there, however optional what they stand behind.
        ("a?.b[c]", [("a", ("b",), True, 0), ("c", (), False, 5)]),
        # Something that is not a name, read from: what it is made of may be missing where the way on is optional.
        ("[a][0]", [("a", (), False, 1)]),
        ("[a]?.b", [("a", (), True, 1)]),
        ("default(a, b)", [("a", (), True, 8), ("b", (), False, 11)]),
        ("coalesce(a, b.c, d)", [("a", (), True, 9), ("b", ("c",), True, 12), ("d", (), False, 17)]),
        ("has(a.b)", [("a", ("b",), True, 4)]),
        ("has(a)", [("a", (), True, 4)]),
        ("size(a)", [("a", (), False, 5)]),
        ("default(size(a), 1)", [("a", (), True, 13)]),
        ("default(x, [a])", [("x", (), True, 8), ("a", (), False, 12)]),
        ("default([a], 1)", [("a", (), True, 9)]),
        ("1 + 2", []),
    ],
)
def test_what_is_read(text: str, found: list[tuple[str, tuple[str, ...], bool, int]]) -> None:
    assert parse(text).references == tuple(Reference(*each) for each in found)
