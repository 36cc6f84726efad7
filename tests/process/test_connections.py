"""Connections that go bad while work is in hand: half-open, cut after any byte, or with a peer that stops reading."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed

import a2a
from a2a import Agent, Client, LinkSettings, TaskContext
from tests.chaos.audit import judge, read_ledger
from tests.chaos.processes import Post
from tests.chaos.proxy import Direction, proxy

pytestmark = pytest.mark.timeout(240)

BOUND = 100.0
NOTICED = 11.0
"""Seconds after which either end has missed the other: 5 of silence, 5 for the answer to a ping, 1 to close."""
SPARE = 9.0
"""What a machine with other things to do may add to that."""


@dataclass
class House:
    """A coordinator in a process of its own, a client of it, and what is needed to get in."""

    ledger: Path
    port: int
    client: Client
    settings: LinkSettings

    def through(self, port: int) -> LinkSettings:
        """Return settings that lead through a proxy."""
        token, secrets = self.settings.token, self.settings.secrets
        return LinkSettings(url=f"ws://127.0.0.1:{port}", token=token, secrets=secrets, patience=float("inf"))


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    ledger = folder / "ledger.db"
    command = ("-m", "a2a", "coordinator", "run", "--listen", "127.0.0.1:0", "--db", str(ledger), "--ready-json")
    coordinator = Post("coordinator", command, folder, {"A2A_STATE_DIR": str(folder / "state")})
    try:
        await coordinator.start()
        ready = json.loads(await coordinator.line())
        token = Path(ready["tokenFile"]).read_text().strip()
        settings = LinkSettings(url=ready["url"], token=token, secrets={})
        async with asyncio.timeout(BOUND), a2a.connect(name="client", settings=settings) as client:
            yield House(ledger, int(ready["url"].rpartition(":")[2]), client, settings)
        await coordinator.end()
    finally:
        await coordinator.clear_away()


@asynccontextmanager
async def running(agent: Agent, settings: LinkSettings) -> AsyncIterator[None]:
    """Run an agent for the time of the block."""
    serving = asyncio.create_task(agent.run(settings=settings))
    try:
        yield
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def work_through_a_bad_line(house: House, *swallowed: Direction) -> float:
    """Have the line of an agent at work go bad; return how long it was until it was back."""
    name = "-".join(swallowed)
    agent, begun, may_end = Agent(name), asyncio.Event(), asyncio.Event()

    @agent.skill(id=name)
    async def work(task: TaskContext) -> int:
        begun.set()
        await may_end.wait()
        return task.attempt

    async with proxy(house.port) as line, running(agent, house.through(line.port)):
        async with house.client.delegate(name, key=name) as task:
            await begun.wait()
            line.changed.clear()
            line.swallow(*swallowed)
            since = time.monotonic()
            await line.changed.wait()
            seconds = time.monotonic() - since
            may_end.set()
            assert await task.result() == 1, "the same attempt goes on"
    return seconds


async def test_a_line_that_is_half_open_or_not_read_is_noticed_and_the_work_goes_on(tmp_path: Path) -> None:
    """All at once, since each is 10 s of waiting: swallowed one way, the other, both; and a peer that reads nothing."""
    agent = echo()
    async with house(tmp_path) as coordinator, running(agent, coordinator.settings):
        kinds: list[tuple[Direction, ...]] = [("up",), ("down",), ("up", "down")]
        half_open = (work_through_a_bad_line(coordinator, *kind) for kind in kinds)
        (deaf, calls), *seconds = await asyncio.gather(serve_beside_a_deaf_peer(coordinator, 14_000_000), *half_open)
    assert max(deaf, *seconds) < NOTICED + SPARE
    assert deaf > 5, "little waits for it: it is dropped for how long it does"
    assert calls > 5, "meanwhile others are served"
    assert judge(await read_ledger(coordinator.ledger)).wrong() == []


async def test_a_peer_that_leaves_too_much_unread_is_dropped_at_once(tmp_path: Path) -> None:
    agent = echo()
    async with house(tmp_path) as coordinator, running(agent, coordinator.settings):
        seconds, _ = await serve_beside_a_deaf_peer(coordinator, 30_000_000)
    assert seconds < NOTICED + SPARE


async def test_a_line_that_is_cut_after_any_byte_loses_nothing(tmp_path: Path) -> None:
    """In the handshake, in the hello, between two frames and inside of one; of the agent and of the client."""
    agent = Agent("doubler")

    @agent.skill
    async def double(number: int) -> int:
        return 2 * number

    places: list[tuple[int, Direction]] = [
        (octets, direction) for octets in (1, 100, 260, 400, 700, 900, 1200, 1500) for direction in ("up", "down")
    ]
    async with house(tmp_path) as coordinator, proxy(coordinator.port) as line:
        settings = coordinator.through(line.port)
        async with running(agent, settings):
            assert await coordinator.client.call("double", {"number": 0}, "known") == 0
        for number, (octets, direction) in enumerate(places, 1):
            came = line.connections
            line.cut_next_after(octets, direction)
            async with running(agent, settings):
                assert await coordinator.client.call("double", {"number": number}, f"agent-{number}") == 2 * number
                line.cut_next_after(octets, direction)
                async with a2a.connect(name="client", settings=settings) as client:
                    assert await client.call("double", {"number": -number}, f"client-{number}") == -2 * number
            assert line.connections > came + 2 or octets > 400, "what was cut in its handshake came again"
    found = judge(await read_ledger(coordinator.ledger))
    assert (found.wrong(), found.tasks) == ([], 2 * len(places) + 1)


def echo() -> Agent:
    agent = Agent("echo")

    @agent.skill
    async def echo(text: str) -> str:
        return text

    return agent


async def serve_beside_a_deaf_peer(house: House, octets: int) -> tuple[float, int]:
    """Have a peer ask for so much and read nothing; return how long it stayed, and how many others were served."""
    client = house.client
    async with client.delegate("echo", {"text": "x" * 200_000}, "large") as large:
        await large.result()
    changes = client.watch_agents()
    async with deaf_peer(house, asks_for=large.id, times=octets // 400_000):
        while (change := await anext(changes)).agent.agent_id != "deaf":
            pass
        assert change.change == "joined"
        dropped, calls = asyncio.create_task(left(changes, "deaf")), 0
        since = time.monotonic()
        while not dropped.done():
            assert await client.call("echo", {"text": "small"}, f"small-{calls}") == "small"
            calls += 1
        await dropped
        seconds = time.monotonic() - since
    await changes.aclose()
    return seconds, calls


async def left(changes: Any, agent: str) -> None:
    while (change := await anext(changes)).agent.agent_id != agent or change.change != "left":
        pass


@asynccontextmanager
async def deaf_peer(house: House, *, asks_for: str, times: int) -> AsyncIterator[None]:
    """Be an agent that asks for a large task so many times, and reads none of the answers."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", house.port))
    options: dict[str, Any] = {"subprotocols": ["a2a.coord+json"], "compression": None, "max_queue": 1}
    async with connect_websocket(house.settings.url, sock=sock, ping_interval=None, close_timeout=1, **options) as peer:

        async def send(kind: str, body: dict[str, Any], **envelope: Any) -> None:
            await peer.send(json.dumps({"id": str(uuid.uuid4()), "kind": kind, **envelope, "body": body}))

        skill = {"id": "nothing", "name": "nothing", "description": "Nothing", "tags": ["none"]}
        card = {"name": "deaf", "description": "It does not listen", "version": "1.0", "skills": [skill]}
        hello = {"versions": ["1.0", "1.0"], "agentId": "deaf", "instanceId": str(uuid.uuid4()), "card": card}
        await send("hello", {**hello, "incarnation": 1, "token": house.settings.token, "credit": {"tasks": 1}})
        await peer.recv()
        peer.transport.pause_reading()
        with suppress(ConnectionClosed):
            for _ in range(times):
                await send("task.get", {}, task=asks_for)
        yield
        peer.transport.abort()
