"""A peer's calls of A2A's operations: what is asked for, what is passed on, where a stream goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from a2a.engine import call_following
from a2a.engine.call_following import FollowedCall, FollowedCalls
from a2a.errors import ErrorCode, TooLarge
from a2a.protocol.codec import Frame
from a2a.protocol.messages import A2ACall, A2AEvent, A2AFault, A2AResult, Error, Limits, Message, Welcome
from a2a.protocol.session import Identity, Notice, PeerSession, Reply, Welcomed

SEND = A2ACall("SendStreamingMessage", b'{"message":{}}')
TASK = {"task": {"id": "t"}}
STATUS = {"statusUpdate": {"taskId": "t"}}
PIECE = {"artifactUpdate": {"taskId": "t", "append": False}}
PROVISIONAL = {"artifactUpdate": {"taskId": "t", "metadata": {"provisional": True}}}
AWAY = Error(ErrorCode.UNAVAILABLE, "nobody answers", retryable=True)


def event(generation: int, told: dict[str, Any], *, last: bool = False) -> A2AEvent:
    return A2AEvent("t", generation, json.dumps(told).encode(), last=last)


class World:
    """A session, and the coordinator's words put into it."""

    def __init__(self) -> None:
        names = (f"id{number}" for number in range(1_000))
        self.session = PeerSession(Identity("ann", "1", 1), lambda: next(names))
        self.calls = FollowedCalls(self.session)
        self.connect()

    def connect(self) -> None:
        self.session.disconnected()
        self.session.connected()
        (hello,) = self.session.outgoing()
        self.hear(Welcome("1.0", "main", 1, "memory", Limits(1, 100, 1, 1, 1, 1, 1, 1), next_mseq=1), hello.id)

    def asked(self) -> list[tuple[str, A2ACall]]:
        """Return the calls sent since, by their id."""
        return [(frame.id, frame.message) for frame in self.session.outgoing() if isinstance(frame.message, A2ACall)]

    def hear(self, message: Message, re: str) -> list[FollowedCall]:
        changed: list[FollowedCall] = []
        for told in self.session.receive(Frame("c", message, re)):
            if isinstance(told, Reply):
                changed += self.calls.on_reply(told)
            elif isinstance(told, Notice):
                changed += self.calls.on_notice(told.message, told.re)
            elif isinstance(told, Welcomed):
                self.calls.on_welcome()
        return changed


@pytest.fixture
def world() -> World:
    return World()


def begun(world: World, call: A2ACall = SEND) -> tuple[str, FollowedCall]:
    """Return a stream that has had its first event, and the id of its call."""
    followed = world.calls.make(call)
    ((request, _),) = world.asked()
    world.hear(event(1, TASK), request)
    return request, followed


def generations(followed: FollowedCall) -> list[int]:
    return [one.generation for one in followed.take() if isinstance(one, A2AEvent)]


@pytest.mark.parametrize("answer", [A2AResult(b"{}"), A2AFault(-32001, "TaskNotFoundError", "no")])
def test_a_call_is_over_with_its_answer(world: World, answer: Message) -> None:
    followed = world.calls.make(A2ACall("GetTask", b'{"id":"t"}'))
    ((request, call),) = world.asked()
    assert (call.operation, world.calls.are_open) == ("GetTask", True)
    assert world.hear(answer, request) == [followed]
    assert (followed.take(), followed.is_over, world.calls.are_open) == ([answer], True, False)


def test_what_the_coordinator_refuses_as_a_frame_is_told(world: World) -> None:
    followed = world.calls.make(SEND)
    ((request, _),) = world.asked()
    assert world.hear(AWAY, request) == [followed]
    assert (followed.refused, world.calls.are_open) == (AWAY, False)


def test_one_that_is_too_large_is_not_made(world: World) -> None:
    with pytest.raises(TooLarge, match="at most 100 bytes"):
        world.calls.make(A2ACall("SendMessage", b" " * 101))
    assert not world.calls.are_open


def test_an_event_says_up_to_which_generation_all_has_come(world: World) -> None:
    """Of the result each artifact comes in front of the status: cut off between them, all of it is to come again."""
    request, followed = begun(world)
    for one in (event(2, STATUS), event(3, PROVISIONAL), event(4, PIECE), event(4, PIECE)):
        assert world.hear(one, request) == [followed]
    assert (generations(followed), followed.generation) == ([1, 2, 3, 3, 3], 3)
    world.hear(event(4, STATUS, last=True), request)
    assert (generations(followed), followed.is_over, world.calls.are_open) == ([4], True, False)


def test_a_stream_taken_up_has_not_come_by_its_first_event_to_where_the_task_is(world: World) -> None:
    followed = world.calls.make(A2ACall("SubscribeToTask", b'{"id":"t"}', from_gen=2))
    ((request, _),) = world.asked()
    world.hear(event(5, TASK), request)
    assert (generations(followed), followed.generation) == ([2], 2)


