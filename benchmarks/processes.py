"""The processes of a run: started in sessions of their own, and ended by pid on every path.

Its own session keeps Ctrl-C away from a child: only the runner gets it, and ends what it started, in order. This module
does not know what the processes do; it exchanges JSON lines with those that talk.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.report import BenchmarkError

__all__ = ["PROJECT", "Process", "Processes", "output", "running"]

READY_WITHIN = 30.0
"""An interpreter with all imports starts in about a second; a machine that needs thirty is stuck."""
END_WITHIN = 10.0
"""Longer than a coordinator needs to close its ledger. SIGKILL follows."""
LOG_TAIL_CHARACTERS = 2000
PROJECT = Path(__file__).resolve().parent.parent
"""Where `python -m benchmarks.NAME` finds this package, wherever the runner was started."""


class Process:
    """One child of the runner."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._child = child
        self._log = log

    @property
    def pid(self) -> int:
        """The pid, also of the session and the process group."""
        return self._child.pid

    async def ask(self, question: Mapping[str, Any], *, within: float) -> dict[str, Any]:
        """Send one JSON line and read the answer.

        Raises:
            BenchmarkError: the process ended, or did not answer within that many seconds.
        """
        assert self._child.stdin is not None, "started with a pipe"
        self._child.stdin.write(json.dumps(question).encode() + b"\n")
        return await self.read(within=within)

    async def read(self, *, within: float) -> dict[str, Any]:
        """Read one JSON line from the process; see `ask`."""
        assert self._child.stdout is not None, "started with a pipe"
        try:
            async with asyncio.timeout(within):
                line = await self._child.stdout.readline()
        except TimeoutError:
            raise BenchmarkError(f"the {self.name} said nothing for {within:g} s{self._last_words()}") from None
        if not line:
            raise BenchmarkError(f"the {self.name} ended early{self._last_words()}")
        try:
            answer = json.loads(line)
        except ValueError as exc:
            raise BenchmarkError(f"expected a JSON line from the {self.name}, got {line!r}") from exc
        if not isinstance(answer, dict):
            raise BenchmarkError(f"expected a JSON object from the {self.name}, got {line!r}")
        return answer

    def check(self) -> None:
        """Raise BenchmarkError if the process has ended: for one that does not talk while another waits for it."""
        if self._child.returncode is not None:
            raise BenchmarkError(f"the {self.name} ended early{self._last_words()}")

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._child.returncode is None:
            self._child.terminate()

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._child.wait()

    def kill(self) -> None:
        """Kill the process, if it has not ended, and everything left in its process group."""
        if self._child.returncode is None:
            # Not reaped yet, so the pid, which is also the group's number, still belongs to it.
            os.killpg(self.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        text = self._log.read_text(errors="replace").strip()[-LOG_TAIL_CHARACTERS:]
        return f"; its log ends with:\n{text}" if text else ""


class Processes:
    """All processes that a run has started; leaving the block ends them, the last started first."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[Process] = []

    async def start(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        talks: bool = True,
        program: Sequence[str] = (sys.executable,),
    ) -> Process:
        """Start a program with `arguments`.

        Args:
            name: for messages, and for the log that takes the process's stderr.
            environment: variables on top of the runner's own.
            talks: whether the process speaks JSON lines on stdout; if not, stdout goes to the log too.
            program: what to start; this interpreter by default.

        Raises:
            BenchmarkError: the program is not there.
        """
        log = self._directory / f"{name.replace(' ', '-')}.log"
        with log.open("ab") as output:
            try:
                child = await asyncio.create_subprocess_exec(
                    *program,
                    *arguments,
                    stdin=PIPE if talks else DEVNULL,
                    stdout=PIPE if talks else output,
                    stderr=output,
                    cwd=PROJECT,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
            except OSError as exc:
                raise BenchmarkError(f"the {name} cannot be started: {exc}") from exc
        process = Process(name, child, log)
        self._started.append(process)
        return process

    async def start_ready(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (sys.executable,),
    ) -> tuple[Process, dict[str, Any]]:
        """Start a process and read its first line, which says that it is ready."""
        process = await self.start(name, *arguments, environment=environment, program=program)
        return process, await process.read(within=READY_WITHIN)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for process in reversed(self._started):
                process.terminate()
            async with asyncio.timeout(END_WITHIN):
                for process in reversed(self._started):
                    await process.wait()
        except TimeoutError:
            pass  # what has not ended by now is killed below
        finally:
            # Also when a second Ctrl-C cuts the wait short.
            for process in self._started:
                process.kill()
            for process in self._started:
                await process.wait()


@asynccontextmanager
async def running(parent: Path) -> AsyncIterator[tuple[Processes, Path]]:
    """Yield the processes of a run, and a new directory for it; at the end of the block all are gone."""
    with tempfile.TemporaryDirectory(prefix="a2a-benchmark-", dir=parent) as name:
        directory = Path(name)
        async with Processes(directory) as processes:
            yield processes, directory


async def output(*command: str | Path, within: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end, and return what it printed.

    Args:
        command: the program and its arguments.
        within: seconds it may take.
        environment: all of its variables; None: those of this process.

    Raises:
        BenchmarkError: it is not there, it failed, or it did not end within that many seconds.
    """
    said = " ".join(map(str, command))
    try:
        child = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, cwd=PROJECT, env=environment, start_new_session=True
        )
    except OSError as exc:
        raise BenchmarkError(f"{said} cannot be started: {exc}") from exc
    try:
        async with asyncio.timeout(within):
            out, errors = await child.communicate()
    except TimeoutError:
        raise BenchmarkError(f"{said} did not end within {within:g} s") from None
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    if child.returncode:
        raise BenchmarkError(f"{said} failed: {errors.decode(errors='replace').strip()[-LOG_TAIL_CHARACTERS:]}")
    return out.decode()
