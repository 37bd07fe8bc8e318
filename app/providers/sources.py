"""Files of the worker's machine that tenants may name: those in folders that the installation lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.providers.base import ErrorKind, ProviderError


@dataclass(frozen=True, slots=True)
class Sources:
    """The folders, by default none."""

    folders: Sequence[Path] = ()

    def find(self, name: str, *, field: str) -> Path:
        """The real path of an absolute `name`, with every link followed. Raises ProviderError ACCESS_DENIED for what is
        in none of the folders, or is not there: which of the two is not told. Reads the file system.
        """
        try:
            path = Path(name).resolve(strict=True)
        except (OSError, RuntimeError):
            path = None
        if not Path(name).is_absolute() or path is None or not any(path.is_relative_to(each) for each in self._real()):
            message = f"{name} is not in a folder that this installation gives out (WINDLASS_SOURCE_DIRECTORIES)"
            raise ProviderError(ErrorKind.ACCESS_DENIED, message, path=(field,))
        return path

    def _real(self) -> list[Path]:
        return [folder.resolve() for folder in self.folders]
