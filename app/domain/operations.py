"""What a step does to the world, and when."""

from __future__ import annotations

from enum import StrEnum


class OperationKind(StrEnum):
    """The ways in which a step acts.

    APPLY brings a resource to its declared properties, by creating, updating or replacing it. DELETE removes one.
    RETIRE removes the predecessor of a replaced one. ACT runs an action of a resource type. RUN runs a task.
    GATE asks, and does nothing else. VERIFY looks at a resource, and changes nothing. PREFLIGHT asks what will stand in
    the way of what comes after it, and changes nothing.
    """

    APPLY = "APPLY"
    DELETE = "DELETE"
    RETIRE = "RETIRE"
    ACT = "ACT"
    RUN = "RUN"
    GATE = "GATE"
    VERIFY = "VERIFY"
    PREFLIGHT = "PREFLIGHT"


# They look at the world, or only at people, and do nothing to it.
LOOKING = frozenset({OperationKind.GATE, OperationKind.VERIFY, OperationKind.PREFLIGHT})


class Phase(StrEnum):
    """APPLY can be undone; COMMIT, which begins when all of APPLY went well, removes what is no longer wanted."""

    APPLY = "APPLY"
    COMMIT = "COMMIT"


class EffectState(StrEnum):
    """How far an effect got. INTENT without an end means: ask the provider, never call blindly again. UNDONE: there is
    nothing of it, because it was taken back or because no attempt ever reached the provider.
    """

    INTENT = "INTENT"
    DONE = "DONE"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    UNDONE = "UNDONE"
