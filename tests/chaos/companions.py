"""What goes on beside the plans that are handed in: each plays a part of the product, and reckons it up itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tests.chaos.eyes import Eyes


class Companion(Protocol):
    """Plays while there are `more` plans to come, rests, and is asked what was wrong."""

    async def go(self, more: Callable[[], bool]) -> None:
        """Until there are no more."""

    async def rests(self, eyes: Eyes) -> bool:
        """Whether all that it began has ended. Raises one of UNREACHABLE while the database is away."""

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        """What is wrong when everything has come to rest; `folder` has the notes."""

    def said(self) -> str:
        """One line of the report."""

    @property
    def proved(self) -> bool:
        """Whether it has done anything that could have gone wrong."""
