"""Finds what an expression reads, without evaluating it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain.expressions.syntax import Access, Call, Literal, Name, Node, children

_TOLERANT = frozenset({"default", "has", "coalesce"})


@dataclass(frozen=True, slots=True)
class Reference:
    """`root` and as much of the path behind it as is written literally.

    `guarded`: the expression copes with nothing being there. `position` counts characters of the expression.
    """

    root: str
    path: tuple[str, ...]
    guarded: bool
    position: int = 0

    def __str__(self) -> str:
        return ".".join((self.root, *self.path))


def find_references(tree: Node) -> tuple[Reference, ...]:
    """Every reference once, in the order of the text."""
    found: list[Reference] = []
    pending: list[tuple[Node, bool]] = [(tree, False)]
    while pending:
        node, guarded = pending.pop()
        if isinstance(node, Name):
            found.append(Reference(node.name, (), guarded, node.position))
        elif isinstance(node, Access) and isinstance(node.base, Name):
            optional = any(accessor.optional for accessor in node.accessors)
            found.append(Reference(node.base.name, _static_path(node), guarded or optional, node.position))
            pending.extend((accessor.key, guarded) for accessor in node.accessors)
        else:
            pending.extend(_children(node, guarded))
    unique: dict[tuple[str, tuple[str, ...], bool], Reference] = {}
    for reference in sorted(found, key=lambda item: item.position):
        unique.setdefault((reference.root, reference.path, reference.guarded), reference)
    return tuple(unique.values())


def _static_path(node: Access) -> tuple[str, ...]:
    path: list[str] = []
    for accessor in node.accessors:
        key = accessor.key
        if not isinstance(key, Literal) or isinstance(key.value, (bool, float)) or key.value is None:
            break
        path.append(str(key.value))
    return tuple(path)


def _children(node: Node, guarded: bool) -> Iterator[tuple[Node, bool]]:
    """The nodes below, each with whether nothing may be there."""
    if isinstance(node, Access):
        yield node.base, guarded or any(accessor.optional for accessor in node.accessors)
        yield from ((accessor.key, guarded) for accessor in node.accessors)
    elif isinstance(node, Call) and node.name in _TOLERANT:
        last = len(node.arguments) - 1
        for position, argument in enumerate(node.arguments):
            # The last resort of default() and coalesce() has nothing behind it.
            yield argument, guarded or position < last or node.name == "has"
    else:
        yield from ((child, guarded) for child in children(node))
