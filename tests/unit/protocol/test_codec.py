"""Bytes to frames and back, in both encodings, and everything that is not a frame."""

import json
import math
import os
import subprocess
import sys
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a2a.errors import ErrorCode
from a2a.protocol.codec import (
    JSON,
    MSGPACK,
    SUBPROTOCOLS,
    BadFrame,
    Decoder,
    Frame,
    FrameLimits,
    aside,
    encode,
    maps_of,
    pack,
    unpack,
    without_form,
)
from a2a.protocol.messages import (
    KINDS,
    AgentFind,
    AgentUpdate,
    AttemptError,
    Credit,
    Error,
    HeldStill,
    Hello,
    Ok,
    Ping,
    Pong,
    TaskAccept,
    TaskArtifact,
    TaskAsk,
    TaskConfirm,
    TaskDelegate,
    TaskGet,
    TaskHeartbeat,
    TaskOffer,
    TaskReport,
    Unknown,
)

DIGEST = "sha256:" + "0" * 64
both = pytest.mark.parametrize("encoding", SUBPROTOCOLS)


def raw(encoding, *maps):
    """Encode maps as a message without any check."""
    if encoding == MSGPACK:
        return b"".join(msgpack.packb(item) for item in maps)
    return b"\n".join(json.dumps(item).encode() for item in maps)


def decode(data, encoding=MSGPACK, **limits):
    return Decoder(encoding, FrameLimits(**limits)).decode(data)


def one(data, encoding=MSGPACK, **limits):
    (frame,) = decode(data, encoding, **limits)
    return frame


def ping(**fields):
    return {"id": "1", "kind": "ping", "body": {}} | fields


def refusal(frame):
    assert isinstance(frame, BadFrame), frame
    return frame.code, frame.fatal


# Round trips ----------------------------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
json_objects = st.dictionaries(text, json_values, max_size=3)
names = st.from_regex(r"[A-Za-z0-9][a-z0-9._/@:+-]{0,20}(#[a-z0-9-]{1,8})?", fullmatch=True)
cards = st.fixed_dictionaries(
    {"name": text, "description": text, "version": text},
    optional={
        "skills": st.lists(
            st.fixed_dictionaries(
                {"id": names, "name": text, "description": text, "tags": st.lists(text, max_size=2)},
                optional={"inputSchema": json_objects},
            ),
            max_size=2,
        ),
        "x-more": json_values,
    },
)
specs = st.fixed_dictionaries(
    {"skill": names},
    optional={"priority": st.integers(0, 9), "requires": st.fixed_dictionaries({"agent": names}), "x": json_values},
)
usages = st.fixed_dictionaries(
    {}, optional={"tokens": st.integers(0, 99), "steps": st.integers(0, 99), "x": json_values}
)
TYPED = {
    "AgentCard": cards,
    "TaskSpec": specs,
    "Requirements": st.fixed_dictionaries({"agent": names}),
    "Budget": st.fixed_dictionaries({}, optional={"tokens": st.integers(0, 99), "depth": st.integers(0, 9)}),
    "Usage": usages,
    "Resource": st.fixed_dictionaries({"name": st.just("repo/**")}, optional={"mode": st.sampled_from("xs")}),
}
payloads = json_values.map(lambda value: json.dumps(value).encode())
BY_NAME = {"versions": st.lists(text, min_size=2, max_size=2)}


