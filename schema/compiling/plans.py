"""One statement as it is kept: its text, and where each of its parameters comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from graphql import NamedTypeNode, NonNullTypeNode
from sqlalchemy import BindParameter, Enum, Select
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql import visitors

from schema.compiling.completing import Completion
from schema.context import Context
from schema.loaders import TracingLoaders
from schema.rendering import constant_of
from schema.symbols import NumberSlot, PlaceSlot, SymbolicPrincipal, Tracing

TENANT: Final = "$tenant"
USER: Final = "$user"
KEYS: Final = "$keys"
_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]
# One of rows, and one around it for the columns that are asked for.
_SELECTS_OF_ONE_ROW = 2

Reader = Callable[[Mapping[str, Any]], Any]


# Compared as what it is, and not by what it says: it stands for itself where plans are looked up.
@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One statement, and where each of its parameters comes from; or the answer, where that is always the same."""

    sql: str
    parameters: Sequence[Reader]
    points: int = 0
    constant: bytes | None = None
    # What Python puts in afterwards.
    completions: Sequence[Completion] = ()
    # Of an object: whether nothing is asked for but columns of its own row.
    alone: bool = False


def traced(context: Context, *, as_viewer: bool = False) -> Context:
    """`context` as resolvers are given it that are asked with symbols; `as_viewer`: for this very person only."""
    tenant = NumberSlot.of(context.tenant_id, lambda given: given[TENANT])
    user = NumberSlot.of(context.principal.user_id, lambda given: given[USER])
    tracing = Tracing(tenant)
    principal: Any = SymbolicPrincipal(context.principal, tenant, user, as_viewer=as_viewer)
    return Context(context.services, principal, context.request_id, TracingLoaders(tracing), tracing)


def query_plan(statement: Select[Any], points: int, completions: Sequence[Completion]) -> Plan:
    """The plan of a whole operation, whose answer is the one value of `statement`."""
    text, readers = _compiled(statement)
    return Plan(_entered(text, len(readers)), [*readers, _tenant], points, _constant(statement), completions)


def entity_plan(statement: Select[Any], completions: Sequence[Completion]) -> Plan:
    """The plan of many objects: the texts of those of KEYS, in order. `statement` is the text of the one of KEY."""
    text, readers = _compiled(statement)
    keys = f"unnest(${len(readers) + 1}::bigint[]) WITH ORDINALITY AS k(key, place)"
    together = f"SELECT array_agg(({text}) ORDER BY k.place) FROM {keys}"  # noqa: S608  parts of ours
    alone = not completions and text.count("SELECT") == _SELECTS_OF_ONE_ROW + 1
    return Plan(
        _entered(together, len(readers) + 1),
        [*readers, lambda given: given[KEYS], _tenant],
        completions=completions,
        alone=alone,
    )


def name_of(kind: Any) -> str | None:
    """The name of a variable's type; None for a list."""
    named = kind.type if isinstance(kind, NonNullTypeNode) else kind
    return named.name.value if isinstance(named, NamedTypeNode) else None


def _tenant(given: Mapping[str, Any]) -> str:
    return str(given[TENANT])


def _entered(text: str, parameters: int) -> str:
    """The tenant is known to row-level security before anything is read, in the same round trip."""
    return (
        f"SELECT q.answer FROM (SELECT set_config('app.tenant_id', ${parameters + 1}, true) AS entered) AS s"  # noqa: S608
        f" CROSS JOIN LATERAL (SELECT ({text}) AS answer WHERE s.entered IS NOT NULL) AS q"
    )


def _compiled(statement: Select[Any]) -> tuple[str, list[Reader]]:
    for element in visitors.iterate(statement):
        # What the document itself says about states and kinds is planned for: some of them have hardly any rows. Only
        # where all values are ours; they tell plans apart already.
        if isinstance(element, BindParameter) and isinstance(element.type, Enum):
            element.literal_execute = True
    compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    names = compiled.positiontup or []
    return compiled.string, [_reader(compiled.params[name], _bound(compiled, name)) for name in names]


def _constant(statement: Select[Any]) -> bytes | None:
    """What a statement without a table says."""
    text = constant_of(statement.selected_columns[0])
    return None if text is None or statement.get_final_froms() else text.encode()


def _bound(compiled: Any, name: str) -> Any:
    """The parameter of that name, or the list that it is one of."""
    found = compiled.binds.get(name)
    return compiled.binds[name.rpartition("_")[0]] if found is None else found


def _reader(value: Any, bound: Any) -> Reader:
    if isinstance(value, NumberSlot):
        return value.read
    processor = bound.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    if isinstance(value, PlaceSlot):
        read = value.read
        return read if processor is None else lambda given: processor(read(given))
    stored = value if processor is None else processor(value)
    return lambda _: stored
