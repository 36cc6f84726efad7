"""The court: hears what the coordinator decides and what peers are told, and passes it to the checkers.

Dispatch is by type, so that a checker costs only where it has something to check. The model is updated between the two
hearings of a record: `before` sees the world without it, `after` with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from a2a.engine.context_watching import Watched
from a2a.engine.coordinator import Coordinator
from a2a.engine.decision import Ready
from a2a.engine.policy import Policy
from a2a.engine.records import Record
from a2a.protocol.codec import BadFrame, Frame
from a2a.protocol.messages import (
    ClaimAcquire,
    ConflictRaise,
    Credit,
    Error,
    Hello,
    MailboxAck,
    Message,
    TaskAccept,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskEventNotice,
    TaskHeartbeat,
    TaskLease,
    Welcome,
)

from .model import Model, Seat

__all__ = ["Cause", "Checker", "Court", "Violation"]


class Violation(AssertionError):
    """A property does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail


@dataclass(slots=True)
class Cause:
    """Why the coordinator is deciding now."""

    kind: str = "restore"
    """`step`, `tick`, `closed`, `job` or `restore`."""
    connection: int = 0
    agent: str | None = None
    message: Message | None = None
    frame: str = ""
    now: int = 0
    instance: str | None = None
    """Of a hello: the instance on file before it."""
    there: Seat | None = None
    """Of a hello: where its agent is already connected."""
    records: int = 0
    """Records decided for this cause so far."""


class Checker:
    """One property. A checker overrides the methods it wants to hear and names the types it hears."""

    name: ClassVar[str] = ""
    records: ClassVar[tuple[type[Record], ...]] = ()
    """Hears these in `before` and `after`."""
    requests: ClassVar[tuple[type[Message], ...]] = ()
    """Hears these in `asked` before they are stepped, and in `answered` with their reply."""
    mail: ClassVar[tuple[type[Message], ...]] = ()
    """Hears these in `posted` as they are rendered, with their agent."""
    notices: ClassVar[tuple[type[Message], ...]] = ()
    """Hears these in `told` when a peer takes them, with the request that they answer, if any."""

    def __init__(self, court: Court) -> None:
        self.court = court

    @property
    def model(self) -> Model:
        return self.court.model

    def hold(self, fact: object, detail: str) -> None:
        """Raise Violation unless the fact is true."""
        if not fact:
            raise Violation(self.name, detail)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        """A record is about to become true."""

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        """A record has become true."""

    def asked(self, agent: str, message: Any) -> None:
        """A request is about to be decided."""

    def answered(self, agent: str, message: Any, reply: Message) -> None:
        """A request was decided."""

    def posted(self, agent: str, message: Any, connection: int) -> None:
        """A mailbox entry was written out."""

    def told(self, agent: str, message: Any, request: Message | None) -> None:
        """A peer took a frame and its session passed it on."""

    def sent(self, connection: int, agent: str, frame: Frame) -> None:
        """A mailbox entry is on its way to the shell."""

    def took(self, agent: str, frame: Frame) -> None:
        """A mailbox entry arrived at a peer."""

    def happened(self, connection: int, event: TaskEventNotice) -> None:
        """A watcher is sent an event."""

    def watches(self, peer: Any, watched: Watched) -> None:
        """A peer begins to watch a context."""

    def heard(self, watched: Watched) -> None:
        """A peer was told what was written to a context."""

    def look(self, now: int) -> None:
        """Some time has passed, and the coordinator is up. `now` is by its clock."""

    def unfinished(self) -> str | None:
        """Say what this property still waits for, or None. The world runs until nothing waits, or for too long."""
        return None


