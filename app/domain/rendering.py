"""From declared resources to the single ones that a scope makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.domain.definitions.template import ResourceDefinition
from app.domain.errors import TypeMismatch
from app.domain.expressions import embedded
from app.domain.values import UNKNOWN, Value, reveal


@dataclass(frozen=True, slots=True)
class ResourceInstance:
    """One resource to be. `each` is {"key", "value"} for an element of a forEach, else None.

    `conditional`: its `when` cannot be decided yet, so that it may still be skipped.
    """

    key: str
    definition: ResourceDefinition
    each: Mapping[str, Value] | None = None
    conditional: bool = False

    def scope(self, outer: Mapping[str, Value]) -> Mapping[str, Value]:
        """What the properties of this instance see."""
        return outer if self.each is None else {**outer, "each": self.each}


def instances(definition: ResourceDefinition, scope: Mapping[str, Value]) -> Iterator[ResourceInstance]:
    """The instances of one declared resource, as far as `scope` says.

    None when its `when` is false. With `forEach` one for each element, under "key[element]". Raises Invalid, the path
    leading from the resource, where `when` or `forEach` makes no sense.
    """
    condition = True if definition.when is None else reveal(_rendered(definition.when, scope, "when"))
    if condition is False:
        return
    if condition is not True and condition is not UNKNOWN:
        message = "'when' must be true or false"
        raise TypeMismatch(message, path=("when",))
    conditional = condition is UNKNOWN
    if definition.for_each is None:
        yield ResourceInstance(definition.key, definition, None, conditional)
        return
    for name, value in _elements(_rendered(definition.for_each, scope, "forEach")):
        each = {"key": name, "value": value}
        yield ResourceInstance(f"{definition.key}[{name}]", definition, each, conditional)


def _elements(collection: Value) -> Iterator[tuple[str, Value]]:
    """The keys and values of a map; each string of a list for itself."""
    shown = reveal(collection)
    if isinstance(shown, Mapping):
        # A secret element stays a secret value; its key becomes part of a name, which everybody sees.
        source = collection if isinstance(collection, Mapping) else shown
        yield from source.items()
    elif isinstance(shown, list) and all(isinstance(item, str) for item in shown) and len(set(shown)) == len(shown):
        yield from ((item, item) for item in shown)
    else:
        message = (
            "'forEach' must be known when planning, and be a map or a list of different strings:"
            " positions in a list would rename resources when it changes"
        )
        raise TypeMismatch(message, path=("forEach",))


def _rendered(value: Value, scope: Mapping[str, Value], name: str) -> Value:
    return embedded.render({name: value}, scope)[name]
