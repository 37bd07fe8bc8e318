"""What has to hold of a deployment before anything of it is done: said by its template, and by its plan.

[{"assert": "${parameters.replicas <= 5}", "message": "five replicas are all that the licence covers"}]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.domain.definitions.catalogue import Catalogue
from app.domain.definitions.reading import Findings, Section
from app.domain.definitions.references import ReferenceChecker, ResourceShape, Surroundings
from app.domain.values import Value

MOST = 50
PATH = "constraints"


@dataclass(frozen=True)
class ConstraintDefinition:
    """What has to hold. `condition` is an expression, `message` what to say when it does not."""

    condition: Value
    message: str


def read_constraints(values: list[Value], checker: ReferenceChecker) -> Iterator[ConstraintDefinition]:
    """Those of a list that stands at "constraints" of the document that `checker` complains about."""
    checker.findings.bound(len(values), MOST, PATH, (PATH,))
    for position, value in enumerate(values):
        here = (PATH, str(position))
        section = Section(checker.findings, value, here, ("assert", "message"))
        section.require("assert")
        section.require("message")
        condition = section.condition("assert")
        for _ in checker.survey(condition, (*here, "assert")):
            pass
        yield ConstraintDefinition(condition, section.prose("message"))


def constraints_of(
    content: Value,
    roots: frozenset[str],
    *,
    parameters: Mapping[str, Any] | None = None,
    resources: Mapping[str, ResourceShape] | None = None,
    catalogue: Catalogue | None = None,
) -> tuple[ConstraintDefinition, ...]:
    """Those of a plan, which may speak of what is known to be there; None: not known yet, so not checked.

    Raises Invalid with every fault, LimitExceeded for more than are looked at.
    """
    if content is None:
        return ()
    findings = Findings("plan", ())
    if not isinstance(content, list):
        findings.add("TYPE_MISMATCH", "a list is needed here", (PATH,))
        raise findings.error()
    findings.begin(content)
    surroundings = Surroundings(roots, parameters=parameters, resources=resources, catalogue=catalogue)
    found = tuple(read_constraints(content, ReferenceChecker(findings, surroundings)))
    if findings.faults:
        raise findings.error()
    return found
