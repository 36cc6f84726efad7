"""Peers of other versions: a 1.1 that says more than 1.0 knows, and a 2.0 that speaks nothing else, on both sides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from a2a import Agent, ConnectError, Policy, Server, TaskContext, connect
from a2a.engine import registry
from a2a.engine.work import Start, Work
from a2a.errors import RemoteProtocolError, Unavailable
from a2a.link import Link, LinkSettings, refused
from a2a.protocol import version
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import JSON, MSGPACK, BadFrame, Decoder, Encoding, Frame, encode, pack
from a2a.protocol.messages import Credit, Error, TaskEventNotice, TaskGet, TaskLease, Unknown, Welcome
from a2a.protocol.session import Identity, Notice, PeerSession, Reply, TurnedAway, Welcomed
from a2a.stores.memory import MemoryStore
from a2a.transports.base import Receiver, Transport
from a2a.transports.memory import pair

from .stage import Stage

ENCODINGS = pytest.mark.parametrize("encoding", (JSON, MSGPACK))


# A coordinator of 1.0, and its peers ----------------------------------------------------------------------------------

NEWER_CARD = {
    "name": "counter",
    "description": "Counts.",
    "version": "3",
    "mood": {"good": True, "since": None},
    "skills": [
        {"id": "count", "name": "Count", "description": "", "tags": [], "price": {"unit": "cent", "per": [1, 2.5]}}
    ],
}
NEWER_SPEC = {"skill": "count", "effort": "low", "requires": {"planet": "earth"}, "nested": {"list": [None, {}]}}


def newer_hello(name: str, **fields: Any) -> dict[str, Any]:
    """A hello of 1.1: everything of 1.0, and more everywhere."""
    body = {
        "versions": ["1.0", "1.1"],
        "agentId": name,
        "instanceId": f"{name}-1",
        "incarnation": 1,
        "features": ["telepathy"],
        "credit": {"tasks": 1, "frames": 16, "attention": 3},
        "locale": {"language": "de"},
    }
    return {"id": f"{name}-hello", "kind": "hello", "priority": "high", "body": body | fields}


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.check()


@ENCODINGS
def test_a_1_1_peer_is_welcomed_in_1_0_without_the_feature_only_it_has(stage: Stage, encoding: Encoding) -> None:
    stage.connect("newer", encoding)
    welcome = stage.ask("newer", newer_hello("newer"))
    assert (welcome["kind"], welcome["body"]["version"]) == ("welcome", "1.0")
    assert "features" not in welcome["body"], "a feature is on where both name it"


def test_a_feature_of_both_is_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FEATURES", ("levitation", "telepathy"))
    stage.connect("newer")
    assert stage.ask("newer", newer_hello("newer"))["body"]["features"] == ["telepathy"]


def test_a_coordinator_of_1_1_answers_a_1_0_peer_in_1_0(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "SPOKEN", "1.1")
    stage.connect("older")
    assert stage.ask("older", newer_hello("older", versions=["1.0", "1.0"]))["body"]["version"] == "1.0"
    stage.connect("newer")
    assert stage.ask("newer", newer_hello("newer"))["body"]["version"] == "1.1"


@ENCODINGS
def test_a_2_0_peer_is_told_what_is_spoken_and_its_connection_ends(stage: Stage, encoding: Encoding) -> None:
    stage.connect("foreign", encoding)
    error = stage.ask("foreign", newer_hello("foreign", versions=["2.0", "2.1"]))
    assert (error["kind"], error["body"]["code"]) == ("error", "version")
    assert error["body"]["data"] == {"versions": ["1.0", "1.0"]}
    assert error["body"]["retryable"] is False
    assert stage.is_closed("foreign")
    assert not stage.town.ledger.principals, "it changed nothing"


@ENCODINGS
def test_what_1_1_adds_to_a_card_and_a_spec_is_relayed_and_hashed_as_it_came(stage: Stage, encoding: Encoding) -> None:
    stage.connect("counter", encoding)
    stage.connect("desk")
    stage.ask("counter", newer_hello("counter", card=NEWER_CARD))
    stage.ask("desk", newer_hello("desk"))
    found = stage.ask("desk", {"id": "f", "kind": "agent.find", "body": {"scope": "all"}})
    assert found["body"]["agents"][0]["card"] == NEWER_CARD

    created = stage.ask("desk", delegate := {
        "id": "d", "kind": "task.delegate", "payload": "[]", "mood": 1,
        "body": {"key": "k", "spec": NEWER_SPEC, "limits": {"attempts": 2, "patience": 9}, "colour": "red"},
    })  # fmt: skip
    assert created["kind"] == "task.created", created
    offer = stage.hear("counter")
    assert offer is not None and offer["body"]["spec"] == NEWER_SPEC
    assert stage.town.task(created["task"]).spec_hash == content_hash(NEWER_SPEC, b"[]")
    other = json.loads(json.dumps(delegate))
    other["body"]["spec"]["effort"] = "high"
    assert stage.ask("desk", other | {"id": "e"})["body"]["code"] == "idempotency_mismatch"


@ENCODINGS
def test_a_kind_of_1_1_is_refused_and_ends_the_connection_only_where_it_must(stage: Stage, encoding: Encoding) -> None:
    stage.connect("newer", encoding)
    stage.ask("newer", newer_hello("newer"))
    error = stage.ask("newer", {"id": "1", "kind": "task.tomorrow", "task": "t", "fence": 3, "body": {"a": [1]}})
    assert error["body"]["code"] == "unsupported_kind"
    assert not stage.is_closed("newer")
    error = stage.ask("newer", {"id": "2", "kind": "task.tomorrow", "must": True})
    assert error["body"]["code"] == "unsupported_kind"
    assert stage.is_closed("newer")


def delegation(**spec: Any) -> dict[str, Any]:
    return {"kind": "task.delegate", "body": {"key": "k", "spec": {"skill": "s"} | spec}}


@pytest.mark.parametrize(
    ("field", "frame"),
    [
        ("mode", {"kind": "task.cancel", "task": "t", "body": {"mode": "softly"}}),
        ("outcome", {"kind": "task.report", "task": "t", "fence": 1, "body": {"outcome": "postponed"}}),
        ("slot", {"kind": "task.heartbeat", "task": "t", "fence": 1, "body": {"slot": "shared"}}),
        ("evaluator", delegation(acceptance={"evaluator": "jury"})),
        ("effect", delegation(effect="magic")),
        ("status", {"kind": "agent.update", "body": {"status": "asleep"}}),
    ],
)  # fmt: skip
@ENCODINGS
def test_a_word_of_1_1_is_malformed_and_the_field_is_named(
    stage: Stage, encoding: Encoding, field: str, frame: dict[str, Any]
) -> None:
    stage.connect("newer", encoding)
    stage.ask("newer", newer_hello("newer"))
    peer, town = stage.peers["newer"], stage.town
    raw = frame | {"id": "1"}
    [bad] = Decoder(encoding).decode(json.dumps(raw).encode() if encoding == JSON else pack(raw))
    assert isinstance(bad, BadFrame), "the words of 1.0 are the only ones"
    town.coordinator.step(peer.connection, bad, town.now)
    town.flush()
    error = stage.hear("newer") or {}
    while error.get("re") != "1":
        error = stage.hear("newer") or pytest.fail("it is not answered")
    assert error["body"]["code"] == "malformed"
    assert field in error["body"]["detail"]
    assert not stage.is_closed("newer")


# A peer of 1.0, and its coordinators ----------------------------------------------------------------------------------

LIMITS = {
    "messageMaxBytes": 4_000_000, "payloadMaxBytes": 2_000_000, "framesPerMessage": 1024, "framesPerSecond": 1000,
    "requestsInFlight": 256, "outboxMaxBytes": 1_000_000, "heartbeatMs": 10_000, "leaseMs": 30_000, "moodMaxBytes": 7,
}  # fmt: skip


def newer_welcome(hello: str, **fields: Any) -> dict[str, Any]:
    """The welcome of a coordinator of 1.1 to a peer of 1.0."""
    body = {"version": "1.0", "namespace": "main", "epoch": 1, "durability": "fsync", "limits": LIMITS, "nextMseq": 1}
    return {"id": "w", "kind": "welcome", "re": hello, "shard": 3, "body": body | {"region": {"x": 1}} | fields}


def received(session: PeerSession, frame: dict[str, Any]) -> list[Any]:
    [decoded] = Decoder(JSON).decode(json.dumps(frame).encode())
    return session.receive(decoded)


@pytest.fixture
def session() -> PeerSession:
    numbers = iter(range(1, 1000))
    session = PeerSession(Identity("helper", "i1", 1), lambda: f"f{next(numbers)}", credit=Credit(1))
    session.connected()
    [hello] = session.outgoing()
    [event] = received(session, newer_welcome(hello.id))
    assert isinstance(event, Welcomed)
    return session


def test_an_offer_of_1_1_is_begun_with_all_that_it_says_in_its_spec(session: PeerSession) -> None:
    work = Work(session)
    body = {
        "attempt": 1, "granted": True, "offerMs": 500, "leaseMs": 3000, "heartbeatMs": 1000, "spec": NEWER_SPEC,
        "key": "k", "contextId": "c", "delegator": "desk", "rev": 0, "urgency": [1],
    }  # fmt: skip
    offer = {"id": "m1", "kind": "task.offer", "mseq": 1, "task": "t", "fence": 4, "payload": "[]", "body": body}
    [notice] = received(session, offer | {"later": {}})
    assert isinstance(notice, Notice)
    [start] = work.on_notice(notice.message, None, 0)
    assert isinstance(start, Start)
    assert start.attempt.offer.spec == NEWER_SPEC


def test_a_kind_of_1_1_is_passed_over_and_counted_unless_it_must_be_understood(session: PeerSession) -> None:
    assert received(session, {"id": "1", "kind": "task.tomorrow", "body": {}}) == []
    events = received(session, {"id": "m1", "kind": "task.tomorrow", "mseq": 1, "task": "t", "body": {}})
    assert all(isinstance(event.message, Unknown) for event in events)
    assert [frame.message.kind for frame in session.outgoing()] == ["mailbox.ack"]
    with pytest.raises(RemoteProtocolError, match=r"insists on task\.tomorrow"):
        received(session, {"id": "2", "kind": "task.tomorrow", "must": True})


def test_words_of_1_1_in_fields_of_any_text_are_taken(session: PeerSession) -> None:
    event = {"id": "1", "kind": "task.event", "re": "w", "task": "t", "gen": 2}
    [notice] = received(session, event | {"body": {"event": "applaud", "state": "leased", "at": 1}})
    assert isinstance(notice.message, TaskEventNotice) and notice.message.event == "applaud"
    lease = {"id": "2", "kind": "task.lease", "task": "t", "fence": 4}
    [notice] = received(session, lease | {"body": {"leaseMs": 3000, "directives": ["smile"]}})
    assert isinstance(notice.message, TaskLease) and notice.message.directives == ["smile"]


def test_an_error_with_a_code_of_1_1_says_itself_whether_to_try_again(session: PeerSession) -> None:
    request = session.request(TaskGet("t"))
    session.outgoing()
    answer = {
        "id": "1",
        "kind": "error",
        "re": request,
        "body": {"code": "weather", "detail": "rain", "retryable": True},
    }
    [reply] = received(session, answer)
    assert isinstance(reply, Reply) and isinstance(reply.message, Error)
    error = refused(reply.message)
    assert isinstance(error, Unavailable) and error.retryable


def test_a_word_that_was_not_agreed_on_gives_the_connection_up(session: PeerSession) -> None:
    settled = {"id": "m1", "kind": "task.settled", "mseq": 1, "task": "t", "gen": 3, "body": {"state": "postponed"}}
    with pytest.raises(RemoteProtocolError, match="state"):
        received(session, settled)


def test_a_2_0_coordinator_turns_a_1_0_peer_away() -> None:
    session = PeerSession(Identity("helper", "i1", 1), lambda: "f1")
    session.connected()
    [hello] = session.outgoing()
    body = {"code": "version", "detail": "2.0 is spoken here", "retryable": False, "data": {"versions": ["2.0", "2.0"]}}
    [event] = received(session, {"id": "w", "kind": "error", "re": hello.id, "body": body})
    assert isinstance(event, TurnedAway) and not session.is_open


class Foreign:
    """The end of a coordinator that speaks 2.0 alone."""

    def __init__(self) -> None:
        self.hellos: list[Frame] = []
        self.transport: Transport

    async def dial(self, receiver: Receiver) -> None:
        pair(receiver, self, subprotocol=JSON)

    def opened(self, transport: Transport) -> None:
        self.transport = transport

    def received(self, data: bytes) -> None:
        [hello] = Decoder(JSON).decode(data)
        assert isinstance(hello, Frame)
        self.hellos.append(hello)
        error = Error("version", "2.0 is spoken here", data={"versions": ["2.0", "2.0"]})
        self.transport.send(encode([Frame("w", error, re=hello.id)], JSON))
        self.transport.close(1008, "version")

    def closed(self, reason: str) -> None:
        pass


async def test_a_link_to_a_2_0_coordinator_says_so_and_does_not_try_again() -> None:
    foreign = Foreign()
    link = Link(LinkSettings(secrets={}, token="", dial=foreign.dial), Identity("helper", "i1", 1))
    with pytest.raises(ConnectError, match=r"version: 2\.0 is spoken here"):
        async with asyncio.timeout(20):
            await link.open()
    assert len(foreign.hellos) == 1


def test_the_welcome_of_1_1_is_read_with_what_1_0_knows(session: PeerSession) -> None:
    assert isinstance(session.welcome, Welcome)
    assert session.welcome.limits.heartbeat_ms == 10_000


class Newer:
    """The coordinator's end of a connection, which says more than a peer of 1.0 knows in every frame and between."""

    def __init__(self, inner: Receiver) -> None:
        self._inner = inner
        self.said = 0

    def opened(self, transport: Transport) -> None:
        self._inner.opened(Overheard(transport, self))  # type: ignore[arg-type]

    def received(self, data: bytes) -> None:
        self._inner.received(data)

    def closed(self, reason: str) -> None:
        self._inner.closed(reason)

    def more(self, data: bytes) -> bytes:
        lines = []
        for line in data.splitlines():
            frame = json.loads(line)
            frame |= {"shard": 7, "hints": {"a": [None]}}
            frame["body"] |= {"tomorrow": {"x": [1, 2.5]}, "yesterday": None}
            if "limits" in frame["body"]:
                frame["body"]["limits"]["moodMaxBytes"] = 3
            lines.append(json.dumps(frame))
            if frame["kind"] != "welcome" and "error" not in frame["kind"]:
                lines.append(json.dumps({"id": f"x{self.said}", "kind": "weather.report", "body": {"rain": True}}))
                self.said += 1
        return "\n".join(lines).encode()


