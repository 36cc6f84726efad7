"""Cutting a stream of bytes into WebSocket frames, wherever the network has cut it."""

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from a2a.transports.cutting import Cutter

SIZES = st.one_of(st.integers(0, 130), st.sampled_from([65_535, 65_536, 70_000]))
FRAMES = st.lists(st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING]), SIZES), max_size=6)


def cutter(*, is_masked: bool = True, message_max_bytes: int = 100_000) -> Cutter:
    return Cutter(is_masked=is_masked, message_max_bytes=message_max_bytes)


def frame(opcode: Opcode, data: bytes, *, mask: bool = True, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=mask)


@settings(deadline=None)
@given(FRAMES, st.booleans(), st.lists(st.integers(0, 200_000), max_size=12))
def test_frames_come_out_whole_wherever_the_bytes_were_parted(frames, mask, places):
    raws = []
    for opcode, size in frames:
        data = bytes(number % 251 for number in range(size))[: 125 if opcode is Opcode.PING else None]
        raws.append((frame(opcode, data, mask=mask), data, opcode))
    stream = b"".join(raw for raw, *_ in raws)
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    taken = cutter(is_masked=mask)
    cuts = [cut for start, end in itertools.pairwise(borders) for cut in taken.cut(stream[start:end])]
    assert [cut.raw for cut in cuts] == [raw for raw, *_ in raws]
    assert [cut.payload for cut in cuts] == [data for _, data, _ in raws]
    assert all(type(cut.payload) is type(cut.raw) is bytes for cut in cuts)
    assert [cut.is_message for cut in cuts] == [opcode in (Opcode.TEXT, Opcode.BINARY) for *_, opcode in raws]
    assert [cut.is_text for cut in cuts if cut.is_message] == [
        opcode is Opcode.TEXT for *_, opcode in raws if opcode in (Opcode.TEXT, Opcode.BINARY)
    ]


@pytest.mark.parametrize(
    "first",
    [frame(Opcode.BINARY, b"part", fin=False), b"\xc2" + frame(Opcode.BINARY, b"compressed")[1:]],
    ids=["part", "reserved bit"],  # their masks are drawn
)
def test_a_part_of_a_message_and_a_reserved_bit_are_no_message(first):
    (cut,) = cutter().cut(first)
    assert cut.raw == first and not cut.is_message


@pytest.mark.parametrize(
    "broken",
    [
        frame(Opcode.BINARY, b"not masked", mask=False),
        b"\x82\xff" + struct.pack("!Q", 1001) + bytes(4),
        b"\x82\xff" + struct.pack("!Q", 2**63 - 1) + bytes(4),
        b"\x82\xfe" + struct.pack("!H", 1001),
    ],
    ids=["not masked", "too long", "far too long", "too long for a short header"],
)
def test_from_a_frame_that_breaks_a_rule_on_all_comes_as_it_is_and_at_once(broken):
    taken = cutter(message_max_bytes=1000)
    good = frame(Opcode.TEXT, b"good")
    first, second = taken.cut(good + broken)
    assert first.is_message and not second.is_message
    assert second.raw == broken
    (third,) = taken.cut(good)
    assert third.raw == good and not third.is_message


def test_a_frame_of_the_largest_size_is_waited_for():
    taken = cutter(message_max_bytes=1000)
    raw = frame(Opcode.BINARY, bytes(1000))
    assert list(taken.cut(raw[:-1])) == []
    (cut,) = taken.cut(raw[-1:])
    assert cut.payload == bytes(1000)


def test_a_frame_that_comes_byte_by_byte_takes_no_more_room_than_its_bytes():
    taken = cutter(message_max_bytes=1_000_000)
    raw = frame(Opcode.BINARY, bytes(200_000))
    parts = [raw[at : at + 1] for at in range(len(raw) - 1)]
    tracemalloc.start()
    for part in parts:
        assert list(taken.cut(bytes(bytearray(part)))) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * len(raw)
    (cut,) = taken.cut(raw[-1:])
    assert cut.raw == raw


def test_large_pieces_of_a_frame_are_kept_as_they_came():
    taken = cutter(message_max_bytes=2_000_000)
    raw = frame(Opcode.BINARY, bytes(1_000_000))
    parts = [raw[at : at + 250_000] for at in range(0, len(raw), 250_000)]
    tracemalloc.start()
    for part in parts[:-1]:
        assert list(taken.cut(part)) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 10_000
    (cut,) = taken.cut(parts[-1])
    assert cut.raw == raw
