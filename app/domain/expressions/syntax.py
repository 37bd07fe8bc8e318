"""The syntax tree of an expression. `position` is where a node begins to matter to an error message."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.values import JsonScalar


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text, true, false or null."""

    value: JsonScalar
    position: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[a, b]`."""

    items: tuple[Node, ...]
    position: int


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{"a": b}`."""

    entries: tuple[tuple[Node, Node], ...]
    position: int


@dataclass(frozen=True, slots=True)
class Name:
    """A root of the scope."""

    name: str
    position: int


@dataclass(frozen=True, slots=True)
class Accessor:
    """One link of a chain: `.x`, `[e]`, or with `optional` `?.x` and `?.[e]`."""

    key: Node
    optional: bool
    position: int


@dataclass(frozen=True, slots=True)
class Access:
    """A chain of accessors, kept flat: a long chain is not a deep tree."""

    base: Node
    accessors: tuple[Accessor, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`!a` and `-a`."""

    operator: str
    operand: Node
    position: int


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands and an operator between them, `&&` and `||` included."""

    operator: str
    left: Node
    right: Node
    position: int


@dataclass(frozen=True, slots=True)
class Conditional:
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node
    position: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; of a method call the receiver is the first argument."""

    name: str
    arguments: tuple[Node, ...]
    position: int


Node = Literal | ListOf | MapOf | Name | Access | Unary | Binary | Conditional | Call


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below `node`, in the order of the text."""
    if isinstance(node, Access):
        return (node.base, *(accessor.key for accessor in node.accessors))
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Binary):
        return (node.left, node.right)
    if isinstance(node, Conditional):
        return (node.condition, node.then, node.otherwise)
    if isinstance(node, ListOf):
        return node.items
    if isinstance(node, MapOf):
        return tuple(part for entry in node.entries for part in entry)
    return node.arguments if isinstance(node, Call) else ()


def depth_of(tree: Node) -> int:
    """How deep a walk of the tree recurses; the left side of a binary operator is walked in a loop."""
    deepest = 0
    pending: list[tuple[Node, int]] = [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        for position, child in enumerate(children(node)):
            pending.append((child, depth if isinstance(node, Binary) and position == 0 else depth + 1))
    return deepest
