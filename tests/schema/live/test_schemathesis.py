"""Operations that a stranger's generator makes of our schema, over HTTP at a real server, as two tenants.

Schemathesis knows nothing of what is meant: it is told our scalars, and ids of things of both. SCHEMATHESIS_EXAMPLES
says how many operations; docs/reliability.md has what more of them came to. tests/schema/test_fuzz.py is ours.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from typing import Any

import pytest
import schemathesis
from graphql import ValueNode, parse_value
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.graphql import nodes

from schema.printing import printed
from schema.requirements import MUTATIONS, QUERIES
from tests.schema.belongings import belongings
from tests.schema.conftest import Access
from tests.schema.live.conftest import Live
from tests.schema.test_fuzz import LEFT_OUT, MINE, TEXTS, THEIRS

# As they are written in a document.
LITERALS = [
    "{}", "[]", "null", "7", "1.5e300", "true", '"x"', "{a: {b: [1, null]}}", '{resources: {a: {type: "core.note"}}}',
    '{steps: [{key: "a", type: "CUSTOM", configuration: {task: "core.wait"}}]}', '{when: "${time.hour >= 0}"}',
    '{x: "${"}', "{approvals: {required: 99}}", "[[[[[[[[]]]]]]]]",
]  # fmt: skip
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "40"))
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "1"))


def scalars(ids: list[str]) -> dict[str, st.SearchStrategy[ValueNode]]:
    """What may stand for each of our scalars, and for an id."""
    texts = st.sampled_from(TEXTS)
    return {
        "ID": st.one_of(st.sampled_from(ids), st.sampled_from(ids), texts).map(nodes.String),
        "Cursor": texts.map(nodes.String),
        "DateTime": texts.map(nodes.String),
        "Duration": texts.map(nodes.String),
        "BigInt": st.integers(-(2**65), 2**65).map(lambda number: nodes.String(str(number))),
        "JSON": st.sampled_from(LITERALS).map(parse_value),
    }


async def test_what_a_strangers_generator_makes_is_answered_and_tells_nothing_of_the_other(
    live: Live, capfd: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = await belongings(live.api.acme, MINE), await belongings(live.api.rival, THEIRS)
    for name, strategy in scalars([owned.gid(kind) for owned in (mine, theirs) for kind in owned.numbers]).items():
        schemathesis.graphql.scalar(name, strategy)
    schema = schemathesis.graphql.from_file(io.StringIO(printed()))
    schema.config.update(base_url=live.http)
    operations = [
        schema[root][name].as_strategy()
        for root, names in (("Query", QUERIES), ("Mutation", MUTATIONS))
        for name in sorted(names.keys() - LEFT_OUT)
    ]
    counted: Counter[str] = Counter()

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.one_of(operations), st.sampled_from([(live.api.acme, THEIRS), (live.api.rival, MINE)]))
    def ask(case: schemathesis.Case[Any], who: tuple[Access, str]) -> None:
        access, canary = who
        response = case.call(headers={"authorization": f"Bearer {access.token}"})
        assert response.status_code < 500, case.body
        answer = response.json()
        codes = {(error.get("extensions") or {}).get("code") for error in answer.get("errors") or ()}
        assert not {"INTERNAL", None} & codes, (case.body, answer)
        assert canary not in response.text, (case.body, answer)
        counted["refused" if codes else "answered"] += 1

    await asyncio.to_thread(ask)
    assert counted.total() >= EXAMPLES * 0.9, counted
    assert counted["answered"] > EXAMPLES * 0.2, counted
    told = capfd.readouterr()
    # Of our own log only: an operation that is refused may hold the words that its own tenant gave it.
    assert "unexpected error" not in told.out + told.err
    print(dict(counted))  # noqa: T201  for docs/reliability.md
