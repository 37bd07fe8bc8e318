"""What operations cost, and what happens to whoever asks for too much of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from app.auth.principal import Principal
from app.auth.rates import Rate
from app.domain.enums import Role
from app.settings import Settings
from schema.allowance import Allowance, RateLimited
from schema.asgi import assemble
from schema.context import Services
from tests.schema.conftest import Api

COST = {"cost": True}
PAGE = "{ deploymentPlans(first: 100) { nodes { name jobs(first: 10) { nodes { id } } } } }"
ORDINARY = "{ viewer { role } }"
MAKE = """mutation { createUser(input: {idempotencyKey: "k", email: "x@x.example", displayName: "x", role: VIEWER}) {
  user { id } } }"""


def limited(services: Services, rate: Rate) -> Starlette:
    """The application with such a rate."""
    return assemble(
        replace(services, allowance=Allowance(rate)), Settings.from_environment({"WINDLASS_ALLOWED_HOSTS": "*"})
    )


async def ask(app: Starlette, api: Api, document: str, token: str | None = None, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {token or api.acme.token}", "accept": "application/graphql-response+json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://windlass.test") as client:
        return await client.post("/graphql", json={"query": document, **more}, headers=headers)


@pytest.mark.parametrize(
    ("document", "points"),
    # 1, and 6 selections, and 100 plans with 10 jobs each; a mutation.
    [(PAGE, 1 + 1 + 100), (ORDINARY, 2), (MAKE, 1 + 1 + 10)],
)
async def test_whoever_asks_is_told_what_it_cost(api: Api, document: str, points: int) -> None:
    answer = (await api.post({"query": document, "extensions": COST})).json()
    assert answer["extensions"] == {"cost": {"requested": points, "left": None}}
    assert answer["data"]
    assert "extensions" not in (await api.post({"query": document})).json()


async def test_variables_count_as_what_they_are(api: Api) -> None:
    document = "query($n: Int) { workflows(first: $n) { nodes { id } } }"
    for number, points in ((10, 3), (100, 12)):
        body = {"query": document, "variables": {"n": number}, "extensions": COST}
        assert (await api.post(body)).json()["extensions"]["cost"]["requested"] == points


@pytest.mark.parametrize("document", [PAGE, ORDINARY])
async def test_who_has_no_points_left_waits_and_others_do_not(api: Api, document: str) -> None:
    app = limited(api.services, Rate(per_second=0.5, burst=110))
    assert (await ask(app, api, PAGE)).status_code == 200
    for _ in range(4):
        answer = await ask(app, api, ORDINARY)
    answer = await ask(app, api, document)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    (error,) = answer.json()["errors"]
    assert error["extensions"]["code"] == "RATE_LIMITED"
    assert error["extensions"]["retryAfter"] > 0
    assert "data" not in answer.json()
    assert (await ask(app, api, document, api.rival.token)).status_code == 200


def test_points_are_not_said_to_be_there_before_they_are() -> None:
    until = datetime.max.replace(tzinfo=UTC)
    somebody = Principal(1, "", 1, Role.VIEWER, frozenset(), 1, until)
    allowance = Allowance(Rate(per_second=100, burst=1))
    allowance.charge(somebody, 1)
    with pytest.raises(RateLimited) as refused:
        allowance.charge(somebody, 1)
    assert refused.value.seconds == 0.1
    assert refused.value.message == "this costs 1 points, which are there in 0.1 s"


async def test_what_costs_more_than_there_ever_is_has_no_time_to_come_again(api: Api) -> None:
    answer = await ask(limited(api.services, Rate(1000, 50)), api, PAGE)
    assert (answer.status_code, "retry-after" in answer.headers) == (429, False)
    assert answer.json()["errors"][0]["extensions"]["retryAfter"] is None


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{ viewer", "GRAPHQL_PARSE_FAILED"),
        ("{" * 900, "GRAPHQL_PARSE_FAILED"),
        ("{ a " * 3_001, "LIMIT_EXCEEDED"),
        (f"{{ {' '.join(f'a{number}: __typename' for number in range(40))} }}", "LIMIT_EXCEEDED"),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
    ],
)
async def test_what_comes_to_nothing_is_paid_for(api: Api, document: str, code: str) -> None:
    app = limited(api.services, Rate(0.001, 40))
    codes = []
    while "RATE_LIMITED" not in codes:
        answer = (await ask(app, api, document)).json()
        codes += [answer["errors"][0]["extensions"]["code"]]
        assert len(codes) < 50
    # By its length: 500 characters are a point.
    assert codes[:-1] == [code] * (40 // (1 + -(-len(document) // 500)) if code != "GRAPHQL_VALIDATION_FAILED" else 20)
    assert (await ask(app, api, document, api.rival.token)).json()["errors"][0]["extensions"]["code"] == code


async def test_what_is_refused_changes_nothing(api: Api) -> None:
    app = limited(api.services, Rate(0.001, 12))
    assert (await ask(app, api, ORDINARY)).status_code == 200
    assert (await ask(app, api, MAKE)).status_code == 429
    users = await api.data("{ viewer { tenants { users { nodes { email } } } } }")
    assert len(users["viewer"]["tenants"][0]["users"]["nodes"]) == 1