def test_a_stream_goes_on_behind_a_new_handshake_without_a_gap(world: World) -> None:
    request, followed = begun(world)
    world.hear(event(2, STATUS), request)
    world.hear(event(3, PIECE), request)
    followed.take()
    world.connect()
    ((again, call),) = world.asked()
    assert (call.operation, json.loads(call.payload), call.from_gen) == ("SubscribeToTask", {"id": "t"}, 2)
    assert world.hear(event(3, TASK), again) == [], "the task was told"
    world.hear(event(3, PIECE), again)
    world.hear(event(3, STATUS, last=True), again)
    assert generations(followed) == [2, 3]
    assert world.hear(event(4, STATUS), request) == [], "nothing comes on the old one"


def test_a_stream_without_an_event_is_made_again_as_it_was(world: World) -> None:
    world.calls.make(SEND)
    before = world.asked()
    world.connect()
    assert world.asked() == before


def test_a_stream_whose_task_has_ended_meanwhile_ends_with_the_task(world: World) -> None:
    _, followed = begun(world)
    followed.take()
    world.connect()
    ((again, _),) = world.asked()
    assert world.hear(A2AFault(-32004, "UnsupportedOperationError", "it has ended"), again) == []
    ((last, call),) = world.asked()
    assert (call.operation, json.loads(call.payload)) == ("GetTask", {"id": "t"})
    world.hear(A2AResult(b'{"id":"t","metadata":{"generation":9}}'), last)
    (told,) = followed.take()
    assert isinstance(told, A2AEvent) and json.loads(told.payload)["task"]["id"] == "t"
    assert (told.generation, told.last, followed.is_over) == (9, True, True)


def test_a_stream_whose_task_is_not_as_far_any_more_says_so(world: World) -> None:
    _, followed = begun(world)
    followed.take()
    world.connect()
    ((again, _),) = world.asked()
    fault = A2AFault(-32602, "InvalidParamsError", "it has generation 0")
    assert world.hear(fault, again) == [followed]
    assert (followed.take(), followed.is_over) == ([fault], True)


def test_who_reads_too_slowly_loses_the_stream_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_following, "_BYTES_MAX", 100)
    request, slow = begun(world)
    (other_request, other) = begun(world)
    other.take()
    assert world.hear(event(2, STATUS | {"pad": "x" * 100}), request) == [slow]
    assert slow.refused is not None and (slow.refused.code, slow.refused.retryable) == ("quota", True)
    assert generations(slow) == [1, 2], "what was kept can be read"
    assert world.hear(event(3, STATUS), request) == []
    assert world.hear(event(2, STATUS), other_request) == [other]
    assert world.calls.left == 1


def test_one_large_event_is_not_too_much(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_following, "_BYTES_MAX", 300)
    request, followed = begun(world)
    followed.take()
    world.hear(event(2, STATUS | {"pad": "x" * 400}), request)
    assert followed.refused is None
    followed.take()
    for generation in (3, 4):
        world.hear(event(generation, STATUS), request)
    assert followed.refused is None, "it was read meanwhile"


def test_of_one_who_wants_the_newest_alone_nothing_else_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_following, "_BYTES_MAX", 10)
    followed = world.calls.make(SEND, newest_only=True)
    ((request, _),) = world.asked()
    for one in (event(1, TASK), event(2, STATUS), event(3, STATUS)):
        world.hear(one, request)
    assert (generations(followed), followed.refused) == ([3], None)


def test_streams_that_nobody_follows_are_counted_until_the_connection_is_over(world: World) -> None:
    request, followed = begun(world)
    world.calls.forget(followed)
    world.calls.forget(followed)
    assert (world.calls.left, world.calls.are_open) == (1, False)
    assert world.hear(event(2, STATUS), request) == []
    world.connect()
    assert (world.calls.left, world.asked()) == (0, [])


def test_all_calls_are_refused_until_there_is_a_connection_again(world: World) -> None:
    _, stream = begun(world)
    waiting = world.calls.make(A2ACall("GetTask", b'{"id":"t"}'))
    world.asked()
    world.session.disconnected()
    assert world.calls.refuse(AWAY) == [stream, waiting]
    late = world.calls.make(SEND)
    assert all(call.refused is AWAY for call in (stream, waiting, late))
    world.connect()
    assert world.asked() == []
    assert world.calls.make(SEND).refused is None


def test_some_calls_are_refused_alone(world: World) -> None:
    request, stream = begun(world)
    waiting = world.calls.make(A2ACall("GetTask", b'{"id":"t"}'))
    assert world.calls.refuse(AWAY, [waiting]) == [waiting]
    assert (stream.refused, waiting.refused) == (None, AWAY)
    assert world.hear(event(2, STATUS), request) == [stream]
    assert world.calls.make(SEND).refused is None


def test_what_is_no_answer_is_passed_over(world: World) -> None:
    request, followed = begun(world)
    assert world.calls.on_notice(Error(ErrorCode.MALFORMED, "no"), request) == []
    assert world.calls.on_notice(event(2, STATUS), None) == []
    assert followed.refused is None
