"""Plans about some resources of their stack only, with whatever those cannot be without."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.definitions.template import TemplateDefinition
from app.domain.errors import Diagnostic, Invalid, Severity
from app.domain.planning.deployment import PlanningInput, RecordedResource
from app.domain.planning.resources import RenderedResource


def refuse_workflow(given: PlanningInput) -> None:
    """Raises Invalid where a workflow says itself what is worked on."""
    if given.only is not None and given.workflow is not None:
        message = "a workflow says itself which resources it works on: leave out resourceIds, or the workflow"
        raise Invalid(message, path=("resourceIds",))


def narrowed(
    given: PlanningInput, rendered: Mapping[str, RenderedResource], recorded: Mapping[str, RecordedResource]
) -> tuple[dict[str, RenderedResource], dict[str, RecordedResource]]:
    """Of what the template wants and of what there is, that which the plan is about.

    What is brought about comes with all that it needs, what goes away with all that needs it and goes away as well.
    """
    if given.only is None or given.template is None:
        return dict(rendered), dict(recorded)
    wanted = _with_needs(given.only, given.template, rendered)
    going = {key: found for key, found in recorded.items() if key not in rendered}
    leaving = _with_dependents(given.only & going.keys(), going)
    return (
        {key: found for key, found in rendered.items() if key in wanted},
        {key: found for key, found in recorded.items() if key in wanted or key in leaving},
    )


def left_alone(given: PlanningInput, rendered: Mapping[str, RenderedResource], drafted: int) -> list[Diagnostic]:
    """A hint that there is more in the template than the plan is about."""
    if given.only is None or drafted >= len(rendered):
        return []
    message = f"the plan is about {drafted} of {len(rendered)} resources of the template; the others stay as they are"
    return [Diagnostic(Severity.INFO, "NARROWED", message, ("resourceIds",))]


def _with_needs(
    only: frozenset[str], template: TemplateDefinition, rendered: Mapping[str, RenderedResource]
) -> set[str]:
    definitions = {rendered[key].definition_key for key in only if key in rendered}
    needed = {need for key in definitions for need in template.graph.ancestors(key)}
    return {key for key, found in rendered.items() if key in only or found.definition_key in needed}


def _with_dependents(only: frozenset[str], going: Mapping[str, RecordedResource]) -> set[str]:
    leaving, before = set(only), -1
    while len(leaving) != before:
        before = len(leaving)
        leaving |= {key for key, found in going.items() if leaving.intersection(found.depends_on)}
    return leaving
