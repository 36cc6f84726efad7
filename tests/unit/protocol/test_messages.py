"""The messages as a whole: names, tables, limits."""

import dataclasses
import re
import typing

import pytest
from pydantic import TypeAdapter, ValidationError

from a2a.protocol import messages
from a2a.protocol.messages import KINDS, REQUESTS, Message, Struct, Unknown

DIGEST = "sha256:" + "0" * 64


def subclasses(kind):
    return {item for item in vars(messages).values() if isinstance(item, type) and issubclass(item, kind)} - {kind}


def test_every_message_is_in_the_table_under_its_kind():
    assert set(KINDS.values()) | {Unknown} == subclasses(Message)
    assert all(kind == message.kind for kind, message in KINDS.items())


def test_every_message_and_struct_is_public():
    assert {item.__name__ for item in subclasses(Message) | subclasses(Struct)} <= set(messages.__all__)


@pytest.mark.parametrize("kind, message", KINDS.items(), ids=KINDS)
def test_a_kind_and_its_class_are_the_same_words(kind, message):
    assert re.fullmatch(r"[a-z0-9]+(\.[a-z]+)?", kind)
    words = "".join("A2A" if word == "a2a" else word.capitalize() for word in kind.split("."))
    assert message.__name__ in (words, words + "Notice")


@pytest.mark.parametrize("kind", sorted(subclasses(Message) | subclasses(Struct), key=lambda kind: kind.__name__))
def test_a_message_is_small_says_what_it_is_and_has_no_common_defaults(kind):
    assert dataclasses.is_dataclass(kind)
    assert "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(kind.__name__ + "("), "a docstring of its own"
    for item in dataclasses.fields(kind):
        assert not isinstance(item.default, list | dict)


def test_requests_are_messages_and_answers_are_not_requests():
    assert set(KINDS.values()) >= REQUESTS
    assert not {messages.Ok, messages.Error, messages.TaskVerdict, messages.TaskHeartbeat, messages.Ping} & REQUESTS


def test_what_travels_in_the_envelope_has_one_type_everywhere():
    for kind in KINDS.values():
        hints = typing.get_type_hints(kind)
        assert hints.get("task", str) in (str, str | None)
        assert hints.get("payload", bytes) in (bytes, bytes | None)
        assert hints.get("fence", int) in (int, int | None)


@pytest.mark.parametrize(
    "kind, fields",
    [
        (messages.Credit, {"tasks": -1}),
        (messages.Credit, {"tasks": 100_001}),
        (messages.Credit, {"frames": 0}),
        (messages.Credit, {"frames": 65_537}),
        (messages.Hello, {"versions": ["1.0"], "agentId": "a", "instanceId": "i", "incarnation": 1}),
        (messages.Hello, {"versions": ["1.0"] * 3, "agentId": "a", "instanceId": "i", "incarnation": 1}),
        (messages.Hello, {"versions": ["1.0"] * 2, "agentId": "a b", "instanceId": "i", "incarnation": 1}),
        (messages.Hello, {"versions": ["1.0"] * 2, "agentId": "a", "instanceId": "i", "incarnation": -1}),
        (messages.TaskLimits, {"attempts": 0}),
        (messages.TaskLimits, {"losses": -1}),
        (messages.TaskLimits, {"reworks": 1_001}),
        (messages.Timers, {"heartbeatMs": 19}),
        (messages.Timers, {"leaseMs": 99}),
        (messages.Timers, {"offerMs": 99}),
        (messages.TaskDelegate, {"key": "", "spec": {"skill": "s"}}),
        (messages.TaskDelegate, {"key": "k", "spec": {}}),
        (messages.TaskDelegate, {"key": "k", "spec": {"skill": "s"}, "onParentEnd": "ask"}),
        (messages.TaskHeartbeat, {"task": "t", "fence": 1, "progressBp": 10_001}),
        (messages.TaskHeartbeat, {"task": "t", "fence": 1, "note": "x" * 2_001}),
        (messages.TaskHeartbeat, {"task": "t", "fence": -1}),
        (messages.TaskAsk, {"task": "t", "fence": 1, "askNo": 1, "payload": b"", "hold": "warm"}),
        (messages.TaskReport, {"task": "t", "fence": 1, "outcome": "won", "resultHash": DIGEST}),
        (messages.TaskReport, {"task": "t", "fence": 1, "outcome": "completed", "resultHash": "sha256:0"}),
        (messages.TaskConfirm, {"task": "t", "rev": 0, "resultHash": DIGEST, "verdict": "perhaps"}),
        (messages.TaskCancel, {"task": "t", "mode": "gently"}),
        (messages.TaskDecline, {"task": "t", "fence": 1, "reason": "bored"}),
        (messages.ClaimAcquire, {"claimNo": 0, "claims": [{"name": "a"}]}),
        (messages.ClaimAcquire, {"claimNo": 1, "claims": []}),
        (messages.ClaimAcquire, {"claimNo": 1, "claims": [{"name": "a"}] * 65}),
        (messages.ClaimAcquire, {"claimNo": 1, "claims": [{"mode": "x"}]}),
        (messages.ClaimAcquire, {"claimNo": 1, "claims": [{"name": "a", "mode": "w"}]}),
        (messages.ClaimAcquire, {"claimNo": 1, "claims": [{"name": "a"}], "priority": 10}),
        (messages.ClaimAcquire, {"claimNo": 1, "claims": [{"name": "a"}], "ttlMs": 99}),
        (messages.ClaimRenew, {"claimFence": 1, "ttlMs": 99}),
        (messages.ClaimList, {"limit": 1_001}),
        *((messages.ClaimList, {"name": name}) for name in ("", "/a", "a/", "a//b", "**", "a/*", "a/**/b", "a*")),
        *((messages.ClaimList, {"name": name}) for name in ("a\nb", "a\n", "x" * 513, "/".join("a" * 33))),
        (messages.TaskList, {"limit": 0}),
        (messages.TaskList, {"limit": 1_001}),
        (messages.Ping, {"nonce": "x" * 65}),
    ],
)
def test_what_is_beyond_a_limit_is_refused(kind, fields):
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(fields)


@pytest.mark.parametrize("name", ["a", "a/b", "repo/a/src/**", "docs/read me.md", "a/.../b", "/".join("a" * 32)])
def test_a_name_to_claim_is_segments_and_may_stand_for_all_below(name):
    TypeAdapter(messages.ClaimList).validate_python({"name": name})


def test_names_on_the_wire_are_camel_case_only():
    adapter = TypeAdapter(messages.TaskDecline)
    message = adapter.validate_python({"task": "t", "fence": 1, "retryAfterMs": 5, "retry_after_ms": 7})
    assert message.retry_after_ms == 5
    assert adapter.validate_python({"task": "t", "fence": 1, "retry_after_ms": 7}).retry_after_ms == 1_000


def test_what_opens_a_door_is_not_shown_with_its_message():
    hello = messages.Hello(["1.0", "1.0"], "a", "i", 1, "the-token", "the-secret", "the-operators")
    limits = messages.Limits(1, 1, 1, 1, 1, 1, 1, 1)
    welcome = messages.Welcome("1.0", "main", 1, "fsync", limits, 1, secret="the-secret")
    assert "the-" not in repr(hello) + repr(welcome)
    assert "agent_id='a'" in repr(hello)
