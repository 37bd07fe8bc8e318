"""What a provider is asked before a job begins, and what is made of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.enums import ChangeAction


@dataclass(frozen=True, slots=True)
class PreflightRequest:
    """One change that a job is about to make: CREATE, UPDATE or REPLACE.

    `properties` are as planned, in plain, without those of which anything depends on what the job has yet to make:
    `unknown` has the names of these. Paths of what is found lead from the properties.
    """

    action: ChangeAction
    properties: Mapping[str, Any]
    unknown: frozenset[str] = frozenset()

    @property
    def makes(self) -> bool:
        """Whether there will be a new thing."""
        return self.action is not ChangeAction.UPDATE
