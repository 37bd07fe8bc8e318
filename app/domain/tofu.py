"""Who may touch the state of a workspace: a pass for one operation, and what a new state has to be to follow another.

A pass is signed and not stored: it is made by the worker that holds the step, for as long as the attempt may take.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from typing import Any

_PURPOSE = b"windlass: passes to the state of workspaces"
_NAMES = frozenset({"owner", "workspace", "operation", "until"})


class OutOfTurn(Exception):
    """A state that does not follow the one that is kept; the message says why."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What the holder may do: work on one workspace for one resource, in one operation, until a moment (Unix seconds).

    `owner` is that of a provider's context: "windlass:<tenant>:<stack>:<key>".
    """

    owner: str
    workspace: str
    operation: str
    until: int

    @property
    def tenant_slug(self) -> str:
        return self.owner.split(":")[1] if self.owner.count(":") > 1 else ""

    def written(self, key: bytes) -> str:
        """As it is handed out."""
        content = _encoded(json.dumps(asdict(self), sort_keys=True).encode())
        return f"{content}.{_encoded(_signature(key, content))}"

    @classmethod
    def read(cls, key: bytes, text: str, now: float) -> Pass | None:
        """The pass of a text; None for one that is not ours, or no longer good."""
        content, _, signature = text.partition(".")
        try:
            if not hmac.compare_digest(_decoded(signature), _signature(key, content)):
                return None
            found = json.loads(_decoded(content))
        except (binascii.Error, ValueError):
            return None
        if not isinstance(found, dict) or found.keys() != _NAMES:
            return None
        made = cls(**found)
        return made if made.until > now else None


@dataclass(frozen=True, slots=True)
class Version:
    """What is known of a state without understanding it."""

    lineage: str
    serial: int
    md5: str

    @classmethod
    def of(cls, body: bytes) -> Version:
        """Raises ValueError for a body that is no state."""
        document: Any = json.loads(body)
        lineage, serial = document["lineage"], document["serial"]
        if not (isinstance(lineage, str) and lineage and isinstance(serial, int)):
            message = "a state has a lineage and a serial"
            raise ValueError(message)
        # Not for safety: it is what the client has sent.
        return cls(lineage, serial, hashlib.md5(body, usedforsecurity=False).hexdigest())

    def follow(self, kept: Version | None) -> bool:
        """Whether this state is news after the one that is kept. Raises OutOfTurn where it does not follow it."""
        if kept is None:
            return True
        if self.lineage != kept.lineage:
            message = "the state has another lineage than the one that is kept: it is of another workspace"
            raise OutOfTurn(message)
        if self.serial == kept.serial and self.md5 == kept.md5:
            return False
        if self.serial <= kept.serial:
            message = f"the state has the serial {self.serial}, and {kept.serial} is kept already"
            raise OutOfTurn(message)
        return True


def signing_key(secret_key: bytes) -> bytes:
    """The key of passes, which tells nothing of the one that it is made of."""
    return hmac.digest(secret_key, _PURPOSE, hashlib.sha256)


def _signature(key: bytes, content: str) -> bytes:
    return hmac.digest(key, content.encode(), hashlib.sha256)


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
