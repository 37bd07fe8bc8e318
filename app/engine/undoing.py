"""Takes one journalled effect back.

Everything is decided from the journal (what was meant, what was before, what came after) and from the live resource,
never from the template. Undoing is safe to repeat: a worker that dies half way is followed by one that begins again.
Where the provider takes its time, the wait is kept in the step's row, as that of a step that goes forward is: no hand
is full meanwhile, and whoever comes back goes on with what was begun.
"""

from __future__ import annotations

from app.domain.diffing import same
from app.domain.enums import ChangeAction, ConflictPolicy, ErrorClass, LogLevel, RollbackResolution
from app.domain.operations import EffectState, OperationKind
from app.domain.resolving import GONE
from app.domain.timeouts import DAY
from app.domain.values import reveal
from app.engine import awaiting
from app.engine.context import StepContext
from app.engine.work import Effect, Failed, NotUndoable, Outcome, UndoAim, Undone, Waiting, Work
from app.providers.base import Context, ErrorKind, Pending, ProviderError, ResourceState, ResourceType
from app.providers.registry import Registry


async def undo(registry: Registry, work: Work, context: StepContext) -> Outcome:
    """Take the effect of `work` back. Raises ProviderError."""
    effect = work.effect
    if effect is None:
        return Undone()
    if work.operation is OperationKind.RUN:
        return await _undo_task(registry, work, effect, context)
    kind = registry.resource(work.spec["type"])
    if work.spec.get("resolution") == RollbackResolution.ACCEPT_ACTUAL:
        return await _accept(kind, effect, context)
    context.log(f"undoing {effect.action.value} of {work.spec['type']}", stream="engine")
    if work.operation is OperationKind.ACT:
        return await _undo_action(kind, work, effect, context)
    if work.undoing is not None:
        come = await _come_back(kind, work, work.undoing, effect, context)
        if come is not None:
            return come
    return await _undo_change(kind, work, effect, context)


async def _undo_change(kind: ResourceType, work: Work, effect: Effect, context: StepContext) -> Outcome:
    match effect.action:
        case ChangeAction.CREATE:
            return await _undo_creation(kind, effect, context)
        case ChangeAction.UPDATE:
            policy = ConflictPolicy(work.spec.get("onConflict") or ConflictPolicy.FAIL)
            return await _undo_update(kind, effect, policy, context)
        case ChangeAction.REPLACE:
            return await _undo_replacement(kind, effect, context)
        case ChangeAction.DELETE:
            return await _undo_deletion(kind, effect, context)
        case _:
            return Undone(state=effect.before)


async def _come_back(
    kind: ResourceType, work: Work, aim: UndoAim, effect: Effect, context: StepContext
) -> Outcome | None:
    """Ask how what an earlier turn has begun stands; None where that is done, and the undoing goes on from there."""
    kept = work.handle or {}
    answer = await kind.poll(context, kept["handle"])
    if isinstance(answer, Pending):
        waited = kept["waited"] + answer.poll_after_seconds
        longest = work.total_seconds or DAY
        if waited > longest:
            message = f"the provider has not come to an end within {longest:g} s"
            return Failed(ErrorClass.TIMEOUT, "TOTAL_TIMEOUT", message)
        return _later(aim, answer, waited)
    match aim:
        case UndoAim.MAKE:
            return _restored(kind, effect.before, answer)
        case UndoAim.REMOVE:
            made = await _made(kind, effect, context)
            if isinstance(made, ResourceState) and (effect.before is None or made.id != effect.before.id):
                return _still_there(made)
            return Undone() if effect.action is ChangeAction.CREATE else None
        case UndoAim.FIND:
            return None


def _later(aim: UndoAim, pending: Pending, waited: float | None = None) -> Waiting:
    """The wait as it is kept in the step's row; `waited`: the seconds that were waited so far, this time included."""
    seconds = pending.poll_after_seconds
    handle = {"undoing": aim.value, "handle": pending.handle, "waited": seconds if waited is None else waited}
    return Waiting(handle, seconds, pending.message, pending.percent)


async def _accept(kind: ResourceType, effect: Effect, context: StepContext) -> Outcome:
    """Somebody wants the resource taken as it is now: it is only looked at."""
    making = effect.action in (ChangeAction.CREATE, ChangeAction.REPLACE)
    live = await awaiting.in_place(kind, await _made(kind, effect, context), context) if making else None
    known = effect.before if making else effect.after or effect.before
    if live is None and known is not None:
        live = await kind.read(context, known)
    if live is None and effect.before is None:
        context.log("nothing of it is there", stream="engine")
        return Undone()
    return NotUndoable("accepted as it is" if live else "accepted: it is gone", state=live, seen=True)


async def _undo_creation(kind: ResourceType, effect: Effect, context: StepContext) -> Outcome:
    made = await _made(kind, effect, context)
    if made is None:
        context.log("nothing had been made", stream="engine")
        return Undone(nothing=True)
    if isinstance(made, Pending):
        return _later(UndoAim.FIND, made)
    return await _remove(kind, made, context)


