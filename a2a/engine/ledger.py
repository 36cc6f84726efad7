"""The ledger: the state that the records build, and `apply`, the only code that changes it.

Live running and recovery are the same fold. What is volatile (who is connected, heartbeats, credit) is not here but
in `live`, beside it. The ledger knows no clock and no message; a notice to an agent is an entry in its mailbox, put
there by the very record that caused it, and rendered when it is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..protocol.states import TERMINAL, TaskEvent, TaskState, advance
from ..protocol.types import principal_of
from . import claimbook, plain
from .claimbook import Claim, ClaimBook, granted_with, owner_of
from .conflicts import folding
from .conflicts.case import Conflict, Group, Terms
from .context_state import Context, apply_written
from .filter import KeyFilter
from .patchbook import PatchBook, Patched
from .policy import Bounds, Durations
from .records import (
    Accepted,
    Adopted,
    AgentForgotten,
    AgentRegistered,
    Answered,
    AnswersRepeated,
    Archived,
    ArtifactAppended,
    Asked,
    CancelRequested,
    Checkpointed,
    Classified,
    ConflictAppealed,
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    ContextWritten,
    CoordinatorStarted,
    CoordinatorStopped,
    Declined,
    Delegated,
    Evicted,
    GroupDecided,
    HandedOff,
    HandoffLapsed,
    LeaseExpired,
    MailboxAcked,
    Merged,
    Offered,
    OfferWithdrawn,
    PatchesCompared,
    PositionTaken,
    PrincipalBound,
    Recalled,
    Record,
    Refused,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    StageClosed,
    StageOpened,
    StatusSet,
    Steered,
    Yielded,
)
from .refusals import Refusal, keep

__all__ = [
    "COUNTED",
    "Agent",
    "Artifact",
    "Ask",
    "Attempt",
    "Authority",
    "Checkpoint",
    "Event",
    "Evidence",
    "Ledger",
    "Mailbox",
    "MailboxEntry",
    "Offer",
    "Result",
    "Task",
]


COUNTED = ("tokens", "costMicro", "steps")
"""The kinds of usage that budgets bound."""
CHECKPOINTS_KEPT = 4
"""Attempts whose newest checkpoint is kept: an older one serves where the newest is of no use to who is next."""


@dataclass(slots=True)
class Authority:
    """Who may change a task now (spec FENCE-2)."""

    fence: int
    holder: str
    is_open: bool
    """False: spent. A spent fence never changes the task again."""
    lapsed: bool = False
    """The lease expired. The holder may still come back until somebody else accepts."""
    evicted: str = ""
    """Why the holder was asked to give it back, or empty. From then on only its last word counts (spec LEASE-10)."""
    grace_at: int = 0
    """When an evicted holder is taken for lost."""


@dataclass(slots=True)
class Offer:
    """An attempt that was offered and is not current yet."""

    fence: int
    agent: str
    at: int


@dataclass(slots=True)
class Attempt:
    """One attempt, from its offer to its end; what the next one is told of it (spec OFFER-8)."""

    agent: str
    """Whom its fence was minted for: a number in the wrong hands is nobody's."""
    at: int
    """When it was offered, and from its acceptance on, when that was."""
    end: str = ""
    """How it ended; empty while it is under way. A lapsed one may come back."""
    lost: bool = False
    """It was counted as a loss."""
    ended_at: int = 0
    detail: str = ""
    usage: dict[str, Any] | None = None
    """Counted once, however often it is told."""
    progress_no: int = 0
    note: str = ""
    heard: int = 0
    """Words of the delegator that its agent was sent."""
    payload: bytes | None = None
    """What it had to say to the next one, where it handed the task on."""


@dataclass(slots=True)
class Checkpoint:
    """Where an attempt stood."""

    cp_no: int
    fence: int
    agent: str
    format: str
    portable: bool
    payload: bytes


@dataclass(slots=True)
class Steer:
    """A word of the delegator while the work was under way."""

    key: str
    by: str
    payload: bytes


@dataclass(slots=True)
class Result:
    """A completed outcome that was admitted."""

    rev: int
    fence: int
    agent: str
    result_hash: str
    payload: bytes
    at: int
    reviewed: bool = False
    """It went to the delegator for a word; else nobody had to say one."""
    unseen_steer: bool = False
    """It was written before the delegator's newest word was seen."""
    basis: list[dict[str, Any]] = field(default_factory=list)
    """What it relies on in the task's context: `key`, `rev`."""
    stale_basis: list[dict[str, Any]] = field(default_factory=list)
    """Decisions among these that had moved: `key`, `seen`, `current`."""
    overruled: str = ""
    """The conflict that was decided against it, or empty."""
    patches: list[dict[str, Any]] = field(default_factory=list)
    """What it patches: `of`, `base`."""

    @property
    def is_doubtful(self) -> bool:
        """Whether somebody has to look at it, whatever was agreed: it could not be told something, or was overruled."""
        return self.unseen_steer or self.is_contradicted

    @property
    def is_contradicted(self) -> bool:
        """Whether silence does not accept it: a decision it rests on has moved, or a conflict went against it."""
        return bool(self.stale_basis) or bool(self.overruled)


@dataclass(slots=True)
class Evidence:
    """A report that came without authority."""

    fence: int
    agent: str
    verdict: str
    outcome: str
    result_hash: str
    payload: bytes
    lsn: int


@dataclass(slots=True)
class Ask:
    """A question of an attempt, and its answer."""

    ask_no: int
    fence: int
    payload: bytes
    default: bytes | None
    deadline_at: int
    auth: bool
    answer: bytes | None = None
    by: str | None = None
    rank: int = 0
    key: str = ""
    """The id of the A2A message that answered it, where one did."""
    told: bool = False
    """Whether the attempt that asked was there to get the answer."""
    offered: bool = False
    """Whether the answer went out with an offer."""
    withdrawn: bool = False
    """The attempt reported without waiting: nobody wants the answer any more."""

    @property
    def is_open(self) -> bool:
        """Whether somebody waits for the answer."""
        return self.answer is None and not self.withdrawn


