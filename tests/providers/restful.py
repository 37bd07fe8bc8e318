"""A real server with a REST interface that has bad days: it throttles, takes its time, and loses answers."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PATHS = ("/records", "/records/{id}", "/operations/{id}")


@dataclass
class Restful:
    """Records by their ids; names are unique. `accidents` befall the requests that write, in order; None spares one.

    THROTTLE, BUSY (503) and BROKEN (500) do nothing. LOSE does it and cuts the connection. HANG does it and never
    answers. LATER answers 202, and does it when it was asked about twice.
    """

    port: int = 0
    accidents: deque[str | None] = field(default_factory=deque)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answered: dict[str, tuple[int, Any]] = field(default_factory=dict)
    operations: dict[str, list[Any]] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def writes(self) -> list[str]:
        return [f"{method} {path}" for method, path, _, _ in self.seen if method != "GET"]

    async def answer(self, request: Request) -> Response:
        body = await request.body()
        self.seen.append((request.method, request.scope["raw_path"].decode(), dict(request.headers), body))
        if request.method == "GET":
            return self._told(*self._read(request))
        accident = self.accidents.popleft() if self.accidents else None
        if accident == "THROTTLE":
            return JSONResponse({"error": "slow down"}, 429, {"retry-after": "7"})
        if accident == "BUSY":
            return JSONResponse({}, 503)
        if accident == "BROKEN":
            return JSONResponse({"error": "oh"}, 500)
        if accident == "ELSEWHERE":
            return JSONResponse({}, 202, {"location": "https://evil.example/operations/1"})
        document = json.loads(body) if body else None
        if accident == "ECHO":
            return JSONResponse({"error": f"no: {json.loads(body)['password']}"}, 400)
        if accident in ("LATER", "NEVER"):
            name = str(next(self.numbers))
            self.operations[name] = [2, request, document, accident]
            return JSONResponse({}, 202, {"location": f"/operations/{name}", "retry-after": "0"})
        status, content = self._once(request, document)
        if accident == "HANG":
            await asyncio.sleep(30)
        if accident == "LOSE":
            return StreamingResponse(_cut(), status, {"content-length": "1000"})
        return self._told(status, content)

    def _told(self, status: int, content: Any) -> Response:
        return Response(status_code=status) if content is None else JSONResponse(content, status)

    def _once(self, request: Request, document: Any) -> tuple[int, Any]:
        key = f"{request.method} {request.url.path} {request.headers.get('idempotency-key')}"
        if key in self.answered:
            return self.answered[key]
        result = self._write(request, document)
        if request.method == "POST":
            self.answered[key] = result
        return result

    def _write(self, request: Request, document: Any) -> tuple[int, Any]:
        name = request.path_params.get("id")
        if request.method == "POST" and name is None:
            if document.get("size", 0) > 100:
                return 422, {"error": "too large"}
            if any(record["name"] == document["name"] for record in self.records.values()):
                return 409, {"error": "there is one of that name"}
            made = {**{key: value for key, value in document.items() if key != "password"},
                    "id": next(self.numbers), "address": "10.1.2.3"}  # fmt: skip
            self.records[str(made["id"])] = made
            return 201, made
        if name not in self.records:
            return 404, {"error": "no such record"}
        if request.method == "DELETE":
            del self.records[name]
            return 204, None
        kept = {key: self.records[name][key] for key in ("id", "address")}
        self.records[name] = {**{key: value for key, value in document.items() if key != "password"}, **kept}
        return 200, self.records[name]

    def _read(self, request: Request) -> tuple[int, Any]:
        if request.url.path.startswith("/operations/"):
            return self._progress(request.path_params["id"])
        if name := request.query_params.get("name"):
            return 200, {"items": [record for record in self.records.values() if record["name"] == name]}
        found = self.records.get(request.path_params.get("id", ""))
        return (404, {"error": "no such record"}) if found is None else (200, found)

    def _progress(self, name: str) -> tuple[int, Any]:
        operation = self.operations[name]
        left, request, document, accident = operation
        if left > 0:
            operation[0] -= 1
            return 200, {"state": "running"}
        if accident == "NEVER":
            return 200, {"state": "failed", "reason": "no room"}
        if left == 0:
            operation[0] = -1
            self._once(request, document)
        made = next((record for record in self.records.values() if document and record["name"] == document["name"]), {})
        return 200, {"state": "done", "record": made.get("id")}


async def _cut() -> AsyncIterator[bytes]:
    yield b"{"
    message = "planned: the connection is cut"
    raise ConnectionAbortedError(message)


@asynccontextmanager
async def serving() -> AsyncIterator[Restful]:
    """The server, on loopback, while the block runs."""
    restful = Restful()
    methods = ["GET", "POST", "PUT", "DELETE"]
    routes = [Route(path, restful.answer, methods=methods) for path in PATHS]
    listening = socket.create_server(("127.0.0.1", 0))
    restful.port = listening.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), log_level="critical", lifespan="off", timeout_graceful_shutdown=0)
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started:  # noqa: ASYNC110  nobody would tell
        await asyncio.sleep(0.005)
    try:
        yield restful
    finally:
        server.should_exit = True
        await serving
