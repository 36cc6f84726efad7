"""The gateway as a process: what a caller keeps when it, or the coordinator behind it, is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import Any

import httpx2
import pytest

from a2a.protocol.operations import BINDING
from tests.process.running import AGENT, BOUND, Running, running, until


class World:
    """A coordinator, an agent and a gateway, which die and are started again where they were."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack
        (home / "helper.py").write_text(AGENT)
        self.coordinator, told = self.start("coordinator", "run", "--listen", "127.0.0.1:0", "--db", "ledger.db")
        self.url = told["url"]
        os.environ["A2A_URL"] = self.url
        stack.callback(os.environ.pop, "A2A_URL", None)
        self.agent = stack.enter_context(running(home, "helper.py"))
        self.gateway, told = self.start("gateway", "--listen", "127.0.0.1:0", "--bearer-file", self._token())
        self.at = told["url"]
        self.caller = httpx2.Client(base_url=self.at, headers={"Authorization": "Bearer t", "A2A-Version": "1.0"})
        self.caller.timeout = httpx2.Timeout(BOUND)
        stack.callback(self.caller.close)

    def _token(self) -> str:
        (self.home / "bearer").write_text("t")
        return "bearer"

    def start(self, *arguments: str) -> tuple[Running, dict[str, Any]]:
        """Start a command that says when it is ready."""
        process = self._stack.enter_context(running(self.home, "-m", "a2a", *arguments, "--json"))
        return process, process.ready()

    def kill(self, who: str) -> None:
        """Kill a process and start it again at its address."""
        process = self.gateway if who == "gateway" else self.coordinator
        assert process.end(signal.SIGKILL) == -signal.SIGKILL
        if who == "gateway":
            self.gateway, _ = self.start("gateway", "--listen", self.at[7:], "--bearer-file", "bearer")
        else:
            self.coordinator, _ = self.start("coordinator", "run", "--listen", self.url[5:], "--db", "ledger.db")

    def until(self, name: str) -> None:
        """Wait for a file of the agent's."""
        until((self.home / name).exists)

    def send(self, path: str = "/message:send") -> Any:
        message = {"messageId": "m1", "role": "ROLE_USER", "parts": [{"data": {}}]}
        request = {"message": message | {"metadata": {BINDING: {"skill": "wait"}}}}
        return self.caller.stream("POST", path, json=request)


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(home, stack)


def in_thread(call: Callable[[], Any]) -> Queue[Any]:
    """Call in another thread, and return where its result, or what it raised, will be."""
    came: Queue[Any] = Queue()

    def run() -> None:
        try:
            came.put(call())
        except httpx2.HTTPError as error:
            came.put(error)

    threading.Thread(target=run, daemon=True).start()
    return came