@dataclass(slots=True)
class Artifact:
    """A provisional artifact of one attempt."""

    artifact: str
    name: str
    fence: int
    chunks: list[bytes] = field(default_factory=list)
    last_no: int = -1
    complete: bool = False
    is_named: bool = False
    """Its attempt's report says that it is part of the result."""


@dataclass(slots=True)
class Event:
    """One step of a task, as watchers see it."""

    generation: int
    lsn: int
    at: int
    event: str
    state: str
    data: dict[str, Any]
    payload: bytes | None = None


@dataclass(slots=True)
class Task:
    """A task, from its creation to its end."""

    id: str
    lsn: int
    at: int
    scope: str
    key: str
    delegator: str
    """The agent that delegated it, or the one that came with the same key last."""
    principal: str
    context_id: str
    spec: dict[str, Any]
    spec_hash: str
    payload: bytes
    durations: Durations
    bounds: Bounds
    parent: str | None
    on_parent_end: str
    depth: int
    deadline_at: int | None
    budget: dict[str, int] = field(default_factory=dict)
    on_delegator_loss: str = "continue"
    loss_ms: int = 0
    redrive_of: str | None = None
    state: TaskState = TaskState.QUEUED
    since: int = 0
    """When it came into this state."""
    generation: int = 0
    attempt: int = 0
    attempts: dict[int, Attempt] = field(default_factory=dict)
    """By their fences."""
    rev: int = 0
    authority: Authority | None = None
    offer: Offer | None = None
    retry_at: int = 0
    was_leased: bool = False
    losses: int = 0
    failures: int = 0
    declines: int = 0
    revivals: int = 0
    handoffs: int = 0
    shunned: dict[str, int] = field(default_factory=dict)
    """Agents that lost or declined it, and until when they are not asked first."""
    last_agent: str | None = None
    last_error: dict[str, Any] | None = None
    results: list[Result] = field(default_factory=list)
    outcomes: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Fence to (outcome, hash) of every report that was admitted, to answer its repeats."""
    evidence: list[Evidence] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    """The newest requests about it that were refused."""
    feedback: list[tuple[int, str, bytes]] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    chunks: int = 0
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """The newest of each attempt, oldest first; a few (spec CHECK-4)."""
    steers: list[Steer] = field(default_factory=list)
    handed_to: dict[str, Any] = field(default_factory=dict)
    """What the next agent must be beside what the specification asks for, where the task was handed on."""
    spent: dict[str, int] = field(default_factory=dict)
    """What it used, with all below it that shares its budget or has ended."""
    reserved: dict[str, int] = field(default_factory=dict)
    """What sub-tasks with a budget of their own may still use of its budget."""
    children: list[str] = field(default_factory=list)
    group: Group | None = None
    """Where several agents do it: their answers."""
    conflicts: list[str] = field(default_factory=list)
    """What its results contradict each other about, or did."""
    cancel: CancelRequested | None = None
    settled: Settled | None = None
    history: list[Event] = field(default_factory=list)

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended."""
        return self.state in TERMINAL

    @property
    def is_reported(self) -> bool:
        """Whether its work is done and waits for a word, or for the end of a conflict about it."""
        return self.state is TaskState.REPORTED or (self.state is TaskState.DISPUTED and bool(self.results))

    @property
    def evaluator(self) -> str:
        """Who says that a result is good: `auto`, `delegator` or `human`."""
        evaluator: str = self.spec.get("acceptance", {}).get("evaluator", "delegator")
        return evaluator

    @property
    def holder(self) -> str | None:
        """The agent whose lease is current and has not lapsed, or None."""
        authority = self.authority
        return authority.holder if authority and authority.is_open and not authority.lapsed else None

    def minted_for(self, fence: int) -> str | None:
        """Return the agent that a fence of this task was minted for, or None where it is none of this task's."""
        attempt = self.attempts.get(fence)
        return attempt.agent if attempt is not None else None

    @property
    def agents(self) -> list[str]:
        """The agents that ever had an attempt at it."""
        return [attempt.agent for attempt in self.attempts.values()]

    @property
    def lost_by(self) -> list[str]:
        """The agents that lost it, each once, in the order they did."""
        lost = (attempt.agent for attempt in self.attempts.values() if attempt.lost)
        return list(dict.fromkeys(lost))

    @property
    def is_dead_letter(self) -> bool:
        """Whether it was given up after several agents had lost it (spec LIMIT-8)."""
        return self.settled is not None and self.settled.reason == "losses" and len(self.lost_by) > 1

    def open_ask(self) -> Ask | None:
        """The oldest question without an answer."""
        return next((ask for ask in self.asks if ask.is_open), None)


@dataclass(slots=True)
class MailboxEntry:
    """A notice for an agent. What it says is rendered from the task when it is sent, so a payload is kept once."""

    mseq: int
    lsn: int
    kind: str
    task: str
    number: int = 0
    """The fence, revision or question it is about."""
    claim: dict[str, Any] | None = None
    """What was to be told when it was posted, where that is about a claim: the claim may be gone when it is sent."""


@dataclass(slots=True)
class Mailbox:
    """The notices an agent has not acknowledged, in order, without gaps (spec MAIL-1)."""

    next_mseq: int = 1
    entries: deque[MailboxEntry] = field(default_factory=deque)


