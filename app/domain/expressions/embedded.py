"""Expressions inside JSON documents: `${…}` in any string.

A string that is one expression has its value, of any type; in other text the values of expressions become text.
`$${` is a `${` that begins no expression. Keys of maps are never expressions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from app.domain.errors import Diagnostic, Invalid, Path, Severity
from app.domain.expressions.budget import MAX_RESULT
from app.domain.expressions.errors import BudgetExceeded, ExpressionError
from app.domain.expressions.expression import Expression, evaluate, parse
from app.domain.expressions.functions import text_of
from app.domain.values import UNKNOWN, Secret, Value


@dataclass(frozen=True, slots=True)
class Embedded:
    """One expression of a document; `text` as written, with `${` and `}`."""

    path: Path
    text: str
    expression: Expression


Part = str | Expression


def find(value: Value, path: Path = ()) -> Iterator[Embedded]:
    """Every expression in the tree. Raises ExpressionError, with its path, at the first that cannot be read."""
    for place, text in _strings(value, path):
        try:
            parts = split(text)
        except ExpressionError as error:
            raise _at(error, place) from None
        yield from (Embedded(place, f"${{{part.text}}}", part) for part in parts if isinstance(part, Expression))


def survey(value: Value, path: Path = ()) -> tuple[list[Embedded], list[Diagnostic]]:
    """Every expression in the tree, and what is wrong with those that cannot be read, or never have a value."""
    found: list[Embedded] = []
    faults: list[Diagnostic] = []
    for place, text in _strings(value, path):
        try:
            here = list(find(text, place))
            found.extend(here)
            for item in here:
                # What reads nothing is now what it will be when a job comes to it.
                if not item.expression.references:
                    evaluate(item.expression, {})
        except ExpressionError as error:
            faults.append(Diagnostic(Severity.ERROR, error.code, error.message, place))
    return found, faults


def render(value: Value, scope: Mapping[str, Value]) -> Value:
    """The tree with every expression evaluated. Raises ExpressionError with the path, within `value`, of the place."""
    return _render(value, scope, ())


def render_known(value: Value) -> Value:
    """The tree with UNKNOWN in place of every string that has an expression: what can be checked without a scope."""
    if isinstance(value, Mapping):
        return {key: render_known(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [render_known(item) for item in value]
    if not isinstance(value, str):
        return value
    parts = split(value)
    return UNKNOWN if any(isinstance(part, Expression) for part in parts) else "".join(map(str, parts))


def single(text: str, path: Path = ()) -> Expression:
    """The one expression that `text` is, written ${…}. Raises ExpressionError or Invalid, with the path."""
    try:
        parts = split(text.strip())
    except ExpressionError as error:
        raise _at(error, path) from None
    if len(parts) != 1 or not isinstance(parts[0], Expression):
        message = "this is one expression, written ${…}, and nothing else"
        raise Invalid(message, path=path)
    return parts[0]


def is_expression(value: Value) -> bool:
    """Whether `value` is a string that is one expression and nothing else."""
    if not isinstance(value, str):
        return False
    parts = split(value)
    return len(parts) == 1 and isinstance(parts[0], Expression)


@lru_cache(maxsize=4096)
def split(text: str) -> tuple[Part, ...]:
    """The literal texts (escapes undone) and expressions that `text` is made of."""
    parts: list[Part] = []
    literal: list[str] = []
    position = 0
    while True:
        dollar = text.find("$", position)
        if dollar < 0:
            break
        literal.append(text[position:dollar])
        if text.startswith("$${", dollar):
            literal.append("${")
            position = dollar + 3
        elif text.startswith("${", dollar):
            end = _closing_brace(text, dollar + 2)
            if any(literal):
                parts.append("".join(literal))
            literal.clear()
            parts.append(_parsed(text[dollar + 2 : end], dollar + 2))
            position = end + 1
        else:
            literal.append("$")
            position = dollar + 1
    literal.append(text[position:])
    if any(literal):
        parts.append("".join(literal))
    return tuple(parts)


def _parsed(text: str, start: int) -> Expression:
    try:
        return parse(text)
    except ExpressionError as error:
        message = f"in ${{{text if len(text) < 80 else text[:79] + '…'}}}: {error.message}"
        raise type(error)(message, position=error.position + start) from None


def _closing_brace(text: str, start: int) -> int:
    """Where the expression that begins at `start` ends; braces in its strings do not count, others nest."""
    depth, position, quote = 0, start, ""
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            if depth == 0:
                return position
            depth -= 1
        position += 1
    message = "'${' is never closed by '}'; write '$${' for a literal '${'"
    raise ExpressionError(message, position=start - 2)


def _strings(value: Value, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if "${" in value:
            yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _strings(item, (*path, str(position)))


def _render(value: Value, scope: Mapping[str, Value], path: Path) -> Value:
    if isinstance(value, str):
        try:
            return _render_text(value, scope)
        except ExpressionError as error:
            raise _at(error, path) from None
    if isinstance(value, (dict, Mapping)):
        return {key: _render(item, scope, (*path, key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_render(item, scope, (*path, str(position))) for position, item in enumerate(value)]
    return value


def _render_text(text: str, scope: Mapping[str, Value]) -> Value:
    if "${" not in text:
        return text
    parts = split(text)
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return evaluate(parts[0], scope)
    values = [evaluate(part, scope) if isinstance(part, Expression) else part for part in parts]
    if any(value is UNKNOWN for value in values):
        return UNKNOWN
    secret = any(isinstance(value, Secret) for value in values)
    pieces = [_as_text(value) for value in values]
    if any(piece is UNKNOWN for piece in pieces):
        return UNKNOWN
    # The author's own text is bounded with the document; only what expressions add to it is counted here.
    if sum(map(len, pieces)) > MAX_RESULT + len(text):
        message = f"the values in a text may have {MAX_RESULT} characters in all; these are longer"
        raise BudgetExceeded(message)
    joined = "".join(pieces)
    return Secret(joined) if secret else joined


def _as_text(value: Value) -> Value:
    plain = value.value if isinstance(value, Secret) else value
    return plain if plain is UNKNOWN else text_of(plain, 0)


def _at(error: ExpressionError, path: Path) -> ExpressionError:
    """A new error with the path: one that was raised out of a cache must not be changed."""
    return type(error)(error.message, position=error.position, path=(*path, *error.path))
