"""Lists of objects that only show what they hold: log lines, changes of a preview, entries of a history.

graphql-core resolves each field of each item by itself, some ten microseconds each. Where no field has a resolver
there is nothing to wait for and nobody to ask, so that the list is written in one go. Whatever is out of the ordinary
(a null where none may be, a value that its scalar refuses) is left to graphql-core, which says what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    Undefined,
)
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from schema.loaders import of_type

_DEFINITION = "strawberry-definition"
_Writer = Callable[[Any], Any]


class _OutOfTheOrdinary(Exception):
    """The list is for graphql-core."""


def written(executor: Any, kind: GraphQLOutputType, details: Sequence[Any], items: Any) -> list[Any] | None:
    """What a list of `kind` comes to; None where it is not as plain as that. Has no effects."""
    if _is_watched(executor.middleware_manager) or not isinstance(items, (list, tuple)) or not items:
        return None
    try:
        write = _writer(executor, kind, details)
        return [write(item) for item in items]
    except Exception:  # graphql-core meets it again, and reports it
        return None


def _is_watched(manager: Any) -> bool:
    """Whether an extension is told of each field."""
    return manager is not None and bool(manager.middlewares)


def _writer(executor: Any, kind: GraphQLOutputType, details: Sequence[Any]) -> _Writer:
    if isinstance(kind, GraphQLNonNull):
        return _something(executor, kind.of_type, details)
    write = _something(executor, kind, details)
    return lambda value: None if value is None else write(value)


def _something(executor: Any, kind: Any, details: Sequence[Any]) -> _Writer:
    """How a value is written that is not None."""
    match kind:
        case GraphQLScalarType() | GraphQLEnumType():
            return _leaf(kind)
        case GraphQLObjectType():
            return _object(executor, kind, details)
        case GraphQLList():
            write = _writer(executor, kind.of_type, details)
            return lambda values: [write(value) for value in _listed(values)]
    raise _OutOfTheOrdinary


def _leaf(kind: GraphQLScalarType | GraphQLEnumType) -> _Writer:
    coerce = kind.coerce_output_value

    def write(value: Any) -> Any:
        coerced = coerce(value)
        if coerced is None or coerced is Undefined:
            raise _OutOfTheOrdinary
        return coerced

    return write


def _listed(values: Any) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise _OutOfTheOrdinary
    return values


def _object(executor: Any, kind: GraphQLObjectType, details: Sequence[Any]) -> _Writer:
    definition = kind.extensions.get(_DEFINITION)
    # Objects of a table are read by statements of their own.
    if not isinstance(definition, StrawberryObjectDefinition) or of_type(kind.name) is not None:
        raise _OutOfTheOrdinary
    origin, name = definition.origin, kind.name
    grouped, deferred, _ = executor.collect_subfields(kind, details)
    if deferred:
        raise _OutOfTheOrdinary
    constants: dict[str, Any] = {}
    fields: list[tuple[str, str, _Writer]] = []
    for key, group in grouped.items():
        asked = group[0].node.name.value
        constants[key] = name if asked == "__typename" else None
        if asked != "__typename":
            field = kind.fields[asked]
            fields.append((key, _attribute(field.extensions.get(_DEFINITION)), _writer(executor, field.type, group)))

    def write(value: Any) -> dict[str, Any]:
        if type(value) is not origin:
            raise _OutOfTheOrdinary
        # In the order in which they are asked for.
        shown = constants.copy()
        for key, attribute, write_field in fields:
            shown[key] = write_field(getattr(value, attribute))
        return shown

    return write


def _attribute(field: Any) -> str:
    if not isinstance(field, StrawberryField) or not field.is_basic_field:
        raise _OutOfTheOrdinary
    return field.python_name
