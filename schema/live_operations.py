"""One operation of a live connection: by itself with a task, or a member of a group and little more than its place."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import orjson
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import Operation
from strawberry.types import ExecutionResult

from app.auth.principal import Principal
from app.web.sockets import Push
from schema.context import Services
from schema.followers import Follower
from schema.openings import Entry

if TYPE_CHECKING:
    from schema.live_protocol import LiveTransportHandler


class LiveOperation(Operation[Services, None]):
    """Has a task only while it comes up to its group, or the client does not read."""

    __slots__ = ("_counted", "entry", "follower")

    handler: LiveTransportHandler

    def __init__(
        self,
        handler: LiveTransportHandler,
        id: str,  # the protocol's word
        query: str,
        variables: dict[str, object] | None,
        operation_name: str | None,
        push: Push | None,
    ) -> None:
        super().__init__(handler, id, query, variables, operation_name)
        self.entry: Entry | None = None
        self.follower = Follower(b'{"id":' + orjson.dumps(id), push, handler.send_frame, self._wake)
        self._counted: Principal | None = None

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` in a task, which is forgotten when it is over."""
        task = self.task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._over)

    def count(self, principal: Principal) -> None:
        """Be one of the principal's operations until `leave`. Raises LimitExceeded."""
        if self._counted is None:
            self.handler.context.occupancy.take(principal)
            self._counted = principal

    def leave_group(self) -> None:
        """Go on alone, or not at all."""
        self.handler.context.groups.leave(self.follower)

    def leave(self) -> None:
        """Take up no room any more."""
        self.leave_group()
        if self._counted is not None:
            self.handler.context.occupancy.give_back(self._counted)
            self._counted = None

    def end(self) -> None:
        """The client has had enough, or is gone."""
        if self.task is not None:
            self.task.cancel()
        self.leave()

    def _wake(self) -> None:
        self.run(self.handler.go_on(self))

    def _over(self, task: asyncio.Task[None]) -> None:
        if self.task is task:
            self.task = None
        if not task.cancelled():
            # What went wrong was told where it went wrong.
            task.exception()


def rest_of(result: ExecutionResult) -> bytes:
    """The message of a result without errors, all but its beginning `{"id":…`."""
    return b',"type":"next","payload":' + orjson.dumps({"data": result.data}) + b"}"
