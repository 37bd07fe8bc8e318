"""Steps that ask a server for something once: `http.request`, and `http.webhook`, which tells it something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from app.egress import Answer
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError, Schema, TaskType
from app.providers.http.api import decoded
from app.providers.http.templates import ABSENT, filled, filled_path, pointed

_PATH = {"type": "string", "pattern": "^/[^#\\s]*$", "maxLength": 1000}
_GONE = frozenset({404, 410})
_SAFE_TO_REPEAT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_WAIT_SECONDS, _LONGEST_WAIT = 1.0, 60.0
_UNDO = "-undo"


def _is_named(inputs: Mapping[str, Any], name: str) -> bool:
    return inputs.get(name) is not None


class RequestTask(TaskType):
    """One request; a 202 with a Location is followed until the server is done."""

    name = "http.request"
    title = "HTTP request"
    description = "Sends one request, and another one to take it back if `undo` says which."
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["path"],
        "properties": {
            "method": {"enum": ["GET", "POST", "PUT", "PATCH", "DELETE"], "default": "POST"},
            "path": _PATH,
            "body": {},
            "outputs": {
                "type": "object",
                "default": {},
                "maxProperties": 50,
                "additionalProperties": {"type": "string", "pattern": "^(/.*)?$", "maxLength": 200},
                "description": "JSON pointers into the answer, by the name of the output",
            },
            "repeatable": {
                "type": "boolean",
                "default": False,
                "description": "whether a POST or PATCH may be sent again when nobody knows what became of it",
            },
            "undo": {
                "type": "object",
                "additionalProperties": False,
                "required": ["path"],
                "properties": {
                    "method": {"enum": ["POST", "PUT", "PATCH", "DELETE"], "default": "POST"},
                    "path": _PATH,
                    "body": {},
                },
                "description": "sent to take it back; {outputs.name} stands for an output",
            },
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["status"],
        "additionalProperties": True,
        "properties": {"status": {"type": "integer"}},
    }

    def can_repeat(self, inputs: Mapping[str, Any]) -> bool:
        return inputs.get("method", "POST") in _SAFE_TO_REPEAT or inputs.get("repeatable") is True

    def can_undo(self, inputs: Mapping[str, Any]) -> bool:
        return inputs.get("method") == "GET" or _is_named(inputs, "undo")

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        answer = await context.connection.ask(
            context, inputs.get("method", "POST"), filled_path(inputs["path"], {}), inputs.get("body")
        )
        answer = await _done(context, answer)
        wanted: Mapping[str, str] = inputs.get("outputs") or {}
        document = decoded(answer) if wanted else None
        outputs: JsonObject = {"status": answer.status_code}
        for name, pointer in wanted.items():
            found = pointed(document, pointer)
            if found is ABSENT:
                message = f"the answer has nothing at {pointer or 'its root'}"
                raise ProviderError(ErrorKind.INVALID, message, path=("outputs", name))
            outputs[name] = found
        return outputs

    async def undo(self, context: Context, inputs: JsonObject, outputs: JsonObject) -> None:
        request = inputs.get("undo")
        if request is None:
            return
        values = {"outputs": outputs}
        answer = await context.connection.ask(
            context,
            request.get("method", "POST"),
            filled_path(request["path"], values),
            filled(request.get("body"), values),
            suffix=_UNDO,
            accepted=_GONE,
        )
        await _done(context, answer)


class WebhookTask(TaskType):
    """A message as Standard Webhooks has it. Its id is the operation's: a receiver knows it again."""

    name = "http.webhook"
    title = "Webhook"
    description = "Tells a server something, and tells it something else when that is taken back."
    idempotent = True
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["type"],
        "properties": {
            "path": {**_PATH, "default": "/"},
            "type": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$"},
            "data": {"type": "object", "default": {}},
            "undo": {
                "type": "object",
                "additionalProperties": False,
                "required": ["type"],
                "properties": {
                    "type": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$"},
                    "data": {"type": "object", "default": {}},
                },
            },
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"type": "integer"}},
    }

    def can_undo(self, inputs: Mapping[str, Any]) -> bool:
        return _is_named(inputs, "undo")

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        body = {"type": inputs["type"], "data": inputs.get("data") or {}}
        answer = await context.connection.ask(context, "POST", inputs.get("path", "/"), body)
        return {"status": answer.status_code}

    async def undo(self, context: Context, inputs: JsonObject, outputs: JsonObject) -> None:  # noqa: ARG002
        told = inputs.get("undo")
        if told is not None:
            body = {"type": told["type"], "data": told.get("data") or {}}
            await context.connection.ask(context, "POST", inputs.get("path", "/"), body, suffix=_UNDO)


async def _done(context: Context, answer: Answer) -> Answer:
    """The answer that the server gives when it is done; it is waited for in place, until the step's time is up."""
    place: str | None = None
    while answer.status_code == 202 and "location" in answer.headers:
        place = context.connection.local(answer.headers["location"])
        await context.sleep(min(answer.retry_after or _WAIT_SECONDS, _LONGEST_WAIT))
        answer = await context.connection.ask(context, "GET", place, rooted=True)
    return answer
