"""A post, where processes do the same job one after the other: started, killed, stopped and resumed by their pid.

It knows nothing of what they do. A run has one for the coordinator, one for the client and one for each agent.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from pathlib import Path

from a2a import tether

__all__ = ["BOUND", "ChaosError", "Post"]

BOUND = 60.0
"""Seconds for anything that should take one or two: a machine that is shared may be slow."""
PROJECT = Path(__file__).parents[2]


class ChaosError(Exception):
    """The run cannot go on: something that had to happen did not."""


class Post:
    """A job that one process at a time does."""

    def __init__(self, name: str, arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.under: tuple[str, ...] = ()
        """A tracer to start the next process under, which leaves that a child of this process."""
        self.log = folder / f"{name.replace('/', '-')}.log"
        self.starts = 0
        self._arguments = arguments
        self._environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process that does the job now."""
        assert self._process is not None, "start() comes first"
        return self._process

    async def start(self) -> None:
        """Start the next process; its stderr is added to the log. It ends with this process, however this one ends."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.under,
                *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid())),
                *(sys.executable, *self._arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=PROJECT,
                env={**os.environ, **self._environment},
            )
        self.starts += 1

    async def line(self) -> bytes:
        """Return the next line of its stdout; empty when it has ended."""
        assert self.process.stdout is not None, "started with a pipe"
        return await self.process.stdout.readline()

    def tell(self, line: str) -> None:
        """Write a line to its stdin, if it still reads."""
        stdin = self.process.stdin
        assert stdin is not None, "started with a pipe"
        if not stdin.is_closing():
            stdin.write(f"{line}\n".encode())

    async def kill(self) -> None:
        """Kill it with SIGKILL, and return when it is gone."""
        self._expect_running()
        self.process.kill()
        await self.process.wait()

    def stop(self) -> None:
        """Stop it with SIGSTOP."""
        self._expect_running()
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume it."""
        self.process.send_signal(signal.SIGCONT)

    async def end(self, *, by_signal: bool = True) -> None:
        """Have it end by itself: close its stdin and, with `by_signal`, send it SIGTERM.

        Raises:
            ChaosError: it did not end, or failed.
        """
        self._expect_running()
        assert self.process.stdin is not None, "started with a pipe"
        self.process.stdin.close()
        if by_signal:
            self.process.terminate()
        try:
            async with asyncio.timeout(BOUND):
                code = await self.process.wait()
        except TimeoutError:
            raise ChaosError(f"{self.name} does not end{self.last_words()}") from None
        if code != 0:
            raise ChaosError(f"{self.name} ended with {code}{self.last_words()}")

    async def clear_away(self) -> None:
        """Kill the process if it still runs, in whatever state it is."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def last_words(self) -> str:
        """Return the end of the log, for a message."""
        words = self.log.read_text(errors="replace").strip()[-2_000:] if self.log.exists() else ""
        return f"; its log ends with:\n{words}" if words else ""

    def _expect_running(self) -> None:
        if self.process.returncode is not None:
            raise ChaosError(f"{self.name} ended by itself with {self.process.returncode}{self.last_words()}")
