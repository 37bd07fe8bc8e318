"""The audit log at the command line: fetched as a file, and its chain of hashes verified."""

from __future__ import annotations

import tempfile
from pathlib import Path

from app.characters import spelled
from app.cli.client import Client, CommandFailed
from app.cli.commands import Command
from app.domain.audit import Verified, verify

_PATH = "/audit.ndjson"


def exporting(path: Path) -> Command:
    """The command that writes the sealed log into `path`."""

    async def command(client: Client) -> int:
        try:
            await client.save(_PATH, path)
        except OSError as error:
            message = f"{path}: {error.strerror}"
            raise CommandFailed(message) from error
        return _told(_verified(path, None))

    return command


def verifying(head: str | None) -> Command:
    """The command that fetches the log and follows its chain."""

    async def command(client: Client) -> int:
        noted = parse_head(head)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "audit.ndjson"
            await client.save(_PATH, path)
            return _told(_verified(path, noted))

    return command


def verify_file(path: Path, head: str | None) -> int:
    """Follow the chain of an exported file. Raises CommandFailed when it cannot be read."""
    noted = parse_head(head)
    try:
        return _told(_verified(path, noted))
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise CommandFailed(message) from error


def parse_head(text: str | None) -> tuple[int, str] | None:
    """A place and hash as they are printed, "1234:5f…". Raises CommandFailed."""
    if text is None:
        return None
    seq, _, hashed = text.partition(":")
    if not seq.isdecimal() or len(hashed) != 64:
        message = "--head is as it was printed: the number of an entry, a colon, and its hash"
        raise CommandFailed(message)
    return int(seq), hashed.lower()


def _verified(path: Path, head: tuple[int, str] | None) -> Verified:
    with path.open("rb") as file:
        return verify(file, head)


def _told(found: Verified) -> int:
    if found.fault is not None:
        print(spelled(f"broken at entry {found.fault.seq}: {found.fault.message}"))  # noqa: T201  what was asked for
        print(f"{found.entries} entries before it are as they were sealed")  # noqa: T201
        return 1
    print(f"{found.entries} entries are as they were sealed; head {found.seq}:{found.hash}")  # noqa: T201
    return 0
