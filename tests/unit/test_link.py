"""The link of a peer to its coordinator: who is let in, what a lost connection costs, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from a2a import link as link_module
from a2a.credentials import (
    DEFAULT_URL,
    StateDirectoryError,
    coordinator_dir,
    load_secret,
    provide_secret,
    provide_tokens,
    secret_files,
)
from a2a.engine.delegation import Delegation
from a2a.engine.policy import Policy
from a2a.engine.work import Start, Stop
from a2a.errors import (
    CODES,
    ConnectError,
    ConnectionLost,
    ErrorCode,
    Malformed,
    NotFound,
    QuotaExceeded,
    TooLarge,
    Unavailable,
)
from a2a.link import Link, LinkSettings, refused
from a2a.protocol.codec import JSON, MSGPACK, Decoder, Encoding, Frame, FrameLimits, encode
from a2a.protocol.messages import (
    A2ACall,
    A2AEvent,
    AgentEvent,
    AgentInfo,
    Bye,
    ClaimAcquire,
    ClaimRenew,
    Credit,
    Error,
    HeldVerdict,
    Limits,
    MailboxAck,
    Message,
    Ok,
    TaskCreated,
    TaskDelegate,
    TaskFound,
    TaskGet,
    TaskHeartbeat,
    TaskLimits,
    TaskOffer,
    TaskReport,
    TaskVerdict,
    TaskWatch,
    Unknown,
    Welcome,
)
from a2a.protocol.session import Identity, Notice
from a2a.server import Server
from a2a.stores.memory import MemoryStore
from a2a.transports import memory
from a2a.transports.base import Receiver, Transport
from a2a.transports.memory import pair
from a2a.transports.sending import BUSY_PING, IDLE_PING
from a2a.transports.websocket import WebSocketSettings

BOUND = 20
FOREVER = float("inf")

NOT_YET = Error("denied", "come back later", retryable=True)
NEVER = Error("forbidden", "not you")
WRONG_SECRET = Error("auth", "helper is bound to a secret, and another one was shown")

CARD: Any = {"name": "helper", "description": "Helps with tests", "version": "1", "skills": []}

Door = Exception | Message | Callable[["Connection"], Message | None] | None
"""What becomes of one try: it fails, the hello is answered with this, or with what this returns, or not at all."""


def welcome(*, secret: str | None = None, next_mseq: int = 1) -> Welcome:
    limits = Limits(4_000_000, 2_000_000, 1024, 1000, 256, 16_000_000, 5_000, 30_000)
    return Welcome("1.0", "main", 1, "memory", limits, next_mseq, secret=secret)


def mail(mseq: int, message: Message) -> Frame:
    return Frame(f"mail {mseq}", message, mseq=mseq)


def event(agent: str) -> AgentEvent:
    return AgentEvent("joined", AgentInfo(agent, CARD, "ready"))


class Connection:
    """The coordinator's end of one connection."""

    def __init__(self, coordinator: Coordinator, door: Door) -> None:
        self.coordinator = coordinator
        self.door = door
        self.transport: Transport
        self.messages: list[list[Frame]] = []
        """What came, one list of frames for each message of the transport."""
        self.end: str | None = None

    def opened(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, data: bytes) -> None:
        frames = Decoder(self.coordinator.encoding).decode(data)
        assert all(isinstance(frame, Frame) for frame in frames)
        self.messages.append([frame for frame in frames if isinstance(frame, Frame)])
        if len(self.messages) == 1 and self.door is not None:
            answer = self.door(self) if callable(self.door) else self.door
            assert not isinstance(answer, Exception)
            if answer is not None:
                self.answer_hello(answer)
        self.coordinator.news.set()

    def closed(self, reason: str) -> None:
        self.end = reason
        self.coordinator.news.set()

    @property
    def frames(self) -> list[Frame]:
        return [frame for frames in self.messages for frame in frames]

    @property
    def hello(self) -> Any:
        return self.frames[0].message

    @property
    def requests(self) -> list[Frame]:
        """What came behind the hello."""
        return self.frames[1:]

    def answer_hello(self, answer: Message) -> None:
        self.send(Frame("answer", answer, re=self.frames[0].id))
        if isinstance(answer, Error):
            self.transport.close(1008, "refused")

    def send(self, *frames: Frame) -> None:
        self.transport.send(encode(frames, self.coordinator.encoding))

    def answer(self, request: Frame, message: Message) -> None:
        self.send(Frame(f"to {request.id}", message, re=request.id))


class Coordinator:
    """A coordinator that does what the test says; what is behind its door answers nothing of its own accord."""

    def __init__(self) -> None:
        self.encoding: Encoding = MSGPACK
        self.doors: deque[Door] = deque()
        """What becomes of the next tries; all others are welcomed."""
        self.always: Door = welcome()
        """What becomes of those."""
        self.tries = 0
        self.connections: list[Connection] = []
        self.news = anyio.Event()

    async def dial(self, receiver: Receiver) -> None:
        self.tries += 1
        door = self.doors.popleft() if self.doors else self.always
        if isinstance(door, Exception):
            raise door
        connection = Connection(self, door)
        self.connections.append(connection)
        pair(receiver, connection, subprotocol=self.encoding)

    async def until(self, is_so: Callable[[], object]) -> None:
        while not is_so():
            self.news = anyio.Event()
            await self.news.wait()

    async def greeted(self, number: int = 0) -> Connection:
        """Wait for the hello of a connection."""
        await self.until(lambda: len(self.connections) > number and self.connections[number].messages)
        return self.connections[number]

    async def asked(self, count: int, number: int = 0) -> list[Frame]:
        """Wait for so many frames behind the hello of a connection."""
        connection = await self.greeted(number)
        await self.until(lambda: len(connection.requests) >= count)
        return connection.requests


