"""The values that planning takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from app.domain.definitions.catalogue import Catalogue
from app.domain.enums import ChangeAction, ChangeSource, FailureStrategy, Reversibility, StepType
from app.domain.errors import Diagnostic
from app.domain.operations import OperationKind, Phase
from app.domain.policies import Finding, overridable
from app.domain.retrying import RetryPolicy
from app.domain.values import Value, redact

if TYPE_CHECKING:
    from app.domain.definitions.template import TemplateDefinition
    from app.domain.definitions.workflow import WorkflowDefinition
    from app.domain.diffing import Difference, PropertyChange
    from app.domain.drifting import Deviation
    from app.domain.graph import DependencyGraph
    from app.domain.planning.restoring import Target
    from app.domain.upstream import Upstream
    from app.domain.verification import Verification


class PlanningCatalogue(Catalogue, Protocol):
    """What planning asks of resource types and tasks beyond their schemas; all pure."""

    def compare(
        self,
        type_name: str,
        prior: Mapping[str, Value] | None,
        desired: Mapping[str, Value],
        *,
        unknown_forces: bool = False,
    ) -> Difference: ...
    def is_stateful(self, type_name: str) -> bool: ...
    def deletes_first(self, type_name: str) -> bool: ...
    def preflights(self, type_name: str) -> bool: ...
    def action_reversibility(self, type_name: str, action: str) -> Reversibility: ...
    def task_undoable(self, name: str, inputs: Mapping[str, Value]) -> bool: ...
    def task_pure(self, name: str) -> bool: ...
    def provider_name(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class RecordedResource:
    """What is known of a live resource of the stack. `properties` are those we last applied, but for what drifted.

    `drift` is what was found to differ from what we applied; `missing`: it was found to be gone. `in_doubt`: whether it
    was ever made is not known, and nothing of it is.
    """

    key: str
    type: str
    properties: Mapping[str, Value]
    outputs: Mapping[str, Value]
    external_id: str | None = None
    resource_id: int | None = None
    connection: str | None = None
    depends_on: tuple[str, ...] = ()
    retain: bool = False
    prevent_destroy: bool = False
    # A resource that failed or whose state is unknown has nothing reliable to compare with.
    settled: bool = True
    drift: tuple[Deviation, ...] = ()
    missing: bool = False
    in_doubt: bool = False

    @property
    def found(self) -> Mapping[str, Value] | None:
        """What a plan begins with: the properties as they really are, None where the resource is not there."""
        return None if self.missing or self.in_doubt else self.properties


@dataclass(frozen=True, slots=True)
class PlanningInput:
    """Everything a plan is computed from. `parameters` as the user gave them."""

    catalogue: PlanningCatalogue
    stack: str
    plan_name: str
    tenant_slug: str
    template: TemplateDefinition | None = None
    workflow: WorkflowDefinition | None = None
    parameters: Mapping[str, Value] = field(default_factory=dict)
    recorded: tuple[RecordedResource, ...] = ()
    verification: Verification | None = None
    # What has to hold beside what the template asks for.
    constraints: tuple[Value, ...] = ()
    # Keys of the resources that alone are brought about or taken away, with what they need; None: all.
    only: frozenset[str] | None = None
    # Plans whose outputs its expressions read.
    upstream: tuple[Upstream, ...] = ()
    # A state to be had again, in place of a template.
    target: Target | None = None
    # Whether the outside world is asked beforehand, where it can be.
    preflight: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a changed property comes from."""

    source: ChangeSource
    cause: str | None = None
    # Where drift is the cause: what is there now.
    actual: Value = None


