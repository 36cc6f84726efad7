"""A coordinator without a shell, and the peers that talk to it: one call a frame, and the clock stands where it is put.

Whatever a test did, its records must build the same ledger again; the fixture looks when the test is over.
"""

from collections import Counter
from typing import Any

import pytest

from a2a.engine import snapshot
from a2a.engine.archived import ArchivedConflict, ArchivedContext, ArchivedTask
from a2a.engine.conflicts.bench import do
from a2a.engine.coordinator import Coordinator
from a2a.engine.decision import Decision, EndedPage, Need, Row
from a2a.engine.handlers import HANDLERS
from a2a.engine.ledger import Ledger
from a2a.engine.live import Connection
from a2a.engine.policy import LADDERS, Admission, Durations, Policy, digest
from a2a.engine.records import Offered, Record, from_bytes, to_bytes
from a2a.engine.replay.run import Replay
from a2a.engine.task_state import Task
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import JSON, MSGPACK, BadFrame, Decoder, Frame, encode
from a2a.protocol.messages import (
    Credit,
    Error,
    Hello,
    MailboxAck,
    Message,
    TaskAccept,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskDelegate,
    TaskHeartbeat,
    TaskLease,
    TaskOffer,
    TaskReport,
    TaskReview,
    TaskVerdict,
    Welcome,
)
from tests.shelf import find_conflicts, find_contexts, in_front
from tests.unit.engine.recorded import delegated

START = 1_700_000_000_000
KEY = "key of the ledger"
DURATIONS = Durations(
    heartbeat_ms=1_000, lease_ms=3_000, offer_ms=500, confirm_ms=10_000, ask_ms=20_000, cancel_ms=2_000
)


def facts(ledger: Ledger) -> dict[str, Any]:
    """Everything a ledger holds, down to the order of its maps; without the marks that the passes clear."""
    held = {
        name: value
        for name, value in vars(ledger).items()
        if name not in ("touched", "posted", "freed", "stirred", "closed")
    }
    orders = {f"order of {name}": list(value) for name, value in held.items() if isinstance(value, dict)}
    return held | orders


def folded(records: list[tuple[int, Record]], namespace: str) -> Ledger:
    """Build a ledger from the stored form of records."""
    ledger = Ledger(namespace)
    for lsn, record in records:
        stored = from_bytes(*to_bytes(record))
        assert stored == record
        assert ledger.apply(stored) == lsn, "records are numbered without gaps"
    return ledger


def check_replay(coordinator: Coordinator, records: list[tuple[int, Record]]) -> None:
    """Compare the ledger that lived with the one its records build, and with what a coordinator restores."""
    policy = coordinator.policy
    assert facts(folded(records, policy.namespace)) == facts(coordinator.ledger)
    body = snapshot.to_bytes(coordinator.ledger)
    again = snapshot.load(body, policy.namespace)
    assert facts(again) == facts(coordinator.ledger), "a start on a snapshot finds the same"
    assert snapshot.to_bytes(again) == body, "in the same order"
    assert Replay(policy.namespace).run([record for _, record in records]) is None, "decided again it is the same"
    fresh = Coordinator(policy)
    fresh.restore([from_bytes(*to_bytes(record)) for _, record in records], "another key", coordinator.ledger.at)
    started = [(lsn, record) for lsn, record in fresh.ready(fresh.ledger.at).records]
    assert [type(record).__name__ for _, record in started] == ["CoordinatorStarted"]
    assert facts(folded(records + started, policy.namespace)) == facts(fresh.ledger)


def check_history(ledger: Ledger) -> None:
    """Check what must hold for every task, whatever happened to it."""
    fences: list[int] = []
    for task in ledger.tasks.values():
        assert [event.generation for event in task.history] == list(range(1, task.generation + 1))
        assert list(task.attempts) == sorted(task.attempts)
        assert [event.event for event in task.history if event.state in _ENDED][1:] == [], "an end is an end"
        fences.extend(task.attempts)
    assert len(fences) == len(set(fences)), "a fence is minted once"
    assert ledger.delegating == Counter(task.delegator for task in ledger.open_tasks.values())


_ENDED = ("completed", "failed", "canceled", "rejected")


def result_hash(outcome: str, payload: bytes) -> str:
    return content_hash({"outcome": outcome}, payload)


