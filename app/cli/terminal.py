"""What is printed: nothing of it steers the terminal but what this process puts there itself.

Names, messages and lines of logs come from a server, and from whatever that runs; a log may hold what a program has
written, colours and all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from app.characters import spelled

_GAP = 2
_CUT = "…"
# A column is made no narrower than this for the sake of others.
_LEAST = 6


def plain(text: str, style: str | None = None) -> Text:
    """A text, of several lines perhaps, with its control characters spelled out as JSON does."""
    return Text(spelled(text, lines=True), style=style or "")


def show_table(
    console: Console, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, kept: Sequence[str] = ()
) -> None:
    """A line a row. On a terminal they are as wide as that, longest columns shortened first, those of `kept` last.

    Elsewhere nothing is shortened. Cells are what `str` makes of them, None is empty.
    """
    cells = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    if console.is_terminal:
        room = shutil.get_terminal_size().columns - _GAP * (len(widths) - 1)
        widths = fitting(widths, room, [column in kept for column in columns])
    for number, line in enumerate(cells):
        fitted = (_fitted(cell, width) for cell, width in zip(line, widths, strict=True))
        text = (" " * _GAP).join(fitted).rstrip()
        console.print(Text(text, style="" if number else "bold"), soft_wrap=True)


def fitting(widths: Sequence[int], room: int, kept: Sequence[bool]) -> list[int]:
    """The widths, made smaller until they come to no more than `room`: the widest first, those that are kept last."""
    found = list(widths)
    for least, those in ((_LEAST, False), (_LEAST, True), (1, False), (1, True)):
        while sum(found) > room:
            able = [place for place, is_kept in enumerate(kept) if is_kept is those and found[place] > least]
            if not able:
                break
            found[max(able, key=found.__getitem__)] -= 1
    return found


def _cell(value: Any) -> str:
    return "" if value is None else spelled(str(value))


def _fitted(cell: str, width: int) -> str:
    if cell_len(cell) <= width:
        return set_cell_size(cell, width)
    return set_cell_size(cell, width - 1) + _CUT
