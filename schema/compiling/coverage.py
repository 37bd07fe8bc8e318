"""Every field of a row is either SQL or declared as computed: a field that is neither does not get built."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, get_args, get_type_hints

from graphql import (
    FieldNode,
    GraphQLObjectType,
    GraphQLSchema,
    NameNode,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
)
from graphql.execution.values import VariableValues
from sqlalchemy import select
from strawberry.schema import BaseSchema
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.auth.principal import Principal
from app.db.models import Base
from app.domain.enums import Permission, Role
from schema.compiling.compiler import Compiler
from schema.compiling.plans import traced
from schema.context import Context
from schema.fields import reads_of
from schema.symbols import NotExpressible, SymbolicRow

_TYPENAME = FieldNode(name=NameNode(value="__typename"), arguments=(), directives=(), selection_set=None)


class Uncovered(Exception):
    """The schema has fields of rows that are neither SQL nor computed of named columns."""


def cover(schema: BaseSchema) -> None:
    """Raises Uncovered."""
    core: GraphQLSchema = schema._schema  # type: ignore[attr-defined]  # noqa: SLF001
    faults = []
    for kind, (view, entity) in entities(core).items():
        for name, in_sql in fields_of(schema, kind, view, entity):
            reads = reads_of(kind.fields[name])
            if reads is None and not in_sql:
                faults.append(f"{kind.name}.{name} is neither SQL nor computed")
            unknown = [column for column in reads or () if not hasattr(entity, column)]
            faults += [f"{kind.name}.{name} reads {column}, which is no column" for column in unknown]
    if faults:
        raise Uncovered("; ".join(faults))


def entities(core: GraphQLSchema) -> dict[GraphQLObjectType, tuple[type[Any], type[Base]]]:
    """The types that are views of rows: what makes them, and the table."""
    found = {}
    for kind in core.type_map.values():
        definition = (kind.extensions or {}).get(GraphQLCoreConverter.DEFINITION_BACKREF)
        if not isinstance(kind, GraphQLObjectType) or definition is None:
            continue
        view = definition.origin
        names = vars(sys.modules[view.__module__])
        # What has more than a row is a part of what has been worked out.
        alone = [field.name for field in fields(view) if field.init] == ["row"] and "row" in view.__annotations__
        entity = _row_of(view.__annotations__["row"], names) if alone else None
        if isinstance(entity, type) and issubclass(entity, Base):
            found[kind] = (view, entity)
    return found


def _row_of(annotation: Any, names: dict[str, Any]) -> Any:
    class Holder:
        row: Any

    Holder.__annotations__["row"] = annotation
    hint = get_type_hints(Holder, names, {}).get("row")
    return next(iter(get_args(hint)), hint)


def fields_of(
    schema: BaseSchema, kind: GraphQLObjectType, view: type[Any], entity: type[Base]
) -> Iterator[tuple[str, bool]]:
    """The fields of a type, and whether each is SQL by itself, for somebody who may do everything."""
    until = datetime.max.replace(tzinfo=UTC)
    everybody = Principal(1, "", 1, Role.ADMIN, frozenset(Permission), 1, until)
    nothing: Any = None
    context = traced(Context(nothing, everybody, "", nothing))
    tracing: Any = context.tracing
    for name, defined in kind.fields.items():
        compiler = Compiler(schema, {}, VariableValues({}, {}), context)
        below = None if is_leaf_type(get_named_type(defined.type)) else SelectionSetNode(selections=(_TYPENAME,))
        node = FieldNode(name=NameNode(value=name), arguments=(), directives=(), selection_set=below)
        source = view(row=SymbolicRow(tracing.level(select(entity), many=False)))
        try:
            compiler.field(kind, source, [node])
        except NotExpressible:
            yield name, False
        else:
            yield name, True
