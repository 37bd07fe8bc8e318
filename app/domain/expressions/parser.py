"""A Pratt parser: from text to syntax tree."""

from __future__ import annotations

from app.domain.expressions.errors import BudgetExceeded, ExpressionError
from app.domain.expressions.lexer import Token, TokenKind, tokenize
from app.domain.expressions.syntax import (
    Access,
    Accessor,
    Binary,
    Call,
    Conditional,
    ListOf,
    Literal,
    MapOf,
    Name,
    Node,
    Unary,
    depth_of,
)
from app.domain.naming import hint, nearest

MAX_LENGTH = 4096
MAX_DEPTH = 64
MAX_TREE_DEPTH = 128

_CONDITIONAL = 1
_BINDING = {
    "||": 2,
    "&&": 3,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 4),
    **dict.fromkeys("+-", 5),
    **dict.fromkeys("*/%", 6),
}
_UNARY = 7

# Least and most arguments; the receiver of a method call counts.
ARITY: dict[str, tuple[int, int]] = {
    "size": (1, 1),
    "string": (1, 1),
    "int": (1, 1),
    "double": (1, 1),
    "bool": (1, 1),
    "contains": (2, 2),
    "startsWith": (2, 2),
    "endsWith": (2, 2),
    "lower": (1, 1),
    "upper": (1, 1),
    "trim": (1, 1),
    "replace": (3, 3),
    "split": (2, 2),
    "join": (1, 2),
    "keys": (1, 1),
    "values": (1, 1),
    "has": (1, 1),
    "default": (2, 2),
    "coalesce": (1, 16),
    "min": (1, 16),
    "max": (1, 16),
    "abs": (1, 1),
    "merge": (1, 16),
    "concat": (1, 16),
    "toJson": (1, 1),
    "fromJson": (1, 1),
    "base64": (1, 1),
    "sha256": (1, 1),
    "format": (2, 2),
}


def parse_tree(text: str) -> Node:
    """The syntax tree of `text`. Raises ExpressionError, with the position, for text that is no expression."""
    if len(text) > MAX_LENGTH:
        message = f"an expression may have {MAX_LENGTH} characters, this one has {len(text)}"
        raise BudgetExceeded(message, position=MAX_LENGTH)
    tree = _Parser(text).parse()
    # Method calls in a row make a deep tree without nesting in the text.
    if depth_of(tree) > MAX_TREE_DEPTH:
        message = "the expression has too many calls in a row or inside each other"
        raise BudgetExceeded(message)
    return tree


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(tokenize(text))
        self._next = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._expression(0)
        if self._peek().kind is not TokenKind.END:
            raise self._unexpected(self._peek())
        return node

    def _expression(self, binding: int) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            position = self._peek().position
            message = f"the expression is nested more than {MAX_DEPTH} levels deep at {position}"
            raise BudgetExceeded(message, position=position)
        left = self._prefix()
        while True:
            token = self._peek()
            if token.kind is not TokenKind.SYMBOL:
                break
            if token.text == "?" and binding < _CONDITIONAL:
                left = self._conditional(left)
            elif _BINDING.get(token.text, 0) > binding:
                self._advance()
                left = Binary(token.text, left, self._expression(_BINDING[token.text]), token.position)
            else:
                break
        self._depth -= 1
        return left

    def _conditional(self, condition: Node) -> Node:
        position = self._advance().position
        then = self._expression(0)
        self._expect(":")
        return Conditional(condition, then, self._expression(0), position)

    def _prefix(self) -> Node:
        token = self._peek()
        if token.kind is TokenKind.SYMBOL and token.text in "!-":
            self._advance()
            return Unary(token.text, self._expression(_UNARY - 1), token.position)
        return self._postfix(self._primary())

    def _primary(self) -> Node:
        token = self._advance()
        if token.kind is TokenKind.VALUE:
            return Literal(token.value, token.position)
        if token.kind is TokenKind.NAME:
            if self._peek().text == "(":
                return self._call(token, ())
            return Name(token.text, token.position)
        if token.text == "(":
            node = self._expression(0)
            self._expect(")")
            return node
        if token.text == "[":
            return ListOf(self._sequence("]"), token.position)
        if token.text == "{":
            return self._map(token)
        raise self._unexpected(token)

    def _postfix(self, node: Node) -> Node:
        accessors: list[Accessor] = []
        start = node.position
        while self._peek().kind is TokenKind.SYMBOL and self._peek().text in (".", "?.", "["):
            token = self._advance()
            optional = token.text == "?."
            if token.text == "[" or (optional and self._peek().text == "["):
                if optional:
                    self._advance()
                accessors.append(Accessor(self._expression(0), optional, token.position))
                self._expect("]")
                continue
            name = self._advance()
            if name.kind is not TokenKind.NAME and not name.text.isidentifier():
                raise self._unexpected(name)
            if self._peek().text == "(" and self._peek().kind is TokenKind.SYMBOL:
                receiver = Access(node, tuple(accessors), start) if accessors else node
                node, accessors = self._call(name, (receiver,)), []
            else:
                accessors.append(Accessor(Literal(name.text, name.position), optional, token.position))
        return Access(node, tuple(accessors), start) if accessors else node

    def _call(self, name: Token, receiver: tuple[Node, ...]) -> Call:
        if name.text not in ARITY:
            message = f"there is no function '{name.text}' (at {name.position}){hint(nearest(name.text, ARITY))}"
            raise ExpressionError(message, position=name.position)
        self._expect("(")
        arguments = receiver + self._sequence(")")
        least, most = ARITY[name.text]
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            message = f"'{name.text}' at {name.position} takes {wanted} arguments, not {len(arguments)}"
            raise ExpressionError(message, position=name.position)
        return Call(name.text, arguments, name.position)

    def _sequence(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self._found(closing):
            items.append(self._expression(0))
            if not self._found(","):
                self._expect(closing)
                break
        return tuple(items)

    def _map(self, start: Token) -> Node:
        entries: list[tuple[Node, Node]] = []
        while not self._found("}"):
            key = self._expression(0)
            self._expect(":")
            entries.append((key, self._expression(0)))
            if not self._found(","):
                self._expect("}")
                break
        return MapOf(tuple(entries), start.position)

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _advance(self) -> Token:
        token = self._tokens[self._next]
        # The END is never passed, so that there is always a token to look at.
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _found(self, symbol: str) -> bool:
        token = self._peek()
        if token.kind is TokenKind.SYMBOL and token.text == symbol:
            self._advance()
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._found(symbol):
            raise self._unexpected(self._peek(), f"'{symbol}' was expected")

    def _unexpected(self, token: Token, wanted: str = "") -> ExpressionError:
        found = "end of the expression" if token.kind is TokenKind.END else f"'{token.text}'"
        message = f"unexpected {found} at {token.position}" + (f"; {wanted}" if wanted else "")
        return ExpressionError(message, position=token.position)
