"""POST /hooks/<token>: the world outside fires a standing plan.

    202  {"id"}: taken, and decided about soon; for the same webhook-id again, taken already, and nothing is done twice
    400  the body is no JSON, or holds what cannot be kept
    401  the hook's calls are signed, and this one is not, or wrongly, or too long ago
    404  there is no such hook: whatever is wrong with the token, the answer is the same
    409  the hook's plan does not wait for calls now
    413  the body is larger than 64 KiB
    415  the body is not application/json
    429  called too often; Retry-After says when to try again
    503  the database does not answer

The token is looked at before one byte of the body is read.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.db.away import DATABASE_AWAY
from app.db.sealing import Sealer
from app.db.uow import Database
from app.domain.hooks import call_of
from app.domain.keeping import first_fault
from app.services.hooks import BadSignature, NotListening, TooMany, UnknownHook, deliver, locate
from app.web.bodies import Unreadable, loaded

PATH = "/hooks/{token}"
MAX_BODY = 64 * 1024
_JSON = "application/json"
_log = structlog.get_logger("windlass.hooks")


def hooks(database: Database, sealer: Sealer) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint over a database; `sealer` opens the secrets that calls are signed with."""

    async def called(request: Request) -> Response:
        try:
            address = await locate(database, request.path_params["token"])
            body, payload = await _payload(request)
            call = call_of(request.headers, body, payload)
            if not call.is_well_formed:
                return _refusal(400, "webhook-id has 1 to 200 printable characters")
            correlation = str(request.scope.get("state", {}).get("request_id", ""))
            taken = await deliver(database, sealer, address, call, correlation)
        except UnknownHook:
            return _refusal(404, "there is no such hook")
        except HTTPException as error:
            return _refusal(error.status_code, error.detail)
        except BadSignature:
            return _refusal(401, "the call is not signed as this hook's have to be")
        except NotListening:
            return _refusal(409, "the plan of this hook does not wait for calls now")
        except TooMany as error:
            return _refusal(429, "called too often", {"Retry-After": str(max(1, math.ceil(error.seconds)))})
        except DATABASE_AWAY:
            _log.warning("the database does not answer", exc_info=True)
            return _refusal(503, "try again in a moment", {"Retry-After": "1"})
        return JSONResponse({"id": taken}, 202, {"Cache-Control": "no-store"})

    return called


async def _payload(request: Request) -> tuple[bytes, Any]:
    """The body and what it means; nothing means nothing. Raises HTTPException with the status that fits."""
    body = await _body(request)
    if not body:
        return body, None
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"the body has to be {_JSON}")
    try:
        payload = loaded(body)
    except Unreadable as error:
        raise HTTPException(400, f"the body: {error.message}") from error
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    fault = first_fault(payload, ("body",))
    if fault is not None:
        raise HTTPException(400, f"{'.'.join(fault.path)}: {fault.message}")
    return body, payload


async def _body(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise HTTPException(413, f"the body has at most {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, {"Cache-Control": "no-store", **(headers or {})})
