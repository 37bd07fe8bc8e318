"""The log of a step while it runs: lines gathered, redacted, and written in batches.

The first lines are written 5 ms after they are said, later ones 50 ms after the batch before, or as soon as a batch is
full; lines that wait when the step ends are written in the transaction of its outcome. The 5 ms are for steps that say
one line and are done: those need no transaction of their own. A worker that lost its step writes nothing more: the
fence is checked with every batch. What a batch that may or may not have been committed held is looked for before it is
written again, so that no line is there twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import structlog

from app import clock
from app.db import chunks, journal
from app.db.statements import Statement
from app.db.uow import Database, Transaction
from app.domain import redaction
from app.domain.enums import LogLevel
from app.domain.events import Event, EventKind
from app.domain.logs import CHUNK_LINES, CHUNK_TEXT, DEFAULT_ROOM, LogLine, LogRoom
from app.domain.values import Secret, leaves

_FIRST_SECONDS = 0.005
_FLUSH_SECONDS = 0.05
# Who awaits `drain` goes on when less is waiting than this; who does not loses what is beyond the bound. Also what
# one transaction takes at most: a statement costs as much as 250 lines do, so a backlog goes in several chunks at once.
_ENOUGH_LINES = 4 * CHUNK_LINES
_ENOUGH_TEXT = 4 * CHUNK_TEXT
_BOUND_LINES = 100_000
_BOUND_TEXT = 32 * 1024 * 1024
_LINE_LIMIT = 16_384
_LINE: Callable[[tuple[Any, ...]], LogLine] = partial(tuple.__new__, LogLine)

_NEWEST = Statement(
    "SELECT body FROM job_log WHERE tenant_id = :tenant AND job_id = :job AND step_run_id = :step"
    " AND attempt = :attempt ORDER BY first_seq DESC LIMIT 1"
)
_COUNT_LEFT_OUT = Statement(
    "UPDATE orchestration_job SET log_left_out = log_left_out + :count"
    " WHERE tenant_id = :tenant AND id = :job AND log_left_out IS NOT NULL RETURNING 1 AS one"
)

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
        secrets: Sequence[Secret] = (),
        words: frozenset[str] = frozenset(),
        room: LogRoom = DEFAULT_ROOM,
        batch_lines: int = CHUNK_LINES,
        watched: bool = False,
        speaks: bool = True,
    ) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._job_id = job_id
        self._step_id = step_id
        self._step_key = step_key
        self._attempt = attempt
        self._fence = fence
        self._secrets = _spellings(secrets, words)
        self._room = room
        self._batch_lines = batch_lines
        # Whether the row of the step has to show that something was said; and when that was.
        self._watched = watched
        # Whether anything is written before the step ends: nobody holds the step yet if not.
        self._speaks = speaks
        self.heard_at = clock.monotonic()
        # The batch that is being filled, and those that are full: packed while the one before is on its way.
        self._lines: list[LogLine] = []
        self._text = 0
        self._ready: deque[journal.Lines] = deque()
        self._ready_lines = 0
        self._ready_text = 0
        self._progress: dict[str, Any] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._writing = False
        self._full = asyncio.Event()
        # Less is waiting than was, or the writer has tried in vain.
        self._eased = asyncio.Event()
        # What was sent when the database went away: perhaps it is there.
        self._doubtful: journal.Lines | None = None
        self._left_out = 0
        # Whether so much waits that every line has to be looked at.
        self._is_pressed = False
        self._settling = False
        # The job's log is full, or the step is another's: what is said is not even gathered.
        self._is_full = False
        self._is_over = False

    def add(self, message: str, level: LogLevel, stream: str, fields: Mapping[str, Any]) -> None:
        """Add a line; one with line breaks becomes several, one that is too long is continued on the next.

        Of what a carriage return overwrites, as progress bars do, only the last state is kept.
        """
        if self._is_over:
            self._left_out += 1
            return
        at = clock.unix_micros()
        if (
            not fields
            and not self._secrets
            and len(message) <= _LINE_LIMIT
            # Whether `_clean` and `splitlines` would leave it as it is; `isprintable` takes twice as long to say that.
            and message.isascii()
            and "\x00" not in message
            and message.splitlines() == [message]
        ):
            # As most are, it is taken as it is. LogLine(…) itself takes longer.
            whole = _LINE((at, level, stream, message, None))
            gathered, text = self._lines, self._text + len(message)
            # Where others are gathered already, somebody is about to write them.
            if gathered and len(gathered) < self._batch_lines - 1 and text <= CHUNK_TEXT and not self._is_pressed:
                gathered.append(whole)
                self._text = text
            else:
                self._append(whole)
            return
        shown = {name: self._redact(_clean(str(value))) for name, value in fields.items()} if fields else None
        lines = (message,) if message.isprintable() else _clean(message).splitlines() or ("",)
        for line in lines:
            redacted = self._redact(line) if self._secrets else line
            if len(redacted) <= _LINE_LIMIT:
                self._append(LogLine(at, level, stream, redacted, shown))
                continue
            for start in range(0, len(redacted), _LINE_LIMIT):
                self._append(LogLine(at, level, stream, redacted[start : start + _LINE_LIMIT], shown))

    def failure(self, message: str) -> None:
        """Add the line that says why the attempt failed."""
        self.add(message, LogLevel.ERROR, "engine", {})

    def progress(self, percent: float | None, message: str) -> None:
        """Say how far the step is; only the newest word is written."""
        self._progress = {"percent": percent, "message": self._redact(_clean(message))}
        self._start_flushing()

    async def drain(self) -> None:
        """Wait until little enough is waiting: who has much to say awaits this now and then, and loses nothing."""
        while self.is_crowded and self._flushing is not None and not self._flushing.done():
            self._eased.clear()
            await self._eased.wait()

    def take(self) -> list[LogLine]:
        """The lines not yet written, for the caller to write."""
        self._tell_left_out()
        batches = [*self._ready] if self._doubtful is None else [self._doubtful, *self._ready]
        lines = [*chain.from_iterable(batch.lines for batch in batches), *self._lines]
        self._doubtful = None
        self._forget()
        return lines

    async def settle(self) -> None:
        """Wait until no batch is being written; lines that only wait for their turn are left for `take`."""
        if self._flushing is None:
            return
        self._settling = True
        if not self._writing and not self.is_crowded:
            self._flushing.cancel()
        await asyncio.wait({self._flushing})
        try:
            await self._resolve()
            if self._is_full and self._left_out:
                async with self._transaction() as transaction:
                    key = {"tenant": self._tenant_id, "job": self._job_id, "count": self._left_out}
                    await transaction.fetch_last(_COUNT_LEFT_OUT, key)
        except Exception:  # the outcome brings the lines; should they be there already, they are there twice
            _logger.warning("log lines may have been written", step_run_id=self._step_id, exc_info=True)

    @property
    def is_crowded(self) -> bool:
        """Whether `drain` would wait."""
        return self._ready_lines >= _ENOUGH_LINES or self._ready_text >= _ENOUGH_TEXT

    def _append(self, line: LogLine) -> None:
        lines = self._lines
        self._is_pressed = self._ready_lines >= _BOUND_LINES - CHUNK_LINES or self._ready_text >= _BOUND_TEXT
        if self._is_pressed and (self._ready_lines + len(lines) >= _BOUND_LINES or self._ready_text >= _BOUND_TEXT):
            self._left_out += 1
            return
        if self._left_out:
            self._tell_left_out()
        size = len(line.message)
        text = self._text + size
        if text > CHUNK_TEXT and lines:
            self._close()
            lines, text = self._lines, size
        lines.append(line)
        self._text = text
        if len(lines) >= self._batch_lines:
            self._close()
        elif self._flushing is None or self._flushing.done():
            self._start_flushing()

    def _close(self) -> None:
        """The batch is full."""
        lines, self._lines, self._text = self._lines, [], 0
        packed = ((len(lines), chunks.pack(lines)),)
        batch = journal.Lines(lines, self._step_id, self._step_key, self._attempt, self._room, packed)
        self._count(batch)
        self._ready.append(batch)
        self._start_flushing()

    def _forget(self) -> None:
        self._lines, self._text = [], 0
        self._ready.clear()
        self._ready_lines = self._ready_text = 0

    def _tell_left_out(self) -> None:
        """Say where lines are missing that came faster than they could be written. A full job says so itself."""
        if self._left_out and not self._is_over:
            told = f"{self._left_out} lines came faster than they could be written, and are left out"
            line = LogLine(clock.unix_micros(), LogLevel.WARN, "engine", told, {"leftOut": self._left_out})
            self._lines.append(line)
            self._left_out = 0

    def _start_flushing(self) -> None:
        if self._speaks and (self._flushing is None or self._flushing.done()):
            self._flushing = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        pause = _FIRST_SECONDS
        while True:
            await self._pause(pause)
            pause = _FLUSH_SECONDS
            batch = self._batch()
            progress, self._progress = self._progress, None
            self._writing = True
            try:
                await self._resolve()
                if batch is not None or progress is not None:
                    await self._write(batch, progress)
            except Exception:  # the next flush, or the outcome, brings the lines
                _logger.warning("log lines could not be written yet", step_run_id=self._step_id, exc_info=True)
                self._progress = _newer(self._progress, progress)
                if self._doubtful is None:
                    self._doubtful = batch
                elif batch is not None:
                    self._count(batch)
                    self._ready.appendleft(batch)
                failed = True
            else:
                failed = False
            finally:
                self._writing = False
                self._eased.set()
            waits = self._lines or self._ready or self._doubtful is not None or self._progress is not None
            if not waits or (self._settling and (failed or not self.is_crowded)):
                return
            if failed:
                await asyncio.sleep(_FLUSH_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait for more lines, unless there is a batch of them."""
        if self._ready:
            return
        self._full.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._full.wait()
        except TimeoutError:
            return

    def _batch(self) -> journal.Lines | None:
        """Take the next batch off those that wait, and those behind it that go with it in one transaction."""
        if not self._ready and self._lines:
            self._close()
        if not self._ready:
            return None
        batch = self._ready.popleft()
        lines, packed, text = [*batch.lines], [*batch.packed], _text_of(batch)
        while self._ready and len(lines) + len(self._ready[0].lines) <= _ENOUGH_LINES and text <= _ENOUGH_TEXT:
            more = self._ready.popleft()
            lines += more.lines
            packed += more.packed
            text += _text_of(more)
        self._ready_lines -= len(lines)
        self._ready_text -= text
        self._eased.set()
        return replace(batch, lines=lines, packed=packed)

    def _count(self, batch: journal.Lines) -> None:
        """The batch is about to be among those that are ready."""
        self._ready_lines += len(batch.lines)
        self._ready_text += _text_of(batch)
        self._full.set()

    async def _resolve(self) -> None:
        """Write the batch of which it is not known whether it is there, unless it is."""
        batch = self._doubtful
        if batch is None:
            return
        async with self._transaction() as transaction:
            key = {"tenant": self._tenant_id, "job": self._job_id, "step": self._step_id, "attempt": self._attempt}
            newest = await transaction.fetch_last(_NEWEST, key)
        # The moments in it are of microseconds: equal is the same.
        if newest is None or newest["body"] != batch.packed[-1][1].body:
            await self._write(batch, None)
        self._doubtful = None

    async def _write(self, batch: journal.Lines | None, progress: dict[str, Any] | None) -> None:
        entries: list[journal.Entry] = [] if batch is None else [batch]
        if progress is not None:
            data = {"jobId": self._job_id, "stepRunId": self._step_id, "stepKey": self._step_key, **progress}
            entries.append(Event(EventKind.STEP_PROGRESSED, data))
        percent = None if progress is None else progress["percent"]
        holder = journal.Holder(self._step_id, self._fence, percent, self._watched)
        async with self._transaction() as transaction:
            full = await journal.append_held(transaction, self._job_id, entries, holder, progress=progress is not None)
        if full or full is None:
            self._is_full, self._is_over = bool(full), True
            self._left_out += self._ready_lines + len(self._lines)
            self._forget()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        async with self._database.machine(
            self._tenant_id, actor="system:engine", correlation_id=f"job-{self._job_id}"
        ) as transaction:
            transaction.authorize("engine: holder of the step")
            yield transaction

    def _redact(self, line: str) -> str:
        return redaction.without(line, self._secrets)


def _text_of(batch: journal.Lines) -> int:
    """How much there is of it before packing, in bytes."""
    return sum(one.size for _, one in batch.packed)


def _newer(said: dict[str, Any] | None, unwritten: dict[str, Any] | None) -> dict[str, Any] | None:
    """What was said meanwhile, or else what could not be written."""
    return unwritten if said is None else said


def _clean(text: str) -> str:
    """The text without NUL, and without what a carriage return has overwritten."""
    if "\x00" in text:
        text = text.replace("\x00", "")
    if "\r" in text:
        lines = text.replace("\r\n", "\n").split("\n")
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _spellings(secrets: Sequence[Secret], words: frozenset[str]) -> tuple[str, ...]:
    """The texts to look for."""
    found = {str(inner) for secret in secrets for _, inner in leaves(secret.value) if not isinstance(inner, bool)}
    return redaction.spellings(found | words)
