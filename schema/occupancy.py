"""How many live operations a principal and a tenant have in one process, and how many they may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.auth.principal import Principal
from app.domain.errors import LimitExceeded

PER_PRINCIPAL: Final = 1_000
PER_TENANT: Final = 10_000


class Occupancy:
    """Counts of one process."""

    def __init__(self, *, per_principal: int = PER_PRINCIPAL, per_tenant: int = PER_TENANT) -> None:
        self._per_principal = per_principal
        self._per_tenant = per_tenant
        self._tenants: Counter[int] = Counter()
        self._principals: Counter[tuple[int, int]] = Counter()

    @contextmanager
    def one(self, principal: Principal) -> Iterator[None]:
        """Count one operation while it lasts. Raises LimitExceeded."""
        self.take(principal)
        try:
            yield
        finally:
            self.give_back(principal)

    def take(self, principal: Principal) -> None:
        """Count one operation until it is given back. Raises LimitExceeded."""
        who = (principal.tenant_id, principal.user_id)
        if self._principals[who] >= self._per_principal:
            message = f"at most {self._per_principal} live operations of one user at a time"
            raise LimitExceeded(message)
        if self._tenants[principal.tenant_id] >= self._per_tenant:
            message = f"at most {self._per_tenant} live operations of one tenant at a time"
            raise LimitExceeded(message)
        self._principals[who] += 1
        self._tenants[principal.tenant_id] += 1

    def give_back(self, principal: Principal) -> None:
        """An operation that was counted is over."""
        who = (principal.tenant_id, principal.user_id)
        self._principals[who] -= 1
        self._tenants[principal.tenant_id] -= 1
        if not self._principals[who]:
            del self._principals[who]
        if not self._tenants[principal.tenant_id]:
            del self._tenants[principal.tenant_id]

    def __len__(self) -> int:
        return self._tenants.total()
