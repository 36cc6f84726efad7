"""The ledger: the state that the records build, and `apply`, the only code that changes it.

Live running and recovery are the same fold. Volatile state (who is connected, heartbeats, credit) is not here but
beside it in `live`. The ledger knows no clock and no message; a notice to an agent is an entry in its mailbox, put
there by the very record that caused it, and rendered when it is sent.
"""

from __future__ import annotations

import hmac
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..protocol.states import TaskEvent, advance
from ..protocol.types import principal_of
from . import claimbook, plain, task_folding
from .claimbook import Claim, ClaimBook, owner_of
from .conflicts import folding
from .conflicts.case import Conflict, Group
from .context_state import Context, apply_written
from .filter import KeyFilter
from .patchbook import PatchBook, Patched
from .records import (
    AgentForgotten,
    AgentRegistered,
    Archived,
    Classified,
    ConflictAppealed,
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    ConflictsArchived,
    ContextRecalled,
    ContextsArchived,
    ContextWritten,
    CoordinatorStarted,
    CoordinatorStopped,
    GroupDecided,
    MailboxAcked,
    Merged,
    PositionTaken,
    PrincipalBound,
    PrincipalUnbound,
    Recalled,
    Record,
    Refused,
    StageClosed,
    StageOpened,
    StatusSet,
)
from .refusals import Refusal, keep
from .task_index import TaskIndex, own_context
from .task_state import COUNTED, Event, Result, Task

__all__ = ["ABOUT_CONFLICTS", "Agent", "AtWork", "Ledger", "Mailbox", "MailboxEntry", "namespace_in"]

ABOUT_CONFLICTS = frozenset({"conflict.opened", "conflict.resolved"})
"""Notices rendered from a conflict."""
_CONTEXT = "context"
"""The scope of context ids in their filter, which keeps names by scope."""
_AGENT = "agent"
"""The scope of agent ids in their filter."""


@dataclass(slots=True)
class MailboxEntry:
    """A notice for an agent. Its content is rendered from the task when it is sent, so a payload is kept once."""

    mseq: int
    lsn: int
    kind: str
    task: str
    number: int = 0
    """The fence, revision or question the notice is about; for a conflict, the position where it opened."""
    claim: dict[str, Any] | None = None
    """The facts about a claim when the notice was posted: the claim may be gone when it is sent."""


@dataclass(slots=True)
class Mailbox:
    """The notices an agent has not acknowledged, in order and without gaps (spec MAIL-1)."""

    next_mseq: int = 1
    entries: deque[MailboxEntry] = field(default_factory=deque)


