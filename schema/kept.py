"""What was made lately and may be wanted again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Kept(Generic[Key, Made]):
    """At most `size` things by their keys; the least recently used go first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._made: OrderedDict[Key, Made] = OrderedDict()

    def __len__(self) -> int:
        return len(self._made)

    def kept(self, key: Key) -> Made | None:
        """What is kept under `key`; None where nothing is."""
        found = self._made.get(key)
        if found is not None:
            self._made.move_to_end(key)
        return found

    def get(self, key: Key, make: Callable[[], Made]) -> Made:
        """What is kept under `key`, or else what `make` gives; what `make` raises is not kept."""
        if key not in self._made:
            self._made[key] = make()
            if len(self._made) > self._size:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        return self._made[key]
