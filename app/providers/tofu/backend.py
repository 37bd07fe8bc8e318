"""Where the state of a workspace is kept: by the platform itself, and how a run is told of it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from app import clock
from app.domain.tofu import Pass
from app.providers.base import Context, ErrorKind, JsonObject, ProviderError

_SECONDS = 30.0
_GRACE_SECONDS = 60.0
_LONGEST_PASS = 24 * 3600.0
_MADE_BY = "x-windlass-operation"
_INTERRUPTED = "x-windlass-interrupted"
# In the place of whatever backend the module itself names: files of this name have the last word.
OVERRIDE_FILE = "windlass_override.tf.json"
OVERRIDE = orjson.dumps({"terraform": {"backend": {"http": {}}}})


@dataclass(frozen=True, slots=True)
class Kept:
    """A state as it is kept, and the operation that began the workspace."""

    document: Mapping[str, Any]
    operation: str
    # A run of this very operation was applying something and never let go: it was killed.
    interrupted: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.document.get("resources") and not self.document.get("outputs")

    @property
    def outputs(self) -> JsonObject:
        """Those that the module does not call sensitive."""
        found: Mapping[str, Any] = self.document.get("outputs") or {}
        return {name: output.get("value") for name, output in found.items() if not output.get("sensitive")}


@dataclass(frozen=True, slots=True)
class Backend:
    """The platform's own address, and the key of passes to its states."""

    url: str
    key: bytes = field(repr=False)

    def environment(self, context: Context, workspace: str) -> dict[str, str]:
        """What a run finds the state by, until the attempt is over."""
        address = self._address(workspace)
        return {
            "TF_HTTP_ADDRESS": address,
            "TF_HTTP_LOCK_ADDRESS": address,
            "TF_HTTP_UNLOCK_ADDRESS": address,
            "TF_HTTP_USERNAME": "windlass",
            "TF_HTTP_PASSWORD": self._pass(context, workspace),
        }

    async def fetch(self, context: Context, workspace: str) -> Kept | None:
        """The state; None where there is none. Raises ProviderError ALREADY_EXISTS where it is another resource's."""
        answer = await self._ask(context, "GET", workspace)
        interrupted = answer.headers.get(_INTERRUPTED) == "yes"
        if answer.status_code == 204:
            return Kept({}, "", interrupted=True) if interrupted else None
        if answer.status_code == 403:
            message = f"the workspace {workspace} belongs to another resource"
            raise ProviderError(ErrorKind.ALREADY_EXISTS, message, path=("name",))
        if answer.status_code != 200:
            raise _refused(answer)
        return Kept(orjson.loads(answer.content), answer.headers.get(_MADE_BY, ""), interrupted)

    async def remove(self, context: Context, workspace: str) -> None:
        """The workspace is no more."""
        answer = await self._ask(context, "DELETE", workspace)
        if answer.status_code != 200:
            raise _refused(answer)

    async def _ask(self, context: Context, method: str, workspace: str) -> httpx.Response:
        credentials = base64.b64encode(f"windlass:{self._pass(context, workspace)}".encode()).decode()
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_SECONDS) as client:
                return await client.request(
                    method, self._address(workspace), headers={"authorization": f"Basic {credentials}"}
                )
        except httpx.HTTPError as error:
            message = f"the states are not to be reached: {type(error).__name__}"
            raise ProviderError(ErrorKind.UNAVAILABLE, message) from error

    def _address(self, workspace: str) -> str:
        return f"{self.url.rstrip('/')}/tofu/states/{workspace}"

    def _pass(self, context: Context, workspace: str) -> str:
        left = min(max(context.deadline - clock.monotonic(), 0.0), _LONGEST_PASS) + _GRACE_SECONDS
        until = int(clock.utc_now().timestamp() + left)
        return Pass(context.owner, workspace, context.operation_id, until).written(self.key)


def _refused(answer: httpx.Response) -> ProviderError:
    if answer.status_code == 423:
        message = "somebody else works on the workspace"
        return ProviderError(ErrorKind.CONFLICT, message)
    kind = ErrorKind.UNAVAILABLE if answer.status_code >= 500 else ErrorKind.ACCESS_DENIED
    return ProviderError(kind, f"the platform answered {answer.status_code} when it was asked for the state")
