"""Every role at every field of the query and the subscription root, about its own tenant's things and another's.

The cells are made from the schema: a root field whose arguments nobody has thought about fails here before it is asked.
Mutations have their cells in test_matrix.py; what a stranger is answered has its cells here for all three roots.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import orjson
from graphql import GraphQLField, GraphQLObjectType, get_named_type, is_required_argument

from app.auth.tokens import mint
from app.db import models
from app.domain.cursors import BEGINNING, encode
from app.domain.enums import Permission
from app.domain.events import Event, EventKind, Stream
from app.domain.permissions import ROLE_PERMISSIONS
from app.domain.statuses import JobStatus
from app.web.credentials import COOKIE, CSRF_HEADER
from schema.requirements import QUERIES, SUBSCRIPTIONS
from tests.schema.belongings import CANARY, Owned, belongings
from tests.schema.conftest import Access, Api
from tests.schema.test_isolation import first_of, names_none_of
from tests.schema.verbs import SCHEMA, done, mutations

# Roles of a tenant's own: one that may read and little else, and one that may not read.
CUSTOM, BLIND = "CUSTOM", "BLIND"
ALLOWED: dict[str, frozenset[Permission]] = {role.value: allowed for role, allowed in ROLE_PERMISSIONS.items()}
ALLOWED |= {CUSTOM: frozenset({Permission.READ, Permission.CANCEL}), BLIND: frozenset({Permission.EXECUTE})}
# What says nothing of a tenant, or of the asker only, is asked in the same words about the one and the other.
WITHOUT_ARGUMENTS = {"viewer", "resourceTypes"}
FRAMES = {"JobFrame": "OrchestrationJob", "LogFrame": "OrchestrationJob", "PlanFrame": "DeploymentPlan"}
BY_FILTER = {
    "plansChanged": ("filter", "workflowId", "Workflow"),
    "jobsChanged": ("filter", "planId", "DeploymentPlan"),
}


class Told(StrEnum):
    """What somebody is answered."""

    DATA = "what is theirs"
    NULL = "null"
    OWN = "a list, and nothing of anybody else's in it"
    FORBIDDEN = "FORBIDDEN"
    NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Cell:
    """One question, what of it has to be in the answer, and what whoever may read is told."""

    text: str
    variables: dict[str, Any]
    shown: str
    told: Told


def leaves(kind: Any) -> str:
    """All of a type that is a value, and of a page its nodes."""
    if not isinstance(kind, GraphQLObjectType):
        return "__typename id"
    if "nodes" in kind.fields:
        return f"nodes {{ {leaves(get_named_type(kind.fields['nodes'].type))} }} pageInfo {{ endCursor }}"
    values = [
        name
        for name, field in kind.fields.items()
        if not hasattr(get_named_type(field.type), "fields")
        and not hasattr(get_named_type(field.type), "types")
        and not any(is_required_argument(argument) for argument in field.args.values())
    ]
    # A frame says of what it is by what is in it.
    held = dict.fromkeys(("job", "plan", "plans", "jobs"), "id")
    held["events"] = "id ... on StepProgressed { message }"
    inner = [f"{each} {{ {of} }}" for each, of in held.items() if {each, "kind"} <= kind.fields.keys()]
    return " ".join(["__typename", *values, *inner])


def cell(name: str, field: GraphQLField, whose: Owned, access: Access, cursor: str | None) -> Cell:
    """The question about what `whose` is; `cursor` is set where it is another's, and is one of theirs."""
    operation = "query" if name in QUERIES else "subscription"
    kind = get_named_type(field.type)
    node = FRAMES.get(kind.name, kind.name.removesuffix("Connection"))
    missing = Told.NULL if operation == "query" else Told.NOT_FOUND
    required = {argument for argument, given in field.args.items() if is_required_argument(given)}
    shown, given, own = "", dict[str, Any](), Told.OWN
    if required == {"id"}:
        node = node if node in whose.numbers else "DeploymentPlan"
        given, shown, own = {"id": whose.gid(node)}, whose.gid(node), missing
        if kind.name == "LogFrame":
            shown = encode(Stream.JOB, whose.numbers[node], BEGINNING)
    elif required == {"ids"}:
        shown = whose.gid("DeploymentPlan")
        given, own = {"ids": [shown]}, missing
    elif required == {"slug"}:
        given, shown, own = {"slug": access.slug}, whose.gid("Tenant"), Told.NULL
    elif required == {"planId"}:
        given, own = {"planId": whose.gid("DeploymentPlan")}, Told.NOT_FOUND
    elif required == {"input"}:
        given, own = {"input": {"workflowId": whose.gid("Workflow")}}, Told.NOT_FOUND
    elif name in BY_FILTER:
        argument, wanted, of = BY_FILTER[name]
        given = {argument: {wanted: whose.gid(of)}}
    elif "after" in field.args:
        given = {"after": cursor} if cursor else {}
        shown = whose.gid(node) if node in whose.numbers else ""
    else:
        assert name in WITHOUT_ARGUMENTS, f"{name}: nobody has said what is asked of it"
        assert not field.args
    declared = ", ".join(f"${argument}: {field.args[argument].type}" for argument in given)
    passed = ", ".join(f"{argument}: ${argument}" for argument in given)
    head = f"{operation}({declared}) {{ {name}({passed})" if given else f"{operation} {{ {name}"
    return Cell(f"{head} {{ {leaves(kind)} }} }}", given, shown, own if cursor else Told.DATA)


