"""The session of the provider `docker`: one engine's API, and what its refusals mean. The only place with aiodocker."""

from __future__ import annotations

import asyncio
import io
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

import aiodocker
import aiohttp
from aiodocker.exceptions import DockerError, DockerStreamError

from app.providers.base import Context, ErrorKind, ProviderError
from app.providers.docker.labels import SERVICE

_SECONDS = 60.0
_CHUNK = 256 * 1024
_EMPTY = "windlass/empty:1"
_LOST = 900
_BY_WORDS = (
    ("has active endpoints", ErrorKind.DEPENDENCY),
    ("volume is in use", ErrorKind.DEPENDENCY),
    ("is being used", ErrorKind.DEPENDENCY),
    ("is using its referenced image", ErrorKind.DEPENDENCY),
    ("is already in use by container", ErrorKind.ALREADY_EXISTS),
    ("already exists", ErrorKind.ALREADY_EXISTS),
    ("port is already allocated", ErrorKind.CONFLICT),
    ("address already in use", ErrorKind.CONFLICT),
    ("is already in progress", ErrorKind.CONFLICT),
    ("no space left", ErrorKind.QUOTA),
    ("Pool overlaps", ErrorKind.INVALID),
    ("invalid", ErrorKind.INVALID),
)
_BY_STATUS = {
    400: ErrorKind.INVALID,
    401: ErrorKind.ACCESS_DENIED,
    403: ErrorKind.ACCESS_DENIED,
    404: ErrorKind.NOT_FOUND,
    409: ErrorKind.CONFLICT,
    429: ErrorKind.THROTTLED,
    503: ErrorKind.UNAVAILABLE,
}


@asynccontextmanager
async def _speaking(*, writes: bool) -> AsyncIterator[None]:
    """Nothing that was sent and got no answer is taken for undone."""
    try:
        yield
    except DockerStreamError as error:
        raise ProviderError(_kind(0, error.message), error.message[:1000], code="DOCKER_BUILD") from error
    except DockerError as error:
        if error.status == _LOST:
            unsent = isinstance(error.__context__, aiohttp.ClientConnectorError)
            kind = ErrorKind.OUTCOME_UNKNOWN if writes and not unsent else ErrorKind.UNAVAILABLE
            raise ProviderError(kind, error.message, code="DOCKER_AWAY") from error
        raise ProviderError(_kind(error.status, error.message), error.message, code=f"DOCKER_{error.status}") from error
    except (TimeoutError, aiohttp.ClientError) as error:
        kind = ErrorKind.OUTCOME_UNKNOWN if writes else ErrorKind.UNAVAILABLE
        message = f"the container engine does not answer: {type(error).__name__}"
        raise ProviderError(kind, message) from error


def _kind(status: int, message: str) -> ErrorKind:
    by_words = next((kind for words, kind in _BY_WORDS if words in message), None)
    return by_words or _BY_STATUS.get(status, ErrorKind.INTERNAL if status else ErrorKind.INVALID)


