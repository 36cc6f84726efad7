"""A copy of this process that computes something from memory, and returns it through a pipe.

Redis makes its snapshots this way: the copy keeps everything as it was at the fork, whatever the process changes later,
and nothing has to be read again. The process stands still for the fork itself, 2.5 ms for each 100 MB of its memory,
and then copies the pages that it changes while the copy lives. This module does not know ledgers; `snapshots` uses it.

A copy has one thread, and its locks are as other threads happened to hold them. So it does not import, log, or open or
close anything that a library keeps: it computes, makes system calls and exits. The time limit covers locks that nobody
thought of.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from .tether import kernel_tie

__all__ = ["NICE", "Copy", "is_safe"]

NICE = 10
"""The niceness of a process that makes a snapshot: agents and the coordinator come first."""
_PIECE = 64 * 1024
"""Bytes per read: as many as a pipe holds."""
_MOST_EXPENDABLE = b"1000"
"""For the kernel when memory runs out: a copy may need as much as the process, and is expendable."""


def is_safe(platform: str = sys.platform) -> bool:
    """Tell whether a process with threads may fork here: macOS' frameworks abort in a copy, Windows has none."""
    return platform == "linux"


class Copy:
    """A copy of this process, from its construction in the event loop to `close`.

    Args:
        compute: called in the copy. It must not import, log, or wait for a lock.

    Raises:
        OSError: there are too many processes, or there is not enough memory.
    """

    def __init__(self, compute: Callable[[], bytes]) -> None:
        self._pieces: list[bytes] = []
        self._code: int | None = None
        """Its exit code; None: nobody has waited for it yet, so its id cannot belong to another process."""
        self._pipe, theirs = os.pipe()
        try:
            self.pid = _fork(compute, theirs)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(self._pipe, False)

    async def result(self, within: float) -> bytes:
        """Return what the copy computed, and close it. Call it once; call `close` if it may never begin.

        Raises:
            OSError: the copy failed, was killed, or took longer than `within` seconds, and is killed then.
        """
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._pipe, self._read, ended)
        try:
            async with asyncio.timeout(within):
                await ended
        except TimeoutError as error:
            raise OSError(f"the copy of this process did not end within {within:g} s") from error
        finally:
            loop.remove_reader(self._pipe)
            if ended.done() and not ended.cancelled():
                # The kernel frees a process's memory before its end of a pipe, so it ends within microseconds.
                self._reap()
            self.close()
        computed = b"".join(self._pieces)
        if self._code:
            said = computed[:200].decode(errors="replace")
            raise OSError(f"the copy of this process ended with {self._code}: {said}")
        return computed

    def close(self) -> None:
        """Kill the copy unless it has ended, and free all of it. Safe to call twice."""
        if self._pipe < 0:
            return
        os.close(self._pipe)
        self._pipe = -1
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()  # returns when its memory is free: 5 ms for each 100 MB that it had copied

    def _read(self, ended: asyncio.Future[None]) -> None:
        try:
            piece = os.read(self._pipe, _PIECE)
        except BlockingIOError:
            return
        if piece:
            self._pieces.append(piece)
        elif not ended.done():
            ended.set_result(None)

    def _reap(self) -> None:
        # This one only: whoever started other children waits for them.
        self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _fork(compute: Callable[[], bytes], pipe: int) -> int:
    parent, tie = os.getpid(), kernel_tie()
    # A copy shares the descriptor that wakes this process's loop for a signal, so a Ctrl-C, which a terminal sends to
    # both, would count twice. The copy blocks signals from before the fork on; SIGKILL ends it.
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with warnings.catch_warnings():
            # Python 3.12 warns of locks that the copy would never get; it takes none. Raised as an error, the warning
            # would hide the id of a process that exists.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _be_the_copy(compute, pipe, parent, tie)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
    return pid


# In the copy ----------------------------------------------------------------------------------------------------------


def _be_the_copy(compute: Callable[[], bytes], pipe: int, parent: int, tie: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        gc.disable()  # a collection writes to every object, and so copies every page
        tie()
        if os.getppid() == parent:  # else the parent ended before the tie was made
            _let_go(pipe)
            os.nice(NICE)
            _write(pipe, compute())
            code = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, nothing of this process may go on here
        _write(pipe, repr(error).encode(errors="replace"))
    finally:
        os._exit(code)  # runs no finalizers and no exit handlers: they belong to the parent


def _let_go(pipe: int) -> None:
    """Close descriptors that would outlive the parent: connections, the port, the lock of the ledger."""
    for entry in list(os.scandir("/proc/self/fd")):
        if int(entry.name) != pipe:
            with suppress(OSError):  # the listing's own descriptor is already closed
                os.close(int(entry.name))
    with suppress(OSError):  # the system may not allow it
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(score, _MOST_EXPENDABLE)
        os.close(score)


def _write(pipe: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(pipe, left) :]
