"""The state of OpenTofu workspaces: read, written and locked by whoever has a pass.

A lock is held by an operation. The same operation takes it over: its earlier attempt is dead, or has lost its step. So
does anybody once the holder's pass has ended. Who was overtaken cannot write any more: a write names its lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, func, select

from app import clock
from app.db.models import Tenant, TofuState, TofuStateVersion
from app.db.places import tofu_place
from app.db.sealing import Sealer
from app.db.uow import Database, SystemRole, Transaction
from app.domain.tofu import Pass, Version
from app.domain.values import Secret, reveal

KEPT_VERSIONS = 30
_ACTOR = "system:tofu"
# What a run says of itself that changes things.
_APPLIES = "OperationTypeApply"


class BadPass(Exception):
    """It is no pass, or not a good one any more."""


class Foreign(Exception):
    """The workspace is another resource's."""


class Locked(Exception):
    """Somebody else works on the workspace; `info` is what they say of themselves."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__("locked")
        self.info = info


@dataclass(frozen=True, slots=True)
class Visit:
    """A pass that was found good, and its tenant."""

    tenant_id: int
    given: Pass


@dataclass(frozen=True, slots=True)
class Found:
    """A state, None where nothing was written, and the operation that began the workspace.

    `interrupted`: a run of the operation that asks was applying something, and never let go.
    """

    body: bytes | None = None
    operation: str = ""
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class States:
    """The states of a database. `key` is that of passes; those made with one of `before` are good, too."""

    database: Database
    sealer: Sealer
    key: bytes
    before: tuple[bytes, ...] = ()

    async def admit(self, text: str, workspace: str) -> Visit:
        """Raises BadPass for a pass that does not lead to the workspace."""
        now = clock.utc_now().timestamp()
        passes = (Pass.read(key, text, now) for key in (self.key, *self.before))
        given = next((one for one in passes if one is not None), None)
        if given is None or given.workspace != workspace:
            raise BadPass
        async with self.database.system(SystemRole.AUTH) as lookup:
            tenant_id = await lookup.session.scalar(select(Tenant.id).where(Tenant.slug == given.tenant_slug))
        if tenant_id is None:
            raise BadPass
        return Visit(tenant_id, given)

    async def fetch(self, visit: Visit) -> Found:
        """The newest state. Raises Foreign."""
        async with self.database.read(visit.tenant_id) as session:
            state = await session.scalar(_by_name(visit))
            if state is None:
                return Found()
            if state.serial is not None and state.owner != visit.given.owner:
                raise Foreign
            now = await session.scalar(select(func.clock_timestamp()))
            interrupted = (
                state.lock is not None
                and state.lock.get("Operation") == _APPLIES
                and state.lock_operation == visit.given.operation
                and now is not None
                and state.lock_until is not None
                and state.lock_until > now
            )
            if state.serial is None:
                return Found(interrupted=interrupted)
            version = await session.scalar(
                select(TofuStateVersion)
                .where(TofuStateVersion.tenant_id == visit.tenant_id, TofuStateVersion.state_id == state.id)
                .order_by(TofuStateVersion.id.desc())
                .limit(1)
            )
        if version is None:
            return Found(interrupted=interrupted)
        place = tofu_place(state.id, version.serial)
        opened = await asyncio.to_thread(self.sealer.open, version.body, visit.tenant_id, place)
        return Found(str(reveal(opened["state"])).encode(), state.operation, interrupted)

    async def store(self, visit: Visit, body: bytes, lock_id: str | None) -> None:
        """Keep a new version. Raises Locked, OutOfTurn, and ValueError for what is no state."""
        # A state can be large enough to hold everybody else up.
        version = await asyncio.to_thread(Version.of, body)
        secret = {"state": Secret(body.decode())}
        async with self._held(visit) as (transaction, state):
            _require_lock(state, lock_id)
            kept = None
            if state.lineage is not None and state.serial is not None:
                kept = Version(state.lineage, state.serial, state.md5 or "")
            if not version.follow(kept):
                return
            state.lineage, state.serial, state.md5 = version.lineage, version.serial, version.md5
            state.updated_at = func.clock_timestamp()
            session = transaction.session
            place = tofu_place(state.id, version.serial)
            sealed = await asyncio.to_thread(self.sealer.seal, secret, visit.tenant_id, place)
            session.add(
                TofuStateVersion(
                    tenant_id=visit.tenant_id,
                    state_id=state.id,
                    serial=version.serial,
                    operation=visit.given.operation,
                    size=len(body),
                    body=sealed,
                )
            )
            await session.flush()
            mine = (TofuStateVersion.tenant_id == visit.tenant_id, TofuStateVersion.state_id == state.id)
            oldest = select(TofuStateVersion.id).where(*mine).order_by(TofuStateVersion.id.desc()).offset(KEPT_VERSIONS)
            await session.execute(delete(TofuStateVersion).where(*mine, TofuStateVersion.id.in_(oldest)))

    async def lock(self, visit: Visit, info: Mapping[str, Any]) -> None:
        """Raises Locked where another operation has it, and its pass is still good."""
        async with self._held(visit) as (transaction, state):
            now = await transaction.session.scalar(select(func.clock_timestamp()))
            if (
                state.lock is not None
                and state.lock_operation != visit.given.operation
                and state.lock_until is not None
                and now is not None
                and state.lock_until > now
            ):
                raise Locked(state.lock)
            state.lock = dict(info)
            state.lock_operation = visit.given.operation
            state.lock_until = datetime.fromtimestamp(visit.given.until, UTC)

    async def unlock(self, visit: Visit, lock_id: str | None) -> None:
        """Let go. Raises Locked where somebody else has it by now; a workspace that nobody has is let go of."""
        async with self._held(visit) as (_, state):
            if state.lock is not None and lock_id is not None and state.lock.get("ID") != lock_id:
                raise Locked(state.lock)
            state.lock = state.lock_operation = state.lock_until = None

    async def remove(self, visit: Visit, lock_id: str | None) -> None:
        """The workspace is no more; its newest versions are kept, and nobody meets them. Raises Locked."""
        async with self._held(visit) as (_, state):
            _require_lock(state, lock_id)
            state.is_deleted = True
            state.updated_at = func.clock_timestamp()

    @asynccontextmanager
    async def _held(self, visit: Visit) -> AsyncIterator[tuple[Transaction, TofuState]]:
        """The workspace, made where there is none, while nobody else can change it. Raises Foreign."""
        correlation = f"tofu-{visit.given.operation}"[:60]
        async with self.database.write(visit.tenant_id, actor=_ACTOR, correlation_id=correlation) as transaction:
            transaction.authorize("whoever has a pass may work on its workspace")
            session = transaction.session
            # Two first visitors make one row.
            await session.execute(
                select(func.pg_advisory_xact_lock(func.hashtext(f"tofu:{visit.tenant_id}:{visit.given.workspace}")))
            )
            state = await session.scalar(_by_name(visit).with_for_update())
            if state is None:
                state = TofuState(
                    tenant_id=visit.tenant_id,
                    name=visit.given.workspace,
                    owner=visit.given.owner,
                    operation=visit.given.operation,
                )
                session.add(state)
                await session.flush()
            elif state.serial is None and state.lock is None:
                # Somebody began, and never came to anything.
                state.owner, state.operation = visit.given.owner, visit.given.operation
            elif state.owner != visit.given.owner:
                raise Foreign
            yield transaction, state
            await session.flush()


def _by_name(visit: Visit) -> Any:
    return select(TofuState).where(
        TofuState.tenant_id == visit.tenant_id, TofuState.name == visit.given.workspace, ~TofuState.is_deleted
    )


def _require_lock(state: TofuState, lock_id: str | None) -> None:
    if state.lock is not None and state.lock.get("ID") != lock_id:
        raise Locked(state.lock)
