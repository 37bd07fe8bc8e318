"""Documents that are asked for by their id, over a WebSocket."""

from __future__ import annotations

import orjson

from schema.documents import id_of
from tests.schema.live.conftest import Live
from tests.schema.live.test_protocol import dial, introduce, receive
from tests.schema.test_documents import WHO, only


async def test_a_websocket_takes_ids_as_well(live: Live) -> None:
    only(live.api, required=True)
    async with dial(live) as socket:
        await introduce(socket, live)
        for name, payload in (("1", {"documentId": id_of(WHO)}), ("2", {"query": WHO}), ("3", {"documentId": "x"})):
            await socket.send(orjson.dumps({"id": name, "type": "subscribe", "payload": payload}).decode())
            answer = await receive(socket)
            if name == "1":
                assert answer["payload"]["data"]["viewer"]
                assert (await receive(socket))["type"] == "complete"
            else:
                code = "DOCUMENT_REQUIRED" if name == "2" else "DOCUMENT_UNKNOWN"
                assert (answer["type"], answer["payload"][0]["extensions"]["code"]) == ("error", code)
