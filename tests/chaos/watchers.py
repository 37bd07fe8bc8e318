"""Whoever watches while everything falls over: clients that others wrote, each following one stream to its end."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gql import Client, GraphQLRequest
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from gql.transport.websockets_protocol import WebsocketsProtocolTransportBase
from websockets.exceptions import WebSocketException

from tests.schema import node

_AGAIN_SECONDS = 0.2
_PER_PROCESS = 8
_LAST_WORDS_SECONDS = 5.0
_UNFINISHED = "never came to the end of its stream"
LOGS = """subscription($id: ID!, $after: Cursor) { jobLogs(id: $id, after: $after) {
  kind cursor lines { seq level stepKey message } } }"""
NEEDLES = """subscription($id: ID!, $after: Cursor) { jobLogs(id: $id, after: $after, filter: {contains: "7"}) {
  kind cursor lines { seq level stepKey message } } }"""
EVENTS = """subscription($id: ID!, $after: Cursor) { jobUpdated(id: $id, after: $after) {
  kind cursor events { seq correlationId } } }"""
LINE_FIELDS = ("seq", "level", "stepKey", "message")
EVENT_FIELDS = ("seq", "correlationId")


@dataclass(frozen=True, slots=True)
class Watch:
    """One client: whose stream it follows, by which document, and whether it stops reading now and then."""

    name: str
    job_id: int
    id: str
    query: str
    after: str | None
    pauses: bool

    @property
    def items(self) -> str:
        return "events" if self.query == EVENTS else "lines"

    @property
    def fields(self) -> tuple[str, ...]:
        return EVENT_FIELDS if self.query == EVENTS else LINE_FIELDS

    def spec(self) -> dict[str, Any]:
        return {
            "name": self.name, "id": self.id, "query": self.query, "after": self.after, "items": self.items,
            "fields": self.fields, "pauses": self.pauses,
        }  # fmt: skip


@dataclass(slots=True)
class Told:
    """What one client was told, from the first frame to the end."""

    name: str
    digest: str = ""
    seqs: list[int] = field(default_factory=list)
    connections: int = 0
    resyncs: int = 0
    closes: Counter[str] = field(default_factory=Counter)
    failure: str | None = None


def digest_of(items: Sequence[dict[str, Any]], fields: Sequence[str]) -> str:
    """Of what a client must have been told."""
    digest = hashlib.sha256()
    _add(digest, items, fields)
    return digest.hexdigest()


def _add(digest: Any, items: Sequence[dict[str, Any]], fields: Sequence[str]) -> None:
    for item in items:
        digest.update(("\t".join("-" if item[name] is None else str(item[name]) for name in fields) + "\n").encode())


class Watchers:
    """All clients of one round. `tokens` is the file that holds a token which is still good."""

    def __init__(self, urls: Sequence[str], tokens: Path) -> None:
        self._urls = urls
        self._tokens = tokens
        self.told: dict[str, Told] = {}

    async def follow(self, watches: Sequence[Watch], deadline: float) -> None:
        """Until every client has come to the end of its stream, or `deadline` seconds have passed."""
        foreign = [watch for watch in watches if not watch.name.startswith("gql")]
        groups = [foreign[start : start + _PER_PROCESS] for start in range(0, len(foreign), _PER_PROCESS)]
        work = [self._flock(group, deadline) for group in groups]
        work += [self._one(watch) for watch in watches if watch.name.startswith("gql")]
        tasks = [asyncio.create_task(one) for one in work]
        _, late = await asyncio.wait(tasks, timeout=deadline + _LAST_WORDS_SECONDS)
        for task in late:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        for watch in watches:
            told = self.told.setdefault(watch.name, Told(watch.name))
            if not told.digest and told.failure is None:
                told.failure = _UNFINISHED

    async def _flock(self, watches: Sequence[Watch], deadline: float) -> None:
        process = await asyncio.create_subprocess_exec(
            node.NODE, "flock.mjs", cwd=node.FOLDER,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        spec = {
            "urls": self._urls, "tokenFile": str(self._tokens), "clients": [watch.spec() for watch in watches],
        }  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(spec).encode())
            process.stdin.close()
            ending = asyncio.get_running_loop().call_later(deadline, process.terminate)
            async for line in process.stdout:
                told = json.loads(line)
                self.told[told["name"]] = Told(**{**told, "closes": Counter(told["closes"])})
            ending.cancel()
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _one(self, watch: Watch) -> None:
        """A client of the Python library `gql`, which knows nothing of coming back: that is done here."""
        told, digest, after = Told(watch.name), hashlib.sha256(), watch.after
        self.told[watch.name] = told
        number = int(watch.name.rpartition("-")[2])
        while told.failure is None:
            url = self._urls[(number + told.connections) % len(self._urls)]
            transport = WebsocketsTransport(
                url=url,
                init_payload={"authorization": f"Bearer {self._tokens.read_text()}"},
                subprotocols=[WebsocketsProtocolTransportBase.GRAPHQLWS_SUBPROTOCOL],
            )
            request = GraphQLRequest(watch.query, variable_values={"id": watch.id, "after": after})
            try:
                async with Client(transport=transport) as session, aclosing(session.subscribe(request)) as results:
                    told.connections += 1
                    async for result in results:
                        frame = next(iter(result.values()))
                        after = frame["cursor"]
                        told.resyncs += frame["kind"] == "RESYNC"
                        told.seqs += [int(item["seq"]) for item in frame[watch.items]]
                        _add(digest, frame[watch.items], watch.fields)
                        if frame["kind"] == "END":
                            told.digest = digest.hexdigest()
                            return
            except TransportQueryError as error:
                told.failure = str(error)
            except (TransportError, WebSocketException, OSError, TimeoutError):
                pass
            await asyncio.sleep(_AGAIN_SECONDS)