def events(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    number = -1
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            number = int(value)
        elif name == "data":
            yield number, json.loads(value)


def whole(world: World) -> dict[str, Any]:
    with world.send() as answered:
        found: dict[str, Any] = json.loads(answered.read())
    return found


@pytest.mark.parametrize("who", ["gateway", "coordinator"])
def test_a_message_that_waits_is_the_same_task_after_a_kill(world: World, who: str) -> None:
    first = in_thread(lambda: whole(world))
    world.until("begun")
    world.kill(who)
    if who == "gateway":
        assert isinstance(first.get(timeout=BOUND), httpx2.HTTPError)
        again = in_thread(lambda: whole(world))
    else:
        again = first  # the gateway asks again by itself
    (world.home / "go").touch()
    task = again.get(timeout=BOUND)["task"]
    assert task["status"]["state"] == "TASK_STATE_COMPLETED"
    assert whole(world)["task"] == task
    assert world.caller.get("/tasks").json()["totalSize"] == 1
    assert (world.home / "runs").read_text() == "run\n"
    assert world.gateway.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("who", ["gateway", "coordinator"])
def test_a_stream_goes_on_without_a_gap_after_a_kill(world: World, who: str) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []
    with world.send("/message:stream") as answered:
        coming = events(answered.iter_lines())
        seen.append(next(coming))
        world.until("begun")
        while "artifactUpdate" not in seen[-1][1]:
            seen.append(next(coming))
        world.kill(who)
        if who == "coordinator":
            world.caller.get("/tasks")  # by the connection on which the stream goes on
            (world.home / "go").touch()
            seen += coming
        else:
            with pytest.raises(httpx2.HTTPError):
                list(coming)
    if who == "gateway":
        last, task = seen[-1][0], seen[0][1]["task"]["id"]
        headers = {"Last-Event-ID": str(last)}
        with world.caller.stream("POST", f"/tasks/{task}:subscribe", headers=headers) as answered:
            coming = events(answered.iter_lines())
            number, now = next(coming)
            assert (number, now["task"]["id"]) == (last, task)
            (world.home / "go").touch()
            seen += coming
    told = [event for _, event in seen]
    assert told[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [list(event) for event in told].count(["artifactUpdate"]) == 2, "the piece and the result, once each"
    updates = [one["statusUpdate"]["metadata"] for one in told if "statusUpdate" in one]
    generations = [one["generation"] for one in updates if one["event"] != "progress"]
    assert generations == [2, *range(4, generations[-1] + 1)], "the third is the piece"
    assert world.gateway.end(signal.SIGTERM) == 0


def test_each_caller_that_is_named_keeps_its_token_and_its_tasks_over_a_kill(world: World) -> None:
    (world.home / "go").touch()
    named, listen, found = ("--caller", "alice", "--caller", "bob"), "127.0.0.1:0", []
    for end in (signal.SIGKILL, signal.SIGTERM):
        gateway, told = world.start("gateway", "--listen", listen, *named)
        world.caller.base_url, listen = told["url"], told["url"].removeprefix("http://")
        tokens = {name: Path(path).read_text().strip() for name, path in told["tokenFiles"].items()}
        for token in tokens.values():
            world.caller.headers["Authorization"] = f"Bearer {token}"
            found.append(whole(world)["task"]["id"])
        gateway.end(end)
    assert list(tokens) == ["alice", "bob"]
    assert found[:2] == found[2:] and found[0] != found[1], "each has one task by its messageId"


def test_told_to_end_it_ends_in_order_whoever_waits(world: World) -> None:
    first = in_thread(lambda: whole(world))
    world.until("begun")
    with world.send("/message:stream") as answered:
        coming = events(answered.iter_lines())
        next(coming)
        world.gateway.popen.send_signal(signal.SIGTERM)
        assert "the gateway is stopping" in list(coming)[-1][1]["error"]["message"]
    (world.home / "go").touch()  # within the grace
    assert first.get(timeout=BOUND)["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert world.gateway.popen.wait(BOUND) == 0
    assert world.gateway.said.read_text() == ""


def test_it_may_start_before_its_coordinator_and_ends_without_one(home: Path) -> None:
    with running(home, "-m", "a2a", "gateway", "--listen", "127.0.0.1:0", "--url", "ws://127.0.0.1:9") as process:
        until(lambda: "waits until it is there" in process.said.read_text())
        assert process.end(signal.SIGTERM) == 0


def test_a_remote_agent_that_does_not_show_its_card_keeps_nobody_from_ending(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(BOUND)
        remote = ("agent", "remote", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with running(home, "-m", "a2a", *remote) as process, silent.accept()[0]:
            assert process.end(signal.SIGTERM) == 0
            assert process.said.read_text() == ""


def test_a_task_that_goes_to_another_coordinator_is_one_there_whoever_is_killed(world: World) -> None:
    coordinator, near = world.start("coordinator", "run", "--listen", "127.0.0.1:0", "--db", "near.db")
    remote = ("agent", "remote", world.at, "--bearer-file", "bearer", "--name", "far", "--url", near["url"])
    until(lambda: world.caller.get("/.well-known/agent-card.json").json()["skills"])
    agent, told = world.start(*remote)
    assert (told["agent"], told["skills"]) == ("far", ["wait"])
    delegate = ("-m", "a2a", "delegate", "wait", "--quiet", "--url", near["url"])
    with running(world.home, *delegate) as delegator:
        world.until("begun")
        assert agent.end(signal.SIGKILL) == -signal.SIGKILL
        world.kill("coordinator")
        agent, _ = world.start(*remote)
        world.kill("gateway")
        assert coordinator.end(signal.SIGKILL) == -signal.SIGKILL
        world.start("coordinator", "run", "--listen", near["url"][5:], "--db", "near.db")
        (world.home / "go").touch()
        assert delegator.popen.wait(BOUND) == 0, delegator.said.read_text()
        assert delegator.popen.stdout is not None
        assert delegator.popen.stdout.read() == b"done\n"
    assert world.caller.get("/tasks").json()["totalSize"] == 1
    assert (world.home / "runs").read_text() == "run\n"
    assert agent.end(signal.SIGTERM) == 0
    said = agent.said.read_text().splitlines()  # where the coordinator's start takes a while
    assert all("waits until it is back" in line for line in said), said


def test_a_gateway_of_its_own_coordinator_ends_the_command(world: World) -> None:
    until(lambda: world.caller.get("/.well-known/agent-card.json").json()["skills"])
    world.agent.end(signal.SIGTERM)  # its skills stay on the card
    agent, told = world.start("agent", "remote", world.at, "--bearer-file", "bearer")
    assert told["agent"] == f"remote-main@{world.at.removeprefix('http://')}"
    with running(world.home, "-m", "a2a", "delegate", "wait", "--quiet"):
        assert agent.popen.wait(BOUND) == 1
    card = f"{world.at}/.well-known/agent-card.json"
    assert agent.said.read_text() == f"a2a: {card} leads to the same coordinator, {world.url}: a task came back\n"
