"""Global ids: how an object is called where its type is not said beside it."""

from __future__ import annotations

import base64


def global_id(kind: str, number: int) -> str:
    """The id of row `number` of the GraphQL type `kind`; opaque to clients, unique over all types."""
    return base64.urlsafe_b64encode(f"{kind}:{number}".encode()).decode().rstrip("=")
