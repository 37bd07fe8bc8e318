"""Splits the text of an expression into tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from app.domain.expressions.errors import ExpressionError
from app.domain.values import JsonScalar

MAX_INTEGER = 2**63 - 1
# A '?.' before a digit is a conditional with a number that begins with its point.
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\n]+)"
    r"|(?P<number>(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<string>[\"'])"
    r"|(?P<symbol>\?\.(?!\d)|==|!=|<=|>=|&&|\|\||[-+*/%!<>?:.,()\[\]{}])",
    re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_KEYWORDS: dict[str, JsonScalar] = {"true": True, "false": False, "null": None}


class TokenKind(StrEnum):
    """VALUE carries a literal; IN is a symbol that is written with letters."""

    VALUE = "VALUE"
    NAME = "NAME"
    SYMBOL = "SYMBOL"
    END = "END"


@dataclass(frozen=True, slots=True)
class Token:
    """`text` as written, `value` of a literal, `position` of the first character."""

    kind: TokenKind
    text: str
    position: int
    value: JsonScalar = None


def tokenize(text: str) -> Iterator[Token]:
    """The tokens of `text`, an END after them. Raises ExpressionError where a character makes no sense."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            message = f"unexpected character {text[position]!r} at {position}"
            raise ExpressionError(message, position=position)
        end = match.end()
        if match.lastgroup == "string":
            value, end = _read_string(text, position)
            yield Token(TokenKind.VALUE, text[position:end], position, value)
        elif match.lastgroup == "number":
            yield Token(TokenKind.VALUE, match.group(), position, _number(match.group(), position))
        elif match.lastgroup == "name":
            yield _word(match.group(), position)
        elif match.lastgroup == "symbol":
            yield Token(TokenKind.SYMBOL, match.group(), position)
        position = end
    yield Token(TokenKind.END, "", len(text))


def _word(word: str, position: int) -> Token:
    if word in _KEYWORDS:
        return Token(TokenKind.VALUE, word, position, _KEYWORDS[word])
    return Token(TokenKind.SYMBOL if word == "in" else TokenKind.NAME, word, position)


def _number(text: str, position: int) -> int | float:
    if text.isdigit():
        # Compared by length first: turning thousands of digits into a number is slow.
        value = int(text) if len(text) < 20 else MAX_INTEGER + 1
        if value > MAX_INTEGER:
            message = f"the integer at {position} does not fit into 64 bits"
            raise ExpressionError(message, position=position)
        return value
    number = float(text)
    if number == float("inf"):
        message = f"the number at {position} is too large"
        raise ExpressionError(message, position=position)
    return number


def _read_string(text: str, start: int) -> tuple[str, int]:
    """The string whose quote is at `start`, and the position behind its end."""
    quote, position = text[start], start + 1
    parts: list[str] = []
    while position < len(text):
        character = text[position]
        if character == quote:
            return "".join(parts), position + 1
        if character == "\\":
            character, position = _read_escape(text, position)
        else:
            position += 1
        parts.append(character)
    message = f"the text that begins at {start} has no closing quote"
    raise ExpressionError(message, position=start)


def _read_escape(text: str, position: int) -> tuple[str, int]:
    following = text[position + 1 : position + 2]
    if following in _ESCAPES and following:
        return _ESCAPES[following], position + 2
    digits = text[position + 2 : position + 6]
    if following == "u" and re.fullmatch(r"[0-9a-fA-F]{4}", digits):
        code = int(digits, 16)
        if code == 0:
            message = f"the character U+0000 at {position} can be kept nowhere"
            raise ExpressionError(message, position=position)
        if not 0xD800 <= code <= 0xDFFF:  # half of a surrogate pair is no character
            return chr(code), position + 6
    message = f"unknown escape at {position}; known are \\n \\t \\r \\\\ \\' \\\" \\uXXXX"
    raise ExpressionError(message, position=position)
