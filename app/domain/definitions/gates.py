"""A step that waits for a person, for a word from outside, or for a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.definitions.reading import Findings, Section
from app.domain.durations import seconds_of
from app.domain.enums import FailureStrategy, GateKind
from app.domain.errors import Invalid
from app.domain.values import Value

DEFAULT_SECONDS = 7 * 86400.0
LONGEST_SECONDS = 90 * 86400.0
_GATE = ("kind", "prompt", "inputSchema", "approvers", "deadline", "onTimeout")
_MOST_APPROVERS = 100


@dataclass(frozen=True)
class GateDefinition:
    """What is asked, of whom, and until when. `prompt` may have expressions; `approvers` are e-mail addresses.

    `on_timeout` is the strategy that applies when nobody answers within `seconds`; for TIMER that is its purpose.
    """

    kind: GateKind
    prompt: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    approvers: tuple[str, ...] = ()
    seconds: float = DEFAULT_SECONDS
    on_timeout: FailureStrategy = FailureStrategy.HALT

    def document(self) -> dict[str, Any]:
        """As a step run keeps it."""
        return {
            "kind": self.kind.value,
            "prompt": self.prompt,
            "inputSchema": dict(self.input_schema),
            "approvers": list(self.approvers),
            "seconds": self.seconds,
            "onTimeout": self.on_timeout.value,
        }


def read_gate(findings: Findings, value: Value, here: tuple[str, ...]) -> GateDefinition:
    """The gate at `here`; its faults are added to the findings."""
    section = Section(findings, value, here, _GATE)
    section.require("kind")
    kind = section.choice("kind", GateKind) or GateKind.APPROVAL
    needed = {GateKind.TIMER: ("deadline",), GateKind.INPUT: ("prompt", "inputSchema")}.get(kind, ("prompt",))
    for name in needed:
        section.require(name)
    if kind is GateKind.TIMER:
        for name in ("inputSchema", "approvers", "onTimeout"):
            if section.value.get(name) is not None:
                findings.add("INVALID", f"a TIMER has no '{name}': nobody answers it", (*here, name))
    return GateDefinition(
        kind=kind,
        prompt=section.prose("prompt"),
        input_schema=section.schema("inputSchema"),
        approvers=_approvers(findings, section),
        seconds=_seconds(findings, section),
        on_timeout=section.choice("onTimeout", FailureStrategy) or FailureStrategy.HALT,
    )


def _seconds(findings: Findings, section: Section) -> float:
    text = section.text("deadline")
    if text is None:
        return DEFAULT_SECONDS
    try:
        return seconds_of(text, (*section.path, "deadline"), most=LONGEST_SECONDS)
    except Invalid as fault:
        findings.add(fault.code, fault.message, fault.path or section.path)
        return DEFAULT_SECONDS


def _approvers(findings: Findings, section: Section) -> tuple[str, ...]:
    given = section.sequence("approvers")
    here = (*section.path, "approvers")
    if len(given) > _MOST_APPROVERS:
        findings.add("LIMIT_EXCEEDED", f"a gate names at most {_MOST_APPROVERS} approvers", here)
    for position, email in enumerate(given):
        if not isinstance(email, str) or "@" not in email or "${" in email:
            findings.add("INVALID", "an e-mail address is needed here", (*here, str(position)))
    return tuple(dict.fromkeys(email for email in given if isinstance(email, str)))
