"""Tie a program to its supervisor's life, then become that program.

A stand-alone script of the standard library: `python -I -S tether.py PID COMMAND...`. `supervisor` runs its text, which
an update of this package cannot take away. The process keeps its id, so process listings show the program itself.
However the supervisor ends, even by `kill -9`, the program is killed: on Linux by the kernel, elsewhere by a small
process that looks once a second. With `--group` after the PID, everything that the program started and left in its
group is killed too, however the program ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable

__all__ = ["kernel_tie", "main", "tie", "tie_group"]

PR_SET_PDEATHSIG = 1
LOOK_AGAIN = 1.0


def main(arguments: list[str]) -> int:
    """Tie this process to its parent and become the command. Returns only if that fails."""
    parent, command = int(arguments[0]), arguments[1:]
    tie(parent)
    if os.getppid() != parent:
        return 128 + signal.SIGKILL  # the parent ended before the tie was made
    if command[0] == "--group":
        command = command[1:]
        tie_group()
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        os.write(2, f"{command[0]}: {exc.strerror}\n".encode())
    return 127


def tie(parent: int, *, platform: str = sys.platform) -> None:
    """Have this process killed when its parent ends."""
    if platform == "linux":
        kernel_tie()()
        return
    program = os.getpid()
    if os.fork() == 0:
        os.setsid()
        watch(program, parent)
        os._exit(0)


def kernel_tie() -> Callable[[], object]:
    """Return a function that has Linux kill the calling process when its parent ends.

    It has two steps for a copy of a process with threads, which must not import anything. The kernel counts the end of
    the thread that forked as the parent's end.
    """
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def tie_group() -> None:
    """Have the group that this process leads killed once this process has ended."""
    leader = os.getpid()
    ended = os.pidfd_open(leader) if hasattr(os, "pidfd_open") else None
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        if ended is not None:
            os.close(ended)
        return
    # A grandchild: the program's parent must not find it among the program's children.
    os.setsid()
    if os.fork() == 0:
        for held in {0, 1, 2} - {ended}:  # readers of the program's output wait until every writer has closed it
            with contextlib.suppress(OSError):
                os.close(held)
        _wait_for(leader, ended)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    os._exit(0)


def _wait_for(process: int, ended: int | None) -> None:
    if ended is not None:
        select.select([ended], [], [])
        return
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(process, 0)
            time.sleep(LOOK_AGAIN)


def watch(program: int, parent: int, *, pause: Callable[[float], None] = time.sleep) -> None:
    """Kill the program, our parent, when its own parent is gone; return when it has ended by itself."""
    while os.getppid() == program:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(program, signal.SIGKILL)
            return
        except PermissionError:
            pass  # it is alive, under another user
        pause(LOOK_AGAIN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
