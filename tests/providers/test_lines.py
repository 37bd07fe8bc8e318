"""What programs say becomes lines of logs, without where on this machine they were at work."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from app.domain.enums import LogLevel
from app.providers.conformance import OWNER, StandaloneContext
from app.providers.postgres.archives import _relay
from app.providers.tofu.runs import Run


@dataclass
class Said:
    """A process, as much of it as is listened to."""

    stderr: asyncio.StreamReader


@pytest.fixture
def context(tmp_path: Path) -> StandaloneContext:
    return StandaloneContext("one", OWNER, None, tmp_path)


async def test_a_tool_of_postgresql_does_not_say_where_the_file_is(context: StandaloneContext) -> None:
    file = context.workspace / "backups" / "shop.dump"
    said, tail = Said(asyncio.StreamReader()), deque[str]()
    said.stderr.feed_data(f'pg_dump: error: could not open output file "{file}": No space left on device\n'.encode())
    said.stderr.feed_eof()
    await _relay(context, cast("Any", said), "pg_dump", tail, file)
    line = 'pg_dump: error: could not open output file "shop.dump": No space left on device'
    assert context.lines == [(LogLevel.ERROR, line)]
    assert list(tail) == [line]


async def test_a_run_of_opentofu_does_not_say_where_its_folder_is(context: StandaloneContext, tmp_path: Path) -> None:
    run = Run(context, "tofu", tmp_path / "run", {}, ("hunter2",), None)
    await run._hear("stderr", f"cannot write {run.folder}/main.tf: hunter2")
    await run._hear("stdout", json.dumps({"@message": f"initialised {run.folder}", "@level": "info", "type": "log"}))
    lines = [line for _, line in context.lines]
    assert lines[0].startswith("cannot write ./main.tf: ")
    assert lines[1:] == ["initialised ."]
    assert not any("hunter2" in line for line in lines)
