"""What only shows what it holds is answered as graphql-core answers it, its errors included: lists, and frames."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest
import strawberry
from graphql.execution.collect_fields import CollectedFields
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
    async def slow(self) -> str:
        return self.name

    @strawberry.field
    def asking(self, info: strawberry.Info) -> str:
        return info.field_name

    @strawberry.field
    def times(self, number: int = 2) -> str:
        return self.name * number


@strawberry.type
class Speaking:
    name: str

    @strawberry.field
    def loud(self) -> str:
        return self.name.upper()

    @strawberry.field
    def first(self) -> Part:
        return Part(name=self.name, weight=1)


@strawberry.interface
class Fact:
    number: int

    @strawberry.field
    def twice(self) -> int:
        return 2 * self.number


@strawberry.type
class Said(Fact):
    words: str


@strawberry.type
class Done(Fact):
    @strawberry.field
    async def by(self) -> str:
        return "somebody"


@strawberry.type
class Frame:
    kind: Colour
    facts: list[Fact]
    odd: Odd | None

    @strawberry.field
    def count(self) -> int:
        return len(self.facts)


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
    def speaking(self) -> list[Speaking]:
        return [Speaking(name="s"), Speaking(name="t")]

    @strawberry.field
    def impostors(self) -> list[Part]:
        return [Impostor("i")]  # type: ignore[list-item]


SAID, DONE = Said(number=1, words="w"), Done(number=2)
FRAMES: list[Any] = [
    Frame(kind=Colour.RED, facts=[SAID, DONE], odd=None),
    Frame(kind=Colour.BLUE, facts=[], odd=Odd(name="o")),
    Frame(kind="green", facts=[SAID], odd=None),  # type: ignore[arg-type]
    Frame(kind=Colour.RED, facts=[SAID], odd=None),
]


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def frames(self) -> AsyncGenerator[Frame, None]:
        for frame in FRAMES:
            yield frame


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
    for schema in schemas():
        result = await schema.execute(text, variable_values=variables)
        answers.append(shown(result))
    return answers[0], answers[1]


def schemas() -> list[strawberry.Schema]:
    ours = type("Ours", (Executor,), {"entities": _Nothing()})
    return [
        strawberry.Schema(Query, subscription=Subscription, types=[Said, Done], execution_context_class=executor)
        for executor in (ours, StrawberryGraphQLCoreExecutionContext)
    ]


def shown(result: Any) -> tuple[str, list[Any]]:
    return repr(result.data), [error.formatted for error in result.errors or []]


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
        "{ speaking { name loud first { weight } } }",
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
        ("{ odd { name slow } }", 0, 0),
        ("{ odd { name asking } }", 0, 0),
        ("{ odd { name times } }", 0, 0),
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


@pytest.mark.parametrize(
    ("text", "errors", "written"),
    [
        ("subscription { frames { kind count } }", 1, 3),
        ("subscription($no: Boolean = false) { f: frames { count odd @include(if: $no) { name } } }", 0, 4),
        ("subscription { frames { facts { __typename number twice ... on Said { words } } } }", 0, 4),
        ("subscription { ...all } fragment all on Subscription { frames { count } }", 0, 4),
        # Only those frames are left to graphql-core that have what is asynchronous.
        ("subscription { frames { count odd { slow } } }", 0, 3),
        ("subscription { frames { count facts { number ... on Done { by } } } }", 0, 3),
    ],
)
async def test_plain_frames_are_written_in_one_go(
    text: str, errors: int, written: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = 0
    real = Executor.execute_operation

    def counted(self: Executor, serially: bool | None = None) -> Any:
        nonlocal executed
        executed += 1
        return real(self, serially)

    monkeypatch.setattr(Executor, "execute_operation", counted)
    ours, theirs = [[shown(result) async for result in await schema.stream(text)] for schema in schemas()]
    assert ours == theirs
    assert (sum(bool(errors) for _, errors in ours), len(ours) - executed) == (errors, written)


async def test_an_event_leaves_nothing_behind_in_its_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    """graphql-core keeps the subfields of every execution with all others that come from the same executor."""
    kept: list[int] = []
    real = Executor.collect_subfields

    def counted(self: Executor, *given: Any) -> CollectedFields:
        collected = real(self, *given)
        kept.append(len(self._relevant_sub_fields))
        return collected

    monkeypatch.setattr(Executor, "collect_subfields", counted)
    ours, _ = schemas()
    text = "subscription { frames { facts { ... on Done { by } } odd { slow } kind } }"
    results = [result async for result in await ours.stream(text)]
    assert len(results) == len(FRAMES)
    assert max(kept) <= 4
