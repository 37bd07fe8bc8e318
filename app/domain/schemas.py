"""JSON Schema 2020-12 for documents with unknown and secret values in them.

Nothing is ever fetched: a schema of a tenant that refers to a URL or a file is refused. Depths are bounded before the
validator, which is native code and recurses, sees anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import orjson

from app.domain.errors import Diagnostic, LimitExceeded, Path, Severity
from app.domain.naming import hint, nearest
from app.domain.values import PLAIN, UNKNOWN, Secret, Value, transform

MAX_DEPTH = 64
# Subschemas after every reference is written out.
MAX_EXPANSION = 10_000
Schema = Mapping[str, Any]

_TOO_LARGE = f"a JSON Schema may have {MAX_EXPANSION} subschemas, each reference written out"
_META = "https://json-schema.org/draft/2020-12/schema"
# What a schema that wraps nothing in Secret does not have anywhere, as `_canonical` writes it.
_SEALING = re.compile(rb'"(writeOnly|x-sensitive)":true')
_BRANCHES = ("anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else")
_COMBINING = frozenset({*_BRANCHES, *_CONDITIONS, "$ref", "allOf"})
# Whether these hold can depend on a value that is not known yet, wherever in the instance it is.
_UNDECIDED = frozenset({*_BRANCHES, *_CONDITIONS, "not", "dependentSchemas", "contains", "propertyNames"})
# These are decided by the presence of names, and an unknown value has a name.
_BY_NAME = frozenset({"required", "additionalProperties", "maxProperties", "minProperties", "maxItems", "minItems"})


def check_schema(schema: Value, path: Path = ()) -> list[Diagnostic]:
    """Every fault of the schema itself."""
    if not isinstance(schema, Mapping):
        return [_fault("TYPE_MISMATCH", "a JSON Schema is an object", path)]
    if is_deeper(schema, MAX_DEPTH):
        return [_fault("LIMIT_EXCEEDED", f"a JSON Schema may be {MAX_DEPTH} levels deep", path)]
    try:
        found = list(_validator(orjson.dumps({"$ref": _META})).iter_errors(dict(schema)))
        if not found:
            _refuse_explosion(schema)
            _validator_of(schema)
    except jsonschema_rs.ValidationError as error:
        found = [error]
    except LimitExceeded as error:
        return [_fault(error.code, error.message, path)]
    except (ValueError, TypeError) as error:
        return [_fault("INVALID", f"no valid JSON Schema: {error}", path)]
    return [
        _fault("INVALID", f"no valid JSON Schema: {error.message}", (*path, *map(str, error.instance_path)))
        for error in found
    ]


def apply_schema(schema: Schema, value: Value, path: Path = ()) -> tuple[Value, list[Diagnostic]]:
    """The value with defaults filled in and sensitive properties wrapped in Secret, and every fault in it.

    UNKNOWN satisfies every rule about its own place. Codes are REQUIRED, TYPE_MISMATCH, UNKNOWN_PROPERTY,
    LIMIT_EXCEEDED and INVALID; paths begin with `path`. No message contains a value.
    """
    if type(value) is dict and not value and not path:
        with suppress(TypeError):  # no schema at all: what is wrong with it is said below
            filled, faults = _of_nothing(_canonical(schema))
            return _copied(filled), list(faults)
    return _applied(schema, value, path)


@lru_cache(maxsize=512)
def _of_nothing(canonical: bytes) -> tuple[Value, tuple[Diagnostic, ...]]:
    """What becomes of an empty object: of many steps nothing is told, and that is asked again for each of them."""
    filled, faults = _applied(orjson.loads(canonical), {}, ())
    return filled, tuple(faults)


def _applied(schema: Schema, value: Value, path: Path) -> tuple[Value, list[Diagnostic]]:
    if is_deeper(value, MAX_DEPTH):
        return value, [_fault("LIMIT_EXCEEDED", f"a value may be {MAX_DEPTH} levels deep", path)]
    document = _Document(schema)
    try:
        filled = document.fill([schema], value)
        unknown: list[Path] = []
        instance = _plain(filled, (), unknown)
        if () in unknown:
            return filled, []
        canonical = _canonical(schema)
        validator = _validator(canonical)
        errors = [] if validator.is_valid(instance) else list(validator.iter_errors(instance))
        if not errors and not _SEALING.search(canonical):
            return filled, []
    except LimitExceeded as error:
        return value, [_fault(error.code, error.message, path)]
    except (ValueError, TypeError) as error:
        return document.seal([schema], value), [_fault("INVALID", _uncheckable(error), path)]
    found = [item for error in errors if _is_decided(error, unknown) for item in document.explain(error, path)]
    return document.seal([schema], filled), list(dict.fromkeys(found))


def sensitive_paths(schema: Schema) -> frozenset[Path]:
    """The paths of all sensitive properties; "*" stands for any element of a list and any further property.

    A schema that refers to itself is not followed into itself. Raises LimitExceeded for one with very many places.
    """
    found: set[Path] = set()
    document = _Document(schema)
    pending: list[tuple[list[Schema], Path, frozenset[int]]] = [([schema], (), frozenset())]
    visited = 0
    while pending:
        current, path, outer = pending.pop()
        visited += 1
        if visited > MAX_EXPANSION:
            raise LimitExceeded(_TOO_LARGE)
        parts = document.parts(current, branches=True)
        if any(_is_sensitive(part) for part in parts):
            found.add(path)
            continue
        parts = [part for part in parts if id(part) not in outer]
        inner = outer | {id(part) for part in parts}
        pending.extend(([child], (*path, name), inner) for part in parts for name, child in _children(part))
    return frozenset(found)


def is_deeper(value: Value, limit: int) -> bool:
    """Whether maps and lists are nested more than `limit` levels deep; found without recursion."""
    pending = [(value, 0)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, Secret):
            pending.append((item.value, depth))
        elif isinstance(item, (dict, list, tuple, Mapping)):
            if depth >= limit:
                return True
            children = item if isinstance(item, (list, tuple)) else item.values()
            pending.extend((child, depth + 1) for child in children if type(child) not in PLAIN)
    return False


class _Document:
    """A whole schema, to which its local references lead."""

    def __init__(self, root: Schema) -> None:
        self.root = root
        self._defaults = 0

    def parts(self, schemas: Iterable[Any], *, branches: bool) -> list[Schema]:
        """All schemas that speak about the same place: themselves, what they refer to, and what they combine."""
        pending = list(schemas)
        if len(pending) == 1 and isinstance(pending[0], dict) and pending[0].keys().isdisjoint(_COMBINING):
            # As most do, it speaks alone.
            return pending
        found: dict[int, Schema] = {}
        while pending:
            part = pending.pop()
            if not isinstance(part, Mapping) or id(part) in found:
                continue
            found[id(part)] = part
            pending.extend(self.referred(part))
            pending.extend(part.get("allOf", ()))
            if branches:
                pending.extend(option for name in _BRANCHES for option in part.get(name, ()))
                pending.extend(part[name] for name in ("then", "else") if name in part)
        return list(found.values())

    def fill(self, schemas: Iterable[Any], value: Value, depth: int = 0) -> Value:
        """The value with the defaults of absent properties, at every depth."""
        if depth > 2 * MAX_DEPTH:
            # The value came in less deep: it is defaults that go on for ever.
            raise LimitExceeded(_TOO_LARGE)
        if isinstance(value, (dict, Mapping)):
            filled = dict(value)
            parts = self.parts(schemas, branches=False)
            for part in parts:
                for name, child in part.get("properties", {}).items():
                    default = self._default(child) if name not in filled else UNKNOWN
                    if default is not UNKNOWN:
                        filled[name] = _copied(default)
            return {
                name: item if type(item) in PLAIN else self.fill(_beneath(parts, name), item, depth + 1)
                for name, item in filled.items()
            }
        if isinstance(value, (list, tuple)):
            parts = self.parts(schemas, branches=False)
            return [self.fill(_beneath(parts, position), item, depth + 1) for position, item in enumerate(value)]
        return value

    def seal(self, schemas: Iterable[Any], value: Value) -> Value:
        """The value with every sensitive place wrapped."""
        if value is None or value is UNKNOWN or isinstance(value, Secret):
            return value
        parts = self.parts(schemas, branches=True)
        if any(_is_sensitive(part) for part in parts):
            return Secret(value)
        if isinstance(value, Mapping):
            return {name: self.seal(_beneath(parts, name), item) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.seal(_beneath(parts, position), item) for position, item in enumerate(value)]
        return value

    def explain(self, error: jsonschema_rs.ValidationError, prefix: Path) -> Iterator[Diagnostic]:
        """The diagnostics that one error of the validator amounts to."""
        place = (*prefix, *map(str, error.instance_path))
        kind = error.kind
        if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
            yield _fault("REQUIRED", f"'{kind.property}' is required", (*place, kind.property))
        elif isinstance(
            kind,
            jsonschema_rs.ValidationErrorKind.AdditionalProperties
            | jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
        ):
            known = self._property_names(error.instance_path)
            for name in kind.unexpected:
                suggestion = nearest(name, known)
                message = f"there is no property '{name}'{hint(suggestion)}"
                yield _fault("UNKNOWN_PROPERTY", message, (*place, name), suggestion)
        elif isinstance(kind, jsonschema_rs.ValidationErrorKind.Type):
            yield _fault("TYPE_MISMATCH", f"the value must be of type {' or '.join(kind.types)}", place)
        else:
            # The library puts its mask where the value stood.
            yield _fault("INVALID", error.message, place)

    def referred(self, schema: Schema) -> Iterator[Any]:
        """What `$ref` leads to, as far as that is a place in this document."""
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return
        target: Any = self.root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(target, list) and name.isdigit() and int(name) < len(target):
                target = target[int(name)]
            else:
                target = target.get(name) if isinstance(target, Mapping) else None
        yield target

    def _property_names(self, place: Iterable[str | int]) -> list[str]:
        """The names that the schema knows at a place of the instance."""
        parts = self.parts([self.root], branches=True)
        for step in place:
            parts = self.parts(_beneath(parts, step), branches=True)
        return list(dict.fromkeys(name for part in parts for name in part.get("properties", {})))

    def _default(self, schema: Any) -> Value:
        """The default of a property; UNKNOWN without one, because null is a possible default."""
        for part in self.parts([schema], branches=False):
            if "default" in part:
                self._defaults += 1
                if self._defaults > MAX_EXPANSION:
                    raise LimitExceeded(_TOO_LARGE)
                return part["default"]
        return UNKNOWN


def _copied(value: Value) -> Value:
    """The same for somebody of their own: Secrets, and what is neither object nor list, nobody changes."""
    return transform(value, lambda leaf: leaf)


def _children(part: Schema) -> Iterator[tuple[str, Any]]:
    yield from part.get("properties", {}).items()
    yield from ((str(position), child) for position, child in enumerate(part.get("prefixItems", ())))
    for name in ("items", "additionalProperties"):
        if name in part:
            yield "*", part[name]
    yield from (("*", child) for child in part.get("patternProperties", {}).values())


def _beneath(parts: Iterable[Schema], step: str | int) -> list[Any]:
    """What schemas of one place say about an element of its list or a property of its object."""
    found: list[Any] = []
    for part in parts:
        if isinstance(step, int):
            prefix = part.get("prefixItems", ())
            found.append(prefix[step] if step < len(prefix) else part.get("items"))
        elif step in part.get("properties", {}):
            found.append(part["properties"][step])
        else:
            # Which pattern a name matches is for the validator to say; for sensitivity, one that may is enough.
            found.extend(part.get("patternProperties", {}).values())
            found.append(part.get("additionalProperties"))
    return found


def _is_sensitive(part: Schema) -> bool:
    return part.get("writeOnly") is True or part.get("x-sensitive") is True


def _refuse_explosion(root: Schema) -> None:
    """References can make a schema of a few lines that takes the validator hours: its size is counted written out."""
    document = _Document(root)
    sizes: dict[int, int] = {}

    def size(schema: Any, depth: int) -> int:
        if not isinstance(schema, (Mapping, list)):
            return 0
        if id(schema) in sizes:
            return sizes[id(schema)]
        sizes[id(schema)] = 0
        inner = schema if isinstance(schema, list) else (*schema.values(), *document.referred(schema))
        total = 1 + sum(size(child, depth + 1) for child in inner)
        if total > MAX_EXPANSION or depth > 2 * MAX_DEPTH:
            raise LimitExceeded(_TOO_LARGE)
        sizes[id(schema)] = total
        return total

    size(root, 0)


def _plain(value: Value, path: Path, unknown: list[Path]) -> Value:
    """The revealed tree; places of UNKNOWN are noted, and null there."""
    if isinstance(value, Secret):
        return _plain(value.value, path, unknown)
    if value is UNKNOWN:
        unknown.append(path)
        return None
    if type(value) in PLAIN:
        return value
    if isinstance(value, (dict, Mapping)):
        return {key: _plain(item, (*path, key), unknown) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, (*path, str(position)), unknown) for position, item in enumerate(value)]
    return value


def _is_decided(error: jsonschema_rs.ValidationError, unknown: list[Path]) -> bool:
    """Whether the error stands whatever the unknown values turn out to be."""
    if not unknown:
        return True
    if _UNDECIDED.intersection(map(str, error.evaluation_path)):
        return False
    place = tuple(map(str, error.instance_path))
    if place in unknown:
        return False
    beneath = any(path[: len(place)] == place for path in unknown)
    return not beneath or error.kind.name in _BY_NAME or error.kind.name == "type"


def _uncheckable(error: Exception) -> str:
    return f"the value cannot be checked: {type(error).__name__}"


def _refuse(uri: str) -> NoReturn:
    message = f"a schema may not refer to {uri}"
    raise ValueError(message)


def _validator_of(schema: Schema) -> jsonschema_rs.Draft202012Validator:
    return _validator(_canonical(schema))


def _canonical(schema: Schema) -> bytes:
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS, default=dict)


@lru_cache(maxsize=512)
def _validator(canonical: bytes) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(orjson.loads(canonical), retriever=_refuse, mask="the value")


def _fault(code: str, message: str, path: Path, suggestion: str | None = None) -> Diagnostic:
    return Diagnostic(Severity.ERROR, code, message, path, suggestion)