class Peer:
    """One connection to the coordinator, and all that came over it."""

    def __init__(self, town: "Town", connection: int) -> None:
        self.town = town
        self.connection = connection
        self.name = ""
        self.replies: dict[str, Message] = {}
        self.notices: list[Message] = []
        """What came without being an answer or mail: events of watches, byes, errors without a request."""
        self.mailbox: list[tuple[int, Message]] = []
        """(mseq, message) of all mail that came here."""
        self.frames: list[Frame] = []
        self.closed: str | None = None
        self._opened = 0

    def say(self, message: Message, *, must: bool = False) -> Message | None:
        """Send a message, and return the answer."""
        request = self.town.next_id()
        (frame,) = Decoder(MSGPACK).decode(encode([Frame(request, message, must=must)], MSGPACK))
        assert isinstance(frame, Frame), frame
        self.town.coordinator.step(self.connection, frame, self.town.now)
        self.town.flush()
        return self.replies.get(request)

    def garble(self, bad: BadFrame) -> None:
        """Send something that is not a frame."""
        self.town.coordinator.step(self.connection, bad, self.town.now)
        self.town.flush()

    def refused(self, message: Message, *, must: bool = False) -> str:
        """Send a message that must be refused without a trace, and return the code."""
        before = len(self.town.records)
        answer = self.say(message, must=must)
        assert isinstance(answer, Error), answer
        assert self.town.records[before:] == []
        return answer.code

    def decide(self, message: Message) -> Decision:
        """Return what the handler would decide, and let nothing come of it."""
        sender = self.town.coordinator.live.connections[self.connection]
        return HANDLERS[type(message)](self.town.coordinator.world, sender, message, self.town.now)

    @property
    def seat(self) -> Connection:
        return self.town.coordinator.live.connections[self.connection]

    def mail(self) -> list[Message]:
        """Return the mail that was not opened yet."""
        new = self.mailbox[self._opened :]
        self._opened = len(self.mailbox)
        return [message for _, message in new]

    def offer(self) -> TaskOffer:
        """Return the newest mail, which must be an offer."""
        message = self.mail()[-1]
        assert isinstance(message, TaskOffer), message
        return message

    @property
    def welcome(self) -> Message:
        return next(iter(self.replies.values()))

    def acknowledge(self, upto: int | None = None) -> Message | None:
        return self.say(MailboxAck(self.mailbox[-1][0] if upto is None else upto))

    def drop(self) -> None:
        """Lose the connection."""
        self.town.coordinator.closed(self.connection, self.town.now)
        self.town.flush()

    # What delegators do

    def delegate(self, key: str = "k", skill: str = "echo", *, acceptance: str = "delegator", **fields: Any) -> str:
        spec: dict[str, Any] = {"skill": skill, "acceptance": {"evaluator": acceptance}}
        spec |= fields.pop("spec", {})
        answer = self.say(TaskDelegate(key, spec, **fields))  # type: ignore[arg-type]
        assert isinstance(answer, TaskCreated), answer
        return answer.task

    def confirm(self, review: Message, **fields: Any) -> Message | None:
        assert isinstance(review, TaskReview), review
        return self.say(TaskConfirm(review.task, fields.pop("rev", review.rev), review.result_hash, **fields))

    def cancel(self, task: str, mode: str = "coop", **fields: Any) -> Message | None:
        return self.say(TaskCancel(task, mode, **fields))  # type: ignore[arg-type]

    # What agents do

    def beat(self, offer: TaskOffer, **fields: Any) -> Message | None:
        return self.say(TaskHeartbeat(offer.task, offer.fence, **fields))

    def accept(self, offer: TaskOffer) -> TaskLease:
        answer = self.say(TaskAccept(offer.task, offer.fence))
        assert isinstance(answer, TaskLease), answer
        return answer

    def reporting(
        self, offer: TaskOffer, outcome: str = "completed", payload: bytes = b'["done"]', **fields: Any
    ) -> TaskReport:
        digest = fields.pop("result_hash", result_hash(outcome, payload))
        return TaskReport(offer.task, offer.fence, outcome, digest, payload, **fields)  # type: ignore[arg-type]

    def report(self, offer: TaskOffer, outcome: str = "completed", **fields: Any) -> str:
        """Report an outcome and return the verdict."""
        answer = self.say(self.reporting(offer, outcome, **fields))
        assert isinstance(answer, TaskVerdict), answer
        return answer.verdict


