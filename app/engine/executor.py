"""Calls providers for one claimed step and says what came of it. Touches no table of ours but the log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from app import clock
from app.domain.enums import ChangeAction, ErrorClass, LogLevel
from app.domain.operations import EffectState, OperationKind
from app.domain.values import reveal
from app.engine import awaiting, preflighting, rehearsing, undoing, verifying
from app.engine.context import StepContext
from app.engine.work import Absent, Effect, Failed, Mode, Outcome, Succeeded, Unclear, Undone, Waiting, Work
from app.providers.base import (
    ActionResult,
    ErrorKind,
    Idempotency,
    OperationCancelled,
    Pending,
    ProviderError,
    ResourceState,
    ResourceType,
)
from app.providers.registry import Registry

_logger = structlog.get_logger(__name__)

# How long a provider may take to let go after its time is up.
_GRACE_SECONDS = 5.0
# Said when somebody asks how pending work stands, these are about the question; all else is about the work.
_UNANSWERED = frozenset({ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Executor:
    """Carries out work with the providers of `registry`."""

    registry: Registry

    async def execute(self, work: Work, context: StepContext) -> Outcome:
        """What came of the work. Never raises, except when this task itself is cancelled."""
        call = asyncio.ensure_future(self.call(work, context))
        given_up = await _waited_for(call, work, context)
        if given_up is None:
            return call.result()
        context.log(given_up, LogLevel.WARN)
        context.cancel()
        done, _ = await asyncio.wait({call}, timeout=_GRACE_SECONDS)
        if not done:
            call.cancel()
            await asyncio.wait({call}, timeout=_GRACE_SECONDS)
        return Unclear(ErrorClass.TIMEOUT, given_up)

    async def call(self, work: Work, context: StepContext) -> Outcome:
        """The same without looking at the clock. Work of a simulated job is done by stand-ins, and fails as planned."""
        planned = rehearsing.failure(work)
        if planned is not None:
            return planned
        registry, work = rehearsing.stage(self.registry, work)
        return await Executor(registry)._call(work, context)  # noqa: SLF001  the same, of other providers

    async def _call(self, work: Work, context: StepContext) -> Outcome:
        try:
            match work.mode:
                case Mode.RUN:
                    found = await self._observe(work, context) if _may_be_done(work) else Absent()
                    return await self._run(work, context) if isinstance(found, Absent) else found
                case Mode.POLL:
                    return await self._poll(work, context)
                case Mode.OBSERVE:
                    return await self._observe(work, context)
                case Mode.UNDO:
                    return await undoing.undo(self.registry, work, context)
        except ProviderError as error:
            return _failure(work, error)
        except asyncio.CancelledError:
            return Unclear(ErrorClass.TIMEOUT, "the provider had to be stopped")
        except Exception:
            # A bug in a provider says nothing about what it did before it raised.
            _logger.exception("a provider raised something that is not a ProviderError", step=work.key)
            message = f"the provider of {work.spec.get('type') or work.spec.get('task')} failed in an unexpected way"
            return Failed(ErrorClass.PERMANENT, "PROVIDER_BUG", message)

    # ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, work: Work, context: StepContext) -> Outcome:
        context.log(
            f"{work.action.value} {work.spec.get('type') or work.spec.get('task') or work.key}", stream="engine"
        )
        match work.operation:
            case OperationKind.APPLY:
                return await self._apply(work, context)
            case OperationKind.DELETE:
                return await self._remove(work, context)
            case OperationKind.RETIRE:
                return await self._retire(work, context)
            case OperationKind.ACT:
                kind = self.registry.resource(work.spec["type"])
                arguments = reveal(dict(work.inputs))
                return _acted(await kind.act(context, work.spec["action"], _required(work.prior), arguments))
            case OperationKind.RUN:
                outputs = await self.registry.task(work.spec["task"]).run(context, reveal(dict(work.inputs)))
                return Succeeded(outputs=outputs)
            case OperationKind.VERIFY:
                return await verifying.look(self.registry, work, context)
            case OperationKind.PREFLIGHT:
                return await preflighting.look(self.registry, work, context)
            case OperationKind.GATE:
                message = "a gate is asked and answered without a worker's help"
                raise AssertionError(message)

    async def _apply(self, work: Work, context: StepContext) -> Outcome:
        kind = self.registry.resource(work.spec["type"])
        properties = reveal(dict(work.inputs))
        left = await self._left_over(work, context)
        if left is not None:
            return await self._take_over(work, context, left)
        if work.action is ChangeAction.UPDATE:
            if work.difference is None:
                message = "an update needs a difference"
                raise AssertionError(message)
            return _settled(await kind.update(context, _required(work.prior), properties, work.difference))
        if work.action is ChangeAction.REPLACE and kind.delete_first:
            deleted = await self._delete(work, context, _required(work.prior))
            if not isinstance(deleted, Succeeded):
                return deleted
        return _settled(await kind.create(context, properties))

    async def _left_over(self, work: Work, context: StepContext) -> ResourceState | None:
        """What the creation that an earlier job has left open has made after all, beside what is recorded."""
        inherited = work.inherited
        kind = self.registry.resource(work.spec["type"])
        if inherited is None or (inherited.state is EffectState.FAILED and kind.idempotency is Idempotency.NONE):
            # Where nobody can tell, what the provider has said of it counts.
            return None
        context.log("finding out what an earlier job's creation of it has made", stream="engine")
        made = await awaiting.made(kind, reveal(dict(inherited.intended or {})), context)
        return None if made is None or (work.prior is not None and made.id == work.prior.id) else made

    async def _take_over(self, work: Work, context: StepContext, left: ResourceState) -> Outcome:
        """Go on from what the earlier job's operation has made: it is what is wanted, or is changed to that."""
        kind = self.registry.resource(work.spec["type"])
        properties = reveal(dict(work.inputs))
        missing = kind.compare(left.properties, properties)
        if work.action is ChangeAction.UPDATE or missing.action is ChangeAction.REPLACE:
            # What the preview did not show is not destroyed.
            message = f"{left.id}, which an earlier job has made, is not what is wanted: have the resource looked at"
            return Failed(ErrorClass.CONFLICT, "IN_DOUBT", message)
        context.log(f"an earlier job had made {left.id}; it is adopted", stream="engine")
        if missing.action is ChangeAction.NO_CHANGE:
            return _settled(left)
        return _settled(await kind.update(context, left, properties, missing))

    async def _remove(self, work: Work, context: StepContext) -> Outcome:
        left = await self._left_over(work, context)
        if work.prior is None:
            return Succeeded() if left is None else await self._delete(work, context, left)
        if left is not None:
            removed = await undoing.remove(self.registry.resource(work.spec["type"]), left, context)
            if not isinstance(removed, Undone):
                return removed
        return await self._delete(work, context, work.prior)

    async def _delete(self, work: Work, context: StepContext, state: ResourceState) -> Outcome:
        kind = self.registry.resource(work.spec["type"])
        pending = await kind.delete(context, state)
        if pending is not None:
            return _waiting(pending)
        if await kind.read(context, state) is not None:
            return Unclear(
                ErrorClass.INDETERMINATE, "the provider reported the deletion but the resource is still there"
            )
        return Succeeded()

    async def _retire(self, work: Work, context: StepContext) -> Outcome:
        """The deployment is accepted: what was kept for a rollback goes."""
        effect = work.effect
        if effect is None or effect.before is None:
            return Succeeded()
        kind = self.registry.resource(work.spec["type"])
        if effect.undo is not None:
            await kind.finalize_action(context, work.spec["action"], effect.before, effect.undo)
            return Succeeded()
        return await self._delete(work, context, effect.before)

    # ── poll and observe ─────────────────────────────────────────────────────────────────────────────────────────

    async def _poll(self, work: Work, context: StepContext) -> Outcome:
        if work.operation is OperationKind.VERIFY:
            return await verifying.look(self.registry, work, context)
        kind = self.registry.resource(work.spec["type"])
        answer = await kind.poll(context, work.handle or {})
        if isinstance(answer, ResourceState):
            answer = kind.with_undisclosed(answer, reveal(dict(work.inputs)))
        return Succeeded() if answer is None else _settled(answer)

    async def _observe(self, work: Work, context: StepContext) -> Outcome:
        """Nobody knows what became of the last attempt: find out."""
        context.log("finding out what the interrupted attempt has done", stream="engine")
        effect = work.effect
        if effect is None:
            return Absent()
        if work.operation is OperationKind.RUN:
            if self.registry.task(work.spec["task"]).can_repeat(reveal(dict(effect.intended or {}))):
                return Absent()
            message = f"nobody can tell whether {work.spec['task']} was carried out"
            return Failed(ErrorClass.INDETERMINATE, "INDETERMINATE", message)
        if work.operation is OperationKind.RETIRE:
            return Absent()
        if work.handle is not None:
            # Only a question about pending work was cut off: the work itself goes on.
            try:
                return await self._poll(work, context)
            except ProviderError as error:
                if error.kind.error_class is not ErrorClass.PERMANENT:
                    raise
        if work.operation is OperationKind.ACT:
            kind, arguments = self.registry.resource(work.spec["type"]), reveal(dict(effect.intended or {}))
            result = await kind.recover_action(context, work.spec["action"], _required(effect.before), arguments)
            return Absent() if result is None else _acted(result)
        if effect.action in (ChangeAction.DELETE, ChangeAction.UPDATE):
            return await self._observe_existing(effect, context, self.registry.resource(work.spec["type"]))
        return await self._observe_creation(work, effect, context)

    async def _observe_existing(self, effect: Effect, context: StepContext, kind: ResourceType) -> Outcome:
        """Whether what existed before was changed, or removed."""
        if effect.before is None:
            # What was to be removed is what an earlier job may have made: it is looked for anew.
            return Absent()
        if effect.action is ChangeAction.UPDATE:
            return await _observed_update(kind, effect, context)
        live = await kind.read(context, effect.before)
        return Succeeded() if live is None else Absent()

    async def _observe_creation(self, work: Work, effect: Effect, context: StepContext) -> Outcome:
        kind = self.registry.resource(work.spec["type"])
        try:
            made = await kind.recover(context, reveal(dict(effect.intended or {})))
        except ProviderError as error:
            if error.kind is not ErrorKind.ALREADY_EXISTS:
                raise
            # Somebody else's thing is in that place: this operation has made nothing.
            return Absent()
        if made is None:
            return Absent()
        if work.inherited is not None:
            made = await awaiting.in_place(kind, made, context)
            if made is None or not self._is_wanted(work, effect, made):
                return Absent()
        if isinstance(made, Pending):
            context.log("what the interrupted attempt has begun is under way", stream="engine")
            return _waiting(made)
        context.log(f"the interrupted attempt had made {made.id}; it is adopted", stream="engine")
        return Succeeded(state=made)

    def _is_wanted(self, work: Work, effect: Effect, made: ResourceState) -> bool:
        """Whether what was found is what this step was to bring about."""
        wanted = self.registry.resource(work.spec["type"]).compare(made.properties, reveal(dict(effect.intended or {})))
        return wanted.action is ChangeAction.NO_CHANGE


