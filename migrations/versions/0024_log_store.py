"""Keep logs in packed chunks, partitioned by week, and count what a job has of them.

Rows are converted a few at a time, so that no big table is ever in memory. What a chunk's body is, is written down here
once more as it was when this migration was made: app.db.chunks may go on.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.row_security import APP, TICK, across_tenants, grant, protect, unforced

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

# The weeks have a room of their own, which no acting role may enter: they are reached through job_log only.
_ROOM = "job_log_weeks"
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
_ZLIB = 1
_CHUNK_LINES = 500
_CHUNK_TEXT = 64 * 1024
_AT_A_TIME = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = ("log_lines", "log_bytes", "log_left_out")

# Makes the weeks to come and drops those that are too old; run by the scheduler, who owns nothing and may call it.
# Locks are waited for briefly: the next turn comes in a minute.
_KEEP = f"""
CREATE FUNCTION job_log_keep(ahead integer, keep_days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms'
AS $$
DECLARE
    this_week timestamp := date_trunc('week', clock_timestamp() AT TIME ZONE 'UTC');
    first_day timestamp;
    week text;
    dropped integer := 0;
BEGIN
    FOR number IN 0..least(greatest(ahead, 0), 52) LOOP
        first_day := this_week + make_interval(weeks => number);
        week := to_char(first_day, '"w"IYYY"_"IW');
        IF to_regclass('{_ROOM}.' || week) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE {_ROOM}.%I PARTITION OF public.job_log FOR VALUES FROM (%L) TO (%L)',
                    week, first_day || '+00', (first_day + interval '7 days') || '+00');
                EXECUTE format('ALTER TABLE {_ROOM}.%I ALTER COLUMN body SET STORAGE EXTERNAL', week);
                EXECUTE format('ALTER TABLE {_ROOM}.%I ENABLE ROW LEVEL SECURITY', week);
                EXECUTE format('ALTER TABLE {_ROOM}.%I FORCE ROW LEVEL SECURITY', week);
            EXCEPTION WHEN check_violation THEN
                -- Lines of that week lie in `rest` already, because nobody made it in time. There they stay.
                NULL;
            END;
        END IF;
    END LOOP;
    IF keep_days > 0 THEN
        FOR week IN
            SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'public.job_log'::regclass
               -- In a CASE: no other table's name may be taken for a week, in whatever order this is evaluated.
               AND CASE WHEN c.relname ~ '^w[0-9]{{4}}_[0-9]{{2}}$' THEN to_date(substr(c.relname, 2), 'IYYY"_"IW') + 7
                   <= (clock_timestamp() AT TIME ZONE 'UTC' - make_interval(days => keep_days))::date END
             ORDER BY 1
        LOOP
            EXECUTE format('DROP TABLE {_ROOM}.%I', week);
            dropped := dropped + 1;
        END LOOP;
    END IF;
    RETURN dropped;
