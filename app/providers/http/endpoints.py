"""How a REST resource is spoken of: the schema of `http.resource`, and its requests with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.providers.base import Context, JsonObject, Schema
from app.providers.http.templates import filled, filled_path

_PATH = {"type": "string", "pattern": "^/[^#\\s]*$", "maxLength": 1000}
_POINTER = {"type": "string", "pattern": "^(/.*)?$", "maxLength": 200}


def _request(*methods: str) -> JsonObject:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"method": {"enum": list(methods)}, "path": _PATH, "body": {}},
    }


PROPERTIES: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {**_PATH, "pattern": "^/[^#?\\s]*$", "description": "of the collection that it is created in"},
        "fields": {"type": "object", "default": {}, "description": "what is wanted; what is read is compared with it"},
        "secretFields": {
            "type": "object",
            "x-sensitive": True,
            "additionalProperties": {"type": "string"},
            "description": "sent with the fields, and never read back",
        },
        "identity": {**_POINTER, "default": "/id", "description": "where an answer holds the identity"},
        "observed": {**_POINTER, "default": "", "description": "where what is read holds the fields"},
        "outputs": {"type": "object", "default": {}, "additionalProperties": _POINTER, "maxProperties": 50},
        "replaceOn": {
            "type": "array",
            "default": [],
            "items": {"type": "string"},
            "maxItems": 100,
            "description": 'fields that cannot be changed; ["*"] for all of them',
        },
        "mark": {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]{1,100}$",
            "description": "the field that says whose it is and which operation made it",
        },
        "create": _request("POST", "PUT"),
        "read": _request("GET", "POST"),
        "update": _request("PUT", "PATCH", "POST"),
        "delete": _request("DELETE", "POST", "PUT"),
        "lookup": {
            **_request("GET", "POST"),
            "required": ["path"],
            "description": "finds what an interrupted creation has made",
            "properties": {
                **_request("GET", "POST")["properties"],
                "found": {**_POINTER, "default": "", "description": "where the answer holds it"},
            },
        },
        "progress": {
            "type": "object",
            "additionalProperties": False,
            "required": ["status", "done", "failed"],
            "description": "how an answer tells what became of what was begun; else 202 means that it is under way",
            "properties": {
                "status": _POINTER,
                "done": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "failed": {"type": "array", "items": {"type": "string"}},
                "message": _POINTER,
                "identity": _POINTER,
            },
        },
    },
}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, filled in. `body` is None where none is sent."""

    method: str
    path: str
    body: Any = None


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The requests of one resource, whose properties they are made of."""

    properties: Mapping[str, Any]
    context: Context

    def create(self) -> Request:
        return self._made("create", "POST", self.properties["path"], None, body=self._everything())

    def read(self, identity: str) -> Request:
        return self._made("read", "GET", self._item(), identity)

    def update(self, identity: str, mark: str | None) -> Request:
        return self._made("update", "PUT", self._item(), identity, body=self._everything(mark))

    def delete(self, identity: str) -> Request:
        return self._made("delete", "DELETE", self._item(), identity)

    def lookup(self) -> Request:
        return self._made("lookup", "GET", "", None)

    @property
    def looks_up(self) -> bool:
        return bool(self.properties.get("lookup"))

    @property
    def mark(self) -> str:
        """The mark that this operation leaves."""
        return f"{self.context.owner}#{self.context.operation_id}"

    def _everything(self, mark: str | None = None) -> JsonObject:
        properties = self.properties
        everything = {**(properties.get("fields") or {}), **(properties.get("secretFields") or {})}
        name = properties.get("mark")
        return {**everything, name: mark or self.mark} if name else everything

    def _item(self) -> str:
        return str(self.properties["path"]).rstrip("/") + "/{id}"

    def _made(self, name: str, method: str, path: str, identity: str | None, body: Any = None) -> Request:
        declared = self.properties.get(name) or {}
        values: JsonObject = {
            "operation": self.context.operation_id,
            "owner": self.context.owner,
            "mark": self.mark,
            "fields": self.properties.get("fields") or {},
            "secretFields": self.properties.get("secretFields") or {},
        }
        if identity is not None:
            values["id"] = identity
        content = filled(declared["body"], values) if "body" in declared else body
        return Request(declared.get("method", method), filled_path(declared.get("path", path), values), content)
