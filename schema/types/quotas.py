"""Bounds on what tenants may use."""

from __future__ import annotations

import strawberry


@strawberry.type(description="A bound on what a tenant may use.")
class Quota:
    key: str
    limit: int
    used: int
