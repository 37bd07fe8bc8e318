"""A small catalogue as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.definitions.catalogue import Catalogue
from app.domain.errors import Diagnostic
from app.domain.schemas import apply_schema

PROPERTIES = {"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"}}}
OUTPUTS = {"type": "object", "properties": {"address": {"type": "object", "properties": {"host": {}}}}}
CLOSED = {"additionalProperties": False, "required": ["name"]}


class Types:
    """Two types and one task, as plain data."""

    _types = ("cloud.network", "cloud.server")

    def has_type(self, name: str) -> bool:
        return name in self._types

    def type_names(self) -> Sequence[str]:
        return self._types

    def check(self, type_name: str, properties: Mapping[str, Any]) -> tuple[Any, list[Diagnostic]]:
        assert self.has_type(type_name)
        return apply_schema({**PROPERTIES, **CLOSED}, dict(properties))

    def properties_schema(self, type_name: str) -> Mapping[str, Any]:
        assert self.has_type(type_name)
        return {**PROPERTIES, **CLOSED}

    def outputs_schema(self, type_name: str) -> Mapping[str, Any]:
        assert self.has_type(type_name)
        return OUTPUTS

    def create_only(self, type_name: str) -> frozenset[str]:
        assert self.has_type(type_name)
        return frozenset({"/name"})

    secret = scalable = actions = create_only

    def reports(self, name: str) -> bool:
        return name in ("core.wait", "cloud.server")

    def has_task(self, name: str) -> bool:
        return name == "core.wait"

    def task_names(self) -> Sequence[str]:
        return ("core.wait",)

    def check_task(self, name: str, inputs: Mapping[str, Any]) -> tuple[Any, list[Diagnostic]]:
        assert self.has_task(name)
        return apply_schema({"properties": {"seconds": {"type": "number"}}, "required": ["seconds"]}, dict(inputs))


TYPES: Catalogue = Types()