@dataclass(slots=True)
class Agent:
    """An agent whose card is on file."""

    id: str
    instance: str
    incarnation: int
    card: dict[str, Any]
    labels: dict[str, str]
    lsn: int
    status: str = "ready"
    skills: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Skill id to the skill on its card."""


class AtWork:
    """Agents, each with the number of open tasks it counts for. Derived from these tasks, in no order; never stored."""

    def __init__(self) -> None:
        self._tasks: dict[str, int] = {}

    def __contains__(self, agent: object) -> bool:
        return agent in self._tasks

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AtWork) and self._tasks == other._tasks

    __hash__ = None  # type: ignore[assignment]

    def count(self, agents: Iterable[str], change: int) -> None:
        """Count one open task more or less for each of these agents."""
        for agent in set(agents):
            _count(self._tasks, agent, change)


class Ledger:
    """Everything the records say."""

    def __init__(self, policy_namespace: str = "main") -> None:
        self.namespace = policy_namespace
        self.lsn = 0
        self.at = 0
        """The newest clock reading recorded; time never goes back before it."""
        self.epoch = 0
        self.proof_key = ""
        """The key that proofs of its fences are made with: every copy of the ledger has it, and nobody else."""
        self.effects_scoped_from = 0
        """The position after which tasks have an effect scope; earlier tasks may have been worked on without one."""
        self.principals: dict[str, str] = {}
        self.agents: dict[str, Agent] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.forgotten = KeyFilter()
        """Agents whose mailbox was ever forgotten, approximately: a number they name may be of the earlier mailbox."""
        self.tasks: dict[str, Task] = {}
        self.index = TaskIndex()
        """Finds tasks in memory, except the `recalled` ones."""
        self.keys: dict[tuple[str, str], str] = {}
        self.holding: dict[str, dict[str, int]] = {}
        """Agent to the tasks it was offered or holds, with their fences: what its credit is spent on."""
        self.by_skill: dict[str, dict[str, Agent]] = {}
        self.wanted_bytes = 0
        """About how many bytes the specifications and inputs of all tasks in memory take."""
        self.open_tasks: dict[str, Task] = {}
        """Tasks that have not ended, in the order they were made."""
        self.at_work = AtWork()
        """Agents that have or had an attempt at an open task."""
        self.delegating: dict[str, int] = {}
        """Agent to the number of open tasks it is the delegator of."""
        self.conflicts: dict[str, Conflict] = {}
        self.open_conflicts: dict[str, Conflict] = {}
        """Conflicts that are not over, in the order they opened."""
        self.conflicts_about: dict[str, list[str]] = {}
        """Object to the ids of the conflicts about it, the newest last."""
        self.closed: dict[str, Conflict] = {}
        """Conflicts that ended since the last pass; the coordinator empties it."""
        self.conflicts_archived = 0
        """How many conflicts have left memory."""
        self.contested: dict[tuple[str, str], str] = {}
        """(context, key) to the open conflict about it: nobody writes the key meanwhile."""
        self.quarantined: dict[str, str] = {}
        """Agent to the open conflict about who it is: it gets no offers meanwhile."""
        self.impostures: dict[str, list[Refusal]] = {}
        """Principal to the newest refused hellos in its name."""
        self.sealed = ""
        """The seal of the conflict closed last: the records of closed conflicts are a chain."""
        self.records_of: dict[str, tuple[int, int]] = {}
        """Agent to (results accepted, results that somebody decided about)."""
        self.attached: dict[str, dict[str, Task]] = {}
        """Principal to its open tasks that do not go on without it (spec TASK-12)."""
        self.contexts: dict[str, Context] = {}
        """Contexts that were written to."""
        self.context_bytes = 0
        """About how many bytes the contexts take in memory."""
        self.contexts_in_use: dict[str, int] = {}
        """Context to the number of open tasks in it plus open conflicts about its keys."""
        self.contexts_archived = KeyFilter()
        """The ids of contexts that have ever left memory, approximately."""
        self.claims = ClaimBook()
        self.patches = PatchBook()
        self.conflict_mail: dict[str, int] = {}
        """Conflict to its unacknowledged mailbox entries, counted: it stays in memory as long as there are any."""
        self.archived = KeyFilter()
        """The keys of tasks that left memory, approximately."""
        self.recalled: dict[str, None] = {}
        """Archived tasks that are back; in `tasks` they come after newer ones."""
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

    def own_context_at(self, lsn: int) -> str:
        """Return the id of a context without values, for the task that this record creates and that names none."""
        name = own_context(self.namespace, lsn)
        if name not in self.contexts and not self.may_have_archived_context(name):
            return name
        # Somebody has written to a context of that name already. Nobody can have guessed the other one.
        return f"{name}-{hmac.digest(self.proof_key.encode(), name.encode(), 'sha256').hex()[:16]}"

    def conflict_id_at(self, lsn: int) -> str:
        """Return the id of the conflict that the record at this position opens."""
        return f"{self.namespace}-k{lsn}"

    def apply(self, record: Record) -> int:
        """Change the state by one record, and return the record's position.

        Raises:
            KeyError, ValueError: the record does not fit the state: the decision that made it is wrong, or this code
                did not write the ledger.
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

    def post_conflict(self, agent: str, lsn: int, kind: str, conflict: Conflict) -> None:
        """Put a notice about a conflict into an agent's mailbox."""
        self._post(agent, MailboxEntry(0, lsn, kind, "" if conflict.candidates else conflict.task, conflict.opened_lsn))
        _count(self.conflict_mail, conflict.id, 1)

    def _post(self, agent: str, entry: MailboxEntry) -> None:
        mailbox = self.mailboxes.get(agent)
        if mailbox is None:
            mailbox = self.mailboxes[agent] = Mailbox()
        entry.mseq = mailbox.next_mseq
        mailbox.entries.append(entry)
        mailbox.next_mseq += 1
        self.posted[agent] = None

    def read_mail(self, entry: MailboxEntry) -> None:
        """Count a mailbox entry that nobody will ask for again."""
        if entry.kind in ABOUT_CONFLICTS:
            _count(self.conflict_mail, self.conflict_id_at(entry.number), -1)

    def may_have_archived(self, task: str) -> bool:
        """Tell whether this may be the id of a task that was here and left."""
        return bool(self.archived.layers) and task not in self.tasks and 0 < self.position_of(task) <= self.lsn

    def position_of(self, task: str) -> int:
        """Return the position of the record that made a task, taken from its id; 0 if the id is not of this ledger."""
        namespace, _, number = task.rpartition("-")
        is_ours = namespace == self.namespace and number.isdecimal() and task == self.task_id_at(int(number))
        return int(number) if is_ours else 0

    def may_have_archived_conflict(self, conflict: str) -> bool:
        """Tell whether this may be the id of a conflict that was here and left."""
        return bool(self.conflicts_archived) and conflict not in self.conflicts and self.opened_at(conflict) > 0

    def opened_at(self, conflict: str) -> int:
        """Return the position where a conflict opened, taken from its id; 0 if the id is not of this ledger."""
        number = conflict.removeprefix(f"{self.namespace}-k")
        is_ours = number.isdecimal() and conflict == self.conflict_id_at(int(number)) and int(number) <= self.lsn
        return int(number) if is_ours else 0

    def may_have_archived_context(self, context_id: str) -> bool:
        """Tell whether this may be the id of a context that was here and left."""
        return context_id not in self.contexts and self.contexts_archived.may_have(_CONTEXT, context_id)

    def may_have_forgotten(self, agent: str) -> bool:
        """Tell whether an agent may have had an earlier mailbox, so that a number it names may be of that one."""
        return self.forgotten.may_have(_AGENT, agent)

    def use_context(self, context_id: str, change: int) -> None:
        """Count one more or one less thing that needs a context at hand."""
        _count(self.contexts_in_use, context_id, change)

    @contextmanager
    def lending(
        self, tasks: Iterable[Task] = (), conflicts: Iterable[Conflict] = (), contexts: Iterable[Context] = ()
    ) -> Iterator[None]:
        """Make archived objects available while a decision is made, as if they had never left.

        Besides `apply`, only this touches the state, and it restores it afterwards: handlers need not know where a task
        they read comes from.
        """
        lent = [task for task in tasks if task.id not in self.tasks]
        named = {(task.scope, task.key) for task in lent if (task.scope, task.key) not in self.keys}
        for task in lent:
            self.tasks[task.id] = task
            self.keys.setdefault((task.scope, task.key), task.id)
        away = {conflict.id: conflict for conflict in conflicts if conflict.id not in self.conflicts}
        self.conflicts.update(away)
        read = {context.id: context for context in contexts if context.id not in self.contexts}
        self.contexts.update(read)
        try:
            yield
        finally:
            for context in read:
                del self.contexts[context]
            for conflict in away:
                del self.conflicts[conflict]
            for task in lent:
                del self.tasks[task.id]
            for name in named:
                del self.keys[name]

    def move(
        self, task: Task, event: TaskEvent, record: Record, lsn: int, payload: bytes | None = None, **data: Any
    ) -> None:
        """Move a task one step on: its state, its generation, and what its watchers see."""
        task.state = advance(task.state, event)
        task.since = record.at
        self.index.moved(task)
        self.note(task, event.value, record, lsn, payload, **data)

    def note(self, task: Task, event: str, record: Record, lsn: int, payload: bytes | None = None, **data: Any) -> None:
        """Add an event to a task's history without a change of state."""
        task.generation += 1
        self.touched[task.id] = task
        task.history.append(Event(task.generation, lsn, record.at, event, task.state.value, data, payload))

    def addressee(self, task: Task) -> str:
        """Return the agent that gets its notices: its parent's holder, else its delegator (spec TASK-7)."""
        parent = self.tasks.get(task.parent) if task.parent else None
        if parent is not None and parent.authority is not None and parent.authority.is_open:
            return parent.authority.holder
        return task.delegator

    def delegators(self, task_id: str | None) -> list[str]:
        """Return the principals that delegated a task and those above it, from below; none for None (spec RUNG-5)."""
        found: list[str] = []
        task = self.tasks.get(task_id or "")
        while task is not None:
            found.append(task.principal)
            if task.above:
                return [*found, *task.above]
            task = self.tasks.get(task.parent or "")  # an older version did not note what is above a task
        return found

    def open_children(self, task: Task) -> Iterator[Task]:
        """Yield the sub-tasks of a task that have not ended, in the order they were made."""
        return (self.open_tasks[child] for child in task.children if child in self.open_tasks)

    def count_open(self, delegator: str, change: int) -> None:
        """Count one open task more or less for a delegator."""
        _count(self.delegating, delegator, change)

    def hold(self, agent: str, task: Task, fence: int) -> None:
        """Count the attempt against the agent's credit."""
        self.holding.setdefault(agent, {})[task.id] = fence

    def let_go(self, agent: str, task: Task, fence: int) -> None:
        """Give the credit back, unless a newer attempt at the same task uses it."""
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
        """Take back the offer that is out, and return the agent it was for."""
        offer, task.offer = task.offer, None
        if offer is None:
            return None
        self.let_go(offer.agent, task, offer.fence)
        return offer.agent

    def barred(self, task: Task) -> set[str]:
        """Return the agents that may not have a task because of what they do or did for its group.

        No agent gives two answers, no agent that has compared answers gives one, and no agent compares its own.
        """
        group = self.tasks[task.parent].group if task.parent is not None and task.parent in self.tasks else None
        if group is not None and task.id in group.electorate:
            return self.workers_of(group, besides=task.id) | self.worked_on(group.compared)
        if group is not None and task.id in group.compared:
            return self.workers_of(group)
        return set()

    def workers_of(self, group: Group, *, besides: str = "") -> set[str]:
        """Return the agents that work or worked on an answer of a group, without those that were only offered one."""
        return self.worked_on(member for member in group.electorate if member != besides)

    def worked_on(self, tasks: Iterable[str]) -> set[str]:
        """Return the agents that work or worked on any of these tasks, without those that were only offered one."""
        return {
            attempt.agent
            for task in tasks
            for attempt in self.tasks[task].attempts.values()
            if attempt.end not in ("declined", "unanswered")
        }

    def adopt(
        self, task: Task, result: Result, reviewed: bool, at: int, stale_basis: list[dict[str, Any]] | None
    ) -> None:
        """Make a member's result the group's result."""
        adopted = Result(task.rev, result.fence, result.agent, result.result_hash, result.payload, at, reviewed)
        adopted.basis, adopted.stale_basis = result.basis, stale_basis or []
        adopted.patches = result.patches
        task.results.append(adopted)

    def note_patches(self, task: Task, lsn: int) -> None:
        """Have a task's newest result compared with others that patch the same, if it patches something.

        Not if it is one of a group's answers, which are alternatives, or was made for a conflict.
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
                delegators=self.delegators(task.id),
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
        """Count what an attempt used beyond what was counted for it before (spec BUDGET-1)."""
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
        """Count an amount for a task and for all tasks above that share their budget with it.

        A task's own budget was reserved above when the task was made; its use is counted there when the task ends.
        """
        node: Task | None = task
        while node is not None:
            node.spent[kind] = node.spent.get(kind, 0) + amount
            folding.used(self, node)
            whole = max(1, node.budget.get(kind, 0))  # a budget of 0 is used up by the first use
            if kind in node.budget and node.spent[kind] - amount < whole <= node.spent[kind]:
                if node.id in self.open_tasks:
                    self.touched[node.id] = node  # it may wait for another attempt itself
                self._touch_below(node)
            if kind in node.budget and not node.is_terminal:
                return
            node = self.tasks.get(node.parent) if node.parent else None

    def _touch_below(self, task: Task) -> None:
        """Have the tasks below a task looked at: its budget is used up."""
        for child in task.children:
            if child in self.open_tasks:
                self.touched[child] = self.open_tasks[child]
            if child in self.tasks:
                self._touch_below(self.tasks[child])

    def payer(self, task: Task | None, kind: str) -> Task | None:
        """Return the task whose budget this task and those below it use for a kind, or None if none is set."""
        while task is not None and kind not in task.budget:
            task = self.tasks.get(task.parent) if task.parent else None
        return task

    def reserve(self, task: Task) -> None:
        """Reserve a task's own budget in the budget of the task above that pays."""
        for kind in COUNTED:
            above = self.payer(self.tasks.get(task.parent) if task.parent else None, kind)
            if kind in task.budget and above is not None:
                above.reserved[kind] = above.reserved.get(kind, 0) + task.budget[kind]

    def reconcile(self, task: Task) -> None:
        """At a task's end, replace what was reserved for it by what it used."""
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
        self.unindex_skills(agent)
        agent.skills = {skill["id"]: skill for skill in agent.card.get("skills", ())}
        for skill in agent.skills:
            self.by_skill.setdefault(skill, {})[agent.id] = agent

    def unindex_skills(self, agent: Agent) -> None:
        """Remove the agent from the index of skills."""
        for skill in agent.skills:
            found = self.by_skill.get(skill)
            if found is not None:
                found.pop(agent.id, None)
                if not found:
                    del self.by_skill[skill]


