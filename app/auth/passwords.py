"""Passwords, kept as argon2id with the parameters that OWASP names (19 MiB, two passes, one lane: about 20 ms)."""

from __future__ import annotations

import asyncio
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST: Final = 12
LONGEST: Final = 256
# So many at a time: each takes a core, and what is not about passwords shall go on.
_AT_ONCE: Final = 2
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# What is compared for somebody who is not there, so that they take as long as who is.
_NOBODY: Final = _HASHER.hash("nobody")


class Passwords:
    """Hashes and compares; one for a process."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """What may be stored."""
        async with self._slots:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def proves(self, password: str, stored: str | None) -> bool:
        """Whether it is the password that `stored` was made of; None takes as long and is never right."""
        async with self._slots:
            return await asyncio.to_thread(_verify, password, stored)

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with weaker parameters than today's."""
        return _HASHER.check_needs_rehash(stored)


def _verify(password: str, stored: str | None) -> bool:
    try:
        _HASHER.verify(_NOBODY if stored is None else stored, password)
    except (VerificationError, InvalidHashError):
        return False
    return stored is not None
