"""Made-up values of the shape that a JSON Schema asks for: always the same, and recognisable where they are texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MARK = "simulated"
_DEEPEST = 16
_MOST_ITEMS = 100
# A schema that refers to itself in several places has no end of places.
_MOST_PLACES = 5_000
_FORMATS = {
    "date-time": "2000-01-01T00:00:00Z",
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": f"{MARK}@{MARK}.invalid",
    "hostname": f"{MARK}.invalid",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": f"https://{MARK}.invalid/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_BY_KEYWORD = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minimum": "number",
    "exclusiveMinimum": "number",
    "maximum": "number",
    "exclusiveMaximum": "number",
    "multipleOf": "number",
}


def placeholder(schema: Mapping[str, Any], name: str = "value") -> Any:
    """A value for `schema`, with everything that it declares and not only what it requires.

    What it cannot meet is `pattern`, `not`, and the like: no fault is found with a schema.
    """
    return _Maker(schema).make(schema, name, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self.root = root
        self.places = 0

    def make(self, schema: Any, name: str, depth: int) -> Any:
        self.places += 1
        if not isinstance(schema, Mapping) or depth > _DEEPEST or self.places > _MOST_PLACES:
            return None
        schema = self._whole(schema, depth)
        named = [schema[keyword] for keyword in ("const", "default") if keyword in schema]
        named.extend(schema[keyword][0] for keyword in ("enum", "examples") if schema.get(keyword))
        return named[0] if named else self._of_type(schema, name, depth)

    def _of_type(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        match _type_of(schema):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return True
            case "null":
                return None
            case _:
                return _text(schema, name)

    def _whole(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """The schema with what it refers to and combines written into it; the first of several branches."""
        merged: dict[str, Any] = {}
        branches = [self._referred(schema), *schema.get("allOf", ())]
        branches.extend(schema[keyword][0] for keyword in ("anyOf", "oneOf") if schema.get(keyword))
        for branch in branches:
            self.places += 1
            if isinstance(branch, Mapping) and depth <= _DEEPEST and self.places <= _MOST_PLACES:
                _merge(merged, self._whole(branch, depth + 1))
        _merge(merged, schema)
        return merged

    def _referred(self, schema: Mapping[str, Any]) -> Any:
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        target: Any = self.root
        for step in reference[1:].split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        return target

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        declared = schema.get("properties", {})
        further = schema.get("additionalProperties")
        made = {
            name: self.make(declared.get(name, further if isinstance(further, Mapping) else {}), name, depth + 1)
            for name in dict.fromkeys((*declared, *schema.get("required", ())))
            if depth < _DEEPEST or name in schema.get("required", ())
        }
        return {name: value for name, value in made.items() if declared.get(name) is not False}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        first = list(schema.get("prefixItems", ()))
        wanted = max(int(schema.get("minItems", 0)), len(first) or 1)
        wanted = min(wanted, int(schema.get("maxItems", wanted)), _MOST_ITEMS)
        kinds = [*first, *[schema.get("items", {})] * max(wanted - len(first), 0)][:wanted]
        return [self.make(kind, name if place == 1 else f"{name}-{place}", depth + 1)
                for place, kind in enumerate(kinds, 1)]  # fmt: skip


def _merge(into: dict[str, Any], schema: Mapping[str, Any]) -> None:
    for keyword, value in schema.items():
        if keyword == "properties":
            into["properties"] = {**into.get("properties", {}), **value}
        elif keyword == "required":
            into["required"] = list(dict.fromkeys([*into.get("required", ()), *value]))
        else:
            into[keyword] = value


def _type_of(schema: Mapping[str, Any]) -> str:
    declared = schema.get("type")
    if isinstance(declared, list):
        declared = next((kind for kind in declared if kind != "null"), "null")
    if isinstance(declared, str):
        return declared
    return next((kind for keyword, kind in _BY_KEYWORD.items() if keyword in schema), "string")


def _text(schema: Mapping[str, Any], name: str) -> str:
    made = _FORMATS.get(schema.get("format", ""), f"{MARK}-{name}")
    return made.ljust(int(schema.get("minLength", 0)), "-")[: int(schema.get("maxLength", len(made) + 10_000))]


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    """1 where that is allowed, otherwise what is allowed and nearest to the smaller bound, or to the larger one."""
    step = float(schema.get("multipleOf", 1 if whole else 0))
    lowest = float(schema.get("minimum", -math.inf))
    highest = float(schema.get("maximum", math.inf))
    nudge = step or 0.5
    if schema.get("exclusiveMinimum", -math.inf) >= lowest:
        lowest = schema.get("exclusiveMinimum", -math.inf) + nudge
    if schema.get("exclusiveMaximum", math.inf) <= highest:
        highest = schema.get("exclusiveMaximum", math.inf) - nudge
    made = min(max(1.0, lowest), highest)
    if step:
        up, down = math.ceil(made / step) * step, math.floor(made / step) * step
        made = up if up <= highest else down
    return int(made) if whole or made.is_integer() else made