class Court:
    """Everything that is checked in one world."""

    def __init__(self, policy: Policy, checkers: Iterable[type[Checker]], durable: Callable[[], int]) -> None:
        self.policy = policy
        self.model = Model()
        self.durable = durable
        """The position of the last record that survives a crash, now."""
        self.cause = Cause()
        self.calm_at: int | None = None
        """When the last fault was over, by the coordinator's clock."""
        self.log: list[Record] = []
        """Every record of the running process's ledger, durable or not."""
        self.who: dict[int, str] = {}
        """Connection to the agent welcomed on it, in the running process."""
        self.frames: dict[int, int] = {}
        """Connection to the number of frames that came on it."""
        self.coordinator: Coordinator | None = None
        self.checkers = [checker(self) for checker in checkers]
        self._before = _by_type(self.checkers, "records", "before")
        self._after = _by_type(self.checkers, "records", "after")
        self._asked = _by_type(self.checkers, "requests", "asked")
        self._answered = _by_type(self.checkers, "requests", "answered")
        self._posted = _by_type(self.checkers, "mail", "posted")
        self._told = _by_type(self.checkers, "notices", "told")
        self._sent = [checker.sent for checker in self.checkers if type(checker).sent is not Checker.sent]
        self._took = [checker.took for checker in self.checkers if type(checker).took is not Checker.took]
        self._happened = [item.happened for item in self.checkers if type(item).happened is not Checker.happened]
        self._heard = [item for item in self.checkers if type(item).heard is not Checker.heard]
        self._look = [checker.look for checker in self.checkers if type(checker).look is not Checker.look]
        self._lives = [checker for checker in self.checkers if isinstance(checker, LifeChecker)]

    # The coordinator's process ----------------------------------------------------------------------------------------

    def starting(self, coordinator: Coordinator, records: list[Record], now: int) -> None:
        """A process is about to fold these records."""
        self.coordinator = coordinator
        self.model = Model()
        for lsn, record in enumerate(records, 1):
            self.model.apply(record, lsn)
        self.model.seats.clear()
        self.log = records
        self.who.clear()
        self.cause = Cause("restore", now=now)
        for life in self._lives:
            life.starting()

    def started(self) -> None:
        """The process has begun its epoch."""
        assert self.coordinator is not None, "starting() comes first"
        for life in self._lives:
            life.started(self.coordinator)

    def crashed(self, coordinator: Coordinator, durable: int) -> None:
        """The process is gone, and this much has survived."""
        for life in self._lives:
            life.crashed(coordinator, durable)

    def ended(self, coordinator: Coordinator) -> None:
        """The world has ended, and this process is still running."""
        for life in self._lives:
            life.ended(coordinator)

    def arrived(self, connection: int) -> None:
        """A frame has come. It may wait for the archive before it is stepped; its peer is here already."""
        self.frames[connection] = self.frames.get(connection, 0) + 1

    def stepping(self, connection: int, frame: Frame | BadFrame, now: int) -> None:
        """A frame is about to be stepped."""
        agent = self.who.get(connection)
        if isinstance(frame, BadFrame):
            raise Violation("wire", f"{agent} sent what cannot be read: {frame.detail}")
        message = frame.message
        self.cause = Cause("step", connection, agent, message, frame.id, max(now, self.model.at))
        if agent is None:
            if isinstance(message, Hello):
                self.cause.agent = message.agent_id
                known = self.model.agents.get(message.agent_id)
                self.cause.instance = known.instance if known is not None else None
                self.cause.there = self.model.seats.get(message.agent_id)
            return
        if isinstance(message, Credit):
            seat = self.model.seats[agent]
            seat.credit, seat.frames = message.tasks, message.frames
        elif isinstance(message, TaskHeartbeat):
            resting = self.model.seats[agent].resting
            resting.pop((message.task, message.fence), None)
            if message.slot == "released":
                resting[message.task, message.fence] = None
        elif isinstance(message, MailboxAck):
            seat = self.model.seats[agent]
            seat.acked = max(seat.acked, message.upto)
        for check in self._asked.get(type(message), ()):
            check(agent, message)

    def closing(self, connection: int, now: int) -> None:
        """A connection has ended."""
        self._leave(connection)
        self.cause = Cause("closed", connection, now=max(now, self.model.at))

    def ticking(self, now: int) -> None:
        """The clock is about to tick."""
        self.cause = Cause("tick", now=max(now, self.model.at))

    def working(self, now: int) -> None:
        """The answer to a job is about to be taken."""
        self.cause = Cause("job", now=max(now, self.model.at))

    def stepped(self) -> None:
        """The cause of decisions is over."""
        assert self.coordinator is not None, "somebody decided"
        if self.cause.kind == "step" and self.cause.connection not in self.coordinator.live.connections:
            self._leave(self.cause.connection)  # the coordinator hung up
        self.cause = Cause("nothing", now=self.cause.now)

    # What it decides --------------------------------------------------------------------------------------------------

    def committing(self, record: Record, lsn: int) -> None:
        """A record is about to become true."""
        for check in self._before.get(type(record), ()):
            check(record, lsn, self.cause)

    def committed(self, record: Record, lsn: int) -> None:
        """A record has become true."""
        self.model.apply(record, lsn)
        self.cause.records += 1
        self.log.append(record)
        for check in self._after.get(type(record), ()):
            check(record, lsn, self.cause)

    def said(self, connection: int, message: Message, re: str | None) -> None:
        """The coordinator says something outside the mailbox."""
        if isinstance(message, TaskEventNotice):
            for event_check in self._happened:
                event_check(connection, message)
            return
        cause = self.cause
        if re is None or re != cause.frame or connection != cause.connection or cause.message is None:
            return
        request = cause.message
        if isinstance(request, Hello):
            if isinstance(message, Welcome):
                self._seat(connection, request, message)
            for check in self._answered.get(Hello, ()):
                check(request.agent_id, request, message)
            return
        agent = cause.agent
        if agent is None:
            return
        model = self.model
        if isinstance(message, TaskLease) and isinstance(request, TaskHeartbeat | TaskAccept):
            task = model.tasks[request.task]
            task.lease_until = cause.now + message.lease_ms
        elif isinstance(request, TaskArtifact | TaskAsk | TaskCheckpoint | ClaimAcquire):
            self._sign_of_life(agent, request)
        elif isinstance(request, ConflictRaise):
            pass  # peers that quarrel raise things that contradict nothing
        elif isinstance(message, Error) and message.code in ("malformed", "unsupported_kind", "internal"):
            raise Violation("wire", f"{agent} was refused {request.kind}: {message.code} {message.detail}")
        for check in self._answered.get(type(request), ()):
            check(agent, request, message)

    def _sign_of_life(self, agent: str, request: TaskArtifact | TaskAsk | TaskCheckpoint | ClaimAcquire) -> None:
        """A chunk, a claim, a new question or checkpoint of the holder extends the lease; repeats are only answered."""
        task = self.model.tasks.get(request.task or "")
        if task is None or task.fence != request.fence or not task.runs or task.holder != agent:
            return
        repeated = False
        if isinstance(request, TaskAsk):
            known = task.asks.get(request.ask_no)
            repeated = known is not None and (known.fence, known.payload) == (request.fence, request.payload)
        elif isinstance(request, TaskCheckpoint):
            left = task.checkpoints.get(request.fence)
            repeated = left is not None and (left.cp_no, left.payload) == (request.cp_no, request.payload)
        if not repeated or self.cause.records:
            task.lease_until = self.cause.now + (task.durations["lease_ms"] or 0)

    def handed_out(self, ready: Ready) -> None:
        """The shell took what it has to append and send."""
        for connection, frame in ready.frames:
            if frame.mseq is not None:
                for sent in self._sent:
                    sent(connection, frame.to or "", frame)
                for check in self._posted.get(type(frame.message), ()):
                    check(frame.to or "", frame.message, connection)

    def took(self, agent: str, frame: Frame) -> None:
        """A frame arrived at a peer."""
        if frame.mseq is not None:
            for took in self._took:
                took(agent, frame)

    def told(self, agent: str, message: Message, request: Message | None = None) -> None:
        """A peer's session passed on what the coordinator said."""
        for check in self._told.get(type(message), ()):
            check(agent, message, request)

    def watches(self, peer: Any, watched: Watched) -> None:
        """A peer begins to watch a context."""
        for checker in self._heard:
            checker.watches(peer, watched)

    def heard(self, watched: Watched) -> None:
        """A peer was told what was written to a context."""
        for checker in self._heard:
            checker.heard(watched)

    def look(self, now: int) -> None:
        """Some time has passed."""
        for check in self._look:
            check(max(now, self.model.at))

    def unfinished(self) -> tuple[str, str] | None:
        """Return the first property that still waits for something, and for what; None if nothing waits."""
        for checker in self.checkers:
            waits = checker.unfinished()
            if waits is not None:
                return checker.name, waits
        return None

    # Who is here ------------------------------------------------------------------------------------------------------

    def _seat(self, connection: int, hello: Hello, welcome: Welcome) -> None:
        agent = hello.agent_id
        for other, name in list(self.who.items()):
            if name == agent:
                del self.who[other]
        self.who[connection] = agent
        self.cause.agent = agent
        self.model.seats[agent] = Seat(connection, hello.credit.tasks, hello.credit.frames, welcome.next_mseq - 1)
        for verdict in welcome.held:
            if verdict.verdict == "keep":
                self.model.tasks[verdict.task].lease_until = self.cause.now + (verdict.lease_ms or 0)
        for life in self._lives:
            life.welcomed(connection, agent, welcome)

    def _leave(self, connection: int) -> None:
        agent = self.who.pop(connection, None)
        if agent is not None and self.model.seats[agent].connection == connection:
            del self.model.seats[agent]


class LifeChecker(Checker):
    """A checker that follows the coordinator's processes and the agents they welcome."""

    def starting(self) -> None:
        """A process is about to fold its ledger."""

    def started(self, coordinator: Coordinator) -> None:
        """A process has folded its ledger and begun its epoch."""

    def crashed(self, coordinator: Coordinator, durable: int) -> None:
        """A process is gone."""

    def ended(self, coordinator: Coordinator) -> None:
        """The last process is still running at the end of the world."""

    def welcomed(self, connection: int, agent: str, welcome: Welcome) -> None:
        """An agent was welcomed."""


def _by_type(checkers: list[Checker], types: str, method: str) -> dict[type, list[Callable[..., None]]]:
    found: dict[type, list[Callable[..., None]]] = {}
    for checker in checkers:
        if getattr(type(checker), method) is getattr(Checker, method):
            continue
        for kind in getattr(checker, types):
            found.setdefault(kind, []).append(getattr(checker, method))
    return found
