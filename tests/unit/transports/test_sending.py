"""Frames go out in their order, in as few messages as the bounds allow."""

import uuid

import pytest

from a2a.protocol.codec import MSGPACK, Decoder, Frame
from a2a.protocol.messages import Ping, TaskArtifact, TaskFound
from a2a.transports.sending import BYTES_PER_MESSAGE, FRAMES_PER_MESSAGE, send_frames


class Sent:
    """A transport that keeps what it is to send."""

    def __init__(self):
        self.messages = []

    def send(self, data):
        self.messages.append([frame.message for frame in Decoder(MSGPACK).decode(data)])


def frame(message):
    return Frame(str(uuid.uuid4()), message)


def test_no_more_frames_share_a_message_than_its_bound():
    pings = [Ping(str(number)) for number in range(2 * FRAMES_PER_MESSAGE + 1)]
    sent = Sent()
    send_frames(sent, [frame(ping) for ping in pings], MSGPACK)
    assert [len(message) for message in sent.messages] == [FRAMES_PER_MESSAGE, FRAMES_PER_MESSAGE, 1]
    assert [ping for message in sent.messages for ping in message] == pings


def test_no_more_frames_share_a_message_than_the_other_end_takes():
    sent = Sent()
    send_frames(sent, [frame(Ping()) for _ in range(7)], MSGPACK, frames_max=3)
    assert [len(message) for message in sent.messages] == [3, 3, 1]


@pytest.mark.parametrize(
    ("octets", "together"),
    [
        ([BYTES_PER_MESSAGE // 2] * 4, [2, 2]),
        ([10, BYTES_PER_MESSAGE, 10], [1, 1, 1]),
        ([2 * BYTES_PER_MESSAGE], [1]),
    ],
)
def test_no_more_payload_shares_a_message_than_its_bound(octets, together):
    payloads = [b'"' + b"x" * (size - 2) + b'"' for size in octets]
    chunks = [TaskArtifact("t", 1, "log", number, payload) for number, payload in enumerate(payloads)]
    sent = Sent()
    send_frames(sent, [frame(chunk) for chunk in chunks], MSGPACK)
    assert [len(message) for message in sent.messages] == together
    assert [chunk.chunk_no for message in sent.messages for chunk in message] == list(range(len(octets)))


@pytest.mark.parametrize("where", ["input", "artifacts"])
def test_what_is_found_of_tasks_shares_no_message_beyond_its_bound(where):
    content = b'"' + b"x" * (BYTES_PER_MESSAGE // 2 - 2) + b'"'
    fields = {"input": content} if where == "input" else {"artifacts": [{"chunks": [content[:2], content[2:]]}]}
    sent = Sent()
    send_frames(sent, [frame(TaskFound("t", number, {}, **fields)) for number in range(4)], MSGPACK)
    assert [[found.generation for found in message] for message in sent.messages] == [[0, 1], [2, 3]]


def test_what_finds_no_room_stays_with_all_behind_it():
    frames = [frame(Ping(str(number))) for number in range(5)]
    sent = Sent()
    done = send_frames(sent, frames, MSGPACK, frames_max=2, has_room=lambda size: size > 0 and len(sent.messages) < 2)
    assert done == 4
    assert [ping.nonce for message in sent.messages for ping in message] == ["0", "1", "2", "3"]
    assert send_frames(sent, frames[done:], MSGPACK, has_room=lambda size: True) == 1


def test_of_a_message_that_is_too_large_each_frame_has_to_find_room():
    frames = [frame(Ping("x" * 60)) for _ in range(3)]
    sent = Sent()
    done = send_frames(sent, frames, MSGPACK, message_max=200, has_room=lambda size: len(sent.messages) < 2)
    assert done == 2 and len(sent.messages) == 2


def test_nothing_is_sent_for_nothing():
    sent = Sent()
    send_frames(sent, [], MSGPACK)
    assert sent.messages == []


def test_a_frame_that_cannot_be_sent_is_given_back_and_those_beside_it_go_out():
    frames = [frame(Ping("1")), frame(Ping(object())), frame(Ping("x" * 1_000)), frame(Ping("2"))]
    sent, lost = Sent(), []
    send_frames(sent, frames, MSGPACK, message_max=500, unsendable=lambda *told: lost.append(told))
    assert [ping.nonce for message in sent.messages for ping in message] == ["1", "2"]
    assert [told[:2] for told in lost] == [(frames[1], "malformed"), (frames[2], "too_large")]
    assert lost[1][2].startswith("expected at most 500 bytes in a message, this has 1")


def test_where_nobody_takes_it_a_frame_that_has_no_form_is_a_bug():
    with pytest.raises(TypeError):
        send_frames(Sent(), [frame(Ping(object()))], MSGPACK)
