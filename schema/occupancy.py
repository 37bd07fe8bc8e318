"""How many live operations a principal and a tenant have in one process, how many strangers, and how many they may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from app.auth.principal import Principal
from app.domain.errors import LimitExceeded

PER_PRINCIPAL: Final = 1_000
PER_TENANT: Final = 10_000
# A server that comes back is met by many at once, and they may share an address.
STRANGERS_PER_ADDRESS: Final = 500
STRANGERS: Final = 2_000


class Strangers:
    """Connections that have not said who they are, in one process: so many from an address, and so many in all.

    Each has its deadline for saying so (schema/http.py); nobody can have the process keep more of them than this.
    """

    def __init__(self, *, per_address: int = STRANGERS_PER_ADDRESS, in_all: int = STRANGERS) -> None:
        self._per_address = per_address
        self._in_all = in_all
        self._addresses: Counter[str] = Counter()

    def enter(self, address: str) -> Callable[[], None] | None:
        """Count one until what is returned is called, once or more; None where there are as many as there may be."""
        if self._addresses[address] >= self._per_address or len(self) >= self._in_all:
            return None
        self._addresses[address] += 1
        waiting = [address]

        def leave() -> None:
            if waiting:
                self._leave(waiting.pop())

        return leave

    def _leave(self, address: str) -> None:
        self._addresses[address] -= 1
        if not self._addresses[address]:
            del self._addresses[address]

    def __len__(self) -> int:
        return self._addresses.total()


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
