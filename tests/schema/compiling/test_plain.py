"""Lists of what only shows what it holds are answered as graphql-core answers them, its errors included."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
import strawberry
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.compiling import plain
from schema.compiling.entities import Executor


@strawberry.enum
class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@strawberry.type
class Part:
    name: str
    weight: int | None


@strawberry.type
class Thing:
    name: str
    colour: Colour
    tags: list[str] | None
    parts: list[Part]
    first: Part | None


@strawberry.type
class Odd:
    name: str

    @strawberry.field
    def loud(self) -> str:
        return self.name.upper()


@dataclass
class Impostor:
    name: str


THINGS: list[Any] = [
    Thing(name="a", colour=Colour.RED, tags=["x", "y"], parts=[Part(name="p", weight=None)], first=None),
    Thing(name="b", colour=Colour.BLUE, tags=None, parts=[], first=Part(name="q", weight=2)),
]
BROKEN: list[Any] = [
    Thing(name="c", colour=Colour.RED, tags=[], parts=[Part(name=None, weight=1)], first=None),  # type: ignore[arg-type]
    Thing(name="d", colour=Colour.RED, tags=[], parts=[], first=Part(name="p", weight="heavy")),  # type: ignore[arg-type]
]


@strawberry.type
class Query:
    @strawberry.field
    def things(self) -> list[Thing | None]:
        return THINGS

    @strawberry.field
    def broken(self) -> list[Thing | None]:
        return [*THINGS, *BROKEN]

    @strawberry.field
    def odd(self) -> list[Odd]:
        return [Odd(name="o"), Odd(name="p")]

    @strawberry.field
    def impostors(self) -> list[Part]:
        return [Impostor("i")]  # type: ignore[list-item]


ALL = "__typename name colour tags parts { name weight } first { ...part }"
PART = "fragment part on Part { called: name weight __typename }"


class Written:
    """How many lists were written in one go, of how many."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.whole = self.asked = 0
        real = plain.written

        def counted(*given: Any) -> list[Any] | None:
            self.asked += 1
            found = real(*given)
            self.whole += found is not None
            return found

        patch.setattr(plain, "written", counted)


async def both(text: str, variables: dict[str, Any] | None = None) -> tuple[Any, Any]:
    """What our executor answers, and what graphql-core's does: data, in its order, and errors."""
    answers = []
    for executor in (type("Ours", (Executor,), {"entities": _Nothing()}), StrawberryGraphQLCoreExecutionContext):
        schema = strawberry.Schema(Query, execution_context_class=executor)
        result = await schema.execute(text, variable_values=variables)
        answers.append((repr(result.data), [error.formatted for error in result.errors or []]))
    return answers[0], answers[1]


class _Nothing:
    def found(self, *_: Any) -> None:
        """No object is of a table here."""


@pytest.mark.parametrize(
    "text",
    [
        f"{{ things {{ {ALL} }} }} {PART}",
        "{ things { n: name m: name parts { weight } } }",
        "query($no: Boolean = false) { things { name colour @include(if: $no) tags @skip(if: $no) } }",
        "{ things { name name parts { name } parts { weight } } }",
    ],
)
async def test_a_plain_list_is_written_in_one_go(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = Written(monkeypatch)
    ours, theirs = await both(text)
    assert ours == theirs
    assert ours[1] == []
    assert (count.asked, count.whole) == (1, 1)


@pytest.mark.parametrize(
    ("text", "errors", "written"),
    [
        # The lists in the things that are whole are written in one go all the same.
        (f"{{ broken {{ {ALL} }} }} {PART}", 2, 2),
        ("{ odd { name loud } }", 0, 0),
        ("{ impostors { name } }", 0, 0),
    ],
)
async def test_what_is_not_plain_is_answered_as_ever(
    text: str, errors: int, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = Written(monkeypatch)
    ours, theirs = await both(text)
    assert ours == theirs
    assert (len(ours[1]), count.whole) == (errors, written)
