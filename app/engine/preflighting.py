"""Asks providers what will stand in the way of a job's changes, before the job makes the first of them.

What is found to stand in the way ends the job. What could not be found out does not, for nobody knows that it will not
work; nor does what the job itself may remedy before it gets there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from app.domain.enums import ChangeAction, ErrorClass, LogLevel
from app.domain.errors import Diagnostic, Severity
from app.domain.planning.deployment import diagnostic_document
from app.domain.values import reveal
from app.engine.context import StepContext
from app.engine.work import Failed, Outcome, Succeeded, Work
from app.providers.base import ErrorKind, OperationCancelled, ProviderError
from app.providers.preflights import PreflightRequest
from app.providers.registry import Registry

_logger = structlog.get_logger(__name__)

CODE = "PREFLIGHT"
NOT_ASKED = "NOT_ASKED"
# One change may be asked about for so long, and so many at a time: a plan can have thousands.
ASKING_SECONDS = 60.0
AT_A_TIME = 8
_SHOWN, _KEPT = 5, 200
_LEVELS = {Severity.ERROR: LogLevel.ERROR, Severity.WARN: LogLevel.WARN, Severity.INFO: LogLevel.INFO}
# These say that nobody was there to answer, and not what the answer would have been.
_NO_ANSWER = frozenset(
    {ErrorKind.THROTTLED, ErrorKind.UNAVAILABLE, ErrorKind.OUTCOME_UNKNOWN, ErrorKind.CONFLICT, ErrorKind.INTERNAL}
)


async def look(registry: Registry, work: Work, context: StepContext) -> Outcome:
    """What comes of asking about every change that the work names."""
    turns = asyncio.Semaphore(AT_A_TIME)
    subjects = reveal(work.spec["subjects"])

    async def ask(subject: dict[str, Any]) -> list[Diagnostic]:
        async with turns:
            return [_placed(subject, found) for found in await _asked(registry, subject, context)]

    tasks = [asyncio.ensure_future(ask(subject)) for subject in subjects]
    try:
        findings = [found for several in await asyncio.gather(*tasks) for found in several]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for found in findings:
        context.log(f"{'.'.join(found.path)}: {found.message}", _LEVELS[found.severity], "preflight", code=found.code)
    errors = [found for found in findings if found.severity is Severity.ERROR]
    if errors:
        told = "; ".join(f"{'.'.join(found.path)}: {found.message}" for found in errors[:_SHOWN])
        more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        return Failed(ErrorClass.PERMANENT, CODE, f"{told}{more}")
    kept = [diagnostic_document(found) for found in findings[:_KEPT]]
    return Succeeded(outputs={"asked": len(subjects), "findings": kept})


async def _asked(registry: Registry, subject: dict[str, Any], context: StepContext) -> Sequence[Diagnostic]:
    kind = registry.resource(subject["type"])
    request = PreflightRequest(ChangeAction(subject["action"]), subject["properties"], frozenset(subject["unknown"]))
    try:
        async with asyncio.timeout(ASKING_SECONDS):
            return await kind.preflight(context.on_behalf_of(subject["resourceKey"]), request)
    except TimeoutError:
        return [_unasked(f"no answer within {ASKING_SECONDS:g} s")]
    except OperationCancelled:
        raise
    except ProviderError as error:
        if error.kind in _NO_ANSWER:
            return [_unasked(error.message)]
        return [Diagnostic(Severity.ERROR, error.code, error.message, error.path)]
    except Exception:
        # A bug in what only looks ahead is no reason not to begin.
        _logger.exception("a preflight raised something that is not a ProviderError", type=subject["type"])
        return [_unasked(f"the preflight of {subject['type']} failed in an unexpected way")]


def _unasked(why: str) -> Diagnostic:
    return Diagnostic(Severity.WARN, NOT_ASKED, f"could not be found out beforehand: {why}")


def _placed(subject: dict[str, Any], found: Diagnostic) -> Diagnostic:
    """The finding as one of the template."""
    severity = Severity.WARN if found.severity is Severity.ERROR and not subject["certain"] else found.severity
    place = ("properties", *found.path) if found.path else ()
    return replace(found, severity=severity, path=("resources", subject["resourceKey"], *place))
