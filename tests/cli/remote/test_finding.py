from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.client import CommandFailed, Server, find_server
from app.cli.watching import EXIT_CODES
from tests.cli.remote.conftest import run

pytestmark = pytest.mark.usefixtures("nowhere")


def test_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_URL", "http://elsewhere")
    monkeypatch.setenv("WINDLASS_TOKEN", "other")
    assert find_server("https://here:8443", "mine", None) == Server(
        "https://here:8443/graphql", "wss://here:8443/graphql", "mine"
    )


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/graphql", "h:1", "h:1/graphql"])
def test_the_path_may_be_left_out(url: str) -> None:
    assert find_server(url, "t", None).graphql.rstrip("/") == "http://h:1/graphql"


def test_the_environment_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_URL", "http://env:1")
    monkeypatch.setenv("WINDLASS_TOKEN", "secret")
    assert find_server(None, None, None).token == "secret"


@pytest.mark.parametrize("place", [".windlass", ".local/share/windlass", "given"])
def test_a_running_server_is_found_by_what_it_wrote_down(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "up.json").write_text(json.dumps({"graphql": "http://127.0.0.1:5/graphql", "token": "wl_x"}))
    found = find_server(None, None, folder if place == "given" else None)
    assert found == Server("http://127.0.0.1:5/graphql", "ws://127.0.0.1:5/graphql", "wl_x")


def test_a_broken_note_is_no_note(tmp_path: Path) -> None:
    (tmp_path / ".windlass").mkdir()
    (tmp_path / ".windlass" / "up.json").write_text("{")
    with pytest.raises(CommandFailed, match="no server"):
        find_server(None, None, None)


def test_without_a_server_the_command_says_what_to_do() -> None:
    done = run("plans")
    assert done.code == 1
    assert done.err == "error: no server: give --url, set WINDLASS_URL, or start one with `windlass up`\n"
    assert run("plans", "--url", "http://x").err == "error: no token: give --token or set WINDLASS_TOKEN\n"


@pytest.mark.parametrize("token", ["wl_ü", "wl_a\n", "wl a"])
def test_what_cannot_be_a_token_is_told_in_a_line(token: str) -> None:
    done = run("plans", "--url", "http://127.0.0.1:1", "--token", token)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("error: the token is none")


def test_every_exit_code_is_in_the_help() -> None:
    codes = sorted({*EXIT_CODES.values(), 130})
    for words in (("watch",), ("submit",), ("simulate",)):
        told = " ".join(run(*words, "--help").out.replace("│", " ").split())
        places = [told.index(f" {code} ", told.index("Exit code:")) for code in codes]
        assert places == sorted(places)


def test_a_server_that_is_not_there_is_named() -> None:
    done = run("jobs", "--url", "http://127.0.0.1:1", "--token", "wl_x")
    assert done.code == 1
    assert done.err.startswith("error: http://127.0.0.1:1/graphql cannot be reached")
