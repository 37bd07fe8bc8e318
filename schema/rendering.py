"""How a value of a row is written as JSON text by PostgreSQL, so that it reads as what Python would have written."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from graphql import GraphQLEnumType, GraphQLNamedType, GraphQLScalarType
from sqlalchemy import (
    BigInteger,
    BinaryExpression,
    Boolean,
    ColumnClause,
    ColumnElement,
    DateTime,
    Enum,
    Float,
    Integer,
    Label,
    String,
    Text,
    case,
    cast,
    extract,
    func,
    literal_column,
)
from sqlalchemy import Numeric as SqlNumeric
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import Grouping

from app.db.pages import Order
from app.domain import cursors
from app.domain.events import Stream
from schema.symbols import NotExpressible, Symbol, Written, literal

_NUMBERS = (Integer, BigInteger)


def text_of(value: Any, kind: GraphQLNamedType) -> ColumnElement[str]:
    """The JSON text of a symbol as the GraphQL type writes it; never NULL. Raises NotExpressible."""
    if isinstance(value, Written):
        return value.expression
    if not isinstance(value, Symbol):
        raise NotExpressible(kind.name)
    text = _text(value, kind)
    return func.coalesce(text, NULL) if value.nullable else text


def _text(value: Symbol, kind: GraphQLNamedType) -> ColumnElement[str]:
    expression, stored = value.expression, value.kind
    match kind:
        case GraphQLEnumType() if isinstance(stored, Enum):
            return quoted(cast(expression, Text))
        case GraphQLScalarType(name="String") if isinstance(stored, (String, Text)) and not isinstance(stored, Enum):
            return escaped(expression)
        case GraphQLScalarType(name="Int") if isinstance(stored, _NUMBERS):
            return cast(expression, Text)
        case GraphQLScalarType(name="Float") if isinstance(stored, (Float, SqlNumeric, *_NUMBERS)):
            return cast(expression, Text)
        case GraphQLScalarType(name="BigInt") if isinstance(stored, _NUMBERS):
            return quoted(cast(expression, Text))
        case GraphQLScalarType(name="Boolean") if isinstance(stored, Boolean):
            return case((expression, literal("true")), (~expression, literal("false")))
        case GraphQLScalarType(name="DateTime") if isinstance(stored, DateTime):
            return joined([literal('"'), _instant(value), literal('Z"')])
        case GraphQLScalarType(name="JSON") if isinstance(stored, JSONB):
            return _unsealed(expression)
    raise NotExpressible(kind.name)


def _instant(value: Symbol) -> ColumnElement[str]:
    """With six digits after the point. The server's own text leaves zeros at the end out; most have none there."""
    plain = value.written_by(_plain_instant)
    whole = func.octet_length(plain) == literal_column("26")
    slowly = func.to_char(func.timezone(_UTC, value.expression), literal('YYYY-MM-DD"T"HH24:MI:SS.US'))
    return case((whole, func.replace(plain, literal(" "), literal("T"))), else_=slowly)


def _plain_instant(column: ColumnElement[Any]) -> ColumnElement[str]:
    return cast(func.timezone(_UTC, column), Text)


def _unsealed(tree: ColumnElement[Any]) -> ColumnElement[str]:
    """The document, with what is sealed in it hidden; most documents have nothing sealed in them."""
    text = cast(tree, Text)
    anything = func.strpos(text, literal('"$sealed"')) > literal_column("0")
    return case((anything, cast(func.windlass_masked(tree), Text)), else_=text)


def escaped(expression: ColumnElement[Any]) -> ColumnElement[str]:
    """Text as a JSON string (migration 0065): `to_json` would look its type up each time."""
    return func.windlass_json(cast(expression, Text), type_=Text)


def quoted(expression: ColumnElement[str]) -> ColumnElement[str]:
    """Text without anything to escape, as a JSON string."""
    return literal_column("'\"'").op("||")(expression).op("||")(literal_column("'\"'"))


def truth(condition: ColumnElement[bool]) -> ColumnElement[str]:
    """A condition that is never NULL."""
    return case((condition, literal("true")), else_=literal("false"))


