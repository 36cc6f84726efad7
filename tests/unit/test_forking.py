"""A copy of this process that computes one thing: what it has and hears, how it ends, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from mmap import mmap
from pathlib import Path

import anyio
import pytest

from a2a import forking
from a2a.conformance.program import free_port
from a2a.forking import Copy, is_safe
from a2a.stores.lock import LedgerLock

BOUND = 60
pytestmark = pytest.mark.skipif(not is_safe(), reason="only Linux lets a process with threads be copied")


@pytest.fixture
def flags() -> mmap:
    """Memory that copies share with the process: they have no other way to say where they are."""
    return mmap(-1, 8)


def open_in(process: int) -> set[str]:
    """Return what a process has open, without the listing itself."""
    found = set()
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(file.readlink()))
    return found


def pipes() -> set[str]:
    return {name for name in open_in(os.getpid()) if name.startswith("pipe:")}


@pytest.fixture(autouse=True)
def _leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = pipes()
    forked: list[int] = []
    fork = os.fork
    monkeypatch.setattr("os.fork", lambda: forked.append(pid := fork()) or pid)
    yield
    assert pipes() <= before
    assert not any(Path(f"/proc/{pid}").exists() for pid in forked), "not even one that nobody has waited for"


def hanging(flags: mmap) -> Callable[[], bytes]:
    def hang() -> bytes:
        flags[0] = 1
        time.sleep(1000)
        return b""

    return hang


async def until(flags: mmap, place: int = 0) -> None:
    with anyio.fail_after(BOUND):
        while not flags[place]:
            await anyio.lowlevel.checkpoint()


async def test_a_copy_computes_from_what_was_in_memory_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.kill", None)  # it ends by itself
    state = [bytes(1_000_000), b"then"]
    copy = Copy(lambda: b"".join(state))
    state[1] = b"now"
    with anyio.fail_after(BOUND):
        assert await copy.result(BOUND) == bytes(1_000_000) + b"then"
    copy.close()  # once more


async def test_what_goes_wrong_in_a_copy_is_told_and_goes_no_further() -> None:
    def fail() -> bytes:
        raise SystemExit("no such thing")

    with pytest.raises(OSError, match=r"ended with 1: SystemExit\('no such thing'\)"):
        await Copy(fail).result(BOUND)


async def test_a_copy_that_is_killed_has_failed(flags: mmap) -> None:
    copy = Copy(hanging(flags))
    await until(flags)
    os.kill(copy.pid, signal.SIGKILL)
    with pytest.raises(OSError, match="ended with -9"):
        await copy.result(BOUND)


async def test_a_copy_that_hangs_is_killed_when_its_time_is_over(flags: mmap) -> None:
    copy = Copy(hanging(flags))
    await until(flags)
    with pytest.raises(OSError, match=r"did not end within 0\.01 s"):
        await copy.result(0.01)


async def test_a_copy_that_nobody_waits_for_any_more_is_killed(flags: mmap) -> None:
    copy = Copy(hanging(flags))
    waiting = asyncio.create_task(copy.result(BOUND))
    await anyio.lowlevel.checkpoint()  # it has begun; what never has cannot close anything
    await until(flags)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_copy_that_nobody_has_waited_for_is_killed() -> None:
    copy = Copy(lambda: bytes(1_000_000))
    copy.close()


async def test_the_loop_goes_on_while_a_copy_computes(flags: mmap) -> None:
    def wait() -> bytes:
        while not flags[1]:
            time.sleep(0.001)
        return bytes(1_000_000)

    copy = Copy(wait)
    copy._read(asyncio.get_running_loop().create_future())  # whoever says that there is something may be wrong
    waiting = asyncio.create_task(copy.result(BOUND))
    await anyio.lowlevel.checkpoint()
    flags[1] = 1  # which nobody could say if the loop waited for the pipe
    with anyio.fail_after(BOUND):
        assert len(await waiting) == 1_000_000


async def test_a_copy_hears_no_signal_and_the_process_hears_its_own_again(flags: mmap) -> None:
    def tell() -> bytes:
        flags[0] = 1
        while not flags[1]:
            time.sleep(0.001)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return ",".join(sorted(signal.Signals(number).name for number in blocked if number < 32)).encode()

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    copy = Copy(tell)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    await until(flags)
    os.kill(copy.pid, signal.SIGTERM)
    flags[1] = 1
    blocked = (await copy.result(BOUND)).decode().split(",")
    assert {"SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD", "SIGUSR1"} <= set(blocked)


async def test_a_copy_gives_way_collects_nothing_and_goes_first_where_memory_runs_out() -> None:
    def tell() -> bytes:
        return f"{os.nice(0)} {gc.isenabled()} {Path('/proc/self/oom_score_adj').read_text()}".encode()

    assert gc.isenabled()
    nice, *rest = (await Copy(tell).result(BOUND)).decode().split()
    assert int(nice) == min(19, os.nice(0) + forking.NICE)
    assert rest == ["False", "1000"]
    assert gc.isenabled()


async def test_a_copy_holds_neither_connections_nor_the_port_nor_the_lock(flags: mmap, tmp_path: Path) -> None:
    lock = LedgerLock(tmp_path / "ledger.db")
    listening = socket.create_server(("127.0.0.1", free_port()))
    address = listening.getsockname()
    ours = socket.create_connection(address)
    theirs, _ = listening.accept()
    copy = Copy(hanging(flags))
    await until(flags)
    assert [name[:5] for name in open_in(copy.pid)] == ["pipe:"]
    theirs.close()
    ours.settimeout(BOUND)
    assert ours.recv(1) == b"", "the peer is told that the connection has ended"
    ours.close()
    listening.close()
    socket.create_server(address).close()
    lock.release()
    LedgerLock(tmp_path / "ledger.db").release()
    copy.close()


PARENT = """\
import asyncio, socket, sys, time
from mmap import mmap
from a2a.forking import Copy
from a2a.stores.lock import LedgerLock

