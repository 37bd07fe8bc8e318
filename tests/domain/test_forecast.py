"""What a preview calls a point of no return, and what a foretold rollback says of it."""

from __future__ import annotations

from typing import Any

import pytest

from app.domain.definitions.template import parse_template
from app.domain.definitions.workflow import parse_workflow
from app.domain.enums import ChangeAction, FailureStrategy, Reversibility, RollbackScope
from app.domain.errors import Invalid
from app.domain.planning import Deployment, PlanningInput, RecordedResource, plan
from app.domain.planning.forecast import Forecast, forecast
from app.providers.registry import Registry
from tests.domain.test_planning import note, notes


class Careless(Registry):
    """The default catalogue, of which some things cannot be undone as they usually can."""

    first: frozenset[str] = frozenset()
    stateless: frozenset[str] = frozenset()
    final: frozenset[str] = frozenset()

    def deletes_first(self, type_name: str) -> bool:
        return type_name in self.first

    def is_stateful(self, type_name: str) -> bool:
        return type_name not in self.stateless and super().is_stateful(type_name)

    def task_undoable(self, name: str, inputs: Any) -> bool:  # noqa: ARG002
        return name not in self.final

    def action_reversibility(self, type_name: str, action: str) -> Reversibility:
        return Reversibility.IRREVERSIBLE if action in self.final else super().action_reversibility(type_name, action)


def work_out(
    content: dict[str, Any] | None = None,
    *steps: dict[str, Any],
    recorded: tuple[RecordedResource, ...] = (),
    **flaws: frozenset[str],
) -> Deployment:
    catalogue = Careless.default()
    for name, value in flaws.items():
        setattr(catalogue, name, value)
    return plan(
        PlanningInput(
            catalogue=catalogue,
            stack="acme",
            plan_name="acme",
            tenant_slug="demo",
            template=parse_template(content, catalogue) if content else None,
            workflow=parse_workflow({"steps": list(steps)}) if steps else None,
            recorded=recorded,
        )
    )


def foretold(
    deployment: Deployment, fail_at: str | None = None, strategy: FailureStrategy = FailureStrategy.ROLLBACK
) -> Forecast:
    return forecast(deployment, strategy, RollbackScope.JOB, fail_at)


def lasting(found: Forecast) -> dict[str, str]:
    return {one.key: one.detail for one in found.not_reversible}


LATER = {"key": "later", "type": "CUSTOM", "order": 9, "configuration": {"task": "core.pass"}}
DROP = {"key": "drop", "type": "RESOURCE_DELETE", "order": 1, "configuration": {"resource": "a"}}
RENAMED = {"resources": {"a": {"type": "core.note", "properties": {"name": "b", "text": "x"}}}}
ALL = {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}}
DATABASE = RecordedResource("db", "postgres.database", {"name": "db"}, {}, external_id="db", resource_id=8)


def test_what_is_removed_in_the_end_is_final_and_more_so_where_something_was_in_it() -> None:
    role = RecordedResource("role", "postgres.role", {"name": "role"}, {}, external_id="role", resource_id=9)
    deployment = work_out(notes("a"), recorded=(note("a"), note("b"), role))
    assert set(deployment.points_of_no_return) == {"b", "role"}
    found = {change.key: change.reversibility for change in deployment.changes}
    assert found == {
        "a": Reversibility.REVERSIBLE, "b": Reversibility.IRREVERSIBLE, "role": Reversibility.LOSSY,
    }  # fmt: skip


def test_a_deletion_in_the_middle_takes_with_it_what_was_inside() -> None:
    deployment = work_out(None, DROP, LATER, recorded=(note("a"),))
    assert deployment.points_of_no_return == ("drop",)
    found = foretold(deployment, "later")
    assert lasting(found) == {"drop": "it is gone, and what was in it"}
    assert found.residual == ("drop",)


def test_a_deletion_in_the_middle_of_what_holds_nothing_is_made_up_for() -> None:
    deployment = work_out(None, DROP, LATER, recorded=(note("a"),), stateless=frozenset({"core.note"}))
    assert deployment.points_of_no_return == ("drop",)
    found = foretold(deployment, "later")
    (remade,) = (one for one in found.compensations if one.key == "drop")
    assert (remade.action, remade.reversibility) == (ChangeAction.CREATE, Reversibility.LOSSY)
    assert (found.not_reversible, found.residual) == ((), ())