class Town:
    """A coordinator, its peers, and the records it asked to be kept."""

    def __init__(self, policy: Policy, records: list[tuple[int, Record]], now: int) -> None:
        self.policy = policy
        self.now = now
        self.records = records
        self.peers: dict[int, Peer] = {}
        self.secrets: dict[str, str] = {}
        self.archive: dict[str, tuple[ArchivedTask, bytes]] = {}
        """Id to the archived task, and its body: none once it is gone."""
        self.shelved: dict[str, ArchivedConflict] = {}
        """Id to the archived conflict."""
        self.contexts: dict[str, ArchivedContext] = {}
        """Id to the archived context."""
        self.needs: list[Need] = []
        """What was not looked up yet; `is_slow` leaves it so."""
        self.is_slow = False
        self.carrying: set[int] = set()
        """Connections on which a message is on its way."""
        self._count = 0
        self.coordinator = Coordinator(policy)
        self.coordinator.restore([from_bytes(*to_bytes(record)) for _, record in records], KEY, now)
        self.flush()

    @property
    def ledger(self) -> Ledger:
        return self.coordinator.ledger

    def task(self, task: str) -> Task:
        return self.ledger.tasks[task]

    def said(self, *kinds: type[Record]) -> list[Record]:
        """Return the records of these kinds, or all."""
        return [record for _, record in self.records if not kinds or type(record) in kinds]

    def next_id(self) -> str:
        self._count += 1
        return f"r{self._count}"

    def flush(self) -> None:
        """Append, then deliver, as a shell does."""
        ready = self.coordinator.ready(self.now)
        self.records.extend(ready.records)
        for _, record in ready.records:
            if isinstance(record, Offered):
                self._check_credit(record)
        for connection, frame in ready.frames:
            (decoded,) = Decoder(MSGPACK).decode(encode([frame], MSGPACK))
            assert decoded == frame, "what is sent is what arrives"
            (as_json,) = Decoder(JSON).decode(encode([frame], JSON))
            assert isinstance(as_json, Frame), as_json
            peer = self.peers[connection]
            peer.frames.append(frame)
            if frame.mseq is not None:
                peer.mailbox.append((frame.mseq, frame.message))
            elif frame.re is not None and frame.re not in peer.replies:
                peer.replies[frame.re] = frame.message
            else:
                peer.notices.append(frame.message)
        for connection, reason in ready.closes:
            self.peers[connection].closed = reason
        for job in ready.jobs:
            self.coordinator.answered(job, do(job), self.now)
        if ready.jobs:
            self.flush()
        for kept in ready.archived:
            if isinstance(kept, ArchivedTask):
                self.archive[kept.task] = (kept, kept.body)
            elif isinstance(kept, ArchivedConflict):
                self.shelved[kept.conflict] = kept
            else:
                self.contexts[kept.context_id] = kept
        self.needs.extend(ready.needs)
        if not self.is_slow:
            self.look_up()

    def look_up(self) -> None:
        """Have the archive answer everything that waits for it."""
        while self.needs:
            need = self.needs.pop(0)
            rows, passing = (self.stored(need), 0) if need.ended is None else self.ended(need.ended)
            self.coordinator.found(need, rows, self.now, passing)
            self.flush()

    def stored(self, need: Need) -> list[Row]:
        """Return what is needed, as the stores do."""
        if need.conflicts is not None or need.conflict is not None:
            return find_conflicts(self.shelved, need)
        page = need.page
        if page is not None:
            behind = [task for task, body in self.archive.values() if body and task.lsn < (page.before or task.lsn + 1)]
            behind = [task for task in behind if page.state in (None, task.state) and page.skill in (None, task.skill)]
            behind = [task for task in behind if task.dead_letter or not page.dead_letter]
            behind = sorted(behind, key=lambda task: -task.lsn)[: page.limit]
            return [Row(task.task, task.body, task.beside) for task in behind]
        tasks = [
            Row(task.task, body, task.beside, state=task.state)
            for task, body in self.archive.values()
            if task.task in need.tasks or (task.scope, task.key) == need.key
        ]
        return in_front(need, tasks) if need.is_for_mail else [*tasks, *find_contexts(self.contexts, need)]

    def ended(self, page: EndedPage) -> tuple[list[Row], int]:
        """Return a page of those that ended, and how many there are on all pages, as the stores do."""
        passing = [
            task
            for task, body in self.archive.values()
            if body
            and task.settled_at >= page.since
            and page.state in (None, task.state)
            and page.context_id in (None, task.context_id)
        ]
        passing.sort(key=lambda task: (task.settled_at, task.lsn), reverse=True)
        behind = [task for task in passing if page.behind is None or (task.settled_at, task.lsn) < page.behind]
        return [Row(task.task, task.body, task.beside) for task in behind[: page.limit]], len(passing)

    def _check_credit(self, record: Offered) -> None:
        live = self.coordinator.live.agents.get(record.agent)
        held = self.ledger.holding.get(record.agent, {})
        if live is not None and record.task in held:
            free = self.coordinator.live.free_credit(record.agent, self.ledger)
            assert free >= 0, f"{record.agent} was offered more than it takes"

    def dial(self) -> Peer:
        """Open a connection and say nothing yet."""
        connection = len(self.peers) + 1
        peer = self.peers[connection] = Peer(self, connection)
        self.coordinator.opened(connection, f"secret-{connection}", self.now)
        return peer

    def hello(self, name: str, **fields: Any) -> Hello:
        principal = name.partition("#")[0]
        given = {
            "versions": ["1.0", "1.0"],
            "instance_id": f"{name}-1",
            "incarnation": 1,
            "secret": self.secrets.get(principal),
        }
        return Hello(agent_id=name, **(given | fields))

    def join(self, name: str, **fields: Any) -> Peer:
        """Connect and be welcomed."""
        peer = self.dial()
        peer.name = name
        answer = peer.say(self.hello(name, **fields))
        assert isinstance(answer, Welcome), answer
        if answer.secret is not None:
            self.secrets[name.partition("#")[0]] = answer.secret
        return peer

    def worker(
        self, name: str, *skills: str | dict[str, Any], tasks: int = 1, frames: int = 256, **fields: Any
    ) -> Peer:
        """Connect as an agent with skills, by default `echo`."""
        return self.join(name, card=card(*(skills or ("echo",))), credit=Credit(tasks, frames), **fields)

    def pass_time(self, ms: int) -> None:
        """Let the clock go on, and everything due happen on the way."""
        until = self.now + ms
        for _ in range(1_000):
            due = self.coordinator.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.coordinator.tick(self.now, self.carrying.__contains__)
            self.flush()
        self.now = until
        self.coordinator.tick(self.now, self.carrying.__contains__)
        self.flush()

    def restart(self, *, after: int = 0, lost: int = 0) -> "Town":
        """Start another coordinator on the same records, as after a crash, or on an older copy without the newest."""
        again = Town(self.policy, self.records[: len(self.records) - lost], self.now + after)
        again.secrets = dict(self.secrets)
        again.archive, again.shelved, again.contexts = self.archive, self.shelved, self.contexts
        return again