flags = mmap(-1, 8)
lock = LedgerLock(sys.argv[1])
listening = socket.create_server(("127.0.0.1", 0))

def hang():
    flags[0] = 1
    time.sleep(1000)

async def main():
    copy = Copy(hang)
    while not flags[0]:
        await asyncio.sleep(0)
    print(copy.pid, listening.getsockname()[1], flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def test_a_copy_ends_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "ledger.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        copied, port = map(int, parent.stdout.readline().split())
        assert Path(f"/proc/{copied}").exists()
        parent.kill()
    LedgerLock(tmp_path / "ledger.db").release()
    socket.create_server(("127.0.0.1", port)).close()
    last = time.monotonic() + BOUND
    while _is_running(copied):
        assert time.monotonic() < last


def _is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(") ")[2][0] != "Z"  # whoever adopted it may wait for it later


async def test_a_copy_does_nothing_for_a_process_that_ended_before_it_was_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getppid", lambda: 1)
    with pytest.raises(OSError, match=r"ended with 1: $"):
        await Copy(lambda: b"computed").result(BOUND)


async def test_a_fork_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise BlockingIOError("too many processes")

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    monkeypatch.setattr("os.fork", fail)
    with pytest.raises(OSError, match="too many processes"):
        Copy(lambda: b"")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


async def test_only_the_warning_of_threads_is_kept_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork
    said = f"This process (pid={os.getpid()}) is multi-threaded, use of fork() may lead to deadlocks in the child."

    def warn() -> int:
        pid = fork()
        if pid:
            warnings.warn(said, DeprecationWarning, stacklevel=2)
        return pid

    monkeypatch.setattr("os.fork", warn)
    assert await Copy(lambda: b"computed").result(BOUND) == b"computed"
    with pytest.raises(DeprecationWarning, match="is multi-threaded"):
        warnings.warn(said, DeprecationWarning, stacklevel=2)


@pytest.mark.parametrize(("platform", "safe"), [("linux", True), ("darwin", False), ("win32", False)])
def test_a_process_with_threads_is_copied_on_linux_only(platform: str, safe: bool) -> None:
    assert is_safe(platform) is safe
