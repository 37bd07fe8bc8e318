"""What is printed where names and lines of logs are not to be trusted."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from app.cli.terminal import fitting, plain, show_table
from app.cli.watching import LiveView, PlainView, show_lines

ROWS: list[dict[str, Any]] = [
    {"id": "RGVwbG95bWVudFBsYW46MQ", "name": "a name that is longer than all others " * 3, "status": "SUCCEEDED"},
    {"id": "RGVwbG95bWVudFBsYW46Mg", "name": "名前" * 40, "status": None},
]
COLUMNS = ("id", "name", "status")


def shown(rows: list[dict[str, Any]], *, terminal: bool) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, no_color=True, color_system=None)
    show_table(console, rows, COLUMNS, kept=("id",))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_is_as_wide_as_the_terminal_and_keeps_what_other_commands_take(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = shown(ROWS, terminal=True)
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= width
    assert [line.split()[0] for line in lines[1:]] == [row["id"] for row in ROWS]
    assert all("…" in line for line in lines[1:]) is (width < 200)


def test_a_table_that_is_piped_has_whole_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = shown(ROWS, terminal=False)
    assert len(lines) == 3
    assert ROWS[0]["name"].strip() in lines[1]
    assert ROWS[1]["name"] in lines[2]


def test_a_terminal_that_is_too_narrow_for_everything_still_has_one_line_a_row() -> None:
    assert fitting([22, 100, 9], 20, [True, False, False]) == [8, 6, 6]
    assert sum(fitting([22, 100, 9], 5, [True, False, False])) == 5


def test_nothing_of_a_name_reaches_a_terminal_raw() -> None:
    name = "\x1b]0;owned\x07\x9b31m\nid2 \x7f"
    (line,) = shown([{"id": "1", "name": name, "status": "READY"}], terminal=True)[1:]
    assert line.split() == ["1", "\\u001b]0;owned\\u0007\\u009b31m\\u000aid2", "\\u007f", "READY"]
    assert plain("a\x1b[2J\n\tb", "red").plain == "a\\u001b[2J\n\tb"


@pytest.mark.parametrize("view", [PlainView, LiveView])
def test_no_line_of_a_log_reaches_a_terminal_raw(view: Any) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=False, width=300)
    line = {"at": "2026-01-01T00:00:00Z", "level": "INFO", "stepKey": "a", "message": "\x1b[31mred \x9b2J [bold]x"}
    with view(console) as shown_in:
        show_lines(shown_in, {"kind": "EVENTS", "lines": [line]})
        shown_in.job({"name": "\x1b[1m[red]", "status": "RUNNING", "progress": dict.fromkeys(
            ("total", "done", "failed", "compensated"), 1)})  # fmt: skip
    assert "a | \\u001b[31mred \\u009b2J [bold]x" in out.getvalue()
    assert "\x1b" not in out.getvalue()