@dataclass(slots=True)
class Agent:
    """An agent that has a card on file."""

    id: str
    instance: str
    incarnation: int
    card: dict[str, Any]
    labels: dict[str, str]
    lsn: int
    status: str = "ready"
    skills: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Skill id to the skill on its card."""


class Ledger:
    """Everything the records say."""

    def __init__(self, policy_namespace: str = "main") -> None:
        self.namespace = policy_namespace
        self.lsn = 0
        self.at = 0
        """The newest clock reading recorded; time never goes back behind it."""
        self.epoch = 0
        self.principals: dict[str, str] = {}
        self.agents: dict[str, Agent] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.tasks: dict[str, Task] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.holding: dict[str, dict[str, int]] = {}
        """Agent to the tasks it was offered or holds, and the fence of each: what its credit is spent on."""
        self.by_skill: dict[str, dict[str, Agent]] = {}
        self.open_tasks: dict[str, Task] = {}
        """Tasks that have not ended, in the order they came."""
        self.delegating: dict[str, int] = {}
        """Agent to how many open tasks it is the delegator of."""
        self.conflicts: dict[str, Conflict] = {}
        self.open_conflicts: dict[str, Conflict] = {}
        """Those that are not over, in the order they opened."""
        self.conflicts_about: dict[str, list[str]] = {}
        """What conflicts are about to their ids, the newest last."""
        self.contested: dict[tuple[str, str], str] = {}
        """(context, key) to the conflict that is open about it: nobody writes it meanwhile."""
        self.quarantined: dict[str, str] = {}
        """Agent to the conflict that is open about who it is: it gets no offers meanwhile."""
        self.impostures: dict[str, list[Refusal]] = {}
        """Principal to the newest hellos in its name that were refused."""
        self.sealed = ""
        """The seal of the conflict closed last: their records are a chain."""
        self.records_of: dict[str, tuple[int, int]] = {}
        """Agent to how many of its results were accepted, of how many that somebody decided about."""
        self.attached: dict[str, dict[str, Task]] = {}
        """Principal to its open tasks that do not go on without it (spec TASK-12)."""
        self.contexts: dict[str, Context] = {}
        """Contexts that were written to."""
        self.context_bytes = 0
        """About what they take in memory."""
        self.claims = ClaimBook()
        self.patches = PatchBook()
        self.mail: dict[str, int] = {}
        """Task to the mailbox entries that are rendered from it and not acknowledged."""
        self.archived = KeyFilter()
        """The keys of tasks that left memory, approximately."""
        self.recalled: dict[str, None] = {}
        """Archived tasks that are back; among the tasks they stand behind newer ones."""
        self.touched: dict[str, Task] = {}
        """Tasks that the records since the last pass changed; the coordinator empties it."""
        self.stirred: dict[str, Conflict] = {}
        """Conflicts that the records since the last pass changed; the coordinator empties it."""
        self.posted: dict[str, None] = {}
        """Mailboxes with a new entry since the last pass; the coordinator empties it."""
        self.freed: list[dict[str, str]] = []
        """Names of claims that ended since the last pass; the coordinator empties it."""

    def task_id_at(self, lsn: int) -> str:
        """Return the id of the task that the record at this position creates."""
        return f"{self.namespace}-{lsn}"

    def conflict_id_at(self, lsn: int) -> str:
        """Return the id of the conflict that the record at this position opens."""
        return f"{self.namespace}-k{lsn}"

    def apply(self, record: Record) -> int:
        """Change the state by one record, and return the record's position.

        Raises:
            KeyError, ValueError: the record does not fit the state. The decision that made it is wrong, or the
                ledger is not one that this code wrote.
        """
        lsn = self.lsn + 1
        _APPLY[type(record)](self, record, lsn)
        self.lsn = lsn
        if record.at > self.at:
            self.at = record.at
        return lsn

    def post(self, agent: str, lsn: int, kind: str, task: str, number: int = 0) -> None:
        """Put a notice into an agent's mailbox."""
        self._post(agent, MailboxEntry(0, lsn, kind, task, number))

    def post_claim(self, claim: Claim, lsn: int, kind: str) -> None:
        """Put a notice about a claim into its agent's mailbox."""
        self._post(claim.agent, MailboxEntry(0, lsn, kind, "", claim.id, claim.facts()))

    def _post(self, agent: str, entry: MailboxEntry) -> None:
        mailbox = self.mailboxes.get(agent)
        if mailbox is None:
            mailbox = self.mailboxes[agent] = Mailbox()
        entry.mseq = mailbox.next_mseq
        mailbox.entries.append(entry)
        mailbox.next_mseq += 1
        self.mail[entry.task] = self.mail.get(entry.task, 0) + 1
        self.posted[agent] = None

    def read_mail(self, entry: MailboxEntry) -> None:
        """Count an entry that nobody will ask for any more."""
        left = self.mail[entry.task] - 1
        if left:
            self.mail[entry.task] = left
        else:
            del self.mail[entry.task]

    def may_have_archived(self, task: str) -> bool:
        """Tell whether this may be the id of a task that was here and left."""
        return bool(self.archived.layers) and task not in self.tasks and 0 < self.position_of(task) <= self.lsn

    def position_of(self, task: str) -> int:
        """Return the position of the record that made a task, as its id has it; 0 where it is no id of this ledger."""
        namespace, _, number = task.rpartition("-")
        is_ours = namespace == self.namespace and number.isdecimal() and task == self.task_id_at(int(number))
        return int(number) if is_ours else 0

    @contextmanager
    def lending(self, tasks: Iterable[Task]) -> Iterator[None]:
        """Have archived tasks at hand while a decision is made, as if they had never left.

        The one thing beside `apply` that touches the state, and it leaves it as it was: handlers need not know where
        a task they read comes from.
        """
        lent = [task for task in tasks if task.id not in self.tasks]
        named = [(task.scope, task.key) for task in lent if (task.scope, task.key) not in self.keys]
        for task in lent:
            self.tasks[task.id] = task
            self.keys.setdefault((task.scope, task.key), task.id)
        try:
            yield
        finally:
            for task in lent:
                del self.tasks[task.id]
            for name in named:
                del self.keys[name]

    def move(
        self, task: Task, event: TaskEvent, record: Record, lsn: int, payload: bytes | None = None, **data: Any
    ) -> None:
        """Take a task one step on: its state, its generation, and what watchers are told."""
        task.state = advance(task.state, event)
        task.since = record.at
        self.note(task, event.value, record, lsn, payload, **data)

    def note(self, task: Task, event: str, record: Record, lsn: int, payload: bytes | None = None, **data: Any) -> None:
        """Add a step to a task's history without a change of state."""
        task.generation += 1
        self.touched[task.id] = task
        task.history.append(Event(task.generation, lsn, record.at, event, task.state.value, data, payload))

    def addressee(self, task: Task) -> str:
        """Return whom its notices go to: whoever holds its parent now, else its delegator (spec TASK-7)."""
        parent = self.tasks.get(task.parent) if task.parent else None
        if parent is not None and parent.authority is not None and parent.authority.is_open:
            return parent.authority.holder
        return task.delegator

    def count_open(self, delegator: str, change: int) -> None:
        """Count one more open task of an agent, or one less."""
        count = self.delegating.get(delegator, 0) + change
        if count:
            self.delegating[delegator] = count
        else:
            del self.delegating[delegator]

    def hold(self, agent: str, task: Task, fence: int) -> None:
        """Count the attempt against the agent's credit."""
        self.holding.setdefault(agent, {})[task.id] = fence

    def let_go(self, agent: str, task: Task, fence: int) -> None:
        """Give the credit back, unless a newer attempt of the same task uses it."""
        held = self.holding.get(agent)
        if held is not None and held.get(task.id) == fence:
            del held[task.id]

    def spend(self, task: Task) -> None:
        """End the current authority for good, and take back an offer that is out."""
        authority = task.authority
        if authority is not None and authority.is_open:
            authority.is_open = False
            self.let_go(authority.holder, task, authority.fence)
        self.drop_offer(task)

    def drop_offer(self, task: Task) -> str | None:
        """Take back the offer that is out, and return whose it was."""
        offer, task.offer = task.offer, None
        if offer is None:
            return None
        self.let_go(offer.agent, task, offer.fence)
        return offer.agent

    def barred(self, task: Task) -> set[str]:
        """Return the agents that may not have a task, because of what they do or did for its group.

        Nobody gives two answers, nobody who has compared answers gives one, and nobody compares his own.
        """
        group = self.tasks[task.parent].group if task.parent is not None and task.parent in self.tasks else None
        if group is not None and task.id in group.electorate:
            return self.workers_of(group, besides=task.id) | self._workers(group.compared)
        if group is not None and task.id in group.compared:
            return self.workers_of(group)
        return set()

    def workers_of(self, group: Group, *, besides: str = "") -> set[str]:
        """Return the agents that work or worked on an answer of a group; not those that only were offered one."""
        return self._workers(member for member in group.electorate if member != besides)

    def _workers(self, tasks: Iterable[str]) -> set[str]:
        return {
            attempt.agent
            for task in tasks
            for attempt in self.tasks[task].attempts.values()
            if attempt.end not in ("declined", "unanswered")
        }

    def adopt(
        self, task: Task, result: Result, reviewed: bool, at: int, stale_basis: list[dict[str, Any]] | None
    ) -> None:
        """Make a member's result the group's."""
        adopted = Result(task.rev, result.fence, result.agent, result.result_hash, result.payload, at, reviewed)
        adopted.basis, adopted.stale_basis = result.basis, stale_basis or []
        adopted.patches = result.patches
        task.results.append(adopted)

    def note_patches(self, task: Task, lsn: int) -> None:
        """Have a task's newest result held against others that patch the same, where it patches something.

        Not where it is one of a group's answers, which are no two things that shall both be so, or made for a conflict.
        """
        above: list[str] = []
        at: Task | None = task
        while at is not None:
            if at.scope.partition(":")[0] in ("group", "conflict", "compare"):
                return
            above.append(at.id)
            at = self.tasks.get(at.parent or "")
        result = task.results[-1]
        self.patches.add(
            Patched(
                task.id,
                task.context_id,
                [[patch["of"], patch["base"]] for patch in result.patches],
                result.agent,
                result.fence,
                result.result_hash,
                result.payload,
                lsn,
                above[1:],
            )
        )

    def count_result(self, agent: str, *, was_good: bool) -> None:
        """Note that somebody decided about a result of this agent."""
        accepted, settled = self.records_of.get(agent, (0, 0))
        self.records_of[agent] = (accepted + was_good, settled + 1)

    def end_attempt(self, task: Task, fence: int, end: str, at: int, detail: str = "") -> None:
        """Note how an attempt ended."""
        attempt = task.attempts[fence]
        attempt.end, attempt.ended_at, attempt.detail = end, at, detail
        task.handed_to = {}

    def charge(self, task: Task, fence: int, usage: dict[str, Any] | None) -> None:
        """Count what an attempt used, so far as it is more than was counted of it before (spec BUDGET-1)."""
        attempt = task.attempts.get(fence)
        if attempt is None or not usage:
            return
        before, attempt.usage = attempt.usage or {}, usage
        for kind in COUNTED:
            more = usage.get(kind, 0) - before.get(kind, 0)
            if more > 0:
                self._spend_budget(task, kind, more)
            elif kind in before:
                attempt.usage = {**attempt.usage, kind: before[kind]}

    def _spend_budget(self, task: Task, kind: str, amount: int) -> None:
        """Count an amount for a task and for all above that share their budget with it.

        A budget of its own was reserved above when the task was made; what became of it is counted there at its end.
        """
        node: Task | None = task
        while node is not None:
            node.spent[kind] = node.spent.get(kind, 0) + amount
            folding.used(self, node)
            if kind in node.budget and node.spent[kind] - amount < node.budget[kind] <= node.spent[kind]:
                if node.id in self.open_tasks:
                    self.touched[node.id] = node  # it may wait for another attempt itself
                self._touch_below(node)
            if kind in node.budget and not node.is_terminal:
                return
            node = self.tasks.get(node.parent) if node.parent else None

    def _touch_below(self, task: Task) -> None:
        """Have what waits below a task looked at: its budget is used up."""
        for child in task.children:
            if child in self.open_tasks:
                self.touched[child] = self.open_tasks[child]
            if child in self.tasks:
                self._touch_below(self.tasks[child])

    def payer(self, task: Task | None, kind: str) -> Task | None:
        """Return the task out of whose budget this one and those below it use a kind, or None where none is set."""
        while task is not None and kind not in task.budget:
            task = self.tasks.get(task.parent) if task.parent else None
        return task

    def _reserve(self, task: Task) -> None:
        for kind in COUNTED:
            above = self.payer(self.tasks.get(task.parent) if task.parent else None, kind)
            if kind in task.budget and above is not None:
                above.reserved[kind] = above.reserved.get(kind, 0) + task.budget[kind]

    def _reconcile(self, task: Task) -> None:
        """At a task's end, turn what was reserved for it into what it used."""
        parent = self.tasks.get(task.parent) if task.parent else None
        for kind in COUNTED:
            if kind not in task.budget or parent is None:
                continue
            above = self.payer(parent, kind)
            if above is not None:
                above.reserved[kind] -= task.budget[kind]
            if task.spent.get(kind):
                self._spend_budget(parent, kind, task.spent[kind])

    def index_skills(self, agent: Agent) -> None:
        """Make the agent found by the skills on its card."""
        for skill in agent.skills:
            found = self.by_skill.get(skill)
            if found is not None:
                found.pop(agent.id, None)
                if not found:
                    del self.by_skill[skill]
        agent.skills = {skill["id"]: skill for skill in agent.card.get("skills", ())}
        for skill in agent.skills:
            self.by_skill.setdefault(skill, {})[agent.id] = agent


