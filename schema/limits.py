"""Bounds on a document, measured in one pass before it is validated.

A fragment is measured once, however often it is spread, so that a short document cannot cost a long measurement. Every
fault that validation will name (cycles, unknown names) counts as nothing here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from graphql import (
    GRAPHQL_MIN_INT,
    ArgumentNode,
    DirectiveNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_named_type,
    get_operation_ast,
    parse,
    validate,
)
from strawberry.extensions import SchemaExtension

from app.domain.enums import Permission
from app.domain.errors import Invalid
from schema.allowance import RateLimited
from schema.fields import largest_page
from schema.masking import BAD_REQUEST, LIMIT_EXCEEDED
from schema.parsed import MAX_TOKENS, DocumentCache, has_too_many_tokens

MAX_DEPTH = 15
MAX_ALIASES = 30
MAX_ROOT_FIELDS = 20
MAX_MUTATIONS = 5
MAX_SELECTIONS = 2_000
MAX_ROWS = 10_000
# Of a whole document. Validation compares what is selected under one name with each other, two by two.
MAX_OPERATIONS = 5
MAX_FRAGMENTS = 50
MAX_DIRECTIVES = 3
MAX_REPEATS = 100
# What is found beyond is not told: looking for what each unknown name may have meant takes longer than all else.
MAX_FAULTS = 20
_NOTHING = parse("{ __typename }")
# Both ways in which GraphQL writes the character in a text.
_ESCAPED_NUL = re.compile(r"\\u(?:0000|\{0+\})")
_MANY = 10**9
# Of a document that comes to nothing.
_CHARACTERS_A_POINT = 500


@dataclass(frozen=True, slots=True)
class Measure:
    """What a selection amounts to; `rows` is how many rows its pages may ask for, multiplied along each nesting."""

    depth: int = 0
    aliases: int = 0
    selections: int = 0
    fields: int = 0
    rows: int = 0

    def points(self, operation: OperationType) -> int:
        """What an operation of such a measure costs."""
        changes = 10 * self.fields if operation is OperationType.MUTATION else 0
        return 1 + ceil(self.selections / 20) + ceil(self.rows / 10) + changes

    def beside(self, other: Measure) -> Measure:
        """Both, on one level. Numbers stop growing far above any limit."""
        return Measure(
            max(self.depth, other.depth),
            min(self.aliases + other.aliases, _MANY),
            min(self.selections + other.selections, _MANY),
            min(self.fields + other.fields, _MANY),
            min(self.rows + other.rows, _MANY),
        )


class Measuring:
    """One measurement of one document with its variables."""

    def __init__(self, schema: GraphQLSchema, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._schema = schema
        self._variables = variables
        self._fragments = {
            node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._measured: dict[str, Measure] = {}
        # How often a type's field is selected under one name, and the most directives in one place.
        self._repeats = Counter[tuple[str, str]]()
        self._directives = 0
        # Pages that no list gives, each with what is wrong with it.
        self.refused_pages: list[GraphQLError] = []

    def operation(self, node: OperationDefinitionNode) -> Measure:
        self._note_directives(node.directives)
        for variable in node.variable_definitions or ():
            self._note_directives(variable.directives)
        return self._selection(node.selection_set, self._schema.get_root_type(node.operation))

    def excesses(self, document: DocumentNode) -> list[str]:
        """What there is too much of in the whole document, in words; its operations have been measured."""
        for name in self._fragments:
            self._fragment(name)
        operations = sum(isinstance(node, OperationDefinitionNode) for node in document.definitions)
        bounds = (
            (operations, MAX_OPERATIONS, "operations"),
            (
                sum(isinstance(node, FragmentDefinitionNode) for node in document.definitions),
                MAX_FRAGMENTS,
                "fragments",
            ),
            (self._directives, MAX_DIRECTIVES, "directives in one place"),
            (max(self._repeats.values(), default=0), MAX_REPEATS, "selections of one field of one type"),
        )
        return [f"more than {limit} {what}" for value, limit, what in bounds if value > limit]

    def _note_directives(self, directives: Sequence[DirectiveNode] | None) -> None:
        self._directives = max(self._directives, len(directives or ()))

    def _selection(self, node: SelectionSetNode | None, parent: GraphQLNamedType | None) -> Measure:
        total = Measure()
        for selection in node.selections if node else ():
            self._note_directives(selection.directives)
            if isinstance(selection, FieldNode):
                total = total.beside(self._field(selection, parent))
            elif isinstance(selection, InlineFragmentNode):
                condition = selection.type_condition
                kind = parent if condition is None else self._schema.get_type(condition.name.value)
                total = total.beside(self._selection(selection.selection_set, kind))
            elif isinstance(selection, FragmentSpreadNode):
                total = total.beside(self._fragment(selection.name.value))
        return total

    def _fragment(self, name: str) -> Measure:
        if name not in self._measured:
            # A fragment inside itself counts as nothing; validation will refuse it.
            self._measured[name] = Measure()
            node = self._fragments.get(name)
            if node is not None:
                self._note_directives(node.directives)
                kind = self._schema.get_type(node.type_condition.name.value)
                self._measured[name] = self._selection(node.selection_set, kind)
        return self._measured[name]

    def _field(self, node: FieldNode, parent: GraphQLNamedType | None) -> Measure:
        definition = None
        if isinstance(parent, (GraphQLObjectType, GraphQLInterfaceType)):
            definition = parent.fields.get(node.name.value)
        kind = None if definition is None else get_named_type(definition.type)
        self._repeats["" if parent is None else parent.name, (node.alias or node.name).value] += 1
        inside = self._selection(node.selection_set, kind)
        size = None if definition is None else self._page_size(node, definition)
        rows = inside.rows if size is None else min(size * max(1, inside.rows), _MANY)
        return Measure(
            depth=inside.depth + 1,
            aliases=inside.aliases + (node.alias is not None),
            selections=inside.selections + 1,
            fields=1,
            rows=rows,
        )

    def _page_size(self, node: FieldNode, definition: GraphQLField) -> int | None:
        """How many rows a page may have: as asked, or as the schema says; None for what is no page."""
        if "first" not in definition.args:
            return None
        for argument in node.arguments or ():
            if argument.name.value not in {"first", "last"}:
                continue
            asked = self._asked(argument.value)
            if asked is not None:
                return self._held(asked, argument, largest_page(definition))
        default = definition.args["first"].default_value
        return 20 if default in {None, Undefined} else int(default)

    def _asked(self, value: ValueNode) -> int | None:
        """A number that was asked for, large ones made smaller; None for what is no whole number."""
        asked: Any = self._variables.get(value.name.value) if isinstance(value, VariableNode) else None
        if isinstance(value, IntValueNode):
            asked = int(value.value[:12])
        elif isinstance(asked, float) and asked.is_integer():
            # As large numbers of JSON are read.
            asked = int(asked)
        # True is an int to Python; the validation, which comes after this, refuses it.
        whole = isinstance(asked, int) and not isinstance(asked, bool)
        return max(-_MANY * 10, min(asked, _MANY)) if whole else None

    def _held(self, asked: int, argument: ArgumentNode, largest: int) -> int:
        """How many rows that may be. What is far beyond all lists, or no Int, is told as the lists tell it."""
        name = argument.name.value
        extensions = {"code": LIMIT_EXCEEDED, "path": [name]}
        if asked > MAX_ROWS:
            self.refused_pages.append(GraphQLError(f"{name} is at most {largest}", argument, extensions=extensions))
        elif asked < GRAPHQL_MIN_INT:
            extensions["code"] = Invalid.code
            self.refused_pages.append(GraphQLError(f"{name} cannot be negative", argument, extensions=extensions))
        return max(0, asked if asked <= MAX_ROWS else largest)


def excesses(measure: Measure, operation: OperationType) -> list[str]:
    """What is too large, in words."""
    roots = MAX_MUTATIONS if operation is OperationType.MUTATION else MAX_ROOT_FIELDS
    bounds = (
        (measure.depth, MAX_DEPTH, "levels deep"),
        (measure.aliases, MAX_ALIASES, "aliases"),
        (measure.fields, roots, "fields at the root"),
        (measure.selections, MAX_SELECTIONS, "selections"),
        (measure.rows, MAX_ROWS, "rows asked for by nested pages"),
    )
    return [f"more than {limit} {what}" for value, limit, what in bounds if value > limit]


class OperationGuard(SchemaExtension):
    """Refuses what is too large, or may not be read at all, before anything else looks at it."""

    def __init__(self, cache: DocumentCache, *, introspection: bool = True) -> None:
        super().__init__()
        self._cache = cache
        self._more_rules = () if introspection else (NoSchemaIntrospectionCustomRule,)
        self._unread = False
        self._unpaid: list[GraphQLError] = []

    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options["max_tokens"] = MAX_TOKENS
        yield

    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        if has_too_many_tokens(context.query or ""):
            self._unread = True
            self._pay_for_nothing()
            # Something that is parsed already, and never executed.
            context.graphql_document = _NOTHING
            yield
            return
        try:
            context.graphql_document = self._cache.get(context.query or "").document
        except (GraphQLError, RecursionError):
            self._pay_for_nothing()
            # The ordinary parser will fail in the same way, where failures are expected; but not for nothing.
            context.graphql_document = _NOTHING if self._unpaid else None
        yield

    def _pay_for_nothing(self) -> None:
        """Looking at what is no document, or none that is taken, costs by its length."""
        context = self.execution_context
        try:
            context.context.charge(1 + ceil(len(context.query or "") / _CHARACTERS_A_POINT))
        except RateLimited as error:
            self._unpaid = [error.error()]

    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        try:
            found = self._unpaid or self._too_long() or self._refusals() or self._charged() or self._faults()
        except RecursionError:
            message = "the document is nested too deeply"
            found = [GraphQLError(message, extensions={"code": LIMIT_EXCEEDED})]
        # An empty tuple of rules tells Strawberry that the document has been validated.
        context.pre_execution_errors, context.validation_rules = found or None, ()
        yield

    def _too_long(self) -> list[GraphQLError]:
        if not self._unread:
            return []
        message = f"the document has more than {MAX_TOKENS} tokens"
        return [GraphQLError(message, extensions={"code": LIMIT_EXCEEDED})]

    def _faults(self) -> list[GraphQLError]:
        context = self.execution_context
        prepared = self._cache.get(context.query or "")
        if prepared.errors is None:
            prepared.errors = validate(
                context.schema._schema,  # noqa: SLF001  Strawberry keeps the executable schema there
                prepared.document,
                (*context.validation_rules, *self._more_rules),
                max_errors=MAX_FAULTS,
            )
        return prepared.errors

    def _refusals(self) -> list[GraphQLError]:
        context = self.execution_context
        document = context.graphql_document
        if document is None:
            return []
        schema = context.schema._schema  # noqa: SLF001
        found = refusals(schema, document, context.query or "", context.variables or {})
        if found:
            self._pay_for_nothing()
        return self._unpaid or found or self._unclear(document) or self._forbidden()

    def _charged(self) -> list[GraphQLError]:
        """Why it costs more than there is; where it does not, it is paid for, and says so if that is asked."""
        context = self.execution_context
        document, asked = context.graphql_document, context.context
        operation = None if document is None else get_operation_ast(document, context.operation_name)
        if document is None or operation is None:
            return []
        schema = context.schema._schema  # noqa: SLF001
        points = points_of(schema, document, operation, context.variables or {})
        try:
            asked.charge(points)
        except RateLimited as error:
            return [error.error()]
        return []

    def _unclear(self, document: DocumentNode) -> list[GraphQLError]:
        """Left to itself Strawberry would execute the first of several operations."""
        number = sum(isinstance(node, OperationDefinitionNode) for node in document.definitions)
        if number < 2 or self.execution_context._provided_operation_name is not None:  # noqa: SLF001
            return []
        return [GraphQLError("the document has several operations: name one", extensions={"code": BAD_REQUEST})]

    def _forbidden(self) -> list[GraphQLError]:
        context = self.execution_context
        principal = context.context.principal
        if context.operation_type.value == OperationType.MUTATION.value or principal.may(Permission.READ):
            return []
        code = {"code": "FORBIDDEN", "required": Permission.READ.value}
        return [GraphQLError("this token may not read", extensions=code)]


def points_of(
    schema: GraphQLSchema, document: DocumentNode, operation: OperationDefinitionNode, variables: Mapping[str, Any]
) -> int:
    """What an operation costs with these variables."""
    return Measuring(schema, document, variables).operation(operation).points(operation.operation)


def refusals(
    schema: GraphQLSchema, document: DocumentNode, text: str, variables: Mapping[str, Any]
) -> list[GraphQLError]:
    """Why the document, sent as `text`, is too large with these variables, or not to be read at all."""
    if _has_nul(text, variables):
        message = "text may not contain the character U+0000"
        return [GraphQLError(message, extensions={"code": BAD_REQUEST})]
    measuring = Measuring(schema, document, variables)
    found: list[GraphQLError] = []
    for node in document.definitions:
        if isinstance(node, OperationDefinitionNode):
            found += [
                GraphQLError(f"the operation has {excess}", nodes=node, extensions={"code": LIMIT_EXCEEDED})
                for excess in excesses(measuring.operation(node), node.operation)
            ]
    found += measuring.refused_pages
    found += [
        GraphQLError(f"the document has {excess}", extensions={"code": LIMIT_EXCEEDED})
        for excess in measuring.excesses(document)
    ]
    return found


def _has_nul(query: str, variables: Any) -> bool:
    """Whether a NUL is anywhere in what was sent: no text of the database can hold one."""
    if "\0" in query or _ESCAPED_NUL.search(query):
        return True
    waiting = [variables]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and "\0" in value:
            return True
        if isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False
