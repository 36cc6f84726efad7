"""What passes a tap is what was sent, in both encodings, and is told without what opens a door."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import msgpack
import pytest

from a2a import Agent, connect
from a2a import tap as module
from a2a.protocol.codec import JSON, MSGPACK
from a2a.tap import Passed, Tap
from a2a.testing import squad
from a2a.transports.base import Transport
from a2a.transports.websocket import Listener, serve
from a2a.transports.websocket import connect as dial

BOUND = 20


@asynccontextmanager
async def tapped(url: str) -> AsyncIterator[tuple[Listener, list[Passed]]]:
    """Have a tap before a coordinator; yield where it listens, and what it tells."""
    told: list[Passed] = []
    listener = await Tap(url, told.append).listen(0)
    try:
        yield listener, told
    finally:
        with anyio.CancelScope(shield=True):
            await listener.aclose()


def kinds(told: list[Passed]) -> list[tuple[bool, str]]:
    return [(passed.is_from_peer, passed.frame["kind"]) for passed in told if passed.frame is not None]


@pytest.mark.parametrize("encoding", [MSGPACK, JSON])
async def test_a_client_works_through_it_and_every_frame_is_told(helper: Agent, encoding: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, tapped(running.url) as (listener, told):
            settings = replace(running.settings, url=listener.url, encodings=(encoding,))
            async with connect(name="tester", settings=settings) as client:
                assert await client.call("count_words", {"text": "a b"}) == {"words": 2}
    seen = kinds(told)
    assert seen[:4] == [(True, "hello"), (False, "welcome"), (True, "task.delegate"), (False, "task.created")]
    assert (False, "task.settled") in seen
    assert {passed.agent.partition("#")[0] for passed in told[1:]} == {"tester"}
    assert {passed.connection for passed in told} == {1}
    hello = next(passed.frame for passed in told if passed.frame and passed.frame["kind"] == "hello")
    assert (hello["body"]["token"], hello["body"]["secret"]) == ("(hidden)", "(hidden)")
    given = next(passed.frame for passed in told if passed.frame and passed.frame["kind"] == "task.delegate")
    assert json.loads(given["payload"]) == [{"data": {"text": "a b"}}]
    assert [told[0].note, told[0].agent] == ["has connected", ""]


async def test_a_large_result_comes_whole(helper: Agent) -> None:
    large = "x" * 3_000_000
    agent = Agent("large")

    @agent.skill
    async def make() -> list[str]:
        return [large[:1_500_000]]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, tapped(running.url) as (listener, _):
            async with connect(settings=replace(running.settings, url=listener.url)) as client:
                for _ in range(3):
                    assert await client.call("make") == [large[:1_500_000]]


class Ends:
    """A receiver that keeps what came."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.came: list[bytes] = []
        self.reason: str | None = None
        self._news = anyio.Event()

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        self._tell()

    def received(self, data: bytes) -> None:
        self.came.append(data)
        self._tell()

    def closed(self, reason: str) -> None:
        self.reason = reason
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, is_so: Any) -> None:
        while not is_so():
            await self._news.wait()


@asynccontextmanager
async def between() -> AsyncIterator[tuple[Ends, Ends, list[Passed]]]:
    """Yield a peer, the coordinator's end of its connection through a tap, and what the tap tells."""
    far, near = Ends(), Ends()
    listener = await serve("127.0.0.1", 0, lambda: far)
    try:
        async with tapped(listener.url) as (tap, told):
            await dial(tap.url, near, subprotocols=(JSON,))
            yield near, far, told
    finally:
        with anyio.CancelScope(shield=True):
            await listener.aclose()


async def test_what_is_no_frame_passes_as_it_is_and_is_told_as_such() -> None:
    with anyio.fail_after(BOUND):
        async with between() as (near, far, told):
            assert near.transport is not None
            near.transport.send(b"no frame")  # before the coordinator's connection stands
            near.transport.send(b'{"kind":"x"}\n{"kind":"hello","body":[]}')
            await far.until(lambda: len(far.came) == 2)
            assert far.came == [b"no frame", b'{"kind":"x"}\n{"kind":"hello","body":[]}']
            assert far.transport is not None
            far.transport.send(b'{"kind":"y"}')
            await near.until(lambda: near.came)
    assert near.came == [b'{"kind":"y"}']
    assert told[1].note == "8 bytes that are no frames (Expecting value: line 1 column 1 (char 0)): b'no frame'"
    assert kinds(told) == [(True, "x"), (True, "hello"), (False, "y")]


