"""A container engine of the tests' own, where the machine can run one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")


def missing() -> str | None:
    """Why no engine can be started here; None when one can."""
    if shutil.which("dockerd") is None:
        return "there is no dockerd on the PATH"
    if os.getuid() != 0:
        return "dockerd needs root"
    if busybox() is None:
        return "there is no static busybox to make images of"
    return None


def busybox() -> Path | None:
    """A program that needs no libraries."""
    for name in _BUSYBOX:
        path = Path(name)
        if path.is_file() and b"/ld-linux" not in path.read_bytes()[:4096]:
            return path
    return None


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """The address of a dockerd with a folder, a socket and bridges of its own, while the block runs."""
    # A socket's path has room for a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="wl-docker-", dir="/tmp"))
    place = folder / "s"
    log = (folder / "log").open("wb")
    # Two that set up the machine's packet filter at once get in each other's way.
    turn = Path(tempfile.gettempdir(), "wl-docker.lock").open("w")  # noqa: SIM115  closed when it has started
    fcntl.flock(turn, fcntl.LOCK_EX)
    process = subprocess.Popen(
        ["dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid",
         "-H", f"unix://{place}", "--bridge", "none", "--default-address-pool", "base=10.213.0.0/16,size=24"],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        try:
            _await(place, process, folder / "log")
        finally:
            turn.close()
        yield f"unix://{place}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def rootfs(target: Path) -> Path:
    """A tar of a file system with a shell and a web server in it."""
    with tarfile.open(target, "w") as packed:
        program = busybox()
        assert program is not None
        packed.add(program, "bin/busybox")
        for name in ("sh", "httpd", "sleep", "echo", "cat", "nc", "wget", "mkdir", "true", "false"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            packed.addfile(link)
        for name in ("tmp", "www"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            packed.addfile(entry)
    return target


def _await(place: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + 20
    while time.monotonic() < ends:
        if process.poll() is not None:
            break
        # It listens before it answers.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(20)
            probe.connect(str(place))
            probe.sendall(b"GET /_ping HTTP/1.0\r\nhost: localhost\r\n\r\n")
            if b" 200 " in probe.recv(100):
                return
        time.sleep(0.05)
    message = f"dockerd did not start: {log.read_text()[-2000:]}"
    raise AssertionError(message)
