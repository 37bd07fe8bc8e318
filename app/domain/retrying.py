"""How often, and after which pauses, a failed step is tried again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from app.domain.enums import ErrorClass

# A step that has cost so many workers is not given to another one.
MAX_CRASHES = 3
DEFAULT_RETRY_ON = (ErrorClass.TRANSIENT, ErrorClass.TIMEOUT, ErrorClass.WORKER_LOST)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_attempts` counts the first one too. Pauses grow from `initial_seconds` by `multiplier` to `max_seconds`.

    Errors of the classes `retry_on` are tried again, but for those whose provider gives them a code in `never_on`.
    """

    max_attempts: int = 3
    initial_seconds: float = 1.0
    multiplier: float = 2.0
    max_seconds: float = 60.0
    jitter: bool = True
    retry_on: tuple[ErrorClass, ...] = DEFAULT_RETRY_ON
    never_on: tuple[str, ...] = ()

    def covers(self, error_class: ErrorClass, code: str) -> bool:
        """Whether it is any use to try again after such an error."""
        return error_class in self.retry_on and code not in self.never_on

    def document(self) -> dict[str, Any]:
        """The policy as it is written in a workflow definition."""
        return {
            "maxAttempts": self.max_attempts,
            "initialSeconds": self.initial_seconds,
            "multiplier": self.multiplier,
            "maxSeconds": self.max_seconds,
            "jitter": self.jitter,
            "retryOn": [item.value for item in self.retry_on],
            "nonRetryableCodes": list(self.never_on),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RetryPolicy:
        """The policy of a checked document; what it leaves out has its default."""
        return _policy(orjson.dumps(document)) if document else _DEFAULT


_DEFAULT = RetryPolicy()


@lru_cache(maxsize=256)
def _policy(text: bytes) -> RetryPolicy:
    """Steps of a workflow, and jobs of a plan, have the same again and again."""
    document, default = orjson.loads(text), _DEFAULT
    return RetryPolicy(
        max_attempts=int(document.get("maxAttempts", default.max_attempts)),
        initial_seconds=float(document.get("initialSeconds", default.initial_seconds)),
        multiplier=float(document.get("multiplier", default.multiplier)),
        max_seconds=float(document.get("maxSeconds", default.max_seconds)),
        jitter=bool(document.get("jitter", default.jitter)),
        retry_on=tuple(ErrorClass(item) for item in document.get("retryOn", default.retry_on)),
        never_on=tuple(str(code) for code in document.get("nonRetryableCodes", ())),
    )


def delay(policy: RetryPolicy, attempt: int, random: float) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 1). `random`, in [0, 1), is used with jitter.

    Jitter is full: evenly anywhere between nothing and the pause, so that steps that failed together do not come
    back together.
    """
    pause = policy.initial_seconds
    for _ in range(attempt - 1):
        # Stopped at the bound: a power of the multiplier would overflow a float after enough attempts.
        if pause >= policy.max_seconds:
            break
        pause *= policy.multiplier
    pause = min(pause, policy.max_seconds)
    return pause * random if policy.jitter else pause
