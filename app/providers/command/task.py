"""`command.run`: a program of the worker's machine, if the installation allows it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from app.domain.enums import LogLevel
from app.domain.errors import Diagnostic, Severity
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError, Schema, TaskType
from app.providers.processes import Limits, Program
from app.settings import Settings, SettingsError

_MEGABYTE = 1024 * 1024
_MOST_LINES, _MOST_TEXT = 10_000, 2 * _MEGABYTE
_KEPT_TEXT = 16 * 1024
_TAIL_LINES = 5
_SHORTEST_SECRET = 4
_MASK = "***"
_ENTRIES: JsonObject = {
    "type": "object",
    "maxProperties": 100,
    "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
    "additionalProperties": {"type": "string", "pattern": "^[^\\x00]*$"},
}
_CALL: JsonObject = {
    "argv": {
        "type": "array",
        "minItems": 1,
        "maxItems": 500,
        "items": {"type": "string", "pattern": "^[^\\x00]*$"},
        "description": "the program by its absolute path, and its arguments; no shell reads them",
    },
    "environment": {**_ENTRIES, "description": "all of its environment"},
    "secretEnvironment": {**_ENTRIES, "x-sensitive": True},
    "stdin": {"type": "string", "x-sensitive": True, "maxLength": _MEGABYTE},
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """The programs that may be run, and the user who runs them; None: the worker's."""

    programs: frozenset[str] = field(default_factory=frozenset)
    uid: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Allowance:
        """What the settings allow. Raises SettingsError."""
        for program in settings.commands:
            if not program.startswith("/") or Path(program).name in {"", "..", "."}:
                message = f"WINDLASS_COMMANDS: '{program}' is not the absolute path of a program"
                raise SettingsError(message)
        if settings.command_uid is not None and settings.command_uid <= 0:
            message = "WINDLASS_COMMAND_UID: the user is another one than root"
            raise SettingsError(message)
        return cls(frozenset(settings.commands), settings.command_uid)


