"""The end of a job's log as the customer's column `logs` has it, written once, when the job is over.

{"v": 1, "lastSeq", "lines", "bytes", "complete", "leftOut", "entries": [{"seq", "at", "level", "stream", "message",
"fields"?, "step"}]}: `lines` and `bytes` count the whole log, `complete` says whether all of it is among the entries.
"""

from __future__ import annotations

from typing import Any

from app.db import chunks
from app.db.statements import Statement
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
    entries: list[dict[str, Any]] = []
    text = 0
    for row in rows:
        if row["first_seq"] is None:
            break
        for entry in _entries(row)[::-1]:
            text += len(entry["message"])
            if len(entries) == _LINES or (entries and text > _TEXT):
                break
            entries.append(entry)
    left_out = rows[0]["log_left_out"]
    return {
        "v": 1,
        "lastSeq": rows[0]["last_seq"],
        "lines": rows[0]["log_lines"],
        "bytes": rows[0]["log_bytes"],
        "complete": left_out is None and len(entries) == rows[0]["log_lines"],
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