@pytest.mark.parametrize("who", ["peer", "coordinator"])
async def test_the_end_of_one_connection_is_that_of_the_other(who: str) -> None:
    with anyio.fail_after(BOUND):
        async with between() as (near, far, told):
            await far.until(lambda: far.transport)
            leaving, left = (near, far) if who == "peer" else (far, near)
            assert leaving.transport is not None
            leaving.transport.close(1000, "enough")
            await left.until(lambda: left.reason is not None)
    assert [passed.is_from_peer for passed in told if "closed" in passed.note][0] is (who == "peer")


async def test_where_no_coordinator_is_the_peer_is_turned_away_and_it_is_told() -> None:
    near = Ends()
    with anyio.fail_after(BOUND):
        async with tapped("ws://127.0.0.1:1") as (listener, told):
            await dial(listener.url, near)
            await near.until(lambda: near.reason is not None)
    assert told[1].note.startswith("nothing listens at 127.0.0.1:1"), told[1].note


async def test_a_peer_that_leaves_before_the_coordinator_is_reached_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    far, near, has_left = Ends(), Ends(), anyio.Event()
    real = module.connect

    async def late(*given: Any, **named: Any) -> Any:
        await has_left.wait()
        return await real(*given, **named)

    monkeypatch.setattr(module, "connect", late)
    with anyio.fail_after(BOUND):
        listener = await serve("127.0.0.1", 0, lambda: far)
        try:
            async with tapped(listener.url) as (tap, _):
                await dial(tap.url, near, subprotocols=(JSON,))
                assert near.transport is not None
                near.transport.abort()
                has_left.set()
                await far.until(lambda: far.reason is not None)
        finally:
            await listener.aclose()


class End:
    """A transport that keeps what it is told to do."""

    subprotocol, waiting = JSON, 0

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.drained: Any = None

    def send(self, data: bytes) -> None:
        self.done.append(data)

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def when_drained(self, call: Any) -> None:
        self.drained = call


def test_what_came_before_the_coordinator_was_reached_goes_out_first() -> None:
    line, peer, coordinator = module._Line(Tap("ws://x", lambda _: None), 1), End(), End()
    line.peer.transport = peer  # type: ignore[assignment]
    line.peer.received(b"1")
    line.coordinator.opened(coordinator)  # type: ignore[arg-type]
    line.peer.received(b"2")
    assert coordinator.done == [b"1", b"2"]


def test_an_end_that_reads_slowly_holds_up_the_other() -> None:
    line, peer, coordinator = module._Line(Tap("ws://x", lambda _: None), 1), End(), End()
    line.peer.transport, line.coordinator.transport = peer, coordinator  # type: ignore[assignment]
    line.peer.received(b"1")
    assert peer.done == []
    coordinator.waiting = 1024 * 1024 + 1
    line.peer.received(b"2")
    assert peer.done == ["pause"]
    coordinator.drained()
    assert peer.done == ["pause", "resume"]
    assert coordinator.done == [b"1", b"2"]


async def test_what_opens_a_door_is_hidden_also_where_the_hello_cannot_be_read() -> None:
    with anyio.fail_after(BOUND):
        async with between() as (near, far, told):
            assert near.transport is not None
            near.transport.send(b'{"kind":"hello","body":{"token":"open-sesame","secret":"x"')
            near.transport.send(b"x" * 101)
            await far.until(lambda: len(far.came) == 2)
    assert told[1].note.endswith("""b'{"kind":"hello","body":{"token'...""")
    assert told[2].note.endswith("x'...")
    assert "sesame" not in str(told)


async def test_what_json_has_no_form_for_is_told_as_text() -> None:
    odd = {"kind": "x", "payload": b"[1]", 3: None, "ext": msgpack.ExtType(5, b"a"), "bad": [b"\xff"]}
    far, near = Ends(), Ends()
    with anyio.fail_after(BOUND):
        listener = await serve("127.0.0.1", 0, lambda: far)
        try:
            async with tapped(listener.url) as (tap, told):
                await dial(tap.url, near, subprotocols=(MSGPACK,))
                assert near.transport is not None
                near.transport.send(msgpack.packb(odd))
                await far.until(lambda: far.came)
        finally:
            await listener.aclose()
    assert far.came == [msgpack.packb(odd)]
    shown = {"kind": "x", "payload": "[1]", "3": None, "ext": "ExtType(code=5, data=b'a')", "bad": ["\\xff"]}
    assert [passed.frame for passed in told if passed.frame] == [shown]