class RunTask(TaskType):
    """Runs a program in an empty folder, which is removed afterwards."""

    name = "command.run"
    title = "Command"
    description = "Runs a program that the installation allows; its lines are the log of the step."
    reports = True
    schema: ClassVar[Schema] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["argv"],
        "properties": {
            **_CALL,
            "successCodes": {"type": "array", "items": {"type": "integer"}, "default": [0], "minItems": 1},
            "retryCodes": {
                "type": "array",
                "items": {"type": "integer"},
                "default": [],
                "description": "exit codes after which it is worth another try",
            },
            "json": {"type": "boolean", "default": False, "description": "whether what it prints is JSON, the output"},
            "repeatable": {
                "type": "boolean",
                "default": False,
                "description": "whether it may be run again when nobody knows what became of it",
            },
            "limits": {
                "type": "object",
                "additionalProperties": False,
                "default": {},
                "properties": {
                    "cpuSeconds": {"type": "integer", "minimum": 1, "maximum": 86_400, "default": 600},
                    "memoryMegabytes": {"type": "integer", "minimum": 16, "maximum": 65_536, "default": 1024},
                    "fileMegabytes": {"type": "integer", "minimum": 1, "maximum": 65_536, "default": 1024},
                    "files": {"type": "integer", "minimum": 16, "maximum": 4096, "default": 256},
                    "processes": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 512},
                },
            },
            "undo": {
                "type": "object",
                "additionalProperties": False,
                "required": ["argv"],
                "properties": _CALL,
                "description": "run to take it back",
            },
        },
    }
    outputs_schema: ClassVar[Schema] = {
        "type": "object",
        "required": ["exitCode", "output"],
        "properties": {
            "exitCode": {"type": "integer"},
            "output": {"description": "what it printed: the last of its text, or its JSON"},
        },
    }

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    def check(self, inputs: Mapping[str, Any]) -> tuple[JsonObject, list[Diagnostic]]:
        value, faults = super().check(inputs)
        undo = value.get("undo")
        calls = [((), value), (("undo",), undo)] if isinstance(undo, Mapping) else [((), value)]
        for path, call in calls:
            argv = call.get("argv")
            if isinstance(argv, list) and argv and isinstance(argv[0], str):
                refusal = self._refusal(argv[0])
                if refusal is not None:
                    faults.append(Diagnostic(Severity.ERROR, "NOT_ALLOWED", refusal, (*path, "argv", "0")))
        if not self._allowance.programs and not faults:
            faults.append(Diagnostic(Severity.ERROR, "NOT_ALLOWED", self._off(), ("argv",)))
        return value, faults

    def can_repeat(self, inputs: Mapping[str, Any]) -> bool:
        return inputs.get("repeatable") is True

    def can_undo(self, inputs: Mapping[str, Any]) -> bool:
        return inputs.get("undo") is not None

    async def run(self, context: Context, inputs: JsonObject) -> JsonObject:
        output, code = await self._call(context, inputs, inputs)
        if not inputs.get("json"):
            return {"exitCode": code, "output": output}
        try:
            return {"exitCode": code, "output": json.loads(output)}
        except ValueError as error:
            message = (
                f"what {Path(inputs['argv'][0]).name} printed is not JSON, or has more than {_KEPT_TEXT} characters"
            )
            raise ProviderError(ErrorKind.INVALID, message) from error

    async def undo(self, context: Context, inputs: JsonObject, outputs: JsonObject) -> None:  # noqa: ARG002
        call = inputs.get("undo")
        if call is not None:
            await self._call(context, call, {**inputs, "successCodes": [0]})

    async def _call(self, context: Context, call: JsonObject, rules: JsonObject) -> tuple[str, int]:
        """Runs one of the two programs; what it printed, and its exit code."""
        refusal = self._refusal(call["argv"][0])
        if refusal is not None:
            raise ProviderError(ErrorKind.ACCESS_DENIED, refusal, path=("argv", "0"))
        name = Path(call["argv"][0]).name
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="windlass-command-"))
        try:
            if self._allowance.uid is not None:
                os.chown(folder, self._allowance.uid, self._allowance.uid)
            program = self._program(call, rules.get("limits") or {}, folder)
            if program.is_too_large:
                message = "arguments and environment together are too large"
                raise ProviderError(ErrorKind.INVALID, message, path=("argv",))
            report = _Report(context, _secrets(call))
            code = await program.run(context, report.hear)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if code in (rules.get("successCodes") or [0]):
            return report.text, code
        kind = ErrorKind.UNAVAILABLE if code in (rules.get("retryCodes") or ()) else ErrorKind.INTERNAL
        message = f"{name} {_ended(code)}" + (f": {report.tail}" if report.tail else "")
        raise ProviderError(kind, message, code=f"EXIT_{code}" if code >= 0 else "SIGNAL")

    def _program(self, call: JsonObject, limits: JsonObject, folder: Path) -> Program:
        return Program(
            argv=call["argv"],
            folder=folder,
            environment={**(call.get("environment") or {}), **(call.get("secretEnvironment") or {})},
            stdin=(call.get("stdin") or "").encode(),
            limits=Limits(
                cpu_seconds=limits.get("cpuSeconds", 600),
                memory_bytes=limits.get("memoryMegabytes", 1024) * _MEGABYTE,
                file_bytes=limits.get("fileMegabytes", 1024) * _MEGABYTE,
                files=limits.get("files", 256),
                processes=limits.get("processes", 512),
            ),
            uid=self._allowance.uid,
        )

    def _refusal(self, program: str) -> str | None:
        if not self._allowance.programs:
            return self._off()
        if program not in self._allowance.programs:
            return (
                f"this installation does not allow {program}; it allows {', '.join(sorted(self._allowance.programs))}"
            )
        return None

    def _off(self) -> str:
        return "this installation runs no commands (WINDLASS_COMMANDS names none)"


class _Report:
    """Tells what a program says: every line up to a bound, and the last of it once more."""

    def __init__(self, context: Context, secrets: tuple[str, ...]) -> None:
        self._context = context
        self._secrets = secrets
        self._lines = self._told = 0
        self._printed: list[str] = []
        self._kept = 0
        self._last: list[str] = []

    async def hear(self, stream: str, line: str) -> None:
        for secret in self._secrets:
            line = line.replace(secret, _MASK)
        self._last = [*self._last, line.strip()][-_TAIL_LINES:]
        if stream == "stdout":
            self._keep(line)
        self._lines += 1
        self._told += len(line)
        if self._lines <= _MOST_LINES and self._told <= _MOST_TEXT:
            self._context.log(line, LogLevel.WARN if stream == "stderr" else LogLevel.INFO, stream)
            await self._context.drain()
        elif self._lines - 1 <= _MOST_LINES and self._told - len(line) <= _MOST_TEXT:
            self._context.log("what it says beyond this is left out", LogLevel.WARN, "engine")

    @property
    def text(self) -> str:
        return "\n".join(self._printed)

    @property
    def tail(self) -> str:
        return "; ".join(filter(None, self._last))

    def _keep(self, line: str) -> None:
        self._printed.append(line)
        self._kept += len(line) + 1
        while self._kept > _KEPT_TEXT and self._printed:
            self._kept -= len(self._printed.pop(0)) + 1


def _secrets(call: JsonObject) -> tuple[str, ...]:
    """What must not be told again: each value, and each line of one."""
    values = [*(call.get("secretEnvironment") or {}).values(), call.get("stdin") or ""]
    lines = {line.strip() for value in values for line in value.splitlines()} | set(values)
    return tuple(sorted((line for line in lines if len(line) >= _SHORTEST_SECRET), key=len, reverse=True))


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by the signal {-code}"