# What each record does, in the order a delegated task meets them -----------------------------------------------------


def _coordinator_started(ledger: Ledger, record: CoordinatorStarted, lsn: int) -> None:
    ledger.epoch = record.epoch


def _coordinator_stopped(ledger: Ledger, record: CoordinatorStopped, lsn: int) -> None:
    """What it had in memory goes on in the next epoch."""


def _principal_bound(ledger: Ledger, record: PrincipalBound, lsn: int) -> None:
    ledger.principals[record.principal] = record.secret_digest


def _agent_registered(ledger: Ledger, record: AgentRegistered, lsn: int) -> None:
    agent = ledger.agents.get(record.agent)
    if agent is None:
        agent = Agent(record.agent, record.instance, record.incarnation, record.card, record.labels, lsn)
        ledger.agents[record.agent] = agent
    else:
        if agent.instance != record.instance:
            agent.status = "ready"
        agent.instance, agent.incarnation = record.instance, record.incarnation
        agent.card, agent.labels = record.card, record.labels
    ledger.index_skills(agent)


def _status_set(ledger: Ledger, record: StatusSet, lsn: int) -> None:
    ledger.agents[record.agent].status = record.status


def _mailbox_acked(ledger: Ledger, record: MailboxAcked, lsn: int) -> None:
    mailbox = ledger.mailboxes[record.agent]
    entries = mailbox.entries
    while entries and entries[0].mseq <= record.upto:
        ledger.read_mail(entries.popleft())


