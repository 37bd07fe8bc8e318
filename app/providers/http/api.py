"""The session of the provider `http`: one server, asked with a connection's headers, and what its answers mean."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import orjson

from app import clock
from app.domain import webhooks
from app.egress import Answer, Caller, EgressRefused, Unreachable, Unsent
from app.providers.base import Context, ErrorKind, ProviderError, Schema

CONFIG_SCHEMA: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["baseUrl"],
    "properties": {
        "baseUrl": {
            "type": "string",
            "pattern": "^https?://[^/?#@\\s]+(/[^?#\\s]*)?$",
            "maxLength": 1000,
            "description": "what every path is appended to",
        },
        "headers": {
            "type": "object",
            "x-sensitive": True,
            "maxProperties": 50,
            "propertyNames": {
                "pattern": "^[A-Za-z0-9-]{1,100}$",
                "not": {"pattern": "^(?i:host|connection|content-length|transfer-encoding|accept-encoding|upgrade)$"},
            },
            "additionalProperties": {"type": "string", "pattern": "^[\\x20-\\x7e]*$", "maxLength": 8000},
            "description": "sent with every request, as Authorization",
        },
        "timeoutSeconds": {"type": "number", "exclusiveMinimum": 0, "maximum": 120, "default": 10},
        "signingSecret": {
            "type": "string",
            "x-sensitive": True,
            "pattern": "^whsec_[A-Za-z0-9+/]+=*$",
            "description": "signs every request as Standard Webhooks has it",
        },
        "idempotencyKeys": {
            "type": "boolean",
            "default": False,
            "description": "whether the server does once only what it is asked several times with one Idempotency-Key",
        },
    },
}
_EXCERPT = 300
_SHORTEST_SECRET = 4
_REDIRECTED = range(300, 400)


class Api:
    """A server of a tenant's. `honours_keys`: it does nothing twice that comes with the same Idempotency-Key."""

    _KINDS: ClassVar[Mapping[int, ErrorKind]] = {
        401: ErrorKind.ACCESS_DENIED,
        402: ErrorKind.QUOTA,
        403: ErrorKind.ACCESS_DENIED,
        404: ErrorKind.NOT_FOUND,
        408: ErrorKind.UNAVAILABLE,
        409: ErrorKind.CONFLICT,
        410: ErrorKind.NOT_FOUND,
        412: ErrorKind.CONFLICT,
        423: ErrorKind.CONFLICT,
        424: ErrorKind.DEPENDENCY,
        425: ErrorKind.THROTTLED,
        428: ErrorKind.CONFLICT,
        429: ErrorKind.THROTTLED,
        503: ErrorKind.UNAVAILABLE,
        507: ErrorKind.QUOTA,
    }

    def __init__(self, caller: Caller, config: Mapping[str, Any]) -> None:
        self._caller = caller
        self._base = str(config["baseUrl"]).rstrip("/")
        self._origin = "/".join(self._base.split("/")[:3])
        self._headers = {str(name).lower(): str(value) for name, value in (config.get("headers") or {}).items()}
        self._secret: str | None = config.get("signingSecret")
        if self._secret is not None and not _is_key(self._secret):
            message = "the signing secret is no base64 behind whsec_"
            raise ProviderError(ErrorKind.INVALID, message, path=("signingSecret",))
        self.honours_keys = bool(config.get("idempotencyKeys", False))

    async def ask(
        self,
        context: Context,
        method: str,
        path: str,
        body: Any = None,
        *,
        suffix: str = "",
        rooted: bool = False,
        accepted: frozenset[int] = frozenset(),
    ) -> Answer:
        """The answer to one request, if it is a success or one of `accepted`; raises ProviderError otherwise.

        What is written goes with the operation's id, and `suffix` tells several requests of one operation apart. A
        `rooted` path begins at the server and not at the connection's base.
        """
        writes = method not in {"GET", "HEAD", "OPTIONS"}
        content = b"" if body is None else orjson.dumps(body)
        sent = self._own_headers(method, context.operation_id + suffix, content, has_body=body is not None)
        began = clock.monotonic()
        try:
            answer = await self._caller.request(
                method,
                (self._origin if rooted else self._base) + path,
                {**sent, **self._headers},
                content,
            )
        except EgressRefused as error:
            raise ProviderError(ErrorKind.ACCESS_DENIED, str(error), code="EGRESS_REFUSED") from error
        except Unsent as error:
            message = f"{method} {path}: {error}"
            raise ProviderError(ErrorKind.UNAVAILABLE, message) from error
        except Unreachable as error:
            message = f"{method} {path}: {error}"
            raise ProviderError(ErrorKind.OUTCOME_UNKNOWN if writes else ErrorKind.UNAVAILABLE, message) from error
        context.log(f"{method} {path}: {answer.status_code} after {1000 * (clock.monotonic() - began):.0f} ms")
        if 200 <= answer.status_code < 300 or answer.status_code in accepted:
            return answer
        raise self._refusal(method, path, answer, writes=writes)

    def local(self, location: str) -> str:
        """The rooted path of a URL that the server named. Raises ProviderError INVALID for one that leads to another
        server, which has no business with this one's credentials.
        """
        parts = urlsplit(location)
        if (parts.scheme or parts.netloc) and f"{parts.scheme}://{parts.netloc}" != self._origin:
            message = "the server names a URL of another server, which is not asked"
            raise ProviderError(ErrorKind.INVALID, message)
        if not parts.path.startswith("/"):
            message = "the server names a URL without a path"
            raise ProviderError(ErrorKind.INVALID, message)
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def _own_headers(self, method: str, key: str, content: bytes, *, has_body: bool) -> dict[str, str]:
        headers = {"accept": "application/json", "user-agent": "windlass"}
        if has_body:
            headers["content-type"] = "application/json"
        if method not in {"GET", "HEAD", "OPTIONS"}:
            headers["idempotency-key"] = key
        if self._secret is not None:
            stamp = clock.unix_micros() // 1_000_000
            identity = f"msg_{key}"
            signature = webhooks.sign([self._secret], identity, stamp, content)
            headers |= {"webhook-id": identity, "webhook-timestamp": str(stamp), "webhook-signature": signature}
        return headers

    def _refusal(self, method: str, path: str, answer: Answer, *, writes: bool) -> ProviderError:
        status = answer.status_code
        message = f"{method} {path}: the server answered {status}"
        excerpt = answer.body[: 4 * _EXCERPT].decode(errors="replace").replace("\0", "\ufffd")[:_EXCERPT].strip()
        for value in self._headers.values():
            excerpt = excerpt.replace(value, "***") if len(value) >= _SHORTEST_SECRET else excerpt
        if status in _REDIRECTED:
            message += ", and redirections are not followed"
        elif excerpt:
            message += f": {excerpt}"
        kind = self._KINDS.get(status)
        if kind is None:
            lost = ErrorKind.OUTCOME_UNKNOWN if writes else ErrorKind.UNAVAILABLE
            # An error of the server, or of a gateway before it, says nothing about what was done by then.
            kind = lost if status >= 500 and status != 501 else ErrorKind.INVALID
        return ProviderError(kind, message, code=f"HTTP_{status}", retry_after_seconds=answer.retry_after)


def decoded(answer: Answer) -> Any:
    """The JSON of an answer; None where there is no body. Raises ProviderError INVALID for anything else."""
    if not answer.body.strip():
        return None
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        message = f"the server answered {answer.status_code} with something that is not JSON"
        raise ProviderError(ErrorKind.INVALID, message) from error


def _is_key(secret: str) -> bool:
    try:
        return bool(base64.b64decode(secret.removeprefix(webhooks.SECRET_PREFIX), validate=True))
    except binascii.Error:
        return False