async def _undo_update(kind: ResourceType, effect: Effect, policy: ConflictPolicy, context: StepContext) -> Outcome:
    before = effect.before
    if before is None:
        return Undone()
    # What nobody can read, as a password, a provider recognises by the state that it is shown: by ours, if it still is.
    live = await kind.read(context, effect.after or before)
    if live is None:
        return Failed(ErrorClass.CONFLICT, GONE, "the resource is gone, so its previous properties cannot be restored")
    back = kind.compare(live.properties, before.properties)
    if back.action is ChangeAction.NO_CHANGE:
        return Undone(state=live)
    after = effect.after
    if effect.state is EffectState.DONE and after is not None and not same(live.properties, after.properties):
        names = sorted(name for name in after.properties if not same(live.properties.get(name), after.properties[name]))
        changed = f"somebody else has changed {', '.join(names)} since"
        if policy is ConflictPolicy.SKIP:
            return NotUndoable(f"left as it is: {changed}", state=live, seen=True)
        if policy is ConflictPolicy.FAIL:
            message = f"{changed}; restoring would overwrite that"
            return Failed(ErrorClass.CONFLICT, "CHANGED_BY_OTHERS", message)
        context.log(f"{changed}; it is overwritten, as the plan says", LogLevel.WARN, stream="engine")
    return _restored(kind, before, await kind.update(context, live, dict(before.properties), back))


async def _undo_replacement(kind: ResourceType, effect: Effect, context: StepContext) -> Outcome:
    made = await _made(kind, effect, context)
    if isinstance(made, Pending):
        return _later(UndoAim.FIND, made)
    if made is not None and (effect.before is None or made.id != effect.before.id):
        removed = await _remove(kind, made, context)
        if not isinstance(removed, Undone):
            return removed
    before = effect.before
    if before is None:
        return Undone()
    live = await kind.read(context, before)
    if live is not None:
        return Undone(state=live)
    if kind.stateful:
        return NotUndoable("the predecessor had to be deleted first, and its data went with it")
    context.log("making the predecessor again", stream="engine")
    return _restored(kind, before, await kind.create(context, dict(before.properties)))


async def _undo_deletion(kind: ResourceType, effect: Effect, context: StepContext) -> Outcome:
    before = effect.before
    if before is None:
        return Undone()
    live = await kind.read(context, before)
    if live is not None:
        return Undone(state=live)
    if kind.stateful:
        return NotUndoable("the resource is deleted, and its data went with it")
    made = await kind.recover(context, dict(before.properties))
    return _restored(kind, before, made or await kind.create(context, dict(before.properties)))


async def _undo_action(kind: ResourceType, work: Work, effect: Effect, context: StepContext) -> Outcome:
    action = work.spec["action"]
    before = effect.before
    if before is None:
        return Undone()
    material = effect.undo
    if material is None and effect.state is not EffectState.DONE:
        done = await kind.recover_action(context, action, before, reveal(dict(effect.intended or {})))
        material = done.undo if done is not None else None
    if material is None:
        context.log(f"{action} leaves nothing to take back", stream="engine")
        return Undone()
    await kind.undo_action(context, action, before, material)
    live = await kind.read(context, before)
    return Undone(state=live or before)


async def _undo_task(registry: Registry, work: Work, effect: Effect, context: StepContext) -> Outcome:
    compensate = work.spec.get("compensate")
    if compensate:
        task = registry.task(compensate["task"])
        inputs, faults = task.check(reveal(compensate.get("inputs") or {}))
        if faults:
            message = "; ".join(f"{'.'.join(fault.path)}: {fault.message}" for fault in faults)
            return Failed(ErrorClass.PERMANENT, "INVALID", f"compensation {task.name}: {message}")
        await task.run(context, reveal(inputs))
        return Undone()
    task = registry.task(work.spec["task"])
    if not task.can_undo(reveal(dict(effect.intended or {}))):
        return NotUndoable(f"{task.name} cannot be undone and names no compensation")
    context.log(f"undoing {task.name}", stream="engine")
    await task.undo(context, reveal(dict(effect.intended or {})), reveal(dict(work.outputs)))
    return Undone()


async def _made(kind: ResourceType, effect: Effect, context: StepContext) -> ResourceState | Pending | None:
    """What the effect has made, as far as anybody can tell; Pending while it is still being made."""
    if effect.after is not None:
        return await kind.read(context, effect.after)
    try:
        return await kind.recover(context, reveal(dict(effect.intended or {})))
    except ProviderError as error:
        if error.kind is not ErrorKind.ALREADY_EXISTS:
            raise
        # Somebody else's thing is in that place: it is not ours to remove.
        context.log(f"left alone: {error.message}", LogLevel.WARN, stream="engine")
        return None


async def remove(kind: ResourceType, state: ResourceState, context: Context) -> Outcome:
    """Remove what was made, waiting for it in place. Undone where it is gone; raises ProviderError."""
    await awaiting.in_place(kind, await kind.delete(context, state), context)
    return await _removed(kind, state, context)


async def _remove(kind: ResourceType, state: ResourceState, context: StepContext) -> Outcome:
    """Remove what was made; Waiting while the provider is at it."""
    pending = await kind.delete(context, state)
    if pending is not None:
        return _later(UndoAim.REMOVE, pending)
    return await _removed(kind, state, context)


async def _removed(kind: ResourceType, state: ResourceState, context: Context) -> Outcome:
    """Whether the provider has done what it says: what was made is gone."""
    return _still_there(state) if await kind.read(context, state) is not None else Undone()


def _still_there(state: ResourceState) -> Failed:
    return Failed(ErrorClass.TRANSIENT, "NOT_STABILIZED", f"{state.id} is still there after its deletion")


def _restored(kind: ResourceType, before: ResourceState | None, answer: ResourceState | Pending | None) -> Outcome:
    """What was before is there again, or will be."""
    if isinstance(answer, Pending):
        return _later(UndoAim.MAKE, answer)
    if answer is None:
        message = "the provider reported a deletion where a resource was to be made"
        raise ProviderError(ErrorKind.NOT_STABILIZED, message)
    return Undone(state=kind.with_undisclosed(answer, before.properties if before is not None else {}))