def told_by(cell: Cell, name: str, answer: dict[str, Any], theirs: Owned) -> Told:
    """What the answer is; nothing of theirs is in any."""
    text = orjson.dumps(answer)
    assert CANARY.encode() not in text, (name, answer)
    assert names_none_of(theirs, text), (name, answer)
    if answer.get("errors"):
        (error,) = answer["errors"]
        assert not answer.get("data"), (name, answer)
        assert error["extensions"]["code"] in set(Told), (name, error)
        return Told(error["extensions"]["code"])
    data = answer["data"][name]
    if data in (None, [None]):
        return Told.NULL
    if cell.told is Told.OWN:
        return Told.OWN
    assert cell.shown in text.decode(), (name, answer)
    assert data, name
    return Told.DATA


async def admitted(api: Api) -> dict[str, Access]:
    """Somebody of each role."""
    found = {}
    for role, allowed in ALLOWED.items():
        given: dict[str, Any] = {"role": role}
        if role in (CUSTOM, BLIND):
            listed = [permission.value for permission in allowed]
            given = {"customRoleId": (await done(api, "createRole", name=role, permissions=listed))["role"]["id"]}
        user = await done(api, "createUser", email=f"{role.lower()}@m.example", displayName="x", **given)
        made = await done(api, "createApiToken", name="t", userId=user["user"]["id"])
        principal = await api.services.authenticator.authenticate(made["text"])
        assert principal.permissions == allowed, role
        found[role] = replace(api.acme, token=made["text"], principal=principal)
    return found


async def answered(api: Api, access: Access, name: str, asked: Cell) -> dict[str, Any]:
    if name in QUERIES:
        return await api.ask(asked.text, asked.variables, access=access)
    result = await first_of(replace(api, acme=access), asked.text, asked.variables)
    return {"data": result.data, "errors": [error.formatted for error in result.errors or ()]}


def reading_fields() -> dict[str, GraphQLField]:
    """All fields of both roots, as the schema has them."""
    assert SCHEMA.query_type
    assert SCHEMA.subscription_type
    return {**SCHEMA.query_type.fields, **SCHEMA.subscription_type.fields}


