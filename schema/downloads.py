"""GET /jobs/<id>/log.ndjson: the log of a job as one file, a JSON object a line.

    after=     a cursor, or the `seq` of the last line that arrived: the file goes on behind it
    minLevel=  stepKey=  contains=   as in LogFilter

    200  {"seq", "at", "level", "stream", "stepKey", "attempt", "message", "fields"?} in the order of `seq`, up to where
         the log was when the answer began; Windlass-Cursor names that place. Packed with gzip for those who accept it.
         Windlass-Skipped-Before: lines up to there are too old and gone
    400  a parameter that makes no sense, or a cursor of a history that was undone by restoring a backup
    401  no valid token, asked for as on /graphql
    403  the token may not read
    404  there is no such job: for one of another tenant the answer is the same
    503  the database does not answer

However long the log is, a part of bounded size is in memory, and none is read before the one before it has gone out. No
transaction is open while something is sent. The token is looked at again while the answer goes on.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import structlog
from isal import isal_zlib
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from app import clock
from app.auth.authenticator import Unauthenticated
from app.auth.principal import Principal
from app.db.away import DATABASE_AWAY
from app.domain import cursors
from app.domain.cursors import BEGINNING, Place
from app.domain.enums import LogLevel, Permission
from app.domain.errors import Invalid
from app.domain.events import Stream
from app.reads import logs, streams
from app.reads.filters import LogFilter
from app.reads.logs import Reach
from app.web.credentials import Crossing, Shown, token_in
from schema.context import Services
from schema.http import request_id_of
from schema.nodes import number_in

PATH = "/jobs/{id}/log.ndjson"
# What is read, rendered and sent at a time: so many lines at most, and bytes before they are packed.
PART_LINES = 10_000
PART_BYTES = 1024 * 1024
REVALIDATE_SECONDS = 15.0
_PARAMETERS = frozenset({"after", "minLevel", "stepKey", "contains"})
_MAX_TEXT = 200
_GZIP = 16 + isal_zlib.MAX_WBITS

_log = structlog.get_logger("windlass.downloads")


class Refused(Exception):
    """The request is not answered with a file."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class Download(ABC):
    """An endpoint that answers with a file, over the services of a process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, request: Request) -> Response:
        """The file, or why there is none."""
        try:
            return await self._respond(request)
        except Unauthenticated:
            refused = Refused(401, "a valid API token is needed", {"WWW-Authenticate": 'Bearer realm="windlass"'})
        except Crossing as error:
            refused = Refused(403, error.message)
        except DATABASE_AWAY:
            _log.warning("the database does not answer", exc_info=True)
            refused = Refused(503, "try again in a moment", {"Retry-After": "1"})
        except Refused as error:
            refused = error
        headers = {"Cache-Control": "no-store", **refused.headers}
        body = {"error": refused.message, "requestId": request_id_of(request.scope)}
        return JSONResponse(body, refused.status, headers)

    @abstractmethod
    async def _respond(self, request: Request) -> Response:
        """The file. Raises Refused, Unauthenticated and Crossing."""

    async def _let_in(self, request: Request, needed: Permission) -> tuple[Shown, Principal]:
        """Whoever asks, with what they showed."""
        token = token_in(request.headers, self._services.origins, changes=False)
        principal = await token.proven(self._services.authenticator)
        if not principal.may(needed):
            raise Refused(403, f"this needs the permission {needed.value}")
        return token, principal


class LogDownload(Download):
    """The log of a job."""

    async def _respond(self, request: Request) -> Response:
        token, principal = await self._let_in(request, Permission.READ)
        wanted = _wanted(request)
        job_id = number_in(request.path_params["id"], "OrchestrationJob")
        async with self._services.database.read(principal.tenant_id) as session:
            head = await streams.head(session, principal.tenant_id, Stream.JOB, job_id)
            if head is None:
                raise Refused(404, "there is no such job")
            after = _place(request, job_id)
            if after > head.place:
                raise Refused(400, "after: this log does not go so far")
            if not await streams.holds(session, principal.tenant_id, Stream.JOB, job_id, after, head):
                raise Refused(400, "after: this place is in a history that was undone; begin again")
            kept = (await logs.kept(session, principal.tenant_id, [job_id], after.seq))[job_id]
        headers = {
            "Cache-Control": "no-store",
            "Vary": "Accept-Encoding",
            "Windlass-Cursor": cursors.encode(Stream.JOB, job_id, head.place),
        }
        if kept.lost:
            headers["Windlass-Skipped-Before"] = cursors.encode(Stream.JOB, job_id, Place(kept.before))
        if request.method == "HEAD":
            return Response(None, 200, headers, "application/x-ndjson")
        parts = self._parts(token, principal, job_id, wanted, Reach(after.seq, head.place.seq))
        if _accepts_gzip(request):
            headers["Content-Encoding"] = "gzip"
            parts = _gzipped(parts)
        return StreamingResponse(parts, 200, headers, "application/x-ndjson")

    async def _parts(
        self, token: Shown, principal: Principal, job_id: int, wanted: LogFilter, reach: Reach
    ) -> AsyncIterator[bytes]:
        """The lines, a part at a time; each is read when the one before it has gone out."""
        tenant_id = principal.tenant_id
        checked = clock.monotonic()
        while True:
            if clock.monotonic() - checked > REVALIDATE_SECONDS:
                # What it raises cuts the answer off, which the client sees: its last part is missing.
                await token.proven(self._services.authenticator)
                checked = clock.monotonic()
            async with self._services.database.read(tenant_id) as session:
                found = await logs.look(
                    session, tenant_id, {job_id: reach}, wanted, lines=PART_LINES, most_bytes=PART_BYTES
                )
            look = found[job_id]
            part = await asyncio.to_thread(logs.objects, look.chunks, wanted, reach)
            if part:
                yield part
            if look.done:
                return
            reach = Reach(look.chunks[-1].last, reach.until)


async def _gzipped(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = isal_zlib.compressobj(1, isal_zlib.DEFLATED, _GZIP)
    async for part in parts:
        packed = await asyncio.to_thread(packer.compress, part)
        if packed:
            yield packed
    yield packer.flush()


def _wanted(request: Request) -> LogFilter:
    given = dict(request.query_params)
    unknown = sorted(given.keys() - _PARAMETERS)
    if unknown:
        raise Refused(400, f"{unknown[0]}: there is no such parameter")
    for name, value in given.items():
        if len(value) > _MAX_TEXT:
            raise Refused(400, f"{name}: at most {_MAX_TEXT} characters")
        if "\x00" in value:
            raise Refused(400, f"{name}: holds a character that no text here can have")
    level = given.get("minLevel")
    if level is not None and level not in LogLevel.__members__:
        raise Refused(400, f"minLevel: one of {', '.join(LogLevel)}")
    return LogFilter(
        None if level is None else LogLevel(level), given.get("stepKey") or None, given.get("contains") or None
    )


def _place(request: Request, job_id: int) -> Place:
    text = request.query_params.get("after")
    if not text:
        return BEGINNING
    if text.isascii() and text.isdigit() and len(text) < 19:
        return Place(int(text))
    try:
        return cursors.decode(text, Stream.JOB, job_id)
    except Invalid as error:
        raise Refused(400, f"after: {error.message}") from error


def _accepts_gzip(request: Request) -> bool:
    for part in request.headers.get("accept-encoding", "").split(","):
        name, _, parameters = part.strip().lower().partition(";")
        if name == "gzip":
            return parameters.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
