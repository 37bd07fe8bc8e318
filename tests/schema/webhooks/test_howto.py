"""The how-to does what it says."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from app.embedded.processes import free_port
from schema.selections import faults_of
from tests.schema.webhooks.conftest import Desk
from tests.schema.webhooks.receiver import Receiver

TEXT = (Path(__file__).parents[3] / "docs" / "howto" / "webhooks.md").read_text()


async def test_the_receiver_of_the_howto_believes_what_it_is_sent(desk: Desk, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    port = free_port(None)
    program = tmp_path / "receiver.py"
    program.write_text(found[1].replace("9000", str(port)))
    hook = await desk.create(receiver=Receiver(port))
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-u", program, env={**os.environ, "WEBHOOK_SECRET": hook.secret},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert running.stdout is not None
    try:
        await desk.happen(await desk.job(), 2)
        deliverer = desk.deliverer()
        async with asyncio.timeout(30):
            while (await desk.look(hook))["deliveredAt"] is None or (await desk.look(hook))["status"] != "ACTIVE":
                await desk.due_now()
                await deliverer.deliver_next()
        await desk.settle(deliverer)
        heard = [(await asyncio.wait_for(running.stdout.readline(), 10)).decode() for _ in range(2)]
        assert all(line.startswith("job.status_changed {") for line in heard)
        assert (await desk.look(hook))["deliveries"][-1]["statusCode"] == 204
    finally:
        running.kill()
        await running.wait()


def test_the_selection_of_the_howto_is_one() -> None:
    found = re.search(r'selection: "(.*)"', TEXT)
    assert found is not None
    assert faults_of(found[1]) == []