@pytest.mark.parametrize(
    ("flaws", "points", "reversibility"),
    [
        ({}, (), Reversibility.REVERSIBLE),
        ({"first": {"core.note"}, "stateless": {"core.note"}}, ("a",), Reversibility.LOSSY),
        ({"first": {"core.note"}}, ("a",), Reversibility.IRREVERSIBLE),
    ],
)
def test_a_replacement_is_final_where_the_old_one_has_to_go_first(
    flaws: dict[str, set[str]], points: tuple[str, ...], reversibility: Reversibility
) -> None:
    given = {name: frozenset(value) for name, value in flaws.items()}
    deployment = work_out(RENAMED, ALL, LATER, recorded=(note("a"),), **given)
    assert deployment.points_of_no_return == points
    found = foretold(deployment, "later")
    every = {one.key: one for one in (*found.compensations, *found.not_reversible)}
    assert (every["a"].action, every["a"].reversibility) == (ChangeAction.REPLACE, reversibility)
    assert ("a" in lasting(found)) is (reversibility is Reversibility.IRREVERSIBLE)
    assert ("still there" in every["a"].detail) is (reversibility is Reversibility.REVERSIBLE)


def test_a_task_that_nothing_undoes_is_final_unless_it_names_what_does() -> None:
    call = {"key": "call", "type": "CUSTOM", "configuration": {"task": "core.log"}, "inputs": {"message": "x"}}
    careful = {**call, "errorHandling": {"compensate": {"task": "core.log", "inputs": {"message": "y"}}}}
    final = frozenset({"core.log"})
    assert work_out(None, careful, LATER, final=final).points_of_no_return == ()
    deployment = work_out(None, call, LATER, final=final)
    assert deployment.points_of_no_return == ("call",)
    assert lasting(foretold(deployment, "later")) == {"call": "nothing is known that would undo it"}


@pytest.mark.parametrize("action", ["restore", "backup"])
def test_an_action_is_as_final_as_its_type_says(action: str) -> None:
    step = {
        "key": "act", "type": f"RESOURCE_{action.upper()}", "configuration": {"resource": "db"},
        "inputs": {"file": "x"} if action == "restore" else {},
    }  # fmt: skip
    harmless = work_out(None, step, LATER, recorded=(DATABASE,))
    assert harmless.points_of_no_return == ()
    details = {one.key: one.detail for one in foretold(harmless, "later").compensations}
    assert details["act"] == {
        "restore": "what was there before the restoration is put back", "backup": "the backup is kept",
    }[action]  # fmt: skip
    deployment = work_out(None, step, LATER, recorded=(DATABASE,), final=frozenset({action}))
    assert deployment.points_of_no_return == ("act",)
    assert lasting(foretold(deployment, "later")) == {"act": "nothing is known that would undo it"}


def test_what_is_let_go_of_is_not_taken_back_and_stays_gone() -> None:
    deployment = work_out(None, DROP, LATER, recorded=(note("a", retain=True),))
    assert [change.action for change in deployment.changes] == [ChangeAction.DETACH, ChangeAction.RUN]
    found = foretold(deployment, "later")
    assert found.compensations == ()
    assert found.residual == ("drop",)


def test_a_failure_in_the_end_takes_nothing_back() -> None:
    deployment = work_out(notes("a", text="new"), recorded=(note("a"), note("b")))
    found = foretold(deployment, "b")
    assert (found.compensations, found.not_reversible) == ((), ())
    assert set(found.residual) == {"a", "b"}
    assert foretold(deployment).fail_at == "a"


def test_a_plan_that_only_removes_has_to_be_told_where_it_fails() -> None:
    deployment = work_out(notes("a"), recorded=(note("a"), note("b")))
    assert foretold(deployment, "b").residual == ("b",)
    only = work_out({"resources": {}}, recorded=(note("b"),))
    assert only.steps == () or foretold(only, "b").compensations == ()


def test_a_step_that_there_is_not_is_named_with_the_nearest_one() -> None:
    with pytest.raises(Invalid, match="no step 'aa'; did you mean 'a'"):
        foretold(work_out(notes("a", "zebra")), "aa")
