"""Frames in both encodings, and the hashes over them."""

from __future__ import annotations

import hashlib

import msgpack
import pytest

from a2a.conformance.wire import JSON, MSGPACK, Frame, count, decode, digest, encode, parts, result, result_hash

FRAMES = [{"id": "ä", "kind": "ping", "body": {"nonce": "1"}}, {"id": "2", "kind": "bye", "payload": b"[1]"}]


def test_json_has_a_line_for_each_frame() -> None:
    message = encode(FRAMES, JSON)
    assert message.decode().split("\n") == [
        '{"id": "ä", "kind": "ping", "body": {"nonce": "1"}}',
        '{"id": "2", "kind": "bye", "payload": "[1]"}',
    ]
    assert decode(message + b"\n\n", JSON) == [FRAMES[0], {**FRAMES[1], "payload": "[1]"}]


def test_msgpack_has_one_map_behind_the_other() -> None:
    message = encode(FRAMES, MSGPACK)
    assert message == msgpack.packb(FRAMES[0]) + msgpack.packb(FRAMES[1])
    assert decode(message, MSGPACK) == FRAMES


@pytest.mark.parametrize(
    ("message", "encoding"),
    [
        (b"", JSON),
        (b"\n", JSON),
        (b"[1]", JSON),
        (b"{} 1", JSON),
        (b'{"a": 1', JSON),
        (b"\xff", JSON),
        (b"[" * 1_000_000, JSON),
        (b'{"fence":1e400}', JSON),
        (b'{"fence":-1e400}', JSON),
        (b'{"fence":NaN}', JSON),
        (b'{"body":{"x":[Infinity]}}', JSON),
        (b'{"fence":9007199254740992}', JSON),
        (b'{"id":"1","id":"1"}', JSON),
        (b'{"id":"\\ud83d"}', JSON),
        (b'{"body":{"\\udc00":1}}', JSON),
        (b"", MSGPACK),
        (msgpack.packb(7), MSGPACK),
        (msgpack.packb({}) + msgpack.packb([]), MSGPACK),
        (msgpack.packb({"a": "long"})[:-2], MSGPACK),
        (msgpack.packb({}) + b"\x81", MSGPACK),
        (b"\xc1", MSGPACK),
        (b"\x91" * 1_000_000, MSGPACK),
        (msgpack.packb({"fence": float("inf")}), MSGPACK),
        (msgpack.packb({"fence": float("nan")}), MSGPACK),
        (msgpack.packb({"fence": 2**53}), MSGPACK),
        (msgpack.packb({"fence": -(2**53)}), MSGPACK),
        (b"\x82\xa2id\xa11\xa2id\xa11", MSGPACK),
        (msgpack.packb({"body": {7: 1}}), MSGPACK),
        (msgpack.packb({"body": {b"id": 1}}), MSGPACK),
        (msgpack.packb({"payload": b"\xff"}), MSGPACK),
        (msgpack.packb({"body": [msgpack.ExtType(5, b"x")]}), MSGPACK),
        (msgpack.packb({"at": msgpack.Timestamp(1, 0)}), MSGPACK),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_frame_is_a_value_error(message: bytes, encoding: str) -> None:
    with pytest.raises(ValueError):
        decode(message, encoding)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b'{"id":"\xe9"}', "the message is not UTF-8, from byte 7 on (WIRE-12)"),
        (b'{"id":"\\ud83d"}', "half of a surrogate pair in a text: \\ud83d (WIRE-12)"),
        (b'{"id":1}{"id":2}', "not JSON, one object a line (WIRE-2): Extra data"),
        (b'{\n"id":1}', "not JSON, one object a line (WIRE-2): Expecting"),
    ],
)
def test_what_is_wrong_with_a_message_is_said_in_the_words_of_the_specification(message: bytes, says: str) -> None:
    with pytest.raises(ValueError) as failed:
        decode(message, JSON)
    assert str(failed.value).startswith(says)


def test_what_every_language_has_can_be_read() -> None:
    values = {"id": "😀", "gen": 2**53 - 1, "body": {"low": 1 - 2**53, "x": [1e20, -0.5, None, True]}}
    for encoding in (JSON, MSGPACK):
        assert decode(encode([values], encoding), encoding) == [values]


def test_a_number_without_a_fraction_is_an_integer_however_it_is_written() -> None:
    written = {"fence": 7.0, "body": {"upto": 3e2, "x": [-1.0, 0.5, 1e20, True]}}
    for encoding in (JSON, MSGPACK):
        (read,) = decode(encode([written], encoding), encoding)
        assert str(read) == str(Frame(fence=7, body={"upto": 300, "x": [-1, 0.5, 1e20, True]}))


def test_null_is_the_same_as_absent_in_a_body() -> None:
    frame = Frame(fence=None, body={"token": None, "upto": 1, "held": []})
    assert (frame.fence, frame.body) == (0, {"upto": 1, "held": []})


def test_what_is_no_number_counts_as_none() -> None:
    assert [count(value) for value in (7, None, "7", 0.5, True, [7])] == [7, 0, 0, 0, 0, 0]


def test_a_frame_has_names_for_its_fields() -> None:
    frame = Frame(id="1", kind="error", task="t", fence=3, payload="[ä]", body={"code": "auth"})
    assert (frame.id, frame.kind, frame.task, frame.fence, frame.code) == ("1", "error", "t", 3, "auth")
    assert frame.payload == "[ä]".encode()
    assert Frame(payload=b"\xff").payload == b"\xff"
    empty = Frame(body=[])
    assert (empty.id, empty.kind, empty.task, empty.fence, empty.code, empty.payload, empty.body) == (
        *("", "", "", 0, "", b""),
        {},
    )


def test_a_frame_is_shown_without_what_opens_a_door() -> None:
    body = {"agentId": "worker", "token": "t-1", "operatorToken": "t-2", "secret": "t-3"}
    frame = Frame(kind="hello", payload=b"\xff", body=body)
    shown = str(frame)
    assert "worker" in shown
    assert "�" in shown
    assert "t-" not in shown
    assert frame.body == body, "it is sent as it is"


def test_a_frame_with_a_key_that_is_no_string_can_be_shown() -> None:
    assert "ping" in str(Frame(kind="ping", body={b"\xff": 1}))


def test_hashes_are_over_the_canonical_header_and_the_payload() -> None:
    # RFC 8785: keys by their code units, no space, characters as they are.
    written = b'{"a":[1,{"\xc3\xa4":true}],"b":"\xe2\x82\xac"}\n[]'
    assert digest({"b": "€", "a": [1, {"ä": True}]}, b"[]") == f"sha256:{hashlib.sha256(written).hexdigest()}"
    expected = hashlib.sha256(b'{"outcome":"completed"}\n[1]').hexdigest()
    assert result_hash("completed", b"[1]") == f"sha256:{expected}"
    assert result_hash("completed", b"[1]") != result_hash("failed", b"[1]")


def test_payloads_are_canonical() -> None:
    assert parts({"b": 1, "a": "ä"}) == '[{"data":{"a":"ä","b":1}}]'.encode()
    assert result(7, name="x") == b'[{"artifactId":"x","parts":[{"data":7}]}]'
