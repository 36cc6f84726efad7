"""What is fuzzed, but for the store: the decoder, the handshake from both ends, a session, cards and schemas.

A target takes bytes and returns; whatever it raises is a finding. Where an error is documented, the target says which.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from a2a.clock import REAL_TIME
from a2a.context import TaskContext
from a2a.engine.policy import Policy
from a2a.engine.work import Attempt, AttemptState
from a2a.errors import RemoteProtocolError, TooLarge
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import MSGPACK, SUBPROTOCOLS, Decoder, Frame, FrameLimits, encode
from a2a.protocol.messages import KINDS, TaskDelegate, TaskOffer
from a2a.protocol.session import Identity, PeerSession

from .making import OUTCOMES, PAYLOADS, Heard, body_of, envelope_of, junk, to_wire
from .play import Play, checked, papers_of
from .source import Source

__all__ = ["cards", "decoder", "handshake", "offers", "session"]

_FRAMES = 48
"""How many frames one input makes at most."""
_FROM_PEERS = tuple(
    kind
    for kind in KINDS
    if kind.startswith(
        ("task.", "conflict.", "claim.", "context.", "agent.", "credit", "mailbox", "ping", "pong", "bye")
    )
)
_LIKELY = (
    *("task.delegate", "task.accept", "task.report", "task.confirm", "task.heartbeat", "task.delegate", "task.report"),
    *("mailbox.ack", "claim.acquire", "context.write", "task.ask", "task.answer", "conflict.raise", "task.watch"),
)
_NAMES = ("a0", "b0", "c0", "c0#1")
_OF_ATTEMPTS = ("task.accept", "task.heartbeat", "task.ask", "task.report", "task.artifact", "task.yield")
_LIMITS = FrameLimits(message_max_bytes=64 * 1024, payload_max_bytes=512, frames_max=8, items_max=2_000)


def decoder(data: bytes) -> None:
    """Decode a message of random bytes, or of frames that are nearly right and were damaged on the way."""
    source = Source(data)
    encoding = source.pick(SUBPROTOCOLS)
    if source.below(3) == 0:
        message = source.rest()
    else:
        kinds = list(KINDS)
        heard = Heard()
        frames = [envelope_of(source, heard, number, source.pick(kinds)) for number in range(1 + source.below(3))]
        message = _damaged(source, to_wire(frames, encoding))
    for frame in checked(Decoder(encoding, _LIMITS).decode(message)):
        if isinstance(frame, Frame):
            for other in SUBPROTOCOLS:  # what is taken can be sent on
                (again,) = Decoder(other).decode(encode([frame], other))
                assert isinstance(again, Frame), f"{again}: this was taken, and cannot be sent on"


def _damaged(source: Source, message: bytes) -> bytes:
    changed = bytearray(message)
    for _ in range(source.below(4) if source.below(2) else 0):
        if not changed:
            break
        at = source.below(len(changed))
        match source.below(4):
            case 0:
                changed[at] = source.below(256)
            case 1:
                del changed[at : at + 1 + source.below(8)]
            case 2:
                changed[at:at] = source.take(1 + source.below(8))
            case _:
                del changed[at:]
    return bytes(changed)


def handshake(data: bytes) -> None:
    """Greet a coordinator with any hello, and answer the hello of a peer with anything."""
    source = Source(data)
    if source.below(2):
        _answer_a_hello(source)
        return
    play = Play(Policy(takeovers_max=2))
    for number in range(6):
        if source.is_empty:
            break
        play.open(number)
        play.say(number, envelope_of(source, play.heard, 1, "hello"), source.pick(SUBPROTOCOLS))
        play.pass_time(source.pick((0, 1, 1_000, 100_000)))
    play.close()


def _answer_a_hello(source: Source) -> None:
    numbers = iter(range(10_000))
    peer = PeerSession(Identity("a0", "i", 1), lambda: str(next(numbers)))
    heard = Heard()
    for _ in range(3):
        peer.connected()
        (hello,) = peer.outgoing()
        try:
            peer.request(TaskDelegate(key="k", spec={"skill": "s"}, payload=PAYLOADS[1].encode()))
        except TooLarge:
            pass  # the welcome before had a small limit
        first = envelope_of(source, heard, 1, source.pick(("welcome", "welcome", "welcome", "error", "ping")))
        frames = [first | {"re": hello.id}]
        frames += [envelope_of(source, heard, 2 + n, source.pick(list(KINDS))) for n in range(source.below(4))]
        encoding = source.pick(SUBPROTOCOLS)
        try:
            for frame in Decoder(encoding).decode(to_wire(frames, encoding)):
                peer.receive(frame)
                encode(peer.outgoing(), encoding)
        except RemoteProtocolError:
            pass  # the coordinator broke a rule, and the connection is given up
        peer.disconnected()


def session(data: bytes) -> Iterator[None]:
    """Have four peers say whatever they like to a coordinator, come and go, and time pass: each is a turn."""
    source = Source(data)
    play = Play(Policy(conflict_rest_ms=0, frame_limits=_LIMITS))
    for number, name in enumerate(_NAMES):
        play.open(number)
        play.greet(number, name)
    for _ in range(_FRAMES):
        if source.is_empty:
            break
        number, what = source.below(4), source.below(24)
        if not play.coordinator.is_welcomed(number):
            play.greet(number, source.pick(_NAMES) if source.one_in(16) else _NAMES[number])
        if what == 0:
            play.pass_time(source.pick((1, 100, 5_000, 40_000, 10**8)))
        elif what == 1:
            play.leave(number)
            play.open(number)
            play.greet(number, _NAMES[number])
        elif what == 2:
            frame = envelope_of(source, play.heard, play.next_id(), source.pick(_FROM_PEERS))
            play.say_bytes(number, _damaged(source, to_wire([frame], MSGPACK)), MSGPACK)
        else:
            kind = source.pick(_LIKELY) if what < 16 else source.pick(_FROM_PEERS)
            frame = envelope_of(source, play.heard, play.next_id(), kind)
            number = _mend(source, play, frame, number)
            play.say(number, frame, source.pick(SUBPROTOCOLS))
        yield
    play.close()


def _mend(source: Source, play: Play, frame: dict[str, Any], number: int) -> int:
    """Make a frame about something that is there, mostly: else nearly all would be refused at the door.

    Returns who says it.
    """
    body = frame.get("body")
    if play.attempts and ("fence" in frame or frame["kind"] in _OF_ATTEMPTS) and source.below(8):
        number, frame["task"], frame["fence"] = source.pick(play.attempts[-12:])
    if not isinstance(body, dict):
        return number
    if "parent" in body and play.attempts and source.below(4):
        number, task, fence = source.pick(play.attempts[-4:])
        body["parent"] = {"task": task, "fence": fence}
    if frame["kind"] == "task.report" and source.below(8):
        payload, outcome = source.pick(PAYLOADS), source.pick(OUTCOMES[:2] if source.below(4) else OUTCOMES)
        frame["payload"], body["outcome"] = payload, outcome
        body["resultHash"] = content_hash({"outcome": outcome}, payload.encode())
        body.pop("artifacts", None)
    elif frame["kind"] == "task.confirm" and play.reviews and source.below(8):
        number, frame["task"], body["rev"], body["resultHash"] = source.pick(play.reviews[-4:])
    elif frame["kind"] == "mailbox.ack" and source.below(4):
        body["upto"] = play.sent.get(number, 0)
    return number


def cards(data: bytes) -> None:
    """Show cards and schemas of any form, have them looked for, and read what is found as a client does."""
    source = Source(data)
    value = junk(source)
    try:
        content_hash(value, b"")
    except ValueError:
        pass  # it has no canonical form
    play = Play(Policy())
    for number, name in enumerate(("a0", "b0")):
        play.open(number)
        body = papers_of(name)
        body["card"] = body_of(source, play.heard, "hello").get("card", body["card"])
        _schemas(source, body)
        play.say(number, {"id": "1", "kind": "hello", "body": body}, source.pick(SUBPROTOCOLS))
        play.greet(number, name)
    for _ in range(8):
        if source.is_empty:
            break
        kind = source.pick(("agent.update", "agent.find", "task.delegate", "agent.find"))
        body = body_of(source, play.heard, kind)
        if source.below(2):
            _schemas(source, body)
        play.say(source.below(2), {"id": play.next_id(), "kind": kind, "body": body}, source.pick(SUBPROTOCOLS))
    play.close()


def offers(data: bytes) -> None:
    """Offer an agent a task with anything beside it: its handler begins, whatever others have said."""
    source = Source(data)
    frame = envelope_of(source, Heard(), 1, "task.offer")
    for read in Decoder(MSGPACK).decode(to_wire([frame], MSGPACK)):
        if isinstance(read, Frame) and isinstance(read.message, TaskOffer):
            attempt = Attempt(read.message, AttemptState.RUNNING, 0, 0)
            runner = SimpleNamespace(on_link=None, link=SimpleNamespace(clock=REAL_TIME))
            context = TaskContext(runner, attempt)  # type: ignore[arg-type]
            context._was_steered(10**6, source.rest())


def _schemas(source: Source, body: dict[str, Any]) -> None:
    """Put a schema of any form where one goes."""
    for part in (body.get("card"), body.get("spec"), body.get("filter")):
        if isinstance(part, dict):
            part["inputSchema"] = junk(source)
            skills = part.get("skills")
            for skill in skills if isinstance(skills, list) else ():
                if isinstance(skill, dict):
                    skill["inputSchema"] = junk(source)
