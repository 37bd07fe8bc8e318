"""GET /audit.ndjson: the sealed audit log of the tenant, as app.domain.audit verifies it.

after=  the `seq` of the last line that arrived: the file goes on behind it

200  {"seq", "hash", "entry"} in the order of the chain; `entry` is, byte for byte, what the hash is of
400  a parameter that makes no sense
401  no valid token, 403 the token is no administrator's, 503 the database does not answer
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.domain.enums import Permission
from app.reads import audit
from app.web.credentials import Shown
from schema.downloads import Download, Refused

PATH = "/audit.ndjson"
_PART = 1_000
_LONGEST_NUMBER = 18


class AuditDownload(Download):
    """The audit log of the tenant of whoever asks."""

    async def _respond(self, request: Request) -> Response:
        token, principal = await self._let_in(request, Permission.ADMIN)
        given = dict(request.query_params)
        after = given.pop("after", "0")
        if given:
            raise Refused(400, f"{min(given)}: there is no such parameter")
        if not after.isdecimal() or len(after) > _LONGEST_NUMBER:
            raise Refused(400, "after: this is the seq of a line")
        parts = self._parts(token, principal.tenant_id, int(after))
        return StreamingResponse(parts, 200, {"Cache-Control": "no-store"}, "application/x-ndjson")

    async def _parts(self, token: Shown, tenant_id: int, after: int) -> AsyncIterator[bytes]:
        """The lines, a part at a time; each is read when the one before it has gone out."""
        while True:
            async with self._services.database.read(tenant_id) as session:
                found = await audit.chain(session, tenant_id, after, _PART)
            if found:
                lines = (f'{{"seq":{seq},"hash":"{hashed}","entry":{entry}}}\n' for seq, hashed, entry in found)
                yield "".join(lines).encode()
            if len(found) < _PART:
                return
            after = found[-1][0]
            # What it raises cuts the answer off: its last lines are missing.
            await token.proven(self._services.authenticator)
