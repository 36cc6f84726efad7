"""The coordinator as a pure machine: frames and time in, records and frames out.

One `step` per frame, one `tick` for all timers. After each, the passes that any change may call for run once: sub-tasks
of ended tasks, offers for queued tasks, timers, watchers. `ready` hands out what to append and what to send; the shell
appends first. `restore` folds the stored records back. Nothing here does I/O, and nothing reads a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from ..errors import ErrorCode
from ..protocol.codec import BadFrame, Frame
from ..protocol.messages import (
    KINDS,
    A2ACall,
    AgentFind,
    Bye,
    ClaimAcquire,
    ConflictList,
    ConflictRaise,
    ContextRead,
    ContextWatch,
    ContextWrite,
    Credit,
    Error,
    Hello,
    MailboxAck,
    Message,
    Ping,
    Pong,
    TaskAccept,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskDelegate,
    TaskHeartbeat,
    TaskLease,
    TaskList,
    TaskWatch,
    Unknown,
    Welcome,
)
from ..protocol.states import TaskState
from ..protocol.types import principal_of
from . import snapshot
from .agenda import Agenda
from .binding import on_list
from .budget import exhausted, most
from .calls import Told, answers, begin, leave_calls, progress_answers
from .claimbook import owner_of
from .claims import (
    due_claim,
    leave_line,
    leave_line_unserved,
    look_at_line,
    next_in_line,
    outlived,
    when_claim_due,
)
from .conflicts import shelving
from .conflicts.answering import taken
from .conflicts.bench import Answer, Job
from .conflicts.comparators import Compare
from .conflicts.merging import Merge
from .conflicts.noting import circle_noted
from .conflicts.overlapping import collision, next_overlap
from .conflicts.patches import Overlap
from .conflicts.procedure import advance, hearing_at, proceed
from .context import context_events, leave_contexts, watch_context
from .decision import NOTHING, Called, Decision, Need, Ready, Row, may_wait, refuse, reply
from .delivery import Delivery
from .fetching import AtHand, Fetched, Waiting, need_for
from .handlers import HANDLERS
from .leaving import Leaving
from .ledger import Ledger
from .live import Connection, Live, World
from .policy import Policy
from .reading import page_of, view
from .records import (
    Accepted,
    AgentForgotten,
    AgentRegistered,
    Asked,
    Claimed,
    ClaimEnded,
    ClaimRecalled,
    ClaimRenewed,
    ClaimRequested,
    ConflictOpened,
    ConflictResolved,
    ContextRecalled,
    ContextWritten,
    CoordinatorStarted,
    CoordinatorStopped,
    Declined,
    GroupDecided,
    HandedOff,
    LeaseExpired,
    Offered,
    OfferWithdrawn,
    PrincipalUnbound,
    Recalled,
    Record,
    Refused,
    Reported,
    Revived,
    Reworked,
    Settled,
    StatusSet,
    Yielded,
)
from .refusals import MAY_REFUSE, Refusals, refusal_of, stands
from .routing import Queues, offers
from .task_state import Task
from .timers import due, wait_on, when_due
from .tree import cancel_children, cancel_orphan, settle_abandoned
from .waits import anyone_waits, circles_broken, resources_of
from .watching import (
    agent_told,
    archived_told,
    finds_passed,
    leave_watches,
    passes_no_more,
    progress_told,
    watch,
    watchers_told,
)

__all__ = ["Coordinator"]

_FreesCredit = Declined | OfferWithdrawn | LeaseExpired | Revived | Yielded | HandedOff | Asked | Reported | Settled
"""Records that end an attempt or an offer, or may: `Revived` takes an offer back, a cold `Asked` ends its attempt."""
_TELLS_USAGE = (Declined, Yielded, HandedOff, Asked, Reported, Settled)
"""Records that end an attempt and count what it used. `LeaseExpired` carries its own usage."""
_NOTHING_FETCHED = Fetched()
"""What nearly every frame gets; shared, so nobody may change it."""
_FOLLOWED = frozenset({MailboxAck, TaskHeartbeat, TaskWatch, ContextWatch, AgentFind, A2ACall, Credit})
"""Messages that may ask for something beyond their records and their reply."""
_SIGNS_OF_LIFE = (TaskAccept, TaskHeartbeat, TaskCheckpoint, TaskArtifact, TaskAsk, ClaimAcquire)


_TimesClaim = ClaimRequested | Claimed | ClaimRenewed | ClaimRecalled
"""Records that may change when a claim is looked at next."""


class Coordinator:
    """Decides everything in one namespace."""

    def __init__(self, policy: Policy | None = None, *, durability: str = "memory") -> None:
        self.policy = policy or Policy()
        self.ledger = Ledger(self.policy.namespace)
        self.live = Live(durability=durability)
        self.queues = Queues()
        self.world = World(self.ledger, self.live, self.policy, self.queues)
        self._ready = Ready()
        self._sequence = 0
        self._agenda = Agenda[str]()
        """When to look at each open task next."""
        self._alarms = Agenda[int]()
        """When to look at each claim next."""
        self._calendar = Agenda[str]()
        """When to look at each conflict next, except those about a group."""
        self._delivery = Delivery(self.world)
        self._written: dict[str, None] = {}
        """Contexts whose watchers have something to learn."""
        self._wait_begins: dict[str, Task] = {}
        """Tasks that may have begun to wait for others while something waits for names."""
        self._has_resolved = False  # a conflict has ended since overlapping patches were last looked at
        self._broken: list[ClaimEnded | Settled] = []
        """Waits given up since the last pass, each to break a circle."""
        self._passed: list[tuple[Connection, str]] = []
        """The watches whose filter passes the agent whose card is about to change: connection and find request."""
        self._waiting = Waiting()
        self._leaving = Leaving(self.policy)
        self._refusals = Refusals(self.policy.refusals_per_minute, self.policy.refusals_alike_max)

    # What the shell calls ---------------------------------------------------------------------------------------------

    def load(self, body: bytes, blob: Callable[[bytes], bytes] = snapshot.none_kept) -> None:
        """Begin with a snapshot; `restore` then takes the records that follow it.

        Args:
            body: the snapshot.
            blob: as for `snapshot.load`.

        Raises:
            ValueError: the snapshot cannot be used; nothing was changed.
        """
        self.ledger = self.world.ledger = snapshot.load(body, self.policy.namespace, blob)

    def stop(self, now: int) -> None:
        """Record that the coordinator stops in good order, and the hash of its state."""
        now = max(now, self.ledger.at)
        for connection in self.live.agents.values():
            self._commit_all(self._delivery.receipt(connection, now))
        self._keep_refusals(self._refusals.take_all(now))
        self._commit(CoordinatorStopped(now, snapshot.state_hash(self.ledger)))

    def restore(self, records: Iterable[Record], fresh_key: str, now: int) -> None:
        """Fold stored records back, then begin a new epoch: `fold` and `begin`, where nothing comes in between."""
        self.fold(records)
        self.begin(fresh_key, now)

    def fold(self, records: Iterable[Record]) -> None:
        """Fold stored records back. Call it once, first; then `begin`."""
        for record in records:
            self.ledger.apply(record)
            self.ledger.freed.clear()  # nobody waits before the fold is done
            self.ledger.stirred.clear()
            self.ledger.closed.clear()

    def begin(self, fresh_key: str, now: int) -> None:
        """Begin a new epoch, also on an empty ledger. `now` is after the fold: holders are heard from then on.

        Args:
            fresh_key: a secret with which the ledger proves its fences, unless it already has one (spec DURABLE-7).
        """
        now = max(now, self.ledger.at)
        self.ledger.touched.clear()
        self.ledger.posted.clear()
        self.ledger.freed.clear()
        self.ledger.stirred.clear()
        self.live.restored_lsn = self.ledger.lsn
        proof_key = "" if self.ledger.proof_key else fresh_key
        begins_scopes = not self.ledger.effects_scoped_from
        self._commit(CoordinatorStarted(now, self.ledger.epoch + 1, self.ledger.namespace, proof_key, begins_scopes))
        leases = [
            task.durations.lease_ms
            for task in self.ledger.open_tasks.values()
            if task.authority is not None and task.authority.is_open
        ]
        grace = self.policy.recovery_grace_ms
        self.live.started_at, self.live.grace_until = now, now + (max(leases, default=0) if grace is None else grace)
        for principal in self.ledger.attached:
            self.live.away_since[principal] = self.live.grace_until
        for task in self.ledger.open_tasks.values():
            if task.holder is not None:
                self.live.lease_until[task.id] = now + task.durations.lease_ms
            self.ledger.touched[task.id] = task
        self._leaving.begin(self.ledger)
        for agent in (*self.ledger.agents, *self.ledger.mailboxes, *self.ledger.delegating):
            self._delivery.expect_back(agent, now)
        self.ledger.closed.update((name, known) for name, known in self.ledger.conflicts.items() if not known.is_open)
        for claim in self.ledger.claims.claims.values():
            self._alarms.set(claim.id, when_claim_due(claim), claim.id)
            if claim.is_waiting:
                # No task stands before it in line any longer. What is shared conflicts only with `x`.
                self.ledger.freed.append(dict.fromkeys(claim.names, "x"))
        self.ledger.stirred.update(self.ledger.open_conflicts)
        for patched in list(self.ledger.patches.due):
            self._look_at_patches(patched, now)
        self._follow(now)

    def opened(self, connection: int, fresh_secret: str, now: int) -> None:
        """A connection is open; its first frame has to be a hello."""
        self.live.connections[connection] = Connection(connection, fresh_secret, seen=now)

    def closed(self, connection: int, now: int) -> None:
        """A connection is over. Its agent keeps what it holds until the lease ends."""
        now = max(now, self.ledger.at)
        gone = self.live.connections.pop(connection, None)
        if gone is None:
            return
        leave_watches(self.live, gone)
        leave_contexts(self.live, gone)
        leave_calls(self.live, gone)
        if gone.agent is not None and self.live.agents.get(gone.agent) is gone:
            self._commit_all(self._delivery.receipt(gone, now))
            self.live.left(gone.agent)
            if gone.agent in self.ledger.agents:  # other agents have no slots, and there may be any number of them
                self.queues.slots.moved(gone.agent)
            self._principal_left(gone.agent, now)
            self._tell(agent_told(self.world, gone.agent, "left", now))
            self._commit_all(self._delivery.forgotten(gone.agent, now))
            self._delivery.expect_back(gone.agent, now)
            look_at_line(self.world, gone.agent)
        self._follow(now)

    def step(self, connection: int, frame: Frame | BadFrame, now: int) -> None:
        """Take one frame that arrived on a connection."""
        now = max(now, self.ledger.at)
        sender = self.live.connections.get(connection)
        if sender is None:
            return  # it was told to close, and this frame was already on its way
        sender.seen, sender.has_answered = now, True
        if connection in self._waiting:
            self._waiting.add(connection, frame)
        else:
            self._take(sender, frame, now)

    def found(self, need: Need, rows: Sequence[Row] | None, now: int, passing: int = 0) -> None:
        """Resume a frame that needed archived tasks: `rows` are those the archive has.

        None says that the archive could not be read: the frame is refused for that reason, and may come again.
        `passing` is how many tasks all pages have, where the frame asked for a page of ended tasks.
        """
        now = max(now, self.ledger.at)
        if need.is_for_mail:
            self._mail_found(need, rows, now)
            return
        frames, at_hand = self._waiting.end(need)
        sender = self.live.connections.get(need.connection)
        if sender is None:
            return  # nobody is left to answer
        fetched: Fetched | None = Fetched.of(need, rows, passing, at_hand)
        while frames and sender.id in self.live.connections:
            if sender.id in self._waiting:
                self._waiting.add(sender.id, frames.popleft())
            else:
                self._take(sender, frames.popleft(), now, fetched)
            fetched = None

    def _mail_found(self, need: Need, rows: Sequence[Row] | None, now: int) -> None:
        """Send the mail that waited for the archive, or close where it could not be read: the peer will come back."""
        self._waiting.let_go(need)
        connection = self.live.connections.get(need.connection)
        if connection is None:
            return
        fetched = Fetched.read(rows)
        try:
            self._ready.frames += self._delivery.found(connection, need, fetched, now)
        except LookupError as error:
            self._close(connection, fetched.failure or str(error), now)

    def _take(self, sender: Connection, frame: Frame | BadFrame, now: int, fetched: Fetched | None = None) -> None:
        """Decide on a frame whose turn it is, or have it wait for the archived tasks it is about."""
        if isinstance(frame, BadFrame):
            self._answer_bad(sender, frame)
            return
        decision = self._refuse_early(sender, frame)
        if decision is None and fetched is None:
            need = need_for(self.ledger, sender, frame.message)
            if need is not None:
                self._waiting.begin(need, frame, AtHand.of(self.world, frame.message, need))
                self._ready.needs.append(need)
                return
        self._conclude(sender, frame, decision, now, fetched or _NOTHING_FETCHED)

    def _conclude(self, sender: Connection, frame: Frame, refusal: Decision | None, now: int, fetched: Fetched) -> None:
        message = frame.message
        if fetched.contexts and refusal is None and not isinstance(message, ContextRead | ContextWatch):
            for recalled in fetched.contexts_back(self.ledger, now):
                self._commit(recalled)
        decision = refusal or self._decide(sender, message, now, fetched)
        if decision.halt is not None:
            self._ready.halt = decision.halt
            return
        if type(decision.reply) in MAY_REFUSE:
            refused = refusal_of(self.world, sender, message, decision, now)
            if refused is not None and stands(self.ledger, refused):
                self._refusals.add(refused)
        for record in decision.records:
            if fetched.stored and (back := fetched.task_back(self.ledger, record, now)) is not None:
                self._commit(back)
            self._commit(record)
        is_welcome = type(decision.reply) is Welcome
        if is_welcome:
            self._take_over(sender)
        if decision.reply is not None:
            sent = self._send(sender, decision.reply, re=frame.id)
            if frame.slack_ms and may_wait(decision.reply):
                self._ready.slack[sent] = frame.slack_ms
        if decision.ping is not None:
            self._send(self.live.connections[decision.ping], Ping())
        if is_welcome:
            self._arrived(sender, now)
        elif type(message) in _FOLLOWED and not isinstance(decision.reply, Error):
            self._go_on(sender, frame, decision, now, fetched)
        if isinstance(message, _SIGNS_OF_LIFE):
            self._lease_changed(message.task or "", now)
        if decision.close is not None:
            self._close(sender, decision.close, now)
        self._follow(now)

    def _go_on(self, sender: Connection, frame: Frame, decision: Decision, now: int, fetched: Fetched) -> None:
        """Do what a message that was not refused asks for beyond its records and its reply."""
        message = frame.message
        if isinstance(message, MailboxAck):
            self._commit_all(self._delivery.acknowledged(sender, now))
        elif isinstance(message, TaskHeartbeat):
            if isinstance(decision.reply, TaskLease):
                self._tell_progress(message.task)
        elif isinstance(message, TaskWatch):
            self._watch(sender, frame.id, message, fetched.tasks.get(message.task))
        elif isinstance(message, ContextWatch):
            watch_context(self.live, sender, frame.id, message)
            context = self.ledger.contexts.get(message.context_id) or fetched.contexts.get(message.context_id)
            if context is not None:
                self._tell(context_events(self.live, context))
        elif isinstance(message, AgentFind):
            if message.watch:
                sender.finding[frame.id] = message.filter
                self.live.finders[sender.id] = sender
        elif isinstance(message, A2ACall):
            if isinstance(decision, Called) and decision.task is not None:
                self._begin_call(sender, frame.id, decision, fetched)
        elif isinstance(message, Credit) and sender.agent is not None:
            self._capacity_changed(sender.agent)
            self._slots_changed(sender.agent)
            look_at_line(self.world, sender.agent)
            self.ledger.posted[sender.agent] = None

    def tick(self, now: int, is_carrying: Callable[[int], bool] | None = None) -> None:
        """Let everything that is due happen.

        Args:
            now: the time.
            is_carrying: tells whether a message is on its way on a connection: then its peer may be heard late, or may
                have heard late, through no fault of its own. None: no connection carries one.
        """
        now = max(now, self.ledger.at)
        while (task_id := self._agenda.pop(now)) is not None:
            task = self.ledger.open_tasks.get(task_id)
            if task is None:
                continue
            if now >= self.live.grace_until:
                if is_carrying is not None:
                    wait_on(self.world, task, is_carrying, now)
                self._commit_all(due(self.world, task, now))
            self.ledger.touched[task_id] = task
            self._follow(now)
        if now >= self.live.grace_until:
            self._end_claims(now)
            while (conflict := self._calendar.pop(now)) is not None:
                self.ledger.stirred[conflict] = self.ledger.open_conflicts[conflict]  # the end of one clears it here
                self._follow(now)
        self._commit_all(self._delivery.given_up(now))
        self._keep_refusals(self._refusals.take(now))
        self._archive(now)

    def answered(self, job: Job, answer: Answer, now: int) -> None:
        """Take the answer to a job: an input like any other, and recorded."""
        now = max(now, self.ledger.at)
        record = taken(self.world, job, answer, now)
        if record is not None:
            self._commit(record)
        if isinstance(job, Overlap) and job.task not in self.live.overlapping:
            self._look_at_patches(job.task, now)
        self._follow(now)

    def _look_at_patches(self, task: str, now: int) -> None:
        """Compare a result with the next one that patches the same, or open the conflict where two collide."""
        if not self.policy.ladder_for("artifact"):
            return
        job = next_overlap(self.ledger, task)
        if job is not None:
            self.live.overlapping[task] = job
            self._ready.jobs.append(job)
            return
        opened = collision(self.world, task, now)
        if opened is not None:
            self._commit(opened)

    def next_deadline(self) -> int | None:
        """Return when `tick` has something to do next, or None."""
        alarm, hearing = self._alarms.next(), self._calendar.next()
        times = [
            self._agenda.next(),
            self._delivery.next_deadline(),
            None if alarm is None else max(alarm, self.live.grace_until),
            None if hearing is None else max(hearing, self.live.grace_until),
            self._leaving.next_deadline(),
            self._refusals.next_deadline(),
        ]
        return min((time for time in times if time is not None), default=None)

    def ready(self, now: int) -> Ready:
        """Return what to append and send since the last call. Append first, and only then send."""
        if self.ledger.posted:
            self._ready.frames += self._delivery.outgoing(max(now, self.ledger.at))
        for need in self._delivery.needs:
            self._waiting.keep(need)
            self._ready.needs.append(need)
        self._delivery.needs.clear()
        ready, self._ready = self._ready, Ready(halt=self._ready.halt)
        return ready

    def unanswered(self, connection: int, request: str) -> None:
        """Drop the find of a request whose answer was not sent, so that nobody watches with it."""
        sender = self.live.connections.get(connection)
        if sender is not None and sender.finding.pop(request, None) is not None and not sender.finding:
            self.live.finders.pop(connection, None)

    def is_welcomed(self, connection: int) -> bool:
        """Tell whether the peer on this connection has said who it is."""
        known = self.live.connections.get(connection)
        return known is not None and known.agent is not None

    def is_busy(self, connection: int) -> bool:
        """Tell whether the peer on this connection holds work, so that its silence must be noticed soon."""
        known = self.live.connections.get(connection)
        return known is not None and known.agent is not None and bool(self.ledger.holding.get(known.agent))

    # Deciding ---------------------------------------------------------------------------------------------------------

    def _decide(self, sender: Connection, message: Message, now: int, fetched: Fetched) -> Decision:
        if fetched is _NOTHING_FETCHED:
            return HANDLERS[type(message)](self.world, sender, message, now)
        if not isinstance(message, Hello | TaskHeartbeat):  # their reply says for each attempt what to do
            if fetched.failure:
                return refuse(ErrorCode.UNAVAILABLE, fetched.failure)
            if fetched.gone and _is_about(message, fetched.gone):
                return refuse(
                    ErrorCode.GONE, f"task {next(iter(fetched.gone))} ended long ago, and is not kept any more"
                )
        if isinstance(message, TaskList) and fetched.views is not None:
            return self._list(message, fetched)
        if isinstance(message, ConflictList) and fetched.page is not None:
            return reply(shelving.page_of(self.ledger, message, fetched.page))
        lent = [task for task in fetched.tasks if task not in self.ledger.tasks]
        with self.ledger.lending(fetched.tasks.values(), fetched.conflicts.values(), fetched.contexts.values()):
            if isinstance(message, A2ACall) and fetched.passing is not None:
                return on_list(self.world, message, lent, fetched.passing)
            return HANDLERS[type(message)](self.world, sender, message, now)

    def _list(self, message: TaskList, fetched: Fetched) -> Decision:
        """Answer with a page merged from memory and the archive."""
        shown = {task.lsn: view(self.world, task) for task in fetched.tasks.values()}
        shown.update(fetched.views or ())  # a recalled task has more to show in memory
        return reply(page_of(message, sorted(shown.items(), reverse=True)))

    def _refuse_early(self, sender: Connection, frame: Frame) -> Decision | None:
        """Return the answer to a message that no handler takes, or None."""
        message = frame.message
        if sender.agent is None and not isinstance(message, Hello):
            decision = refuse(ErrorCode.AUTH, f"the first frame is a hello, this is {_kind(message)}")
            decision.close = "no hello"
            return decision
        if sender.agent is not None and isinstance(message, Hello):
            return refuse(ErrorCode.CONFLICT, f"{sender.agent} was welcomed on this connection already")
        if type(message) in HANDLERS:
            return None
        if isinstance(message, Pong | Error):
            return NOTHING
        decision = refuse(ErrorCode.UNSUPPORTED_KIND, f"a coordinator does not take {_kind(message)}")
        if frame.must:
            decision.close = f"{_kind(message)} is not supported"
        return decision

    def _answer_bad(self, sender: Connection, frame: BadFrame) -> None:
        decision = refuse(frame.code, frame.detail)
        known = KINDS.get(frame.kind or "")
        if known not in (None, Pong, Error, *HANDLERS) and sender.agent is not None:
            # Whatever is wrong with its fields, a frame of this kind is not taken anyway (spec WIRE-7).
            decision = refuse(ErrorCode.UNSUPPORTED_KIND, f"a coordinator does not take {frame.kind}")
        assert decision.reply is not None, "a refusal has a reply"
        self._send(sender, decision.reply, re=frame.id)
        if frame.fatal or sender.agent is None:  # a peer that is not welcomed has one try (spec HELLO-5)
            self._close(sender, frame.detail, self.ledger.at)

    def _commit(self, record: Record) -> None:
        """Apply a record to the state, and keep it to be appended."""
        if isinstance(record, _TELLS_USAGE):
            self._add_heard(record)
        elif isinstance(record, AgentRegistered) and record.agent in self.live.agents:
            self._passed = finds_passed(self.world, record.agent)
        lsn = self.ledger.apply(record)
        self._ready.records.append((lsn, record))
        if self.live.line.tasks:
            self._leave_line(record)
        for follow in _AFTER.get(type(record), ()):
            follow(self, record)

    def _commit_all(self, records: Iterable[Record]) -> None:
        """Commit records, each before the next is asked for."""
        for record in records:
            self._commit(record)

    def _offered(self, record: Offered) -> None:
        self.live.progress.pop(record.task, None)
        self.queues.slots.moved(record.agent)
        task = self.ledger.tasks[record.task]
        self.live.lease_until[record.task] = record.at + task.durations.offer_ms

    def _lease_runs(self, record: Accepted | Revived) -> None:
        self.live.lease_until[record.task] = record.at + self.ledger.tasks[record.task].durations.lease_ms

    def _frees_credit(self, record: _FreesCredit) -> None:
        live, task = self.live, self.ledger.tasks[record.task]
        if task.last_agent is not None:
            self._capacity_changed(task.last_agent)
        if task.authority is not None and task.authority.holder != task.last_agent:
            self._capacity_changed(task.authority.holder)
        if task.is_terminal:
            live.lease_until.pop(record.task, None)
            live.progress.pop(record.task, None)
            if live.away_since and task.principal not in self.ledger.attached:
                live.away_since.pop(task.principal, None)  # it may have been here for that task only
            self._leaving.add_task(task, record.at)
        if not _goes_on(record):
            live.spending.forget(record.task)
            live.artifact_hashes.forget(record.task)
        if live.released:
            self._take_slot_back(task)

    def _is_back(self, record: Recalled) -> None:
        self._leaving.add_task(self.ledger.tasks[record.task], record.at)

    def _card_changed(self, record: AgentRegistered | StatusSet) -> None:
        self._agent_changed(record.agent, record.at)
        passed, self._passed = self._passed, []
        self._tell(passes_no_more(self.world, record.agent, passed, record.at))

    def _is_forgotten(self, record: AgentForgotten) -> None:
        agent = record.agent
        self.queues.slots.forget(agent, self.ledger)
        self.live.schema_hashes.forget(agent)
        self._delivery.expect_no_more(agent)

    def _is_unbound(self, record: PrincipalUnbound) -> None:
        self._refusals.forget(record.principal)

    def _quarantine_changed(self, record: ConflictOpened | ConflictResolved) -> None:
        quarantined = self.ledger.conflicts[record.conflict].quarantines
        if quarantined is not None:
            self._agent_changed(quarantined, record.at)

    def _has_ended(self, record: ConflictResolved) -> None:
        self._has_resolved = True

    def _word_said(self, record: Settled | Reworked) -> None:
        """Note that a word on a result may have ended a conflict, which no record of its own says (CONFLICT-16)."""
        if any(known in self.ledger.closed for known in self.ledger.tasks[record.task].conflicts):
            self._has_resolved = True

    def _was_written(self, record: ContextWritten) -> None:
        self._written[record.context_id] = None
        self._leaving.add_context(self.ledger.contexts[record.context_id], record.at)

    def _context_is_back(self, record: ContextRecalled) -> None:
        self._leaving.add_context(self.ledger.contexts[record.context_id], record.at)

    def _has_result(self, record: Reported | GroupDecided) -> None:
        if record.task in self.ledger.patches.due:
            self._look_at_patches(record.task, record.at)

    def _gives_up(self, record: ClaimEnded | Settled) -> None:
        if record.reason == "deadlock":
            self._broken.append(record)

    def _leave_line(self, record: Record) -> None:
        """Take a task that is no longer queued out of line at once: it waits for nothing any longer."""
        task = self.live.line.tasks.get(getattr(record, "task", None) or "")
        if task is not None and task.state is not TaskState.QUEUED:
            leave_line(self.world, task)

    def _time_claim(self, record: _TimesClaim) -> None:
        book = self.ledger.claims
        if isinstance(record, ClaimRequested):
            claim = book.claims[self.ledger.lsn]
        else:
            claim = book.claims[record.claim] if isinstance(record, Claimed) else book.by_fence[record.claim_fence]
        self._alarms.set(claim.id, when_claim_due(claim), claim.id)

    def _claim_is_over(self, record: ClaimEnded) -> None:
        """Drop the alarm of an ended claim: its time may be days off, and the alarm would be kept until then."""
        self._alarms.set(record.claim, None, record.claim)

    def _end_claims(self, now: int) -> None:
        """Carry out what the clock decides about claims."""
        while (claim_id := self._alarms.pop(now)) is not None:
            claim = self.ledger.claims.claims.get(claim_id)
            if claim is None:
                continue
            self._commit_all(due_claim(claim, now))
            self._follow(now)
            if claim.task is None and claim.agent not in self.live.agents:
                self._commit_all(self._delivery.forgotten(claim.agent, now))

    def _add_heard(self, record: Declined | Yielded | HandedOff | Asked | Reported | Settled) -> None:
        """Add the usage its heartbeats told to the record of an attempt's end, which may say less (spec BUDGET-1)."""
        progress, task = self.live.progress.get(record.task), self.ledger.tasks[record.task]
        if progress is None or _goes_on(record):
            return
        if not isinstance(record, Settled) or task.holder is not None:
            record.usage = most(progress.usage, record.usage)

    def _take_slot_back(self, task: Task) -> None:
        """Forget that an agent had released the slot of an attempt, once the attempt has ended."""
        for agent in (task.last_agent, task.authority.holder if task.authority is not None else None):
            released = self.live.released.get(agent or "")
            if released is not None and self.ledger.holding.get(agent or "", {}).get(task.id) != released.get(task.id):
                released.pop(task.id, None)
                if not released:
                    del self.live.released[agent or ""]

    def _capacity_changed(self, agent_id: str) -> None:
        agent = self.ledger.agents.get(agent_id)
        if agent is not None:
            self.queues.capacity_changed(agent)

    def _agent_changed(self, agent: str, now: int) -> None:
        """Note that an agent may now take other tasks than before, or none, or some again."""
        self._capacity_changed(agent)
        self._slots_changed(agent)
        look_at_line(self.world, agent)
        if agent in self.live.agents:
            self._tell(agent_told(self.world, agent, "changed", now))

    def _slots_changed(self, agent: str) -> None:
        """Note which tasks may now wait for ever, as an agent works on other tasks or takes other ones than before."""
        if agent not in self.ledger.agents or not anyone_waits(self.ledger, self.live):
            return
        released = (task for tasks in self.live.released.values() for task in tasks)
        for task in (*self.ledger.holding.get(agent, ()), *released):
            self._wait_begins[task] = self.ledger.tasks[task]

    # The passes that follow -------------------------------------------------------------------------------------------

    def _follow(self, now: int) -> None:
        """Do what a change may call for, until nothing more follows."""
        ledger = self.ledger
        while True:
            while self._broken:
                self._commit_all(circle_noted(self.world, self._broken.pop(0), now))
            touched = list(ledger.touched.values())
            ledger.touched.clear()
            if touched and anyone_waits(ledger, self.live):
                self._wait_begins.update((task.id, task) for task in touched if not task.is_terminal)
            for task in touched:
                self._follow_task(task, now)
            if ledger.stirred:
                self._proceed(now)
            if self._has_resolved and ledger.patches.due:
                self._look_at_patches_again(now)
            if ledger.touched or ledger.stirred:
                continue  # a task that has to end is not offered first
            if ledger.freed:
                self._commit_all(next_in_line(self.world, now))
            self._offer(now)
            if self.live.line.called:
                self._wait_begins |= self.live.line.called  # a task that leaves the line waits for an agent
                leave_line_unserved(self.world)
            if self._wait_begins and not ledger.touched and not ledger.freed:
                self._break_circles(now)
            if not ledger.touched and not ledger.freed and not ledger.stirred and not self._broken:
                break
        if self._written:  # not earlier: the end of a conflict may write
            self._tell_context_watchers()
        if ledger.closed:
            self._leaving.add_conflicts(ledger.closed.values())
            ledger.closed.clear()

    def _follow_task(self, task: Task, now: int) -> None:
        """Do what a changed task calls for: for its group, parent, children, queue and watchers."""
        if task.group is not None:
            self._advance(task, now)
        if task.children and task.is_terminal:
            reason = f"parent task {task.id} has ended as {task.state}"
            self._commit_all(cancel_children(self.ledger, task, "coop", reason, "coordinator", now))
        if task.parent is not None:
            self._commit_all(self._after_parent(task, now))
        if task.children and task.is_terminal:
            self.ledger.touched.update((child.id, child) for child in self.ledger.open_children(task))
        if task.state is TaskState.QUEUED and (kind := exhausted(self.ledger, task)) is not None:
            self._commit(Settled(now, task.id, "failed", "budget", f"nothing is left of its budget for {kind}"))
        if task.state is TaskState.QUEUED and 0 < self._paused_from(task) <= now:
            self.queues.remove(task.id)
        elif task.state is TaskState.QUEUED and task.retry_at <= now:
            self.queues.add(task)
        elif task.is_terminal:
            self.queues.remove(task.id)
        self._schedule(task, now)
        self._follow_claims(task, now)
        if task.id in self.live.watchers:
            self._tell(watchers_told(self.live, task))
        if task.id in self.live.calls:
            self._tell(answers(self.world, task))

    def _offer(self, now: int) -> None:
        """Offer queued tasks to agents that fit, as far as their credit goes."""
        for task, agent in offers(self.queues, self.ledger, self.live, now):
            if agent is None:
                self._commit_all(circles_broken(self.ledger, self.live, owner_of(task.id, ""), now))
                continue
            # Without an open lease there is no earlier holder to protect: the first offer is the lease itself.
            granted = task.authority is None or not task.authority.is_open
            self._commit(Offered(now, task.id, agent, granted, resources_of(task) or None))

    def _break_circles(self, now: int) -> None:
        """Give up one wait in each circle that a change closed, once all that can be offered is. Spec WAIT-2."""
        begun, self._wait_begins = self._wait_begins, {}
        for task in sorted(begun.values(), key=lambda task: task.lsn):
            self._commit_all(circles_broken(self.ledger, self.live, owner_of(task.id, ""), now))

    def _follow_claims(self, task: Task, now: int) -> None:
        """Do what a changed task calls for among claims: those of an attempt that is over end with it."""
        for record in outlived(self.ledger, task, now):
            self._commit(record)
        line = self.live.line
        if task.id not in line.tasks:
            return
        if task.state is TaskState.QUEUED and self.queues.has(task.id):
            line.called[task.id] = task
        else:
            leave_line(self.world, task)

    def _look_at_patches_again(self, now: int) -> None:
        """Look again at patches that waited for a conflict to end: one of the results was disputed (spec PATCH-3)."""
        self._has_resolved = False
        for task in list(self.ledger.patches.due):
            if task not in self.live.overlapping:
                self._look_at_patches(task, now)

    def _advance(self, task: Task, now: int) -> None:
        """Take the next step of a group, or order the comparison that comes before it."""
        step = advance(self.world, task, now)
        if isinstance(step, Compare):
            if self.live.comparing.get(task.id) != step.member:
                self.live.comparing[task.id] = step.member
                self._ready.jobs.append(step)
            return
        self._commit_all(step or ())

    def _proceed(self, now: int) -> None:
        """Take the next step of each conflict that changed or whose time has come."""
        stirred = list(self.ledger.stirred.values())
        self.ledger.stirred.clear()
        for conflict in stirred:
            step = proceed(self.world, conflict, now)
            if isinstance(step, Merge):
                if self.live.merging.get(conflict.id) != step.number:
                    self.live.merging[conflict.id] = step.number
                    self._ready.jobs.append(step)
                step = None
            self._commit_all(step or ())
            self._calendar.set(conflict.id, hearing_at(conflict), conflict.opened_lsn)

    def _after_parent(self, task: Task, now: int) -> list[Record]:
        """Return what the end of its parent means for a sub-task."""
        if task.state is TaskState.QUEUED:
            return cancel_orphan(self.ledger, task, now)
        return settle_abandoned(self.ledger, task, now)

    def _paused_from(self, task: Task) -> int:
        """Return the time from which a task waits for its delegator and not for an agent, or 0 (spec TASK-12)."""
        return self.live.away_since.get(task.principal, 0) if task.on_delegator_loss == "pause" else 0

    def _principal_left(self, agent: str, now: int) -> None:
        """Note that a process has gone, and touch the tasks that depend on its principal if it was the last one."""
        principal = principal_of(agent)
        attached = self.ledger.attached.get(principal)
        if attached is None or principal in self.live.present:
            return
        self.live.away_since[principal] = now
        self.ledger.touched.update(attached)

    def _principal_came(self, agent: str) -> None:
        principal = principal_of(agent)
        if self.live.away_since.pop(principal, None) is not None:
            self.ledger.touched.update(self.ledger.attached.get(principal, {}))

    def _schedule(self, task: Task, now: int) -> None:
        at = when_due(self.world, task)
        if task.state is TaskState.QUEUED:
            later = [time for time in (task.retry_at, *task.shunned.values(), self._paused_from(task)) if time > now]
            if later:
                at = min(later) if at is None else min(at, *later)
        if at is not None:
            self._agenda.bring_forward(task.id, at, task.lsn)
        elif task.is_terminal:
            self._agenda.set(task.id, None, task.lsn)

    def _lease_changed(self, task_id: str, now: int) -> None:
        """Look at the task earlier if its lease now ends earlier: an offer may wait longer than a lease runs."""
        task = self.ledger.open_tasks.get(task_id)
        ends, planned = self.live.lease_until.get(task_id), self._agenda.at(task_id)
        if task is not None and ends is not None and (planned is None or ends < planned):
            self._schedule(task, now)

    def _keep_refusals(self, refused: list[Refused]) -> None:
        """Record what was refused some time ago: no answer waited for it (spec ERR-7)."""
        for record in refused:
            if stands(self.ledger, record):
                self._commit(record)

    # Leaving memory ---------------------------------------------------------------------------------------------------

    def _archive(self, now: int) -> None:
        """Archive the settled tasks, closed conflicts and idle contexts that need not be at hand any longer."""
        if not self._leaving.is_due(now):
            return
        for record, shelved in self._leaving.due(self.ledger, self._waiting.wanted, now):
            self._ready.archived.extend(shelved)
            self._commit(record)
        if self._leaving.wants_receipts:
            self._commit_all(self._delivery.receipts(now))

    # Sending ----------------------------------------------------------------------------------------------------------

    def _send(self, to: Connection, message: Message, *, re: str | None = None) -> str:
        """Queue a frame to be sent, and return its id."""
        self._sequence += 1
        frame = Frame(f"{self.ledger.epoch}.{self._sequence}", message, re, to=to.agent)
        self._ready.frames.append((to.id, frame))
        return frame.id

    def _tell(self, told: Iterable[Told]) -> None:
        for connection, request, message in told:
            self._send(connection, message, re=request)

    def _close(self, connection: Connection, reason: str, now: int) -> None:
        self._ready.closes.append((connection.id, reason))
        self.closed(connection.id, now)

    # Arriving and watching --------------------------------------------------------------------------------------------

    def _take_over(self, sender: Connection) -> None:
        """Let an agent speak on its newest connection only."""
        assert sender.agent is not None, "a welcomed connection has an agent"
        older = self.live.agents.get(sender.agent)
        if older is not None and older is not sender:
            same = older.instance == sender.instance
            self._send(older, Bye("connected again" if same else "taken_over"))
            self._ready.closes.append((older.id, "taken over"))
            self.live.connections.pop(older.id, None)
            leave_watches(self.live, older)
            leave_contexts(self.live, older)
            leave_calls(self.live, older)
        self.live.came(sender.agent, sender)
        self.live.released.pop(sender.agent, None)

    def _arrived(self, sender: Connection, now: int) -> None:
        assert sender.agent is not None, "a welcomed connection has an agent"
        self._commit_all(self._delivery.receipt(sender, now))
        self._principal_came(sender.agent)
        self._capacity_changed(sender.agent)
        self._slots_changed(sender.agent)
        self.ledger.posted[sender.agent] = None
        for task in self.ledger.holding.get(sender.agent, ()):
            self._lease_changed(task, now)
        self._tell(agent_told(self.world, sender.agent, "joined", now))

    def _begin_call(self, sender: Connection, request: str, called: Called, fetched: Fetched) -> None:
        """Answer a call with its task, as far as there is something to answer yet."""
        assert called.task is not None, "the call is about a task"
        task = self.ledger.tasks.get(called.task) or fetched.tasks[called.task]
        for message in begin(self.world, sender, request, called, task):
            self._send(sender, message, re=request)

    def _watch(self, sender: Connection, request: str, message: TaskWatch, archived: Task | None) -> None:
        if archived is not None and message.task not in self.ledger.tasks:
            self._tell(archived_told(sender, request, message, archived))
        else:
            self._tell(watch(self.world, sender, request, message))

    def _tell_context_watchers(self) -> None:
        for context_id in self._written:
            context = self.ledger.contexts.get(context_id)
            if context is not None:
                self._tell(context_events(self.live, context))
        self._written.clear()

    def _tell_progress(self, task_id: str) -> None:
        task, progress = self.ledger.tasks.get(task_id), self.live.progress.get(task_id)
        if task is not None and progress is not None and not progress.is_told:
            progress.is_told = True
            self._tell(progress_told(self.live, task, progress))
            self._tell(progress_answers(self.world, task, progress))