def namespace_in(record: Record) -> str:
    """Return the namespace that a record names, as a start and records about tasks do; else an empty text."""
    if isinstance(record, CoordinatorStarted) and record.namespace:
        return record.namespace
    task: str = getattr(record, "task", None) or ""
    return task.rpartition("-")[0]  # see `Ledger.task_id_at`


def _count(counts: dict[str, int], name: str, change: int) -> None:
    """Count one more or one less of something; a count of 0 has no entry.

    Raises:
        KeyError: `change` is negative, and nothing is counted under the name.
    """
    count = (counts[name] if change < 0 else counts.get(name, 0)) + change
    if count:
        counts[name] = count
    else:
        del counts[name]


# What records about agents and the ledger itself do ------------------------------------------------------------------


def _coordinator_started(ledger: Ledger, record: CoordinatorStarted, lsn: int) -> None:
    ledger.epoch = record.epoch
    ledger.proof_key = record.proof_key or ledger.proof_key
    if record.scopes_effects:
        ledger.effects_scoped_from = lsn


def _coordinator_stopped(ledger: Ledger, record: CoordinatorStopped, lsn: int) -> None:
    """What was in memory goes on in the next epoch."""


def _principal_bound(ledger: Ledger, record: PrincipalBound, lsn: int) -> None:
    ledger.principals[record.principal] = record.secret_digest


