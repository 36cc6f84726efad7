"""A coordinator and its connections, looked at as its shell and its peers would: what the targets play on."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from pydantic.alias_generators import to_camel

from a2a.delegator import AgentInfo
from a2a.engine.archived import ArchivedContext, ArchiveEntry
from a2a.engine.conflicts.bench import Answer, do
from a2a.engine.coordinator import Coordinator
from a2a.engine.decision import Need, Row
from a2a.engine.policy import Policy
from a2a.engine.records import Record, from_bytes, to_bytes
from a2a.engine.snapshot import load, state_hash
from a2a.engine.snapshot import to_bytes as to_snapshot
from a2a.link import _OUR_LIMITS
from a2a.protocol.codec import JSON, SUBPROTOCOLS, BadFrame, Decoder, Encoding, Frame, encode
from a2a.protocol.messages import AgentFound, Message, TaskOffer, TaskReview

from .making import Heard, to_wire

__all__ = ["Play", "checked", "papers_of"]

_CARD: dict[str, Any] = {
    "name": "a",
    "description": "",
    "version": "1",
    "skills": [{"id": skill, "name": skill, "description": "", "tags": []} for skill in ("s", "t", "judge")],
}
_IDS = (
    "task",
    "fence",
    "context_id",
    "conflict",
    "claim_fence",
    "generation",
    "rev",
    "ask_no",
    "claim_no",
    "result_hash",
)
"""Fields that tell what something is about; a peer that heard them says them again."""


def checked(frames: list[Frame | BadFrame]) -> list[Frame | BadFrame]:
    """Look at what a decoder returned: something is said, and nothing behind what ends the connection."""
    assert frames, "something came, and something is said about it"
    assert not any(isinstance(frame, BadFrame) and frame.fatal for frame in frames[:-1]), "a fatal one is the last"
    return frames


def papers_of(name: str) -> dict[str, Any]:
    return {"versions": ["1.0", "1.0"], "agentId": name, "instanceId": "i", "incarnation": 1, "token": ""} | {
        "card": deepcopy(_CARD),  # some targets change it
        "credit": {"tasks": 3, "frames": 64},
        "held": [],
        "labels": {},
        "secret": f"the secret of {name.partition('#')[0]}",
        "operatorToken": None,
    }


class Play:
    """A coordinator with a few connections; what it does is looked at as its shell and its peers would."""

    def __init__(self, policy: Policy) -> None:
        self.coordinator = Coordinator(policy)
        self.coordinator.restore((), "key", 1_000)
        self.policy = policy
        self.now = 1_000
        self.heard = Heard()
        self.attempts: list[tuple[int, str, int]] = []
        """(connection, task, fence) of each offer."""
        self.reviews: list[tuple[int, str, int, str]] = []
        """(connection, task, rev, hash) of each result."""
        self.sent: dict[int, int] = {}
        """Connection to the newest mailbox entry that was sent on it."""
        self.records: list[tuple[int, Record]] = []
        """(lsn, record) of all that was to be appended."""
        self.archived: list[ArchiveEntry] = []
        self._open: set[int] = set()
        self._ids = 1
        self._incarnation = 1
        self._settle()

    def next_id(self) -> str:
        self._ids += 1
        return str(self._ids)

    def open(self, number: int) -> None:
        self._open.add(number)
        self.coordinator.opened(number, f"fresh {number}", self.now)

    def leave(self, number: int) -> None:
        self._open.discard(number)
        self.coordinator.closed(number, self.now)
        self._settle()

    def greet(self, number: int, name: str) -> None:
        self._incarnation += 1
        papers = papers_of(name) | {"instanceId": f"i{self._incarnation}", "incarnation": self._incarnation}
        self.say(number, {"id": self.next_id(), "kind": "hello", "body": papers}, JSON)

    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.coordinator.tick(self.now)
        self._settle()

    def say(self, number: int, frame: dict[str, Any], encoding: Encoding) -> None:
        self.say_bytes(number, to_wire([frame], encoding), encoding)

    def say_bytes(self, number: int, message: bytes, encoding: Encoding) -> None:
        for frame in checked(Decoder(encoding, self.policy.frame_limits).decode(message)):
            self.coordinator.step(number, frame, self.now)
            self._settle()

    def close(self) -> None:
        """Stop, and look whether what was recorded adds up to what there is."""
        self.coordinator.stop(self.now)
        self._settle()
        again = Coordinator(self.policy)
        again.fold(from_bytes(*to_bytes(record)) for _, record in self.records)
        live = self.coordinator.ledger
        assert state_hash(again.ledger) == state_hash(live), "folding the records gives another state"
        kept = load(to_snapshot(live), live.namespace)
        assert state_hash(kept) == state_hash(live), "the snapshot is of another state"

    def _settle(self) -> None:
        """Take what there is to append and send until nothing follows; each frame has to be one that peers can read."""
        for _ in range(1_000):
            ready = self.coordinator.ready(self.now)
            assert ready.halt is None or "older copy" in ready.halt
            self.records += ready.records
            self.archived += ready.archived
            self._hear(ready.frames)
            for number, _ in ready.closes:
                self._open.discard(number)
                self.open(number)
            for job in ready.jobs:
                answer = do(job)
                assert isinstance(answer, Answer)
                self.coordinator.answered(job, answer, self.now)
            for need in ready.needs:
                self.coordinator.found(need, self._contexts(need), self.now)
            if not ready or ready.halt is not None:
                return
        raise AssertionError("the coordinator does not come to rest")

    def _contexts(self, need: Need) -> list[Row]:
        """Return the contexts that are needed; what else was archived is not looked for, as if it were gone."""
        kept = {one.context_id: one for one in self.archived if isinstance(one, ArchivedContext)}
        found = [kept[name] for name in need.contexts if name in kept]
        return [Row(one.context_id, one.body, one.beside, "context") for one in found]

    def _hear(self, frames: Iterable[tuple[int, Frame]]) -> None:
        for number, frame in frames:
            for encoding in SUBPROTOCOLS:
                (read,) = Decoder(encoding, _OUR_LIMITS).decode(encode([frame], encoding))
                assert isinstance(read, Frame), f"peers cannot read this: {read}"
            message: Message = frame.message
            for name in _IDS:
                self.heard.hear(to_camel(name), getattr(message, name, None))
            if frame.mseq is not None:
                self.sent[number] = frame.mseq
            if isinstance(message, TaskOffer):
                self.attempts.append((number, message.task, message.fence))
            elif isinstance(message, TaskReview):
                self.reviews.append((number, message.task, message.rev, message.result_hash))
            elif isinstance(message, AgentFound):
                for info in message.agents:
                    AgentInfo.from_wire(info)
