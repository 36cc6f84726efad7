"""`a2a mcp` as a process that a host starts: what a call keeps when the coordinator is killed, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp")  # it needs newer packages than the oldest that all else runs with
from mcp import Client as Host
from mcp import StdioServerParameters
from mcp_types import TextContent

from tests.process.running import AGENT, BOUND, Running, running, until


class World:
    """A coordinator that dies and is started again, and an agent."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack
        (home / "helper.py").write_text(AGENT)
        self.url = "ws://127.0.0.1:0"
        self.start()
        os.environ["A2A_URL"] = self.url
        stack.callback(os.environ.pop, "A2A_URL", None)
        helper = stack.enter_context(running(home, "helper.py"))
        until(lambda: "is ready" in helper.said.read_text())

    def start(self) -> None:
        listen = ("--listen", self.url[5:], "--db", "ledger.db", "--ready-json")
        self.coordinator = self._stack.enter_context(running(self.home, "-m", "a2a", "coordinator", "run", *listen))
        self.url = self.coordinator.ready()["url"]

    def kill(self) -> None:
        assert self.coordinator.end(signal.SIGKILL) == -signal.SIGKILL
        self.start()

    def host(self) -> Host:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        how = StdioServerParameters(command=sys.executable, args=["-m", "a2a", "mcp"], env=environment, cwd=self.home)
        return Host(how, mode="legacy")


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(home, stack)


async def until_there(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110 - another process makes it
        await anyio.sleep(0.02)


async def test_a_call_goes_on_when_the_coordinator_is_killed_in_the_middle(world: World) -> None:
    results: list[Any] = []
    with anyio.fail_after(BOUND):
        async with world.host() as host:

            async def call() -> None:
                results.append(await host.call_tool("wait"))

            async with anyio.create_task_group() as group:
                assert "wait" in [tool.name for tool in (await host.list_tools()).tools]
                group.start_soon(call)
                await until_there(world.home / "begun")
                await anyio.to_thread.run_sync(world.kill)
                (world.home / "go").touch()
    ((content,),) = [result.content for result in results]
    assert isinstance(content, TextContent) and content.text == "done"
    assert (world.home / "runs").read_text() == "run\n", "the work was done once"


def waiting_in(pipe: Any) -> int:
    """Return how many bytes a pipe holds that nobody has read."""
    return int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)), sys.byteorder)


def lines_of(process: Running) -> Queue[str]:
    """Return where the lines of its stdout come in; an empty one is its end."""
    came: Queue[str] = Queue()
    out = process.popen.stdout
    assert out is not None

    def read() -> None:
        for line in out:
            came.put(line.decode())
        came.put("")

    threading.Thread(target=read, daemon=True).start()
    return came


def say(process: Running, method: str, params: Any = None, number: int | None = None) -> None:
    message = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({"id": number} if number else {})
    assert process.popen.stdin is not None
    process.popen.stdin.write(json.dumps(message).encode() + b"\n")
    process.popen.stdin.flush()


@pytest.mark.parametrize("how", ["sigterm", "stdin"])
def test_told_to_end_it_ends_in_order_and_leaves_its_tasks_going(world: World, how: str) -> None:
    with running(world.home, "-m", "a2a", "mcp") as process:
        came = lines_of(process)
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        say(process, "initialize", hello, 1)
        assert json.loads(came.get(timeout=BOUND))["result"]["capabilities"]["tools"]["listChanged"]
        say(process, "notifications/initialized")
        say(process, "tools/call", {"name": "wait", "arguments": {}}, 2)
        until((world.home / "begun").exists)
        assert process.popen.stdin is not None
        if how == "stdin":
            process.popen.stdin.close()
            assert process.popen.wait(BOUND) == 0
        else:
            assert process.end(signal.SIGTERM) == 0
        said = [came.get(timeout=BOUND)]
        while said[-1]:
            said.append(came.get(timeout=BOUND))
        assert all(json.loads(line)["jsonrpc"] == "2.0" for line in said[:-1]), "nothing but the protocol"
        assert process.said.read_text() == ""
    (world.home / "go").touch()
    with running(world.home, "-m", "a2a", "task", "ls", "--json") as listed:
        task = listed.ready()["id"]
    with running(world.home, "-m", "a2a", "task", "result", "--wait", task) as result:
        assert result.popen.wait(BOUND) == 0, result.said.read_text()


def test_a_host_that_is_gone_ends_it_in_order(world: World) -> None:
    with running(world.home, "-m", "a2a", "mcp") as process:
        assert process.popen.stdout is not None
        process.popen.stdout.close()
        say(process, "ping", number=1)
        assert process.popen.wait(BOUND) == 0
        assert process.said.read_text() == ""


def test_a_host_that_reads_nothing_is_left_at_sigterm(world: World) -> None:
    with running(world.home, "-m", "a2a", "mcp") as process:
        out, into = process.popen.stdout, process.popen.stdin
        assert out is not None and into is not None
        say(process, "ping", number=1)
        for number in range(2, 3_000):  # each answer is 36 bytes and more: together more than a pipe takes
            say(process, "ping", number=number)
        until(lambda: waiting_in(out) >= 65_000)
        assert process.end(signal.SIGTERM) == 0
        assert process.said.read_text() == ""


def test_it_may_start_before_its_coordinator_and_says_so_on_stderr(home: Path) -> None:
    with running(home, "-m", "a2a", "mcp", "--url", "ws://127.0.0.1:9") as process:
        until(lambda: "waits until it is there" in process.said.read_text())
        assert process.end(signal.SIGTERM) == 0