def _agent_forgotten(ledger: Ledger, record: AgentForgotten, lsn: int) -> None:
    mailbox = ledger.mailboxes.pop(record.agent, None)
    for entry in mailbox.entries if mailbox else ():
        ledger.read_mail(entry)
    ledger.holding.pop(record.agent, None)
    ledger.claims.forget(owner_of(None, record.agent))


def _delegated(ledger: Ledger, record: Delegated, lsn: int) -> None:
    if record.task != ledger.task_id_at(lsn):
        raise ValueError(f"record {lsn} creates task {record.task}, its position says {ledger.task_id_at(lsn)}")
    task = Task(
        id=record.task,
        lsn=lsn,
        at=record.at,
        scope=record.scope,
        key=record.key,
        delegator=record.delegator,
        principal=principal_of(record.delegator),
        context_id=record.context_id,
        spec=record.spec,
        spec_hash=record.spec_hash,
        payload=record.payload,
        durations=Durations.from_plain(record.durations),
        bounds=Bounds.from_plain(record.bounds),
        parent=record.parent,
        on_parent_end=record.on_parent_end,
        depth=record.depth,
        deadline_at=record.deadline_at,
        budget=record.budget or {},
        on_delegator_loss=record.on_delegator_loss,
        loss_ms=record.loss_ms,
        redrive_of=record.redrive_of,
        since=record.at,
    )
    ledger.tasks[task.id] = ledger.open_tasks[task.id] = task
    ledger.count_open(task.delegator, 1)
    ledger.keys[record.scope, record.key] = task.id
    if record.terms is not None:
        task.state, task.group = TaskState.BLOCKED, Group(Terms(**record.terms))
    if record.parent is not None:
        parent = ledger.tasks[record.parent]
        parent.children.append(task.id)
        if parent.group is not None and record.scope == f"group:{parent.id}":
            parent.group.electorate.append(task.id)
        elif parent.group is not None and record.scope == f"compare:{parent.id}":
            parent.group.compared.append(task.id)
    if record.budget:
        ledger._reserve(task)
    if record.on_delegator_loss != "continue":
        ledger.attached.setdefault(task.principal, {})[task.id] = task
    ledger.note(task, "created", record, lsn, delegator=record.delegator)


