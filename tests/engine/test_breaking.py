"""Steps that cannot even be looked at, because of a bug of ours or a key that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from app.db.ledger import Ledger
from app.domain.enums import FailureStrategy
from app.domain.retrying import MAX_CRASHES
from app.domain.statuses import JobStatus
from app.engine.claims import Claim, Claimer
from tests.engine.harness import Workshop, note


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of steps whose claim raises something that nobody has thought of."""
    keys: list[str] = []
    claim = Claimer.claim

    async def fail(self: Claimer, ledger: Ledger, step_id: int, *, inline: bool = False) -> Claim | None:
        found = await claim(self, ledger, step_id, inline=inline)
        if found is not None and found.work.key in keys:
            message = "a bug that mentions hunter2"
            raise ZeroDivisionError(message)
        return found

    monkeypatch.setattr(Claimer, "claim", fail)
    return keys


async def test_it_fails_after_a_few_times_and_what_was_done_is_taken_back(
    workshop: Workshop, broken: list[str]
) -> None:
    broken.append("b")
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b", needs=["a"])}})
    job = await workshop.settle(await workshop.submit(template))
    assert job.status is JobStatus.ROLLED_BACK
    assert workshop.notes() == {}
    assert job.error is not None
    assert (job.error["code"], job.error["stepKey"]) == ("INTERNAL", "b")
    assert "hunter2" not in str(job.error)
    (row,) = await workshop.rows("SELECT crashes, attempt FROM step_run WHERE step_key = 'b'")
    assert (row.crashes, row.attempt) == (MAX_CRASHES, 0)


async def test_an_undoing_that_cannot_be_looked_at_leaves_the_rest_undone_and_says_so(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = await workshop.template({"resources": {"a": note("a"), "b": note("b")}})
    fail: dict[str, Any] = {
        "key": "fail", "type": "CUSTOM", "order": 2, "configuration": {"task": "core.assert"},
        "inputs": {"that": False, "message": "on purpose"},
    }  # fmt: skip
    every = {"key": "all", "type": "RESOURCE_CREATE", "order": 1, "configuration": {"resource": "*"}}
    job_id = await workshop.submit(template, await workshop.workflow(every, fail), strategy=FailureStrategy.ROLLBACK)
    claim = Claimer._prepare_undo

    async def broken(self: Claimer, ledger: Ledger, work: Any) -> Any:
        if work.key == "a":
            raise ZeroDivisionError
        return await claim(self, ledger, work)

    monkeypatch.setattr(Claimer, "_prepare_undo", broken)
    job = await workshop.settle(job_id)
    assert job.status is JobStatus.ROLLBACK_FAILED
    assert workshop.notes() == {"a": "x"}
    steps = await workshop.steps(job_id)
    assert (steps["a"], steps["b"]) == ("COMPENSATION_FAILED", "COMPENSATED")
