"""What live streams are held against: `uvicorn benchmarks.live_peers:stock` and `…:raw`.

POST /event with {"lines": [...]} tells every subscriber. `stock` is Strawberry as it comes: a generator, an execution
and an encoding for each subscriber. `raw` sends the same bytes to every socket and does nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import orjson
import strawberry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL

_waiting: set[asyncio.Queue[Any]] = set()
_sockets: set[WebSocket] = set()


@strawberry.type
class Line:
    seq: str
    message: str


@strawberry.type
class Frame:
    kind: str
    lines: list[Line]


@strawberry.type
class Query:
    nothing: str = ""


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def job_logs(self, id: strawberry.ID) -> AsyncGenerator[Frame, None]:  # noqa: A002, ARG002
        queue: asyncio.Queue[Any] = asyncio.Queue()
        _waiting.add(queue)
        try:
            yield Frame(kind="SNAPSHOT", lines=[])
            while True:
                lines = await queue.get()
                yield Frame(kind="EVENTS", lines=[Line(seq=line["seq"], message=line["message"]) for line in lines])
        finally:
            _waiting.discard(queue)


async def _tell_stock(request: Request) -> Response:
    lines = orjson.loads(await request.body())["lines"]
    for queue in _waiting:
        queue.put_nowait(lines)
    return Response()


async def _tell_raw(request: Request) -> Response:
    lines = orjson.loads(await request.body())["lines"]
    payload = {"data": {"jobLogs": {"kind": "EVENTS", "lines": lines}}}
    text = orjson.dumps({"id": "1", "type": "next", "payload": payload}).decode()
    for socket in list(_sockets):
        await socket.send_text(text)
    return Response()


async def _accept(socket: WebSocket) -> None:
    await socket.accept("graphql-transport-ws")
    await socket.receive_text()
    await socket.send_text('{"type":"connection_ack"}')
    await socket.receive_text()
    await socket.send_text('{"id":"1","type":"next","payload":{"data":{"jobLogs":{"kind":"SNAPSHOT","lines":[]}}}}')
    _sockets.add(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        _sockets.discard(socket)


_graphql: Any = GraphQL(
    strawberry.Schema(query=Query, subscription=Subscription), subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL]
)
stock = Starlette(routes=[Route("/event", _tell_stock, methods=["POST"]), WebSocketRoute("/graphql", _graphql)])
raw = Starlette(routes=[Route("/event", _tell_raw, methods=["POST"]), WebSocketRoute("/graphql", _accept)])
