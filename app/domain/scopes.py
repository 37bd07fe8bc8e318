"""How far a rollback goes: which steps of a job keep what they have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.domain.enums import RollbackScope
from app.domain.statuses import StepStatus

_ALIVE = frozenset({StepStatus.SUCCEEDED, StepStatus.NO_CHANGE})
_PASSED = _ALIVE | {StepStatus.SKIPPED}
# What failed, and what has been taken back for its sake: the branch grows from it in the same way all along.
_FALLEN = frozenset(
    {
        StepStatus.FAILED,
        StepStatus.UNKNOWN,
        StepStatus.COMPENSATING,
        StepStatus.COMPENSATED,
        StepStatus.COMPENSATION_SKIPPED,
        StepStatus.COMPENSATION_FAILED,
    }
)


class ScopedStep(Protocol):
    """What a scope needs to know of a step."""

    @property
    def key(self) -> str: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def ignore(self) -> bool: ...
    @property
    def checkpoint(self) -> str | None:
        """The workflow step that is a checkpoint and that this step is of, or is one of several of."""


def kept(
    steps: Sequence[ScopedStep],
    now: Mapping[str, StepStatus],
    scope: RollbackScope,
    checkpoint: str | None = None,
) -> frozenset[str]:
    """The keys of the steps that a rollback of this scope leaves as they are.

    FAILED_BRANCH takes back what failed, and of what that needed all that nothing else needs which stands.
    TO_CHECKPOINT keeps each checkpoint that was passed, or only the one named, and all that it needed.
    `steps` come in an order in which needs come first.
    """
    if scope is RollbackScope.FAILED_BRANCH:
        return _outside_branch(steps, now)
    if scope is RollbackScope.TO_CHECKPOINT:
        return _before_checkpoints(steps, now, checkpoint)
    return frozenset()


def _outside_branch(steps: Sequence[ScopedStep], now: Mapping[str, StepStatus]) -> frozenset[str]:
    branch = {step.key for step in steps if now[step.key] in _FALLEN and not step.ignore}
    needed_by: dict[str, list[ScopedStep]] = {step.key: [] for step in steps}
    for step in steps:
        for need in step.needs:
            if need in needed_by:
                needed_by[need].append(step)
    for step in reversed(steps):
        users = [user.key for user in needed_by[step.key]]
        standing = any(now[key] in _ALIVE and key not in branch for key in users)
        if not standing and any(key in branch for key in users):
            branch.add(step.key)
    return frozenset(step.key for step in steps) - branch


def _before_checkpoints(steps: Sequence[ScopedStep], now: Mapping[str, StepStatus], only: str | None) -> frozenset[str]:
    members: dict[str, list[str]] = {}
    for step in steps:
        if step.checkpoint is not None and only in (None, step.checkpoint):
            members.setdefault(step.checkpoint, []).append(step.key)
    passed = {
        key
        for keys in members.values()
        if all(now[key] in _PASSED for key in keys) and any(now[key] in _ALIVE for key in keys)
        for key in keys
    }
    for step in reversed(steps):
        if step.key in passed:
            passed.update(step.needs)
    return frozenset(passed)
