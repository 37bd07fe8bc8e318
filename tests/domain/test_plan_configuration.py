"""A plan's configuration says nothing that nobody reads."""

from __future__ import annotations

import pytest

from app.domain.plan_configuration import PARTS, unknown_parts


@pytest.mark.parametrize("configuration", [None, {}, dict.fromkeys(PARTS)])
def test_what_somebody_reads_is_taken(configuration: dict[str, None] | None) -> None:
    assert unknown_parts(configuration) == []


def test_what_nobody_reads_is_refused_with_what_was_probably_meant() -> None:
    found = unknown_parts({"aprovals": {"required": 2}, "ttl": "PT1H", "owner": "me"})
    assert [(fault.path, fault.message) for fault in found] == [
        (("configuration", "aprovals"), "a plan's configuration knows no 'aprovals'; did you mean 'approvals'?"),
        (("configuration", "owner"), "a plan's configuration knows no 'owner'"),
    ]
