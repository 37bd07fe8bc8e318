"""What an integrator asks of an event: a selection on Event, checked when it is given and answered when it is sent.

Events are answered by a schema of their own, whose one root field is the event, made of the same types as what clients
query: whatever hides secrets or bounds answers there does so here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import strawberry
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    parse,
    print_ast,
    validate,
)
from strawberry.schema.config import StrawberryConfig

from app.auth.principal import Principal
from app.db import models
from app.db.feed import FedEvent
from app.domain.errors import Diagnostic, DomainError, Invalid, Severity
from app.engine.webhooks import ProjectionFailed
from schema import enums as _enums  # noqa: F401  says what enums are before types ask
from schema.context import Services
from schema.limits import Measuring, OperationGuard, excesses
from schema.masking import INTERNAL, VALIDATION_FAILED, MaskingSchema
from schema.parsed import MAX_TOKENS, DocumentCache
from schema.scalars import SCALARS
from schema.types.events import EVENT_TYPES, Event, event_of

_FAULTS = 20
# The message says these beside its data.
_SAID_ALREADY = {"cursor"}


@strawberry.type
class Told:
    """The root of the events' schema."""

    row: strawberry.Private[models.EventLog]

    @strawberry.field
    def event(self) -> Event:
        return event_of(self.row)


@cache
def event_schema() -> MaskingSchema:
    """The schema that events are answered by; made when it is first needed."""
    return MaskingSchema(
        query=Told,
        types=list(EVENT_TYPES.values()),
        extensions=[partial(OperationGuard, DocumentCache())],
        config=StrawberryConfig(scalar_map=SCALARS),
    )


def faults_of(selection: str) -> list[DomainError]:
    """Every fault of a selection, each at its line and column: path (line, column)."""
    try:
        document = _document(selection)
        operation = document.definitions[0]
        assert isinstance(operation, OperationDefinitionNode)  # noqa: S101  _document puts it there
        measure = Measuring(_executable(), document, {}).operation(operation)
        found = [GraphQLError(f"the selection has {excess}") for excess in excesses(measure, OperationType.QUERY)]
        errors = found or validate(_executable(), document)
    except GraphQLError as error:
        errors = [error]
    except RecursionError:
        errors = [GraphQLError("the selection is nested too deeply")]
    return [_fault(error) for error in errors[:_FAULTS]]


@dataclass(frozen=True, slots=True)
class Projector:
    """Answers selections with the data that `services` reach. Is an app.engine.webhooks.Projection."""

    services: Services

    async def __call__(self, reader: Principal, event: FedEvent, selection: str | None) -> Mapping[str, Any]:
        try:
            query = default_query(event.kind) if selection is None else _query(selection)
        except GraphQLError as error:
            message = f"the selection: {error.message}"
            raise ProjectionFailed(message) from error
        # A fact of the feed has all that a row of the journal has.
        told = Told(row=cast("models.EventLog", event))
        context = self.services.context(reader, uuid.uuid4().hex)
        result = await event_schema().execute(query, context_value=context, root_value=told)
        errors = result.errors or []
        broken = [error for error in errors if (error.extensions or {}).get("code") == INTERNAL]
        if broken or result.data is None:
            # What could not be read for the moment must not be told as if it were not there.
            message = f"the selection could not be answered: {(broken or errors)[0].message}"
            raise ProjectionFailed(message)
        data = {"data": result.data["event"]}
        return {**data, "errors": [error.formatted for error in errors]} if errors else data


@cache
def default_query(kind: str) -> str:
    """All that an event of this kind says itself: its values, and the ids of what it is about."""
    event = _executable().type_map[kind]
    return f"{{ event {{ ... on {kind} {{ {_own(event)} }} }} }}"


def _own(kind: Any) -> str:
    parts = ["__typename"]
    for name, field in kind.fields.items():
        if name not in _SAID_ALREADY and not any(map(is_required_argument, field.args.values())):
            parts.append(f"{name} {_short(field)}")
    return " ".join(parts)


def _short(field: GraphQLField) -> str:
    """Of an object, what it is known by."""
    kind = get_named_type(field.type)
    if is_leaf_type(kind):
        return ""
    if isinstance(kind, GraphQLUnionType):
        return (
            "{ __typename "
            + " ".join(f"... on {member.name} {{ {_known_by(member)} }}" for member in kind.types)
            + " }"
        )
    assert isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType))  # noqa: S101  there is nothing else
    return f"{{ __typename {_known_by(kind)} }}"


def _known_by(kind: GraphQLObjectType | GraphQLInterfaceType) -> str:
    if "id" in kind.fields:
        return "id"
    return " ".join(
        name
        for name, field in kind.fields.items()
        if is_leaf_type(get_named_type(field.type)) and not any(map(is_required_argument, field.args.values()))
    )


@cache
def _executable() -> GraphQLSchema:
    return event_schema()._schema  # noqa: SLF001  Strawberry keeps the executable schema there


def _query(selection: str) -> str:
    return print_ast(_document(selection))


def _document(selection: str) -> DocumentNode:
    """The selection below the root field `event`; its nodes keep their places in the text. Raises GraphQLError."""
    given = parse(selection, max_tokens=MAX_TOKENS)
    operations = [node for node in given.definitions if isinstance(node, OperationDefinitionNode)]
    others = [node for node in given.definitions if not isinstance(node, OperationDefinitionNode)]
    strange = [node for node in others if not isinstance(node, FragmentDefinitionNode)]
    if len(operations) != 1 or strange:
        message = "a selection is one { … } on Event, and fragments"
        raise GraphQLError(message, nodes=strange or operations or None)
    operation = operations[0]
    if operation.operation is not OperationType.QUERY or operation.variable_definitions or operation.directives:
        message = "a selection has neither variables nor directives, and changes nothing"
        raise GraphQLError(message, nodes=operation)
    root = FieldNode(
        name=NameNode(value="event"), alias=None, arguments=(), directives=(), selection_set=operation.selection_set
    )
    wrapped = OperationDefinitionNode(
        operation=OperationType.QUERY,
        name=None,
        variable_definitions=(),
        directives=(),
        selection_set=SelectionSetNode(selections=(root,)),
    )
    return DocumentNode(definitions=(wrapped, *others))


def _fault(error: GraphQLError) -> DomainError:
    place = [(str(each.line), str(each.column)) for each in error.locations or ()][:1]
    path = place[0] if place else ()
    found = Diagnostic(Severity.ERROR, VALIDATION_FAILED, error.message, ("selection", *path))
    return Invalid(error.message, path=path, diagnostics=(found,))