def _may_be_done(work: Work) -> bool:
    """Whether an earlier job's step may have carried out already what this one is about to do for the first time."""
    open_ = work.effect is not None and work.effect.state in (EffectState.INTENT, EffectState.UNKNOWN)
    return open_ and work.attempt == 1 and work.operation in (OperationKind.RUN, OperationKind.ACT)


async def _observed_update(kind: ResourceType, effect: Effect, context: StepContext) -> Outcome:
    """Whether the properties are as they were meant to be, as they were, or something between."""
    before = _required(effect.before)
    live = await kind.read(context, before)
    if live is None:
        return Absent()
    if kind.compare(live.properties, reveal(dict(effect.intended or {}))).action is ChangeAction.NO_CHANGE:
        return Succeeded(state=live)
    return Absent(partial=kind.compare(live.properties, before.properties).action is not ChangeAction.NO_CHANGE)


async def _waited_for(call: asyncio.Future[Outcome], work: Work, context: StepContext) -> str | None:
    """Wait for the provider; why it is not waited for any longer, None when it is done."""
    heartbeat = work.heartbeat_seconds if work.mode is Mode.RUN and work.rehearsal is None else None
    until = clock.monotonic() + work.timeout_seconds
    while True:
        now = clock.monotonic()
        left, patience = until - now, None if heartbeat is None else context.heard_at + heartbeat - now
        if left <= 0:
            return f"no answer within {work.timeout_seconds:g} s"
        if patience is not None and patience <= 0:
            return f"not a word within {heartbeat:g} s"
        done, _ = await asyncio.wait({call}, timeout=left if patience is None else min(left, patience))
        if done:
            return None


