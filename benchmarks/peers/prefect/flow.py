"""Prefect: one async flow of five async tasks, its server in a process of its own. Prints flow runs per second.

An empty URL means that the server keeps its own SQLite file. Eight flows at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

STEPS = 5
AT_A_TIME = 8

home = tempfile.mkdtemp(prefix="prefect-")
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
os.environ |= {
    "PREFECT_HOME": home,
    "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
if sys.argv[1]:
    os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = sys.argv[1].replace("postgresql:", "postgresql+asyncpg:", 1)

from prefect import flow, task  # noqa: E402  it reads its settings when it is imported


@task
async def step(number: int) -> int:
    return number


@flow
async def chain() -> None:
    for number in range(STEPS):
        await step(number)


async def rate(jobs: int, at_a_time: int) -> float:
    left = iter(range(jobs))

    async def client() -> None:
        for _ in left:
            await chain()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_a_time)))
    return jobs / (time.perf_counter() - began)


def wait(server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2).read()
            return
        assert server.poll() is None, "the server ended"
        time.sleep(0.1)


async def main(jobs: int, warm_up: int) -> None:
    await rate(warm_up, AT_A_TIME)
    print(json.dumps({"eight": await rate(jobs, AT_A_TIME)}))


server = subprocess.Popen(
    [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)  # fmt: skip
try:
    wait(server)
    asyncio.run(main(int(sys.argv[2]), int(sys.argv[3])))
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
finally:
    server.terminate()
    server.wait(30)
    shutil.rmtree(home, ignore_errors=True)
# In order, it would wait two minutes for a server that is gone to take its last events.
sys.stdout.flush()
os._exit(0)
