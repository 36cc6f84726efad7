"""A contest for names: many agents claim a few hierarchical names for a while, and then the ledger is judged.

The coordinator is the real one; time is simulated, so that a minute takes seconds, and the same seed is the same
contest. Agents hold and wait, wait in circles, change their minds, call each other back, fall silent in the middle of
an attempt, and wait for sub-tasks that want what they hold, that ask them, or that only a busy agent can do. `audit`
reads the records alone and shares no code with the engine; during the contest, the graph of waits is searched by brute
force after every step.

    python -m tests.simulation.contest --seed 1 --agents 50 --seconds 60
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from a2a.engine.coordinator import Coordinator
from a2a.engine.policy import Durations, Policy
from a2a.engine.records import (
    Accepted,
    Claimed,
    ClaimEnded,
    ClaimRecalled,
    ClaimRequested,
    Declined,
    Offered,
    OfferWithdrawn,
    Record,
    Reported,
    Revived,
    Settled,
    Yielded,
)
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import Frame
from a2a.protocol.messages import (
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimPreempt,
    ClaimQueued,
    ClaimRelease,
    Credit,
    Error,
    Held,
    Hello,
    MailboxAck,
    Message,
    TaskAccept,
    TaskAnswer,
    TaskAsk,
    TaskDelegate,
    TaskHeartbeat,
    TaskOffer,
    TaskReport,
    TaskRevoke,
    TaskSettled,
    TaskYield,
    Welcome,
)

from .holdings import circle, circle_faults, conflict

__all__ = ["NAMES", "Contest", "Findings", "audit"]

NAMES = (
    "repo/**",
    *(f"repo/{part}/**" for part in "abcd"),
    *(f"repo/{part}/{leaf}" for part in "abcd" for leaf in "xyz"),
    "repo/a/x/deep/**",
    "merge:repo",
    "deploy",
)
"""Twenty, some below and some beside each other."""

_WIDE = 5
"""The first this many stand for half of the others or more, and are seldom drawn."""

START = 1_700_000_000_000
LEASE_MS = 1_000
Script = Generator["int | Callable[[], bool]", None, None]


# The judgement --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    names: dict[str, str]
    task: str | None
    task_fence: int
    wait_until: int
    place: tuple[float, int] = (0, 0)
    """Place in line: waiting for 30 s counts as much as one step of priority."""
    fence: int = 0
    over_at: int = 0
    """When its attempt was first seen to be over; the claim has to end in the same append."""


@dataclass(slots=True)
class Findings:
    """What an audit found."""

    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def audit(records: Iterable[Record]) -> Findings:
    """Judge a ledger: no conflicting holders, growing fences, no overtaking, waits that end, whole circles."""
    found = Findings()
    claims: dict[int, _Known] = {}
    fences: dict[str, int] = {}
    """Task to its current, open fence."""
    on_offer: dict[str, int] = {}
    newest: dict[tuple[tuple[str, str], ...], int] = {}
    """Names and modes to the greatest fence under which they were current."""

    def is_current(claim: _Known) -> bool:
        return bool(claim.fence) and (claim.task is None or fences.get(claim.task) == claim.task_fence)

    def becomes_current(lsn: int, claim: _Known) -> None:
        for other in claims.values():
            if other is claim or not is_current(other) or (claim.task is not None and other.task == claim.task):
                continue
            if conflict(claim.names, other.names):
                found.wrong.append(f"{lsn}: {claim.names} and {other.names} (fence {other.fence}) are both current")
        for names, fence in newest.items():
            if fence >= claim.fence and conflict(claim.names, dict(names)):
                found.wrong.append(f"{lsn}: {claim.names} has fence {claim.fence} after {fence}")
        key = tuple(claim.names.items())
        newest[key] = max(newest.get(key, 0), claim.fence)

    for lsn, record in enumerate(records, 1):
        for claim_id, claim in claims.items():
            if not claim.fence and record.at > claim.wait_until + 1:
                found.wrong.append(f"{lsn}: claim {claim_id} waits beyond its time")
                claim.wait_until = record.at * 2
            if claim.task is not None and claim.task_fence not in (fences.get(claim.task), on_offer.get(claim.task)):
                claim.over_at = claim.over_at or record.at
                if record.at > claim.over_at:
                    found.wrong.append(f"{lsn}: claim {claim_id} outlives attempt {claim.task_fence} of {claim.task}")
                    claim.over_at = record.at * 2
        if isinstance(record, ClaimRequested):
            place = (record.at - record.priority * 30_000, lsn)
            claims[lsn] = _Known(record.names, record.task, record.fence, record.wait_until, place)
            found.counts["requested"] += 1
        elif isinstance(record, Claimed):
            claim = claims[record.claim]
            claim.fence = lsn
            for other in claims.values():
                is_before = not other.fence and other.place < claim.place and conflict(claim.names, other.names)
                if is_before and (claim.task is None or claim.task != other.task):
                    found.wrong.append(f"{lsn}: {claim.names} overtakes {other.names}")
            found.counts["granted after a wait" if record.waited else "granted at once"] += 1
            becomes_current(lsn, claim)
        elif isinstance(record, ClaimEnded):
            claim = claims.pop(record.claim)
            found.counts[record.reason if claim.fence else f"{record.reason} while it waited"] += 1
            if record.reason == "deadlock":
                found.wrong.extend(f"{lsn}: {fault}" for fault in circle_faults(record))
                found.counts.update({f"circle through {step['for']}" for step in (record.data or {}).get("cycle", [])})
        elif isinstance(record, ClaimRecalled):
            found.counts["called back"] += 1
        elif isinstance(record, Offered):
            if record.claims:
                claims[lsn] = _Known(record.claims, record.task, lsn, 0, fence=lsn)
                found.counts["granted with a lease"] += 1
            if not record.granted:
                on_offer[record.task] = lsn
            else:
                fences[record.task] = lsn
                if record.claims:
                    becomes_current(lsn, claims[lsn])
        elif isinstance(record, Accepted):
            fences[record.task] = on_offer.pop(record.task)
            if record.fence in claims:
                becomes_current(lsn, claims[record.fence])
        elif isinstance(record, Declined | OfferWithdrawn | Reported | Yielded):
            for known in (fences, on_offer):
                if known.get(record.task) == record.fence:
                    del known[record.task]
        elif isinstance(record, Revived):
            on_offer.pop(record.task, None)
        elif isinstance(record, Settled):
            fences.pop(record.task, None)
            on_offer.pop(record.task, None)
            found.counts[f"task {record.state}{':' + record.reason if record.reason else ''}"] += 1
    return found


def draw_names(chance: random.Random, count: int) -> list[str]:
    """Draw different names."""
    return chance.sample(NAMES if chance.random() < 0.1 else NAMES[_WIDE:], count)


# The contest ----------------------------------------------------------------------------------------------------------


class Peer:
    """One agent: a connection, its mail, and the scripts it runs."""

    def __init__(self, contest: Contest, name: str, skills: tuple[str, ...] = (), credit: int = 0) -> None:
        self.contest = contest
        self.name = name
        self.chance = random.Random(f"{contest.seed}/{name}")
        self.part = random.Random(f"{contest.seed}/{name}/parts")
        self.words: dict[tuple[int, int], Message] = {}
        """(task's fence, claim number) to the notice that came about it."""
        self.preempted: set[int] = set()
        self.settled: dict[str, TaskSettled] = {}
        self.revoked: set[int] = set()
        self.asked: dict[str, int] = {}
        """Task to its question that waits for an answer."""
        self.answered: set[int] = set()
        """Questions that have an answer: each has the number of its attempt's fence."""
        self.claim_no = 0
        self.waiting: list[tuple[Script, Callable[[], bool]]] = []
        self._replies: dict[str, Message] = {}
        self._said = 0
        contest.peers.append(self)
        self.connection = len(contest.peers)
        contest.coordinator.opened(self.connection, f"secret-{name}", contest.now)
        card: Any = {
            "name": name,
            "description": "",
            "version": "1",
            "skills": [{"id": skill, "name": skill, "description": "", "tags": []} for skill in skills],
        }
        welcome = self.say(Hello(["1.0", "1.0"], name, "i1", 1, card=card, credit=Credit(credit, 65_536)))
        assert isinstance(welcome, Welcome), welcome

    def say(self, message: Message) -> Message:
        """Send a message, and return its answer."""
        self._said += 1
        frame = Frame(f"{self.name}-{self._said}", message)
        self.contest.coordinator.step(self.connection, frame, self.contest.now)
        self.contest.flush()
        return self._replies.pop(frame.id, Error("none", "no answer"))

    def take(self, frame: Frame) -> None:
        """Take a frame of the coordinator."""
        if frame.re is not None:
            self._replies[frame.re] = frame.message
            return
        message = frame.message
        if isinstance(message, ClaimGranted | ClaimDenied):
            self.words[message.fence or 0, message.claim_no] = message
            self.contest.told[message.reason if isinstance(message, ClaimDenied) else "granted"] += 1
        elif isinstance(message, ClaimPreempt):
            self.preempted.add(message.claim_fence)
        elif isinstance(message, TaskOffer):
            self.contest.after(self.chance.randint(1, 20), self._begin, message)
        elif isinstance(message, TaskSettled):
            self.settled[message.task] = message
        elif isinstance(message, TaskRevoke):
            self.revoked.add(message.fence)
        elif isinstance(message, TaskAsk):
            self.asked[message.task] = message.ask_no
        elif isinstance(message, TaskAnswer):
            self.answered.add(message.ask_no)
        if frame.mseq is not None and frame.mseq % 16 == 0:
            self.contest.after(5, self._acknowledge, frame.mseq)
        self.contest.after(0, self.look)

    def _acknowledge(self, upto: int) -> None:
        self.say(MailboxAck(upto))

    def _begin(self, offer: TaskOffer) -> None:
        self.run(self.attempt(offer))

    def run(self, script: Script) -> None:
        """Run a script until it waits again."""
        for wish in script:
            if isinstance(wish, int):
                self.contest.after(wish, self.run, script)
                return
            if not wish():
                self.waiting.append((script, wish))
                return

    def look(self) -> None:
        """Continue the scripts whose wait is over."""
        ready = [script for script, wish in self.waiting if wish()]
        self.waiting = [(script, wish) for script, wish in self.waiting if script not in ready]
        for script in ready:
            self.run(script)

    # What agents do ---------------------------------------------------------------------------------------------------

    def hold(
        self,
        depth: int,
        attempt: TaskOffer | None = None,
        inside: Callable[[], Script] | None = None,
        names: Sequence[str] = (),
    ) -> Script:
        """Claim some names, hold them for a while, perhaps claim more meanwhile, and release them."""
        chance = self.chance
        names = names or draw_names(chance, chance.choice((1, 1, 1, 2, 3)))
        self.claim_no += 1
        number, fence = self.claim_no, attempt.fence if attempt else 0
        request = ClaimAcquire(
            number,
            [{"name": name, "mode": "x" if chance.random() < 0.6 else "s"} for name in names],
            attempt.task if attempt else None,
            attempt.fence if attempt else None,
            wait_ms=chance.choice((0, 300, 2_000, 5_000)),
            priority=chance.choice((0, 0, 0, 1, 2)),
            preemptible=chance.random() < 0.3,
        )
        word = self.say(request)
        if isinstance(word, Error):
            self.contest.told[word.code] += 1
            return
        if isinstance(word, ClaimQueued):
            if chance.random() < 0.05:  # it changes its mind
                yield chance.randint(1, 200)
                self.say(ClaimRelease(None, number, request.task, request.fence))
                return
            yield lambda: (fence, number) in self.words or fence in self.revoked
            word = self.words.pop((fence, number), word)
        if not isinstance(word, ClaimGranted):
            return
        if depth > 0 and chance.random() < 0.5:
            yield chance.randint(1, 100)
            yield from self.hold(depth - 1, attempt)
        if inside is not None:
            yield from inside()
        claim_fence, until = word.claim_fence, self.contest.now + chance.randint(20, 600)
        yield lambda: self.contest.now >= until or claim_fence in self.preempted
        if chance.random() < 0.95:
            self.say(ClaimRelease(claim_fence))

    def contend(self) -> Script:
        """Claim for itself, again and again."""
        while self.contest.is_on:
            yield from self.hold(2)
            yield self.chance.randint(10, 300)

    def attempt(self, offer: TaskOffer) -> Script:
        """Work on a task: beat, claim, perhaps fall silent, perhaps wait for a sub-task; then report."""
        chance = self.chance
        if not offer.granted and isinstance(self.say(TaskAccept(offer.task, offer.fence)), Error):
            return
        state = {"slot": "held", "beats": True}
        self.run(self.beat(offer, state))
        if chance.random() < 0.15:
            yield chance.randint(20, 100)
            state["beats"] = False  # it falls silent, and comes back when it may be too late
            yield chance.randint(LEASE_MS // 2, 3 * LEASE_MS)
        has_child = offer.parent is None and chance.random() < 0.8
        if offer.parent is not None and self.part.random() < 0.8:
            yield from self.ask(offer)
        yield from self.hold(1, offer, (lambda: self.delegate(offer, state)) if has_child else None)
        state["beats"] = False
        if chance.random() < 0.1:
            self.say(TaskYield(offer.task, offer.fence, "enough"))
            return
        payload = b"[]"
        digest = content_hash({"outcome": "completed"}, payload)
        self.say(TaskReport(offer.task, offer.fence, "completed", digest, payload))

    def beat(self, offer: TaskOffer, state: dict[str, Any]) -> Script:
        while state["beats"] and offer.fence not in self.revoked:
            self.say(TaskHeartbeat(offer.task, offer.fence, slot=state["slot"]))
            yield LEASE_MS // 4

    def delegate(self, offer: TaskOffer, state: dict[str, Any]) -> Script:
        """Have a part done, and then only wait for it, still holding all claims."""
        order = self.contest.order(self.chance, Held(offer.task, offer.fence), self.part)
        created: Any = self.say(order)
        if isinstance(created, Error):
            return
        until = self.contest.now + 5_000
        task = created.task
        if self.part.random() < 0.6:  # it works on meanwhile, and answers no question before it has the names it wants
            yield self.part.randint(1, 100)
            yield from self.hold(0, offer, names=[resource["name"] for resource in order.spec.get("resources", ())])
        state["slot"] = "released"
        self.say(TaskHeartbeat(offer.task, offer.fence, slot="released"))
        is_over = False
        while not is_over:
            if task in self.asked:
                self.say(TaskAnswer(task, self.asked.pop(task), b'["yes"]'))
            yield (
                lambda: (
                    task in self.settled
                    or task in self.asked
                    or offer.fence in self.revoked
                    or self.contest.now >= until
                )
            )
            is_over = task in self.settled or offer.fence in self.revoked or self.contest.now >= until
        state["slot"] = "held"
        self.say(TaskHeartbeat(offer.task, offer.fence, slot="held"))

    def ask(self, offer: TaskOffer) -> Script:
        """Ask the delegator of the part, still holding all claims, and wait for the answer."""
        ask = TaskAsk(offer.task, offer.fence, b'["sure?"]', offer.fence, timeout_ms=3_000, default=b'["no"]')
        if not isinstance(self.say(ask), Error):
            yield lambda: offer.fence in self.answered or offer.fence in self.revoked


class Contest:
    """Agents that contend for names for a while, on one coordinator."""

    def __init__(self, seed: int, agents: int = 50, seconds: float = 60.0) -> None:
        self.seed = seed
        self.now = START
        self.ends_at = START + round(seconds * 1000)
        self.told: Counter[str] = Counter()
        self.records: list[Record] = []
        self.peers: list[Peer] = []
        self.steps = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._keys = 0
        durations = Durations(heartbeat_ms=250, lease_ms=LEASE_MS, offer_ms=500, confirm_ms=5_000)
        self.coordinator = Coordinator(Policy(durations=durations, claim_grace_ms=200, claim_ttl_ms=4_000))
        self.coordinator.restore([], "key", self.now)
        workers = self.workers = agents * 2 // 5
        for number in range(agents - workers):
            peer = Peer(self, f"agent{number}")
            self.after(peer.chance.randint(0, 500), peer.run, peer.contend())
        for number in range(workers):
            Peer(self, f"worker{number}", ("work",), 1 + number % 2)
        self.boss = Peer(self, "boss")
        self.boss.run(self._keep_busy(workers))

    @property
    def is_on(self) -> bool:
        """Whether the contest is still on."""
        return self.now < self.ends_at

    def order(
        self, chance: random.Random, parent: Held | None = None, part: random.Random | None = None
    ) -> TaskDelegate:
        """Return a task to delegate; every other one needs names, and most parts need a certain agent."""
        self._keys += 1
        spec: Any = {"skill": "work", "acceptance": {"evaluator": "auto"}, "priority": chance.choice((0, 0, 1))}
        if chance.random() < 0.5:
            names = draw_names(chance, chance.choice((1, 2)))
            spec["resources"] = [{"name": name, "mode": chance.choice("xs")} for name in names]
        if part is not None and part.random() < 0.8:
            spec["requires"] = {"agent": f"worker{part.randrange(self.workers)}"}
        return TaskDelegate(f"k{self._keys}", spec, parent=parent)

    def _keep_busy(self, workers: int) -> Script:
        while self.is_on:
            if len(self.coordinator.ledger.open_tasks) < 2 * workers:
                self.boss.say(self.order(self.boss.chance))
            yield self.boss.chance.randint(20, 100)

    # The machinery ----------------------------------------------------------------------------------------------------

    def after(self, pause: int, call: Callable[..., None], *arguments: Any) -> None:
        """Plan a call."""
        self._order += 1
        heappush(self._events, (self.now + pause, self._order, call, arguments))

    def flush(self) -> None:
        """Append, then deliver."""
        ready = self.coordinator.ready(self.now)
        self.records.extend(record for _, record in ready.records)
        for connection, frame in ready.frames:
            self.peers[connection - 1].take(frame)
        self.steps += 1
        found = circle(self.coordinator)
        assert found is None, f"seed {self.seed}, record {len(self.records)}: nobody broke the circle {found}"

    def run(self) -> Findings:
        """Run the contest until everything in it has ended, and judge the ledger."""
        while self.is_on or self.coordinator.ledger.claims.claims or self.coordinator.ledger.open_tasks:
            assert self.now < self.ends_at + 120_000, "something does not end"
            due = self.coordinator.next_deadline()
            at = self._events[0][0] if self._events else None
            if at is None and due is None:
                break
            if due is not None and (at is None or due <= at):
                self.now = max(self.now, due)
                self.coordinator.tick(self.now)
                self.flush()
            else:
                self.now, _, call, arguments = heappop(self._events)
                call(*arguments)
            for peer in self.peers:
                if peer.waiting:
                    peer.look()
        found = audit(self.records)
        if self.coordinator.ledger.claims.claims:
            found.wrong.append(f"{len(self.coordinator.ledger.claims.claims)} claims have not ended")
        deadlocks = found.counts["deadlock while it waited"]
        if self.told["deadlock"] != deadlocks:
            found.wrong.append(f"{deadlocks} circles were broken, {self.told['deadlock']} agents were told")
        return found


def main() -> None:
    """Run one contest and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    started = time.perf_counter()
    contest = Contest(options.seed, options.agents, options.seconds)
    found = contest.run()
    took = time.perf_counter() - started
    print(f"{options.agents} agents, {options.seconds:g} s, {len(contest.records)} records, {took:.1f} s of one core")
    for what, count in sorted(found.counts.items()):
        print(f"  {count:>7}  {what}")
    print(f"  {contest.told['deadlock']:>7}  agents were told of a circle")
    for fault in found.wrong:
        print(f"WRONG: {fault}")
    raise SystemExit(bool(found.wrong))


if __name__ == "__main__":
    main()
