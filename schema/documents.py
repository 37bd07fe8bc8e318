"""Documents that this installation knows beforehand: asked for by their id, and where only they are taken, no others.

An id is `sha256:` and the digest of the document, so a file of them cannot say one thing and mean another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from app.settings import Settings, SettingsError

ID: Final = "documentId"
UNKNOWN: Final = "DOCUMENT_UNKNOWN"
REQUIRED: Final = "DOCUMENT_REQUIRED"
_MOST: Final = 10_000
_LONGEST: Final = 100_000


class DocumentRefused(Exception):
    """An id that is not known, or a document where only ids are taken. `code` says which."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents by id; `only`: nothing else is executed."""

    known: Mapping[str, str] = field(default_factory=dict)
    only: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Documents:
        """Those of the file that the settings name. Raises SettingsError for one that is not what it has to be."""
        only = settings.documents == "required"
        if settings.documents_file is None:
            if only:
                message = "WINDLASS_DOCUMENTS: 'required' needs WINDLASS_DOCUMENTS_FILE"
                raise SettingsError(message)
            return cls()
        return cls(_read(settings.documents_file), only)

    def complete(self, given: dict[str, Any]) -> dict[str, Any]:
        """The request with the document that its id stands for. Raises DocumentRefused."""
        name = given.get(ID)
        if name is None:
            if self.only:
                message = f"only documents that this installation knows are executed: ask by {ID}"
                raise DocumentRefused(REQUIRED, message)
            return given
        document = self.known.get(name) if isinstance(name, str) else None
        if document is None:
            message = "this installation knows no such document"
            raise DocumentRefused(UNKNOWN, message)
        if given.get("query"):
            message = f"a request has either a query or a {ID}"
            raise DocumentRefused(UNKNOWN, message)
        return {**given, "query": document}


def id_of(document: str) -> str:
    """What a document is asked for by."""
    return f"sha256:{hashlib.sha256(document.encode()).hexdigest()}"


def _read(path: Path) -> dict[str, str]:
    place = f"WINDLASS_DOCUMENTS_FILE: {path}"
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{place} is no file of JSON"
        raise SettingsError(message) from error
    if not isinstance(found, dict) or len(found) > _MOST:
        message = f"{place} is one object of at most {_MOST:,} documents by id"
        raise SettingsError(message)
    for name, document in found.items():
        if not isinstance(document, str) or len(document) > _LONGEST or id_of(document) != name:
            message = f"{place}: '{name[:80]}' is not the id of a document of at most {_LONGEST:,} characters"
            raise SettingsError(message)
    return found