class Haste:
    """asyncio as the link sees it, where nothing but pauses takes time, and those only by its clock."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._loops: dict[Any, HastyLoop] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def get_running_loop(self) -> Any:
        return self._loops.setdefault(asyncio.get_running_loop(), HastyLoop(self))


class HastyLoop:
    def __init__(self, haste: Haste) -> None:
        self._haste = haste
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        return sum(self._haste.pauses)

    def call_later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> Any:
        if call.__name__ != "_say_again":
            return self._loop.call_later(seconds, call, *arguments)
        self._haste.pauses.append(seconds)
        return self._loop.call_later(0, call, *arguments)


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> Haste:
    haste = Haste()
    monkeypatch.setattr(link_module, "asyncio", haste)
    return haste


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> anyio.Event:
    """Give an event that is set when the link pauses before its next try, which it then does for good."""
    paused = anyio.Event()

    class Rest(Haste):
        async def sleep(self, seconds: float) -> None:
            paused.set()
            await anyio.sleep_forever()

    monkeypatch.setattr(link_module, "asyncio", Rest())
    return paused


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


MakeLink = Callable[..., Link]


@pytest.fixture
async def make_link(coordinator: Coordinator) -> AsyncIterator[MakeLink]:
    """Give a function that makes links to the coordinator; they are closed at the end."""
    links: list[Link] = []

    def make(identity: Identity | None = None, *, listeners: dict[str, Any] | None = None, **settings: Any) -> Link:
        chosen: dict[str, Any] = {"dial": coordinator.dial, "token": "t", "secrets": {}} | settings
        who = identity or Identity("helper", "i1", 1)
        links.append(Link(LinkSettings(**chosen), who, **(listeners or {})))
        return links[-1]

    yield make
    with anyio.fail_after(BOUND):
        for link in links:
            await link.aclose()


def found(task: str) -> TaskFound:
    return TaskFound(task, 1, {"id": task})


# --- the door


async def test_a_link_says_who_it_is_and_stands_when_it_is_welcomed(coordinator, make_link):
    identity = Identity("helper#7", "i1", 3, card=CARD, labels={"room": "blue"})
    link = make_link(identity, listeners={"credit": Credit(tasks=4)})
    coordinator.doors.append(None)
    with anyio.fail_after(BOUND):
        opening = asyncio.create_task(link.open())
        connection = await coordinator.greeted()
        hello = connection.hello
        assert (hello.kind, hello.agent_id, hello.instance_id, hello.incarnation) == ("hello", "helper#7", "i1", 3)
        assert (hello.token, hello.secret, hello.operator_token) == ("t", link.settings.secrets["helper"], None)
        assert (hello.card, hello.labels, hello.credit.tasks) == (CARD, {"room": "blue"}, 4)
        assert (hello.held, hello.resume) == ([], None)
        assert not opening.done()

        connection.answer_hello(welcome())
        await opening
    assert link.session.is_open
    assert not link.has_ended


@pytest.mark.parametrize("patience", [0.0, FOREVER])
async def test_a_refusal_at_the_door_is_told_and_final(coordinator, make_link, haste, patience):
    coordinator.always = NEVER
    link = make_link(patience=patience)
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match=f"^{DEFAULT_URL} refused helper: forbidden: not you$"):
            await link.open()
    assert coordinator.tries == 1
    assert link.has_ended


async def test_a_refusal_that_may_pass_is_tried_again_with_longer_and_longer_pauses(coordinator, make_link, haste):
    coordinator.doors.extend([NOT_YET] * 4)
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
    assert coordinator.tries == 5
    assert_growing(haste.pauses)


async def test_a_refusal_that_may_pass_is_told_when_patience_ends(coordinator, make_link, haste):
    coordinator.always = NOT_YET
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="refused helper: denied: come back later"):
            await make_link().open()
        assert coordinator.tries == 1
        with pytest.raises(ConnectError, match="refused helper: denied: come back later"):
            await make_link(patience=1.0).open()
    assert_ended_after(haste.pauses, 1.0)


def hang_up(connection: Connection) -> None:
    connection.transport.close(1000, "no time")


@pytest.mark.parametrize("patience", [0.0, 1.0])
async def test_a_coordinator_that_hangs_up_without_a_welcome_is_given_up_when_patience_ends(
    coordinator, make_link, haste, patience
):
    coordinator.always = hang_up
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="there was no welcome from .*: .*no time"):
            await make_link(patience=patience).open()
    assert_ended_after(haste.pauses, patience)
    assert_growing(haste.pauses)


async def test_a_coordinator_that_does_not_answer_the_hello_is_left(coordinator, make_link, haste, monkeypatch):
    monkeypatch.setattr(link_module, "WELCOMED_WITHIN", 0.02)
    coordinator.always = None
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="there was no welcome from .*: .* no answer to the hello within 0.02 s"):
            await make_link(patience=0).open()
        coordinator.doors.extend([None, welcome()])
        await make_link(patience=FOREVER).open()
        assert [connection.end is None for connection in coordinator.connections] == [False, False, True]


@pytest.mark.parametrize("door", [welcome(), NOT_YET])
async def test_nothing_waits_for_an_answer_to_the_hello_when_it_is_there(coordinator, make_link, paused, door):
    coordinator.doors.append(door)
    link = make_link(patience=FOREVER)
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(link.open)
            await coordinator.until(lambda: coordinator.connections)
            if door is NOT_YET:
                await paused.wait()
            else:
                await coordinator.greeted(0)
                await link._welcomed
            assert link._greeting is None
            group.cancel_scope.cancel()


async def test_a_link_that_was_let_in_before_may_still_be_refused(coordinator, make_link, haste):
    link = make_link()
    coordinator.doors.append(welcome())
    coordinator.always = NEVER
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        await coordinator.asked(1)
        coordinator.connections[0].transport.abort()
        with pytest.raises(ConnectError, match="refused helper: forbidden"):
            await link.wait_closed()
        with pytest.raises(ConnectError, match="refused helper: forbidden"):
            await call
    assert link.has_ended


# --- patience and back-off


def assert_growing(pauses: list[float], first: float = 0.05, longest: float = 5.0) -> None:
    """Each pause is from the upper half of a range, which doubles up to the longest."""
    for number, pause in enumerate(pauses):
        most = min(first * 2**number, longest)
        assert most / 2 <= pause <= most, (number, pause)


def assert_ended_after(pauses: list[float], seconds: float) -> None:
    """The first try after so many seconds was the last."""
    assert sum(pauses[:-1]) < seconds <= sum(pauses) or (seconds == 0.0 and not pauses)


async def test_without_patience_the_first_failure_is_told(coordinator, make_link):
    coordinator.always = ConnectError("nobody there")
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="nobody there"):
            await make_link().open()
    assert coordinator.tries == 1


async def test_with_patience_it_is_tried_again_until_that_ends(coordinator, make_link, haste):
    coordinator.always = ConnectError("nobody there")
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="nobody there"):
            await make_link(patience=60.0).open()
    assert_ended_after(haste.pauses, 60.0)
    assert_growing(haste.pauses)
    assert max(haste.pauses) > 2.5, "the longest was reached"


async def test_a_process_that_starts_before_its_coordinator_finds_it(coordinator, make_link, haste):
    coordinator.doors.extend([ConnectError("nobody there")] * 100)
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
    assert coordinator.tries == 101


async def test_a_coordinator_that_stays_away_is_missed_once(coordinator, make_link, haste, caplog):
    restarting, gone = [ConnectError("nobody there")] * 3, [ConnectError("nobody there")] * 20
    coordinator.doors.extend([*gone, welcome(), *restarting, welcome(), *gone, welcome(), *gone, welcome()])
    link = make_link(patience=FOREVER)
    with anyio.fail_after(BOUND):
        await link.open()
        url = link.settings.url
        for number, times in ((0, 0), (1, 0), (2, 1), (3, 2)):
            await coordinator.greeted(number)
            while not link.session.is_open:
                await anyio.lowlevel.checkpoint()
            first = ["nobody there; helper waits until it is there", f"{url} is there"]
            later = ["nobody there; helper waits until it is back", f"{url} is back"] * times
            assert caplog.messages == first + later
            coordinator.connections[number].transport.abort()


async def test_an_address_that_is_none_is_told_at_once_for_all_patience(coordinator, make_link):
    coordinator.always = ConnectError("ws:// is not an address", is_final=True)
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="not an address"):
            await make_link(patience=FOREVER).open()
    assert coordinator.tries == 1


async def test_patience_ends_with_the_first_welcome_and_begins_not_again(coordinator, make_link, haste):
    link = make_link()
    coordinator.doors.extend([welcome(), *[ConnectError("restarting")] * 50, NOT_YET, None, welcome()])
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].transport.abort()
        (await coordinator.greeted(2)).transport.abort()
        await coordinator.greeted(3)
        await coordinator.until(lambda: link.session.is_open)
    assert coordinator.tries == 54


async def test_what_cannot_be_reached_any_more_for_good_ends_the_link(coordinator, make_link, haste):
    link = make_link(patience=FOREVER)
    coordinator.doors.extend([welcome(), ConnectError("gone"), ConnectError("moved", is_final=True)])
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].transport.abort()
        with pytest.raises(ConnectError, match="moved"):
            await link.wait_closed()
        with pytest.raises(ConnectionLost, match="the link is closed: moved"):
            await link.call(TaskGet("t1"))
        await link.aclose()
        assert str(link.lost()) == "the link was closed: moved"


async def test_the_pauses_begin_anew_after_a_welcome(coordinator, make_link, haste):
    link = make_link(patience=FOREVER)
    away = [ConnectError("nobody there")] * 8
    coordinator.doors.extend([*away, welcome(), *away, welcome()])
    with anyio.fail_after(BOUND):
        await link.open()
        assert_growing(haste.pauses)
        coordinator.connections[0].transport.abort()
        await coordinator.greeted(1)
    assert len(haste.pauses) == 8 + 1 + 8
    assert_growing(haste.pauses[8:])


async def test_the_pauses_do_not_begin_anew_for_a_coordinator_that_only_hangs_up(coordinator, make_link, haste):
    link = make_link()
    coordinator.doors.extend([welcome(), *[hang_up] * 8, welcome()])
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].transport.abort()
        await coordinator.greeted(9)
    assert len(haste.pauses) == 9
    assert_growing(haste.pauses)


async def test_a_bug_in_the_way_to_connect_ends_the_link_and_is_raised(coordinator, make_link):
    coordinator.always = RuntimeError("a bug")
    with anyio.fail_after(BOUND):
        with pytest.raises(RuntimeError, match="a bug"):
            await make_link(patience=FOREVER).open()


# --- a lost connection


async def test_requests_without_an_answer_are_repeated_with_the_same_ids_in_order(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        calls = [asyncio.create_task(link.call(TaskGet(f"t{number}"))) for number in range(3)]
        sent = await coordinator.asked(3)
        coordinator.connections[0].answer(sent[1], found("t1"))
        assert await calls[1] == found("t1")

        coordinator.connections[0].transport.abort()
        again = await coordinator.asked(2, number=1)
        assert again == [sent[0], sent[2]]
        for request in again:
            coordinator.connections[1].answer(request, found(request.message.task))
        assert [await call for call in calls] == [found("t0"), found("t1"), found("t2")]

        coordinator.connections[1].transport.abort()
        await coordinator.greeted(2)
        await coordinator.until(lambda: link.session.is_open)
    assert coordinator.connections[2].requests == []
    assert link.session.waiting == 0
    assert link._replies == {}


@pytest.mark.parametrize("stands", [True, False])
async def test_what_stands_is_said_again_though_nobody_waits_for_its_answer(coordinator, make_link, haste, stands):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        waiting = asyncio.create_task(link.reply_to(link.session.request(TaskGet("t1")), stands=stands))
        sent = await coordinator.asked(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        coordinator.connections[0].transport.abort()
        await coordinator.greeted(1)
        last = asyncio.create_task(link.call(TaskGet("t2")))
        said = await coordinator.asked(1 + stands, number=1)
        last.cancel()
    assert [frame.message for frame in said] == [*(frame.message for frame in sent if stands), TaskGet("t2")]


async def test_a_lease_that_is_kept_counts_from_the_hello_that_asked_for_it(coordinator, make_link, haste):
    started: list[Any] = []
    link = make_link(listeners={"on_work": started.extend})
    kept = replace(welcome(next_mseq=2), held=[HeldVerdict("t1", 1, "keep", 60_000)])
    coordinator.doors.extend([welcome(), kept])
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer()))
        await coordinator.asked(1)
        before = link.now()
        coordinator.connections[0].transport.abort()
        await coordinator.asked(1, number=1)
        lease = started[0].attempt.lease_until
    assert before + 54_000 <= lease <= link.now() + 54_000


async def test_a_request_made_while_the_connection_is_away_is_sent_when_it_is_back(coordinator, make_link, haste):
    link = make_link(patience=FOREVER)
    coordinator.doors.extend([ConnectError("nobody there"), None])
    with anyio.fail_after(BOUND):
        opening = asyncio.create_task(link.open())
        connection = await coordinator.greeted()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        await anyio.lowlevel.checkpoint()
        assert connection.requests == []
        connection.answer_hello(welcome())
        await opening
        [request] = await coordinator.asked(1)
        connection.answer(request, found("t1"))
        assert await call == found("t1")


async def test_a_call_that_was_given_up_is_not_repeated(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        calls = [asyncio.create_task(link.call(TaskGet(f"t{number}"))) for number in range(2)]
        _, kept = await coordinator.asked(2)
        calls[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        coordinator.connections[0].transport.abort()
        await coordinator.asked(1, number=1)
        assert coordinator.connections[1].requests == [kept]
        calls[1].cancel()


async def test_an_answer_that_comes_as_its_caller_gives_up_is_no_trouble(coordinator, make_link, caplog):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, found("t1"))
        call.cancel()  # before the answer is delivered, and heard of after it
        with pytest.raises(asyncio.CancelledError):
            await call
    assert link.session.is_open
    assert caplog.text == ""


async def test_an_answer_that_comes_twice_or_too_late_is_no_trouble(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        calls = [asyncio.create_task(link.call(TaskGet(f"t{number}"))) for number in range(3)]
        first, given_up, last = await coordinator.asked(3)
        calls[1].cancel()
        connection = coordinator.connections[0]
        for request in (first, first, given_up, last):
            connection.answer(request, found(request.message.task))
        assert [await calls[0], await calls[2]] == [found("t0"), found("t2")]
    assert link.session.is_open


# --- no answer now

NOT_NOW = Error("unavailable", "the archive cannot be read", retryable=True)


@pytest.mark.parametrize("error", [NOT_NOW, Error("too_tired", "a code of a newer version", retryable=True)])
async def test_what_the_coordinator_cannot_answer_now_is_said_again_with_longer_and_longer_pauses(
    coordinator, make_link, haste, error
):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        for count in range(1, 7):
            requests = await coordinator.asked(count)
            coordinator.connections[0].answer(requests[-1], error)
        requests = await coordinator.asked(7)
        assert requests == requests[:1] * 7
        coordinator.connections[0].answer(requests[0], found("t1"))
        assert await call == found("t1")
    assert_growing(haste.pauses)
    assert len(haste.pauses) == 6
    assert (link._put_off, link.session.waiting) == ({}, 0)


async def test_what_the_coordinator_cannot_answer_for_long_is_told(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        count = 0
        while not call.done():
            await coordinator.until(lambda: call.done() or len(coordinator.connections[0].requests) > count)  # noqa: B023
            if len(coordinator.connections[0].requests) > count:
                count += 1
                coordinator.connections[0].answer(coordinator.connections[0].requests[-1], NOT_NOW)
                call.add_done_callback(lambda _: coordinator.news.set())
        with pytest.raises(Unavailable, match="the archive cannot be read"):
            await call
    assert 5.0 < sum(haste.pauses) <= link_module.SAID_AGAIN_FOR
    assert (link._put_off, link.session.waiting) == ({}, 0)


async def test_what_may_be_said_again_then_is_said_then_and_not_where_that_is_too_late(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, replace(NOT_NOW, retry_after_ms=7_000))
        await coordinator.asked(2)
        assert haste.pauses == [7.0]
        coordinator.connections[0].answer(request, replace(NOT_NOW, retry_after_ms=4_000))
        with pytest.raises(Unavailable) as refusal:
            await call
    assert (refusal.value.retry_after, haste.pauses) == (4.0, [7.0])


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (TaskGet("t1"), replace(NOT_NOW, retryable=False)),
        (TaskGet("t1"), Error("quota", "too many", retryable=True)),
        (ClaimAcquire(1, [{"name": "a", "mode": "x"}]), NOT_NOW),  # the time of a claim counts from when it was asked
        (ClaimRenew(7), NOT_NOW),
    ],
)
async def test_another_refusal_is_told_at_once(coordinator, make_link, haste, message, error):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(message))
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, error)
        with pytest.raises(CODES[ErrorCode(error.code)].error):
            await call
    assert haste.pauses == []


async def test_what_has_no_answer_now_is_asked_no_more_once_nobody_waits_or_the_link_ends(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        watched = link.contexts.watch("c1", "", 0)
        calls = [asyncio.create_task(link.call(TaskGet(f"t{number}"))) for number in range(2)]
        watch, *requests = await coordinator.asked(3)
        for request in (watch, *requests):
            coordinator.connections[0].answer(request, replace(NOT_NOW, retry_after_ms=9_000))
        while len(link._put_off) < 3:
            await anyio.lowlevel.checkpoint()
        timers = [put_off.timer for put_off in link._put_off.values()]
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        assert list(link._put_off) == [watch.id, requests[1].id]
        link.contexts.forget(watched)
        another = asyncio.create_task(link.call(TaskGet("t2")))
        *_, request = await coordinator.asked(5)
        coordinator.connections[0].answer(request, replace(NOT_NOW, retry_after_ms=9_000))
        while request.id not in link._put_off:
            await anyio.lowlevel.checkpoint()
        assert list(link._put_off) == [requests[1].id, request.id], "nor is anything kept of what others have forgotten"
        await link.aclose()
        for call in (calls[1], another):
            with pytest.raises(ConnectionLost):
                await call
    assert link._put_off == {} and all(timer.cancelled() for timer in timers)


async def test_a_delegation_that_has_no_answer_now_is_made_later(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        delegation = link.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
        link.wake()
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, NOT_NOW)
        await coordinator.asked(2)
        assert delegation.refused is None
        coordinator.connections[0].answer(request, TaskCreated("main-1", 1, True, "queued", "c1"))
        while delegation.task is None:
            await anyio.lowlevel.checkpoint()


async def test_a_heartbeat_that_has_no_answer_now_is_followed_by_the_next(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer(heartbeat_ms=20)))
        for count in (1, 2, 3):
            await coordinator.until(lambda: len(said(coordinator, TaskHeartbeat)) >= count)  # noqa: B023
            coordinator.connections[0].answer(said(coordinator, TaskHeartbeat)[-1], NOT_NOW)
        assert len(link.work.attempts) == 1
        assert not link._is_doubted, "it could be read"


# --- mail


async def test_a_new_connection_goes_on_behind_the_mail_that_came(coordinator, make_link, haste):
    noticed: list[Notice] = []
    link = make_link(listeners={"on_notice": noticed.append})
    coordinator.doors.append(welcome(next_mseq=5))
    coordinator.always = welcome(next_mseq=7)
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(5, event("a")), mail(6, event("b")))
        [ack] = await coordinator.asked(1)
        assert (ack.message.kind, ack.message.upto) == ("mailbox.ack", 6)
        coordinator.connections[0].transport.abort()
        connection = await coordinator.greeted(1)
        assert connection.hello.resume.last_mseq == 6
        connection.send(mail(6, event("b")), mail(7, event("c")))
        await coordinator.asked(1, number=1)
    assert [notice.message.agent.agent for notice in noticed] == ["a", "b", "c"]


@pytest.fixture
def owing(coordinator, make_link, monkeypatch):
    """A link that has read its mail and has not acknowledged it yet, its connection, and what else it reads."""
    monkeypatch.setattr(link_module, "_ACK_WITHIN", 1000.0)

    async def make():
        noticed: asyncio.Queue[Notice] = asyncio.Queue()
        link = make_link(listeners={"on_notice": noticed.put_nowait})
        await link.open()
        connection = coordinator.connections[0]
        connection.send(mail(1, event("a")))
        await noticed.get()
        return link, connection, noticed

    return make


async def test_an_acknowledgement_waits_for_others_and_goes_with_the_goodbye(coordinator, owing):
    with anyio.fail_after(BOUND):
        link, connection, noticed = await owing()
        assert connection.requests == [], "by itself it has time"
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        assert request.message == TaskGet("t1")
        connection.answer(request, found("t1"))
        await call
        connection.send(mail(2, event("b")))
        await noticed.get()
        await link.aclose()
        assert connection.requests[-1].message == MailboxAck(2), "one for both: nothing follows"


async def test_another_goodbye_than_a_take_over_is_followed_by_a_new_connection(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(Frame("bye", Bye("connected again")))
        coordinator.connections[0].transport.close(1001, "restarting")
        await coordinator.greeted(1)
        await coordinator.until(lambda: link.session.is_open)
    assert not link.has_ended


# --- another instance takes its place


async def test_a_link_whose_place_was_taken_ends_and_does_not_fight_for_it(coordinator, make_link, haste):
    link = make_link(patience=FOREVER)
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        await coordinator.asked(1)
        coordinator.connections[0].send(Frame("bye", Bye("taken_over")))
        coordinator.connections[0].transport.close(1008, "taken over")
        with pytest.raises(ConnectError, match="another instance of helper took its place"):
            await link.wait_closed()
        with pytest.raises(ConnectError, match="another instance of helper took its place"):
            await call
        with pytest.raises(ConnectionLost):
            await link.call(TaskGet("t1"))
    assert coordinator.tries == 1
    assert link.has_ended


async def test_instances_that_take_each_others_place_are_told_so_and_come_in_when_the_other_leaves(
    make_link, monkeypatch
):
    server = Server(MemoryStore(), Policy(takeovers_max=2))
    await server.open()

    dials: asyncio.Queue[None] = asyncio.Queue()

    async def dial(receiver: Receiver) -> None:
        dials.put_nowait(None)
        pair(receiver, server.receiver())

    secrets: dict[str, str] = {}
    with anyio.fail_after(BOUND):
        first, second, third = (
            make_link(Identity("helper", f"i{number}", number), dial=dial, secrets=secrets, patience=BOUND)
            for number in (1, 2, 3)
        )
        await first.open()
        await second.open()
        told: asyncio.Queue[Any] = asyncio.Queue()
        monkeypatch.setattr(link_module.log, "warning", lambda *words: told.put_nowait(words))
        coming = asyncio.create_task(third.open())
        assert "Stop all of them but one" in str((await told.get())[-1])
        assert list(server.coordinator.ledger.quarantined) == ["helper"]
        while not dials.empty():
            dials.get_nowait()
        for _ in range(2):  # before the second of these it was refused once more
            await dials.get()
        assert not second.has_ended
        await second.aclose()
        await coming
        assert told.empty(), "once, however often it tries"
        assert server.coordinator.live.agents["helper"].instance == "i3"
        await third.aclose()
    await server.aclose()


async def test_at_a_real_coordinator_the_newer_instance_stays(make_link):
    server = Server(MemoryStore())
    await server.open()

    async def dial(receiver: Receiver) -> None:
        pair(receiver, server.receiver())

    secrets: dict[str, str] = {}
    with anyio.fail_after(BOUND):
        older = make_link(Identity("helper", "i1", 1), dial=dial, secrets=secrets)
        await older.open()
        newer = make_link(Identity("helper", "i2", 2), dial=dial, secrets=secrets)
        await newer.open()
        with pytest.raises(ConnectError, match="another instance of helper"):
            await older.wait_closed()
        with pytest.raises(NotFound):
            await newer.call(TaskGet("t1"))
        await older.aclose()
        await newer.aclose()
        await server.aclose()


# --- papers


async def test_a_secret_is_drawn_kept_where_the_owner_says_and_shown_at_the_next_start(coordinator, make_link):
    secrets: dict[str, str] = {}
    with anyio.fail_after(BOUND):
        await make_link(Identity("helper#1", "i1", 1), secrets=secrets).open()
        assert load_secret(DEFAULT_URL, "helper") is None
        await make_link(Identity("helper#2", "i2", 1), secrets=secrets).open()
        await make_link(Identity("other", "i3", 1), secrets=secrets).open()
    shown = [connection.hello.secret for connection in coordinator.connections]
    assert shown == [secrets["helper"], secrets["helper"], secrets["other"]]
    assert shown[0] != shown[2]


async def test_a_secret_is_kept_in_the_state_directory_where_the_owner_says_nothing(coordinator, make_link):
    with anyio.fail_after(BOUND):
        await make_link(Identity("helper#1", "i1", 1), secrets=None).open()
        kept = load_secret(DEFAULT_URL, "helper")
        await make_link(Identity("helper#2", "i2", 1), secrets=None).open()
        await make_link(Identity("helper#3", "i3", 1), secrets=None, url="ws://127.0.0.1:1").open()
    shown = [connection.hello.secret for connection in coordinator.connections]
    assert shown[:2] == [kept, kept]
    assert shown[2] not in (None, kept), "another coordinator is shown another secret"


async def test_an_agent_is_newer_at_each_start_and_the_same_over_connections(coordinator, make_link, haste):
    with anyio.fail_after(BOUND):
        first = make_link(Identity("helper/1", "i1", 9_000, card=CARD), secrets=None)
        await first.open()
        coordinator.connections[0].transport.abort()
        await coordinator.greeted(1)
        await make_link(Identity("helper/1", "i2", 100, card=CARD), secrets=None).open()
        await make_link(Identity("helper/1", "i3", 100, card=CARD), secrets={}).open()
        await make_link(Identity("helper/1#x", "i4", 100), secrets=None).open()
    shown = [connection.hello.incarnation for connection in coordinator.connections]
    assert shown == [9_000, 9_000, 9_001, 100, 100], "without storage, and where none is known later, the clock's"


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_of_a_start_that_is_not_the_newest_it_is_told_once_what_to_do(coordinator, make_link, haste, caplog):
    older = Error("denied", "helper has incarnation 9000; 100 is an older one", retryable=True)
    coordinator.doors.extend([older] * 3)
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
    assert sum(haste.pauses) < 2
    assert warned(caplog) == [], "it may have passed"
    coordinator.doors.extend([older] * 12)
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
    [told] = warned(caplog)
    assert told.startswith(f"{DEFAULT_URL} refused helper, trying again: denied: helper has incarnation 9000; ")
    assert " UTC here. It was ahead of that when helper was last started" in told
    assert told.endswith("it gets in: a2a agent forget helper")


async def test_a_refusal_that_lasts_is_told_of_no_more_where_one_that_says_more_was(
    coordinator, make_link, haste, caplog
):
    says_more = Error("denied", "look at what there is", retryable=True, data={"conflict": "main-1"})
    coordinator.doors.extend([says_more, *[NOT_YET] * 12, says_more])
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
    [told] = warned(caplog)
    assert told.endswith("denied: look at what there is")


async def test_refusals_with_a_welcome_between_them_do_not_last(coordinator, make_link, haste, caplog, monkeypatch):
    monkeypatch.setattr(
        link_module, "_MISSED_AFTER", 0.4
    )  # all pauses take 0.55 s at least, those of one time 0.35 at most
    coordinator.doors.extend([*[NOT_YET] * 4, welcome(), *[NOT_YET] * 3])
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
        coordinator.connections[4].transport.abort()
        await coordinator.greeted(8)
    assert warned(caplog) == []


async def test_a_secret_is_kept_before_a_welcome_that_may_be_lost(coordinator, make_link, haste):
    kept: list[str | None] = []

    def lost(connection: Connection) -> None:
        kept.append(load_secret(DEFAULT_URL, "helper"))
        connection.transport.abort()

    coordinator.doors.append(lost)
    with anyio.fail_after(BOUND):
        await make_link(secrets=None, patience=FOREVER).open()
    assert [connection.hello.secret for connection in coordinator.connections] == kept * 2
    assert kept != [None]


async def test_a_peer_that_cannot_keep_its_secret_is_told_so_and_says_nothing(coordinator, make_link):
    class Full(dict[str, str]):
        def setdefault(self, *_: Any) -> str:
            raise OSError(28, "No space left on device")

    link = make_link(secrets=Full(), patience=FOREVER)
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="helper has nowhere to keep its secret: .*No space left on device"):
            await link.open()
    assert coordinator.connections[0].messages == []


async def test_a_secret_is_shown_on_every_later_connection(coordinator, make_link, haste):
    with anyio.fail_after(BOUND):
        link = make_link(secrets={"helper": "s1"})
        await link.open()
        link.settings.secrets["helper"] = "of another"
        coordinator.connections[0].transport.abort()
        assert (await coordinator.greeted(1)).hello.secret == "s1"


async def test_a_wrong_secret_is_no_reason_to_try_again(coordinator, make_link, haste):
    coordinator.always = WRONG_SECRET
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="refused helper: auth: helper is bound to a secret"):
            await make_link(secrets={"helper": "wrong"}, patience=FOREVER).open()
    assert coordinator.tries == 1


@pytest.mark.parametrize("is_known_elsewhere", [False, True])
async def test_of_a_wrong_secret_is_told_which_it_was_and_where_others_are(coordinator, make_link, is_known_elsewhere):
    coordinator.always = WRONG_SECRET
    elsewhere = secret_files("ws://127.0.0.1:1", "helper")[0]
    if is_known_elsewhere:
        provide_secret("ws://127.0.0.1:1", "helper")
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="another one was shown; that was the one in ") as raised:
            await make_link(secrets=None).open()
    assert str(secret_files(DEFAULT_URL, "helper")[0]) in str(raised.value)
    assert (str(elsewhere) in str(raised.value)) is is_known_elsewhere


async def test_of_a_wrong_token_nothing_is_said_about_secrets(coordinator, make_link):
    coordinator.always = Error("auth", "the token does not open this namespace")
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError, match="does not open this namespace$"):
            await make_link(secrets=None, token="given").open()


async def test_of_a_token_that_is_missing_it_is_said_where_it_was_looked_for(coordinator, make_link):
    coordinator.always = Error("auth", "a token is needed")
    with anyio.fail_after(BOUND):
        with pytest.raises(ConnectError) as raised:
            await make_link(secrets=None, token=None).open()
    assert f"a token is needed; there is none in {coordinator_dir(DEFAULT_URL)}: set A2A_TOKEN" in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "token", "operator_token"),
    [
        ({"token": None}, "in the file", None),
        ({"token": "given"}, "given", None),
        ({"token": "", "operator": True}, "", "operator's in the file"),
        ({"token": None, "operator_token": "given"}, "in the file", None),
        ({"token": None, "operator": True}, "in the file", "operator's in the file"),
        ({"token": "given", "operator": True}, "given", "operator's in the file"),
        ({"token": "given", "operator": True, "operator_token": "given too"}, "given", "given too"),
        ({"token": None, "url": "ws://127.0.0.1:1"}, "", None),
        ({"token": None, "url": "ws://127.0.0.1:1", "operator": True}, "", None),
    ],
)
async def test_what_is_not_given_is_looked_for_in_the_state_directory(
    coordinator, make_link, settings, token, operator_token
):
    tokens = provide_tokens(DEFAULT_URL, "in the file")
    (tokens.token_file.parent / "operator-token").write_text("operator's in the file\n")
    with anyio.fail_after(BOUND):
        await make_link(**settings).open()
    hello = coordinator.connections[0].hello
    assert (hello.token, hello.operator_token) == (token, operator_token)


async def test_tokens_that_a_coordinator_draws_at_its_first_start_are_found_then(coordinator, make_link, haste):
    async def start_late(receiver: Receiver) -> None:
        if coordinator.tries == 3:
            provide_tokens(DEFAULT_URL, "just drawn")
        await coordinator.dial(receiver)

    coordinator.doors.extend([ConnectError("nobody there")] * 4)
    with anyio.fail_after(BOUND):
        await make_link(token=None, dial=start_late, patience=FOREVER).open()
    assert coordinator.connections[0].hello.token == "just drawn"


async def test_a_token_that_is_another_by_now_is_shown_next_time(coordinator, make_link, haste):
    provide_tokens(DEFAULT_URL, "the first")
    with anyio.fail_after(BOUND):
        await make_link(token=None).open()
        provide_tokens(DEFAULT_URL, "the second")
        coordinator.connections[0].transport.abort()
        hello = (await coordinator.greeted(1)).hello
    assert (coordinator.connections[0].hello.token, hello.token) == ("the first", "the second")


async def test_a_token_that_cannot_be_read_now_is_shown_as_it_was(coordinator, make_link, haste):
    file = provide_tokens(DEFAULT_URL, "the first").token_file
    with anyio.fail_after(BOUND):
        await make_link(token=None).open()
        file.unlink()
        file.mkdir()  # nobody reads that, as nobody reads a file when too many are open
        coordinator.connections[0].transport.abort()
        hello = (await coordinator.greeted(1)).hello
        assert hello.token == "the first"
        with pytest.raises(StateDirectoryError, match="cannot be read"):
            await make_link(token=None).open()


async def test_without_another_way_a_link_connects_by_websocket(monkeypatch, coordinator, make_link):
    asked: list[Any] = []

    async def connect(url: str, receiver: Receiver, settings: Any, **options: Any) -> None:
        asked.append((url, settings, options))
        await coordinator.dial(receiver)

    monkeypatch.setattr(link_module, "connect", connect)
    coordinator.encoding = JSON
    link = make_link(dial=None, encodings=(JSON,), url="ws://127.0.0.1:1")
    with anyio.fail_after(BOUND):
        await link.open()
    assert asked == [("ws://127.0.0.1:1", link.settings.websocket, {"subprotocols": (JSON,), "ssl": None})]


# --- answers


async def test_an_answer_that_is_an_error_is_raised_as_what_it_means(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, Error("not_found", "no task t1"))
        with pytest.raises(NotFound, match="not_found: no task t1"):
            await call


def test_a_refusal_has_what_the_error_said():
    error = refused(Error("quota", "full", retryable=False, retry_after_ms=1500, data={"limit": 3}))
    assert type(error) is QuotaExceeded
    assert (error.detail, error.retryable, error.retry_after, error.data) == ("full", False, 1.5, {"limit": 3})
    assert refused(Error("quota", "full", retryable=True)).retryable
    assert refused(Error("quota", "full")).retry_after is None
    assert refused(Error("quota", "full", retry_after_ms=0)).retry_after == 0.0


@pytest.mark.parametrize("payload", [lambda text: text, str.encode], ids=["JSON", "MessagePack"])
def test_a_refusal_has_the_values_of_the_payloads_in_an_error(payload):
    for told, read in (('{"a":1}', {"a": 1}), ("no JSON", payload("no JSON"))):
        assert refused(Error("conflict", "lost", data={"rev": 2, "value": payload(told)})).data == {
            "rev": 2,
            "value": read,
        }
    answered = refused(Error("already_answered", "no", data={"by": "ann", "answer": payload('[{"text":"yes"}]')}))
    assert answered.data == {"by": "ann", "answer": "yes"}


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_its_own_refusal(code):
    assert type(refused(Error(str(code), "x"))) is CODES[code].error


def test_a_code_of_a_newer_version_is_a_refusal_all_the_same():
    assert type(refused(Error("too_tired", "x"))) is Unavailable


async def test_frames_of_one_turn_are_gathered_into_messages_of_at_most_16(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        for number in range(40):
            link.session.request(TaskGet(f"t{number}"))
            link.wake()
        sent = await coordinator.asked(40)
    assert [len(message) for message in coordinator.connections[0].messages] == [1, 16, 16, 8]
    assert [frame.message.task for frame in sent] == [f"t{number}" for number in range(40)]


@pytest.mark.parametrize(
    ("limits", "items", "dials"), [(FrameLimits(frames_max=3), 0, 1), (FrameLimits(items_max=65_536), 40_000, 2)]
)
async def test_frames_that_are_too_many_for_one_message_are_said_in_several(make_link, haste, limits, items, dials):
    server = Server(MemoryStore(), Policy(frame_limits=limits))
    await server.open()
    dialled: list[Receiver] = []

    async def dial(receiver: Receiver) -> None:
        dialled.append(receiver)
        pair(receiver, server.receiver())

    link = make_link(dial=dial)
    spec: Any = {"skill": "s", "extra": [None] * items}
    with anyio.fail_after(BOUND):
        await link.open()
        made = await asyncio.gather(*(link.call(TaskDelegate(f"k{number}", spec)) for number in range(8)))
        assert len({created.task for created in made}) == 8
        assert len(dialled) == dials
        await link.aclose()
    await server.aclose()


@pytest.mark.parametrize("encoding", [MSGPACK, JSON])
@pytest.mark.parametrize("bad", [uuid.uuid4(), "a\udcff"], ids=["no text", "half a character"])
async def test_a_request_that_has_no_form_is_refused_here_and_holds_nothing_up(
    coordinator, make_link, haste, caplog, encoding, bad
):
    coordinator.encoding = encoding
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        calls = [asyncio.create_task(link.call(TaskGet(task))) for task in ("t1", bad, "t2")]
        first, second = await coordinator.asked(2)
        with pytest.raises(Malformed, match="task.get cannot be sent: task: expected "):
            await calls[1]
        assert [first.message.task, second.message.task] == ["t1", "t2"]
        coordinator.connections[0].transport.close(1001, "restart")
        again = await coordinator.asked(2, number=1)
        assert [frame.message.task for frame in again] == ["t1", "t2"]
        for frame in again:
            coordinator.connections[1].answer(frame, found(frame.message.task))
        assert [answer.task for answer in await asyncio.gather(calls[0], calls[2])] == ["t1", "t2"]
    assert "task.get of helper cannot be sent" in caplog.text


async def test_a_refusal_of_what_nobody_waits_for_any_more_is_no_trouble(coordinator, make_link, caplog):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        coordinator.connections[0].answer(request, Error("not_found", "no task t1"))
        call = asyncio.create_task(link.call(TaskGet("t2")))
        [_, request] = await coordinator.asked(2)
        coordinator.connections[0].answer(request, found("t2"))
        await call
    assert caplog.text == "" and not link._is_doubted


async def test_a_request_that_is_larger_than_a_message_may_be_is_refused_here(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        most = link.session.message_max
        calls = [asyncio.create_task(link.call(TaskGet(task))) for task in ("t" * most, "t2")]
        (frame,) = await coordinator.asked(1)
        with pytest.raises(TooLarge, match=f"expected at most {most} bytes in a message"):
            await calls[0]
        coordinator.connections[0].answer(frame, found("t2"))
        assert (await calls[1]).task == "t2"


async def test_what_the_coordinator_ends_the_connection_over_is_not_said_again_and_again(make_link, haste, caplog):
    server = Server(MemoryStore())
    await server.open()

    async def dial(receiver: Receiver) -> None:
        pair(receiver, server.receiver())

    link = make_link(dial=dial)
    wrong = TaskDelegate("k", {"skill": "s"}, limits=TaskLimits(deadline_ms=2**60))
    with anyio.fail_after(BOUND):
        await link.open()
        calls = [link.call(message) for message in (TaskGet("t1"), wrong, TaskGet("t2"))]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        await link.aclose()
        await server.aclose()
    assert [type(first), type(third)] == [NotFound, NotFound]
    assert isinstance(second, Malformed)
    assert second.detail.startswith("task.delegate cannot be sent: ")
    assert len(haste.pauses) == 1
    assert "refused what helper sent: " in caplog.text


@pytest.mark.parametrize(("mebibytes", "outcome"), [(7, TaskCreated), (9, TooLarge)])
async def test_what_is_looked_at_before_it_is_sent_may_be_as_large_as_the_coordinator_says(
    make_link, haste, mebibytes, outcome
):
    limits = FrameLimits(message_max_bytes=8 * 1024 * 1024, payload_max_bytes=7 * 1024 * 1024)
    server = Server(MemoryStore(), Policy(frame_limits=limits))
    await server.open()

    async def dial(receiver: Receiver) -> None:
        pair(receiver, server.receiver())

    link = make_link(dial=dial)
    with anyio.fail_after(BOUND):
        await link.open()
        with pytest.raises(Malformed):
            await link.call(TaskDelegate("k", {"skill": "s"}, limits=TaskLimits(deadline_ms=2**60)))
        assert link._is_doubted
        size = mebibytes * 1024 * 1024
        large = TaskDelegate("k", {"skill": "s"}, b"x" * min(size, limits.payload_max_bytes))
        large.spec["x-more"] = "x" * (size - len(large.payload))
        [answer] = await asyncio.gather(link.call(large), return_exceptions=True)
        assert type(answer) is outcome
        await link.aclose()
    await server.aclose()


async def test_a_hello_that_has_no_form_is_told_to_who_connects(coordinator, make_link):
    link = make_link(Identity("helper", "i1", 1, labels={"a": object()}), patience=FOREVER)
    with anyio.fail_after(BOUND), pytest.raises(ConnectError, match="the hello cannot be sent"):
        await link.open()


async def test_large_payloads_are_gathered_up_to_a_quarter_of_a_megabyte(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        for size in (300, 100, 100, 100, 300, 10, 246, 1):
            payload = b'["' + b"x" * (size * 1024 - 4) + b'"]'
            link.session.request(TaskDelegate("k", {"skill": "x"}, payload))
        link.wake()
        await coordinator.asked(8)
    sizes = [
        [len(frame.message.payload) // 1024 for frame in message] for message in coordinator.connections[0].messages[1:]
    ]
    assert sizes == [[300], [100, 100], [100], [300], [10, 246], [1]]


# --- what the owner is told


async def test_news_of_delegated_tasks_go_to_the_delegator(coordinator, make_link):
    changed: list[list[Delegation]] = []
    link = make_link(listeners={"on_change": changed.append})
    with anyio.fail_after(BOUND):
        await link.open()
        delegation = link.delegations.delegate(TaskDelegate("k", {"skill": "x"}))
        link.wake()
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, TaskCreated("t1", 1, True, "queued", "c1"))
        assert await link.drained(BOUND)
        assert changed == [[delegation]]
        assert delegation.task == "t1"
        await link.aclose()
    assert changed[1:] == [[]], "whoever waits is woken at the end"


async def test_a_task_that_is_watched_is_watched_again_on_the_next_connection(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        link.delegations.follow("t1", from_gen=3)
        coordinator.connections[0].transport.abort()
        [watch] = await coordinator.asked(1, number=1)
        assert watch.message == TaskWatch("t1", from_gen=3)


def offer(task: str = "t1", *, heartbeat_ms: int = 60_000) -> TaskOffer:
    return TaskOffer(task, 1, 1, True, 60_000, 60_000, heartbeat_ms, {"skill": "x"}, b"[]", "k", "c1", "boss")


async def test_work_goes_to_the_agent_and_is_named_on_the_next_connection(coordinator, make_link, haste):
    started: list[Any] = []
    link = make_link(listeners={"on_work": started.extend})
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer()))
        await coordinator.asked(1)
        [start] = started
        assert isinstance(start, Start) and start.attempt.task == "t1"
        coordinator.connections[0].transport.abort()
        held = (await coordinator.greeted(1)).hello.held
    assert [(one.task, one.fence) for one in held] == [("t1", 1)]


async def test_a_last_word_that_cannot_be_sent_is_followed_by_a_plainer_one(
    coordinator, make_link, caplog, monkeypatch
):
    started: list[Any] = []
    link = make_link(listeners={"on_work": started.extend})
    monkeypatch.setattr(link_module, "_ACK_WITHIN", 1_000)  # nothing else is said that it could go with
    monkeypatch.setattr(link.work, "next_deadline", lambda: None)
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer()))
        while not started:
            await anyio.lowlevel.checkpoint()
        [start] = started
        start.attempt.basis["half a \udcff"] = (1, False)
        link.work.report(start.attempt, "completed")
        link.wake()
        [report] = await coordinator.asked(1)
    assert report.message.outcome == "failed"
    assert report.message.error.detail.startswith("task.report was refused: task.report cannot be sent")
    assert "task.report of task t1, fence 1, was refused: malformed: task.report cannot be sent" in caplog.text


async def test_work_that_the_coordinator_gave_to_another_meanwhile_is_stopped(coordinator, make_link, haste):
    events: list[Any] = []
    link = make_link(listeners={"on_work": events.extend})
    lost = welcome(next_mseq=2)
    lost.held = [HeldVerdict("t1", 1, "stale")]
    coordinator.doors.extend([welcome(), lost])
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer()))
        await coordinator.asked(1)
        coordinator.connections[0].transport.abort()
        await coordinator.greeted(1)
        await coordinator.until(lambda: link.session.is_open)
    start, stop = events
    assert isinstance(stop, Stop)
    assert (stop.attempt, stop.reason) == (start.attempt, "stale")
    assert link.work.attempts == {}


async def test_heartbeats_leave_by_themselves_and_end_with_the_work(coordinator, make_link, monkeypatch):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer(heartbeat_ms=20)))
        await coordinator.until(lambda: len(said(coordinator, TaskHeartbeat)) >= 3)
        [attempt] = link.work.attempts.values()
        link.work.report(attempt, "completed")
        link.wake()
        await coordinator.until(lambda: said(coordinator, TaskReport))
        link._timer.cancel()  # it was set for the next heartbeat, and finds nothing to say
        beats = len(said(coordinator, TaskHeartbeat))
        later = link.now() + 1000
        monkeypatch.setattr(link, "now", lambda: later)
        link._ticked()
        assert link._timer is None
        coordinator.connections[0].answer(said(coordinator, TaskReport)[0], TaskVerdict("t1", 1, "admitted"))
        assert await link.drained(BOUND)
        assert len(said(coordinator, TaskHeartbeat)) == beats
    assert link.work.attempts == {}


def said(coordinator: Coordinator, kind: type[Message]) -> list[Frame]:
    return [frame for frame in coordinator.connections[0].requests if isinstance(frame.message, kind)]


async def test_a_timer_that_fires_too_early_is_set_again(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer(heartbeat_ms=60_000)))
        await coordinator.asked(1)
        fired = link._timer
        fired.cancel()
        link._ticked()
        assert link._timer is not fired
        assert link._timer.when() == pytest.approx(fired.when(), abs=1.0)


async def test_a_link_that_ends_beats_no_more(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].send(mail(1, offer(heartbeat_ms=60_000)))
        await coordinator.asked(1)
        assert link._timer is not None and not link._timer.cancelled()
        await link.aclose()
    assert link._timer is None or link._timer.cancelled()


async def test_only_what_is_nobody_elses_goes_to_the_owner(coordinator, make_link):
    noticed: list[Notice] = []
    link = make_link(listeners={"on_notice": noticed.append})
    with anyio.fail_after(BOUND):
        await link.open()
        connection = coordinator.connections[0]
        connection.send(mail(1, offer()), Frame("e", event("a"), re="my find"))
        await coordinator.asked(1)
    assert noticed == [Notice(event("a"), "my find")]


async def test_a_link_speaks_the_encoding_that_was_agreed_on(coordinator, make_link):
    coordinator.encoding = JSON
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, found("t1"))
        assert await call == found("t1")


@pytest.mark.parametrize(
    ("encodings", "why"),
    [
        ((), "encodings: expected some of a2a.coord.msgpack, a2a.coord.json, got none"),
        (JSON, "encodings: expected a list, got the text"),
        ((JSON, "a2a.coord+cbor"), "encodings: expected a2a.coord.msgpack, a2a.coord.json, got 'a2a.coord.cbor'"),
    ],
)
def test_an_encoding_that_is_not_spoken_here_is_told_where_it_is_said(encodings, why):
    with pytest.raises(ValueError, match=why):
        LinkSettings(encodings=encodings)


async def test_a_coordinator_that_is_needed_is_watched_more_closely(coordinator, make_link, haste, monkeypatch):
    intervals: list[float] = []
    monkeypatch.setattr(memory._End, "keepalive", lambda end, interval: intervals.append(interval))
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        assert intervals == [BUSY_PING, IDLE_PING], "its welcome is waited for like any answer"
        calls = [asyncio.create_task(link.call(TaskGet("t1")))]
        await coordinator.asked(1)
        calls.append(asyncio.create_task(link.call(TaskGet("t2"))))
        await coordinator.asked(2)
        assert intervals == [BUSY_PING, IDLE_PING, BUSY_PING]
        coordinator.connections[0].transport.abort()
        for request in await coordinator.asked(2, number=1):
            coordinator.connections[1].answer(request, found("t"))
        await asyncio.gather(*calls)
    assert intervals == [BUSY_PING, IDLE_PING, BUSY_PING, BUSY_PING, IDLE_PING]


# --- a coordinator that breaks the protocol


def unreadable(connection: Connection) -> None:
    connection.transport.send(b"\xc1")


def a_gap(connection: Connection) -> None:
    connection.send(mail(1, event("a")), mail(3, event("c")))


def unknown(connection: Connection) -> None:
    connection.send(Frame("1", Unknown("task.teleport", {}), must=True))


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (a_gap, "mailbox entry 2 comes next, the coordinator sent 3"),
        (unreadable, "the coordinator sent what cannot be read"),
        (unknown, "the coordinator insists on task.teleport"),
    ],
)
async def test_a_broken_rule_closes_with_1002_and_connects_again(coordinator, make_link, haste, caplog, say, why):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        say(coordinator.connections[0])
        [*_, again] = await coordinator.asked(1, number=1)
        assert again == request
        coordinator.connections[1].answer(again, found("t1"))
        assert await call == found("t1")
    assert coordinator.connections[0].end.startswith(f"closed by the peer: 1002 (protocol error) {why}")
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (record.name, why in record.getMessage()) == ("a2a.link", True)


async def test_what_came_before_the_broken_rule_counts(coordinator, make_link, haste, caplog):
    noticed: list[Notice] = []
    link = make_link(listeners={"on_notice": noticed.append})
    with anyio.fail_after(BOUND):
        await link.open()
        a_gap(coordinator.connections[0])
        assert (await coordinator.greeted(1)).hello.resume.last_mseq == 1
    assert [notice.message.agent.agent for notice in noticed] == ["a"]


async def test_a_hello_that_is_answered_by_something_else_is_a_broken_rule(coordinator, make_link, haste, caplog):
    def answer_wrongly(connection: Connection) -> Message:
        return Ok()

    coordinator.doors.extend([answer_wrongly] * 3)
    with anyio.fail_after(BOUND):
        await make_link(patience=FOREVER).open()
    assert coordinator.tries == 4
    assert coordinator.connections[0].end.startswith("closed by the peer: 1002 (protocol error)")
    assert_growing(haste.pauses)


# --- drained


async def test_a_link_with_nothing_to_wait_for_is_drained(coordinator, make_link):
    link = make_link()
    assert await link.drained(0.0)
    with anyio.fail_after(BOUND):
        await link.open()
        assert await link.drained(0.0)


async def test_a_link_is_drained_with_the_last_answer(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        calls = [asyncio.create_task(link.call(TaskGet(f"t{number}"))) for number in range(2)]
        requests = await coordinator.asked(2)
        draining = [asyncio.create_task(link.drained(BOUND * 2)) for _ in range(2)]
        for call, request in zip(calls, requests, strict=True):
            assert not any(drained.done() for drained in draining)
            coordinator.connections[0].answer(request, found("t"))
            await call
        assert [await drained for drained in draining] == [True, True]


async def test_a_link_is_drained_when_the_last_caller_gives_up(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        await coordinator.asked(1)
        draining = asyncio.create_task(link.drained(BOUND * 2))
        await anyio.lowlevel.checkpoint()
        call.cancel()
        assert await draining


async def test_a_link_that_gets_no_answer_in_time_is_not_drained(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        link.session.request(TaskGet("t1"))
        assert not await link.drained(0.0)
        assert not await link.drained(0.01)


async def test_a_link_that_ends_or_never_was_is_not_waited_for(coordinator, make_link):
    link = make_link()
    link.session.request(TaskGet("t1"))
    with anyio.fail_after(BOUND):
        assert not await link.drained(BOUND * 2)
        await link.open()
        draining = asyncio.create_task(link.drained(BOUND * 2))
        await coordinator.asked(1)
        coordinator.connections[0].send(Frame("bye", Bye("taken_over")))
        coordinator.connections[0].transport.close()
        assert not await draining
        assert not await link.drained(BOUND * 2)


# --- leaving


async def test_a_link_that_leaves_acknowledges_its_mail_and_waits_until_the_coordinator_took_its_bye(
    coordinator, owing
):
    with anyio.fail_after(BOUND):
        link, connection, _ = await owing()
        leaving = asyncio.create_task(link.leave(BOUND * 2))
        ack, bye = await coordinator.asked(2)
        assert (ack.message, bye.message) == (MailboxAck(1), Bye())
        assert not leaving.done()
        connection.answer(bye, Ok())
        connection.transport.close(1000, "bye")
        assert await leaving
        await link.aclose()
    assert coordinator.tries == 1, "it does not come back"


async def test_a_link_leaves_without_a_coordinator_that_does_not_close(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        assert not await link.leave(BOUND * 2), "it was never there"
        await link.open()
        assert not await link.leave(0.01)


# --- the end


async def test_the_end_says_what_is_queued_and_goodbye(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        link.session.request(TaskGet("t1"))
        await link.aclose()
        connection = coordinator.connections[0]
        assert [frame.message for frame in connection.requests] == [TaskGet("t1")]
        assert connection.end == "closed by the peer: 1000 (OK) bye"
        assert link.has_ended
        await link.wait_closed()
        await link.aclose()
    assert coordinator.tries == 1


async def test_a_call_that_waits_when_the_link_is_closed_is_told_so(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        call = asyncio.create_task(link.call(TaskGet("t1")))
        await coordinator.asked(1)
        await link.aclose()
        with pytest.raises(ConnectionLost, match="the link was closed"):
            await call
        with pytest.raises(ConnectionLost, match="the link is closed"):
            await link.call(TaskGet("t1"))


SLOW_TO_CLOSE = WebSocketSettings(closing_deadline=BOUND * 10)
"""Where there is a connection; where there is none, nobody may wait so long."""


async def test_a_link_that_waits_for_its_next_try_is_closed_at_once(coordinator, make_link, paused):
    link = make_link(patience=FOREVER, websocket=SLOW_TO_CLOSE)
    coordinator.always = ConnectError("nobody there")
    with anyio.fail_after(BOUND):
        opening = asyncio.create_task(link.open())
        await paused.wait()
        await link.aclose()
        with pytest.raises(asyncio.CancelledError):
            await opening


async def test_a_link_whose_connection_is_away_is_closed_at_once(coordinator, make_link, paused):
    link = make_link(websocket=SLOW_TO_CLOSE)
    with anyio.fail_after(BOUND):
        await link.open()
        coordinator.connections[0].transport.abort()
        await paused.wait()
        assert not link.session.is_open
        assert not link.has_ended
        await link.aclose()
    assert link.has_ended


async def test_who_waits_for_the_end_may_stop_waiting(coordinator, make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        waiting = asyncio.create_task(link.wait_closed())
        await anyio.lowlevel.checkpoint()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        call = asyncio.create_task(link.call(TaskGet("t1")))
        [request] = await coordinator.asked(1)
        coordinator.connections[0].answer(request, found("t1"))
        assert await call == found("t1")


async def test_a_link_that_is_being_connected_is_closed_at_once(coordinator, make_link):
    dialled = anyio.Event()

    async def dial(receiver: Receiver) -> None:
        dialled.set()
        await anyio.sleep_forever()

    link = make_link(dial=dial, websocket=SLOW_TO_CLOSE)
    with anyio.fail_after(BOUND):
        opening = asyncio.create_task(link.open())
        await dialled.wait()
        await link.aclose()
        with pytest.raises(asyncio.CancelledError):
            await opening


async def test_an_open_that_was_cancelled_leaves_no_connection(coordinator, make_link):
    link = make_link()
    coordinator.doors.append(None)
    with anyio.fail_after(BOUND):
        opening = asyncio.create_task(link.open())
        connection = await coordinator.greeted()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await coordinator.until(lambda: connection.end)
    assert link.has_ended
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("link of")]


async def test_an_open_whose_scope_was_cancelled_leaves_no_connection(coordinator, make_link):
    link = make_link()
    coordinator.doors.append(None)
    scope = anyio.CancelScope()

    async def open_within() -> None:
        with scope:
            await link.open()

    with anyio.fail_after(BOUND):
        opening = asyncio.create_task(open_within())
        connection = await coordinator.greeted()
        connection.transport.pause_reading()  # and is slow to hear that the link closes
        scope.cancel()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert not opening.done()
        connection.transport.resume_reading()
        await opening
        assert link._transport is None
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("link of")]


async def test_a_link_that_was_never_opened_can_be_closed(make_link):
    link = make_link()
    with anyio.fail_after(BOUND):
        call = asyncio.create_task(link.call(TaskGet("t1")))
        await anyio.lowlevel.checkpoint()
        await link.aclose()
        with pytest.raises(ConnectionLost, match="the link was closed"):
            await call
        with pytest.raises(ConnectionLost, match="the link is closed"):
            await link.call(TaskGet("t1"))


async def test_who_calls_an_operation_of_a2a_is_told_that_nobody_answers_until_somebody_does(
    coordinator, make_link, monkeypatch
):
    monkeypatch.setattr(link_module, "SAID_AGAIN_FOR", 0.05)
    told = anyio.Event()
    link = make_link(listeners={"on_written": lambda changed: told.set() if changed else None})
    with anyio.fail_after(BOUND):
        await link.open()
        followed = link.calls.make(A2ACall("SubscribeToTask", b'{"id":"t1"}'))
        link.wake()
        await coordinator.asked(1)
        coordinator.always = ConnectError("nobody there")
        coordinator.connections[0].transport.abort()
        await told.wait()
        assert isinstance(refused(followed.refused), Unavailable)
        assert link.calls.make(A2ACall("GetTask")).refused is followed.refused
        coordinator.always = welcome()
        await coordinator.greeted(1)
        await coordinator.until(lambda: link.session.is_open)
        assert link.calls.make(A2ACall("GetTask")).refused is None
        assert link._absence is None
        link.wake()
        [request] = await coordinator.asked(1, number=1)
        assert request.message == A2ACall("GetTask")


async def test_a_connection_that_is_made_anew_says_again_what_is_followed_alone(coordinator, make_link, haste):
    link = make_link()
    with anyio.fail_after(BOUND):
        await link.open()
        left, kept = (link.calls.make(A2ACall("SubscribeToTask", b'{"id":"%b"}' % task)) for task in (b"t1", b"t2"))
        link.wake()
        requests = await coordinator.asked(2)
        for task, request in zip(("t1", "t2"), requests, strict=True):
            coordinator.connections[0].answer(request, A2AEvent(task, 3, b'{"task":{}}'))
        while not kept.task:
            await anyio.lowlevel.checkpoint()
        link.calls.forget(left)
        assert link.calls.left == 1
        link.renew()
        [again] = await coordinator.asked(1, number=1)
        assert again.message == A2ACall("SubscribeToTask", b'{"id": "t2"}', from_gen=3)
        assert link.calls.left == 0
