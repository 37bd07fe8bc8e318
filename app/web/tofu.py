"""/tofu/states/<workspace>: the state of OpenTofu and Terraform, as their backend `http` wants it.

    GET     200 with the state, or 204 where there is none
    POST    200: kept; ?ID= names the lock. 400: no state, or another than its Content-MD5 says. 409: out of turn
    LOCK    200, or 423 with what the holder says of itself
    UNLOCK  200, or 423 where somebody else has it
    DELETE  200
    401     the password (Basic, any user name) is no pass to this workspace; 403: it is another resource's

Passes are made by workers, for one operation each (app/domain/tofu.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.db.away import DATABASE_AWAY
from app.domain.tofu import OutOfTurn
from app.services.tofu_states import BadPass, Foreign, Locked, States, Visit

PATH = "/tofu/states/{workspace}"
METHODS = ["GET", "POST", "DELETE", "LOCK", "UNLOCK"]
MADE_BY = "x-windlass-operation"
INTERRUPTED = "x-windlass-interrupted"
MAX_STATE = 16 * 1024 * 1024
_PREFIX = "/tofu/states/"


class BodyLimits:
    """States may be larger than what everybody else sends, who may send `usual` bytes."""

    def __init__(self, app: ASGIApp, usual: int) -> None:
        self._usual = RequestBodyLimitMiddleware(app, max_body_size=usual)
        self._states = RequestBodyLimitMiddleware(app, max_body_size=MAX_STATE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._states if is_state(scope) else self._usual)(scope, receive, send)


def is_state(scope: Scope) -> bool:
    """Whether a request is about a state."""
    return scope["type"] == "http" and str(scope["path"]).startswith(_PREFIX)


def tofu_states(states: States) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint."""

    async def called(request: Request) -> Response:
        try:
            # Before one byte of the body is read.
            visit = await states.admit(_password(request), request.path_params["workspace"])
            return await _answer(states, visit, request)
        except BadPass:
            return _refusal(401, "this is no pass to the workspace", {"WWW-Authenticate": 'Basic realm="windlass"'})
        except Foreign:
            return _refusal(403, "the workspace belongs to another resource")
        except Locked as error:
            return JSONResponse(dict(error.info), 423)
        except OutOfTurn as error:
            return _refusal(409, str(error))
        except DATABASE_AWAY:
            return _refusal(503, "try again in a moment", {"Retry-After": "1"})

    return called


async def _answer(states: States, visit: Visit, request: Request) -> Response:
    lock_id = request.query_params.get("ID")
    match request.method:
        case "GET":
            found = await states.fetch(visit)
            headers = {MADE_BY: found.operation, INTERRUPTED: "yes" if found.interrupted else "no"}
            if found.body is None:
                return Response(status_code=204, headers=headers)
            return Response(found.body, media_type="application/json", headers=headers)
        case "POST":
            body = await request.body()
            if not _is_whole(request, body):
                return _refusal(400, "the state is not the one that its Content-MD5 tells of")
            try:
                await states.store(visit, body, lock_id)
            except (ValueError, KeyError, TypeError):
                return _refusal(400, "this is no state: it has no lineage and serial")
        case "DELETE":
            await states.remove(visit, lock_id)
        case "LOCK":
            info = await _info(request)
            if info is None:
                return _refusal(400, "a lock is a JSON object with an ID")
            await states.lock(visit, info)
        case "UNLOCK":
            info = await _info(request)
            await states.unlock(visit, None if info is None else info["ID"])
    return Response(status_code=200)


async def _info(request: Request) -> dict[str, Any] | None:
    try:
        info = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return None
    return info if isinstance(info, dict) and isinstance(info.get("ID"), str) else None


def _password(request: Request) -> str:
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        raise BadPass
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        raise BadPass from None


def _is_whole(request: Request, body: bytes) -> bool:
    told = request.headers.get("content-md5")
    if told is None:
        return True
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return hmac.compare_digest(told, base64.b64encode(digest).decode())


def _refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, {"Cache-Control": "no-store", **(headers or {})})