def joined(parts: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    """All parts one after another; none of them may be NULL.

    By the operator, because `concat` looks up how each of its arguments is written whenever it is called: that was a
    tenth of the time of a page. In halves, so that what is long is not copied again and again.
    """
    return _in_halves(list(_merged(piece for part in parts for piece in _pieces(part))))


def _in_halves(pieces: Sequence[ColumnElement[str]]) -> ColumnElement[str]:
    if len(pieces) == 1:
        return pieces[0]
    middle = len(pieces) // 2
    return _in_halves(pieces[:middle]).op("||")(_in_halves(pieces[middle:]))


def _pieces(part: Any) -> Iterator[ColumnElement[str]]:
    """What a part was itself put together from."""
    if isinstance(part, BinaryExpression) and getattr(part.operator, "opstring", "") == "||":
        yield from _pieces(part.left)
        yield from _pieces(part.right)
    elif isinstance(part, Grouping):
        yield from _pieces(part.element)
    else:
        yield part


def _merged(pieces: Iterable[ColumnElement[str]]) -> Iterator[ColumnElement[str]]:
    """With each run of constants as one."""
    constant: str | None = None
    for piece in pieces:
        text = constant_of(piece)
        if text is not None:
            constant = text if constant is None else constant + text
            continue
        if constant is not None:
            yield literal(constant)
            constant = None
        yield piece
    if constant is not None:
        yield literal(constant)


def constant_of(piece: ColumnElement[Any]) -> str | None:
    """The text that `literal` was given, if that is what it is."""
    piece = piece.element if isinstance(piece, Label) else piece
    text = piece.name if isinstance(piece, ColumnClause) and piece.is_literal else ""
    return text[1:-1].replace("''", "'") if text.startswith("'") else None


def braced(fields: Mapping[str, Sequence[ColumnElement[str]]]) -> list[ColumnElement[str]]:
    """The text of an object, in parts."""
    parts: list[ColumnElement[str]] = [literal("{")]
    for number, (name, text) in enumerate(fields.items()):
        parts += [literal(("," if number else "") + f'"{name}":'), *text]
    return [*parts, literal("}")]


def listed(parts: Sequence[ColumnElement[str]]) -> list[ColumnElement[str]]:
    """The text of a list, in parts."""
    between = [piece for part in parts for piece in (literal(","), part)]
    return [literal("["), *between[1:], literal("]")]


def written(kind: Any, value: StrEnum) -> ColumnElement[str]:
    """A value that is the same for all who are answered by the same statement."""
    return literal(f'"{kind.coerce_output_value(value)}"')


def global_id(kind: str, number: Symbol) -> Written:
    """As app.domain.identity writes it."""
    name = f"{kind}:".encode()
    # Of its first letters, three at a time, it is known what they become.
    whole = len(name) // 3 * 3
    rest, digits = name[whole:].decode(), cast(number.expression, Text)
    plain = literal_column(f"'{rest}'").op("||")(digits) if rest else digits
    # Its bytes as they would be sent: a cast would read the text for escapes.
    encoded = func.encode(func.textsend(plain), literal("base64"))
    known = literal(base64.b64encode(name[:whole]).decode())
    return Written(quoted(known.op("||")(func.replace(encoded, literal("="), literal("")))))


def stream_cursor(stream: Stream, number: Symbol, seq: Symbol, at: Symbol) -> Written:
    """As app.domain.cursors writes it."""
    version = case((at.expression.is_(None), literal(cursors.PLAIN)), else_=literal(cursors.DATED))
    micros = cast(extract("epoch", at.expression) * literal_column("1000000"), BigInteger)
    # Nothing stands for null: a place whose moment is not known ends with its number.
    moment = literal(":").op("||")(cast(micros, Text))
    plain = func.concat(version, literal(f":{stream.value}:"), number.expression, literal(":"), seq.expression, moment)
    return Written(quoted(_opaque(plain)))


def page_cursor(order: Order, columns: Sequence[Symbol]) -> ColumnElement[str]:
    """As app.db.pages writes it, in quotes."""
    parts = [literal(f'["{order.name}"')]
    for column in columns:
        parts += [literal(","), _in_cursor(column)]
    return quoted(_opaque(joined([*parts, literal("]")])))


def _in_cursor(column: Symbol) -> ColumnElement[str]:
    expression, stored = column.expression, column.kind
    text: ColumnElement[str]
    if isinstance(stored, DateTime):
        there = func.timezone(_UTC, expression)
        # As Python writes it: without a fraction where there is none.
        whole = func.date_trunc(literal("second"), expression) == expression
        text = func.concat(
            literal('"'),
            case(
                (whole, func.to_char(there, literal('YYYY-MM-DD"T"HH24:MI:SS'))),
                else_=func.to_char(there, literal('YYYY-MM-DD"T"HH24:MI:SS.US')),
            ),
            literal('+00:00"'),
        )
    elif isinstance(stored, _NUMBERS):
        text = cast(expression, Text)
    elif isinstance(stored, (String, Text)):
        text = escaped(expression)
    else:
        raise NotExpressible(type(stored).__name__)
    return text


def _opaque(plain: ColumnElement[str]) -> ColumnElement[str]:
    """Base64 for addresses, without padding; PostgreSQL breaks it into lines."""
    encoded = func.encode(func.convert_to(plain, literal("UTF8")), literal("base64"))
    return func.translate(encoded, literal_column("E'+/=\\n'"), literal("-_"))


NULL = literal("null")
# An offset, and no name that would have to be looked up.
_UTC: ColumnElement[Any] = literal_column("CAST('0' AS INTERVAL)")
