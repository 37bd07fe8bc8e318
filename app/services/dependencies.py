"""What services need beside a transaction and a principal."""

from __future__ import annotations

from dataclasses import dataclass

from app.db.sealing import Sealer
from app.providers.registry import Registry


@dataclass(frozen=True, slots=True)
class Dependencies:
    """The catalogue of what can be deployed, and the seal for secrets."""

    catalogue: Registry
    sealer: Sealer
