"""One step of a workflow: what it acts on, with what, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.domain.definitions.catalogue import Catalogue
from app.domain.definitions.gates import GateDefinition, read_gate
from app.domain.definitions.reading import Findings, Section, check_key
from app.domain.definitions.references import ReferenceChecker
from app.domain.definitions.template import check_type
from app.domain.enums import ConflictPolicy, ErrorClass, FailureStrategy, StepType
from app.domain.errors import Path, Severity
from app.domain.expressions import ExpressionError, embedded
from app.domain.naming import nearest
from app.domain.retrying import DEFAULT_RETRY_ON, RetryPolicy
from app.domain.values import Value

# The resource of a step that applies everything in the template that no other step names.
ALL = "*"
APPLYING = frozenset({StepType.RESOURCE_CREATE, StepType.RESOURCE_UPDATE})


_STEP = (
    "key",
    "name",
    "description",
    "type",
    "order",
    "configuration",
    "inputs",
    "outputs",
    "when",
    "dependsOn",
    "timeoutSeconds",
    "totalTimeoutSeconds",
    "heartbeatSeconds",
    "retry",
    "errorHandling",
    "checkpoint",
    "gate",
)
_CONFIGURATION = ("resource", "type", "connection", "task")
_RETRY = ("maxAttempts", "initialSeconds", "multiplier", "maxSeconds", "jitter", "retryOn", "nonRetryableCodes")
_LONGEST_SECONDS = 7 * 24 * 3600
_MOST_CODES = 50
_LONGEST_TOTAL_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True)
class StepDefinition:
    """One step. It names a resource of the template, declares one itself (`resource_type`), runs a `task`, or asks.

    `inputs`, `when` and the inputs of `compensate` ({"task", "inputs"}) have their expressions unevaluated.
    `order`: steps of equal order run side by side, steps of the next order after all of them; unless they declare what
    they depend on. A `timeout_seconds` of None leaves it to the planner, a `strategy` or `total_seconds` of None to the
    plan. `timeout_seconds` is for one attempt, `total_seconds` for all of them and what is polled in between,
    `heartbeat_seconds` for how long a provider that says how far it is may say nothing.
    """

    key: str
    type: StepType
    name: str = ""
    description: str = ""
    order: int = 1
    configuration: Mapping[str, Value] = field(default_factory=dict)
    resource: str | None = None
    resource_type: str | None = None
    connection: str | None = None
    task: str | None = None
    inputs: Mapping[str, Value] = field(default_factory=dict)
    outputs: Mapping[str, Value] = field(default_factory=dict)
    when: Value = None
    depends_on: tuple[str, ...] = ()
    timeout_seconds: float | None = None
    total_seconds: float | None = None
    heartbeat_seconds: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    strategy: FailureStrategy | None = None
    compensate: Mapping[str, Value] | None = None
    ignore: bool = False
    on_conflict: ConflictPolicy | None = None
    checkpoint: bool = False
    gate: GateDefinition | None = None


class StepReader:
    """Reads the steps of one workflow. `keys` are the keys of all of its steps."""

    def __init__(self, findings: Findings, keys: frozenset[str], catalogue: Catalogue | None) -> None:
        self.findings, self.keys, self.catalogue = findings, keys, catalogue

    def read(self, value: Value, here: Path, order: int) -> StepDefinition:
        """The step at `here`; `order` is the one it has unless it says otherwise."""
        section = Section(self.findings, value, here, _STEP)
        section.require("key")
        section.require("type")
        key = section.text("key") or ""
        if key:
            check_key(self.findings, key, (*here, "key"))
        handling = Section(
            self.findings,
            section.mapping("errorHandling"),
            (*here, "errorHandling"),
            ("strategy", "compensate", "ignore", "onConflict"),
        )
        target = Section(self.findings, section.mapping("configuration"), (*here, "configuration"), _CONFIGURATION)
        given_order = section.number("order", 0, 1_000_000, whole=True)
        step = StepDefinition(
            key=key,
            type=section.choice("type", StepType) or StepType.CUSTOM,
            name=section.label("name") or key,
            description=section.prose("description"),
            order=order if given_order is None else int(given_order),
            configuration=dict(target.value),
            resource=target.text("resource"),
            resource_type=target.text("type"),
            connection=target.text("connection"),
            task=target.text("task"),
            inputs=section.mapping("inputs"),
            outputs=section.mapping("outputs"),
            when=section.condition("when"),
            depends_on=section.keys_of("dependsOn", self.keys, "step"),
            timeout_seconds=section.number("timeoutSeconds", 0.001, _LONGEST_SECONDS),
            total_seconds=section.number("totalTimeoutSeconds", 0.001, _LONGEST_TOTAL_SECONDS),
            heartbeat_seconds=section.number("heartbeatSeconds", 1, _LONGEST_SECONDS),
            retry=self._retry(section),
            strategy=handling.choice("strategy", FailureStrategy),
            compensate=self._compensation(handling),
            ignore=handling.flag("ignore"),
            on_conflict=handling.choice("onConflict", ConflictPolicy),
            checkpoint=section.flag("checkpoint"),
            gate=None
            if section.value.get("gate") is None
            else read_gate(self.findings, section.value["gate"], (*here, "gate")),
        )
        if section.value.get("type") in list(StepType):
            self._check_target(step, here)
            self._check_timeouts(step, here)
        return step

    def _retry(self, section: Section) -> RetryPolicy:
        if section.value.get("retry") is None:
            return RetryPolicy()
        retry = Section(self.findings, section.mapping("retry"), (*section.path, "retry"), _RETRY)
        default = RetryPolicy()
        attempts = retry.number("maxAttempts", 1, 100, whole=True)
        initial = retry.number("initialSeconds", 0, 3600)
        multiplier = retry.number("multiplier", 1, 100)
        longest = retry.number("maxSeconds", 0, 24 * 3600)
        return RetryPolicy(
            max_attempts=default.max_attempts if attempts is None else int(attempts),
            initial_seconds=default.initial_seconds if initial is None else float(initial),
            multiplier=default.multiplier if multiplier is None else float(multiplier),
            max_seconds=default.max_seconds if longest is None else float(longest),
            jitter=retry.flag("jitter", default=default.jitter),
            retry_on=retry.choices("retryOn", ErrorClass) if "retryOn" in retry.value else DEFAULT_RETRY_ON,
            never_on=retry.words("nonRetryableCodes", most=_MOST_CODES),
        )

    def _compensation(self, handling: Section) -> dict[str, Value] | None:
        if handling.value.get("compensate") is None:
            return None
        here = (*handling.path, "compensate")
        section = Section(self.findings, handling.mapping("compensate"), here, ("task", "inputs"))
        section.require("task")
        task, inputs = section.text("task") or "", section.mapping("inputs")
        self._check_task(task, inputs, (*here, "task"), (*here, "inputs"))
        return {"task": task, "inputs": inputs}

    def _check_target(self, step: StepDefinition, here: Path) -> None:
        """Each type of step acts on one kind of thing."""
        place = (*here, "configuration")
        given = [name for name in ("resource", "type", "task") if step.configuration.get(name) is not None]
        if step.type is StepType.CUSTOM:
            allowed = ["task"]
        elif step.type in APPLYING:
            allowed = ["resource", "type"]
        else:
            allowed = ["resource"]
        if step.gate is not None:
            self._check_gate(step, given, here)
            return
        if len(given) != 1 or given[0] not in allowed:
            wanted = " or ".join(f"'{name}'" for name in allowed)
            message = f"a step of type {step.type} needs {wanted} in its configuration, and nothing else to act on"
            self.findings.add("REQUIRED" if not given else "INVALID", message, place)
            return
        if step.resource == ALL and step.type not in APPLYING:
            message = f"only RESOURCE_CREATE and RESOURCE_UPDATE can act on '{ALL}'"
            self.findings.add("INVALID", message, (*place, "resource"))
        if step.resource is not None and step.connection is not None:
            message = "the connection of a resource is said where the resource is declared"
            self.findings.add("INVALID", message, (*place, "connection"))
        if step.resource is not None and step.type in APPLYING and step.inputs:
            message = "inputs have no effect here: the resource is brought to the properties that the template declares"
            self.findings.add("UNUSED_INPUTS", message, (*here, "inputs"), severity=Severity.WARN)
        if step.resource_type is not None:
            check_type(
                self.findings,
                self.catalogue,
                step.resource_type,
                step.inputs,
                (*place, "type"),
                (*here, "inputs"),
            )
        if step.task is not None:
            self._check_task(step.task, step.inputs, (*place, "task"), (*here, "inputs"))

    def _check_timeouts(self, step: StepDefinition, here: Path) -> None:
        """All attempts take no less than one; only who says something while it works can be silent."""
        if step.total_seconds is not None and step.total_seconds < (step.timeout_seconds or 0):
            message = f"all attempts together have no less than the {step.timeout_seconds:g} s that one of them has"
            self.findings.add("INVALID", message, (*here, "totalTimeoutSeconds"))
        if step.gate is not None:
            for name, given in (
                ("totalTimeoutSeconds", step.total_seconds),
                ("heartbeatSeconds", step.heartbeat_seconds),
            ):
                if given is not None:
                    self.findings.add("INVALID", "how long a gate waits is its 'deadline'", (*here, name))
            return
        acts_on = step.task or step.resource_type
        if step.heartbeat_seconds is None or self.catalogue is None or acts_on is None:
            return
        known = self.catalogue.has_task(acts_on) or self.catalogue.has_type(acts_on)
        if known and not self.catalogue.reports(acts_on):
            message = f"{acts_on} does not say how far it is, so nobody can tell that it fell silent"
            self.findings.add("INVALID", message, (*here, "heartbeatSeconds"))

    def _check_gate(self, step: StepDefinition, given: list[str], here: Path) -> None:
        """A gate asks, and does nothing else."""
        if step.type is not StepType.CUSTOM:
            self.findings.add("INVALID", "only a step of type CUSTOM can be a gate", (*here, "gate"))
        for name in given:
            message = f"a gate does nothing, so it has no '{name}' to act on"
            self.findings.add("INVALID", message, (*here, "configuration", name))
        for name, present in (("inputs", bool(step.inputs)), ("errorHandling", step.compensate is not None)):
            if present:
                self.findings.add("INVALID", "a gate has nothing to run or to undo", (*here, name))

    def _check_task(self, task: str, inputs: Mapping[str, Value], here: Path, inputs_at: Path) -> None:
        if self.catalogue is None or not task:
            return
        if not self.catalogue.has_task(task):
            suggestion = nearest(task, self.catalogue.task_names())
            self.findings.add("UNKNOWN_REFERENCE", f"there is no task '{task}'", here, suggestion)
            return
        try:
            known = embedded.render_known(inputs)
        except ExpressionError:
            # The survey of references complains about it, with the exact place.
            return
        self.findings.adopt(self.catalogue.check_task(task, known)[1], inputs_at)


def survey_step(checker: ReferenceChecker, step: StepDefinition, here: Path) -> Iterator[Any]:
    """Every expression of a step, checked."""
    yield from checker.survey(step.inputs, (*here, "inputs"))
    yield from checker.survey(step.when, (*here, "when"))
    yield from checker.survey(step.outputs, (*here, "outputs"))
    yield from checker.survey(step.gate.prompt if step.gate else None, (*here, "gate", "prompt"))
    yield from checker.survey(dict(step.compensate or {}), (*here, "errorHandling", "compensate"))
