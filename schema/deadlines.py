"""How long one operation may take to be answered, whatever it asks: a subscription's each event by itself.

Single statements have shorter ones of their own (app/db/uow.py); this is for all that an operation waits for, in turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from graphql import (
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    OperationDefinitionNode,
)
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext

from schema.context import Context
from schema.parsed import fields_at_root

DEADLINE_EXCEEDED: Final = "DEADLINE_EXCEEDED"


class BoundedExecution(StrawberryGraphQLCoreExecutionContext):
    """Executes an operation, or one event of a subscription, within the time that the installation gives it."""

    def execute_operation(self, serially: bool | None = None) -> Any:
        result = super().execute_operation(serially)
        context = self.context_value
        if not isinstance(context, Context) or not self.is_awaitable(result):
            return result
        return self._within(context.services.operation_seconds, result)

    async def _within(self, seconds: float, result: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await result
        except TimeoutError:
            if not deadline.expired():
                raise
            return ExecutionResult(None, late(self.operation, self.fragment_definitions, seconds))


def late(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode], seconds: float
) -> list[GraphQLError]:
    """What is said of each field of the root when time is up. What a mutation did before that stays done."""
    message = f"the operation took longer than {seconds:g} s"
    roots = fields_at_root(operation.selection_set, fragments)
    names = dict.fromkeys((node.alias or node.name).value for node in roots)
    return [GraphQLError(message, path=[name], extensions={"code": DEADLINE_EXCEEDED}) for name in names]
