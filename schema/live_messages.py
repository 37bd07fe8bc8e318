"""Messages of a live connection: what is wrong with one, the token in it, and what there is to sending one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers
from strawberry.http.exceptions import WebSocketDisconnected

from app.auth.authenticator import Unauthenticated
from app.web.credentials import Origins, Shown, cookie_in
from schema.documents import ID


def token_in(payload: dict[str, Any]) -> str | None:
    """The token of a connection_init, as `authorization: Bearer …` or `token`."""
    for name, value in payload.items():
        if not isinstance(value, str):
            continue
        if name.lower() == "authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer":
                return token.strip()
        if name.lower() == "token":
            return value.strip()
    return None


def shown_in(payload: dict[str, Any], headers: Headers, origins: Origins) -> Shown:
    """The token of a connection_init, or else of the browser's cookie. Raises Unauthenticated."""
    token = token_in(payload)
    if token is not None:
        return Shown(token, in_cookie=False)
    cookie = cookie_in(headers) if origins.admit(headers, required=True) else None
    if cookie is None:
        reason = "no token in connection_init"
        raise Unauthenticated(reason)
    return Shown(cookie, in_cookie=True)


def fault_of(message: Any) -> str | None:
    """What is wrong with the form of a message; None when nothing is."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message is an object with a type"
    kind = message["type"]
    if kind in {"subscribe", "complete"} and not (isinstance(message.get("id"), str) and message["id"]):
        return f"A {kind} message has an id"
    payload = message.get("payload")
    if kind != "subscribe":
        return None if payload is None or isinstance(payload, dict) else "A payload is an object"
    if not isinstance(payload, dict) or not any(isinstance(payload.get(name), str) for name in ("query", ID)):
        return "A subscribe message has a payload with a query"
    if not isinstance(payload.get("variables"), dict | None):
        return "Variables are an object"
    if not isinstance(payload.get("operationName"), str | None):
        return "An operation name is text"
    return None


@contextmanager
def sending() -> Iterator[None]:
    """Starlette and uvicorn have each an error of their own for a connection that has ended; here it is one."""
    try:
        yield
    except RuntimeError as error:
        raise WebSocketDisconnected from error
