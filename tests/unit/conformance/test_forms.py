"""Frames held against the schemas of their kinds: what fits, what does not, and how it is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from a2a.conformance.case import Failed, Role, Skipped
from a2a.conformance.conversation import NO_FRAME
from a2a.conformance.forms import FRAMES_SHOWN, Forms, breaches, kinds
from a2a.conformance.requirements import specification
from a2a.conformance.wire import JSON, MSGPACK, Frame, decode
from a2a.protocol import codec
from a2a.protocol.messages import KINDS

CARD = {"name": "w", "description": "works", "version": "1"}
HELLO = {"versions": ["1.0", "1.0"], "agentId": "w", "instanceId": "i", "incarnation": 1}
LEASE = {"id": "1", "kind": "task.lease", "task": "t", "fence": 5, "body": {"leaseMs": 200}}


def told(frame: dict[str, Any], encoding: str = JSON, role: Role = Role.COORDINATOR) -> list[str]:
    """Return what is wrong with a frame, in words."""
    return [f"{breach}: {breach.came}" for breach in breaches(Frame(frame), encoding, role)]


def hello(**fields: Any) -> dict[str, Any]:
    return {"id": "1", "kind": "hello", "body": HELLO | fields}


def lease(**fields: Any) -> dict[str, Any]:
    return LEASE | fields


def offer(**fields: Any) -> dict[str, Any]:
    times = {"offerMs": 1, "leaseMs": 1, "heartbeatMs": 1}
    named = {"spec": {"skill": "s"}, "key": "k", "contextId": "c", "delegator": "d"}
    body = {"attempt": 1, "granted": True, **times, **named, **fields}
    return {"id": "1", "kind": "task.offer", "task": "t", "fence": 5, "payload": b"[]", "body": body}


def test_there_is_a_schema_for_each_kind() -> None:
    assert kinds() == KINDS.keys()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_example_of_each_kind_fits_in_both_encodings(kind: str) -> None:
    text = json.dumps(json.loads((specification() / "examples" / f"{kind}.json").read_text(encoding="utf-8")))
    [frame] = decode(text.encode(), JSON)
    assert told(frame) == []
    [read] = codec.Decoder(codec.JSON).decode(text.encode())
    assert isinstance(read, codec.Frame)
    [packed] = decode(codec.encode([read], codec.MSGPACK), MSGPACK)
    assert told(packed, MSGPACK) == []


@pytest.mark.parametrize(
    "frame",
    [
        lease(later=[1], body={"leaseMs": 200, "later": {"x": None}}),
        lease(re=None, ext=None, body={"leaseMs": 200.0, "directives": None}),
        lease(fence=5.0),
        hello(secret=None, credit={"tasks": None}, card=CARD | {"later": None}),
        {"id": "1", "kind": "no.such.kind", "body": {"leaseMs": "later"}},
        {"id": "1", "kind": "ok"},
        {"id": "1", "kind": "ok", "body": None},
    ],
    ids=repr,
)
def test_what_may_be_otherwise_passes(frame: dict[str, Any]) -> None:
    assert told(frame) == []
    assert told(frame, role=Role.AGENT) == []


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (lease(body={"leaseMs": "200"}), "task.lease with body.leaseMs, an integer: '200'"),
        (lease(body={"leaseMs": True}), "task.lease with body.leaseMs, an integer: True"),
        (lease(body={"leaseMs": 0.5}), "task.lease with body.leaseMs, an integer: 0.5"),
        (lease(body={"leaseMs": -1}), "task.lease with body.leaseMs, at least 0: -1"),
        (lease(body={}), "task.lease with body.leaseMs: nothing"),
        (lease(body={"leaseMs": None}), "task.lease with body.leaseMs: nothing"),
        (lease(body=[]), "task.lease with body, an object: []"),
        (lease(fence=None), "task.lease with fence: nothing"),
        (lease(task=""), "task.lease with task, a text of at least 1 characters: ''"),
        (lease(id="x" * 65), f"task.lease with id, a text of at most 64 characters: '{'x' * 65}'"),
        (lease(re=5), "task.lease with re, a text: 5"),
        (lease(body={"leaseMs": 1, "directives": [1]}), "task.lease with body.directives[], a text: 1"),
        ({"id": "1", "kind": "ok", "body": {"will": "never"}}, "ok with body.will, one of canceled, too_late, pending"),
        ({"id": "1", "kind": "ok", "body": {"state": 1}}, "ok with body.state, a text: 1"),
        ({"id": 1, "kind": "no.such.kind"}, "no.such.kind with id, a text: 1"),
        ({"id": "1", "kind": 7}, "a frame with kind, a text: 7"),
        ({"id": "1"}, "a frame with kind: nothing"),
        (hello(agentId="a b"), "hello with body.agentId, a text like ^[A-Za-z0-9]"),
        (hello(labels={"zone": 1}), "hello with body.labels.zone, a text: 1"),
        (hello(versions=["1.0"]), "hello with body.versions, a list of at least 2: ['1.0']"),
        (hello(token="x" * 513), "hello with body.token, a text of at most 512 characters: (hidden)"),
        (offer(spec={}), "task.offer with body.spec.skill: nothing"),
        (offer(spec={"skill": None}), "task.offer with body.spec.skill, a text: None"),
        ({"kind": NO_FRAME, "body": {"detail": "half"}}, "a message, of whole frames (WIRE-2, WIRE-12): half"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_told_by_its_field(frame: dict[str, Any], says: str) -> None:
    as_json = json.loads(json.dumps(frame, default=bytes.decode))
    [found] = told(as_json)
    assert found.startswith(says)


@pytest.mark.parametrize(("encoding", "good", "bad"), [(JSON, "[]", b"[]"), (MSGPACK, b"[]", "[]")])
def test_a_payload_is_what_its_encoding_has(encoding: str, good: Any, bad: Any) -> None:
    right = offer(answers=[{"askNo": 1, "payload": good}]) | {"payload": good}
    assert told(right, encoding) == []
    how = "bin in MessagePack" if encoding == MSGPACK else "a text in JSON"
    assert told(right | {"payload": bad}, encoding) == [f"task.offer with payload, a payload, {how} (WIRE-10): {bad!r}"]
    [nested] = told(offer(answers=[{"askNo": 1, "payload": bad}]) | {"payload": good}, encoding)
    assert nested.startswith(f"task.offer with body.answers[].payload, a payload, {how}")


def test_nothing_but_a_payload_is_bin() -> None:
    assert told(lease(task=b"t"), MSGPACK) == ["task.lease with task, a text: b't'"]


def test_a_card_that_is_relayed_is_its_agents() -> None:
    found = {"agent": "w", "card": {"name": 5}, "status": "ready"}
    frame = {"id": "1", "kind": "agent.found", "body": {"agents": [found]}}
    assert told(frame) == []
    assert told({**frame, "body": {"agents": [found | {"card": "w"}]}}) == [
        "agent.found with body.agents[].card, an object: 'w'"
    ]
    assert told(hello(card=CARD | {"iconUrl": None}), role=Role.AGENT) == [
        "hello with body.card.iconUrl, a text: None"
    ], "inside a card null is a value"


def test_all_that_is_wrong_with_a_run_is_told_once() -> None:
    forms = Forms(Role.COORDINATOR)
    with pytest.raises(Skipped, match="no case that was tried had a frame"):
        forms.judge()
    looks = forms.looking(JSON, "worker-1", "a_case")
    looks(Frame(lease()))
    forms.judge()
    looks(Frame(lease(body={"leaseMs": "200"})))
    only = "expected task.lease with body.leaseMs, an integer; came: '200', frame '1' on worker-1 in json"
    with pytest.raises(Failed) as failed:
        forms.judge()
    assert str(failed.value) == f"{only}, in the case a_case"
    forms.look_at(Frame(lease(body={"leaseMs": "300"})), JSON, "worker-2", "another")
    forms.look_at(Frame(lease(re=5)), JSON, "worker-2", "another")
    with pytest.raises(Failed) as failed:
        forms.judge()
    more = "; nor task.lease with re, a text, in the case another: 5"
    assert str(failed.value) == f"{only}, in the case a_case, and 1 more such{more}"
    assert [line.partition(" < ")[0] for line in forms.trace()] == ["a_case: worker-1:", "another: worker-2:"]
    for number in range(2 * FRAMES_SHOWN):
        forms.look_at(Frame({"id": "1", "kind": "pong", "body": {"nonce": number}}), JSON, "w", "c")
        forms.look_at(Frame({"id": number, "kind": f"kind.{number}"}), JSON, "w", "c")
    assert len(forms.trace()) == FRAMES_SHOWN
    with pytest.raises(Failed, match=r"; and \d+ more$"):
        forms.judge()
    assert forms.frames == 4 + 4 * FRAMES_SHOWN


def test_what_opens_a_door_is_not_told() -> None:
    forms = Forms(Role.AGENT)
    forms.look_at(Frame(hello(token="open sesame" * 50)), JSON, "connection 1", "a_case")
    with pytest.raises(Failed) as failed:
        forms.judge()
    assert "sesame" not in str(failed.value) + "".join(forms.trace())
