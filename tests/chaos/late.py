"""Requests that arrive late: their worker dies with them on their way, and they get through when the step is undone.

Such a request is held back by the provider's process (`tests/chaos/part.py`), which writes down what it is and dies;
here it is let arrive once the job was rolled back. What it makes has to be gone again soon.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import text

from app.domain.statuses import JOB, JobStatus
from app.providers.conformance import StandaloneContext
from app.providers.core.note import FOLDER
from app.providers.core.provider import CoreProvider
from tests.chaos.eyes import Eyes
from tests.chaos.load import AWAY, Customers, Order
from tests.engine.history import world

_TENANT = "alpha"
_EVERY_SECONDS = 8.0
_LOOK_SECONDS = 0.3
# The looks behind an undone effect come 5, 25 and 105 seconds after it, and each may be lost with its worker.
_PATIENCE_SECONDS = 130.0
_LAST = text(
    "SELECT j.status FROM deployment_plan p JOIN orchestration_job j ON j.tenant_id = p.tenant_id"
    " AND j.id = p.last_job_id WHERE p.plan_name = :name"
)


@dataclass
class Latecomers:
    """`arrived`: the notes that were made after their step had been undone; `seconds`: how long each was there."""

    customers: Customers
    arrived: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    async def go(self, more: Callable[[], bool]) -> None:
        """A plan now and then one of whose requests arrives late."""
        number = 0
        while more():
            task = asyncio.create_task(self._play(f"late-{number}"))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1
            await asyncio.sleep(_EVERY_SECONDS)

    async def rests(self, eyes: Eyes) -> bool:
        del eyes
        return not self._under_way

    async def faults(self, eyes: Eyes, folder: Path) -> list[str]:
        del eyes
        left = {name for notes in world(folder).values() for name in notes} & self.arrived
        return [f"late: {name} arrived after its step was undone, and stays" for name in sorted(left)]

    @property
    def proved(self) -> bool:
        return bool(self.arrived)

    def said(self) -> str:
        longest = max(self.seconds, default=0.0)
        return f"Requests that arrived when they were undone: {len(self.arrived)}, removed within {longest:.0f} s"

    async def _play(self, name: str) -> None:
        town = self.customers.town
        note = f"{name}.0"
        (town.held / note).touch()
        order = Order(
            name=name, tenant=_TENANT, stack=name, notes={note: ()}, text="x", fails=True, workflow=True,
            by_api=False, cancel=None,
        )  # fmt: skip
        await self.customers.hand_in(order)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            status = await self._status(name)
            if status in JOB.closed:
                break
        sent = town.sent / note
        if status is JobStatus.ROLLED_BACK and sent.exists():
            await self._arrive(note, json.loads(await asyncio.to_thread(sent.read_text)))

    async def _status(self, name: str) -> JobStatus | None:
        with suppress(*AWAY):
            async with self.customers.database.read(self.customers.principals[_TENANT].tenant_id) as session:
                found = await session.scalar(_LAST, {"name": name})
                return None if found is None else JobStatus(found)
        return None

    async def _arrive(self, name: str, request: dict[str, str]) -> None:
        (notes,) = [kind for kind in CoreProvider().types() if kind.name == "core.note"]
        context = StandaloneContext(
            request["operation"], request["owner"], request["connection"], Path(request["workspace"])
        )
        await notes.create(context, json.loads(request["properties"]))
        self.arrived.add(name)
        began = time.monotonic()
        path = context.workspace / FOLDER / (context.connection or "") / f"{name}.json"
        while time.monotonic() - began < _PATIENCE_SECONDS:
            if not await asyncio.to_thread(path.exists):
                self.seconds.append(time.monotonic() - began)
                return
            await asyncio.sleep(_LOOK_SECONDS)