def _principal_unbound(ledger: Ledger, record: PrincipalUnbound, lsn: int) -> None:
    del ledger.principals[record.principal]
    ledger.impostures.pop(record.principal, None)


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
    agent = ledger.agents.pop(record.agent, None)
    if agent is not None:
        ledger.unindex_skills(agent)
        ledger.records_of.pop(record.agent, None)
    mailbox = ledger.mailboxes.pop(record.agent, None)
    if mailbox is not None and not ledger.may_have_forgotten(record.agent):
        ledger.forgotten.add(_AGENT, record.agent)
    for entry in mailbox.entries if mailbox else ():
        ledger.read_mail(entry)
    ledger.holding.pop(record.agent, None)
    ledger.claims.forget(owner_of(None, record.agent))


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
        ledger.wanted_bytes -= task.wanted_bytes
        ledger.index.remove(task)
        if ledger.keys.get((task.scope, task.key)) == task_id:
            del ledger.keys[task.scope, task.key]
        ledger.archived.add(task.scope, task.key)
        ledger.recalled.pop(task_id, None)


def _conflicts_archived(ledger: Ledger, record: ConflictsArchived, lsn: int) -> None:
    for name in record.conflicts:
        conflict = ledger.conflicts[name]
        if conflict.is_open:
            raise ValueError(f"record {lsn} archives conflict {name}, which is open")
        del ledger.conflicts[name]
        folding.unindex(ledger, conflict)
        ledger.conflicts_archived += 1


