"""Where a figure was taken, and the servers that it was taken on."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from app.db.migrating import migrate
from app.db.models import TenantLimit
from app.db.uow import Database
from app.embedded.postgres import EmbeddedPostgres
from app.embedded.valkey import EmbeddedValkey
from app.services.seeding import create_tenant


def describe() -> str:
    """One line about the machine and the software."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("sqlalchemy", "asyncpg", "dramatiq", "redis"))
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()},"
        f" PostgreSQL 18 (fsync on), Valkey 9, {packages}; load {os.getloadavg()[0]:.1f}"
    )


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Servers, a tenant, and what a process of ours needs in its environment."""

    folder: Path
    database_url: str
    redis_url: str
    secret_key: str
    tenant_id: int
    token: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "WINDLASS_DATABASE_URL": self.database_url,
            "WINDLASS_REDIS_URL": self.redis_url,
            "WINDLASS_SECRET_KEY": self.secret_key,
            "WINDLASS_DATA_DIR": str(self.folder),
            "WINDLASS_LOG_LEVEL": "warning",
            # Counted, and never refused.
            "WINDLASS_RATE_POINTS_PER_SECOND": "1000000000",
            "WINDLASS_RATE_BURST_POINTS": "1000000000000",
            "WINDLASS_LEASE_SECONDS": "60",
        }

    @contextlib.contextmanager
    def processes(self, *commands: Sequence[str], **more: str):
        """`windlass COMMAND` for each of `commands`, until the block ends."""
        running = [
            subprocess.Popen([sys.executable, "-m", "app.cli", *command], env={**self.environment, **more})
            for command in commands
        ]
        try:
            yield running
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(60)


@contextlib.asynccontextmanager
async def surroundings() -> AsyncIterator[Surroundings]:
    """Fresh servers in a temporary folder, durable as in production."""
    folder = Path(tempfile.mkdtemp(prefix="windlass-bench-"))
    folder.chmod(0o755)
    postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
    try:
        database_url = await asyncio.to_thread(postgres.start)
        redis_url = await asyncio.to_thread(valkey.start)
        await asyncio.to_thread(migrate, database_url)
        database = Database.connect(database_url, name="benchmark", pool_size=2)
        tenant_id, token = await create_tenant(database, "Bench", "bench", "bench@bench.example")
        async with database.write(tenant_id, actor="benchmark", correlation_id="benchmark") as transaction:
            transaction.authorize("benchmark")
            # What a tenant may have under way is not what is measured.
            transaction.session.add(TenantLimit(tenant_id=tenant_id, max_running_jobs=10_000, max_queued_jobs=100_000))
        await database.close()
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        yield Surroundings(folder, database_url, redis_url, key, tenant_id, token)
    finally:
        valkey.stop()
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
