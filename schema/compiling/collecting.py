"""Which fields a selection has for a type: GraphQL's CollectFields, over one request's variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLIncludeDirective,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    SelectionSetNode,
)
from graphql.execution.values import VariableValues, get_directive_values

from schema.symbols import NotExpressible


def sets_of(nodes: Iterable[FieldNode]) -> list[SelectionSetNode]:
    """What fields of one name select together."""
    return [node.selection_set for node in nodes if node.selection_set is not None]


class Collector:
    """Of one operation. Raises NotExpressible for directives that it does not know."""

    def __init__(
        self, core: GraphQLSchema, fragments: Mapping[str, FragmentDefinitionNode], variables: VariableValues
    ) -> None:
        self._core = core
        self._fragments = fragments
        self._variables = variables

    def fields(self, kind: GraphQLObjectType, sets: Sequence[SelectionSetNode]) -> dict[str, list[FieldNode]]:
        """The fields that are selected, by the name that they have in the answer."""
        found: dict[str, list[FieldNode]] = {}
        for selections in sets:
            for node in selections.selections:
                if not self._included(node):
                    continue
                if isinstance(node, FieldNode):
                    found.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
                    continue
                if isinstance(node, FragmentSpreadNode):
                    fragment: Any = self._fragments[node.name.value]
                else:
                    fragment = node
                if self._applies(fragment, kind):
                    for name, nodes in self.fields(kind, [fragment.selection_set]).items():
                        found.setdefault(name, []).extend(nodes)
        return found

    def _included(self, node: Any) -> bool:
        if not node.directives:
            return True
        skip = get_directive_values(GraphQLSkipDirective, node, self._variables)
        include = get_directive_values(GraphQLIncludeDirective, node, self._variables)
        known = (skip is not None) + (include is not None)
        if known < len(node.directives):
            message = "a directive"
            raise NotExpressible(message)
        return not (skip and skip["if"]) and (include is None or bool(include["if"]))

    def _applies(self, fragment: Any, kind: GraphQLObjectType) -> bool:
        if fragment.type_condition is None:
            return True
        condition: Any = self._core.get_type(fragment.type_condition.name.value)
        return condition is kind or (
            not isinstance(condition, GraphQLObjectType) and self._core.is_sub_type(condition, kind)
        )