def _recalled(ledger: Ledger, record: Recalled, lsn: int) -> None:
    task = plain.from_bytes(Task, record.body)
    if task.id != record.task or not task.is_terminal or task.id in ledger.tasks:
        raise ValueError(f"record {lsn} recalls task {record.task}, which is not what was archived")
    ledger.tasks[task.id] = task
    ledger.wanted_bytes += task.wanted_bytes
    # Another task has the key if this one was gone when the key was looked up, and was read just before (spec READ-6).
    ledger.keys.setdefault((task.scope, task.key), task.id)
    ledger.recalled[task.id] = None


def _contexts_archived(ledger: Ledger, record: ContextsArchived, lsn: int) -> None:
    for context_id in record.contexts:
        if context_id in ledger.contexts_in_use:
            raise ValueError(f"record {lsn} archives context {context_id}, in which something goes on")
        ledger.context_bytes -= ledger.contexts.pop(context_id).kept_bytes
        if not ledger.contexts_archived.may_have(_CONTEXT, context_id):
            ledger.contexts_archived.add(_CONTEXT, context_id)


def _context_recalled(ledger: Ledger, record: ContextRecalled, lsn: int) -> None:
    context = plain.from_bytes(Context, record.body)
    if context.id != record.context_id or context.id in ledger.contexts:
        raise ValueError(f"record {lsn} recalls context {record.context_id}, which is not what was archived")
    ledger.contexts[context.id] = context
    ledger.context_bytes += context.kept_bytes


_APPLY: dict[type[Record], Callable[[Ledger, Any, int], None]] = {
    CoordinatorStarted: _coordinator_started,
    CoordinatorStopped: _coordinator_stopped,
    PrincipalBound: _principal_bound,
    PrincipalUnbound: _principal_unbound,
    AgentRegistered: _agent_registered,
    StatusSet: _status_set,
    MailboxAcked: _mailbox_acked,
    AgentForgotten: _agent_forgotten,
    **task_folding.APPLY,
    Classified: folding.classified,
    GroupDecided: folding.group_decided,
    ConflictOpened: folding.conflict_opened,
    ConflictJoined: folding.conflict_joined,
    ConflictNoted: folding.conflict_noted,
    PositionTaken: folding.position_taken,
    StageOpened: folding.stage_opened,
    Merged: folding.merged,
    StageClosed: folding.stage_closed,
    ConflictAppealed: folding.conflict_appealed,
    ConflictResolved: folding.conflict_resolved,
    ContextWritten: _context_written,
    **claimbook.APPLY,
    Refused: _refused,
    Archived: _archived,
    ConflictsArchived: _conflicts_archived,
    Recalled: _recalled,
    ContextsArchived: _contexts_archived,
    ContextRecalled: _context_recalled,
}
