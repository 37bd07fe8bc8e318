"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_new(path: Path, text: str) -> None:
    """Writes a file that must not exist yet; FileExistsError where it does."""
    part = _written(path, text)
    try:
        # A link, unlike a renaming, fails where the name is taken.
        path.hardlink_to(part)
    finally:
        part.unlink()
    _sync_folder(path.parent)


def write_over(path: Path, text: str) -> None:
    """Writes a file in place of the one that is there."""
    _written(path, text).replace(path)
    _sync_folder(path.parent)


def remove(path: Path) -> None:
    """Removes a file; absent is fine."""
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
