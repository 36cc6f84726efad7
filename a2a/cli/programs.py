"""Any program as an agent: the input on its stdin, the result on its stdout (`a2a agent exec`).

Each attempt is a process in a session of its own, so that its whole group ends when the attempt does. Its outputs are
bounded: the result has to fit in a message of the protocol, and of stderr only the end is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from ..agent import Agent
from ..context import TaskContext
from ..errors import AttemptFailed
from ..protocol.canonical import canonical
from ..supervisor import tied

__all__ = ["Program", "program_agent"]

OUTPUT_MAX = 1024 * 1024
"""In bytes of stdout. A result travels in one frame, whose payload may have two megabytes once JSON has quoted it."""
ERRORS_KEPT = 4 * 1024
"""Bytes from the end of stderr that a failure includes."""
GRACE = 2.0
"""Seconds from SIGTERM to SIGKILL when an attempt is canceled."""
LEFTOVER_CHECK = 0.2
"""Seconds between two checks whether a program has ended and left its outputs open."""
TRY_AGAIN = 75
"""EX_TEMPFAIL of sysexits.h: the only exit code after which another attempt is made."""


@dataclass(frozen=True, slots=True)
class Program:
    """A command line, and its time limit."""

    command: Sequence[str]
    timeout: float | None = None

    async def run(self, value: Any, task: TaskContext) -> Any:
        """Run it once for this input, and return its result.

        Raises:
            AttemptFailed: it could not start, exited with a code other than 0, or exceeded its time or its output.
        """
        if shutil.which(self.command[0]) is None:
            raise AttemptFailed(f"{self.command[0]} cannot be started: there is no such program", code="start")
        try:
            process = await asyncio.create_subprocess_exec(
                # Tied to this process: it is killed with this process, and so is everything it started, so that no work
                # goes on that another attempt repeats.
                *tied("--group", *self.command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                env={**os.environ, **_environment(task)},
            )
        except OSError as error:
            raise AttemptFailed(f"{self.command[0]} cannot be started: {error.strerror}", code="start") from error
        try:
            with anyio.fail_after(self.timeout):
                output, errors = await _talk(process, _to_stdin(value))
                code = await process.wait()
        except TimeoutError as error:
            raise AttemptFailed(f"{self.command[0]} took longer than {self.timeout:g} s", code="timeout") from error
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)
        if len(output) > OUTPUT_MAX:
            raise AttemptFailed(f"{self.command[0]} wrote more than {OUTPUT_MAX} bytes", code="output_too_large")
        if code != 0:
            said = errors.decode(errors="replace").strip()
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise AttemptFailed(
                f"{self.command[0]}: {ended}{f': {said}' if said else ''}", code="exit", retryable=code == TRY_AGAIN
            )
        return _from_stdout(output)


def program_agent(program: Program, skill: str, *, name: str | None = None, concurrency: int = 1) -> Agent:
    """Return an agent with one skill: this program."""
    command = " ".join(program.command)
    agent = Agent(name or f"exec-{skill}", description=f"Runs {command}"[:500], concurrency=concurrency)

    @agent.skill(id=skill, description=f"Run {command}"[:500], takes_value=True)
    async def run_program(value: Any, task: TaskContext) -> Any:
        return await program.run(value, task)

    return agent


def _environment(task: TaskContext) -> dict[str, str]:
    """Return the environment variables that describe a program's task."""
    return {
        "A2A_TASK": task.id,
        "A2A_SKILL": task.skill,
        "A2A_KEY": task.key,
        "A2A_CONTEXT": task.context_id,
        "A2A_ATTEMPT": str(task.attempt),
        "A2A_FENCE": str(task.fence),
        "A2A_REV": str(task.rev),
    }


def _to_stdin(value: Any) -> bytes:
    """Return an input for a program's stdin: text and bytes as they are, anything else as JSON."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value, ensure_ascii=False).encode()


def _from_stdout(output: bytes) -> Any:
    """Return an output as a value: JSON if it parses, else text without the last line feed, else bytes."""
    try:
        text = output.decode()
    except UnicodeDecodeError:
        return output
    try:
        value = json.loads(text)
        canonical(value)  # a value without a canonical form (1e999, 2**60) stays text
    except (ValueError, RecursionError):
        return text.removesuffix("\n")
    return value


async def _talk(process: asyncio.subprocess.Process, given: bytes) -> tuple[bytes, bytes]:
    """Write the input while reading both outputs: a program may answer before it has read everything."""
    output, errors = bytearray(), bytearray()
    async with anyio.create_task_group() as group:
        group.start_soon(_write, process, given)
        group.start_soon(_end_with_leader, process)
        async with anyio.create_task_group() as readers:
            readers.start_soon(_read_output, process, output)
            readers.start_soon(_read_errors, process, errors)
        group.cancel_scope.cancel()
    return bytes(output), bytes(errors)


async def _write(process: asyncio.subprocess.Process, given: bytes) -> None:
    assert process.stdin is not None, "it is a pipe"
    if process.stdin.is_closing():
        return  # it has already ended, for which uvloop has another error than those below
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it did not want the rest
        process.stdin.write(given)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _end_with_leader(process: asyncio.subprocess.Process) -> None:
    """End the group once the program itself has ended: processes it left would hold the outputs open forever."""
    while process.returncode is None:  # noqa: ASYNC110 - before Python 3.12 `wait` waits for the outputs as well
        await anyio.sleep(LEFTOVER_CHECK)
    _signal_group(process, signal.SIGKILL)


async def _read_output(process: asyncio.subprocess.Process, output: bytearray) -> None:
    assert process.stdout is not None, "it is a pipe"
    while piece := await process.stdout.read(65_536):
        output += piece
        if len(output) > OUTPUT_MAX:
            _signal_group(process, signal.SIGKILL)
            return


async def _read_errors(process: asyncio.subprocess.Process, errors: bytearray) -> None:
    assert process.stderr is not None, "it is a pipe"
    while piece := await process.stderr.read(65_536):
        errors += piece
        del errors[:-ERRORS_KEPT]


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the whole group, with processes left in the background, even after the program itself has ended."""
    if process.returncode is None:
        _signal_group(process, signal.SIGTERM)
        with anyio.move_on_after(GRACE):
            await process.wait()
    _signal_group(process, signal.SIGKILL)
    await process.wait()


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
