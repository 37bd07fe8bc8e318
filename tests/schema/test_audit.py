"""The audits of GraphQL over HTTP, run by their own authors' code against a real server."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator

import pytest
import uvicorn

from tests.schema import node
from tests.schema.conftest import Api

AUDITS = 61

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def packages() -> None:
    try:
        node.install()
    except node.NoPackages as error:
        pytest.skip(f"no packages from the npm registry: {error}")


@pytest.fixture
async def address(api: Api) -> AsyncIterator[str]:
    """The application behind a real server, on a free port and in this loop, where its connections live."""
    config = uvicorn.Config(api.app, host="127.0.0.1", port=0, lifespan="off", log_level="warning", ws="none")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  uvicorn has a flag and no event
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/graphql"
    server.should_exit = True
    await serving


@pytest.mark.usefixtures("packages")
async def test_all_audits_pass(api: Api, address: str) -> None:
    environment = {**os.environ, "URL": address, "TOKEN": api.acme.token}
    output = await asyncio.to_thread(node.run, "audit.mjs", environment)
    results = [json.loads(line) for line in output.splitlines()]
    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) == AUDITS
