"""The log of a step while it runs: lines gathered, redacted, and written in batches.

A batch is written 50 ms after its first line, or when it is full; lines that wait when the step ends are written in the
transaction of its outcome. A worker that lost its step writes nothing more: the fence is checked with every batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from app import clock
from app.db import journal
from app.db.statements import Statement
from app.db.uow import Database
from app.domain.enums import LogLevel
from app.domain.events import Event, EventKind, Stream
from app.domain.values import Secret, Value, leaves

_FLUSH_SECONDS = 0.05
_FULL = 500
_LINE_LIMIT = 16_384
_SHORTEST_SECRET = 4
_MASK = "***"

_HOLDS = Statement(
    "SELECT 1 FROM step_run WHERE tenant_id = :tenant AND id = :step AND fence = :fence AND worker_id IS NOT NULL"
)

_PERCENT = Statement("UPDATE step_run SET percent = :percent WHERE tenant_id = :tenant AND id = :step")

_logger = structlog.get_logger(__name__)


class StepLog:
    """Collects the lines of one attempt. Not for use from several threads."""

    def __init__(
        self,
        database: Database,
        *,
        tenant_id: int,
        job_id: int,
        step_id: int,
        step_key: str,
        attempt: int,
        fence: int,
        hidden: Value,
        words: frozenset[str] = frozenset(),
        line_budget: int = 100_000,
    ) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._job_id = job_id
        self._step_id = step_id
        self._step_key = step_key
        self._attempt = attempt
        self._fence = fence
        self._secrets = _spellings(hidden, words)
        self._lines: list[dict[str, Any]] = []
        self._progress: dict[str, Any] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._writing = False
        self._budget = line_budget

    def add(self, message: str, level: LogLevel, stream: str, fields: Mapping[str, Any]) -> None:
        """Add a line; one with line breaks becomes several, one that is too long is continued on the next."""
        for line in message.replace("\x00", "").splitlines() or [""]:
            shown = self._redact(line)
            for start in range(0, max(len(shown), 1), _LINE_LIMIT):
                self._append(shown[start : start + _LINE_LIMIT], level, stream, fields)

    def failure(self, message: str) -> None:
        """Add the line that says why the attempt failed."""
        self.add(message, LogLevel.ERROR, "engine", {})

    def progress(self, percent: float | None, message: str) -> None:
        """Say how far the step is; only the newest word is written."""
        self._progress = {"percent": percent, "message": self._redact(message)}
        self._start_flushing()

    def take(self) -> list[dict[str, Any]]:
        """The lines not yet written, for the caller to write."""
        lines, self._lines = self._lines, []
        return lines

    async def settle(self) -> None:
        """Wait until no batch is being written; lines that only wait for their turn are left for `take`."""
        if self._flushing is None:
            return
        if not self._writing:
            self._flushing.cancel()
        await asyncio.wait({self._flushing})

    def _append(self, message: str, level: LogLevel, stream: str, fields: Mapping[str, Any]) -> None:
        if self._budget <= 0:
            return
        self._budget -= 1
        if self._budget == 0:
            message, level, fields = "the log of this attempt is full; further lines are left out", LogLevel.WARN, {}
        line: dict[str, Any] = {
            "at": clock.utc_now().isoformat(),
            "level": level.value,
            "stream": stream,
            "message": message,
        }
        if fields:
            line["fields"] = {name: self._redact(str(value)) for name, value in fields.items()}
        self._lines.append(line)
        self._start_flushing()

    def _start_flushing(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            lines, self._lines = self._lines[:_FULL], self._lines[_FULL:]
            progress, self._progress = self._progress, None
            if not lines and progress is None:
                return
            self._writing = True
            try:
                await self._write(lines, progress)
            except Exception:  # the next flush, or the outcome, brings the lines
                _logger.warning("log lines could not be written yet", step_run_id=self._step_id, exc_info=True)
                self._lines[:0] = lines
            finally:
                self._writing = False
            if not self._lines and self._progress is None:
                return

    async def _write(self, lines: list[dict[str, Any]], progress: dict[str, Any] | None) -> None:
        async with self._database.machine(
            self._tenant_id, actor="system:engine", correlation_id=f"job-{self._job_id}"
        ) as transaction:
            transaction.authorize("engine: holder of the step")
            held = await transaction.fetch_one(
                _HOLDS, {"tenant": self._tenant_id, "step": self._step_id, "fence": self._fence}
            )
            if held is None:
                return
            if lines:
                await journal.append_lines(
                    transaction,
                    self._job_id,
                    lines,
                    step_run_id=self._step_id,
                    step_key=self._step_key,
                    attempt=self._attempt,
                )
            if progress is not None:
                data = {"jobId": self._job_id, "stepRunId": self._step_id, "stepKey": self._step_key, **progress}
                await journal.append(transaction, Stream.JOB, self._job_id, [Event(EventKind.STEP_PROGRESSED, data)])
                await transaction.fetch(
                    _PERCENT, {"tenant": self._tenant_id, "step": self._step_id, "percent": progress["percent"]}
                )

    def _redact(self, line: str) -> str:
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, _MASK)
        return line


def _spellings(hidden: Value, words: frozenset[str]) -> tuple[str, ...]:
    """The secret strings to look for, longest first; very short ones would mask half of every line."""
    found = {
        str(leaf.value)
        for _, leaf in leaves(hidden)
        if isinstance(leaf, Secret) and len(str(leaf.value)) >= _SHORTEST_SECRET
    }
    return tuple(sorted(found | words, key=len, reverse=True))