def _adopted(ledger: Ledger, record: Adopted, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if not task.is_terminal:
        ledger.count_open(task.delegator, -1)
        ledger.count_open(record.delegator, 1)
    task.delegator = record.delegator
    ledger.touched[record.task] = task


def _offered(ledger: Ledger, record: Offered, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.attempt += 1
    task.attempts[lsn] = Attempt(record.agent, record.at, heard=len(task.steers))
    task.last_agent = record.agent
    for ask in task.asks:
        ask.offered = ask.offered or ask.answer is not None
    if record.granted:
        task.authority = Authority(lsn, record.agent, is_open=True)
        task.was_leased = True
        event = TaskEvent.GRANT
    else:
        task.offer = Offer(lsn, record.agent, record.at)
        event = TaskEvent.OFFER
    ledger.hold(record.agent, task, lsn)
    if record.claims:
        granted_with(ledger, record, lsn)
    ledger.move(task, event, record, lsn, agent=record.agent, attempt=task.attempt, fence=lsn)
    ledger.post(record.agent, lsn, "task.offer", task.id, lsn)


def _accepted(ledger: Ledger, record: Accepted, lsn: int) -> None:
    task = ledger.tasks[record.task]
    offer = task.offer
    if offer is None or offer.fence != record.fence:
        raise ValueError(f"record {lsn} accepts fence {record.fence} of task {task.id}, which is not on offer")
    task.authority, task.offer = Authority(offer.fence, offer.agent, is_open=True), None
    task.attempts[offer.fence].at = record.at
    task.was_leased = True
    ledger.move(task, TaskEvent.ACCEPT, record, lsn, agent=offer.agent, fence=offer.fence)
    _tell_words(ledger, task, lsn)


def _declined(ledger: Ledger, record: Declined, lsn: int) -> None:
    task = ledger.tasks[record.task]
    agent = _drop(ledger, task, record.fence)
    ledger.end_attempt(task, record.fence, "declined", record.at, record.reason)
    ledger.charge(task, record.fence, record.usage)
    task.declines += record.counted
    task.shunned[agent] = record.retry_at
    ledger.move(task, TaskEvent.WITHDRAW, record, lsn, agent=agent, reason=record.reason)


def _offer_withdrawn(ledger: Ledger, record: OfferWithdrawn, lsn: int) -> None:
    task = ledger.tasks[record.task]
    agent = _drop(ledger, task, record.fence)
    ledger.end_attempt(task, record.fence, "unanswered", record.at, record.reason)
    task.losses += 1
    task.attempts[record.fence].lost = True
    task.shunned[agent] = record.at
    ledger.move(task, TaskEvent.WITHDRAW, record, lsn, agent=agent, reason=record.reason)


def _drop(ledger: Ledger, task: Task, fence: int) -> str:
    """Take back an offer, or a granted lease that never showed life, and return whose it was."""
    if task.offer is not None and task.offer.fence == fence:
        agent = ledger.drop_offer(task)
        assert agent is not None, "the offer was looked at one line above"
        return agent
    authority = task.authority
    if authority is None or authority.fence != fence or not authority.is_open:
        raise ValueError(f"fence {fence} of task {task.id} is neither on offer nor current")
    ledger.spend(task)
    return authority.holder


def _lease_expired(ledger: Ledger, record: LeaseExpired, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    authority.lapsed = True
    ledger.let_go(authority.holder, task, authority.fence)
    ledger.end_attempt(task, record.fence, "lapsed", record.at, record.reason)
    attempt = task.attempts[record.fence]
    attempt.progress_no, attempt.note = record.progress_no, record.note
    attempt.lost |= record.counted
    ledger.charge(task, record.fence, record.usage)
    task.losses += record.counted
    task.shunned[authority.holder] = record.at
    ledger.move(task, TaskEvent.EXPIRE, record, lsn, agent=authority.holder, reason=record.reason)


def _current(task: Task, fence: int) -> Authority:
    authority = task.authority
    if authority is None or authority.fence != fence or not authority.is_open:
        raise ValueError(f"fence {fence} of task {task.id} is not current and open")
    return authority


def _revived(ledger: Ledger, record: Revived, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    authority.lapsed = False
    ledger.end_attempt(task, record.fence, "", 0)
    task.revivals += 1
    offer = task.offer
    overtaken = ledger.drop_offer(task)
    ledger.hold(authority.holder, task, authority.fence)
    if task.state is not TaskState.PARKED:
        ledger.move(task, TaskEvent.REVIVE, record, lsn, agent=authority.holder, fence=authority.fence)
    if overtaken is not None and offer is not None:
        ledger.post(overtaken, lsn, "task.revoke", task.id, offer.fence)
    for ask in task.asks:
        if ask.fence == record.fence and ask.answer is not None and not ask.told:
            ask.told = True  # it was answered while the lease had lapsed
            ledger.post(authority.holder, lsn, "task.answer", task.id, ask.ask_no)
    _tell_words(ledger, task, lsn)


def _yielded(ledger: Ledger, record: Yielded, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    _overtake_offer(ledger, task, lsn)
    ledger.spend(task)
    ledger.end_attempt(task, record.fence, "yielded", record.at, record.reason)
    task.attempts[record.fence].lost |= record.lost
    ledger.charge(task, record.fence, record.usage)
    task.declines += record.counted
    task.losses += record.lost
    if record.counted or record.lost:
        task.shunned[authority.holder] = record.at
    ledger.move(task, TaskEvent.RELEASE, record, lsn, agent=authority.holder, reason=record.reason)


def _evicted(ledger: Ledger, record: Evicted, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    authority.evicted, authority.grace_at = record.reason, record.grace_at
    ledger.note(task, "evict", record, lsn, agent=authority.holder, reason=record.reason)
    ledger.post(authority.holder, lsn, "task.revoke", task.id, record.fence)


def _handed_off(ledger: Ledger, record: HandedOff, lsn: int) -> None:
    task = ledger.tasks[record.task]
    authority = _current(task, record.fence)
    _overtake_offer(ledger, task, lsn)
    ledger.spend(task)
    ledger.end_attempt(task, record.fence, "handed_off", record.at)
    ledger.charge(task, record.fence, record.usage)
    task.handoffs += 1
    task.shunned[authority.holder] = record.at
    task.attempts[record.fence].payload = record.payload
    task.handed_to = dict(record.requires or {})
    if record.to is not None:
        task.handed_to["agent"] = record.to
    ledger.move(
        task, TaskEvent.RELEASE, record, lsn, record.payload, agent=authority.holder, reason="handed off", to=record.to
    )


def _handoff_lapsed(ledger: Ledger, record: HandoffLapsed, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.handed_to = {}
    ledger.touched[task.id] = task


def _checkpointed(ledger: Ledger, record: Checkpointed, lsn: int) -> None:
    task = ledger.tasks[record.task]
    holder = _current(task, record.fence).holder
    kept = [known for known in task.checkpoints if known.fence != record.fence]
    kept.append(Checkpoint(record.cp_no, record.fence, holder, record.format, record.portable, record.payload))
    task.checkpoints = kept[-CHECKPOINTS_KEPT:]


def _steered(ledger: Ledger, record: Steered, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if task.is_terminal:
        raise ValueError(f"record {lsn} steers task {task.id}, which is {task.state}")
    task.steers.append(Steer(record.key, record.by, record.payload))
    ledger.note(task, "steer", record, lsn, record.payload, steerNo=len(task.steers), by=record.by)
    _tell_words(ledger, task, lsn)


def _tell_words(ledger: Ledger, task: Task, lsn: int) -> None:
    """Send the holder the words it has not heard; some may have been said while its lease had lapsed."""
    authority = task.authority
    if authority is None or task.holder is None:
        return
    attempt = task.attempts[authority.fence]
    for number in range(attempt.heard, len(task.steers)):
        ledger.post(authority.holder, lsn, "task.steer", task.id, number + 1)
    attempt.heard = len(task.steers)


def _overtake_offer(ledger: Ledger, task: Task, lsn: int) -> None:
    """The holder of a lapsed lease was first: tell the agent that has the open offer."""
    offer = task.offer
    if offer is not None:
        ledger.drop_offer(task)
        ledger.post(offer.agent, lsn, "task.revoke", task.id, offer.fence)


def _artifact_appended(ledger: Ledger, record: ArtifactAppended, lsn: int) -> None:
    task = ledger.tasks[record.task]
    artifact = task.artifacts.get(record.artifact)
    if artifact is None or artifact.fence != record.fence or not record.append:
        artifact = task.artifacts[record.artifact] = Artifact(record.artifact, record.name, record.fence)
    artifact.chunks.append(record.payload)
    artifact.last_no = record.chunk_no
    artifact.complete = record.last
    task.chunks += 1
    ledger.note(
        task,
        "artifact",
        record,
        lsn,
        record.payload,
        artifactId=record.artifact,
        name=record.name,
        append=record.append,
        lastChunk=record.last,
        chunkNo=record.chunk_no,
        fence=record.fence,
    )


def _asked(ledger: Ledger, record: Asked, lsn: int) -> None:
    task = ledger.tasks[record.task]
    _current(task, record.fence)
    task.asks = [ask for ask in task.asks if ask.ask_no != record.ask_no]  # at most one, and that was withdrawn
    task.asks.append(Ask(record.ask_no, record.fence, record.payload, record.default, record.deadline_at, record.auth))
    if record.hold == "cold":
        ledger.spend(task)
        ledger.end_attempt(task, record.fence, "asked", record.at)
        ledger.charge(task, record.fence, record.usage)
    ledger.move(task, TaskEvent.ASK, record, lsn, record.payload, askNo=record.ask_no, auth=record.auth)
    ledger.post(ledger.addressee(task), lsn, "task.ask", task.id, record.ask_no)


def _answered(ledger: Ledger, record: Answered, lsn: int) -> None:
    task = ledger.tasks[record.task]
    ask = next(ask for ask in task.asks if ask.ask_no == record.ask_no)
    ask.answer, ask.by, ask.rank, ask.key = record.payload, record.by, record.rank, record.key
    holder = task.holder
    if holder is not None:
        ask.told = True
        ledger.post(holder, lsn, "task.answer", task.id, record.ask_no)
    if task.state is TaskState.PARKED and task.open_ask() is None:
        event = TaskEvent.ANSWER if holder is not None else TaskEvent.ANSWER_LATER
        ledger.move(task, event, record, lsn, record.payload, askNo=record.ask_no, by=record.by)
    else:
        ledger.note(task, "answer", record, lsn, record.payload, askNo=record.ask_no, by=record.by)


def _answers_repeated(ledger: Ledger, record: AnswersRepeated, lsn: int) -> None:
    task = ledger.tasks[record.task]
    holder = _current(task, record.fence).holder
    for ask in task.asks:
        if ask.fence == record.fence and ask.told:
            ledger.post(holder, lsn, "task.answer", task.id, ask.ask_no)


def _reported(ledger: Ledger, record: Reported, lsn: int) -> None:
    task = ledger.tasks[record.task]
    _current(task, record.fence)
    _overtake_offer(ledger, task, lsn)
    ledger.spend(task)
    detail = "" if record.error is None else f"{record.error['code']}: {record.error['detail']}"
    ledger.end_attempt(task, record.fence, record.outcome, record.at, detail)
    ledger.charge(task, record.fence, record.usage)
    task.outcomes[record.fence] = (record.outcome, record.result_hash)
    for name in record.artifacts or ():
        task.artifacts[name].is_named = True
    if record.error is not None:
        task.last_error = record.error
    told: dict[str, Any] = {"outcome": record.outcome, "agent": record.agent, "fence": record.fence}
    if record.error is not None:
        told["error"] = record.error
    if record.unseen_steer and record.review:
        told["unseenSteer"] = True
    if record.stale_basis and record.review:
        told["staleBasis"] = record.stale_basis
    if record.retry_at is not None:
        task.failures += record.outcome == "failed"
        task.declines += record.outcome == "canceled" and record.counted
        task.losses += record.lost
        task.attempts[record.fence].lost |= record.lost
        task.retry_at = record.retry_at
        ledger.move(task, TaskEvent.RELEASE, record, lsn, **told)
        return
    if record.outcome == "completed":
        task.results.append(
            Result(
                task.rev,
                record.fence,
                record.agent,
                record.result_hash,
                record.payload,
                record.at,
                record.review,
                record.unseen_steer,
                record.basis or [],
                record.stale_basis or [],
                patches=record.patches or [],
            )
        )
        ledger.note_patches(task, lsn)
    else:
        task.failures += record.outcome == "failed"
    for ask in task.asks:
        ask.withdrawn = ask.answer is None
    ledger.move(task, TaskEvent.REPORT, record, lsn, **told)
    if record.review:
        ledger.post(ledger.addressee(task), lsn, "task.review", task.id, task.rev)


def _report_kept(ledger: Ledger, record: ReportKept, lsn: int) -> None:
    task = ledger.tasks[record.task]
    if task.minted_for(record.fence) == record.agent:
        ledger.charge(task, record.fence, record.usage)
    task.evidence.append(
        Evidence(record.fence, record.agent, record.verdict, record.outcome, record.result_hash, record.payload, lsn)
    )


def _reworked(ledger: Ledger, record: Reworked, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.feedback.append((record.rev, record.reason_code, record.payload))
    task.rev += 1
    ledger.patches.drop(task.id)
    task.cancel = None  # the report had come first, and the delegator chose to go on
    ledger.move(task, TaskEvent.REWORK, record, lsn, record.payload, by=record.by, rev=task.rev)
    folding.sent_back(ledger, task, record, lsn)


def _patches_compared(ledger: Ledger, record: PatchesCompared, lsn: int) -> None:
    ledger.patches.compared(record.task, record.other, record.number > 0)


def _cancel_requested(ledger: Ledger, record: CancelRequested, lsn: int) -> None:
    task = ledger.tasks[record.task]
    task.cancel = record
    if task.state is not TaskState.CANCELING:
        ledger.move(task, TaskEvent.REQUEST_CANCEL, record, lsn, mode=record.mode, reason=record.reason, by=record.by)
    else:
        ledger.note(task, "request_cancel", record, lsn, mode=record.mode, reason=record.reason, by=record.by)
    assert task.authority is not None, "only a leased task is asked to cancel; others end at once"
    ledger.post(task.authority.holder, lsn, "task.revoke", task.id, task.authority.fence)


_SETTLING = {
    "completed": TaskEvent.COMPLETE,
    "failed": TaskEvent.FAIL,
    "canceled": TaskEvent.CANCEL,
    "rejected": TaskEvent.REJECT,
}


def _settled(ledger: Ledger, record: Settled, lsn: int) -> None:
    task = ledger.tasks[record.task]
    told_to_stop, addressee = task.holder, ledger.addressee(task)
    fence = task.authority.fence if task.authority else 0
    _overtake_offer(ledger, task, lsn)
    if told_to_stop is not None:
        ledger.end_attempt(task, fence, record.state, record.at, record.reason)
        ledger.charge(task, fence, record.usage)
    ledger.spend(task)
    result = task.results[-1] if task.results else None
    waited = task.is_reported and result is not None and result.reviewed
    ledger.move(task, _SETTLING[record.state], record, lsn, reason=record.reason, detail=record.detail, by=record.by)
    task.settled = record
    if ledger.open_tasks.pop(task.id, None) is not None:
        ledger.count_open(task.delegator, -1)
    if record.state != "completed":
        ledger.patches.drop(task.id)
    ledger.claims.forget(owner_of(task.id, ""))
    folding.ended(ledger, task, record, lsn)
    if task.group is None and result is not None and task.scope.partition(":")[0] in ("task", "principal"):
        ledger.count_result(result.agent, was_good=record.state == "completed")
    parent = ledger.tasks.get(task.parent) if task.parent is not None else None
    if parent is not None and parent.group is not None:
        ledger.touched[parent.id] = parent
    if task.budget:
        ledger._reconcile(task)
    if task.on_delegator_loss != "continue":
        del ledger.attached[task.principal][task.id]
    ledger.post(addressee, lsn, "task.settled", task.id, task.rev)
    if told_to_stop is not None:
        ledger.post(told_to_stop, lsn, "task.revoke", task.id, fence)
    elif waited and result is not None and result.rev == task.rev and result.agent != addressee:
        # A worker whose result waited for a word gets it; one settled with its report reads it in the verdict.
        ledger.post(result.agent, lsn, "task.settled", task.id, task.rev)


def _context_written(ledger: Ledger, record: ContextWritten, lsn: int) -> None:
    ledger.context_bytes += apply_written(ledger.contexts, record, lsn)


def _refused(ledger: Ledger, record: Refused, lsn: int) -> None:
    if record.task is not None:
        kept = ledger.tasks[record.task].refusals
    elif record.conflict is not None:
        kept = ledger.conflicts[record.conflict].refusals
    else:
        kept = ledger.impostures.setdefault(principal_of(record.agent), [])
    keep(kept, record, lsn)


def _archived(ledger: Ledger, record: Archived, lsn: int) -> None:
    for task_id in record.tasks:
        task = ledger.tasks.pop(task_id)
        if not task.is_terminal:
            raise ValueError(f"record {lsn} archives task {task_id}, which is {task.state}")
        del ledger.keys[task.scope, task.key]
        ledger.archived.add(task.scope, task.key)
        ledger.recalled.pop(task_id, None)


def _recalled(ledger: Ledger, record: Recalled, lsn: int) -> None:
    task = plain.from_bytes(Task, record.body)
    if task.id != record.task or not task.is_terminal or task.id in ledger.tasks:
        raise ValueError(f"record {lsn} recalls task {record.task}, which is not what was archived")
    ledger.tasks[task.id] = task
    ledger.keys[task.scope, task.key] = task.id
    ledger.recalled[task.id] = None


_APPLY: dict[type[Record], Callable[[Ledger, Any, int], None]] = {
    CoordinatorStarted: _coordinator_started,
    CoordinatorStopped: _coordinator_stopped,
    PrincipalBound: _principal_bound,
    AgentRegistered: _agent_registered,
    StatusSet: _status_set,
    MailboxAcked: _mailbox_acked,
    AgentForgotten: _agent_forgotten,
    Delegated: _delegated,
    Adopted: _adopted,
    Offered: _offered,
    Accepted: _accepted,
    Declined: _declined,
    OfferWithdrawn: _offer_withdrawn,
    LeaseExpired: _lease_expired,
    Revived: _revived,
    Evicted: _evicted,
    Yielded: _yielded,
    HandedOff: _handed_off,
    HandoffLapsed: _handoff_lapsed,
    Checkpointed: _checkpointed,
    ArtifactAppended: _artifact_appended,
    Asked: _asked,
    Answered: _answered,
    AnswersRepeated: _answers_repeated,
    Steered: _steered,
    Reported: _reported,
    ReportKept: _report_kept,
    Reworked: _reworked,
    Classified: folding.classified,
    GroupDecided: folding.group_decided,
    ConflictOpened: folding.conflict_opened,
    ConflictJoined: folding.conflict_joined,
    ConflictNoted: folding.conflict_noted,
    PositionTaken: folding.position_taken,
    PatchesCompared: _patches_compared,
    StageOpened: folding.stage_opened,
    Merged: folding.merged,
    StageClosed: folding.stage_closed,
    ConflictAppealed: folding.conflict_appealed,
    ConflictResolved: folding.conflict_resolved,
    CancelRequested: _cancel_requested,
    Settled: _settled,
    ContextWritten: _context_written,
    **claimbook.APPLY,
    Refused: _refused,
    Archived: _archived,
    Recalled: _recalled,
}
