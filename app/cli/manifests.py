"""Manifests: what `apply` and `submit` read from YAML.

    apiVersion: windlass/v1
    kind: Template | Workflow | Plan
    metadata: {name, description?, tags?}
    spec: Template: the content (parameters, resources, outputs, constraints), and beside it type? and public?
          Workflow: the definition (parameters, steps), and beside it type?
          Plan: template?, workflow?, parameters?, stack?, type?, failureStrategy?, rollbackScope?, configuration?

A file may hold several documents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from app.cli.client import CommandFailed

API_VERSION = "windlass/v1"
_SUFFIXES = (".yaml", ".yml", ".json")
_TOP = frozenset({"apiVersion", "kind", "metadata", "spec"})
_METADATA = frozenset({"name", "description", "tags"})


class Kind(StrEnum):
    """Declared in the order in which they are applied: later ones may name earlier ones."""

    TEMPLATE = "Template"
    WORKFLOW = "Workflow"
    PLAN = "Plan"


_SPEC: dict[Kind, frozenset[str]] = {
    Kind.TEMPLATE: frozenset({"type", "public", "parameters", "resources", "outputs", "constraints"}),
    Kind.WORKFLOW: frozenset({"type", "parameters", "steps"}),
    Kind.PLAN: frozenset(
        {
            "template",
            "workflow",
            "parameters",
            "stack",
            "type",
            "failureStrategy",
            "rollbackScope",
            "configuration",
            "schedule",
            "condition",
            "validUntil",
            "constraints",
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document, and where it stands."""

    kind: Kind
    name: str
    description: str | None
    tags: dict[str, Any] | None
    spec: dict[str, Any]
    source: str

    def without(self, *keys: str) -> dict[str, Any]:
        """The spec without these keys."""
        return {key: value for key, value in self.spec.items() if key not in keys}


def read(path: Path) -> list[Manifest]:
    """Every document of a file, or of the YAML and JSON files of a folder; templates first, plans last.

    Raises CommandFailed with all faults at once.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
    else:
        files = [path]
    manifests: list[Manifest] = []
    faults: list[str] = []
    for file in files:
        for source, document in _documents(file, faults):
            found = _faults(document)
            faults.extend(f"{source}: {fault}" for fault in found)
            if not found:
                manifests.append(_manifest(document, source))
    if not manifests and not faults:
        faults.append(f"{path}: there is no document to apply")
    if faults:
        raise CommandFailed(*faults)
    order = list(Kind)
    return sorted(manifests, key=lambda manifest: order.index(manifest.kind))


class _GivenTwice(yaml.YAMLError):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """Refuses what YAML leaves to the reader: of two values of one key nobody means the second to win unseen."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Before merges (<<) are written out: what they bring may well be given anew.
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name, line = (key.tag, key.value), key.start_mark.line + 1
                if name in first:
                    message = f"line {line}: the key '{key.value}' is given twice, first in line {first[name]}"
                    raise _GivenTwice(message)
                first[name] = line
        return node


def _documents(file: Path, faults: list[str]) -> list[tuple[str, Any]]:
    try:
        # The loader is a safe one.
        documents = list(yaml.load_all(file.read_text(encoding="utf-8"), _Loader))
    except OSError as error:
        faults.append(f"{file}: {error.strerror}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        faults.append(f"{file}: {' '.join(str(error).split())}")
    except RecursionError:
        faults.append(f"{file}: it is nested too deeply to be read")
    else:
        return [(f"{file}#{n}", document) for n, document in enumerate(documents, 1) if document is not None]
    return []


def _faults(document: Any) -> list[str]:
    if not isinstance(document, Mapping):
        return ["a document is a mapping with apiVersion, kind, metadata and spec"]
    faults: list[str] = []
    if document.get("apiVersion") != API_VERSION:
        faults.append(f"apiVersion is {API_VERSION}")
    kinds = [kind.value for kind in Kind]
    if document.get("kind") not in kinds:
        faults.append(f"kind is one of {', '.join(kinds)}")
    faults.extend(_strangers(document, _TOP, ""))
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str) or not metadata["name"]:
        faults.append("metadata.name is missing")
    else:
        faults.extend(_strangers(metadata, _METADATA, "metadata."))
        if not isinstance(metadata.get("tags") or {}, Mapping):
            faults.append("metadata.tags is a mapping")
    if not isinstance(spec, Mapping):
        faults.append("spec is a mapping")
    elif document.get("kind") in kinds:
        faults.extend(_strangers(spec, _SPEC[Kind(document["kind"])], "spec."))
    return faults


def _strangers(found: Mapping[Any, Any], known: frozenset[str], prefix: str) -> list[str]:
    return [f"{prefix}{key} is not known; there are {', '.join(sorted(known))}" for key in found if key not in known]


def _manifest(document: Mapping[str, Any], source: str) -> Manifest:
    metadata = document["metadata"]
    tags = metadata.get("tags")
    return Manifest(
        kind=Kind(document["kind"]),
        name=metadata["name"],
        description=metadata.get("description"),
        tags=None if tags is None else dict(tags),
        spec=dict(document["spec"]),
        source=source,
    )
