"""What operations cost, and how much of it somebody may ask for in a time.

An operation costs a point, one more for every twenty selections and for every ten rows that its pages may ask for, and
ten for each mutation. Points come back with time (app.auth.rates); a person and a tenant have each their own.
"""

from __future__ import annotations

from math import ceil, isfinite
from typing import Any

from graphql import GraphQLError

from app.auth.principal import Principal
from app.auth.rates import Meter, Rate
from app.settings import Settings

RATE_LIMITED = "RATE_LIMITED"
# A tenant has so many times what one person has.
_TENANT = 4


class RateLimited(Exception):
    """Somebody has asked for too much lately; they may again after `seconds`, or never for this, where that is None."""

    def __init__(self, points: int, seconds: float | None) -> None:
        super().__init__(points)
        self.points = points
        self.seconds = seconds

    @property
    def message(self) -> str:
        """For whoever asked."""
        if self.seconds is None:
            return f"this costs {self.points} points, which is more than there ever are"
        return f"this costs {self.points} points, which are there in {self.seconds:.1f} s"

    @property
    def headers(self) -> dict[str, str]:
        """Of an answer over HTTP."""
        return {} if self.seconds is None else {"Retry-After": str(max(1, ceil(self.seconds)))}

    def error(self) -> GraphQLError:
        """The same as an error of the operation."""
        extensions = {"code": RATE_LIMITED, "cost": self.points, "retryAfter": self.seconds}
        return GraphQLError(self.message, extensions=extensions)


class Allowance:
    """The points of everybody in one process; without a rate there is no limit."""

    def __init__(self, rate: Rate | None = None) -> None:
        self._people = None if rate is None else Meter(rate)
        self._tenants = None if rate is None else Meter(Rate(rate.per_second * _TENANT, rate.burst * _TENANT))

    @classmethod
    def of(cls, settings: Settings) -> Allowance:
        """As the settings say."""
        per_second = settings.rate_points_per_second
        return cls(Rate(per_second, settings.rate_burst_points) if per_second else None)

    def charge(self, principal: Principal, points: int) -> None:
        """Take the points. Raises RateLimited, and takes none, where they are not there."""
        if self._people is None or self._tenants is None:
            return
        wait = self._tenants.take(principal.tenant_id, points) or self._people.take(_who(principal), points)
        if wait:
            # Never said to be there sooner than they are.
            raise RateLimited(points, ceil(wait * 10) / 10 if isfinite(wait) else None)

    def document(self, principal: Principal, points: int) -> dict[str, Any]:
        """What an operation has cost, for whoever wants to know; `left` is None where there is no limit."""
        left = None if self._people is None else int(self._people.left(_who(principal)))
        return {"requested": points, "left": left}


def _who(principal: Principal) -> tuple[int, int]:
    return principal.tenant_id, principal.user_id