class Engine:
    """An engine's API. What is not there is None; what was to be removed and is not there is removed."""

    def __init__(self, host: str, docker: aiodocker.Docker) -> None:
        self.host = host
        self._docker = docker

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str) -> AsyncIterator[Engine]:
        """A session; connections are made when they are needed."""
        timeout = aiohttp.ClientTimeout(total=_SECONDS, connect=5.0)
        docker = aiodocker.Docker(url=host, timeout=timeout)
        try:
            yield cls(host, docker)
        finally:
            await docker.close()

    # ── networks and volumes ─────────────────────────────────────────────────────────────────────────────────────

    async def networks(self, **filters: str) -> list[dict[str, Any]]:
        async with _speaking(writes=False):
            return await self._docker.networks.list(filters={name: [value] for name, value in filters.items()})

    async def network(self, reference: str) -> dict[str, Any] | None:
        """A network by its name or id."""
        async with _absent(), _speaking(writes=False):
            return await (await self._docker.networks.get(reference)).show()
        return None

    async def create_network(self, config: dict[str, Any]) -> str:
        async with _speaking(writes=True):
            return str((await self._docker.networks.create(config)).id)

    async def remove_network(self, reference: str) -> None:
        async with _absent(), _speaking(writes=True):
            await (await self._docker.networks.get(reference)).delete()

    async def volume(self, name: str) -> dict[str, Any] | None:
        async with _absent(), _speaking(writes=False):
            volume = await self._docker.volumes.get(name)  # type: ignore[no-untyped-call]
            found: dict[str, Any] = await volume.show()
            return found
        return None

    async def create_volume(self, config: dict[str, Any]) -> None:
        async with _speaking(writes=True):
            await self._docker.volumes.create(config)  # type: ignore[no-untyped-call]

    async def remove_volume(self, name: str) -> None:
        async with _absent(), _speaking(writes=True):
            await (await self._docker.volumes.get(name)).delete()  # type: ignore[no-untyped-call]

    # ── images ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def image(self, reference: str) -> dict[str, Any] | None:
        async with _absent(), _speaking(writes=False):
            return await self._docker.images.inspect(reference)
        return None

    async def can_be_pulled(self, reference: str) -> bool:
        """Whether a registry tells the engine of the image. Nothing is pulled."""
        try:
            async with _speaking(writes=False):
                # The client has no method for it.
                await self._docker._query_json(f"distribution/{reference}/json")  # noqa: SLF001
        except ProviderError as error:
            if error.kind in (ErrorKind.NOT_FOUND, ErrorKind.ACCESS_DENIED):
                return False
            raise
        return True

    async def build(
        self, context: Context, source: IO[bytes], tag: str, labels: Mapping[str, str], timeout_seconds: float
    ) -> None:
        """Builds an image from a tar with a Dockerfile in it; its output becomes log lines."""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        async with _speaking(writes=True):
            async for part in self._docker.images.build(
                fileobj=source, encoding="identity", tag=tag, labels=labels, stream=True, forcerm=True, timeout=timeout
            ):
                await _say(context, part)

    async def load(self, context: Context, source: IO[bytes], timeout_seconds: float) -> str:
        """Loads what `docker save` has written; the name or id of the last image in it."""
        loaded = ""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        async with _speaking(writes=True):
            async for part in self._docker.images.import_image(source, stream=True, timeout=timeout):
                await _say(context, part)
                head, _, name = str(part.get("stream", "")).strip().partition(": ")
                loaded = name if head in {"Loaded image", "Loaded image ID"} else loaded
        if not loaded:
            message = "the archive holds no image"
            raise ProviderError(ErrorKind.INVALID, message, path=("archive",))
        return loaded

    async def pull(self, context: Context, reference: str) -> None:
        async with _speaking(writes=True):
            async for part in self._docker.images.pull(reference, stream=True):
                await _say(context, part)

    async def remove_image(self, reference: str) -> None:
        async with _absent(), _speaking(writes=True):
            await self._docker.images.delete(reference)

    # ── containers ───────────────────────────────────────────────────────────────────────────────────────────────

    async def replicas(self, service: str) -> list[dict[str, Any]]:
        """All containers of a service, whoever made them, as they are inspected."""
        found = []
        async with _speaking(writes=False):
            for container in await self._docker.containers.list(
                all=True, filters=f'{{"label": ["{SERVICE}={service}"]}}'
            ):
                shown = await self.container(container.id)
                if shown is not None:
                    found.append(shown)
        return found

    async def running(self) -> list[dict[str, Any]]:
        """All containers that run, whoever made them, as they are listed."""
        async with _speaking(writes=False):
            found = await self._docker._query_json("containers/json")  # noqa: SLF001  listed, not asked for each by each
            return list(found)

    async def container(self, reference: str) -> dict[str, Any] | None:
        async with _absent(), _speaking(writes=False):
            return await self._docker.containers.container(reference).show()
        return None

    async def empty_image(self, context: Context) -> str:
        """The id of an image with nothing in it, for containers that are never started."""
        found = await self.image(_EMPTY)
        if found is None:
            dockerfile = b"FROM scratch\nLABEL windlass.empty=yes\n"
            with tempfile.TemporaryFile() as whole:
                with tarfile.open(fileobj=whole, mode="w") as packed:
                    entry = tarfile.TarInfo("Dockerfile")
                    entry.size = len(dockerfile)
                    packed.addfile(entry, io.BytesIO(dockerfile))
                whole.seek(0)
                await self.build(context, whole, _EMPTY, {}, _SECONDS)
            found = await self.image(_EMPTY)
        if found is None:
            message = "the engine does not keep what it builds"
            raise ProviderError(ErrorKind.NOT_STABILIZED, message)
        return str(found["Id"])

    async def download(self, reference: str, place: str, target: Path) -> None:
        """Writes a tar of what is at a place in a container into a file."""
        path = f"containers/{reference}/archive"
        timeout = aiohttp.ClientTimeout(sock_read=_SECONDS)
        # The library's own method reads all of it into memory.
        asking = self._docker._query(path, params={"path": place}, timeout=timeout)  # noqa: SLF001
        with target.open("wb") as file:
            async with _speaking(writes=False), asking as answer:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    await asyncio.to_thread(file.write, chunk)

    async def upload(self, reference: str, place: str, source: IO[bytes]) -> None:
        """Unpacks a tar at a place in a container."""
        path = f"containers/{reference}/archive"
        timeout = aiohttp.ClientTimeout(sock_read=_SECONDS)
        headers = {"content-type": "application/x-tar"}
        async with (
            _speaking(writes=True),
            self._docker._query(  # noqa: SLF001
                path, "PUT", params={"path": place}, data=_Once(source), headers=headers, timeout=timeout
            ),
        ):
            pass

    async def create_container(self, name: str | None, config: dict[str, Any]) -> str:
        async with _speaking(writes=True):
            return (await self._docker.containers.create(config, name=name)).id

    async def start(self, reference: str) -> None:
        async with _speaking(writes=True):
            await self._docker.containers.container(reference).start()

    async def stop(self, reference: str, seconds: int) -> None:
        """Asks it to end, and ends it after so many seconds."""
        async with _absent(), _speaking(writes=True):
            await self._docker.containers.container(reference).stop(t=seconds)

    async def remove_container(self, reference: str) -> None:
        async with _absent(), _speaking(writes=True):
            await self._docker.containers.container(reference).delete(force=True, v=True)

    async def last_lines(self, reference: str, count: int) -> Sequence[str]:
        """What it said last."""
        async with _absent(), _speaking(writes=False):
            lines = await self._docker.containers.container(reference).log(stdout=True, stderr=True, tail=count)
            return [str(line).rstrip() for line in lines]
        return []

    async def run(self, reference: str, argv: Sequence[str]) -> int:
        """Runs a program in a container; its exit code."""
        async with _speaking(writes=False):
            execution = await self._docker.containers.container(reference).exec(list(argv))
            async with execution.start(detach=False) as stream:
                while await stream.read_out() is not None:
                    pass
            code = (await execution.inspect())["ExitCode"]
        return -1 if code is None else int(code)


class _absent:  # noqa: N801  reads as what it does
    """What is not there is not there."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, ProviderError) and error.kind is ErrorKind.NOT_FOUND


async def _say(context: Context, part: Mapping[str, Any]) -> None:
    told = str(part.get("stream") or "").strip()
    # A download tells of every layer again and again.
    if not told and "status" in part and "progress" not in part:
        told = " ".join(filter(None, (str(part.get("id") or ""), str(part["status"]))))
    if told:
        context.log(told, stream="docker")
        await context.drain()


class _Once:
    """The pieces of a file, one time: aiohttp repeats a PUT whose answer is lost, and would find nothing to send."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._begun = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._begun:
            message = "the connection was lost while a file was sent"
            raise aiohttp.ClientPayloadError(message)
        self._begun = True
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while piece := await asyncio.to_thread(self._source.read, _CHUNK):
            yield piece
