"""One event a line, whoever wrote it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.telemetry.logging import configure


def login(password: str) -> None:
    raise RuntimeError(len(password))


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def test_our_lines_and_those_of_libraries_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    with structlog.contextvars.bound_contextvars(request_id="ticket-42"):
        structlog.get_logger("ours").info("planned", steps=3)
        logging.getLogger("theirs").warning("slow by %s seconds", 2)
        logging.getLogger("theirs").debug("unheard")
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["steps"], ours["level"], ours["logger"]) == ("planned", 3, "info", "ours")
    assert (theirs["event"], theirs["level"]) == ("slow by 2 seconds", "warning")
    assert ours["request_id"] == theirs["request_id"] == "ticket-42"


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_traceback_shows_no_values(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", style)
    try:
        login("hunter" + str(2))
    except RuntimeError:
        structlog.get_logger("ours").exception("failed")
    shown = capsys.readouterr().err
    assert "RuntimeError" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize("style", ["json", "console"])
def test_nothing_that_was_logged_steers_a_terminal(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", style)
    log = structlog.get_logger("ours")
    log.warning("refused \x1b[2J", name="\x1b]0;owned\x07")
    logging.getLogger("theirs").warning("came from %s", "\x1b[31m")
    try:
        raise RuntimeError("\x1b[1mbad")  # noqa: EM101, TRY301  what a stranger may have said
    except RuntimeError:
        log.exception("failed")
    shown = capsys.readouterr().err
    assert shown.count("\\u001b") == 4
    assert "\x1b" not in shown


@pytest.mark.parametrize("style", ["json", "console"])
def test_nothing_that_was_logged_turns_what_follows_it(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("INFO", style)
    structlog.get_logger("ours").warning("refused \u202e", name="\u200bowned")
    shown = capsys.readouterr().err
    assert "\\u202e" in shown
    assert shown.removesuffix("\n").isprintable()


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="loud"):
        configure("loud")


def test_an_unknown_style_is_refused() -> None:
    with pytest.raises(ValueError, match="xml"):
        configure("info", "xml")