def card(*skills: str | dict[str, Any]) -> dict[str, Any]:
    full = [skill if isinstance(skill, dict) else {"id": skill} for skill in skills]
    return {
        "name": "an agent",
        "description": "does things",
        "version": "1",
        "skills": [{"name": skill["id"], "description": "", "tags": []} | skill for skill in full],
    }


@pytest.fixture
def make_town():
    """Make coordinators; when the test is over, each one's records must build its ledger again."""
    towns: list[Town] = []

    def make(records: list[tuple[int, Record]] | None = None, **policy: Any) -> Town:
        # What is noted beside what happens would stand between the records and mail of nearly every other test.
        ladders = {"context": LADDERS["context"]}
        town = Town(Policy(**({"durations": DURATIONS, "ladders": ladders} | policy)), records or [], START)
        towns.append(town)
        restart = town.restart

        def restarted(**fields: Any) -> Town:
            again = restart(**fields)
            towns.append(again)
            return again

        town.restart = restarted  # type: ignore[method-assign]
        return town

    yield make
    for town in towns:
        check_replay(town.coordinator, town.records)
        check_history(town.ledger)


@pytest.fixture
def town(make_town):
    """A coordinator on an empty ledger."""
    return make_town()


@pytest.fixture
def ledger():
    return Ledger("main")


@pytest.fixture
def keep(ledger):
    """Apply records one after another, and return the position of the last."""

    def apply(*records):
        return [ledger.apply(record) for record in records][-1]

    return apply


@pytest.fixture
def leased(ledger, keep):
    """A task whose first attempt has fence 2."""
    keep(delegated("main-1"), Offered(11, "main-1", "w1", granted=True))
    return ledger.tasks["main-1"]


@pytest.fixture
def make_card():
    return card


@pytest.fixture
def hash_result():
    return result_hash


@pytest.fixture
def ledger_facts():
    return facts


@pytest.fixture
def boss(town):
    return town.join("boss")


@pytest.fixture
def worker(town):
    return town.worker("w1")


@pytest.fixture
def task(boss, worker):
    return boss.delegate()


@pytest.fixture
def offer(task, worker):
    return worker.offer()


@pytest.fixture
def review(boss, worker, offer):
    assert worker.report(offer) == "admitted"
    (review,) = boss.mail()
    return review


@pytest.fixture
def guarded(make_town):
    """A coordinator with an operator's token, which is `op`."""

    def make(**policy):
        return make_town(admission=Admission(operator_token=digest("op")), **policy)

    return make


@pytest.fixture
def given(boss, worker):
    """A task that w1 is at work on."""
    boss.delegate()
    offer = worker.offer()
    worker.beat(offer)
    return offer
