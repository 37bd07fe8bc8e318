"""Live bells between processes. A ring says "look again" and carries no fact: the facts are in the journal.

Everything works with Redis away, only slower, because whoever waits for a bell also looks by itself now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app import clock
from app.bus.bells import Bell, Bells
from app.db.uow import Rings
from app.domain.events import Stream

_SOCKET_TIMEOUT = 1.0
_PENDING_LIMIT = 10_000
_STOP_SECONDS = 2.0
_KEYS_PER_MESSAGE = 500
_RECONNECT_SECONDS = (0.1, 0.2, 0.5, 1.0)
# A connection that is silent for one interval is asked for a sign of life, and given up after two.
_SILENCE_SECONDS = 5.0
_DUE = "due"

_logger = structlog.get_logger(__name__)


class Bus:
    """Rings and hears rings over one Redis. `namespace` keeps installations on one server apart.

    Two connections at most: one that publishes, and one that listens once somebody watches.
    """

    def __init__(self, redis_url: str, namespace: str = "windlass") -> None:
        self._url = redis_url
        self._channel = f"{namespace}:rings"
        self._bells = Bells()
        # Keys in order of arrival; a dict, because ringing twice before anybody heard is ringing once.
        self._pending: dict[str, None] = {}
        self._wanted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = False
        self._published = True

    @property
    def healthy(self) -> bool:
        """Whether rings travel, as far as this process can tell. While it is False, look more often."""
        return self._published and (self._listening or len(self._tasks) < 2)

    async def start(self) -> None:
        """Begin to publish. Returns at once, also with Redis away."""
        self._loop = asyncio.get_running_loop()
        if not self._tasks:
            self._tasks.append(self._loop.create_task(self._keep_publishing()))

    async def stop(self) -> None:
        """Close both connections; what was not published yet is forgotten."""
        tasks, self._tasks = set(self._tasks), []
        self._loop = None
        until = clock.monotonic() + _STOP_SECONDS
        # A cancellation that meets the client in the middle of a command may get lost there.
        while tasks and clock.monotonic() < until:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=_STOP_SECONDS / 10)

    def ring(self, rings: Rings) -> None:
        """Tell every process, this one included. Never blocks, never raises; may be called from any thread."""
        keys = [_key(tenant_id, stream, number) for tenant_id, stream, number in rings.streams]
        keys += [_tenant_key(tenant_id) for tenant_id in {tenant_id for tenant_id, _, _ in rings.streams}]
        if rings.due or rings.freed:
            keys.append(_DUE)
        loop = self._loop
        if loop is None or not keys:
            return
        # A loop that was closed meanwhile has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            if loop is _running_loop():
                self._accept(keys)
            else:
                loop.call_soon_threadsafe(self._accept, keys)

    def watch(self, tenant_id: int, stream: Stream, stream_id: int) -> Bell:
        """A bell that rings when something may have been written to the stream."""
        return self._bell(_key(tenant_id, stream, stream_id))

    def watch_tenant(self, tenant_id: int) -> Bell:
        """A bell that rings when something may have been written to any stream of the tenant."""
        return self._bell(_tenant_key(tenant_id))

    def due_bell(self) -> Bell:
        """A bell that rings when some step became due, or some job may start."""
        return self._bell(_DUE)

    def _bell(self, key: str) -> Bell:
        if self._loop is not None and len(self._tasks) == 1:
            self._tasks.append(self._loop.create_task(self._keep_listening()))
        return Bell(self._bells, key)

    def _accept(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._bells.ring(keys)
        if len(self._pending) < _PENDING_LIMIT:
            self._pending.update(dict.fromkeys(keys))
            self._wanted.set()

    async def _keep_publishing(self) -> None:
        redis = self._connect()
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                keys, self._pending = list(self._pending), {}
                try:
                    for start in range(0, len(keys), _KEYS_PER_MESSAGE):
                        await redis.publish(self._channel, "\n".join(keys[start : start + _KEYS_PER_MESSAGE]))
                except Exception as error:  # whatever it is, the next ring deserves its own try
                    self._note(published=False, error=error)
                    await asyncio.sleep(_RECONNECT_SECONDS[-1])
                else:
                    self._note(published=True)
        finally:
            await redis.aclose()

    async def _keep_listening(self) -> None:
        failures = 0
        while True:
            try:
                async with self._connect() as redis, redis.pubsub() as subscription:
                    await subscription.subscribe(self._channel)
                    failures = 0
                    await self._listen(subscription)
            except Exception as error:  # whatever it is, the bells must ring again
                if self._listening or failures == 0:
                    _logger.warning("live bells are silent; streams look by themselves", error=str(error))
                self._listening = False
                await asyncio.sleep(_RECONNECT_SECONDS[min(failures, len(_RECONNECT_SECONDS) - 1)])
                failures += 1
            finally:
                self._listening = False

    async def _listen(self, subscription: PubSub) -> None:
        heard = clock.monotonic()
        while True:
            message = await subscription.get_message(timeout=_SILENCE_SECONDS)
            now = clock.monotonic()
            if message is None:
                if now - heard > 2 * _SILENCE_SECONDS:
                    silence = "the server gave no sign of life"
                    raise TimeoutError(silence)
                await subscription.ping()
                continue
            heard = now
            if message["type"] == "subscribe":
                # Rings from before this moment were not heard.
                self._listening = True
                self._published = True
                self._bells.ring_all()
            elif message["type"] == "message":
                self._bells.ring(message["data"].decode(errors="replace").split("\n"))

    def _note(self, *, published: bool, error: Exception | None = None) -> None:
        if self._published and not published:
            _logger.warning("rings cannot be published; others look by themselves", error=str(error))
        self._published = published

    def _connect(self) -> Redis:
        return Redis.from_url(
            self._url,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            # A hint that waits for its retry is late; the next look is sooner.
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
        )


def _key(tenant_id: int, stream: Stream, stream_id: int) -> str:
    return f"{tenant_id}:{stream.value}:{stream_id}"


def _tenant_key(tenant_id: int) -> str:
    return f"{tenant_id}"


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
