"""Draws the declared machines: `python -m app.domain.drawing > docs/states.md`."""

from __future__ import annotations

import sys
from typing import Any

from app.domain.lifecycle import Lifecycle
from app.domain.statuses import JOB, JOB_STAGES, PLAN, PLAN_STAGES, RESOURCE, STEP
from app.domain.webhooks import WEBHOOK

_INTRODUCTION = """\
# States

Drawn from the declared machines in `app/domain/statuses.py` by `python -m app.domain.drawing`; a test compares.
Closed statuses are never left; those in round brackets rest until somebody acts.
"""

_MEANINGS = {
    "plan": "What a person follows. Many jobs may belong to one plan: a retry and a continued rollback are new jobs.",
    "job": "One execution of a plan, forward or back. A job that has ended never changes again.",
    "step": "One step of one job, with its retries, and on the way back its compensation.",
    "resource": "What is recorded of a thing outside. Whether it has drifted is a separate axis.",
    "webhook": "Whether an integrator's endpoint is sent events. Paused by a person, by 410 Gone, or after three days.",
}


def draw() -> str:
    """The document: a Mermaid diagram and a table for each machine."""
    machines = (PLAN, JOB, STEP, RESOURCE, WEBHOOK)
    return "\n".join([_INTRODUCTION, *(_section(machine) for machine in machines), _stages()])


def _section(machine: Lifecycle[Any]) -> str:
    lines = [f"## {machine.name.capitalize()}", "", _MEANINGS[machine.name], "", "```mermaid", "stateDiagram-v2"]
    lines.append(f"    [*] --> {machine.initial}")
    lines += [f"    {source} --> {target}: {event}" for source, event, target in machine.edges]
    lines += [f"    {status} --> [*]" for status in sorted(machine.closed)]
    lines += ["```", ""]
    if not machine.closed:
        lines += [f"Resting: {', '.join(sorted(machine.settled))}.", ""]
    elif machine.settled:
        lines += [f"Closed: {', '.join(sorted(machine.closed))}. (Resting: {', '.join(sorted(machine.settled))}.)", ""]
    else:
        lines += [f"Closed: {', '.join(sorted(machine.closed))}.", ""]
    return "\n".join(lines)


def _stages() -> str:
    lines = ["## Stages", "", "What a dashboard filters on.", "", "| stage | plans | jobs |", "|---|---|---|"]
    for stage, plans in PLAN_STAGES.items():
        jobs = JOB_STAGES[stage]
        lines.append(f"| {stage} | {', '.join(plans)} | {', '.join(jobs) or '–'} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(draw())
