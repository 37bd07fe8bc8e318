"""How a process that has come up looks for garbage: docs/decisions/0080-garbage.md."""

from __future__ import annotations

import gc

# Python looks through the youngest objects after every 700 that are made and kept so far: in the middle of a page of
# 5,000 log lines seven times over, and finds nothing. Reference counts free all but cycles.
_YOUNGEST = 10_000


def settle() -> None:
    """What is there now stays: no collection looks through it again. Later ones come less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNGEST)
