"""Dagster: one job of five async ops, each needing the one before, executed in process. Prints jobs per second.

Runs and events are stored in PostgreSQL. One after the other: in threads of one process it comes to a standstill, two
threads each waiting for the other's lock of Python's logging.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

STEPS = 5

home = tempfile.mkdtemp(prefix="dagster-")
os.environ |= {"DAGSTER_HOME": home, "DAGSTER_DISABLE_TELEMETRY": "1"}
Path(home, "dagster.yaml").write_text(
    f"telemetry: {{enabled: false}}\nstorage: {{postgres: {{postgres_url: '{sys.argv[1]}'}}}}\n"
)

from dagster import DagsterInstance, In, Nothing, Out, job, op  # noqa: E402  it reads its home when it is imported


def make(number: int):
    needs = {"before": In(Nothing)} if number else {}

    @op(name=f"s{number + 1}", ins=needs, out=Out(Nothing))
    async def nothing() -> None:
        pass

    return nothing


ops = [make(number) for number in range(STEPS)]


@job
def flow() -> None:
    last = ops[0]()
    for following in ops[1:]:
        last = following(last)


def main(jobs: int, warm_up: int) -> None:
    instance = DagsterInstance.get()

    def run(_: int) -> None:
        assert flow.execute_in_process(instance=instance).success

    for number in range(warm_up):
        run(number)
    began = time.perf_counter()
    for number in range(jobs):
        run(number)
    print(json.dumps({"one": jobs / (time.perf_counter() - began)}))


main(int(sys.argv[2]), int(sys.argv[3]))
