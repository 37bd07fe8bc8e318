"""Runs of OpenTofu: a folder with the module and its variables, and what the program says as log lines."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.domain.enums import LogLevel
from app.domain.errors import Diagnostic, Severity
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError
from app.providers.processes import Program
from app.providers.sources import Sources
from app.providers.tofu.backend import OVERRIDE, OVERRIDE_FILE, Backend

_MOST_BYTES = 64 * 1024 * 1024
_GRACE_SECONDS = 8.0
_SHORTEST_SECRET = 4
_MASK = "***"
_LEVELS = {"error": LogLevel.ERROR, "warn": LogLevel.WARN, "debug": LogLevel.DEBUG, "trace": LogLevel.DEBUG}
_SKIPPED = frozenset({"version"})
_MEANINGS = (
    ("Error acquiring the state lock", ErrorKind.CONFLICT),
    ("connection refused", ErrorKind.UNAVAILABLE),
    ("i/o timeout", ErrorKind.UNAVAILABLE),
    ("AccessDenied", ErrorKind.ACCESS_DENIED),
    ("Unsupported argument", ErrorKind.INVALID),
    ("No value for required variable", ErrorKind.INVALID),
    ("Invalid", ErrorKind.INVALID),
)


@dataclass(frozen=True, slots=True)
class Installation:
    """What an operator has set up. `inline`: whether tenants may bring modules of their own, which run as they like."""

    binary: str = "tofu"
    backend: Backend | None = None
    sources: Sources = field(default_factory=Sources)
    inline: bool = False
    uid: int | None = None


@dataclass(slots=True)
class Run:
    """One workspace's folder, while it is worked on. `planned` counts what the last plan would change."""

    context: Context
    program: str
    folder: Path
    environment: Mapping[str, str]
    secrets: Sequence[str]
    uid: int | None
    planned: int = 0
    done: int = 0
    errors: list[str] = field(default_factory=list)

    async def call(self, *arguments: str, accepted: Sequence[int] = (0,)) -> int:
        """Runs one subcommand. Raises ProviderError with what went wrong, and OperationCancelled."""
        self.errors.clear()
        program = Program(
            argv=[self.program, *arguments],
            folder=self.folder,
            environment=self.environment,
            uid=self.uid,
            # Asked like that, it finishes what is under way and writes the state.
            farewell=signal.SIGINT,
            grace_seconds=_GRACE_SECONDS,
        )
        if program.is_too_large:
            message = "the variables are too large"
            raise ProviderError(ErrorKind.INVALID, message, path=("sensitiveVariables",))
        code = await program.run(self.context, self._hear)
        if code in accepted:
            return code
        told = "; ".join(self.errors)[-1500:] or f"it ended with {code}"
        kind = next((kind for words, kind in _MEANINGS if words in told), ErrorKind.INTERNAL)
        if code < 0 and arguments[0] in {"apply", "destroy"}:
            kind = ErrorKind.OUTCOME_UNKNOWN
        message = f"{Path(self.program).name} {arguments[0]}: {told}"
        raise ProviderError(kind, message, code="TOFU")

    async def validate(self) -> list[Diagnostic]:
        """What is wrong with the module, each with its file and line."""
        lines: list[str] = []

        async def hear(stream: str, line: str) -> None:
            if stream == "stdout":
                lines.append(line)

        program = Program(
            argv=[self.program, "validate", "-json", "-no-color"],
            folder=self.folder,
            environment=self.environment,
            uid=self.uid,
        )
        await program.run(self.context, hear)
        try:
            told = json.loads("\n".join(lines))
        except ValueError as error:
            message = f"{Path(self.program).name} validate: it did not answer in JSON"
            raise ProviderError(ErrorKind.INTERNAL, message) from error
        return [_diagnostic(one) for one in told.get("diagnostics") or ()]

    async def _hear(self, stream: str, line: str) -> None:
        for secret in self.secrets:
            line = line.replace(secret, _MASK)
        # Where on this machine the folder is concerns nobody who reads the log.
        line = line.replace(str(self.folder), ".")
        told = _event(line)
        if told is None:
            if line.strip():
                self.context.log(line, LogLevel.WARN if stream == "stderr" else LogLevel.INFO, "tofu")
                if stream == "stderr":
                    self.errors = [*self.errors, line.strip()][-10:]
        elif told.get("type") not in _SKIPPED:
            self._heed(told)
        await self.context.drain()

    def _heed(self, told: Mapping[str, Any]) -> None:
        level = _LEVELS.get(str(told.get("@level")), LogLevel.INFO)
        self.context.log(str(told.get("@message", "")), level, "tofu")
        match told.get("type"):
            case "change_summary":
                changes = told.get("changes") or {}
                if changes.get("operation") == "plan":
                    self.planned = sum(int(changes.get(name) or 0) for name in ("add", "change", "remove"))
            case "apply_complete":
                self.done += 1
                if self.planned:
                    self.context.progress(min(100.0, 100 * self.done / self.planned), str(told.get("@message", "")))
            case "diagnostic":
                diagnostic = told.get("diagnostic") or {}
                if diagnostic.get("severity") == "error":
                    parts = (diagnostic.get("address"), diagnostic.get("summary"), diagnostic.get("detail"))
                    self.errors.append(": ".join(str(part).strip() for part in parts if part))


