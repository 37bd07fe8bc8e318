"""Becomes another program, with less than it was given: run as a script of its own, between fork and the program.

Limits cannot be set between fork and exec in a process with threads, and a program may not run before they are. So
Python is started in between: isolated, with no environment, told by a pipe what to become.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys

_NO_NEW_PRIVILEGES, _DIE_WITH_PARENT, _KILL = 38, 1, 9
_MACHINE_FAULT = 126
_LIMITS = ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_CORE")


def main() -> None:
    """Reads {"argv", "environment", "uid", "limits"} from the file descriptor that the first argument names."""
    with os.fdopen(int(sys.argv[1]), "rb") as pipe:
        told = json.load(pipe)
    for name in _LIMITS:
        if name in told["limits"]:
            _limit(getattr(resource, name), told["limits"][name])
    uid = told["uid"]
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _promise()
    try:
        os.execve(told["argv"][0], told["argv"], told["environment"])  # noqa: S606  that is what it is for
    except OSError as error:
        sys.stderr.write(f"{told['argv'][0]} cannot be run: {error.strerror}\n")
        sys.exit(_MACHINE_FAULT)


def _limit(what: int, most: int) -> None:
    """What is less already stays so."""
    _, hard = resource.getrlimit(what)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (value, value))


def _promise() -> None:
    """Nothing that is run raises its privileges, and nobody is left behind when the worker dies. Linux has that."""
    with contextlib.suppress(OSError, AttributeError, ImportError):
        import ctypes  # noqa: PLC0415  not every Python has it

        libc = ctypes.CDLL(None)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.prctl(_DIE_WITH_PARENT, _KILL, 0, 0, 0)


if __name__ == "__main__":
    main()
