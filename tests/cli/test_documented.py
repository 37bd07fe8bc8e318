"""What the documentation shows can be used as it stands there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from app.cli import manifests
from app.cli.manifests import Kind
from app.domain.definitions.template import parse_template
from app.domain.definitions.workflow import parse_workflow
from app.domain.expressions.functions import FUNCTIONS
from app.domain.expressions.parser import ARITY
from app.providers.core.provider import CoreProvider
from app.providers.registry import Registry

HOWTO = Path(__file__).parents[2] / "docs" / "howto" / "workflows.md"
EXAMPLES = re.findall(r"```yaml\n(apiVersion:.*?)```", HOWTO.read_text(), re.DOTALL)


def test_the_examples_are_read_and_their_plans_have_what_they_name(tmp_path: Path) -> None:
    catalogue = Registry.default()
    found = []
    for number, text in enumerate(EXAMPLES):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        found += manifests.read(file)
    templates = {one.name: parse_template(one.spec, catalogue) for one in found if one.kind is Kind.TEMPLATE}
    workflows = {one.name: parse_workflow(one.spec, catalogue) for one in found if one.kind is Kind.WORKFLOW}
    plans = [one for one in found if one.kind is Kind.PLAN]
    assert (len(templates), len(workflows), len(plans)) == (1, 3, 3)
    for plan in plans:
        workflow = workflows[plan.spec["workflow"]]
        assert workflow.notes == ()
        if "template" in plan.spec:
            assert workflow.check_against(templates[plan.spec["template"]]) == []


def test_the_example_of_a_request_is_one() -> None:
    (text,) = re.findall(r"-d '(.*?)'\n", HOWTO.read_text(), re.DOTALL)
    given = json.loads(text)["variables"]["input"]
    assert parse_workflow(given["definition"], Registry.default()).steps[0].task == "core.log"


def test_every_task_of_core_and_every_function_is_named() -> None:
    page = HOWTO.read_text()
    for task in CoreProvider().tasks():
        assert f"| `{task.name}` |" in page
        for name in task.schema["properties"]:
            assert f"`{name}`" in page
    words = set(re.findall(r"\w+", page))
    assert {*FUNCTIONS, *ARITY} <= words
