"""A thing as AWS tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from app.providers.base import JsonObject


class Phase(StrEnum):
    """How far AWS is with a thing: READY, BUSY with a creation or change, LEAVING, or BROKEN for good."""

    READY = "READY"
    BUSY = "BUSY"
    LEAVING = "LEAVING"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True)
class Found:
    """A thing as AWS tells of it.

    `properties` in the shape of the type's schema, without Tags; `unique` is what no other thing of that name will
    ever have; `message` says what AWS is busy with, or what broke; `arn` its name everywhere in AWS.
    """

    id: str
    properties: JsonObject
    outputs: JsonObject
    tags: Mapping[str, str] = field(default_factory=dict)
    unique: str = ""
    phase: Phase = Phase.READY
    message: str = ""
    arn: str = ""


def chosen(item: Mapping[str, Any], *names: str) -> JsonObject:
    """The named members of an answer, without those that are absent."""
    return {name: item[name] for name in names if item.get(name) is not None}
