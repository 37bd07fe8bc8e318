"""Reads a document section by section and keeps every fault found on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Any, TypeVar

from app.characters import control_in
from app.domain.errors import Diagnostic, Invalid, LimitExceeded, Path, Severity
from app.domain.expressions import embedded
from app.domain.graph import DependencyGraph, Edge, describe_cycle
from app.domain.naming import hint, nearest
from app.domain.schemas import check_schema, is_deeper
from app.domain.values import Value

MAX_NODES = 5_000
MAX_EDGES = 100_000
MAX_DEPTH = 200

E = TypeVar("E", bound=StrEnum)
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)


class Findings:
    """What was found out about one document. Paths begin with `root`."""

    def __init__(self, subject: str, root: Path) -> None:
        self.subject, self.root = subject, root
        self.diagnostics: list[Diagnostic] = []

    def add(
        self,
        code: str,
        message: str,
        path: Path,
        suggestion: str | None = None,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Keep a finding; a suggestion becomes part of its message."""
        text = message + hint(suggestion)
        self.diagnostics.append(Diagnostic(severity, code, text, (*self.root, *path), suggestion))

    def adopt(self, diagnostics: Iterable[Diagnostic], path: Path = ()) -> None:
        """Keep findings of somebody else, whose paths begin at `path`."""
        prefix = (*self.root, *path)
        self.diagnostics.extend(replace(found, path=(*prefix, *found.path)) for found in diagnostics)

    @property
    def faults(self) -> list[Diagnostic]:
        """The findings that make the document unusable."""
        return [found for found in self.diagnostics if found.severity is Severity.ERROR]

    def begin(self, value: Value) -> None:
        """Raise LimitExceeded for a document that is too deep to be walked."""
        if is_deeper(value, MAX_DEPTH):
            message = f"a {self.subject} may be {MAX_DEPTH} levels deep"
            raise self._limit(message, ())

    def bound(self, count: int, most: int, what: str, path: Path) -> None:
        """Raise LimitExceeded if there are too many for looking at the rest of the document."""
        if count > most:
            message = f"a {self.subject} may have {most} {what}, this one has {count}"
            raise self._limit(message, path)

    def graph(self, nodes: Iterable[str], edges: Iterable[Edge], where: Callable[[str], Path]) -> DependencyGraph:
        """The graph, if the document has no fault.

        Raises Cyclic when cycles are the only fault, else Invalid with everything. `where` gives the path of a node.
        """
        keys = set(nodes)
        graph = DependencyGraph(nodes, [edge for edge in edges if edge.source in keys and edge.target in keys])
        if not self.faults:
            graph.check()
            return graph
        for cycle in graph.cycles():
            self.add("CYCLE", describe_cycle(cycle), where(cycle[0].target))
        raise self.error()

    def _limit(self, message: str, path: Path) -> LimitExceeded:
        place = (*self.root, *path)
        fault = Diagnostic(Severity.ERROR, LimitExceeded.code, message, place)
        return LimitExceeded(message, path=place, diagnostics=[fault])

    def error(self) -> Invalid:
        """The error that carries everything found."""
        faults = self.faults
        shown = "; ".join(fault.message for fault in faults[:3])
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        message = f"the {self.subject} has {len(faults)} fault{'s' if len(faults) > 1 else ''}: {shown}{more}"
        return Invalid(message, path=faults[0].path, diagnostics=self.diagnostics)


