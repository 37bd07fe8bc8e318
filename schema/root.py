"""The schema: what can be asked, changed and watched."""

from __future__ import annotations

from functools import partial

from strawberry.schema.config import StrawberryConfig

from schema.compiling.coverage import cover
from schema.compiling.entities import executor_of
from schema.deadlines import BoundedExecution
from schema.errors import ERROR_TYPES
from schema.limits import OperationGuard
from schema.masking import MaskingSchema
from schema.mutations import Mutation
from schema.parsed import DocumentCache
from schema.payloads import PAYLOAD_TYPES
from schema.queries import Query
from schema.requirements import declare
from schema.scalars import SCALARS
from schema.subscriptions import Subscription
from schema.types.events import EVENT_TYPES


def build_schema(*, introspection: bool = True, compiled: bool = False) -> MaskingSchema:
    """A fresh schema with its own cache of documents. Raises Undeclared (schema.requirements) and Uncovered.

    If `compiled`, objects are read by statements of their selections; otherwise everything is executed field by field.
    Without `introspection` nobody is told what there is, nor what an unknown name may have meant.
    """
    documents = DocumentCache()
    schema = MaskingSchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        types=[*EVENT_TYPES.values(), *ERROR_TYPES, *PAYLOAD_TYPES],
        extensions=[partial(OperationGuard, documents, introspection=introspection)],
        execution_context_class=BoundedExecution,
        config=StrawberryConfig(scalar_map=SCALARS),
    )
    schema.documents = documents
    schema.introspection = introspection
    declare(schema._schema)  # noqa: SLF001  Strawberry keeps the executable schema there
    cover(schema)
    if compiled:
        schema.compiled, schema.execution_context_class = True, executor_of(schema)
    return schema