@dataclass(frozen=True, slots=True)
class ResourceChange:
    """What one step will do to one thing."""

    key: str
    type: str
    action: ChangeAction
    wave: int
    reversibility: Reversibility
    downtime: bool = False
    resource_id: int | None = None
    properties: tuple[tuple[PropertyChange, Origin], ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    # The properties of the resource as it is; None where it is not there.
    before: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step of a job to be. `spec` is what the worker executes, its expressions unevaluated."""

    key: str
    name: str
    type: StepType
    operation: OperationKind
    phase: Phase
    change: ChangeAction
    needs: tuple[str, ...]
    spec: Mapping[str, Value]
    timeout_seconds: float
    retry: RetryPolicy
    # As the workflow says: of all attempts together, and of silence. What None means is said in app.domain.timeouts.
    total_seconds: float | None = None
    heartbeat_seconds: float | None = None
    wave: int = 0
    strategy: FailureStrategy | None = None
    resource_key: str | None = None
    workflow_step_key: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A plan worked out: what will be done, in which order, and what cannot be taken back."""

    parameters: Mapping[str, Value]
    steps: tuple[PlannedStep, ...]
    changes: tuple[ResourceChange, ...]
    graph: DependencyGraph
    points_of_no_return: tuple[str, ...]
    diagnostics: tuple[Diagnostic, ...]
    # What the tenant's policies say of it.
    findings: tuple[Finding, ...] = ()
    # Plans whose outputs its steps read.
    upstream: tuple[Upstream, ...] = ()

    @property
    def growth(self) -> int:
        """How many resources there are more when it has been carried out; negative, how many less."""
        weights = {ChangeAction.CREATE: 1, ChangeAction.DELETE: -1, ChangeAction.DETACH: -1}
        return sum(weights.get(change.action, 0) for change in self.changes)

    @property
    def is_empty(self) -> bool:
        """Whether carrying it out would change nothing and run nothing."""
        return all(change.action is ChangeAction.NO_CHANGE for change in self.changes)

    @property
    def acting(self) -> tuple[ResourceChange, ...]:
        """The changes as if nobody asked beforehand: there is nothing about that to agree to."""
        asking = {step.key for step in self.steps if step.operation is OperationKind.PREFLIGHT}
        if not asking:
            return self.changes
        # Those who ask are the first wave, and nobody else is.
        return tuple(replace(change, wave=change.wave - 1) for change in self.changes if change.key not in asking)

    @property
    def indivisible(self) -> tuple[str, ...]:
        """The steps that keep something until the job has succeeded: a rollback of a part would leave that."""
        replaced = {
            change.key for change in self.changes if change.action is ChangeAction.REPLACE and not change.downtime
        }
        return tuple(
            step.key
            for step in self.steps
            if step.key in replaced or step.type in (StepType.RESOURCE_RESTORE, StepType.RESOURCE_MIGRATE)
        )

    def preview(self) -> dict[str, Any]:
        """The preview as stored and shown: no secret and no unknown in it, only marks for them."""
        changes = [_change_document(change) for change in self.changes]
        counted = dict.fromkeys(ChangeAction, 0)
        for change in self.changes:
            counted[change.action] += 1
        names = {ChangeAction.NO_CHANGE: "noChange"}
        # Whoever agrees to a plan agrees to what it breaks: another policy that it fails is another preview.
        agreed = [_change_document(change) for change in self.acting]
        judged = [agreed, excused] if (excused := sorted(overridable(self.findings))) else agreed
        return {
            "hash": hashlib.sha256(orjson.dumps(judged, option=orjson.OPT_SORT_KEYS)).hexdigest(),
            "summary": {names.get(action, action.lower()): count for action, count in counted.items()},
            "changes": changes,
            "pointsOfNoReturn": list(self.points_of_no_return),
        }

    def graph_document(self) -> dict[str, Any]:
        """The graph as stored and shown."""
        kinds = {step.key: step for step in self.steps}
        waves = self.graph.waves()
        wave_of = {key: number for number, wave in enumerate(waves) for key in wave}
        return {
            "nodes": [
                {
                    "key": key,
                    "kind": kinds[key].operation.value if key in kinds else OperationKind.APPLY.value,
                    "type": (kinds[key].type if key in kinds else StepType.RESOURCE_CREATE).value,
                    "wave": wave_of.get(key, 0),
                }
                for key in self.graph.nodes
            ],
            "edges": [
                {
                    "from": edge.source,
                    "to": edge.target,
                    "explicit": edge.explicit,
                    "path": edge.path,
                    "expression": edge.expression,
                }
                for edge in self.graph.edges
            ],
            "waves": [list(wave) for wave in waves],
            "criticalPath": list(self.graph.critical_path(dict.fromkeys(self.graph.nodes, 1.0))),
        }


def _change_document(change: ResourceChange) -> dict[str, Any]:
    return {
        "key": change.key,
        "resourceId": change.resource_id,
        "type": change.type,
        "action": change.action.value,
        "wave": change.wave,
        "reversibility": change.reversibility.value,
        "downtime": change.downtime,
        "properties": [
            {
                "path": list(item.path),
                "before": redact(item.before),
                "after": None if item.after_unknown else redact(item.after),
                "afterUnknown": item.after_unknown,
                "sensitive": item.sensitive,
                "forcesReplacement": item.forces_replacement,
                "source": origin.source.value,
                "cause": origin.cause,
                **({"actual": redact(origin.actual)} if origin.source is ChangeSource.DRIFT else {}),
            }
            for item, origin in change.properties
        ],
        "warnings": [diagnostic_document(warning) for warning in change.warnings],
    }


def diagnostic_document(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic as stored and shown."""
    return {
        "severity": diagnostic.severity.value,
        "code": diagnostic.code,
        "message": diagnostic.message,
        "path": list(diagnostic.path),
        "suggestion": diagnostic.suggestion,
    }