class Overheard:
    """A transport whose messages become those of a newer coordinator."""

    def __init__(self, transport: Transport, newer: Newer) -> None:
        self._transport = transport
        self._newer = newer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def send(self, data: bytes) -> None:
        self._transport.send(self._newer.more(data))


async def test_our_agent_and_client_do_a_task_with_a_coordinator_that_says_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    helper = Agent("helper")

    @helper.skill()
    async def double(number: int, task: TaskContext) -> int:
        await task.progress(0.5, "half")
        return 2 * number

    server, ends = Server(MemoryStore(), Policy()), list[Newer]()
    as_it_was = server.receiver

    def receiver() -> Receiver:
        ends.append(Newer(as_it_was()))
        return ends[-1]

    monkeypatch.setattr(server, "receiver", receiver)
    await server.open()
    listener = await server.listen()
    settings = LinkSettings(url=listener.url, token="", secrets={}, encodings=(JSON,))
    stop, ready = anyio.Event(), anyio.Event()
    try:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: helper.run(settings=settings, stop=stop, ready=ready.set))
                await ready.wait()
                async with connect(name="desk", settings=settings) as client:
                    async with client.delegate("double", {"number": 4}) as task:
                        assert await task.result() == 8
                    shown = await client.get(task.id)
                    assert shown["metadata"]["state"] == "completed"
                stop.set()
    finally:
        await server.aclose()
    assert len(ends) == 2, "no connection was given up"
    assert all(end.said for end in ends)
