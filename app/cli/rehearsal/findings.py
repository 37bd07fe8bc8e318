"""What a rehearsal has shown of one plan, and how it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from app.cli.rehearsal.inventory import Thing
from app.cli.rehearsal.stage import Left
from app.cli.rehearsal.standins import Stand
from app.domain.statuses import JobStatus, StepStatus


class Exit(IntEnum):
    """What `windlass rehearse` ends with; 1 and 2 are for what is refused or not understood, as with every command."""

    WOULD_SUCCEED = 0
    WOULD_FAIL_CLEANLY = 3
    WOULD_LEAVE_SOMETHING = 4


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed, and why."""

    step: str
    code: str
    message: str
    stand: Stand | None
    injected: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """`remained` and `strays` name what differs from before the plan: by its records, and by asking the emulators."""

    plan: str
    stack: str
    status: JobStatus | None
    preview: Mapping[str, Any]
    stands: Mapping[str, Stand]
    failures: Sequence[Failure] = ()
    undone: Sequence[str] = ()
    remained: Sequence[str] = ()
    strays: Sequence[Thing] = ()
    made: int = 0
    simulated: Sequence[str] = field(default=())

    @property
    def failed(self) -> bool:
        """Whether the plan would not succeed; steps whose failure is ignored may have failed all the same."""
        return self.status not in (None, JobStatus.SUCCEEDED)

    @property
    def emulates(self) -> bool:
        """Whether an emulator had any part in it."""
        return Stand.EMULATED in self.stands.values()

    @property
    def exit(self) -> Exit:
        if not self.failed:
            return Exit.WOULD_SUCCEED
        left = bool(self.remained or self.strays) or self.status in (JobStatus.ROLLBACK_FAILED, JobStatus.PAUSED)
        return Exit.WOULD_LEAVE_SOMETHING if left else Exit.WOULD_FAIL_CLEANLY

    def document(self) -> dict[str, Any]:
        """As `--output json` prints it."""
        return {
            "plan": self.plan,
            "stack": self.stack,
            "emulated": True,
            "status": None if self.status is None else self.status.value,
            "exit": int(self.exit),
            "changes": [
                {
                    "key": change["key"],
                    "type": change["type"],
                    "action": change["action"],
                    "by": stand.value if (stand := self.stands.get(change["key"])) else None,
                }
                for change in self.preview.get("changes", ())
            ],
            "failures": [
                {
                    "step": one.step,
                    "code": one.code,
                    "message": one.message,
                    "by": one.stand.value if one.stand else None,
                    "injected": one.injected,
                }
                for one in self.failures
            ],
            "undone": list(self.undone),
            "remained": list(self.remained),
            "strays": [{"type": thing.type, "id": thing.id} for thing in self.strays],
            "onlySimulated": list(self.simulated),
        }


def differences(before: Mapping[str, Left], after: Mapping[str, Left]) -> list[str]:
    """What is recorded of a stack now and was not before, or the other way round, each as a phrase."""
    found = []
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if was is None and now is not None:
            found.append(f"{key} ({now.type} {now.external_id}) is there, {now.status}")
        elif was is not None and now is None:
            found.append(f"{key} ({was.type} {was.external_id}) is gone")
        elif (
            was is not None
            and now is not None
            and (was.external_id, was.properties)
            != (
                now.external_id,
                now.properties,
            )
        ):
            found.append(f"{key} ({now.type} {now.external_id}) is not as it was, {now.status}")
    return found


def undone(statuses: Mapping[str, StepStatus]) -> list[str]:
    """The steps that were taken back, the last one first; `statuses` in the order of the steps."""
    return [key for key, status in reversed(list(statuses.items())) if status is StepStatus.COMPENSATED]
