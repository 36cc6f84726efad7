"""Keeps programs running: starts each in its own process, restarts those that die, and ends all of them.

    async with supervise(logs=folder) as supervisor:
        supervisor.start(Program("judge", [sys.executable, "-m", "judges.one"]))
        await supervisor.running("judge")

It does not know coordinators, agents or protocols: a program is a command line that has to be kept running. A program
that dies, for any reason, is started again after a pause that doubles while it keeps dying, except after an exit code
that says a new start would fail alike. `restart` restarts it at once, in good order. None outlives the supervisor (see
`tether`). Used by `squads` and by the commands that keep agents running.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import anyio
import anyio.abc

__all__ = ["TETHER", "Program", "Running", "Supervisor", "supervise", "tied", "to_state"]

BACKOFF = (0.1, 10.0)
"""The first and the longest pause before a program is started again, in seconds."""
STEADY = 10.0
"""Seconds after which a program has proved itself: its next pause is a short one again."""
GRACE = 5.0
"""Seconds a program has to end after SIGTERM. The ledger keeps everything that a squad holds, so nobody needs more."""
TETHER = Path(__file__).with_name("tether.py")
_TETHER: Final = TETHER.read_text(encoding="utf-8")
"""Read once: while another version is installed, the file may be missing for a moment, or be another one."""
LOG_BYTES_MAX = 16 * 1024 * 1024
_PIECE: Final = 65_536
"""Bytes of output read at once."""

State = Literal["starting", "running", "waiting", "halted", "stopped"]
"""`halted` is a program that ended in a way a new start would only repeat: it waits for `Supervisor.restart`."""


def tied(*command: str) -> list[str]:
    """Return the command line of a program that ends with this process; for `--group` before it, see `tether`."""
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]


@dataclass(frozen=True, slots=True)
class Program:
    """A program to keep running."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """Its differences from the supervisor's own environment."""
    on_ready: Callable[[str], None] | None = None
    """Gets the first line of output of each start; only then does the program count as running. None: it does as soon
    as it is started."""
    rank: int = 0
    """Programs of a higher rank need those of a lower one, and are ended before them."""
    halts_on: frozenset[int] = frozenset()
    """Exit codes after which a new start would only repeat the failure."""


@dataclass(slots=True)
class Running:
    """The current state of a program."""

    name: str
    pid: int | None = None
    state: State = "starting"
    restarts: int = 0
    exit_code: int | None = None
    """Its last exit code; negative for a signal."""
    since: float = 0.0
    """When it entered this state, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """The supervisor's side of a program."""

    program: Program
    end: anyio.Event = field(default_factory=anyio.Event)
    """Set to end its process, or its pause."""
    gone: anyio.Event = field(default_factory=anyio.Event)
    """Set when it has ended and will not be started again."""