_AFTER: dict[type[Record], tuple[Callable[[Coordinator, Any], None], ...]] = {
    AgentRegistered: (Coordinator._card_changed,),
    StatusSet: (Coordinator._card_changed,),
    AgentForgotten: (Coordinator._is_forgotten,),
    PrincipalUnbound: (Coordinator._is_unbound,),
    Offered: (Coordinator._offered,),
    Accepted: (Coordinator._lease_runs,),
    Revived: (Coordinator._lease_runs, Coordinator._frees_credit),
    Declined: (Coordinator._frees_credit,),
    OfferWithdrawn: (Coordinator._frees_credit,),
    LeaseExpired: (Coordinator._frees_credit,),
    Yielded: (Coordinator._frees_credit,),
    HandedOff: (Coordinator._frees_credit,),
    Asked: (Coordinator._frees_credit,),
    Reported: (Coordinator._frees_credit, Coordinator._has_result),
    Settled: (Coordinator._frees_credit, Coordinator._gives_up, Coordinator._word_said),
    Reworked: (Coordinator._word_said,),
    Recalled: (Coordinator._is_back,),
    ContextRecalled: (Coordinator._context_is_back,),
    GroupDecided: (Coordinator._has_result,),
    ConflictOpened: (Coordinator._quarantine_changed,),
    ConflictResolved: (Coordinator._has_ended, Coordinator._quarantine_changed),
    ContextWritten: (Coordinator._was_written,),
    ClaimRequested: (Coordinator._time_claim,),
    Claimed: (Coordinator._time_claim,),
    ClaimRenewed: (Coordinator._time_claim,),
    ClaimRecalled: (Coordinator._time_claim,),
    ClaimEnded: (Coordinator._claim_is_over, Coordinator._gives_up),
}
"""What the coordinator updates outside the ledger after a record, in this order."""


def _goes_on(record: Record) -> bool:
    """Tell whether the attempt that a record is about goes on: its holder is back, or asks something and keeps it."""
    return isinstance(record, Revived) or (isinstance(record, Asked) and record.hold != "cold")


def _is_about(message: Message, tasks: Container[str]) -> bool:
    """Tell whether the message is about one of these tasks, not only about its key."""
    if isinstance(message, ConflictRaise):
        return True  # it has no key, and names each task
    held = message.parent if isinstance(message, TaskDelegate) else None
    if isinstance(message, ContextWrite):
        held = message.attempt
    about = held.task if held is not None else getattr(message, "task", None)
    return about in tasks


def _kind(message: Message) -> str:
    return message.name if isinstance(message, Unknown) else message.kind
