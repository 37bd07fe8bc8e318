"""The tasks of the provider `core`: they touch nothing, so taking them back is nothing."""

from __future__ import annotations

from typing import ClassVar

from app import clock
from app.domain.enums import LogLevel
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError, Schema, TaskType

STEP_SECONDS = 0.5
DAY_SECONDS = 86_400


class HarmlessTask(TaskType):
    """A task that leaves the world as it was."""

    idempotent = True
    undoable = True

    async def undo(self, context: Context, inputs: JsonObject, outputs: JsonObject) -> None:
        """Nothing to take back."""


class PassTask(HarmlessTask):
    """Succeeds, and hands on what it is given."""

    name = "core.pass"
    title = "Pass"
    description = "Does nothing; its outputs are the input `outputs`."
    pure = True
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"outputs": {"type": "object", "default": {}}},
    }
    outputs_schema: ClassVar[Schema] = {"type": "object"}

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:  # noqa: ARG002
        return dict(inputs.get("outputs") or {})


class WaitTask(HarmlessTask):
    """Waits, and says how far it is."""

    name = "core.wait"
    title = "Wait"
    description = "Waits for a while; stops at once when the job is cancelled."
    reports = True
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["seconds"],
        "properties": {"seconds": {"type": "number", "minimum": 0, "maximum": DAY_SECONDS}},
    }

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        seconds = float(inputs["seconds"])
        begin = clock.monotonic()
        while (left := seconds - (clock.monotonic() - begin)) > 0:
            context.progress(100 * (1 - left / seconds), f"{left:.1f} s left")
            await context.sleep(min(left, STEP_SECONDS))
        context.progress(100)
        return {}


class AssertTask(HarmlessTask):
    """Fails unless something holds."""

    name = "core.assert"
    title = "Assert"
    description = "Fails with the message unless `that` is true."
    pure = True
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["that"],
        "properties": {
            "that": {"type": "boolean"},
            "message": {"type": "string", "minLength": 1, "default": "the assertion does not hold"},
        },
    }

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:  # noqa: ARG002
        if inputs["that"] is not True:
            message = inputs.get("message", "the assertion does not hold")
            raise ProviderError(ErrorKind.INVALID, message, code="ASSERTION_FAILED", path=("that",))
        return {}


class LogTask(HarmlessTask):
    """Writes to the log of its step."""

    name = "core.log"
    title = "Log"
    description = "Writes a line to the log, once or again and again."
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["message"],
        "properties": {
            "message": {"type": "string"},
            "level": {"enum": [level.value for level in LogLevel], "default": "INFO"},
            "repeat": {"type": "integer", "minimum": 1, "maximum": 100_000, "default": 1},
            "intervalSeconds": {"type": "number", "minimum": 0, "maximum": DAY_SECONDS, "default": 0},
        },
    }

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        repeat, level = inputs.get("repeat", 1), LogLevel(inputs.get("level", "INFO"))
        for number in range(1, repeat + 1):
            context.log(inputs["message"], level, "core.log")
            context.progress(100 * number / repeat)
            if number < repeat:
                # Also with no interval: other work goes on in between, and a cancellation is heard.
                await context.sleep(float(inputs.get("intervalSeconds", 0)))
        return {}
