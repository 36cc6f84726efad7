"""The schemas in `spec/v1/messages` are those of the code, and take what the codec sends."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry

from a2a.protocol.codec import JSON, MSGPACK, Decoder, Frame, encode
from a2a.protocol.messages import (
    KINDS,
    A2ACall,
    A2AEvent,
    A2AFault,
    A2AResult,
    AgentEvent,
    AgentFilter,
    AgentFind,
    AgentForget,
    AgentForgotten,
    AgentFound,
    AgentInfo,
    AgentUpdate,
    Amount,
    Answer,
    ArtifactRef,
    AttemptError,
    Bye,
    Checkpoint,
    Child,
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimList,
    ClaimPage,
    ClaimPreempt,
    ClaimQueued,
    ClaimRelease,
    ClaimRenew,
    ConflictAppeal,
    ConflictFound,
    ConflictGet,
    ConflictList,
    ConflictOpened,
    ConflictPage,
    ConflictPosition,
    ConflictRaise,
    ConflictRaised,
    ConflictResolved,
    ConflictVote,
    ContextEventNotice,
    ContextOp,
    ContextRead,
    ContextValue,
    ContextValues,
    ContextWatch,
    ContextWrite,
    ContextWritten,
    CoordinatorFound,
    CoordinatorGet,
    Credit,
    Dossier,
    Error,
    Feedback,
    GrantedName,
    Held,
    HeldStill,
    HeldVerdict,
    Hello,
    Limits,
    MailboxAck,
    Message,
    Ok,
    Ping,
    Pong,
    PriorAttempt,
    RaisedSubject,
    Resume,
    Seen,
    StaleBasis,
    Steer,
    Subject,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCheckpoint,
    TaskConfirm,
    TaskCreated,
    TaskDecline,
    TaskDelegate,
    TaskEventNotice,
    TaskFound,
    TaskGet,
    TaskHandoff,
    TaskHeartbeat,
    TaskLease,
    TaskLimits,
    TaskList,
    TaskOffer,
    TaskPage,
    TaskReport,
    TaskReview,
    TaskRevoke,
    TaskSettled,
    TaskSteer,
    TaskVerdict,
    TaskWatch,
    TaskYield,
    Timers,
    Welcome,
)
from a2a.protocol.schemas import DIALECT, export, to_text
from a2a.protocol.types import AgentCard, TaskSpec

DIRECTORY = Path(__file__).parents[3] / "spec" / "v1" / "messages"
REWRITE = "a2a schema export --dir spec/v1/messages"

SCHEMAS = export()
HASH = "sha256:" + "0" * 64
PARTS = '[{"text":"Grüße\\n"}]'.encode()
CARD: AgentCard = {
    "name": "counter",
    "description": "Counts.",
    "version": "1.0",
    "capabilities": {"streaming": True},
    "skills": [
        {
            "id": "count_words",
            "name": "Count",
            "description": "Counts words.",
            "tags": ["text"],
            "inputSchema": {"type": "string"},
            "x-unknown": 1,  # type: ignore[typeddict-unknown-key]
        }
    ],
}
SPEC: TaskSpec = {
    "skill": "count_words",
    "requires": {"tags": ["text"], "labels": {"zone": "a"}, "exclude": ["counter/2"]},
    "acceptance": {"evaluator": "auto"},
    "effect": "pure",
    "priority": 3,
    "resources": [{"name": "repo/a/**", "mode": "s"}, {"name": "merge:a"}],
}
VALUE = ContextValue("plan", 3, PARTS, False, "counter", "main-7", 8, 1_700_000_000_000, "because", True, True)
INFO = AgentInfo("counter", CARD, "ready", {"zone": "a"}, 4, ["main-7"], 12)

LEAST: list[Message] = [
    Hello(["1.0", "1.0"], "desk", "7f3a", 1),
    Welcome("1.0", "main", 1, "fsync", Limits(1, 2, 3, 4, 5, 6, 7, 8), 1),
    Bye(),
    MailboxAck(3),
    Credit(),
    Ping(),
    Pong(),
    AgentUpdate(),
    AgentForget("counter"),
    AgentForgotten(),
    AgentFind(),
    AgentFound([]),
    AgentEvent("left", AgentInfo("counter", CARD, "away")),
    TaskDelegate("doc-42", {"skill": "count_words"}),
    TaskCreated("main-7", 1, True, "queued", "main-c7"),
    TaskOffer("main-7", 8, 1, True, 5000, 30_000, 10_000, {"skill": "x"}, b"[]", "doc-42", "main-c7", "desk"),
    TaskAccept("main-7", 8),
    TaskDecline("main-7", 8),
    TaskLease("main-7", 8, 30_000),
    TaskHeartbeat("main-7", 8),
    TaskCheckpoint("main-7", 8, 1, PARTS),
    TaskArtifact("main-7", 8, "log", 0, PARTS),
    TaskAsk("main-7", 1, PARTS),
    TaskAnswer("main-7", 1, PARTS),
    TaskSteer("main-7", "k", PARTS),
    TaskHandoff("main-7", 8),
    TaskReport("main-7", 8, "completed", HASH),
    TaskVerdict("main-7", 8, "admitted"),
    TaskReview("main-7", 4, 0, HASH, PARTS, "counter", 600_000),
    TaskConfirm("main-7", 0, HASH),
    TaskSettled("main-7", 5, "canceled"),
    TaskCancel("main-7"),
    TaskRevoke("main-7", 8, "superseded"),
    TaskYield("main-7", 8),
    ClaimAcquire(1, [{"name": "repo/a"}]),
    ClaimGranted(1, 12, [{"name": "repo/a", "mode": "x"}]),
    ClaimQueued(1, 1),
    ClaimDenied(1, "timeout"),
    ClaimRenew(12),
    ClaimRelease(12),
    ClaimPreempt(1, 12, "claim 4 of w2 has priority 5", 10_000),
    ClaimList(),
    ClaimPage([]),
    ConflictRaise("result", [RaisedSubject()]),
    ConflictRaised("main-k9", True, True, "task:main-7"),
    ConflictOpened("main-k9", "result", "r1", 1, [], "author"),
    ConflictPosition("main-k9", PARTS),
    ConflictVote("main-k9"),
    ConflictAppeal("main-k9", "new_evidence"),
    ConflictResolved("main-k9", "moot", "the task has ended", ""),
    ConflictGet("main-k9"),
    ConflictFound("main-k9", {}),
    ConflictList(),
    ConflictPage([]),
    CoordinatorGet(),
    CoordinatorFound("main", 1, 2, 0),
    TaskGet("main-7"),
    TaskFound("main-7", 5, {}),
    TaskList(),
    TaskPage([]),
    TaskWatch("main-7"),
    TaskEventNotice("main-7", 5, "complete", "completed", 1_700_000_000_000),
    ContextRead("main-c7"),
    ContextValues("main-c7", 9),
    ContextWrite("main-c7", "w", [ContextOp("plan")]),
    ContextWritten("main-c7", {"plan": 1}),
    ContextWatch("main-c7"),
    ContextEventNotice("main-c7", 9),
    A2ACall("GetTask"),
    A2AResult(b"{}"),
    A2AFault(-32001, "TaskNotFoundError", "there is no task main-7"),
    A2AEvent("main-7", 3, b"{}"),
    Ok(),
    Error("stale", "fence 8 of task main-7 is stale"),
]
"""Each kind with nothing but what it must have."""

MOST: list[Message] = [
    Hello(
        ["1.0", "1.4"],
        "desk#a1",
        "7f3a",
        1,
        "token",
        "secret",
        "operator",
        CARD,
        {"zone": "a"},
        Credit(4, 16),
        [HeldStill("main-7", 8, 3, "3f1c0a77d2b94e60a1f5c8d90b6e4723")],
        Resume(5),
        ["x"],
    ),
    Welcome(
        "1.0",
        "main",
        1,
        "memory",
        Limits(1, 2, 3, 4, 5, 6, 7, 8),
        6,
        "operator",
        True,
        "secret",
        [HeldVerdict("main-7", 8, "keep", 30_000), HeldVerdict("main-9", 9, "unknown")],
        ["x"],
    ),
    Bye("done", True),
    Ping("n"),
    Pong("n"),
    AgentUpdate("counter", "draining", {"zone": "b"}, CARD, 1000),
    AgentForget("counter", True),
    AgentForgotten(True, True),
    AgentFind(AgentFilter("counter", "count_words", ["text"], {"zone": "a"}, "text/plain", HASH), True),
    AgentFound([INFO]),
    AgentEvent("joined", INFO),
    TaskDelegate(
        "doc-42",
        SPEC,
        PARTS,
        "c1",
        Held("main-3", 4),
        TaskLimits(60_000, 3, 3, 10, 0),
        Timers(20, 100, 100, 100, 100, 100, 100, 100, 100),
        "abandon",
        {"tokens": 10, "costMicro": 20, "steps": 3, "children": 4, "depth": 1},
        "cancel",
        1000,
        "main-2",
    ),
    TaskOffer(
        "main-7",
        8,
        2,
        False,
        5000,
        30_000,
        10_000,
        SPEC,
        PARTS,
        "doc-42",
        "main-c7",
        "desk",
        1,
        59_000,
        "main-3",
        [Feedback(0, PARTS, "style")],
        [Answer(1, PARTS)],
        [Child("main-9", "k", "queued")],
        [Steer(1, PARTS)],
        Checkpoint(3, 6, "counter", PARTS, "rows"),
        Dossier(
            [PriorAttempt("counter", 6, "failed", 9, 3, "disk: full", {"tokens": 2}, 4, "half", PARTS)],
            [{"fence": 6, "agent": "counter", "verdict": "late", "resultHash": HASH}],
            ["log"],
        ),
        {"tokens": 8},
        [GrantedName("repo/a/**", "s", 8)],
        "3f1c0a77d2b94e60a1f5c8d90b6e4723",
    ),
    TaskDecline("main-7", 8, "conflict_of_interest", 0),
    TaskLease("main-7", 8, 30_000, ["cancel:kill"]),
    TaskHeartbeat("main-7", 8, 3, 10_000, "counting", {"tokens": 1}, "released"),
    TaskCheckpoint("main-7", 8, 2, PARTS, 1, "rows", False),
    TaskArtifact("main-7", 8, "log", 2, PARTS, "the log", True, False, HASH),
    TaskAsk("main-7", 1, PARTS, 8, "cold", 1000, b"[]", True),
    TaskAnswer("main-7", 1, PARTS, 4),
    TaskSteer("main-7", "k", PARTS, 4, "interrupt", 2),
    TaskHandoff("main-7", 8, "counter/2", {"tags": ["text"]}, PARTS, {"steps": 1}),
    TaskReport(
        "main-7",
        8,
        "failed",
        HASH,
        PARTS,
        AttemptError("disk", "full", True),
        {"seconds": 1.5},  # type: ignore[typeddict-unknown-key]
        [ArtifactRef("log", HASH)],
        2,
        [Seen("decisions/db", 1)],
    ),
    TaskVerdict("main-7", 8, "late", "the attempt had ended"),
    TaskReview("main-7", 4, 0, HASH, PARTS, "counter", 600_000, True, [StaleBasis("plan", 1, 2)]),
    TaskConfirm("main-7", 0, HASH, "reject", True, "style", PARTS, 3),
    TaskSettled("main-7", 5, "completed", "", "", 1, HASH, "auto", "counter", PARTS),
    TaskCancel("main-7", "kill", "no more need", 0),
    TaskRevoke("main-7", 8, "cancel", "coop", 10_000),
    TaskYield("main-7", 8, "low on memory", {"tokens": 5}),
    ClaimAcquire(2, [{"name": "repo/a/**", "mode": "s"}], "main-7", 8, 60_000, 5_000, 3, True),
    ClaimGranted(2, 12, [{"name": "repo/a/**", "mode": "s"}], "main-7", 8, 60_000),
    ClaimQueued(2, 3, "main-7", 8),
    ClaimDenied(2, "deadlock", "task main-7 waits for repo/b of task main-9; ...", "main-7", 8, [{"task": "main-7"}]),
    ClaimRenew(12, 60_000),
    ClaimRelease(None, 2, "main-7", 8),
    ClaimPreempt(2, 12, "claim 4 of w2 has priority 5", 0, "main-7", 8),
    ClaimList("repo/a", "main-7", 1000),
    ClaimPage([{"claimFence": 12}], True),
    ConflictRaise(
        "context",
        [
            RaisedSubject("main-7"),
            RaisedSubject(context_id="plans", key="db", rev=3),
            RaisedSubject(resource="repo/main", fence=9),
            RaisedSubject(value=b'"sqlite"'),
        ],
        "context:plans/db",
        "two stores",
        PARTS,
    ),
    ConflictRaised("main-k9", False, False, "context:plans/db"),
    ConflictOpened(
        "main-k9",
        "result",
        "r1",
        1,
        [Subject("main-8", "counter", HASH, 0)],
        "delegator",
        "main-7",
        "task:main-7",
        500,
    ),
    ConflictPosition("main-k9", PARTS, "mine is right"),
    ConflictVote("main-k9", "main-8", "checked"),
    ConflictAppeal("main-k9", "wrong_subject", PARTS),
    ConflictResolved("main-k9", "select", "2 of 3", "majority", "main-7", "task:main-7", "main-8", ["main-9"], 1000),
    ConflictGet("main-k9", False),
    ConflictFound("main-k9", {"conflict": "main-k9"}, [{"ref": "main-8", "payload": PARTS}]),
    ConflictList("main-7", True, "main-k9", 10, "result", "task:main-7"),
    ConflictPage([{"conflict": "main-k9"}], "main-k9"),
    CoordinatorGet(),
    CoordinatorFound("main", 1, 7, 60_000, {"leased": 1}, [Amount("tasks", 2, 500_000)]),
    TaskGet("main-7", False),
    TaskFound(
        "main-7",
        5,
        {"id": "main-7"},
        PARTS,
        b"[]",
        [{"artifactId": "log", "chunks": [PARTS]}],
        [{"askNo": 1, "payload": PARTS}],
    ),
    TaskList("queued", "count_words", "main-3", "c1", "main-9", 1000, True),
    TaskPage([{"id": "main-7"}], "main-7"),
    TaskWatch("main-7", 4, True),
    TaskEventNotice("main-7", 5, "artifact", "leased", 1, {"chunkNo": 1}, PARTS),
    ContextRead("main-c7", ["plan"], "p", 3, True, "a"),
    ContextValues("main-c7", 9, [VALUE, ContextValue("new", 0)], "plan"),
    ContextWrite(
        "main-c7",
        "w",
        [
            ContextOp("plan", 3, PARTS, decision=True, guarded=True),
            ContextOp("part", None, None, b"[]"),
            ContextOp("old", delete=True),
        ],
        [Seen("decisions/db", 1)],
        Held("main-7", 8),
        "because",
    ),
    ContextWatch("main-c7", "plan", 9, True),
    ContextEventNotice("main-c7", 9, [VALUE]),
    A2ACall("SubscribeToTask", b'{"id":"main-7"}', "1.0", ["urn:x"], 3),
    A2AFault(
        -32001, "TaskNotFoundError", "there is no task main-7", [{"@type": "x", "metadata": {"taskId": "main-7"}}]
    ),
    A2AEvent("main-7", 3, b"{}", last=True),
    Ok("canceling", "pending"),
    Error("already_answered", "question 1", True, 100, {"askNo": 1, "answer": PARTS}),
]
"""Each kind that may have more, with everything."""


def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[f"{kind}.json"], registry=Registry())


def on_the_wire(message: Message) -> Any:
    frame = Frame("1.9", message, "a2", None, "desk", 3, 1000, "t", {"x": 1}, True)
    return json.loads(encode([frame], JSON))


def test_the_files_are_those_of_the_code() -> None:
    expected = {name: to_text(schema) for name, schema in export().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    assert not differ, f"{', '.join(differ)} differ from a2a/protocol/messages.py. Rewrite them: {REWRITE}"


def test_there_is_a_schema_for_each_kind_and_for_the_card() -> None:
    assert set(export()) == {f"{kind}.json" for kind in KINDS} | {"agent-card.json"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_refers_only_to_itself(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    references: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                references.append(value["$ref"])
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(schema)
    assert all(reference.startswith("#/$defs/") for reference in references)


def test_an_export_is_the_callers_own() -> None:
    first = export()
    first["ping.json"]["properties"]["id"]["type"] = "integer"
    assert export()["ping.json"]["properties"]["id"]["type"] == "string"


def test_the_examples_leave_out_no_kind_and_no_field() -> None:
    assert [message.kind for message in LEAST] == list(KINDS)
    for kind in KINDS:
        body_and_envelope: set[str] = set()
        for message in (message for message in LEAST + MOST if message.kind == kind):
            body_and_envelope |= {item.name for item in fields(message) if getattr(message, item.name) is not None}  # type: ignore[arg-type]
        assert body_and_envelope == {item.name for item in fields(KINDS[kind])}, kind  # type: ignore[arg-type]


@pytest.mark.parametrize("message", LEAST + MOST, ids=lambda message: message.kind)
def test_what_the_codec_sends_is_valid(message: Message) -> None:
    validator(message.kind).validate(on_the_wire(message))


@pytest.mark.parametrize("message", LEAST + MOST, ids=lambda message: message.kind)
def test_a_valid_frame_is_one_that_the_codec_takes(message: Message) -> None:
    for encoding in (JSON, MSGPACK):
        (frame,) = Decoder(encoding).decode(encode([Frame("1", message)], encoding))
        assert isinstance(frame, Frame), frame
        assert on_the_wire(frame.message) == on_the_wire(message)


@pytest.mark.parametrize("message", LEAST, ids=lambda message: message.kind)
def test_each_field_without_a_default_is_required_where_it_travels(message: Message) -> None:
    lifted = {"task": "task", "fence": "fence", "generation": "gen", "payload": "payload"}
    frame, check = on_the_wire(message), validator(message.kind)
    for item in fields(message):  # type: ignore[arg-type]
        if item.default is not MISSING or item.default_factory is not MISSING:
            continue
        short = json.loads(json.dumps(frame))
        if item.name in lifted:
            del short[lifted[item.name]]
        else:
            words = item.name.split("_")
            del short["body"][words[0] + "".join(word.capitalize() for word in words[1:])]
        assert not check.is_valid(short), f"{message.kind} is valid without {item.name}"
        (answer,) = Decoder(JSON).decode(json.dumps(short).encode())
        assert not isinstance(answer, Frame), f"the codec takes {message.kind} without {item.name}"


@pytest.mark.parametrize("message", LEAST, ids=lambda message: message.kind)
def test_an_unknown_field_is_valid_and_another_kind_is_not(message: Message) -> None:
    frame, check = on_the_wire(message), validator(message.kind)
    frame["tomorrow"] = frame["body"]["tomorrow"] = {"a": [1]}
    assert check.is_valid(frame)
    frame["kind"] = "task.cfp"
    assert not check.is_valid(frame)


def test_the_card_schema_takes_what_a_card_must_have_and_may_have() -> None:
    check = Draft202012Validator(export()["agent-card.json"], registry=Registry())
    assert check.is_valid(CARD)
    assert check.is_valid({"name": "", "description": "", "version": ""})
    assert not check.is_valid({"name": "x", "version": "1"})
    assert not check.is_valid(CARD | {"skills": [{"id": "", "name": "", "description": "", "tags": []}]})
