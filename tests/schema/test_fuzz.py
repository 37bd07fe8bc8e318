"""Anything that the schema admits, and some that it does not, by two tenants: answered, and with nothing of the other.

FUZZ_EXAMPLES says how many operations; docs/reliability.md has what ten thousand of them came to.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLUnionType,
    OperationType,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
)

from tests.schema.belongings import Owned, belongings
from tests.schema.conftest import Api
from tests.schema.verbs import SCHEMA

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "250"))
MINE, THEIRS = "mine-9d1f", "theirs-c27b"
TEXTS = [
    "", "a", "x" * 5_000, "\0", "\u2028", "😀", "ä" * 300, "'; DROP TABLE tenant; --", "${", "${1 + }",
    "${resources.a}", "%", "_", "/etc/passwd", "http://169.254.169.254/", "true", "null", "0", "-1", "PT1H", "P-1D",
    "2026-02-30", "2026-01-01T00:00:00Z", "Europe/Berlin", "* * * * *", "{}",
]  # fmt: skip
# Whoever loses their way in, or shows a template to everybody, gets what they asked for.
LEFT_OUT = {"deleteUser", "updateUser", "revokeApiToken"}
PRIVATE = {"isPublic": False}
NUMBERS = [0, 1, -1, 2, 100, 101, 2**31 - 1, -(2**31), 7]
DEEP: Any = "end"
for _ in range(150):
    DEEP = {"a": [DEEP]}
JSONS: list[Any] = [
    None, {}, [], "x", 1, 1.5e300, True, {"a": {"b": [1, None]}}, {"$sealed": "eA=="}, {"$sensitive": True},
    {"resources": {"a": {"type": "core.note", "properties": {"name": "a"}}}}, {"resources": {"a": {"type": "nothing"}}},
    {"steps": [{"key": "a", "type": "CUSTOM", "configuration": {"task": "core.wait"}}]}, {"steps": [1]}, {"": ""},
    {"approvals": {"required": 99}}, {"x": "y" * 3_000}, {"when": "${time.hour >= 0}"}, {"a": "${" * 50}, DEEP,
]  # fmt: skip


@dataclass
class Dice:
    """Writes one operation after the other."""

    chance: random.Random
    owned: list[Owned]
    variables: dict[str, Any] = field(default_factory=dict)

    def operation(self, kind: OperationType | None = None) -> tuple[str, dict[str, Any]]:
        """A document and its variables; of `kind`, or a query or mutation."""
        self.variables = {}
        kind = kind or (OperationType.MUTATION if self.chance.random() < 0.5 else OperationType.QUERY)
        root = SCHEMA.get_root_type(kind)
        assert root is not None
        name = self.chance.choice(sorted(root.fields.keys() - LEFT_OUT))
        body = self._field(name, root.fields[name], 4)
        declared = ", ".join(f"${key}: {kind}" for key, (kind, _) in self.variables.items())
        head = f"{kind.value}{f'({declared})' if declared else ''}"
        return f"{head} {{ {body} }}", {key: value for key, (_, value) in self.variables.items()}

    def _field(self, name: str, defined: GraphQLField, depth: int) -> str:
        given = []
        for argument, kind in defined.args.items():
            if isinstance(kind.type, GraphQLNonNull) or self.chance.random() < 0.4:
                key = f"v{len(self.variables)}"
                self.variables[key] = (kind.type, self._value(kind.type, 5))
                given.append(f"{argument}: ${key}")
        arguments = f"({', '.join(given)})" if given else ""
        return f"{name}{arguments}{self._selection(get_named_type(defined.type), depth)}"

    def _selection(self, kind: Any, depth: int) -> str:
        if is_leaf_type(kind):
            return ""
        if is_abstract_type(kind):
            members = sorted(SCHEMA.get_possible_types(kind), key=lambda member: member.name)
            chosen = self.chance.sample(members, min(2, len(members)))
            parts = [f"... on {member.name}{self._selection(member, 1)}" for member in chosen]
            return f" {{ __typename {' '.join(parts) if not isinstance(kind, GraphQLUnionType) or depth else ''} }}"
        assert isinstance(kind, GraphQLObjectType)
        offered = [
            name for name, defined in kind.fields.items() if depth > 1 or is_leaf_type(get_named_type(defined.type))
        ]
        names = self.chance.sample(offered, min(len(offered), self.chance.randint(1, 5)))
        # Fields that say what was refused are what a mutation is read for.
        errors = " userErrors { __typename code message path }" if "userErrors" in kind.fields else ""
        parts = [
            f"f{place}: {self._field(name, kind.fields[name], depth - 1)}"
            for place, name in enumerate(names)
            if name != "userErrors"
        ]
        return f" {{ __typename {' '.join(parts)}{errors} }}"

    def _value(self, kind: Any, depth: int) -> Any:
        chance = self.chance
        if isinstance(kind, GraphQLNonNull):
            return self._value(kind.of_type, depth)
        if chance.random() < 0.1:
            return None
        if isinstance(kind, GraphQLList):
            return [self._value(kind.of_type, depth - 1) for _ in range(chance.randint(0, 3))]
        if isinstance(kind, GraphQLInputObjectType):
            return {
                name: PRIVATE[name] if name in PRIVATE else self._value(inner.type, depth - 1)
                for name, inner in kind.fields.items()
                if isinstance(inner.type, GraphQLNonNull) or chance.random() < 0.5
            }
        if isinstance(kind, GraphQLEnumType):
            return chance.choice(sorted(kind.values))
        if chance.random() < 0.03:
            return chance.choice([*TEXTS, *NUMBERS, *JSONS])
        return self._scalar(kind.name)

    def _scalar(self, name: str) -> Any:
        chance = self.chance
        if name == "ID":
            owned = chance.choice(self.owned)
            return owned.gid(chance.choice(sorted(owned.numbers))) if chance.random() < 0.85 else chance.choice(TEXTS)
        if name == "Int":
            return chance.choice(NUMBERS)
        if name == "Float":
            return chance.choice([0.0, -1.5, 1e308, 3])
        if name == "Boolean":
            return chance.random() < 0.5
        return chance.choice(JSONS) if name == "JSON" else chance.choice(TEXTS)


async def test_whatever_is_asked_is_answered_and_tells_nothing_of_the_other(api: Api) -> None:
    mine, theirs = await belongings(api.acme, MINE), await belongings(api.rival, THEIRS)
    chance = random.Random(int(os.environ.get("FUZZ_SEED", "1")))
    dice = Dice(chance, [mine, theirs])
    counted: Counter[str] = Counter()
    for number in range(EXAMPLES):
        text, variables = dice.operation()
        access, canary = chance.choice([(api.acme, THEIRS), (api.rival, MINE)])
        where = (number, text, variables)
        response = await api.post({"query": text, "variables": variables}, token=access.token)
        assert response.status_code < 500, where
        answer = response.json()
        codes = {(error.get("extensions") or {}).get("code") for error in answer.get("errors") or ()}
        assert not {"INTERNAL", None} & codes, (where, answer)
        assert canary not in response.text, (where, answer)
        counted["refused" if codes else "answered"] += 1
    assert counted["answered"] > EXAMPLES * 0.3, counted
    print(dict(counted))  # noqa: T201  for docs/reliability.md
