"""Documents as they are read, and which are too long to be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Final

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    SelectionSetNode,
    parse,
)

from schema.kept import Kept

MAX_TOKENS: Final = 3_000
_CACHED_DOCUMENTS: Final = 256
# What the lexer takes for a token, comments included. Where it would find fewer it finds a fault.
_TOKEN: Final = re.compile(
    r'''"""(?:\\"""|(?!""")[\s\S])*"""|"(?:[^"\\\n]|\\.)*"|#[^\n\r]*|\.\.\.|\w+(?:\.\d+)?(?:[eE][+-]?\d+)?'''
    r"""|[!$&()=@:\[\]{}|]"""
)


@dataclass(slots=True)
class Prepared:
    """A document, and what validation has found, once it has looked."""

    document: DocumentNode
    errors: list[GraphQLError] | None = None


class DocumentCache:
    """Documents parsed and validated lately, by their text. At most `size`, the least recently used go first."""

    def __init__(self, size: int = _CACHED_DOCUMENTS) -> None:
        self._documents = Kept[str, Prepared](size)

    def get(self, text: str) -> Prepared:
        """Raises GraphQLError or RecursionError for a text that does not parse."""
        return self._documents.get(text, lambda: Prepared(parse(text, max_tokens=MAX_TOKENS)))


def has_too_many_tokens(text: str) -> bool:
    """Whether a text is not worth parsing: a count that is over sooner than a parser would be."""
    return len(text) > MAX_TOKENS and next(islice(_TOKEN.finditer(text), MAX_TOKENS, None), None) is not None


def fields_at_root(selected: SelectionSetNode, fragments: Mapping[str, FragmentDefinitionNode]) -> Iterator[FieldNode]:
    """The fields of an operation's root, by fragments or not, of a valid document: no fragment is inside itself."""
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from fields_at_root(node.selection_set, fragments)
        elif isinstance(node, FragmentSpreadNode):
            yield from fields_at_root(fragments[node.name.value].selection_set, fragments)