def _settled(answer: ResourceState | Pending) -> Outcome:
    if isinstance(answer, Pending):
        return _waiting(answer)
    return Succeeded(state=answer, outputs=answer.outputs)


def _waiting(pending: Pending) -> Waiting:
    return Waiting(pending.handle, pending.poll_after_seconds, pending.message, pending.percent, pending.partial)


def _acted(result: ActionResult) -> Succeeded:
    outputs = dict(result.outputs)
    return Succeeded(
        state=result.state, outputs=outputs, artifact=result.artifact, undo=result.undo, connection=result.connection
    )


def _failure(work: Work, error: ProviderError) -> Outcome:
    if isinstance(error, OperationCancelled):
        return Failed(ErrorClass.CANCELLED, error.code, error.message, partial=error.partial)
    if error.kind is ErrorKind.OUTCOME_UNKNOWN and work.mode is not Mode.UNDO:
        return Unclear(ErrorClass.INDETERMINATE, error.message)
    unanswered = (work.mode is Mode.POLL or work.undoing is not None) and error.kind in _UNANSWERED
    return Failed(
        error.kind.error_class,
        error.code,
        error.message,
        error.retry_after_seconds,
        error.partial,
        unanswered=unanswered,
    )


def _required(state: ResourceState | None) -> ResourceState:
    if state is None:
        message = "nothing is recorded of the resource"
        raise ProviderError(ErrorKind.NOT_FOUND, message)
    return state
