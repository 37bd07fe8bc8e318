"""What only shows what it holds: log lines, changes of a preview, entries of a history, frames of a subscription.

graphql-core resolves each field of each object by itself, some ten microseconds each. Where a field shows an attribute,
or what a method says of nothing but the object, there is nothing to wait for and nobody to ask, so that all is written
in one go. Whatever is out of the ordinary (a null where none may be, a value that its scalar refuses, an object that a
statement reads) is left to graphql-core, which says what is wrong and where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, cast

from graphql import (
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLScalarType,
    Undefined,
)
from graphql.execution.collect_fields import collect_fields
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

from schema.loaders import of_type

_DEFINITION = "strawberry-definition"
_Writer = Callable[[Any], Any]
# Writes a frame, or says None where it is for graphql-core.
FrameWriter = Callable[[Any], dict[str, Any] | None]


class _OutOfTheOrdinary(Exception):
    """Left to graphql-core."""


def written(executor: Any, kind: GraphQLOutputType, details: Sequence[Any], items: Any) -> list[Any] | None:
    """What a list of `kind` comes to; None where it is not as plain as that. Has no effects."""
    if _is_watched(executor.middleware_manager) or not isinstance(items, (list, tuple)) or not items:
        return None
    try:
        write = _writer(executor, kind, details)
        return [write(item) for item in items]
    except Exception:  # graphql-core meets it again, and reports it
        return None


def frame_writer(executor: Any) -> FrameWriter:
    """How what a subscription yields is written, one as the other. Has no effects."""
    try:
        write = _root(executor)
    except Exception:  # graphql-core meets it again, and reports it
        return lambda _: None

    def written_or_left(frame: Any) -> dict[str, Any] | None:
        try:
            return write(frame)
        except Exception:  # as above
            return None

    return written_or_left


def _root(executor: Any) -> Callable[[Any], dict[str, Any]]:
    if _is_watched(executor.middleware_manager):
        raise _OutOfTheOrdinary
    root = executor.schema.subscription_type
    grouped, deferred, _ = collect_fields(
        executor.schema, executor.fragments, executor.variable_values, root, executor.operation
    )
    if deferred:
        raise _OutOfTheOrdinary
    ((key, details),) = grouped.items()
    write = _writer(executor, root.fields[details[0].node.name.value].type, details)
    return lambda frame: {key: write(frame)}


def _is_watched(manager: Any) -> bool:
    """Whether an extension is told of each field."""
    return manager is not None and bool(manager.middlewares)


def _writer(executor: Any, kind: GraphQLOutputType, details: Sequence[Any]) -> _Writer:
    if isinstance(kind, GraphQLNonNull):
        return _something(executor, kind.of_type, details)
    write = _prepared(executor, kind, details)
    return lambda value: None if value is None else write(value)


def _prepared(executor: Any, kind: Any, details: Sequence[Any]) -> _Writer:
    """As `_something`; what cannot be written is out of the ordinary only where there is any: most frames have none."""
    try:
        return _something(executor, kind, details)
    except _OutOfTheOrdinary:
        return _nothing


def _nothing(_: Any) -> Any:
    raise _OutOfTheOrdinary


def _something(executor: Any, kind: Any, details: Sequence[Any]) -> _Writer:
    """How a value is written that is not None."""
    match kind:
        case GraphQLScalarType() | GraphQLEnumType():
            return _leaf(kind)
        case GraphQLObjectType():
            return _object(executor, kind, details)
        case GraphQLInterfaceType():
            return _one_of(executor, kind, details)
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
    fields: list[tuple[str, Callable[[Any], Any], _Writer]] = []
    for key, group in grouped.items():
        asked = group[0].node.name.value
        constants[key] = name if asked == "__typename" else None
        if asked != "__typename":
            field = kind.fields[asked]
            fields.append((key, _reader(field.extensions.get(_DEFINITION)), _writer(executor, field.type, group)))

    def write(value: Any) -> dict[str, Any]:
        if type(value) is not origin:
            raise _OutOfTheOrdinary
        # In the order in which they are asked for.
        shown = constants.copy()
        for key, read, write_field in fields:
            shown[key] = write_field(read(value))
        return shown

    return write


def _one_of(executor: Any, kind: GraphQLInterfaceType, details: Sequence[Any]) -> _Writer:
    """How an object is written of one of the types that have the interface; each is prepared when it comes."""
    writers: dict[type, _Writer] = {}
    known = {
        definition.origin: possible
        for possible in executor.schema.get_possible_types(kind)
        if isinstance(definition := possible.extensions.get(_DEFINITION), StrawberryObjectDefinition)
    }

    def write(value: Any) -> Any:
        found = writers.get(type(value))
        if found is None:
            if type(value) not in known:
                raise _OutOfTheOrdinary
            found = writers[type(value)] = _prepared(executor, known[type(value)], details)
        return found(value)

    return write


def _reader(field: Any) -> Callable[[Any], Any]:
    """What a field says of an object: an attribute, or what a method without arguments makes of it."""
    if not isinstance(field, StrawberryField) or field.extensions:
        raise _OutOfTheOrdinary
    resolver = field.base_resolver
    if resolver is None:
        return attrgetter(field.python_name)
    if resolver.is_async or resolver.info_parameter is not None or field.arguments or resolver.self_parameter is None:
        raise _OutOfTheOrdinary
    return cast("Callable[[Any], Any]", resolver.wrapped_func)
