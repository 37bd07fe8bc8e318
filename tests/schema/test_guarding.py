"""The operation guard by itself, without a database: what documents are measured as, and what is said of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import strawberry
from graphql import DocumentNode, GraphQLSchema, OperationDefinitionNode, OperationType, build_schema, parse, validate

from app.auth.principal import Principal
from app.domain.enums import Permission, Role
from schema import limits, parsed
from schema.allowance import RateLimited
from schema.limits import Measure, Measuring, OperationGuard, excesses, points_of, refusals
from schema.parsed import DocumentCache

SCHEMA: GraphQLSchema = build_schema("""
  interface Named { name: String  things(first: Int! = 5, after: String): [Thing] }
  type Thing implements Named { name: String  deep: Thing  things(first: Int! = 5, after: String): [Thing] }
  union Any = Thing
  type Query {
    thing(first: String): Thing
    named: Named
    any: Any
    plain: [Thing]
    things(first: Int! = 7, last: Int, after: String): [Thing]
    unsaid(first: Int): [Thing]
    empty(first: Int = null): [Thing]
  }
  type Mutation { change(x: Int): Thing }
  type Subscription { watch: Thing }
""")

MANY_ROWS = "more than 10000 rows asked for by nested pages"

for _kind, _size in (("Query", 7), ("Named", 5), ("Thing", 5)):
    # As Strawberry gives it.
    SCHEMA.type_map[_kind].fields["things"].args["first"].default_value = _size  # type: ignore[attr-defined]


def operation(document: DocumentNode, place: int = 0) -> OperationDefinitionNode:
    node = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)][place]
    assert isinstance(node, OperationDefinitionNode)
    return node


def measured(text: str, variables: dict[str, Any] | None = None) -> Measure:
    document = parse(text)
    return Measuring(SCHEMA, document, variables or {}).operation(operation(document))


@pytest.mark.parametrize(
    ("text", "depth", "aliases", "selections", "fields", "rows"),
    [
        ("{ plain { name } }", 2, 0, 2, 1, 0),
        ("{ a: plain { b: name name } c: any { __typename } }", 2, 3, 5, 2, 0),
        ("{ any { ... { a: __typename } } named { name } }", 2, 1, 4, 2, 0),
        ("{ things { name } }", 2, 0, 2, 1, 7),
        ("{ things(first: 3) { name } }", 2, 0, 2, 1, 3),
        ("{ things(last: 4) { name } }", 2, 0, 2, 1, 4),
        ('{ things(after: "9", first: 2) { name } }', 2, 0, 2, 1, 2),
        ("{ things(first: -3) { name } }", 2, 0, 2, 1, 0),
        ("{ things(first: 0) { things(first: 3) { name } } }", 3, 0, 3, 1, 0),
        ("{ things(first: 3) { things(first: 4) { name } deep { things { name } } } }", 4, 0, 6, 1, 3 * 9),
        ("{ things(first: 3) { name } more: things(first: 4) { name } }", 2, 1, 4, 2, 7),
        ("{ unsaid { name } }", 2, 0, 2, 1, 20),
        ("{ empty { name } }", 2, 0, 2, 1, 20),
        ("{ named { things { name } } }", 3, 0, 3, 1, 5),
        ("{ any { ... on Thing { things(first: 2) { name } } } }", 3, 0, 3, 1, 2),
        ("{ things { ... { things { name } } } }", 3, 0, 3, 1, 35),
        ("{ any { ...F } } fragment F on Thing { a: things(first: 2) { name } }", 3, 1, 3, 1, 2),
        ("{ any { ...F ...F } } fragment F on Thing { a: name deep { name } }", 3, 2, 7, 1, 0),
        ("{ ...A ...B } fragment A on Query { plain { name } } fragment B on Query { named { name } }", 2, 0, 4, 2, 0),
        ("{ ...F } fragment F on Query { plain { name } ...F }", 2, 0, 2, 1, 0),
        ("{ ...Nowhere plain { name } }", 2, 0, 2, 1, 0),
        ("{ nothing(first: 5) { name } }", 2, 0, 2, 1, 0),
        ("{ any { things(first: 9) { name } } }", 3, 0, 3, 1, 0),
        ("mutation { change { things { name } } again: change { name } }", 3, 1, 5, 2, 5),
        ("subscription { watch { things { name } } }", 3, 0, 3, 1, 5),
        ('{ thing(first: "x") { name } }', 2, 0, 2, 1, 20),
        ("{ things(first: 99999999999999999999999999) { name } }", 2, 0, 2, 1, 100),
    ],
)
def test_documents_are_measured(text: str, depth: int, aliases: int, selections: int, fields: int, rows: int) -> None:
    assert measured(text) == Measure(depth, aliases, selections, fields, rows)


@pytest.mark.parametrize(
    ("given", "rows"),
    [({"n": 30}, 30), ({"n": True}, 7), ({"n": "30"}, 7), ({"n": None}, 7), ({}, 7), ({"n": -1}, 0)],
)
def test_pages_may_be_as_large_as_variables_say(given: dict[str, Any], rows: int) -> None:
    assert measured("query ($n: Int) { things(first: $n) { name } }", given).rows == rows


def test_a_fragment_is_measured_once_however_often_it_is_spread() -> None:
    fragments = "".join(f" fragment F{n} on Thing {{ ...F{n + 1} ...F{n + 1} }}" for n in range(40))
    found = measured(f"{{ any {{ ...F0 }} }}{fragments} fragment F40 on Thing {{ a: name things {{ name }} }}")
    assert found == Measure(3, 10**9, 10**9, 1, 10**9)


def test_sums_stop_growing() -> None:
    large = Measure(1, 10**9 - 1, 10**9 - 1, 10**9 - 1, 10**9 - 1)
    assert large.beside(Measure(5, 1, 1, 1, 1)) == Measure(5, 10**9, 10**9, 10**9, 10**9)
    assert large.beside(Measure(0, 2, 2, 2, 2)) == Measure(1, 10**9, 10**9, 10**9, 10**9)
    assert Measure(2, 3, 4, 5, 6).beside(Measure(1, 10, 20, 30, 40)) == Measure(2, 13, 24, 35, 46)


@pytest.mark.parametrize(
    ("measure", "kind", "points"),
    [
        (Measure(), OperationType.QUERY, 1),
        (Measure(selections=1, fields=1), OperationType.QUERY, 2),
        (Measure(selections=20), OperationType.QUERY, 2),
        (Measure(selections=21), OperationType.QUERY, 3),
        (Measure(rows=10), OperationType.QUERY, 2),
        (Measure(rows=11), OperationType.SUBSCRIPTION, 3),
        (Measure(selections=21, rows=11, fields=3), OperationType.QUERY, 5),
        (Measure(selections=21, rows=11, fields=3), OperationType.MUTATION, 35),
    ],
)
def test_operations_have_a_price(measure: Measure, kind: OperationType, points: int) -> None:
    assert measure.points(kind) == points


def test_the_price_of_a_document() -> None:
    document = parse("query A { things(first: 11) { name } } mutation B { change { name } }")
    assert points_of(SCHEMA, document, operation(document, 0), {}) == 1 + 1 + 2
    assert points_of(SCHEMA, document, operation(document, 1), {}) == 1 + 1 + 10
    document = parse("query ($n: Int) { things(first: $n) { name } }")
    assert points_of(SCHEMA, document, operation(document), {"n": 95}) == 1 + 1 + 10


@pytest.mark.parametrize(
    ("at", "beyond", "kind", "said"),
    [
        (Measure(depth=15), Measure(depth=16), OperationType.QUERY, "more than 15 levels deep"),
        (Measure(aliases=30), Measure(aliases=31), OperationType.QUERY, "more than 30 aliases"),
        (Measure(fields=20), Measure(fields=21), OperationType.QUERY, "more than 20 fields at the root"),
        (Measure(fields=20), Measure(fields=21), OperationType.SUBSCRIPTION, "more than 20 fields at the root"),
        (Measure(fields=5), Measure(fields=6), OperationType.MUTATION, "more than 5 fields at the root"),
        (Measure(selections=2000), Measure(selections=2001), OperationType.QUERY, "more than 2000 selections"),
        (Measure(rows=10_000), Measure(rows=10_001), OperationType.QUERY, MANY_ROWS),
    ],
)  # fmt: skip
def test_limits_hold_at_the_edge(at: Measure, beyond: Measure, kind: OperationType, said: str) -> None:
    assert excesses(at, kind) == []
    assert excesses(beyond, kind) == [said]


def test_all_that_is_too_large_is_said_of_the_operation_that_it_is_in() -> None:
    text = "query A { named { name } } query B { " + " ".join(f"a{n}: plain {{ name }}" for n in range(31)) + " }"
    found = refusals(SCHEMA, parse(text), text, {})
    assert [(error.message, error.extensions) for error in found] == [
        ("the operation has more than 30 aliases", {"code": "LIMIT_EXCEEDED"}),
        ("the operation has more than 20 fields at the root", {"code": "LIMIT_EXCEEDED"}),
    ]
    assert {error.nodes[0].name.value for error in found} == {"B"}  # type: ignore[index,union-attr]
    text = "query ($n: Int) { things(first: $n) { things(first: 100) { name } } }"
    (error,) = refusals(SCHEMA, parse(text), text, {"n": 101})
    assert error.message == "the operation has more than 10000 rows asked for by nested pages"


def spread(number: int) -> str:
    """A document with so many fragments."""
    return "{ named { ...F0 } }" + "".join(f" fragment F{n} on Named {{ a{n}: name }}" for n in range(number))


@pytest.mark.parametrize(
    ("at", "beyond", "what"),
    [
        ("query A { any { __typename } } " * 5, "query A { any { __typename } } " * 6, "5 operations"),
        (spread(50), spread(51), "50 fragments"),
        ("{ any @a @a @a { b @a } }", "{ any @a @a @a @a { b @a } }", "3 directives in one place"),
        ("query @a @a @a { any { b } }", "query @a @a @a @a { any { b } }", "3 directives in one place"),
        (
            "query ($a: Int @a @a @a) { any { b } }",
            "query ($b: A $a: A @a @a @a @a) { b }",
            "3 directives in one place",
        ),
        ("{ ... @a @a @a { b } }", "{ ... @a @a @a @a { b } }", "3 directives in one place"),
        ("{ ...F @a @a @a }", "{ ...F @a @a @a @a }", "3 directives in one place"),
        (
            "{ a } fragment F on A @a @a @a { a }",
            "{ a } fragment F on A @a @a @a @a { a }",
            "3 directives in one place",
        ),
        (
            "{ a } fragment F on A { a @a @a @a }",
            "{ a } fragment F on A { a @a @a @a @a }",
            "3 directives in one place",
        ),
        ("{ any {" + " a" * 100 + " } }", "{ any {" + " a" * 101 + " } }", "100 selections of one field of one type"),
        (
            "{ any { ...F ... on Thing {" + " a" * 50 + "} } } fragment F on Thing {" + " a" * 50 + " }",
            "{ any { ...F ... on Thing {" + " a" * 50 + "} } } fragment F on Thing {" + " a" * 51 + " }",
            "100 selections of one field of one type",
        ),
        (
            "{ any { __typename } } fragment F on Named {" + " a" * 100 + " }",
            "{ any { __typename } } fragment F on Named {" + " a" * 101 + " }",
            "100 selections of one field of one type",
        ),
    ],
)
def test_a_whole_document_has_bounds_as_well(at: str, beyond: str, what: str) -> None:
    assert refusals(SCHEMA, parse(at), at, {}) == []
    assert [(error.message, error.extensions) for error in refusals(SCHEMA, parse(beyond), beyond, {})] == [
        (f"the document has more than {what}", {"code": "LIMIT_EXCEEDED"})
    ]


def test_one_field_of_two_types_is_two() -> None:
    text = "{ named {" + " name" * 100 + " } plain {" + " name" * 100 + " } }"
    assert refusals(SCHEMA, parse(text), text, {}) == []


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("{ a }\0", {}),
        ('{ a(b: "\\u0000") }', {}),
        ('{ a(b: "\\u{0}") }', {}),
        ('{ a(b: "\\u{0000}") }', {}),
        ("{ a }", {"b": "x\0"}),
        ("{ a }", {"b": 1, "c": [1, {"d": ["\0"]}]}),
        ("{ a }", {"b": {"\0": 1}}),
        ("{ a }", {"\0": 1}),
    ],
)
def test_no_text_with_a_nul_is_taken(text: str, variables: dict[str, Any]) -> None:
    (error,) = refusals(SCHEMA, parse("{ named { name } }"), text, variables)
    assert (error.message, error.extensions) == ("text may not contain the character U+0000", {"code": "BAD_REQUEST"})


@pytest.mark.parametrize("variables", [{}, {"a": "0"}, {"a": [1, None, {"b": "u0000"}]}, None])
def test_other_texts_are_taken(variables: Any) -> None:
    assert refusals(SCHEMA, parse("{ named { name } }"), '{ named { name } } # "\\u00001"'[:18], variables) == []


# ── within an execution ──────────────────────────────────────────────────────────────────────────────────────────


@strawberry.type
class Query:
    @strawberry.field
    def number(self, first: int = 3) -> int:
        return first

    @strawberry.field
    def broken(self) -> list[str]:
        return ["a"]


@strawberry.type
class Mutation:
    @strawberry.mutation
    def change(self) -> int:
        return 1


class Asking:
    """The context of an operation, as much of it as the guard looks at."""

    def __init__(self, *permissions: Permission, refuses: RateLimited | None = None) -> None:
        self.principal = Principal(
            1, "acme", 1, Role.VIEWER, frozenset(permissions), 1, datetime(2027, 1, 1, tzinfo=UTC)
        )
        self.charged: list[int] = []
        self._refuses = refuses

    def charge(self, points: int) -> None:
        self.charged.append(points)
        if self._refuses is not None:
            raise self._refuses


@pytest.fixture
def cache() -> DocumentCache:
    return DocumentCache(2)


@pytest.fixture
def guarded(cache: DocumentCache) -> strawberry.Schema:
    return strawberry.Schema(Query, Mutation, extensions=[lambda: OperationGuard(cache)])


def said(schema: strawberry.Schema, text: str, asking: Asking, **more: Any) -> list[tuple[str, Any]]:
    result = schema.execute_sync(text, context_value=asking, **more)
    return [(error.message, error.extensions) for error in result.errors or ()]


def test_what_may_be_asked_is_answered_and_charged_once(guarded: strawberry.Schema) -> None:
    asking = Asking(Permission.READ)
    for _ in range(2):
        result = guarded.execute_sync("{ number }", context_value=asking)
        assert (result.data, result.errors) == ({"number": 3}, None)
    # A page of three rows costs a point.
    assert asking.charged == [3, 3]
    changing = Asking()
    assert guarded.execute_sync("mutation { change }", context_value=changing).data == {"change": 1}
    assert changing.charged == [12]


def test_the_variables_and_the_name_of_the_operation_are_heeded(guarded: strawberry.Schema) -> None:
    asking = Asking(Permission.READ)
    text = "query A { number } query B($n: Int!) { number(first: $n) }"
    result = guarded.execute_sync(text, {"n": 95}, context_value=asking, operation_name="B")
    assert (result.data, asking.charged) == ({"number": 95}, [12])
    assert said(guarded, text, asking) == [
        ("the document has several operations: name one", {"code": "BAD_REQUEST"}),
    ]
    assert asking.charged == [12]
    (refused,) = said(guarded, text, asking, operation_name="B", variable_values={"n": 10_001})
    assert refused == ("first is at most 100", {"code": "LIMIT_EXCEEDED", "path": ["first"]})


def test_who_may_not_read_may_not_ask(guarded: strawberry.Schema) -> None:
    asking = Asking(Permission.WRITE)
    assert said(guarded, "{ number }", asking) == [
        ("this token may not read", {"code": "FORBIDDEN", "required": "READ"}),
    ]
    assert asking.charged == []


def test_what_costs_too_much_is_not_begun(guarded: strawberry.Schema) -> None:
    asking = Asking(Permission.READ, refuses=RateLimited(3, 1.5))
    assert said(guarded, "{ number }", asking) == [
        ("this costs 3 points, which are there in 1.5 s", {"code": "RATE_LIMITED", "cost": 3, "retryAfter": 1.5}),
    ]


def test_what_is_not_valid_is_validated_once_and_charged_each_time(
    guarded: strawberry.Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(more)
        return validate(*given, **more)

    monkeypatch.setattr(limits, "validate", counted)
    asking = Asking(Permission.READ)
    for _ in range(3):
        (error,) = said(guarded, "{ nothing }", asking)
        assert "Cannot query field 'nothing'" in error[0]
    assert calls == [{"max_errors": 20}]
    # Otherwise looking for faults in ever other documents would be for nothing.
    assert asking.charged == [2, 2, 2]


def test_no_more_faults_are_told_than_anybody_reads(guarded: strawberry.Schema) -> None:
    asking = Asking(Permission.READ)
    told = said(guarded, "{ broken { " + " ".join(f"x{n}" for n in range(50)) + " } }", asking)
    assert len(told) == 1
    told = said(guarded, "query (" + " ".join(f"$x{n}: Int" for n in range(50)) + ") { number }", asking)
    assert [message.partition("'")[0] for message, _ in told] == ["Variable "] * 20 + [
        "Too many validation errors, error limit reached. Validation aborted."
    ]


def test_what_comes_to_nothing_is_told_and_charged_by_its_length(guarded: strawberry.Schema) -> None:
    asking = Asking(Permission.READ)
    (error,) = said(guarded, "{ number", asking)
    assert error[0] == "Syntax Error: Expected Name, found <EOF>."
    # Three thousand tokens are read; one more is not.
    assert [message for message, _ in said(guarded, "{" + "number " * 2_998 + "}", asking)] == [
        "the operation has more than 20 fields at the root",
        "the operation has more than 2000 selections",
        "the document has more than 100 selections of one field of one type",
    ]
    (error,) = said(guarded, "{" + "number " * 2_999 + "}", asking)
    assert error == ("the document has more than 3000 tokens", {"code": "LIMIT_EXCEEDED"})
    assert asking.charged == [2, 1 + 42, 1 + 42]


def test_documents_that_were_asked_lately_are_parsed_once(
    guarded: strawberry.Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []

    def counted(text: str, max_tokens: int) -> DocumentNode:
        calls.append((text, max_tokens))
        return parse(text, max_tokens=max_tokens)

    monkeypatch.setattr(parsed, "parse", counted)
    asking = Asking(Permission.READ)
    for text in ("{ number }", "{ number }", "{ a: number }", "{ b: number }", "{ b: number }", "{ number }"):
        assert said(guarded, text, asking) == []
    assert calls == [(text, 3_000) for text in ("{ number }", "{ a: number }", "{ b: number }", "{ number }")]
