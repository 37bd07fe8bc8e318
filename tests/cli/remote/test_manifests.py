from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.applying import changed_paths
from app.cli.client import CommandFailed
from app.cli.manifests import Kind, read

PLAN = """apiVersion: windlass/v1
kind: Plan
metadata: {name: p}
spec: {template: t}
---
apiVersion: windlass/v1
kind: Workflow
metadata: {name: w}
spec: {steps: []}
"""
TEMPLATE = """apiVersion: windlass/v1
kind: Template
metadata: {name: t, description: about, tags: {team: a}}
spec: {type: DATABASE, resources: {}}
"""


def test_a_folder_is_read_in_the_order_in_which_one_needs_the_other(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PLAN)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "z.yml").write_text(TEMPLATE)
    (tmp_path / "notes.txt").write_text("not: yaml: at: all")
    found = read(tmp_path)
    assert [(manifest.kind, manifest.name) for manifest in found] == [
        (Kind.TEMPLATE, "t"),
        (Kind.WORKFLOW, "w"),
        (Kind.PLAN, "p"),
    ]
    assert (found[0].description, found[0].tags) == ("about", {"team": "a"})
    assert found[0].without("type") == {"resources": {}}
    assert found[2].source == f"{tmp_path / 'a.yaml'}#1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEMPLATE + "spec: {resources: {}}\n", "line 5: the key 'spec' is given twice, first in line 4"),
        (PLAN.replace("{name: p}", '{name: p, "name": q}'), "line 3: the key 'name' is given twice, first in line 3"),
        (f"{PLAN}---\na:\n  - {{b: 1,\n     b: 2}}\n", "line 13: the key 'b' is given twice, first in line 12"),
        ("[" * 50_000, "it is nested too deeply to be read"),
        ("a: " * 5_000, None),
    ],
)
def test_what_yaml_lets_pass_is_refused_in_a_line(tmp_path: Path, text: str, said: str | None) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(CommandFailed) as caught:
        read(file)
    (line,) = caught.value.lines
    assert line.startswith(f"{file}: ")
    assert said is None or line == f"{file}: {said}"


def test_what_is_merged_may_be_given_anew(tmp_path: Path) -> None:
    merged = "spec:\n  resources:\n    a: &a {type: x, when: 1}\n    b: {<<: *a, type: y}\n    1: {}\n    '1': {}\n"
    (tmp_path / "a.yaml").write_text(TEMPLATE.replace("spec: {type: DATABASE, resources: {}}\n", merged))
    (found,) = read(tmp_path)
    assert found.spec["resources"]["b"] == {"type": "y", "when": 1}
    assert set(found.spec["resources"]) == {"a", "b", 1, "1"}


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: []\nextra: 1\n")
    (tmp_path / "b.yaml").write_text("{unclosed")
    (tmp_path / "c.yaml").write_text("- a\n- b\n")
    (tmp_path / "d.yaml").write_text(PLAN.replace("{template: t}", "{templat: t}"))
    with pytest.raises(CommandFailed) as caught:
        read(tmp_path)
    a, b, c, d = (str(tmp_path / name) for name in ("a.yaml", "b.yaml", "c.yaml", "d.yaml"))
    lines = caught.value.lines
    assert lines[:5] == (
        f"{a}#1: apiVersion is windlass/v1",
        f"{a}#1: kind is one of Template, Workflow, Plan",
        f"{a}#1: extra is not known; there are apiVersion, kind, metadata, spec",
        f"{a}#1: metadata.name is missing",
        f"{a}#1: spec is a mapping",
    )
    assert lines[5].startswith(f"{b}: ")
    assert lines[6] == f"{c}#1: a document is a mapping with apiVersion, kind, metadata and spec"
    assert lines[7].startswith(f"{d}#1: spec.templat is not known; there are ")
    assert len(lines) == 8


def test_nothing_to_apply_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="there is no document to apply"):
        read(tmp_path)
    with pytest.raises(CommandFailed, match="No such file"):
        read(tmp_path / "absent.yaml")


def test_differences_are_named_by_their_path() -> None:
    before = {"a": {"b": 1, "gone": 2}, "same": [1], "list": [1]}
    after = {"a": {"b": 2, "new": 3}, "same": [1], "list": [2]}
    assert changed_paths(before, after) == ["~ a.b", "- a.gone", "+ a.new", "~ list"]
    assert changed_paths(after, after) == []
