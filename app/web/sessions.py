"""Logging in, for browsers: plain requests, so that nobody can try a hundred passwords in one document.

POST /auth/login     {"tenant", "email", "password"}               a session, in a cookie
POST /auth/refresh   {}                                            another session in its place
POST /auth/logout    {}                                            the session ends
POST /auth/password  {"currentPassword", "password"}               for whoever is logged in; other sessions end
{"invitation", "password"}                    for whoever was invited; then log in

200  {"tenant", "email"?, "expiresAt"?}
400  the body makes no sense, or the new password cannot be one
401  the credentials are wrong, whichever; or there is no session
403  the request comes from a page of another origin, or without the header X-Windlass-CSRF
415  the body is not application/json
429  tried too often; Retry-After says when to try again
503  the database does not answer
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app import clock
from app.auth.authenticator import Authenticator, Unauthenticated
from app.auth.principal import Principal
from app.db.away import DATABASE_AWAY
from app.domain.errors import Invalid
from app.services.sessions import Credentials, Sessions, TooOften
from app.services.tokens import IssuedToken
from app.web.bodies import Ambiguous, Unreadable, json_of
from app.web.credentials import COOKIE, Crossing, Origins, token_in

_JSON = "application/json"
_TEXT_LIMIT = 1_000
_log = structlog.get_logger("windlass.sessions")
Answer = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """The request makes no sense."""

    def __init__(self, status: int, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.path = path


class SessionRoutes:
    """The endpoints over the verbs of a process."""

    def __init__(self, sessions: Sessions, authenticator: Authenticator, origins: Origins) -> None:
        self._sessions = sessions
        self._authenticator = authenticator
        self._origins = origins

    def routes(self) -> list[Route]:
        """Where they are."""
        verbs = {"login": self._log_in, "refresh": self._refresh, "logout": self._log_out, "password": self._password}
        return [Route(f"/auth/{name}", self._guarded(verb), methods=["POST"]) for name, verb in verbs.items()]

    def _guarded(self, verb: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                self._origins.require(request.headers)
                return await verb(request)
            except Refused as error:
                return _refusal(error.status, error.message, error.path)
            except Invalid as error:
                return _refusal(400, error.message, error.path)
            except Unauthenticated as error:
                return _refusal(401, str(error))
            except Crossing as error:
                return _refusal(403, error.message)
            except TooOften as error:
                headers = {"Retry-After": str(max(1, math.ceil(error.seconds)))}
                return _refusal(429, "tried too often", headers=headers)
            except DATABASE_AWAY:
                _log.warning("the database does not answer", exc_info=True)
                return _refusal(503, "try again in a moment", headers={"Retry-After": "1"})

        return answer

    async def _log_in(self, request: Request) -> Response:
        body = await _body(request)
        given = Credentials(
            tenant=_field(body, "tenant"),
            email=_field(body, "email"),
            password=_field(body, "password"),
            address=request.client.host if request.client else "",
            agent=request.headers.get("user-agent", ""),
        )
        issued = await self._sessions.log_in(given, _request_id(request))
        return _with_session(issued, {"tenant": given.tenant, "email": given.email.strip().lower()})

    async def _refresh(self, request: Request) -> Response:
        principal = await self._principal(request)
        await _body(request)
        issued = await self._sessions.renew(principal, _request_id(request))
        return _with_session(issued, {"tenant": principal.tenant_slug})

    async def _log_out(self, request: Request) -> Response:
        principal = await self._principal(request)
        await _body(request)
        await self._sessions.log_out(principal, _request_id(request))
        response = _answer({"tenant": principal.tenant_slug})
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
        return response

    async def _password(self, request: Request) -> Response:
        body = await _body(request)
        new = _field(body, "password")
        if "invitation" in body:
            principal = await self._sessions.accept(_field(body, "invitation"), new, _request_id(request))
        else:
            principal = await self._principal(request)
            current = _field(body, "currentPassword")
            await self._sessions.change_password(principal, current, new, _request_id(request))
        return _answer({"tenant": principal.tenant_slug})

    async def _principal(self, request: Request) -> Principal:
        return await token_in(request.headers, self._origins, changes=True).proven(self._authenticator)


async def _body(request: Request) -> dict[str, str]:
    """The fields of the body, all of them texts. Raises Refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
        raise Refused(415, f"the body has to be {_JSON}")
    try:
        given: Any = json_of(await request.body() or b"{}")
    except Ambiguous as error:
        raise Refused(400, error.message, (error.name,)) from error
    except Unreadable as error:
        raise Refused(400, error.message, error.path) from error
    except ValueError as error:
        raise Refused(400, "the body is no JSON") from error
    if not isinstance(given, dict):
        raise Refused(400, "the body is one JSON object")
    for name, value in given.items():
        if not isinstance(value, str) or len(value) > _TEXT_LIMIT or "\0" in value:
            raise Refused(400, f"this is a text of at most {_TEXT_LIMIT} characters", (name[:100],))
    return given


def _field(body: dict[str, str], name: str) -> str:
    if not body.get(name):
        raise Refused(400, f"'{name}' is missing", (name,))
    return body[name]


def _with_session(issued: IssuedToken, body: dict[str, Any]) -> Response:
    expires_at: datetime = issued.row.expires_at
    response = _answer({**body, "expiresAt": expires_at.isoformat()})
    seconds = int((expires_at - clock.utc_now()).total_seconds())
    response.set_cookie(COOKIE, issued.text, seconds, path="/", secure=True, httponly=True, samesite="lax")
    return response


def _answer(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse(body, 200, {"Cache-Control": "no-store"})


def _refusal(status: int, message: str, path: tuple[str, ...] = (), headers: dict[str, str] | None = None) -> Response:
    body = {"error": message, **({"path": list(path)} if path else {})}
    return JSONResponse(body, status, {"Cache-Control": "no-store", **(headers or {})})


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))