async def test_every_role_reads_what_it_may_of_its_own_tenant_and_nothing_of_another(api: Api) -> None:
    theirs, ours = await belongings(api.rival, CANARY), await belongings(api.acme, "ours")
    for access, owned in ((api.rival, theirs), (api.acme, ours)):
        async with access.rows.write() as transaction:
            job = await transaction.session.get_one(models.OrchestrationJob, owned.numbers["OrchestrationJob"])
            # Over, so that it can be told again; and a plan that can be worked out.
            job.status = JobStatus.FAILED
            plan = await transaction.session.get_one(models.DeploymentPlan, owned.numbers["DeploymentPlan"])
            plan.parameters = {"name": "x"}
    await done(api, "createRole", api.rival, name=CANARY, permissions=["READ"])
    cells: Counter[Told] = Counter()
    jobs = [owned.numbers["OrchestrationJob"] for owned in (theirs, ours)]
    fields, people = reading_fields(), await admitted(api)
    for name, field in fields.items():
        foreign = await cursor_of_rival(api, name, field, jobs)
        for whose, whom, cursor in ((ours, api.acme, None), (theirs, api.rival, foreign)):
            asked = cell(name, field, whose, whom, cursor)
            for role, access in people.items():
                needed = QUERIES.get(name) or SUBSCRIPTIONS[name]
                expected = asked.told if needed in ALLOWED[role] else Told.FORBIDDEN
                told = told_by(asked, name, await answered(api, access, name, asked), theirs)
                assert told is expected, (role, name, whose is ours, told)
                cells[told] += 1
    assert cells.total() == len(fields) * 2 * len(ALLOWED)
    assert set(cells) == set(Told)


async def cursor_of_rival(api: Api, name: str, field: GraphQLField, jobs: list[int]) -> str:
    """A cursor that the rival was given for the same list; any text where there are none."""
    kind = get_named_type(field.type)
    if name == "tenantEvents":
        begun = await first_of(replace(api, acme=api.rival), "subscription { tenantEvents { cursor } }", {})
        # Something happens behind it, there as here: what comes is ours, and comes at once.
        for access, job_id, word in ((api.rival, jobs[0], CANARY), (api.acme, jobs[1], "ours")):
            told = {"jobId": job_id, "stepRunId": 1, "stepKey": word, "percent": 1.0, "message": word}
            await access.rows.events(Stream.JOB, job_id, Event(EventKind.STEP_PROGRESSED, told))
        return str(begun.data["tenantEvents"]["cursor"])
    if not isinstance(kind, GraphQLObjectType) or "pageInfo" not in kind.fields:
        return "-"
    page = (await api.data(f"{{ {name} {{ pageInfo {{ endCursor }} }} }}", access=api.rival))[name]
    return str(page["pageInfo"]["endCursor"])


async def test_a_stranger_is_told_nothing_by_any_root_field(api: Api) -> None:
    """Without a token, and with one that was never given out: before anything of the operation is looked at."""
    ours = await belongings(api.acme, CANARY)
    asked = {name: cell(name, field, ours, api.acme, None) for name, field in reading_fields().items()}
    sent = {name: (each.text, each.variables) for name, each in asked.items()}
    for name, mutation in mutations().items():
        kind = mutation.args["input"].type
        sent[name] = (f"mutation($input: {kind}) {{ {name}(input: $input) {{ __typename }} }}", {"input": {}})
    assert len(sent) == len(QUERIES) + len(SUBSCRIPTIONS) + len(mutations())
    made_up = mint().text
    for name, (text, variables) in sent.items():
        accept = "text/event-stream" if name in SUBSCRIPTIONS else "application/json"
        for given in ({}, {"authorization": f"Bearer {made_up}"}, {"cookie": f"{COOKIE}={made_up}"}):
            answer = await api.client.post(
                "/graphql",
                json={"query": text, "variables": variables},
                headers={"accept": accept, CSRF_HEADER: "1", **given},
            )
            assert answer.status_code == 401, name
            (error,) = answer.json()["errors"]
            assert error["extensions"]["code"] == "UNAUTHENTICATED"
            assert CANARY not in answer.text
