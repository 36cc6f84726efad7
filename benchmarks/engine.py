"""A coordinator without sockets, disk or other processes: frames go in as bytes, and come out as bytes and records.

The time measured is what one process spends on its own processor, so these figures have no relay to compare with. Used
by the benchmarks that look inside: `micro` and `discover`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from a2a.engine.coordinator import Coordinator
from a2a.engine.records import Record
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import MSGPACK, Decoder, Frame, encode
from a2a.protocol.messages import Credit, Hello, Message, TaskAccept, TaskDelegate, TaskOffer, TaskReport, Welcome
from benchmarks.load import TEXT, answer_to
from benchmarks.report import BenchmarkError

__all__ = ["Engine", "Spent", "card"]

START_MS = 1_700_000_000_000


@dataclass(slots=True)
class Spent:
    """Seconds spent, and the number of frames they were spent on."""

    decoding: float = 0.0
    stepping: float = 0.0
    encoding: float = 0.0
    frames_in: int = 0
    frames_out: int = 0


@dataclass(slots=True)
class Engine:
    """A coordinator, the records it wanted kept, and what the calls have cost so far."""

    coordinator: Coordinator = field(default_factory=Coordinator)
    records: list[Record] = field(default_factory=list)
    spent: Spent = field(default_factory=Spent)
    now: int = START_MS
    _decoder: Decoder = field(default_factory=lambda: Decoder(MSGPACK))
    _requests: int = 0
    _connections: int = 0

    def __post_init__(self) -> None:
        self.coordinator.begin("key", self.now)

    def join(self, agent: str, skills: Sequence[str] = (), tasks: int = 0) -> int:
        """Have an agent join, or with no skills a client; return its connection."""
        self._connections += 1
        connection = self._connections
        self.coordinator.opened(connection, f"secret-{connection}", self.now)
        hello = Hello(
            ["1.0", "1.0"],
            agent,
            f"{agent}-1",
            1,
            card=card(agent, skills) if skills else None,  # type: ignore[arg-type]
            credit=Credit(tasks, 1024),
        )
        if not any(isinstance(answer, Welcome) for _, answer in self.say(connection, hello)):
            raise BenchmarkError(f"the coordinator did not welcome {agent}")
        return connection

    def say(self, connection: int, message: Message) -> list[tuple[int, Message]]:
        """Send a message, note what that cost, and return the messages that result, each with its connection."""
        self._requests += 1
        self.now += 1
        data = encode([Frame(f"request-{self._requests:08d}", message)], MSGPACK)
        spent, clock = self.spent, time.perf_counter
        begin = clock()
        (frame,) = self._decoder.decode(data)
        decoded = clock()
        self.coordinator.step(connection, frame, self.now)
        ready = self.coordinator.ready(self.now)
        stepped = clock()
        for _, out in ready.frames:
            encode([out], MSGPACK)
        spent.encoding += clock() - stepped
        spent.stepping += stepped - decoded
        spent.decoding += decoded - begin
        spent.frames_in += 1
        spent.frames_out += len(ready.frames)
        self.records += [record for _, record in ready.records]
        return [(to, out.message) for to, out in ready.frames]

    def delegation(self, client: int, worker: int, number: int) -> None:
        """Have one task delegated, accepted, reported and settled."""
        payload, result = _parts(TEXT), _parts(answer_to(TEXT))
        spec: Any = {"skill": "reverse", "acceptance": {"evaluator": "auto"}}
        said = self.say(client, TaskDelegate(f"key-{number}", spec, payload))
        offers = [message for to, message in said if to == worker and isinstance(message, TaskOffer)]
        if len(offers) != 1:
            raise BenchmarkError(f"expected the task to be offered once, {len(offers)} offers came")
        (offer,) = offers
        self.say(worker, TaskAccept(offer.task, offer.fence))
        digest = content_hash({"outcome": "completed"}, result)
        self.say(worker, TaskReport(offer.task, offer.fence, "completed", digest, result))


def card(agent: str, skills: Sequence[str]) -> dict[str, Any]:
    """Return a card as an agent might have it."""
    return {
        "name": agent,
        "description": f"The agent {agent}",
        "version": "1.0",
        "skills": [{"id": skill, "name": skill, "description": f"Does {skill}", "tags": ["any"]} for skill in skills],
    }


def _parts(text: str) -> bytes:
    return b'[{"text":"' + text.encode() + b'"}]'
