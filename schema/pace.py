"""How often live streams look by themselves, and how long they bear with what is away."""

from __future__ import annotations

from app.bus.bus import Bus
from app.db.away import DATABASE_AWAY

# How long a lost ring can delay what it announced, while the bus works and while it does not.
SWEEP_SECONDS = 1.0
SWEEP_WITHOUT_BUS_SECONDS = 0.25
HEARTBEAT_SECONDS = 10.0
# How long a database that does not answer is waited for before the client is told.
PATIENCE_SECONDS = 30.0
TROUBLE = (*DATABASE_AWAY, TimeoutError)


def sweep_seconds(bus: Bus) -> float:
    """How long to wait for a bell before looking anyway."""
    return SWEEP_SECONDS if bus.healthy else SWEEP_WITHOUT_BUS_SECONDS
