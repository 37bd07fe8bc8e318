"""What each type accepts and gives: the declarations that bin/aws-schemas extracts from CloudFormation's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from app.domain.values import is_known, leaves
from app.providers.base import Schema


@dataclass(frozen=True, slots=True)
class Declaration:
    """One type. `computed`: AWS fills it in where it is left out. `unordered`: top-level lists that mean sets."""

    schema: Schema
    outputs: Schema
    create_only: frozenset[str]
    secret: frozenset[str]
    computed: frozenset[str]
    unordered: frozenset[str]

    def in_order(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """The properties with the lists that mean sets sorted. A list with something unknown in it stays."""
        ordered = dict(properties)
        for name in self.unordered & ordered.keys():
            items = ordered[name]
            if isinstance(items, list) and all(is_known(leaf) for _, leaf in leaves(items)):
                ordered[name] = sorted(items, key=_canonical)
        return ordered


@cache
def declaration(name: str) -> Declaration:
    """The declaration of a type by its name ("aws.ec2.vpc")."""
    file = files("app.providers.aws") / "schemas" / f"{name.removeprefix('aws.')}.json"
    found = orjson.loads(file.read_bytes())
    schema = found["schema"]
    required = schema.get("required", ())
    computed = {key for key, part in schema["properties"].items() if key not in required and "default" not in part}
    return Declaration(
        schema=schema,
        outputs=found["outputs"],
        create_only=frozenset(found["createOnly"]),
        secret=frozenset(found["sensitive"]),
        computed=frozenset(f"/{key}" for key in computed),
        unordered=frozenset(found["unordered"]),
    )


def _canonical(item: Any) -> bytes:
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS, default=repr)
