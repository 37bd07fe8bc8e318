"""Queries at random, over every field that can be compiled, and what there is to be asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from app.db import models
from app.db.pages import MAX_SIZE
from app.domain.enums import DefinitionStatus, StatusReason, TemplateType
from app.domain.statuses import JobStatus, PlanStatus, ResourceStatus, StepStatus
from schema.compiling.queries import Asking, CompiledQueries
from schema.context import Context
from schema.nodes import encode_id
from tests.schema.conftest import Access

_DEEPEST = 4
_ROOTS = {
    "deploymentPlan": "DeploymentPlan", "orchestrationJob": "OrchestrationJob", "workflow": "Workflow",
    "resourceTemplate": "ResourceTemplate", "cloudResource": "CloudResource", "webhook": "Webhook", "policy": "Policy",
}  # fmt: skip
# What depends on the moment at which it is asked.
_PASSING = {"estimatedCompletion", "estimatedStart", "nextRuns", "truncatedBefore", "lastUsedAt"}
_PAGE = {"nodes", "edges", "pageInfo", "totalCount"}
_ERROR = {
    "class": "TRANSIENT",
    "code": "X",
    "message": 'ä " 😀',
    "retryable": True,
    "detail": {"a": 1e20},
    "stepKey": "a",
}
_PREVIEW: dict[str, Any] = {
    "hash": "0" * 64, "computedAt": "2026-01-31T08:00:00+00:00", "summary": {"create": 1, "noChange": 2},
    "pointsOfNoReturn": ["a"],
    "changes": [
        {
            "key": "a", "type": "postgres.role", "action": "CREATE", "wave": 0, "reversibility": "REVERSIBLE",
            "properties": [
                {
                    "path": ["name", 0], "before": None, "after": {"$sealed": "eA=="}, "afterUnknown": False,
                    "sensitive": True, "forcesReplacement": False, "source": "TEMPLATE",
                }
            ],
            "warnings": [{"severity": "WARN", "code": "W", "message": "w", "path": ["a"]}],
        }
    ],
}  # fmt: skip
_GRAPH: dict[str, Any] = {
    "nodes": [
        {"key": "a", "kind": "resource", "type": "postgres.role", "wave": 0},
        {"key": "b", "kind": "resource", "type": "postgres.role", "wave": 1},
    ],
    "edges": [{"from": "a", "to": "b", "explicit": False, "path": "b.properties.x", "expression": "${resources.a.id}"}],
    "criticalPath": ["a", "b"], "waves": [["a"], ["b"]],
}  # fmt: skip
_DIAGNOSTIC = {"severity": "WARN", "code": "C", "message": "m", "path": ["a", 1], "suggestion": None}
_FINDING = {"policy": "p", "level": "ADVISORY", "passed": False, "message": "no", "path": ["changes", "a"]}
_AT = datetime(2026, 1, 31, 8, 0, 0, 250, tzinfo=UTC)
_SCHEDULE = {
    "timeZone": "Europe/Berlin", "at": None, "recurrence": "0 3 * * *", "windowSeconds": None, "jitterSeconds": 0,
    "overlap": "SKIP", "missed": "RUN_NOW",
}  # fmt: skip
_WORDS = ["a", "b", "ä", "%", "_", "'", '"', "\\", "\n", "\u2028", "😀", "한글", "\t\x01", "plan", ""]
_JSON: list[Any] = [
    None, {}, {"a": [1, 2.5, None, True, 'x"y\\']}, {"key": {"$sealed": "c2VjcmV0"}},
    {"list": [{"$sealed": "eA=="}, {"$sealed": "eA==", "more": 1}]}, {"text": "\u2028 $sealed 😀"},
]  # fmt: skip


@dataclass
class World:
    """What is in the database, by the type of what an id names."""

    ids: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, number: int) -> None:
        self.ids.setdefault(kind, []).append(encode_id(kind, number))


class _Tenant:
    """What is made up of one tenant."""

    def __init__(self, access: Access, chance: random.Random, world: World) -> None:
        self.rows, self.chance, self.world = access.rows, chance, world
        self.authors: list[str | None] = [access.rows.actor, "system:engine", "cli", None, "user:999999"]
        self.plans: list[models.DeploymentPlan] = []
        self.keys: list[str] = []

    def word(self) -> str:
        return "".join(self.chance.choice(_WORDS) for _ in range(4)) + str(self.chance.randint(0, 9))

    def tree(self) -> Any:
        return self.chance.choice(_JSON)

    def maybe(self, some: Any) -> Any:
        return self.chance.choice([None, some])

    def author(self) -> str | None:
        return self.chance.choice(self.authors)

    def one_of(self, kind: Any) -> Any:
        return self.chance.choice(list(kind))

    async def people(self) -> None:
        account = await self.rows.service_account(self.word())
        self.authors.append(f"service-account:{account.id}")
        for kind, added in (
            ("Policy", await self.rows.policy(self.word())), ("CustomRole", await self.rows.role(self.word())),
            ("ServiceAccount", account), ("Webhook", await self.rows.webhook(self.word())),
        ):  # fmt: skip
            self.world.note(kind, added.id)
        self.world.note("User", self.rows.user_id)
        self.world.note("Tenant", self.rows.tenant_id)

    async def definitions(self, number: int) -> tuple[models.Workflow, models.TemplateRevision]:
        workflow = await self.rows.workflow(
            self.word(), description=self.maybe(self.word()), parameters=self.tree(), metadata_=self.tree(),
            is_deleted=self.chance.random() < 0.2, execution_count=number,
        )  # fmt: skip
        template = await self.rows.template(
            self.word(), description=self.word(), tags=self.tree(), is_public=number == 0,
            template_type=TemplateType.CUSTOM, is_deleted=self.chance.random() < 0.2, status=DefinitionStatus.PUBLISHED,
        )  # fmt: skip
        self.world.note("Workflow", workflow.id)
        self.world.note("ResourceTemplate", template.id)
        return workflow, await self.rows.revision(template)

    async def plan(self, workflow: models.Workflow, revision: models.TemplateRevision) -> models.DeploymentPlan:
        plan = await self.rows.plan(
            self.word(), status=self.one_of(PlanStatus), description=self.maybe(self.word()),
            workflow_id=self.maybe(workflow.id), configuration=self.tree(), parameters=self.tree(),
            template_tenant_id=self.rows.tenant_id, template_id=revision.template_id, template_revision_id=revision.id,
            parent_plan_id=self.chance.choice([None, *(plan.id for plan in self.plans)]),
            is_deleted=self.chance.random() < 0.1, duration_seconds=self.maybe(7), preview=self.maybe(_PREVIEW),
            dependencies=self.maybe(_GRAPH), diagnostics=self.maybe([_DIAGNOSTIC]),
            policy_results=self.maybe([_FINDING]), schedule=self.maybe(_SCHEDULE), preview_hash=self.maybe("0" * 64),
            created_by=self.author(), updated_by=self.author(),
        )  # fmt: skip
        if self.chance.random() < 0.5:
            review = models.Approval(
                tenant_id=self.rows.tenant_id, plan_id=plan.id, user_id=self.rows.user_id, approved=True,
                preview_hash="0" * 64, round=0, comment=self.word(), created_by=self.rows.actor,
            )  # fmt: skip
            await self.rows.add(review)
        self.plans.append(plan)
        self.world.note("DeploymentPlan", plan.id)
        return plan

    async def resource(self, plan: models.DeploymentPlan) -> models.CloudResource:
        drift = [{"path": ["a"], "expected": {"$sealed": "eA=="}, "actual": 1, "sensitive": True}]
        resource = await self.rows.resource(
            f"{len(self.keys)}{self.word()}", plan, stack="shared", depends_on=self.keys[-2:],
            outputs=self.tree(), observed=self.tree(), created_by=self.author(),
            drift=self.maybe(drift), observe_error=self.maybe({"code": "X", "message": self.word()}),
            status=self.one_of(ResourceStatus),
        )  # fmt: skip
        self.keys.append(resource.resource_key)
        self.world.note("CloudResource", resource.id)
        return resource

    async def job(self, plan: models.DeploymentPlan, resource: models.CloudResource) -> None:
        artifact = {"name": "f", "kind": "k", "uri": "s3://b/f.png", "size": 2**40, "sha256": "0" * 64}
        job = await self.rows.job(
            plan, status=self.one_of(JobStatus), inputs=self.tree(), outputs=self.tree(), error=self.maybe(_ERROR),
            created_by=self.author(), status_message=self.maybe(self.word()), artifacts=self.maybe([artifact]),
        )  # fmt: skip
        self.world.note("OrchestrationJob", job.id)
        await self.rows.lines(job, self.word(), self.word())
        for key in ("a", "b"):
            step = await self.rows.step(
                job, key, status=self.one_of(StepStatus), resource_id=resource.id, needs=["a"] if key == "b" else [],
                percent=self.maybe(12.5), outputs=self.tree(), error=self.maybe(_ERROR), due_at=_AT,
                started_at=self.maybe(_AT), completed_at=self.maybe(_AT + timedelta(milliseconds=2500)),
                not_run_because=self.maybe("a"),
                status_reason=self.chance.choice([StatusReason.NONE, StatusReason.NEEDS_ATTENTION]),
            )  # fmt: skip
            self.world.note("StepRun", step.id)
            if self.chance.random() < 0.5:
                await self.rows.attempt(step, error=self.maybe(_ERROR), ended_at=self.maybe(_AT), started_at=_AT)


async def populate(access: Access, chance: random.Random, world: World) -> None:
    """A tenant with a little of everything, in odd words."""
    tenant = _Tenant(access, chance, world)
    await tenant.people()
    for number in range(3):
        workflow, revision = await tenant.definitions(number)
        for _ in range(chance.randint(1, 3)):
            plan = await tenant.plan(workflow, revision)
            resource = await tenant.resource(plan)
            for _ in range(chance.randint(0, 3)):
                await tenant.job(plan, resource)


class Writer:
    """Writes one document. `roots` are the fields that it may begin with."""

    def __init__(self, schema: GraphQLSchema, roots: list[str], world: World, chance: random.Random) -> None:
        self._schema, self._roots, self._world, self._chance = schema, roots, world, chance
        self.variables: dict[str, Any] = {}
        self._declared: list[str] = []
        self._fragments: list[str] = []

    def document(self) -> str:
        root = self._schema.query_type
        assert root is not None
        some = self._chance.sample(self._roots, 2 if self._chance.random() < 0.1 else 1)
        selected = self._selection(root, _DEEPEST, some)
        declared = f"({', '.join(self._declared)})" if self._declared else ""
        return "\n".join([f"query{declared} {selected}", *self._fragments])

    def mutation(self, name: str, shown: str, given: dict[str, Any]) -> tuple[str, str]:
        """A mutation of one object, and a query that asks the same of that object afterwards, by its id `$id`."""
        payload: Any = get_named_type(self._schema.mutation_type.fields[name].type)  # type: ignore[union-attr]
        kind: Any = get_named_type(payload.fields[shown].type)
        selected = self._selection(kind, _DEEPEST)
        inputs = get_named_type(self._schema.mutation_type.fields[name].args["input"].type)  # type: ignore[union-attr]
        # Of what is not known which of its variables are used, all have to be declared by both.
        declared, fragments = "".join(f", {one}" for one in self._declared), "\n".join(self._fragments)
        self.variables |= {"input": given, "id": given["id"]}
        changing = (
            f"mutation($input: {inputs}!{declared}) {{ {name}(input: $input) {{ userErrors {{ message }}"
            f" {shown} {selected} }} }}\n{fragments}"
        )
        return (
            changing,
            f"query($id: ID!{declared}) {{ node(id: $id) {{ ... on {kind.name} {selected} }} }}\n{fragments}",
        )

    def _selection(self, kind: Any, depth: int, names: list[str] | None = None, prefix: str = "") -> str:
        if names is None:
            offered = [
                name for name in kind.fields
                if name not in _PASSING and (depth > 1 or is_leaf_type(get_named_type(kind.fields[name].type)))
            ]  # fmt: skip
            names = self._chance.choices(offered, k=self._chance.randint(1, 5)) if offered else []
        parts = [self._field(kind.fields[name], name, depth, prefix) for name in dict.fromkeys(names)]
        if not parts or self._chance.random() < 0.1:
            parts.append("__typename")
        return "{ " + " ".join(self._wrapped(kind, part) for part in parts) + " }"

    def _wrapped(self, kind: GraphQLObjectType, part: str) -> str:
        """Sometimes in a fragment, or under a condition."""
        luck = self._chance.random()
        if luck < 0.06:
            name = f"F{len(self._fragments)}"
            self._fragments.append(f"fragment {name} on {kind.name} {{ {part} }}")
            return f"...{name}"
        if luck < 0.12:
            condition = self._chance.choice([f"on {kind.name} ", ""])
            return f"... {condition}@include(if: {self._boolean()}) {{ {part} }}"
        return part

    def _boolean(self) -> str:
        luck = self._chance.random()
        if luck < 0.5:
            return self._chance.choice(["true", "false"])
        if luck < 0.6:
            return self._defaulted("Boolean", "true")
        return self._variable("Boolean!", self._chance.random() < 0.5)

    def _defaulted(self, kind: str, default: str) -> str:
        """A variable that may be left out, and that is rarely null: then only the default would have been valid."""
        name = f"v{len(self._declared)}"
        self._declared.append(f"${name}: {kind} = {default}")
        if self._chance.random() < 0.2:
            self.variables[name] = None
        return f"${name}"

    def _variable(self, kind: str, value: Any) -> str:
        name = f"v{len(self._declared)}"
        self._declared.append(f"${name}: {kind}")
        self.variables[name] = value
        return f"${name}"

    def _field(self, defined: GraphQLField, name: str, depth: int, prefix: str) -> str:
        alias = f"x{self._chance.randint(0, 99)}_{name}: " if self._chance.random() < 0.1 else ""
        if prefix:
            # Fields of two types may not have one name and be of different kinds.
            alias = f"{prefix}_{name}: "
        skip = f" @skip(if: {self._boolean()})" if self._chance.random() < 0.05 else ""
        named: Any = get_named_type(defined.type)
        below = "" if is_leaf_type(named) else " " + self._below(named, depth)
        return f"{alias}{name}{self._arguments(defined, name)}{skip}{below}"

    def _abstract(self, kind: Any, depth: int) -> str:
        possible = self._chance.sample(self._schema.get_possible_types(kind), 2)
        parts = [f"... on {one.name} {self._selection(one, depth - 1, prefix=one.name)}" for one in possible]
        if isinstance(kind, GraphQLInterfaceType):
            own = [name for name in kind.fields if is_leaf_type(get_named_type(kind.fields[name].type))]
            parts += self._chance.sample(own, 1)
        return "{ __typename " + " ".join(parts) + " }"

    def _below(self, kind: Any, depth: int) -> str:
        if isinstance(kind, (GraphQLInterfaceType, GraphQLUnionType)):
            return self._abstract(kind, depth)
        if not kind.fields.keys() >= _PAGE:
            return self._selection(kind, depth - 1)
        node: Any = get_named_type(kind.fields["nodes"].type)
        parts: dict[str, Callable[[], str]] = {
            "nodes": lambda: f"nodes {self._selection(node, depth - 1)}",
            "edges": lambda: f"edges {{ cursor node {self._selection(node, depth - 1)} }}",
            "pageInfo": lambda: "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }",
            "totalCount": lambda: "totalCount { value exact }",
        }
        chosen = self._chance.sample(sorted(parts), self._chance.randint(1, 3))
        return "{ " + " ".join(parts[name]() for name in chosen) + " }"

    def _arguments(self, defined: GraphQLField, name: str) -> str:
        given: dict[str, str] = {}
        for argument, kind in defined.args.items():
            if not is_required_argument(kind) and self._chance.random() < 0.6:
                continue
            if argument == "last" and "first" in given:
                continue
            value = self._argument(argument, kind.type, name)
            if value is not None:
                given[argument] = value
        return f"({', '.join(f'{key}: {value}' for key, value in given.items())})" if given else ""

    def _argument(self, name: str, kind: Any, field_name: str) -> str | None:
        if name in {"first", "last"}:
            number = self._chance.choice([0, 1, 2, 5, MAX_SIZE // 5])
            luck = self._chance.random()
            if luck < 0.1:
                return self._defaulted("Int", str(number))
            if luck < 0.15:
                return "null" if luck < 0.12 else self._variable("Int", None)
            return str(number) if luck < 0.5 else self._variable("Int!", number)
        if name == "slug":
            return self._variable("String!", self._chance.choice(["acme", "rival", "nobody"]))
        if name == "ids":
            every = [one for ids in self._world.ids.values() for one in ids]
            return self._variable("[ID!]!", self._chance.choices([*every, "nonsense"], k=self._chance.randint(0, 5)))
        if name == "id" and field_name == "node":
            some = self._chance.choice([*self._world.ids[self._chance.choice(sorted(self._world.ids))], "nonsense"])
            return self._variable("ID!", some) if self._chance.random() < 0.7 else f'"{some}"'
        if name == "id":
            some = self._chance.choice([*self._world.ids[_ROOTS[field_name]], "nonsense", encode_id("User", 1)])
            return self._variable("ID!", some) if self._chance.random() < 0.7 else f'"{some}"'
        if name == "orderBy":
            inputs: Any = get_named_type(kind)
            order: Any = get_named_type(inputs.fields["field"].type)
            chosen = self._chance.choice(list(order.values)), self._chance.choice(["ASC", "DESC"])
            return "{{field: {}, direction: {}}}".format(*chosen)
        if name == "filter":
            return self._filter(get_named_type(kind))
        return None

    def _filter(self, kind: Any) -> str | None:
        enums: dict[str, Any] = {
            name: get_named_type(value.type) for name, value in kind.fields.items()
            if isinstance(value.type, GraphQLList) and isinstance(get_named_type(value.type), GraphQLEnumType)
        }  # fmt: skip
        parts = []
        for name, enum in enums.items():
            if self._chance.random() < 0.3:
                chosen = self._chance.sample(list(enum.values), self._chance.randint(0, 3))
                parts.append(f"{name}: [{', '.join(chosen)}]")
        if "name" in kind.fields and self._chance.random() < 0.3:
            parts.append(f"name: {{contains: {self._variable('String', self._chance.choice(_WORDS))}}}")
        return "{" + ", ".join(parts) + "}"


async def answer_of(
    queries: CompiledQueries, text: str, variables: dict[str, Any], name: str | None, context: Context
) -> bytes | None:
    """The whole answer of a compiled query; None where the operation has to be executed in the ordinary way."""
    found = queries.begun(text, variables, name, context)
    return await found.answer(context) if isinstance(found, Asking) else found