def strategy(hint, limits=()):
    """Return a strategy for a field of this type, within what its annotation allows."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return strategy(arguments[0], [part for item in arguments[1:] for part in getattr(item, "metadata", [item])])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if type(None) in arguments:
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return st.none() | strategy(inner, limits)
    bounds = {name: getattr(item, name) for item in limits for name in vars_of(item)}
    if origin is list:
        return st.lists(strategy(arguments[0]), min_size=bounds.get("min_length", 0), max_size=3)
    if origin is dict:
        return json_objects if arguments[1] is typing.Any else st.dictionaries(text, strategy(arguments[1]), max_size=3)
    if isinstance(hint, type) and is_dataclass(hint):
        return of(hint)
    if getattr(hint, "__name__", "") in TYPED:
        return TYPED[hint.__name__]
    if hint is int:
        return st.integers(bounds.get("ge", 0), min(bounds.get("le", 2**53 - 1), 2**53 - 1))
    if hint is str:
        if "pattern" in bounds:
            return names if bounds["pattern"].startswith("^[A-Za") else st.just(DIGEST)
        return st.text(
            st.characters(exclude_categories=["Cs"]),
            min_size=bounds.get("min_length", 0),
            max_size=min(bounds.get("max_length", 12), 12),
        )
    return {bool: st.booleans(), bytes: payloads}[hint]


def vars_of(item):
    return [
        name for name in ("ge", "le", "min_length", "max_length", "pattern") if getattr(item, name, None) is not None
    ]


def of(kind):
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{item.name: BY_NAME.get(item.name, strategy(hints[item.name])) for item in fields(kind)})


envelopes = st.fixed_dictionaries(
    {"id": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)},
    optional={
        "re": text,
        "sender": text,
        "to": text,
        "mseq": st.integers(0, 2**53 - 1),
        "ttl_ms": st.integers(0, 2**53 - 1),
        "slack_ms": st.integers(0, 2**53 - 1),
        "trace": text,
        "ext": st.dictionaries(text, json_values, min_size=1, max_size=2),
        "must": st.booleans(),
    },
)


@both
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_message_arrives_as_it_was_sent(kind, encoding):
    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(of(kind), envelopes)
    def check(message, envelope):
        frame = Frame(message=message, **envelope)
        assert decode(encode([frame], encoding), encoding) == [frame]

    check()


@both
def test_several_frames_travel_in_one_message_in_order(encoding):
    frames = [Frame("1", Ping("a")), Frame("2", TaskGet("t")), Frame("3", Pong("b"), re="0")]
    assert decode(encode(frames, encoding), encoding) == frames


@both
def test_bytes_an_agent_wrote_are_not_looked_into(encoding):
    payload = b'{"not": json, \\ "\n'
    frame = Frame("1", TaskAsk("t", 1, payload, default=b"NaN"))
    assert one(encode([frame], encoding), encoding) == frame


def test_a_payload_is_binary_in_messagepack_and_text_in_json():
    frame = Frame("1", TaskArtifact("t", 3, "a", 0, '["é"]'.encode()))
    assert msgpack.unpackb(encode([frame], MSGPACK)) == {
        "id": "1",
        "kind": "task.artifact",
        "task": "t",
        "fence": 3,
        "payload": '["é"]'.encode(),
        "body": {"artifactId": "a", "chunkNo": 0, "name": "", "append": False, "lastChunk": True},
    }
    assert json.loads(encode([frame], JSON))["payload"] == '["é"]'


def test_a_json_message_has_one_frame_a_line():
    data = encode([Frame("1", Ping("line\nbreak")), Frame("2", Ok())], JSON)
    assert len(data.split(b"\n")) == 2
    assert decode(b"\n  \n" + data.replace(b"\n", b"\r\n") + b"\n\n", JSON)[1] == Frame("2", Ok())


def test_what_is_absent_takes_no_room():
    assert msgpack.unpackb(encode([Frame("1", AgentUpdate())], MSGPACK)) == {
        "id": "1",
        "kind": "agent.update",
        "body": {},
    }
    assert msgpack.unpackb(encode([Frame("1", AgentFind())], MSGPACK))["body"] == {"watch": False}
    hello = msgpack.unpackb(encode([Frame("1", Hello(["1.0", "1.0"], "a", "i", 1))], MSGPACK))
    assert set(hello["body"]) == {"versions", "agentId", "instanceId", "incarnation", "token", "credit"}


@both
def test_a_kind_nobody_knows_is_carried_as_it_is(encoding):
    frame = Frame("1", Unknown("task.sing", {"song": [1, {"a": None}]}), must=True)
    assert one(encode([frame], encoding), encoding) == frame


def test_a_kind_nobody_knows_is_not_mistaken_for_the_class_that_carries_it():
    assert one(raw(MSGPACK, ping(kind="unknown"))) == Frame("1", Unknown("unknown", {}))


@both
def test_unknown_fields_are_ignored(encoding):
    frame = one(raw(encoding, ping(color="red", body={"nonce": "n", "size": 5})), encoding)
    assert frame == Frame("1", Ping("n"))


@both
def test_a_field_of_the_envelope_is_not_taken_from_the_body(encoding):
    bad = one(raw(encoding, ping(kind="task.get", body={"task": "t"})), encoding)
    assert refusal(bad) == (ErrorCode.MALFORMED, False)
    both_places = ping(kind="task.accept", task="real", fence=1, body={"task": "other", "fence": 9})
    assert one(raw(encoding, both_places), encoding).message == TaskAccept("real", 1)


@both
def test_nil_is_the_same_as_absent(encoding):
    nils = ping(re=None, to=None, mseq=None, ext=None, payload=None, fence=None, body={"nonce": None, "labels": None})
    assert one(raw(encoding, nils), encoding) == Frame("1", Ping())
    assert one(raw(encoding, ping(body=None)), encoding) == Frame("1", Ping())
    hello = {"versions": ["1.0", "1.0"], "agentId": "a", "instanceId": "i", "incarnation": 1}
    given = hello | {
        "token": None,
        "credit": {"tasks": None, "frames": 5},
        "held": [{"task": "t", "fence": 1, "progressNo": None}],
    }
    assert one(raw(encoding, ping(kind="hello", body=given)), encoding).message == Hello(
        ["1.0", "1.0"], "a", "i", 1, credit=Credit(0, 5), held=[HeldStill("t", 1)]
    )


@both
def test_nil_inside_what_is_relayed_is_kept(encoding):
    card = {"name": "n", "description": "", "version": "", "x": {"y": None}, "z": None}
    frame = one(raw(encoding, ping(kind="agent.update", body={"card": card, "labels": None})), encoding)
    assert frame.message.card == card
    hello = {"versions": ["1.0", "1.0"], "agentId": "a", "instanceId": "i", "incarnation": 1, "token": None}
    frame = one(raw(encoding, ping(kind="hello", body=hello | {"card": card})), encoding)
    assert frame.message.card == card


@both
def test_an_integral_float_is_an_integer(encoding):
    frame = one(
        raw(encoding, ping(kind="task.heartbeat", task="t", fence=3.0, mseq=7.0, body={"progressNo": 2.0})), encoding
    )
    assert frame == Frame("1", TaskHeartbeat("t", 3, 2), mseq=7)
    assert all(type(value) is int for value in (frame.message.fence, frame.message.progress_no, frame.mseq))
    body = {"key": "k", "spec": {"skill": "s", "priority": 5.0, "x": [1.0, 1.5, None]}, "limits": {"attempts": 2.0}}
    message = one(raw(encoding, ping(kind="task.delegate", body=body)), encoding).message
    assert isinstance(message, TaskDelegate) and message.limits is not None
    assert (message.limits.attempts, message.spec) == (2, body["spec"]), "the same number, whichever way it is written"


# What is not a frame --------------------------------------------------------------------------------------------------


@both
@settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_decoding_never_raises_whatever_the_bytes(encoding, data):
    good = encode([Frame("1", Ping("n")), Frame("2", TaskGet("t"))], encoding)
    content = data.draw(
        st.binary(max_size=60)
        | st.text(max_size=30).map(str.encode)
        | st.integers(0, len(good)).map(lambda cut: good[:cut])
        | st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)).map(
            lambda change: good[: change[0]] + bytes([change[1]]) + good[change[0] + 1 :]
        )
    )
    frames = decode(content, encoding)
    assert frames, "something came, and something is said about it"
    assert all(isinstance(frame, Frame | BadFrame) for frame in frames)
    assert not any(isinstance(frame, BadFrame) and frame.fatal for frame in frames[:-1]), "a fatal one is the last"


@both
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_decoding_never_raises_whatever_the_fields_and_what_it_takes_can_be_sent_on(encoding, data):
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    given_fields = [item.name for item in fields(KINDS[kind])]
    words = ["agentId", "versions", "card", "held", "spec", "payload", "resultHash", "outcome", *given_fields]
    anything = json_values | st.sampled_from(["a", DIGEST, 1, True, [], {}, ["1.0", "1.0"], {"skill": "s"}])
    body = data.draw(st.dictionaries(st.sampled_from(words), anything, max_size=6))
    envelope = data.draw(
        st.dictionaries(
            st.sampled_from(["task", "fence", "gen", "payload", "re", "mseq", "ext", "must"]), anything, max_size=4
        )
    )
    (frame,) = decode(raw(encoding, {"id": "1", "kind": kind, "body": body, **envelope}), encoding)
    if isinstance(frame, Frame):
        for other in SUBPROTOCOLS:
            assert isinstance(one(encode([frame], other), other), Frame)
        assert pack(frame.ext) is not None


@both
@pytest.mark.parametrize("data", [b"", b"\n", b"  \n \n"])
def test_a_message_without_a_frame_is_malformed(encoding, data):
    if encoding == JSON or not data:
        assert refusal(one(data, encoding)) == (ErrorCode.MALFORMED, True)


@both
@pytest.mark.parametrize("value", [7, "a", None, True, [], [ping()], 1.5])
def test_a_frame_is_a_map(encoding, value):
    assert refusal(one(raw(encoding, value), encoding)) == (ErrorCode.MALFORMED, True)


@both
@pytest.mark.parametrize("field", ["id", "kind"])
@pytest.mark.parametrize("value", [None, 7, "", "x" * 65, [], {}])
def test_a_frame_has_an_id_and_a_kind(encoding, field, value):
    assert refusal(one(raw(encoding, ping(**{field: value})), encoding)) == (ErrorCode.MALFORMED, True)


@both
def test_an_id_and_a_kind_have_up_to_64_characters(encoding):
    frame = one(raw(encoding, ping(id="i" * 64, kind="k" * 64)), encoding)
    assert frame == Frame("i" * 64, Unknown("k" * 64, {}))


@both
@pytest.mark.parametrize("value", [7, "a", [], True])
def test_a_body_is_a_map(encoding, value):
    bad = one(raw(encoding, ping(body=value)), encoding)
    assert (refusal(bad), bad.id, bad.kind) == ((ErrorCode.MALFORMED, False), "1", "ping")


@both
@pytest.mark.parametrize(
    "envelope",
    [
        {"re": 7},
        {"re": 7.0},
        {"from": ["a"]},
        {"to": True},
        {"mseq": "7"},
        {"mseq": 1.5},
        {"mseq": True},
        {"ttlMs": []},
        {"slackMs": "9"},
        {"trace": {}},
        {"ext": []},
        {"must": "true"},
        {"must": 1},
    ],
)
def test_an_envelope_has_the_right_types(encoding, envelope):
    bad = one(raw(encoding, ping(**envelope)), encoding)
    assert (refusal(bad), bad.id) == ((ErrorCode.MALFORMED, False), "1")


@both
@pytest.mark.parametrize("must", [None, False])
def test_only_true_is_must(encoding, must):
    assert one(raw(encoding, ping(must=must)), encoding).must is False
    assert one(raw(encoding, ping(must=True)), encoding).must is True


@both
@pytest.mark.parametrize(
    "kind, envelope, body",
    [
        ("task.accept", {"task": "t"}, {}),
        ("task.accept", {"task": "t", "fence": "x"}, {}),
        ("task.accept", {"task": "t", "fence": 1.5}, {}),
        ("task.accept", {"task": "t", "fence": -1}, {}),
        ("task.accept", {"task": 7, "fence": 1}, {}),
        ("task.accept", {"task": "", "fence": 1}, {}),
        ("task.ask", {"task": "t", "fence": 1, "payload": 7}, {"askNo": 1}),
        ("task.ask", {"task": "t", "fence": 1, "payload": {}}, {"askNo": 1}),
        ("task.delegate", {}, {"key": "k", "spec": "s"}),
        ("task.delegate", {}, {"key": "k", "spec": {"skill": "s"}, "parent": "p"}),
        ("hello", {}, {"agentId": "a"}),
        ("hello", {}, {"versions": "1.0", "agentId": "a", "instanceId": "i", "incarnation": 1}),
        ("agent.find", {}, {"filter": []}),
        ("agent.update", {}, {"labels": ["a"]}),
        ("task.list", {}, {"limit": "many"}),
        ("task.accept", {"task": "t", "fence": "3"}, {}),
        ("task.accept", {"task": "t", "fence": True}, {}),
        ("task.list", {}, {"limit": "5"}),
        ("task.get", {"task": "t"}, {"content": 1}),
        ("task.get", {"task": "t"}, {"content": "true"}),
        ("task.delegate", {}, {"key": "k", "spec": {"skill": "s", "priority": "5"}}),
        ("hello", {}, {"versions": ["1.0", "1.0"], "agentId": "a", "instanceId": "i", "incarnation": "1"}),
        ("agent.find", {}, {"watch": 1}),
    ],
)
def test_a_message_of_the_wrong_types_is_answered_and_the_connection_goes_on(encoding, kind, envelope, body):
    data = raw(encoding, ping(kind=kind, body=body, **envelope), ping(id="2"))
    bad, good = decode(data, encoding)
    assert (refusal(bad), bad.id, bad.kind) == ((ErrorCode.MALFORMED, False), "1", kind)
    assert bad.detail.startswith(f"{kind}: ")
    assert good == Frame("2", Ping())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": Path("/x")}, f"task: expected what JSON has, got {Path('/x')!r}"),
        ({"task": "a\udcff"}, "task: expected text without a lone surrogate, got one"),
        ({"rev": 2**53}, f"rev: expected a number up to {2**53 - 1}, got {2**53}"),
        ({"rev": math.nan}, "rev: expected a finite number, got nan"),
        ({"reason_code": ["x", {"y": {1}}]}, "reasonCode.1.y: expected what JSON has, got {1}"),
        ({"reason_code": {"y": {1: "x"}}}, "reasonCode.y: expected a text for a key, got 1"),
        ({}, ""),
    ],
)
def test_the_field_that_has_no_form_is_named_with_what_it_holds(wrong, words):
    right = {"task": "t", "rev": 1, "result_hash": DIGEST, "verdict": "accept", "payload": b"[]"}
    assert without_form(Frame("1", TaskConfirm(**right | wrong))) == words


@both
def test_a_refusal_says_what_was_expected_where(encoding):
    bad = one(raw(encoding, ping(kind="task.list", body={"limit": 0})), encoding)
    assert bad.detail == "task.list: limit: Input should be greater than or equal to 1, got 0"
    bad = one(raw(encoding, ping(kind="task.list", body={"limit": 1.5})), encoding)
    assert bad.detail.startswith("task.list: limit: Input should be a valid integer") and bad.detail.endswith("got 1.5")
    bad = one(raw(encoding, ping(kind="task.get")), encoding)
    assert bad.detail == "task.get: task: Field required in the envelope, got none"
    bad = one(raw(encoding, ping(kind="task.get", body={"task": "t"})), encoding)
    assert bad.detail == "task.get: task: Field required in the envelope, got none"
    bad = one(raw(encoding, ping(kind="task.steer", task="t", payload=[{"text": "x"}], body={"key": "k"})), encoding)
    wanted = "a payload: JSON written out as a string, in MessagePack as bin"
    assert bad.detail == f"task.steer: payload: Input should be {wanted}, got a list"
    bad = one(raw(encoding, ping(kind="task.list", body={"limit": "many", "state": 7})), encoding)
    assert bad.detail == "task.list: state: Input should be a valid string, got a number (and 1 more)"
    bad = one(raw(encoding, ping(kind="task.list", body={"limit": "many"})), encoding)
    assert bad.detail.endswith("got a string of 4")
    bad = one(raw(encoding, ping(kind="claim.list", body={"name": "a//b"})), encoding)
    named = "1 to 32 parts with a / between them, and for all below /** at the end"
    assert bad.detail == f"claim.list: name: Input should be {named}, got a string of 4"
    bad = one(raw(encoding, ping(re=7)), encoding)
    assert bad.detail == "ping: re is a string, this is a number"
    bad = one(raw(encoding, ping(body={"x": 2**53})), encoding)
    assert bad.detail == "an integer beyond ±(2^53 - 1)"


def test_half_a_surrogate_pair_is_named():
    assert one(rb'{"id":"1","kind":"ping","x":"\ud83d"}', JSON).detail == r"half of a surrogate pair in a text: \ud83d"


@both
def test_a_fatal_frame_is_the_last_that_is_read(encoding):
    frames = decode(raw(encoding, ping(), {"kind": "ping"}, ping(id="3")), encoding)
    assert [type(frame) for frame in frames] == [Frame, BadFrame]


# The wire's own rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":"1","kind":"ping","body":{},"body":{}}',
        b'{"id":"1","kind":"agent.update","body":{"labels":{"a":"1","a":"2"}}}',
    ],
)
def test_a_key_is_named_once_json(data):
    assert refusal(one(data, JSON)) == (ErrorCode.MALFORMED, True)


def test_a_key_is_named_once_messagepack():
    twice = b"\x83" + b"".join(map(msgpack.packb, ("id", "1", "kind", "ping", "id", "2")))
    assert refusal(one(twice)) == (ErrorCode.MALFORMED, True)


@pytest.mark.parametrize("key", [7, b"bytes", None, True, 1.5, (1,)])
def test_a_key_is_text(key):
    for where in (ping(ext={key: 1}), {key: 1} | ping(), ping(body={"labels": {key: "v"}})):
        assert refusal(one(msgpack.packb(where))) == (ErrorCode.MALFORMED, True)


@pytest.mark.parametrize(
    "extension",
    [msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 2), msgpack.ExtType(127, b"")],
)
def test_extension_types_are_not_spoken(extension):
    for where in (extension, ping(ext={"a": extension}), ping(body={"a": [extension]}), ping(payload=extension)):
        assert refusal(one(msgpack.packb(where))) == (ErrorCode.MALFORMED, True)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_is_finite_messagepack(value):
    for where in (ping(ext={"a": value}), ping(body={"a": [value]}), ping(fence=value)):
        assert refusal(one(msgpack.packb(where))) == (ErrorCode.MALFORMED, True)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_is_finite_json(text):
    for data in (
        f'{{"id":"1","kind":"ping","ext":{{"a":{text}}}}}',
        f'{{"id":"1","kind":"ping","body":{{"a":[{text}]}}}}',
    ):
        assert refusal(one(data.encode(), JSON)) == (ErrorCode.MALFORMED, True)


@both
@pytest.mark.parametrize("value", [2**53, -(2**53), 2**63])
def test_an_integer_is_one_every_language_can_hold(encoding, value):
    for where in (ping(ext={"a": value}), ping(body={"a": [value]}), ping(kind="task.accept", task="t", fence=value)):
        assert refusal(one(raw(encoding, where), encoding)) == (ErrorCode.MALFORMED, True)
    edge = ping(ext={"a": [2**53 - 1, -(2**53) + 1]})
    assert one(raw(encoding, edge), encoding).ext == edge["ext"]


def test_a_number_of_ten_thousand_digits_is_no_work():
    assert refusal(one(b'{"id":"1","kind":"ping","body":{"a":' + b"9" * 10_000 + b"}}", JSON)) == (
        ErrorCode.MALFORMED,
        True,
    )


@both
def test_text_is_utf_8(encoding):
    data = raw(encoding, ping(body={"nonce": "x?x"})).replace(b"x?x", b"x\xffx")
    assert refusal(one(data, encoding)) == (ErrorCode.MALFORMED, True)


@pytest.mark.parametrize("escape", [r"\ud800", r"\udfff", r"a\ud83db", r"\ude00\ud83d"])
def test_half_a_surrogate_pair_is_no_text(escape):
    for where in (f'"ext":{{"a":"{escape}"}}', f'"body":{{"nonce":"{escape}"}}', f'"body":{{"x":{{"{escape}":1}}}}'):
        data = f'{{"id":"1","kind":"ping",{where}}}'
        assert refusal(one(data.encode(), JSON)) == (ErrorCode.MALFORMED, True)


def test_a_whole_surrogate_pair_is_one_character():
    assert one(rb'{"id":"1","kind":"ping","body":{"nonce":"\ud83d\ude00"}}', JSON).message == Ping("\U0001f600")


def test_binary_is_text_that_a_json_peer_can_be_given():
    bad = one(msgpack.packb(ping(kind="task.artifact", task="t", fence=1, payload=b"\xff", body={})))
    assert refusal(bad) == (ErrorCode.MALFORMED, True)
    assert refusal(one(msgpack.packb(ping(ext={"a": [b"\xff"]})))) == (ErrorCode.MALFORMED, True)
    found = Frame("1", Error("already_answered", "no", data={"answer": b"[1]"}))
    assert one(encode([found], MSGPACK)) == found
    assert one(encode([found], JSON), JSON).message.data == {"answer": "[1]"}


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_message_that_ends_in_the_middle_of_a_frame_is_malformed(cut):
    data = encode([Frame("1", Ping("n")), Frame("2", TaskGet("t"))], MSGPACK)
    whole, bad = decode(data[:-cut])
    assert whole == Frame("1", Ping("n"))
    assert refusal(bad) == (ErrorCode.MALFORMED, True)
    bad = decode(encode([Frame("1", Ping("n"))], JSON)[:-cut], JSON)[-1]
    assert refusal(bad) == (ErrorCode.MALFORMED, True)


# Limits ---------------------------------------------------------------------------------------------------------------


@both
def test_a_message_has_a_largest_size(encoding):
    data = encode([Frame("1", Ping("n"))], encoding)
    assert isinstance(one(data, encoding, message_max_bytes=len(data)), Frame)
    assert refusal(one(data, encoding, message_max_bytes=len(data) - 1)) == (ErrorCode.TOO_LARGE, True)


@both
def test_a_message_has_a_largest_number_of_frames(encoding):
    data = encode([Frame(str(number), Ping("n")) for number in range(4)], encoding)
    assert all(isinstance(frame, Frame) for frame in decode(data, encoding, frames_max=4))
    frames = decode(data, encoding, frames_max=3)
    assert len(frames) == 4
    assert refusal(frames[-1]) == (ErrorCode.TOO_LARGE, True)


@both
@pytest.mark.parametrize("payload", [b"x" * 10, "é".encode() * 5])
def test_a_payload_has_a_largest_size_in_bytes_and_the_connection_goes_on(encoding, payload):
    data = encode([Frame("1", TaskArtifact("t", 1, "a", 0, payload)), Frame("2", Ping())], encoding)
    assert all(isinstance(frame, Frame) for frame in decode(data, encoding, payload_max_bytes=10))
    bad, good = decode(data, encoding, payload_max_bytes=9)
    assert (refusal(bad), bad.id, bad.kind) == ((ErrorCode.TOO_LARGE, False), "1", "task.artifact")
    assert isinstance(good, Frame)


def nested(levels, kind):
    value = {} if kind == "map" else []
    for _ in range(levels - 1):
        value = {"a": value} if kind == "map" else [value]
    return value


@both
@pytest.mark.parametrize("kind", ["map", "list"])
@pytest.mark.parametrize("where", ["body", "ext"])
def test_a_frame_has_a_largest_depth(encoding, kind, where):
    # The frame is the first level, its body or extension the second.
    fits = ping(**{where: {"x": nested(6, kind)}})
    assert isinstance(one(raw(encoding, fits), encoding, depth_max=8), Frame)
    too_deep = ping(**{where: {"x": nested(7, kind)}})
    assert refusal(one(raw(encoding, too_deep), encoding, depth_max=8)) == (ErrorCode.TOO_LARGE, True)


@both
@pytest.mark.parametrize("levels", [400, 5_000, 100_000])
def test_any_depth_is_survived(encoding, levels):
    if encoding == MSGPACK:
        data = b"\x83" + b"".join(map(msgpack.packb, ("id", "1", "kind", "ping", "body"))) + b"\x91" * levels
        data += b"\x90"
    else:
        data = b'{"id":"1","kind":"ping","body":' + b"[" * levels + b"]" * levels + b"}"
    code, fatal = refusal(one(data, encoding))
    assert code in (ErrorCode.TOO_LARGE, ErrorCode.MALFORMED)
    assert fatal or levels == 400


@both
@pytest.mark.parametrize("shape", ["map", "list", "lists", "maps"])
def test_a_message_has_a_largest_number_of_keys_and_items(encoding, shape):
    value = {
        "map": {str(number): 0 for number in range(100)},
        "list": [0] * 100,
        "lists": [[]] * 100,
        "maps": [{}] * 100,
    }[shape]
    data = raw(encoding, ping(body={"x": value}))
    assert isinstance(one(data, encoding, items_max=300), Frame)
    assert refusal(one(data, encoding, items_max=90)) == (ErrorCode.TOO_LARGE, True)


@both
def test_the_items_of_all_frames_of_a_message_count_together_and_of_the_next_afresh(encoding):
    decoder = Decoder(encoding, FrameLimits(items_max=40))
    frame = ping(body={"x": [0] * 20})
    for _ in range(3):
        assert [type(item) for item in decoder.decode(raw(encoding, frame))] == [Frame]
    assert [type(item) for item in decoder.decode(raw(encoding, frame, frame))] == [Frame, BadFrame]


@pytest.mark.parametrize(
    "message",
    [
        raw(MSGPACK, ping())[:-1],
        raw(MSGPACK, ping(body={"x": [0] * 50}), ping()),
        raw(MSGPACK, *[ping()] * 4),
        raw(MSGPACK, ping(), ping(body={"x": 2**60}), ping()),
        raw(MSGPACK, 1, ping()),
        b"\xc1" + raw(MSGPACK, ping()),
        raw(MSGPACK, ping(body={"x": "y" * 100_000})),
    ],
    ids=["cut off", "too many items", "too many frames", "a refused value", "no map", "no MessagePack", "large"],
)
def test_whatever_a_message_was_the_next_is_read_from_its_beginning(message):
    decoder = Decoder(MSGPACK, FrameLimits(items_max=40, frames_max=3))
    for _ in range(2):
        decoder.decode(message)
        assert decoder.decode(raw(MSGPACK, ping(), ping())) == [Frame("1", Ping())] * 2


@pytest.mark.parametrize("header", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdd\x00\x01\x00\x01"])
def test_a_header_that_promises_more_than_allowed_is_not_waited_for(header):
    assert refusal(one(header)) == (ErrorCode.TOO_LARGE, True)


@pytest.mark.parametrize("header", [b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05"])
def test_a_header_that_promises_more_than_there_is_is_malformed(header):
    assert refusal(one(header)) == (ErrorCode.MALFORMED, True)


def test_a_payload_may_be_nested_as_its_author_likes():
    payload = b"[" * 5_000 + b"]" * 5_000
    for encoding in SUBPROTOCOLS:
        frame = Frame("1", TaskReport("t", 1, "completed", DIGEST, payload))
        assert one(encode([frame], encoding), encoding) == frame


# Sending --------------------------------------------------------------------------------------------------------------


@both
def test_what_the_wire_has_no_form_for_is_a_bug_of_the_sender(encoding):
    with pytest.raises((TypeError, ValueError)):
        encode([Frame("1", TaskDelegate("k", {"skill": object()}))], encoding)


def test_json_is_never_sent_with_nan():
    with pytest.raises(ValueError, match="JSON"):
        encode([Frame("1", TaskReport("t", 1, "failed", DIGEST, usage={"x": math.nan}))], JSON)


def test_a_struct_in_a_message_travels_whole():
    frame = Frame("1", TaskReport("t", 1, "failed", DIGEST, error=AttemptError("e", "d", True)))
    assert msgpack.unpackb(encode([frame], MSGPACK))["body"]["error"] == {"code": "e", "detail": "d", "retryable": True}


def test_an_offer_shows_where_each_field_travels():
    offer = TaskOffer("t", 5, 1, True, 500, 3_000, 1_000, {"skill": "s"}, b"[]", "k", "c", "boss")
    sent = msgpack.unpackb(encode([Frame("m1", offer, to="w1", mseq=1)], MSGPACK))
    assert {name: value for name, value in sent.items() if name != "body"} == {
        "id": "m1",
        "kind": "task.offer",
        "to": "w1",
        "mseq": 1,
        "task": "t",
        "fence": 5,
        "payload": b"[]",
    }
    assert set(sent["body"]) == {
        "attempt", "granted", "offerMs", "leaseMs", "heartbeatMs", "spec", "key", "contextId", "delegator", "rev",
        "proof",
        "effectScope",
    }  # fmt: skip


# Storage --------------------------------------------------------------------------------------------------------------


def test_plain_data_is_the_same_after_storage():
    value = {"a": [1, None, True, 1.5, "é", b"\xff"], "b": {"c": {}}}
    assert unpack(pack(value)) == value


def test_what_is_kept_aside_is_put_in_again():
    stored = pack({"a": [aside(1), b"inline"], "b": aside(0), "c": aside(1)})
    assert unpack(stored, [b"first", b"second"]) == {"a": [b"second", b"inline"], "b": b"first", "c": b"second"}
    with pytest.raises(ValueError, match="a part is missing: number 1 of 1"):
        unpack(stored, [b"first"])


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\xd6\x02\0\0\0\0"])
def test_what_pack_did_not_write_is_refused(data):
    with pytest.raises(ValueError, match=r".*"):
        unpack(data)


@pytest.mark.parametrize("name", ["ttlMs", "slackMs", "mseq"])
def test_a_number_of_the_envelope_is_one_that_every_language_can_hold(name):
    assert isinstance(one(msgpack.packb({"id": "1", "kind": "ping", "body": {}, name: 5.0}), MSGPACK), Frame)
    beyond = one(msgpack.packb({"id": "1", "kind": "ping", "body": {}, name: 1e300}), MSGPACK)
    assert refusal(beyond) == (ErrorCode.MALFORMED, False)


def test_frames_are_shown_as_they_are() -> None:
    odd = {"kind": "x", "payload": b"[1]", "n": 2**60, 3: None, "bad": b"\xff"}
    assert maps_of(msgpack.packb(odd) * 2, MSGPACK) == [odd, odd]
    assert maps_of(b'\n{"a":1}\n\n{"b":[{"c":1.5}]}\n', JSON) == [{"a": 1}, {"b": [{"c": 1.5}]}]
    separated = {"a": "next line \x85, line separator \u2028, paragraph separator \u2029"}
    assert maps_of(json.dumps(separated, ensure_ascii=False).encode(), JSON) == [separated]


@pytest.mark.parametrize("data", [b"", b"[1]", b"\xff", b'{"a":', b"[" * 100_000])
def test_what_is_no_map_of_json_is_not_shown_as_one(data: bytes) -> None:
    with pytest.raises(ValueError):
        maps_of(data, JSON)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x81\xa1a", b"\x81\xa1a\x01\x81", b"\xc1", b"\x91" * 100_000])
def test_what_is_no_map_of_messagepack_is_not_shown_as_one(data: bytes) -> None:
    with pytest.raises(ValueError):
        maps_of(data, MSGPACK)


BY_MANY_THREADS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from a2a.protocol.codec import pack, unpack

def there_and_back(number):
    value = {"number": number, "list": [number] * 20}
    return all(unpack(pack(value)) == value for _ in range(200))

sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(4) as threads:
    assert all(threads.map(there_and_back, range(8)))
"""


@pytest.mark.parametrize("in_python", ["", "1"], ids=["compiled", "in Python"])
def test_threads_may_pack_at_the_same_time(in_python: str) -> None:
    """Whether msgpack's compiled packer is there, or the one in Python, as where no wheel is."""
    environment = {**os.environ, "MSGPACK_PUREPYTHON": in_python}
    done = subprocess.run(
        [sys.executable, "-c", BY_MANY_THREADS],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stderr) == (0, "")