END
$$
"""


def upgrade() -> None:
    _put_aside("job_log_before")
    for column in _COUNTS[:2]:
        op.add_column(
            "orchestration_job", sa.Column(column, sa.BigInteger(), server_default=sa.text("0"), nullable=False)
        )
    op.add_column("orchestration_job", sa.Column("log_left_out", sa.BigInteger(), nullable=True))
    grant(TICK, "orchestration_job", "SELECT", columns=_COUNTS)
    create_job_log()
    op.execute(f"CREATE SCHEMA {_ROOM}")
    op.execute(f"CREATE TABLE {_ROOM}.rest PARTITION OF job_log DEFAULT")
    op.execute(f"ALTER TABLE {_ROOM}.rest ALTER COLUMN body SET STORAGE EXTERNAL")
    op.execute(_KEEP)
    op.execute("REVOKE ALL ON FUNCTION job_log_keep(integer, integer) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION job_log_keep(integer, integer) TO {TICK}")
    with unforced("job_log_before", "orchestration_job"):
        # Weeks before this one are made for what there is; job_log_keep makes the present one and those to come.
        for week in op.get_bind().scalars(
            sa.text("SELECT DISTINCT date_trunc('week', at AT TIME ZONE 'UTC') FROM job_log_before ORDER BY 1")
        ):
            _create_week(week)
        op.execute("SELECT job_log_keep(2, 0)")
        _pack_all()
        op.execute(
            "UPDATE orchestration_job j SET log_lines = l.lines, log_bytes = l.bytes FROM (SELECT tenant_id, job_id,"
            " sum(last_seq - first_seq + 1) AS lines, sum(size) AS bytes FROM job_log GROUP BY 1, 2) l"
            " WHERE j.tenant_id = l.tenant_id AND j.id = l.job_id"
        )
    # Closed only now: the conversion wrote as the owner.
    op.execute(f"ALTER TABLE {_ROOM}.rest ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {_ROOM}.rest FORCE ROW LEVEL SECURITY")
    protect("job_log")
    grant(APP, "job_log", "SELECT", "INSERT")
    across_tenants(TICK, "job_log")
    # DELETE is for retention, where a week was not made in time.
    grant(TICK, "job_log", "SELECT", "INSERT", "DELETE")
    op.drop_table("job_log_before")


def downgrade() -> None:
    _put_aside("job_log_packed")
    create_job_log_as_it_was()
    with unforced("job_log_packed"):
        _unpack_all()
    protect("job_log")
    grant(APP, "job_log", "SELECT", "INSERT")
    across_tenants(TICK, "job_log")
    grant(TICK, "job_log", "SELECT", "INSERT")
    op.execute("DROP FUNCTION job_log_keep(integer, integer)")
    op.drop_table("job_log_packed")
    op.execute(f"DROP SCHEMA {_ROOM}")
    for column in reversed(_COUNTS):
        op.drop_column("orchestration_job", column)


def _put_aside(name: str) -> None:
    """Give job_log another name, and its constraints too: those of the table that takes its place are named alike."""
    op.execute(f"ALTER TABLE job_log RENAME TO {name}")
    op.execute(
        f"""
        DO $$
        DECLARE
            old text;
        BEGIN
            FOR old IN SELECT conname FROM pg_constraint WHERE conrelid = '{name}'::regclass LOOP
                EXECUTE format('ALTER TABLE {name} RENAME CONSTRAINT %I TO %I', old, 'old_' || old);
            END LOOP;
        END
        $$
        """
    )


def create_job_log() -> None:
    op.create_table(
        "job_log",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("levels", sa.SmallInteger(), nullable=False),
        sa.Column("codec", sa.SmallInteger(), nullable=False),
        sa.Column("step_key", sa.String(length=250), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_job_log_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "first_seq", "at", name=op.f("pk_job_log")),
        postgresql_partition_by="RANGE (at)",
    )
    # Packed already: PostgreSQL would only try in vain.
    op.execute("ALTER TABLE job_log ALTER COLUMN body SET STORAGE EXTERNAL")


def create_job_log_as_it_was() -> None:
    op.create_table(
        "job_log",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", sa.BigInteger(), nullable=True),
        sa.Column("step_key", sa.String(length=250), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "job_id"],
            ["orchestration_job.tenant_id", "orchestration_job.id"],
            name=op.f("fk_job_log_tenant_id_job_id"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "job_id", "first_seq", name=op.f("pk_job_log")),
    )


def _create_week(first_day: datetime) -> None:
    name = f"w{first_day:%G_%V}"
    op.execute(
        f"CREATE TABLE {_ROOM}.{name} PARTITION OF job_log"
        f" FOR VALUES FROM ('{first_day:%Y-%m-%d}+00') TO ('{first_day + timedelta(days=7):%Y-%m-%d}+00')"
    )
    op.execute(f"ALTER TABLE {_ROOM}.{name} ALTER COLUMN body SET STORAGE EXTERNAL")
    op.execute(f"ALTER TABLE {_ROOM}.{name} ENABLE ROW LEVEL SECURITY")
    op.execute(f"ALTER TABLE {_ROOM}.{name} FORCE ROW LEVEL SECURITY")


def _pack_all() -> None:
    insert = sa.text(
        "INSERT INTO job_log (tenant_id, job_id, first_seq, at, last_seq, step_run_id, attempt, size, levels, codec,"
        " step_key, body) VALUES (:tenant_id, :job_id, :first_seq, :at, :last_seq, :step_run_id, :attempt, :size,"
        f" :levels, {_ZLIB}, :step_key, :body)"
    )
    for row in _rows("job_log_before", "last_seq, step_run_id, step_key, attempt, at, lines::text AS lines"):
        seq = row["first_seq"]
        packed = []
        for lines in _pieces(json.loads(row["lines"])):
            plain = _written(lines)
            levels = sum({1 << _LEVELS.index(line["level"]) for line in lines})
            last = seq + len(lines) - 1
            columns = {"first_seq": seq, "last_seq": last, "size": len(plain), "levels": levels}
            packed.append({**row, **columns, "body": zlib.compress(plain, 1)})
            seq = last + 1
        if packed:
            op.get_bind().execute(insert, packed)


def _unpack_all() -> None:
    insert = sa.text(
        "INSERT INTO job_log (tenant_id, job_id, first_seq, last_seq, step_run_id, step_key, attempt, at, lines)"
        " VALUES (:tenant_id, :job_id, :first_seq, :last_seq, :step_run_id, :step_key, :attempt, :at,"
        " CAST(:lines AS jsonb))"
    )
    for row in _rows("job_log_packed", "last_seq, step_run_id, step_key, attempt, at, codec, body"):
        plain = zlib.decompress(row["body"]) if row["codec"] == _ZLIB else row["body"]
        op.get_bind().execute(insert, {**row, "lines": json.dumps(_read(plain))})


def _rows(table: str, columns: str) -> Iterator[dict[str, Any]]:
    """All rows, a few at a time."""
    place = {"tenant": 0, "job": 0, "seq": -1, "limit": _AT_A_TIME}
    query = sa.text(
        f"SELECT tenant_id, job_id, first_seq, {columns} FROM {table}"
        " WHERE (tenant_id, job_id, first_seq) > (:tenant, :job, :seq)"
        " ORDER BY tenant_id, job_id, first_seq LIMIT :limit"
    )
    while found := op.get_bind().execute(query, place).mappings().all():
        for row in found:
            yield dict(row)
        place |= {"tenant": found[-1]["tenant_id"], "job": found[-1]["job_id"], "seq": found[-1]["first_seq"]}


def _pieces(lines: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    piece: list[dict[str, Any]] = []
    text = 0
    for line in lines:
        if piece and (len(piece) == _CHUNK_LINES or text + len(line["message"]) > _CHUNK_TEXT):
            yield piece
            piece, text = [], 0
        piece.append(line)
        text += len(line["message"])
    if piece:
        yield piece


def _written(lines: list[dict[str, Any]]) -> bytes:
    moments = [(datetime.fromisoformat(line["at"]) - _EPOCH) // timedelta(microseconds=1) for line in lines]
    fields = {str(place): line["fields"] for place, line in enumerate(lines) if line.get("fields")}
    columns = [
        moments[0],
        [later - earlier for earlier, later in pairwise(moments)],
        "".join(str(_LEVELS.index(line["level"])) for line in lines),
        [line["stream"] for line in lines],
        [line["message"] for line in lines],
        fields or None,
    ]
    return json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _read(plain: bytes) -> list[dict[str, Any]]:
    first, steps, levels, streams, messages, fields = json.loads(plain)
    lines = []
    for place, moment in enumerate(accumulate(steps, initial=first)):
        line = {
            "at": (_EPOCH + timedelta(microseconds=moment)).isoformat(),
            "level": _LEVELS[int(levels[place])],
            "stream": streams if isinstance(streams, str) else streams[place],
            "message": messages[place].replace("\x00", ""),
        }
        if fields and str(place) in fields:
            line["fields"] = fields[str(place)]
        lines.append(line)
    return lines
