"""Keep programs running: start each as a process of its own, start again what dies, end all of them.

    async with supervise(logs=folder) as supervisor:
        supervisor.start(Program("judge", [sys.executable, "-m", "judges.one"]))
        await supervisor.running("judge")

It knows nothing of coordinators, agents or protocols: a program is a command line, and being there is all that is asked
of it. A program that dies, however that happened, is started again after a pause that doubles while it keeps dying,
except after an exit code that says it would fail alike. `restart` starts it again at once, in good order. None outlives
the supervisor (see `tether`). Used by `squads` and by the commands that keep agents running.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import anyio
import anyio.abc

__all__ = ["TETHER", "Program", "Running", "Supervisor", "supervise", "tied", "to_state"]

BACKOFF = (0.1, 10.0)
"""First and longest pause before a program is started again, in seconds."""
STEADY = 10.0
"""A program that ran so long has proved itself: its next pause is a short one again."""
GRACE = 5.0
"""Seconds a program gets to end after SIGTERM. What the squad holds is safe in the ledger, so nobody needs more."""
TETHER = Path(__file__).with_name("tether.py")
_TETHER: Final = TETHER.read_text(encoding="utf-8")
"""Kept: where another version is installed beside programs that run, the file is away for a while, or another."""
LOG_BYTES_MAX = 16 * 1024 * 1024

State = Literal["starting", "running", "waiting", "halted", "stopped"]
"""`halted` is a program that ended in a way a new start would only repeat: it waits for `Supervisor.restart`."""


def tied(*command: str) -> list[str]:
    """Return the command line of a program that ends with this process; see `tether` for `--group` before it."""
    return [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *command]


@dataclass(frozen=True, slots=True)
class Program:
    """What to keep running."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """What differs from the supervisor's own environment."""
    on_ready: Callable[[str], None] | None = None
    """Gets the first line of output of each start; until then the program does not count as running. None: it does as
    soon as it is started."""
    rank: int = 0
    """Programs of a lower rank are needed by those of a higher one, so they are ended after them."""
    halts_on: frozenset[int] = frozenset()
    """Exit codes after which starting again would only repeat the failure."""


@dataclass(slots=True)
class Running:
    """A program, as it is now."""

    name: str
    pid: int | None = None
    state: State = "starting"
    restarts: int = 0
    exit_code: int | None = None
    """How it ended last: negative for a signal."""
    since: float = 0.0
    """When it came into this state, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is being done about a program."""

    program: Program
    end: anyio.Event = field(default_factory=anyio.Event)
    """Set when its process is to end, or its pause."""
    gone: anyio.Event = field(default_factory=anyio.Event)
    """Set when it has ended and will not be started again."""


class Supervisor:
    """Programs that are kept running. Made by `supervise`."""

    def __init__(
        self, logs: Path | None, on_change: Callable[[], None], env: Mapping[str, str] | None, grace: float = GRACE
    ) -> None:
        self.programs: dict[str, Running] = {}
        """By name, as they are now."""
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
            ValueError: there is one of that name.
        """
        if program.name in self.programs:
            raise ValueError(f"there is a program {program.name} already")
        assert self._group is not None, "supervise() makes it"
        self.programs[program.name] = Running(program.name, since=time.time())
        self._kept[program.name] = _Kept(program)
        self._group.start_soon(self._keep, program)

    def restart(self, name: str) -> None:
        """Have a program ended in good order and started anew, at once where it waits for that. It is no death."""
        self._kept[name].end.set()

    @property
    def news(self) -> anyio.Event:
        """Set at the next change of any program."""
        return self._news

    async def running(self, name: str) -> Running:
        """Wait until a program runs, and return it as it is then.

        Raises:
            ChildProcessError: it ended first. It is being started again all the same.
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
        """Return the file with what a program writes; None where that goes where our own output goes."""
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

    # One program ------------------------------------------------------------------------------------------------------

    async def _keep(self, program: Program) -> None:
        # Whoever is cancelled ends them in good order all the same: `end` does, and nothing else may.
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
            kept.gone.set()  # before it is told, which may fail as on a full disk: whoever ends all would wait for ever
            self._set(program.name, "stopped")

    async def _once(self, kept: _Kept) -> None:
        """Run a program to its end."""
        program = kept.program
        running = self.programs[program.name]
        with self._open_log(program.name) as log:
            process = await anyio.open_process(
                tied(*program.command),
                env={**(os.environ if self._env is None else self._env), **program.env},
                stdin=subprocess.DEVNULL,
                stdout=log if program.on_ready is None else subprocess.PIPE,
                stderr=log,
                cwd=self._logs,
                start_new_session=True,  # Ctrl-C is for the supervisor, which ends the others in order
            )
            running.pid = process.pid
            try:
                self._set(program.name, "running" if program.on_ready is None else "starting")
                async with anyio.create_task_group() as group:
                    group.start_soon(self._end_when_told, kept, process)
                    await self._listen(program, process)
                    await process.wait()
                    group.cancel_scope.cancel()
            finally:
                with anyio.CancelScope(shield=True):
                    if process.returncode is None:
                        process.kill()
                    await process.aclose()
                running.exit_code, running.pid = process.returncode, None

    async def _end_when_told(self, kept: _Kept, process: anyio.abc.Process) -> None:
        """End the process in good order, or else by force; whoever waits for it does the rest."""
        await kept.end.wait()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            await anyio.sleep(self._grace)
            process.kill()

    async def _listen(self, program: Program, process: anyio.abc.Process) -> None:
        """Wait for the line that says the program is ready; what it says after that goes nowhere."""
        if program.on_ready is None or process.stdout is None:
            return
        line = b""
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while b"\n" not in line:
                line += await process.stdout.receive()
            program.on_ready(line.partition(b"\n")[0].decode(errors="replace"))
            self._set(program.name, "running")
            while True:
                await process.stdout.receive()

    def _open_log(self, name: str) -> contextlib.AbstractContextManager[IO[bytes] | None]:
        """Open a program's log: a new one at its first start, and where it has grown too long; one old one is kept."""
        path = self.log_of(name)
        if path is None:
            return contextlib.nullcontext()
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

    Call it in the main thread: the kernel ties a process to the thread that started it.

    Args:
        logs: the folder for a log file each; it is also where the programs start. Without one they start here, and
            write where this process does.
        on_change: called after every change of a program.
        env: the programs' environment; this process's by default.
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
            with anyio.CancelScope(shield=True):
                await supervisor.end()
    if failure is not None:
        raise failure


def _make(folder: Path | None) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def to_state(programs: Mapping[str, Running]) -> list[dict[str, Any]]:
    """Return programs as they stand in a state file."""
    return [asdict(running) for running in programs.values()]
