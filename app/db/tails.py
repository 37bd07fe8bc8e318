"""The end of a job's log as the customer's column `logs` has it, written once, when the job is over.

{"v": 1, "lastSeq", "lines", "bytes", "complete", "leftOut", "entries": [{"seq", "at", "level", "stream", "message",
"fields"?, "step"}]}: `lines` and `bytes` count the whole log, `complete` says whether all of it is among the entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.db import chunks
from app.db.statements import Row, Statement
from app.db.uow import Transaction
from app.domain.logs import stamps

_LINES = 100
_TEXT = 64 * 1024
_TAIL = Statement(
    "SELECT j.log_lines, j.log_bytes, j.log_left_out, l.first_seq, l.last_seq, l.step_key, l.codec, l.body"
    " FROM orchestration_job j LEFT JOIN LATERAL ("
    "   SELECT c.first_seq, c.last_seq, c.step_key, c.codec, c.body FROM ("
    "     SELECT b.*, sum(b.last_seq - b.first_seq + 1) OVER (ORDER BY b.first_seq DESC) AS lines FROM ("
    "       SELECT * FROM job_log WHERE tenant_id = :tenant AND job_id = :id ORDER BY first_seq DESC LIMIT :most) b"
    "   ) c WHERE c.lines - (c.last_seq - c.first_seq + 1) < :most) l ON true"
    " WHERE j.tenant_id = :tenant AND j.id = :id ORDER BY l.first_seq DESC"
)


async def tail(transaction: Transaction, job_id: int) -> dict[str, Any]:
    """The value of the column: the last hundred lines, or as many of them as have 64 KiB of text."""
    rows = await transaction.fetch(_TAIL, {"tenant": transaction.tenant_id, "id": job_id, "most": _LINES})
    if not rows:
        message = f"there is no job {job_id} to tell of"
        raise LookupError(message)
    found = [row for row in rows if row["first_seq"] is not None]
    return _column(found, rows[0]["log_lines"], rows[0]["log_bytes"], rows[0]["log_left_out"])


@dataclass(slots=True)
class Heard:
    """The end of a log that one process has written from its first line on, so that nobody has to read it."""

    lines: int = 0
    bytes: int = 0
    # As `_TAIL` has them, but the oldest first.
    chunks: list[Row] = field(default_factory=list)

    def hear(self, start: int, values: Mapping[str, Any]) -> Heard:
        """Take in what was written with these values (`journal.parameters`), behind the number `start`."""
        self.lines += values["line_count"]
        self.bytes += values["line_bytes"]
        columns = (values[name] for name in ("line_places", "spans", "keys", "codecs", "bodies"))
        for place, span, key, codec, body in zip(*columns, strict=True):
            first = start + place
            row: Row = {"first_seq": first, "last_seq": first + span - 1, "step_key": key, "codec": codec, "body": body}
            self.chunks.append(row)
        kept = 0
        for number, row in enumerate(reversed(self.chunks)):
            if kept >= _LINES:
                del self.chunks[: len(self.chunks) - number]
                break
            kept += row["last_seq"] - row["first_seq"] + 1
        return self

    def tail(self) -> dict[str, Any]:
        """The value of the column."""
        return _column(self.chunks[::-1], self.lines, self.bytes, None)


def _column(rows: Sequence[Row], lines: int, size: int, left_out: int | None) -> dict[str, Any]:
    """From the last chunks of a log, the newest first."""
    entries: list[dict[str, Any]] = []
    text = 0
    for row in rows:
        for entry in _entries(row)[::-1]:
            text += len(entry["message"])
            if len(entries) == _LINES or (entries and text > _TEXT):
                break
            entries.append(entry)
    return {
        "v": 1,
        "lastSeq": rows[0]["last_seq"] if rows else None,
        "lines": lines,
        "bytes": size,
        "complete": left_out is None and len(entries) == lines,
        "leftOut": left_out or 0,
        "entries": entries[::-1],
    }


def _entries(row: Any) -> list[dict[str, Any]]:
    columns = chunks.unpack(chunks.plain_text(row["codec"], row["body"]))
    entries = []
    for place, at in enumerate(stamps(columns.moments)):
        entry: dict[str, Any] = {
            "seq": row["first_seq"] + place,
            "at": at,
            "level": chunks.LEVELS[int(columns.levels[place])].value,
            "stream": columns.streams[place],
            "message": columns.messages[place],
            "step": row["step_key"],
        }
        if place in columns.fields:
            entry["fields"] = columns.fields[place]
        entries.append(entry)
    return entries
