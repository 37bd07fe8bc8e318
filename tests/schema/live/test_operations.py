"""The operations of one connection beside each other."""

from __future__ import annotations

from schema.http import MAX_OPERATIONS_PER_SOCKET
from tests.schema.live.conftest import JOB, Live, job_id
from tests.schema.live.test_protocol import dial, introduce, receive, send, subscribe


async def test_one_operation_too_many_is_told_so_and_harms_no_other(live: Live) -> None:
    job = await live.job()
    async with dial(live) as socket:
        await introduce(socket, live)
        for number in range(MAX_OPERATIONS_PER_SOCKET):
            await subscribe(socket, JOB, {"id": job_id(job)}, str(number))
            assert (await receive(socket))["type"] == "next"
        await subscribe(socket, JOB, {"id": job_id(job)}, "more")
        refused = await receive(socket)
        assert (refused["type"], refused["id"]) == ("error", "more")
        assert refused["payload"][0]["extensions"] == {"code": "LIMIT_EXCEEDED"}
        await send(socket, type="complete", id="0")
        await subscribe(socket, JOB, {"id": job_id(job)}, "more")
        assert (await receive(socket))["type"] == "next"
