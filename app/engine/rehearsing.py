"""What is different about the work of a simulated job.

Its providers are stand-ins, for which there exists what the journal says; it fails where it was asked to; nothing of it
waits for people or time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.db.ledger import Ledger
from app.domain.enums import ChangeAction, ErrorClass, GateKind
from app.domain.operations import EffectState, OperationKind
from app.domain.placeholders import placeholder
from app.domain.simulation import Simulation
from app.engine.work import Absent, Failed, Mode, Outcome, Rehearsal, Work
from app.providers.base import ResourceState
from app.providers.registry import Registry
from app.providers.simulated import SimulatedRegistry


def rehearsal_of(ledger: Ledger, key: str, mode: Mode) -> Rehearsal | None:
    """How the step `key` of the ledger's job is rehearsed; None for a real job."""
    if not ledger.simulated:
        return None
    simulation = Simulation.of(ledger.configuration)
    # Whoever looks what an attempt has left only looks.
    return Rehearsal(fails=mode is not Mode.OBSERVE and simulation.fails(key, undo=mode is Mode.UNDO))


def decided(work: Work, outcome: Outcome | None) -> Outcome | None:
    """What comes of work of which nobody has to be asked: its own `outcome`, or the failure that is planned for it."""
    if outcome is None or isinstance(outcome, Absent):
        return outcome
    return failure(work) or outcome


def failure(work: Work) -> Failed | None:
    """The failure that is planned for the work, if one is."""
    if work.rehearsal is None or not work.rehearsal.fails:
        return None
    return Failed(ErrorClass.PERMANENT, "SIMULATED", "fails because the simulation was asked to let it fail")


def excuses(work: Work) -> bool:
    """Whether faults of the work's inputs do not count: when the job was made all that was known was without fault, so
    that they are those of made-up values.
    """
    return work.rehearsal is not None


def stage(registry: Registry, work: Work) -> tuple[Registry, Work]:
    """The providers that the work is done with, and the work as it is done."""
    if work.rehearsal is None:
        return registry, work
    references = work.spec.get("references") or {}
    guessed = bool(references.get("steps") or references.get("resources"))
    stand_ins = SimulatedRegistry(registry, _existing(registry, work), guessed=guessed)
    if work.operation is OperationKind.VERIFY:
        # What was made up says nothing about what will hold.
        work = replace(work, spec={**work.spec, "rounds": 0, "conditions": []})
    return stand_ins, work


def answer(gate: Mapping[str, Any]) -> dict[str, Any]:
    """What a gate is answered with."""
    if gate["inputSchema"]:
        return dict(placeholder(gate["inputSchema"], "answer"))
    return {"approved": True} if gate["kind"] == GateKind.APPROVAL else {}


def _existing(registry: Registry, work: Work) -> list[ResourceState]:
    """The states of the work's resource that there are."""
    effect = work.effect
    if work.operation is OperationKind.RETIRE or work.mode is Mode.OBSERVE:
        states = [None if effect is None else effect.before]
    elif work.mode is not Mode.UNDO:
        states = [work.prior]
    elif effect is None or effect.state is not EffectState.DONE:
        states = [None if effect is None else effect.before]
    else:
        states = {
            ChangeAction.CREATE: [effect.after],
            ChangeAction.UPDATE: [effect.after],
            ChangeAction.DELETE: [],
            ChangeAction.REPLACE: [effect.after, *([] if _deletes_first(registry, work) else [effect.before])],
        }.get(effect.action, [effect.after or effect.before])
    return [state for state in states if state is not None]


def _deletes_first(registry: Registry, work: Work) -> bool:
    return "type" in work.spec and registry.deletes_first(work.spec["type"])