@asynccontextmanager
async def prepared(
    context: Context,
    installation: Installation,
    backend: Backend,
    properties: JsonObject,
    config: Mapping[str, Any],
    *,
    keeps: bool = True,
) -> AsyncIterator[Run]:
    """A run whose module is in place and initialised; its folder is removed afterwards.

    `keeps`: it has to do with what is kept of the workspace.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="windlass-tofu-"))
    try:
        await asyncio.to_thread(_fill, folder, installation, properties)
        secrets = properties.get("sensitiveVariables") or {}
        given = config.get("environment") or {}
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "TF_CLI_CONFIG_FILE": os.devnull,
            "CHECKPOINT_DISABLE": "1",
            **given,
            **{f"TF_VAR_{name}": _written(value) for name, value in secrets.items()},
            **backend.environment(context, properties["name"]),
        }
        hidden = [_written(value) for value in secrets.values()] + [str(value) for value in given.values()]
        run = Run(
            context,
            _program(installation.binary),
            folder,
            environment,
            sorted((word for word in hidden if len(word) >= _SHORTEST_SECRET), key=len, reverse=True),
            installation.uid,
        )
        await run.call("init", "-input=false", "-no-color", *([] if keeps else ["-backend=false"]))
        yield run
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _fill(folder: Path, installation: Installation, properties: JsonObject) -> None:
    if properties.get("source"):
        source = installation.sources.find(properties["source"], field="source")
        if not source.is_dir():
            message = f"{properties['source']} is not a folder"
            raise ProviderError(ErrorKind.INVALID, message, path=("source",))
        size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        if size > _MOST_BYTES:
            message = f"the module has more than {_MOST_BYTES} bytes"
            raise ProviderError(ErrorKind.INVALID, message, path=("source",))
        leave = shutil.ignore_patterns(".terraform", "*.tfstate", "*.tfstate.*", ".git")
        shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True, ignore=leave)
    elif not installation.inline:
        message = "this installation does not run modules of tenants' own (WINDLASS_TOFU_INLINE)"
        raise ProviderError(ErrorKind.ACCESS_DENIED, message, path=("files",))
    for name, content in (properties.get("files") or {}).items():
        (folder / name).write_text(content)
    (folder / OVERRIDE_FILE).write_bytes(OVERRIDE)
    (folder / "windlass.auto.tfvars.json").write_text(json.dumps(properties.get("variables") or {}))
    if installation.uid is not None:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, installation.uid, installation.uid, follow_symlinks=False)


def _diagnostic(told: Mapping[str, Any]) -> Diagnostic:
    place = told.get("range") or {}
    line = (place.get("start") or {}).get("line")
    where = f"{place['filename']} line {line}: " if place.get("filename") else ""
    text = ": ".join(str(told[part]).strip() for part in ("summary", "detail") if told.get(part))
    severity = Severity.ERROR if told.get("severity") == "error" else Severity.WARN
    return Diagnostic(severity, "TOFU", f"{where}{text}", ("source",))


def _program(binary: str) -> str:
    found = binary if os.path.isabs(binary) else shutil.which(binary)  # noqa: PTH117  a setting's text
    if found is None or not Path(found).is_file():
        message = f"this worker has no {binary} (WINDLASS_TOFU_BINARY)"
        raise ProviderError(ErrorKind.INVALID, message)
    return found


def _event(line: str) -> dict[str, Any] | None:
    """What the program says with -json; None for anything else."""
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and "@message" in told else None


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
