"""Provider states between the database and the provider: sealed where they rest, plain where they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.db.sealing import Sealer
from app.domain import redaction
from app.domain.diffing import split_pointer
from app.domain.drifting import Deviation, as_found
from app.domain.values import Secret, Value, leaves, reveal, secrets_in, transform
from app.engine.work import Work
from app.providers.base import ResourceState
from app.providers.registry import Registry


def conceal(tree: Mapping[str, Value], pointers: frozenset[str]) -> dict[str, Value]:
    """The tree with the values that `pointers` name wrapped as Secrets; absent and null ones are left alone."""
    result: dict[str, Value] = dict(tree)
    for pointer in pointers:
        path = split_pointer(pointer)
        place: Any = result
        for name in path[:-1]:
            inner = place.get(name)
            if not isinstance(inner, Mapping):
                break
            place[name] = dict(inner)
            place = place[name]
        else:
            value = place.get(path[-1])
            if value is not None and not isinstance(value, Secret):
                place[path[-1]] = Secret(value)
    return result


def words_in(*trees: Value) -> frozenset[str]:
    """The texts that are Secrets somewhere in the trees; very short ones would make a secret of everything."""
    return words_of(secret for tree in trees for secret in secrets_in(tree))


def words_of(secrets: Iterable[Secret]) -> frozenset[str]:
    """The texts that are in these; very short ones would make a secret of everything."""
    # A whole object may be a secret: what is told of it is what is in it.
    found = (inner for secret in secrets for _, inner in leaves(secret.value))
    return frozenset(word for word in found if isinstance(word, str) and len(word) >= redaction.SHORTEST)


def conceal_words(tree: Value, words: frozenset[str]) -> Value:
    """The tree with every text that is, or holds, one of `words` in any spelling wrapped as a Secret.

    Providers are told secrets in plain, and give them back in properties and outputs whose types know nothing of it.
    """
    if not words:
        return tree
    looked_for = redaction.spellings(words)

    def concealed(leaf: Value) -> Value:
        return Secret(leaf) if isinstance(leaf, str) and any(word in leaf for word in looked_for) else leaf

    return transform(tree, concealed)


@dataclass(frozen=True, slots=True)
class Hidden:
    """What must not be stored in plain: the places that a resource type declares, and texts that came in as secrets."""

    pointers: frozenset[str]
    words: frozenset[str]

    @classmethod
    def of(cls, work: Work, registry: Registry) -> Hidden:
        """What is to be hidden of the state that `work` brings about, and of what it gives."""
        pointers = registry.secret(work.spec["type"]) if work.spec.get("type") else frozenset()
        return cls(pointers, work.words | words_of(work.secrets))

    def masked(self, message: str) -> str:
        """The message without any of the words."""
        return redaction.without(message, redaction.spellings(self.words)) if self.words else message

    def properties(self, state: ResourceState) -> Value:
        """The state's properties with Secrets in them."""
        return conceal_words(conceal(state.properties, self.pointers), self.words)

    def outputs(self, outputs: Mapping[str, Value]) -> Any:
        """The outputs of a state or a step with Secrets in them."""
        return conceal_words(dict(outputs), self.words)


def pack(state: ResourceState | None, hidden: Hidden, sealer: Sealer, tenant_id: int) -> dict[str, Any] | None:
    """A state as it may be stored."""
    if state is None:
        return None
    return {
        "id": state.id,
        "properties": sealer.seal(hidden.properties(state), tenant_id),
        "outputs": sealer.seal(hidden.outputs(state.outputs), tenant_id),
        "private": state.private,
        "version": state.version,
    }


def unpack(stored: Mapping[str, Any] | None, sealer: Sealer, tenant_id: int) -> ResourceState | None:
    """A stored state, plain: for a provider call only."""
    if stored is None:
        return None
    return ResourceState(
        id=stored["id"],
        properties=reveal(sealer.open(stored["properties"], tenant_id)),
        outputs=reveal(sealer.open(stored["outputs"], tenant_id)),
        private=dict(stored.get("private") or {}),
        version=stored.get("version", 1),
    )


def found_state(stored: Mapping[str, Any], sealer: Sealer, tenant_id: int) -> ResourceState | None:
    """A recorded state with the "drift" that was found since: as the resource really is, as far as anybody knows."""
    state = unpack(stored, sealer, tenant_id)
    if state is None or not stored.get("drift"):
        return state
    drift = [Deviation.from_document(reveal(sealer.open(found, tenant_id))) for found in stored["drift"]]
    return replace(state, properties=as_found(state.properties, drift))
