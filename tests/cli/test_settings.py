"""Settings say what is wrong with them."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.serve import listen
from app.settings import Settings, SettingsError


def test_defaults_need_no_environment() -> None:
    settings = Settings.from_environment({"PATH": "/bin"})
    assert (settings.port, settings.pool_size, settings.database_url) == (8080, 10, None)


def test_values_are_converted() -> None:
    key = base64.b64encode(bytes(32)).decode()
    settings = Settings.from_environment(
        {
            "WINDLASS_PORT": "0",
            "WINDLASS_DATA_DIR": "/srv/windlass",
            "WINDLASS_ALLOWED_HOSTS": "a.example, b.example",
            "WINDLASS_LEASE_SECONDS": "2.5",
            "WINDLASS_SECRET_KEY": key,
        }
    )
    assert settings.data_dir == Path("/srv/windlass")
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert (settings.lease_seconds, settings.secret_key) == (2.5, key)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WINDLASS_POTR", "1", "did you mean WINDLASS_PORT"),
        ("WINDLASS_PORT", "many", "WINDLASS_PORT"),
        ("WINDLASS_PORT", "70000", "not between 0 and 65535"),
        ("WINDLASS_LOG_FORMAT", "xml", "none of console, json"),
        ("WINDLASS_DATABASE_URL", "mysql://x", "begins with postgresql://"),
        ("WINDLASS_REDIS_URL", "http://x", "begins with redis://"),
        ("WINDLASS_SECRET_KEY", "short", "32 random bytes in base64"),
    ],
)
def test_what_makes_no_sense_is_named(variable: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_environment({variable: value})


def test_what_a_process_cannot_do_without_is_named() -> None:
    with pytest.raises(SettingsError, match="WINDLASS_DATABASE_URL is not set"):
        Settings.from_environment({}).required("database_url")


@pytest.mark.parametrize("command", ["api", "worker", "scheduler", "webhooks", "migrate", "seed"])
def test_a_command_without_its_settings_says_so_in_one_line(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", command], env={"PATH": "/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("windlass: WINDLASS_")
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_is_taken_is_told_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1 port {port}: Address already in use"):
            listen("127.0.0.1", port)