class Supervisor:
    """Programs that are kept running. Made by `supervise`."""

    def __init__(
        self, logs: Path | None, on_change: Callable[[], None], env: Mapping[str, str] | None, grace: float = GRACE
    ) -> None:
        self.programs: dict[str, Running] = {}
        """By name, in their current state."""
        self._kept: dict[str, _Kept] = {}
        self._logs = logs
        self._on_change = on_change
        self._env = env
        self._grace = grace
        self._is_ending = False
        self._news = anyio.Event()
        self._group: anyio.abc.TaskGroup | None = None

    def start(self, program: Program) -> None:
        """Begin to keep a program running.

        Raises:
            ValueError: there already is a program of that name.
        """
        if program.name in self.programs:
            raise ValueError(f"there is already a program {program.name}")
        assert self._group is not None, "supervise() makes it"
        self.programs[program.name] = Running(program.name, since=time.time())
        self._kept[program.name] = _Kept(program)
        self._group.start_soon(self._keep, program)

    def restart(self, name: str) -> None:
        """End a program in good order and start it anew, at once if it waits for that. This is not a death."""
        self._kept[name].end.set()

    @property
    def news(self) -> anyio.Event:
        """Set at the next change of any program."""
        return self._news

    async def running(self, name: str) -> Running:
        """Wait until a program runs, and return its state.

        Raises:
            ChildProcessError: it ended first. It is started again anyway.
        """
        while True:
            news, program = self._news, self.programs[name]
            if program.state == "running":
                return program
            if program.state in ("waiting", "halted", "stopped"):
                why = "" if self._logs is None else f"; {self.log_of(name)} may say why"
                raise ChildProcessError(f"{name} ended with {program.exit_code}{why}")
            await news.wait()

    def log_of(self, name: str) -> Path | None:
        """Return the log file of a program; None if it writes where this process does."""
        return None if self._logs is None else self._logs / f"{name}.log"

    async def end(self) -> None:
        """End all programs, those of the highest rank first, and wait for them."""
        self._is_ending = True
        for rank in sorted({kept.program.rank for kept in self._kept.values()}, reverse=True):
            ending = [kept for kept in self._kept.values() if kept.program.rank == rank]
            for kept in ending:
                kept.end.set()
            for kept in ending:
                await kept.gone.wait()

    async def _end_in_order(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.end()

    # One program ------------------------------------------------------------------------------------------------------

    async def _keep(self, program: Program) -> None:
        # Even if cancelled, programs end in good order: only `end` may end them.
        with anyio.CancelScope(shield=True):
            await self._keep_until_ended(program)

    async def _keep_until_ended(self, program: Program) -> None:
        pause = BACKOFF[0]
        kept = self._kept[program.name]
        try:
            while True:
                started = time.monotonic()
                await self._once(kept)
                if not kept.end.is_set():
                    if time.monotonic() - started >= STEADY:
                        pause = BACKOFF[0]
                    halts = self.programs[program.name].exit_code in program.halts_on
                    self._set(program.name, "halted" if halts else "waiting")
                    with anyio.move_on_after(None if halts else pause):
                        await kept.end.wait()
                if self._is_ending:
                    return
                if kept.end.is_set():
                    kept = self._kept[program.name] = _Kept(program, gone=kept.gone)
                    pause = BACKOFF[0]
                else:
                    pause = min(pause * 2, BACKOFF[1])
                    self.programs[program.name].restarts += 1
        finally:
            kept.gone.set()  # before the report, which may fail as on a full disk: `end` would wait forever
            self._set(program.name, "stopped")

    async def _once(self, kept: _Kept) -> None:
        """Run a program until it ends."""
        program = kept.program
        running = self.programs[program.name]
        with self._open_log(program.name) as log, _pipe_of(program) as (output, stdout):
            process = await anyio.open_process(
                tied(*program.command),
                env={**(os.environ if self._env is None else self._env), **program.env},
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                cwd=self._logs,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends the programs in order
            )
            running.pid = process.pid
            if stdout is not None:
                stdout.close()
            try:
                self._set(program.name, "running" if program.on_ready is None else "starting")
                async with anyio.create_task_group() as group:
                    group.start_soon(self._end_when_told, kept, process)
                    if output is not None:
                        group.start_soon(self._listen, program, output)
                    await process.wait()
                    group.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    if process.returncode is None:
                        process.kill()
                    await process.aclose()
                running.exit_code, running.pid = process.returncode, None

    async def _end_when_told(self, kept: _Kept, process: anyio.abc.Process) -> None:
        """End the process in good order, or else by force; `_once` waits for it."""
        await kept.end.wait()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            await anyio.sleep(self._grace)
            process.kill()

    async def _listen(self, program: Program, output: IO[bytes]) -> None:
        """Wait for the line that says the program is ready, and discard everything after it."""
        line = b""
        while b"\n" not in line:
            await anyio.wait_readable(output)
            piece = output.read(_PIECE)
            if not piece:
                return
            line += piece
        assert program.on_ready is not None, "else nobody listens"
        program.on_ready(line.partition(b"\n")[0].decode(errors="replace"))
        self._set(program.name, "running")
        while piece:
            await anyio.wait_readable(output)
            piece = output.read(_PIECE)

    def _open_log(self, name: str) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        """Open a program's log: a new one at its first start or when it is too long; one old log is kept."""
        path = self.log_of(name)
        if path is None:
            return contextlib.nullcontext()
        _make(self._logs)  # somebody may have cleaned up since, and the program starts there
        with contextlib.suppress(FileNotFoundError):
            if self.programs[name].restarts == 0 or path.stat().st_size > LOG_BYTES_MAX:
                path.replace(path.with_suffix(".log.old"))
        return path.open("ab", buffering=0)

    def _set(self, name: str, state: State) -> None:
        running = self.programs[name]
        running.state, running.since = state, time.time()
        news, self._news = self._news, anyio.Event()
        news.set()
        self._on_change()


@contextlib.asynccontextmanager
async def supervise(
    *,
    logs: Path | None = None,
    on_change: Callable[[Supervisor], None] | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = GRACE,
) -> AsyncIterator[Supervisor]:
    """Keep programs running inside the block, and end all of them with it.

    Call this in the main thread: the kernel ties a process to the thread that started it.

    Args:
        logs: the folder for their log files, in which the programs also start. Without one they start in this
            directory, and write where this process does.
        on_change: called after every change of a program.
        env: the programs' environment; by default this process's.
        grace: seconds between SIGTERM and SIGKILL at the end.
    """
    _make(logs)
    supervisor = Supervisor(logs, lambda: on_change(supervisor) if on_change else None, env, grace)
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        supervisor._group = group
        try:
            yield supervisor
        except Exception as exc:  # noqa: BLE001 - raised again below, as itself and not in a group of one
            failure = exc
        finally:
            # In a task of its own, which nothing cancels: Ctrl-C cancels this one, whatever shields it, and without
            # `end` the programs of the lowest rank would run on, and the group wait for them forever.
            group.start_soon(supervisor._end_in_order)
    if failure is not None:
        raise failure


@contextlib.contextmanager
def _pipe_of(program: Program) -> Iterator[tuple[IO[bytes], IO[bytes]] | tuple[None, None]]:
    """Open the pipe from which a program's first line is read, if anybody wants that.

    It is our own: asyncio would take the program for alive as long as anything that it left behind holds its pipe.
    """
    if program.on_ready is None:
        yield None, None
        return
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as output, os.fdopen(write, "wb", buffering=0) as stdout:
        yield output, stdout


def _make(folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def to_state(programs: Mapping[str, Running]) -> list[dict[str, Any]]:
    """Return programs in the form of a state file."""
    return [asdict(running) for running in programs.values()]
