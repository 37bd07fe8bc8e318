"""Which subscriptions have the same frames, and so share one execution (schema/sharing.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from graphql import FieldNode, GraphQLError, OperationType, VariableNode, Visitor, get_operation_ast, parse, visit

from app.auth.principal import Principal
from schema.kept import Kept
from schema.openings import Entry
from schema.parsed import MAX_TOKENS

_STREAMS = frozenset({"jobUpdated", "jobLogs", "planUpdated"})
# Arguments that say where to begin: there a follower comes up from by itself.
_BEGINNINGS = frozenset({"after", "tail"})
# Objects whose plain fields are the same for everybody who may see the same. What leads elsewhere is the viewer's own.
_COMMON = frozenset({"events", "lines", "job", "plan", "step", "resource", "tenant", "workflow", "progress"})
_KEPT = 1000


@dataclass(frozen=True, slots=True)
class _Shape:
    """What is known of a document: which variables say where to begin, and whether all viewers see the same."""

    beginnings: frozenset[str]
    common: bool


class Sharers:
    """Tells which operations have the same frames."""

    def __init__(self) -> None:
        self._shapes = Kept[tuple[str, str | None], _Shape | None](_KEPT)

    def entry_of(
        self, query: str, name: str | None, variables: Mapping[str, Any] | None, principal: Principal
    ) -> Entry | None:
        """Its key is the same for all operations that share their frames; None for one that shares with nobody."""
        shape = self._shapes.get((query, name), lambda: _shape(query, name))
        if shape is None:
            return None
        given = variables or {}
        rest = {key: value for key, value in given.items() if key not in shape.beginnings}
        try:
            same = _text(rest)
            beginning = _text({key: given[key] for key in shape.beginnings if key in given})
        except TypeError:
            return None
        viewer = None if shape.common else principal.user_id
        return Entry((query, name, same, principal.tenant_id, principal.permissions, viewer), beginning)


def _text(values: dict[str, Any]) -> str:
    # Text, because it is kept: orjson's bytes have some thousands more to grow into.
    return orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode()


def _shape(query: str, name: str | None) -> _Shape | None:
    try:
        document = parse(query, max_tokens=MAX_TOKENS)
        operation = get_operation_ast(document, name)
    except (GraphQLError, RecursionError):
        return None
    if operation is None or operation.operation is not OperationType.SUBSCRIPTION:
        return None
    roots = operation.selection_set.selections
    if len(roots) != 1 or not isinstance(roots[0], FieldNode) or roots[0].name.value not in _STREAMS:
        return None
    beginnings = frozenset(
        argument.value.name.value
        for argument in roots[0].arguments or ()
        if argument.name.value in _BEGINNINGS and isinstance(argument.value, VariableNode)
    )
    seen = _Fields(roots[0])
    visit(document, seen)
    return _Shape(beginnings, seen.common)


class _Fields(Visitor):
    """Whether a document stays with what is the same for all viewers."""

    def __init__(self, root: FieldNode) -> None:
        super().__init__()
        self._root = root
        self.common = True

    def enter_field(self, node: FieldNode, *_: Any) -> None:
        if node.selection_set is not None and node is not self._root and node.name.value not in _COMMON:
            self.common = False
