"""Run other programs so that none outlives the agent, and none blocks its event loop.

A guarded command is started through `launch`, which kills it and everything it started when this process closes the
pipe between them - on purpose, or by dying. Short commands that change nothing (git) run without a guard. This module
knows nothing of sandboxes; `sandbox` builds the command lines that it runs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

import anyio
import anyio.abc

__all__ = ["LAUNCH", "Finished", "Limits", "OnLine", "Report", "guarded", "inherited_environment", "run", "silent"]

LAUNCH: Final = Path(__file__).with_name("launch.py")
OUTPUT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Output beyond this is discarded: a patch of that size helps nobody."""
GRACE: Final = 5.0
"""Seconds a guard gets to kill its command before it is killed itself."""

Report = Callable[[float | None, str], Awaitable[None]]
"""How work reports its progress: `TaskContext.progress`, or `silent`."""
OnLine = Callable[[str], Awaitable[None]]


async def silent(fraction: float | None, note: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use; 0 means no limit."""

    seconds: float = 600.0
    memory: int = 0
    """Bytes of address space for each process."""
    file_size: int = 0
    """Bytes of the largest file it may write."""

    def options(self) -> list[str]:
        """Return the options of `launch` for these limits."""
        if not self.memory and not self.file_size:
            return []
        # Twice the time, because processor time adds up over threads; `run` watches the wall clock.
        return [f"--memory={self.memory}", f"--file-size={self.file_size}", f"--cpu={int(self.seconds * 2) + 10}"]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    code: int
    """Its exit code; 128 + N if signal N ended it; negative if that happened to its guard."""
    out: bytes
    err: bytes
    timed_out: bool
    seconds: float
    is_cut: bool = False
    """Whether its output was longer than what was kept."""

    @property
    def text(self) -> str:
        """Its output on both channels, for people."""
        return (self.out + self.err).decode(errors="replace")


def inherited_environment() -> dict[str, str]:
    """Return the environment for our own tools: this process's, without the coordinator's and git's variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("A2A_", "GIT_", "PYTEST_"))}


def guarded(command: Sequence[str], limits: Limits) -> list[str]:
    """Return the command line that runs a command under a guard."""
    return [sys.executable, "-I", "-S", str(LAUNCH), "guard", *limits.options(), "--", *command]


_HAS_ENDED = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, RuntimeError)
"""Exceptions when a program has ended before it was written to; up to anyio 4.11 these are the loops' own."""


async def run(
    command: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    stdin: bytes | None = None,
    on_line: OnLine | None = None,
) -> Finished:
    """Run a program to its end, its limit, or the end of the surrounding scope.

    Args:
        limits: makes the run a guarded one; without limits it has to be short, and takes `stdin`.
        on_line: called with each line of standard output as it comes.
    """
    assert limits is None or stdin is None, "a guarded program reads nothing: its standard input is the lifeline"
    started = monotonic()
    arguments = list(command) if limits is None else guarded(command, limits)
    out, err = _Sink(on_line), _Sink(None)
    async with _process(arguments, cwd, inherited_environment() if env is None else env) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with anyio.move_on_after(limits.seconds if limits else 600.0) as clock:
            async with anyio.create_task_group() as group:
                group.start_soon(out.drain, process.stdout)
                group.start_soon(err.drain, process.stderr)
                if limits is None:
                    with contextlib.suppress(*_HAS_ENDED):
                        await process.stdin.send(stdin or b"")
                    await process.stdin.aclose()
            await process.wait()
        timed_out = clock.cancelled_caught
    code = process.returncode
    assert code is not None, "leaving the block above waited for it"
    return Finished(code, out.whole(), err.whole(), timed_out, monotonic() - started, out.is_cut)


@contextlib.asynccontextmanager
async def _process(
    arguments: Sequence[str], cwd: str | Path, env: Mapping[str, str]
) -> AsyncIterator[anyio.abc.Process]:
    process = await anyio.open_process(
        arguments,
        cwd=cwd,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in a terminal is for the agent, which then ends its programs in order
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            assert process.stdin is not None
            with contextlib.suppress(anyio.BrokenResourceError, OSError):
                await process.stdin.aclose()
            with anyio.move_on_after(GRACE) as clock:
                await process.wait()
            if clock.cancelled_caught:
                process.kill()
            await process.aclose()


class _Sink:
    """Collects a stream, and splits it into lines if somebody listens."""

    def __init__(self, on_line: OnLine | None) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._rest = b""
        self._on_line = on_line

        self.is_cut = False

    async def drain(self, stream: anyio.abc.ByteReceiveStream) -> None:
        async for chunk in stream:
            if self._size < OUTPUT_BYTES_MAX:
                self._chunks.append(chunk)
                self._size += len(chunk)
            else:
                self.is_cut = True
            if self._on_line is not None:
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self._rest = self._rest[-OUTPUT_BYTES_MAX:]
                for line in lines:
                    await self._on_line(line.decode(errors="replace"))

    def whole(self) -> bytes:
        return b"".join(self._chunks)
