"""Queries at random, over every field that can be compiled, and what there is to be asked."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLList,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from app.db import models
from app.db.pages import MAX_SIZE
from app.domain.enums import DefinitionStatus, TemplateType
from app.domain.statuses import JobStatus, PlanStatus, StepStatus
from schema.nodes import encode_id
from tests.schema.conftest import Access

_DEEPEST = 4
_ROOTS = {
    "deploymentPlan": "DeploymentPlan", "orchestrationJob": "OrchestrationJob", "workflow": "Workflow",
    "resourceTemplate": "ResourceTemplate", "cloudResource": "CloudResource",
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


async def populate(access: Access, chance: random.Random, world: World) -> None:
    """A tenant with a little of everything, in odd words."""
    rows, plans = access.rows, list[models.DeploymentPlan]()

    def word() -> str:
        return "".join(chance.choice(_WORDS) for _ in range(4)) + str(chance.randint(0, 9))

    def tree() -> Any:
        return chance.choice(_JSON)

    for number in range(3):
        workflow = await rows.workflow(
            word(), description=chance.choice([None, word()]), parameters=tree(), metadata_=tree(),
            is_deleted=chance.random() < 0.2, execution_count=number,
        )  # fmt: skip
        template = await rows.template(
            word(), description=word(), tags=tree(), is_public=number == 0, template_type=TemplateType.CUSTOM,
            is_deleted=chance.random() < 0.2, status=DefinitionStatus.PUBLISHED,
        )  # fmt: skip
        revision = await rows.revision(template)
        world.note("Workflow", workflow.id)
        world.note("ResourceTemplate", template.id)
        for _ in range(chance.randint(1, 3)):
            plan = await rows.plan(
                word(), status=chance.choice(list(PlanStatus)), description=chance.choice([None, word()]),
                workflow_id=chance.choice([None, workflow.id]), configuration=tree(), parameters=tree(),
                template_tenant_id=access.tenant_id, template_id=template.id, template_revision_id=revision.id,
                parent_plan_id=chance.choice([None, *(plan.id for plan in plans)]),
                is_deleted=chance.random() < 0.1, duration_seconds=chance.choice([None, 7]),
            )  # fmt: skip
            plans.append(plan)
            world.note("DeploymentPlan", plan.id)
            resource = await rows.resource(word(), plan, outputs=tree(), observed=tree())
            world.note("CloudResource", resource.id)
            for _ in range(chance.randint(0, 3)):
                job = await rows.job(plan, status=chance.choice(list(JobStatus)), inputs=tree(), outputs=tree())
                world.note("OrchestrationJob", job.id)
                for key in ("a", "b"):
                    await rows.step(
                        job, key, status=chance.choice(list(StepStatus)), resource_id=resource.id,
                        needs=["a"] if key == "b" else [], percent=chance.choice([None, 12.5]), outputs=tree(),
                    )  # fmt: skip


class Writer:
    """Writes one document. `allowed` has the fields that may be selected, by type."""

    def __init__(
        self, schema: GraphQLSchema, allowed: dict[str, list[str]], world: World, chance: random.Random
    ) -> None:
        self._schema, self._allowed, self._world, self._chance = schema, allowed, world, chance
        self.variables: dict[str, Any] = {}
        self._declared: list[str] = []
        self._fragments: list[str] = []

    def document(self) -> str:
        root = self._schema.query_type
        assert root is not None
        selected = self._selection(root, _DEEPEST, self._chance.sample(self._allowed["Query"], 1))
        declared = f"({', '.join(self._declared)})" if self._declared else ""
        return "\n".join([f"query{declared} {selected}", *self._fragments])

    def _selection(self, kind: GraphQLObjectType, depth: int, names: list[str] | None = None) -> str:
        if names is None:
            offered = [
                name for name in self._allowed.get(kind.name, ())
                if depth > 1 or is_leaf_type(get_named_type(kind.fields[name].type))
            ]  # fmt: skip
            names = self._chance.choices(offered, k=self._chance.randint(1, 5)) if offered else []
        parts = [self._field(kind.fields[name], name, depth) for name in dict.fromkeys(names)]
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
        if self._chance.random() < 0.5:
            return self._chance.choice(["true", "false"])
        return self._variable("Boolean!", self._chance.random() < 0.5)

    def _variable(self, kind: str, value: Any) -> str:
        name = f"v{len(self._declared)}"
        self._declared.append(f"${name}: {kind}")
        self.variables[name] = value
        return f"${name}"

    def _field(self, defined: GraphQLField, name: str, depth: int) -> str:
        alias = f"x{self._chance.randint(0, 99)}_{name}: " if self._chance.random() < 0.15 else ""
        skip = f" @skip(if: {self._boolean()})" if self._chance.random() < 0.05 else ""
        named: Any = get_named_type(defined.type)
        below = "" if is_leaf_type(named) else " " + self._below(named, depth)
        return f"{alias}{name}{self._arguments(defined, name)}{skip}{below}"

    def _below(self, kind: GraphQLObjectType, depth: int) -> str:
        if not kind.name.endswith("Connection"):
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
            return str(number) if self._chance.random() < 0.5 else self._variable("Int!", number)
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


def objects(schema: GraphQLSchema) -> dict[str, GraphQLObjectType]:
    """The types of rows, by name: those that queries lead to, connections left out."""
    found: dict[str, GraphQLObjectType] = {}
    waiting: list[Any] = [schema.query_type]
    while waiting:
        kind = waiting.pop()
        for defined in kind.fields.values():
            named: Any = get_named_type(defined.type)
            if isinstance(named, GraphQLObjectType) and named.name.endswith("Connection"):
                named = get_named_type(named.fields["nodes"].type) if "nodes" in named.fields else None
            if isinstance(named, GraphQLObjectType) and named.name not in found:
                found[named.name] = named
                waiting.append(named)
    return found
