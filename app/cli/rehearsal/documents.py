"""What a rehearsal reads out of manifests before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from app.cli.client import CommandFailed
from app.cli.manifests import Kind, Manifest
from app.domain.enums import FailureStrategy, GateKind, PlanType, PolicyLevel, PolicySubject, RollbackScope
from app.domain.errors import DomainError
from app.domain.expressions import embedded
from app.domain.placeholders import placeholder
from app.services.plans import CreatePlan
from app.services.policies import CreatePolicy

# What lets a plan wait for people or for a time: a rehearsal begins at once, and nobody has to agree to it.
_WAITS = frozenset({"approvals", "automation"})
_POLICY = frozenset({"name", "level", "subject", "when", "require", "message", "timeZone"})


def providers_of(manifests: Sequence[Manifest]) -> frozenset[str]:
    """The names of the providers of all types and tasks that the documents name."""
    return frozenset(name.split(".", 1)[0] for manifest in manifests for name in types_of(manifest))


def types_of(manifest: Manifest) -> Iterator[str]:
    """The names of the types and tasks that a template or a workflow names."""
    for resource in _mapping(manifest.spec.get("resources")).values():
        yield from _texts(_mapping(resource), "type")
    for step in _steps(manifest):
        yield from _texts(_mapping(step.get("configuration")), "type", "task")


def connections_of(manifests: Sequence[Manifest]) -> dict[str, set[str]]:
    """The names of the connections that resources and steps ask for, by provider."""
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        asking = [_mapping(one) for one in _mapping(manifest.spec.get("resources")).values()]
        asking += [_mapping(step.get("configuration")) for step in _steps(manifest)]
        for one in asking:
            for type_name in _texts(one, "type", "task"):
                names = found.setdefault(type_name.split(".", 1)[0], set())
                names.update(_texts(one, "connection"))
    return found


def outputs_read(manifests: Sequence[Manifest]) -> dict[str, frozenset[str]]:
    """The names of the outputs that expressions read, by the type or task that is to give them."""
    given: dict[tuple[str, str], set[str]] = {}
    for manifest in manifests:
        resources = _mapping(manifest.spec.get("resources"))
        given_by = [("resources", str(key), _mapping(one)) for key, one in resources.items()]
        given_by += [("steps", str(step.get("key")), _mapping(step.get("configuration"))) for step in _steps(manifest)]
        for root, key, one in given_by:
            given.setdefault((root, key), set()).update(_texts(one, "type", "task"))
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        for root, path in _references(manifest.spec):
            if len(path) > 2 and path[1] == "outputs":
                for type_name in given.get((root, path[0]), ()):
                    found.setdefault(type_name, set()).add(path[2])
    return {type_name: frozenset(names) for type_name, names in found.items()}


def _references(document: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        for found in embedded.find(document):
            for reference in found.expression.references:
                yield reference.root, reference.path
    except DomainError:
        # Whoever reads the document for good says what is wrong with it.
        return


def parameters_of(given: Mapping[str, str]) -> dict[str, Any]:
    """Values that were given as texts, each read as YAML. Raises CommandFailed."""
    try:
        return {name: yaml.safe_load(text) for name, text in given.items()}
    except yaml.YAMLError as error:
        message = f"--set: {' '.join(str(error).split())}"
        raise CommandFailed(message) from error


def with_parameters(manifest: Manifest, values: Mapping[str, Any]) -> Manifest:
    """The plan with other values of the parameters that it gives; any other document as it is."""
    own = _mapping(manifest.spec.get("parameters"))
    changed = {name: values[name] for name in own.keys() & values.keys()}
    if manifest.kind is not Kind.PLAN or not changed:
        return manifest
    return replace(manifest, spec={**manifest.spec, "parameters": {**own, **changed}})


def without_people(manifest: Manifest) -> tuple[Manifest, list[str]]:
    """A workflow whose gates are steps that pass with the answer that a gate would be given; the keys of those."""
    steps, answered = [], []
    for step in _steps(manifest):
        gate = step.get("gate")
        if gate is None:
            steps.append(step)
            continue
        answered.append(str(step.get("key")))
        kept = {name: value for name, value in step.items() if name not in ("gate", "inputs")}
        steps.append({**kept, "configuration": {"task": "core.pass"}, "inputs": {"outputs": _answer(_mapping(gate))}})
    return replace(manifest, spec={**manifest.spec, "steps": steps}), answered


def plan_of(manifest: Manifest, revision_id: int | None, workflow_id: int | None) -> CreatePlan:
    """The plan of a manifest, to be carried out at once."""
    spec = manifest.spec
    configuration = {name: value for name, value in _mapping(spec.get("configuration")).items() if name not in _WAITS}
    return CreatePlan(
        name=manifest.name,
        description=manifest.description,
        type=PlanType.IMMEDIATE,
        stack=spec.get("stack"),
        parameters=spec.get("parameters"),
        constraints=spec.get("constraints"),
        configuration=configuration or None,
        template_revision_id=revision_id,
        workflow_id=workflow_id,
        failure_strategy=chosen(FailureStrategy, spec.get("failureStrategy"), "failureStrategy", manifest.source),
        rollback_scope=chosen(RollbackScope, spec.get("rollbackScope"), "rollbackScope", manifest.source),
        metadata=None if manifest.tags is None else {"tags": manifest.tags},
    )


def policies_in(path: Path) -> list[CreatePolicy]:
    """The policies of a YAML file: a list of {name, level, subject, when?, require, message?, timeZone?}."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        message = f"{path}: {' '.join(str(error).split())}"
        raise CommandFailed(message) from error
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        message = f"{path}: a list of policies is expected"
        raise CommandFailed(message)
    return [_policy(one, f"{path}#{number}") for number, one in enumerate(found, 1)]


def _policy(document: Mapping[str, Any], place: str) -> CreatePolicy:
    strange = sorted(set(document) - _POLICY)
    missing = sorted({"name", "level", "subject", "require"} - set(document))
    if strange or missing:
        told = [f"{place}: {name} is not known" for name in strange] + [
            f"{place}: {name} is missing" for name in missing
        ]
        raise CommandFailed(*told)
    return CreatePolicy(
        name=str(document["name"]),
        level=chosen(PolicyLevel, document["level"], "level", place),
        subject=chosen(PolicySubject, document["subject"], "subject", place),
        require=str(document["require"]),
        when=document.get("when"),
        message=document.get("message"),
        time_zone=str(document.get("timeZone", "UTC")),
    )


def chosen(kind: Any, value: Any, name: str, place: str) -> Any:
    """The member of an enum of that name; its first one, the default of all that are asked for here, for None."""
    try:
        return next(iter(kind)) if value is None else kind(value)
    except ValueError:
        message = f"{place}: {name} is one of {', '.join(kind)}"
        raise CommandFailed(message) from None


def _answer(gate: Mapping[str, Any]) -> dict[str, Any]:
    if gate.get("inputSchema"):
        return dict(placeholder(gate["inputSchema"], "answer"))
    return {"approved": True} if gate.get("kind") == GateKind.APPROVAL else {}


def _steps(manifest: Manifest) -> list[Mapping[str, Any]]:
    steps = manifest.spec.get("steps")
    return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(document: Mapping[str, Any], *names: str) -> list[str]:
    return [document[name] for name in names if isinstance(document.get(name), str)]