class Section:
    """One mapping of a document, whose keys are known. A value of a wrong type counts as absent, after complaint."""

    def __init__(self, findings: Findings, value: Value, path: Path, known: Iterable[str]) -> None:
        self.findings, self.path = findings, path
        self.value: Mapping[str, Value] = value if isinstance(value, Mapping) else {}
        if not isinstance(value, Mapping):
            findings.add("TYPE_MISMATCH", "a map is needed here", path)
        names = tuple(known)
        for key in self.value:
            if key not in names:
                findings.add("UNKNOWN_PROPERTY", f"'{key}' means nothing here", (*path, key), nearest(key, names))

    def require(self, name: str) -> None:
        """Complain if there is no `name`."""
        if self.value.get(name) is None:
            self.findings.add("REQUIRED", f"'{name}' is required", (*self.path, name))

    def text(self, name: str) -> str | None:
        """A string that is no expression."""
        text: str | None = self._typed(name, str, "a string")
        if text is not None and "${" in text.replace("$${", ""):
            self.findings.add("INVALID", f"'{name}' cannot be an expression", (*self.path, name))
        return text

    def prose(self, name: str) -> str:
        """A string for people; empty if absent."""
        return self._typed(name, str, "a string") or ""

    def label(self, name: str) -> str:
        """A name for people, on one line; empty if absent."""
        text = self.prose(name)
        found = control_in(text)
        if found is not None:
            self.findings.add("INVALID", f"'{name}' may not contain the control character {found}", (*self.path, name))
        return text

    def flag(self, name: str, *, default: bool = False) -> bool:
        found: bool | None = self._typed(name, bool, "true or false")
        return default if found is None else found

    def number(self, name: str, least: float, most: float, *, whole: bool = False) -> float | None:
        """A number within bounds."""
        found: float | None = self._typed(
            name, int if whole else (int, float), "a whole number" if whole else "a number"
        )
        if found is not None and not least <= found <= most:
            message = f"'{name}' must be from {least:g} to {most:g}"
            self.findings.add("INVALID", message, (*self.path, name))
            return None
        return found

    def mapping(self, name: str) -> dict[str, Value]:
        return dict(self._typed(name, Mapping, "a map") or {})

    def sequence(self, name: str) -> list[Value]:
        return list(self._typed(name, (list, tuple), "a list") or ())

    def choice(self, name: str, kind: type[E]) -> E | None:
        """One of the names of an enumeration."""
        found = self._typed(name, str, "a string")
        return None if found is None else self._chosen(found, kind, (*self.path, name))

    def choices(self, name: str, kind: type[E]) -> tuple[E, ...]:
        """Several of the names of an enumeration."""
        chosen = [self._chosen(item, kind, (*self.path, name, str(n))) for n, item in enumerate(self.sequence(name))]
        return tuple(item for item in chosen if item is not None)

    def words(self, name: str, *, most: int) -> tuple[str, ...]:
        """A list of at most so many strings, none of them empty."""
        found = self.sequence(name)
        if len(found) > most:
            self.findings.add("INVALID", f"'{name}' has at most {most} entries", (*self.path, name))
        for position, word in enumerate(found):
            if not isinstance(word, str) or not word.strip():
                message = "a string is needed here, and not an empty one"
                self.findings.add("TYPE_MISMATCH", message, (*self.path, name, str(position)))
        return tuple(word for word in found if isinstance(word, str))

    def condition(self, name: str) -> Value:
        """A bool, or a string that is one expression; None if absent."""
        found = self.value.get(name)
        if found is None or isinstance(found, bool) or self._is_expression(found, name):
            return found
        self.findings.add("TYPE_MISMATCH", f"'{name}' must be one expression, or true or false", (*self.path, name))
        return None

    def collection(self, name: str) -> Value:
        """A map, a list, or a string that is one expression; None if absent."""
        found = self.value.get(name)
        if found is None or isinstance(found, (Mapping, list)) or self._is_expression(found, name):
            return found
        self.findings.add("TYPE_MISMATCH", f"'{name}' must be a map, a list or one expression", (*self.path, name))
        return None

    def keys_of(self, name: str, known: Iterable[str], what: str) -> tuple[str, ...]:
        """A list of different keys, each of something that exists."""
        names = frozenset(known)
        found: dict[str, None] = {}
        for position, key in enumerate(self.sequence(name)):
            place = (*self.path, name, str(position))
            if not isinstance(key, str):
                self.findings.add("TYPE_MISMATCH", "a string is needed here", place)
            elif key not in names:
                self.findings.add("UNKNOWN_REFERENCE", f"there is no {what} '{key}'", place, nearest(key, names))
            elif key in found:
                self.findings.add("INVALID", f"'{key}' is named twice", place)
            else:
                found[key] = None
        return tuple(found)

    def schema(self, name: str) -> dict[str, Any]:
        """A JSON Schema of an object."""
        schema = self.mapping(name)
        if schema:
            self.findings.adopt(check_schema(schema), (*self.path, name))
            if schema.get("type", "object") != "object":
                self.findings.add("INVALID", "parameters are an object", (*self.path, name, "type"))
        return schema

    def _typed(self, name: str, kind: type | tuple[type, ...], wanted: str) -> Any:
        found = self.value.get(name)
        if found is None:
            return None
        # To Python, true is a number.
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            self.findings.add("TYPE_MISMATCH", f"'{name}' must be {wanted}", (*self.path, name))
            return None
        return found

    def _chosen(self, found: Value, kind: type[E], place: Path) -> E | None:
        names = [member.value for member in kind]
        if found in names:
            return kind(found)
        suggestion = nearest(str(found), names)
        self.findings.add("INVALID", f"'{found}' is none of {', '.join(names)}", place, suggestion)
        return None

    def _is_expression(self, found: Value, name: str) -> bool:
        try:
            return embedded.is_expression(found)
        except Invalid as error:
            self.findings.add(error.code, error.message, (*self.path, name))
            return True


def check_key(findings: Findings, key: str, path: Path) -> None:
    """Complain about a key that could not be told apart from an element of a forEach, or from an operator."""
    if not _KEY.fullmatch(key):
        message = f"'{key[:80]}' is no key: a letter, then up to 62 letters, digits, '_' and '-'"
        findings.add("INVALID", message, path)
