"""Fields that Python works out: the statement brings what they are made of, and they are put in afterwards.

One such field does not cost the rest of an operation its statement. What it reads of its row is declared beside its
resolver (`schema.fields.computed`); a column that is not declared is not there, and asking for it fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from graphql import FieldNode, GraphQLObjectType, Undefined
from graphql.execution.collect_fields import FieldDetails
from graphql.pyutils import Path
from sqlalchemy import ARRAY, DateTime, Enum, LargeBinary, Text, cast, func, inspect
from sqlalchemy.orm import Mapper, make_transient_to_detached
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.types import TypeEngine

from schema.symbols import Level, Part

_Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Columns of one row, as the statement brings them and as a row has them again."""

    entity: Any
    columns: Sequence[str]
    readers: Sequence[_Read | None]

    @classmethod
    def of(cls, entity: Any, names: Sequence[str]) -> Inputs:
        """`names`, and what the row is known by."""
        mapper: Mapper[Any] = inspect(entity).mapper
        keys = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
        columns = list(dict.fromkeys([*keys, *names]))
        return cls(entity, columns, [_reader(mapper.column_attrs[name].columns[0].type) for name in columns])

    def text(self, level: Level) -> Part:
        """The JSON text of them, in order."""
        return cast(func.json_build_array(*(level.column(name) for name in self.columns)), Text)

    def row(self, values: Sequence[Any]) -> Any:
        """The row again. It belongs to no session: what was not brought cannot be read."""
        row = inspect(self.entity).mapper.class_manager.new_instance()
        for name, read, value in zip(self.columns, self.readers, values, strict=True):
            set_committed_value(row, name, value if read is None or value is None else read(value))
        make_transient_to_detached(row)
        return row


def _reader(kind: TypeEngine[Any]) -> _Read | None:
    """From JSON to what the column's type has in Python; None where that is the same."""
    match kind:
        case Enum():
            members: _Read = kind.enum_class  # type: ignore[assignment]
            return members
        case DateTime():
            return datetime.fromisoformat
        case LargeBinary():
            return lambda text: bytes.fromhex(text[2:])
        case ARRAY():
            read = _reader(kind.item_type)
            return None if read is None else lambda values: [read(value) for value in values]
    return None


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """One field of one selection that is put in afterwards; `path` leads there through objects, and lists of them."""

    path: Sequence[str]
    kind: GraphQLObjectType
    details: Sequence[FieldDetails]
    # What the row is made of that it is a field of, and what the view of that; nothing for a field at the root.
    inputs: Inputs | None
    view: Callable[..., Any] | None

    @classmethod
    def of(
        cls,
        path: Sequence[str],
        kind: GraphQLObjectType,
        nodes: Sequence[FieldNode],
        inputs: Inputs | None,
        view: Callable[..., Any] | None,
    ) -> Completion:
        return cls(tuple(path), kind, [FieldDetails(node, None) for node in nodes], inputs, view)

    def source(self, brought: Any) -> Any:
        return None if self.inputs is None or self.view is None else self.view(row=self.inputs.row(brought))


async def complete(executor: Any, completions: Sequence[Completion], data: dict[str, Any]) -> bool:
    """Put in what `completions` are of. False where one of them cannot be: then `data` is of no use.

    All are worked out side by side, so that loaders gather what they ask for.
    """
    places = [
        (completion, holder)
        for number, completion in enumerate(completions)
        for holder in _holders(data, completion.path[:-1])
        if _is_for(holder.get(completion.path[-1]), number)
    ]

    async def put_in(completion: Completion, holder: dict[str, Any]) -> bool:
        name = completion.path[-1]
        source = completion.source(holder[name][1])
        path = Path(None, name, completion.kind.name)
        value = executor.execute_field(completion.kind, source, completion.details, path, None)
        if executor.is_awaitable(value):
            value = await value
        holder[name] = value
        return value is not Undefined

    done = await asyncio.gather(*(put_in(*place) for place in places), return_exceptions=True)
    return all(one is True for one in done) and not executor.collected_errors.errors


def _is_for(brought: Any, number: int) -> bool:
    return isinstance(brought, list) and len(brought) == 2 and brought[0] == number


def _holders(data: Any, path: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The objects that a path leads to."""
    if isinstance(data, list):
        for item in data:
            yield from _holders(item, path)
    elif isinstance(data, Mapping):
        if not path:
            yield data  # type: ignore[misc]
        else:
            yield from _holders(data.get(path[0]), path[1:])
