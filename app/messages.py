"""What may be said to a worker. A message is a doorbell: it says where to look, never what to do.

Losing one costs time, never work: the row it points to says that it is due until somebody has claimed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class StepDue:
    """A step run wants a worker."""

    actor: ClassVar[str] = "step_due"
    queue: ClassVar[str] = "steps"

    tenant_id: int
    job_id: int
    step_run_id: int


CATALOGUE: tuple[type[StepDue], ...] = (StepDue,)
