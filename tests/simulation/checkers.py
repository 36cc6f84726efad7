"""Safety, one checker per property, named as in SEMANTICS 4.1. They look at records as they become true.

`told` has what peers are told, `liveness` what has to happen in time.
"""

from __future__ import annotations

import hashlib
from typing import Any

from a2a.engine.records import (
    Accepted,
    Adopted,
    AgentForgotten,
    Answered,
    Archived,
    ArtifactAppended,
    Asked,
    CancelRequested,
    Checkpointed,
    ConflictsArchived,
    Declined,
    Delegated,
    Evicted,
    HandedOff,
    LeaseExpired,
    Offered,
    OfferWithdrawn,
    PrincipalUnbound,
    Recalled,
    Record,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    Steered,
    Yielded,
)
from a2a.protocol.messages import AgentForget, Hello, Message, TaskAnswer, TaskCancel, TaskConfirm, TaskReport, Welcome
from a2a.protocol.types import principal_of

from .court import Cause, Checker, Court
from .model import TaskModel

__all__ = ["SAFETY"]

_OF_ATTEMPT: tuple[type[Record], ...] = (
    Accepted,
    Declined,
    OfferWithdrawn,
    LeaseExpired,
    Revived,
    Yielded,
    HandedOff,
    Checkpointed,
    ArtifactAppended,
    Asked,
    Reported,
)
"""Records that change a task under a fence."""
_OF_TASK: tuple[type[Record], ...] = (
    *_OF_ATTEMPT,
    Offered,
    Evicted,
    Steered,
    Answered,
    Reworked,
    CancelRequested,
    Settled,
)


class OneTaskPerKey(Checker):
    """For each (scope, key) at most one task exists, and its scope is the parent's or the principal's."""

    name = "I1"
    records = (Delegated,)

    def before(self, record: Delegated, lsn: int, cause: Cause) -> None:
        known = self.model.keys.get((record.scope, record.key))
        self.hold(known is None, f"key {record.key} of {record.scope} is {known} and becomes {record.task}")
        scope = f"task:{record.parent}" if record.parent else f"principal:{principal_of(record.delegator)}"
        own = [scope, f"group:{record.parent}"]
        ruling = self.model.ruling(record.parent or "")
        own.append(f"compare:{record.parent}")
        if ruling is not None:
            own.append(f"conflict:{ruling.id}")
        elif record.parent is None:
            own += [f"conflict:{known.id}" for known in self.model.rulings.values() if known.is_open and known.climbs]
        self.hold(record.scope in own, f"{record.task} is in scope {record.scope}, not {scope}")
        self.hold(record.task not in self.model.tasks, f"{record.task} comes to be twice")


class FencesGrow(Checker):
    """Fences are unique, and each accepted grant of a task has a larger fence than those accepted before."""

    name = "I4"
    records = (Offered, Accepted)

    def before(self, record: Offered | Accepted, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        if isinstance(record, Accepted):
            self.hold(
                task.offer == record.fence, f"{task.id}: fence {record.fence} is accepted, on offer is {task.offer}"
            )
            fence = record.fence
        else:
            self.hold(task.offer == 0, f"{task.id} is offered again while fence {task.offer} is on offer")
            self.hold(lsn not in task.minted, f"{task.id}: fence {lsn} is minted twice")
            fence = lsn
        self.hold(fence > task.newest_current, f"{task.id}: fence {fence} follows {task.newest_current}")


class OneHolder(Checker):
    """At most one worker at a time has a current, open lease; an immediate grant needs that no holder may come back."""

    name = "I5"
    records = (Offered, Accepted, Revived)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        if isinstance(record, Offered):
            self.hold(not task.runs, f"{task.id} is offered while {task.holder} holds it under {task.fence}")
            self.hold(not (record.granted and task.is_open), f"{task.id} is granted while {task.fence} is open")
            self.hold(task.state == "queued", f"{task.id} is offered while it is {task.state}")
            self.hold(task.retry_at <= record.at, f"{task.id} is offered before its pause is over")
        else:
            self.hold(not task.runs, f"{task.id} gets fence {record.fence} while {task.fence} of {task.holder} runs")


class OneResult(Checker):
    """At most one result is accepted per (task, rev), under the fence that was current and open."""

    name = "I6"
    records = (Reported,)

    def before(self, record: Reported, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        current = task.is_open and task.fence == record.fence
        self.hold(current, f"{task.id}: a report under {record.fence} is admitted, current is {_authority(task)}")
        if record.outcome == "completed":
            self.hold(task.rev not in task.results, f"{task.id} has two results of revision {task.rev}")


class RejectedStaysRejected(Checker):
    """A result that was sent back is never accepted again under the same fence, and never completes its task."""

    name = "I8"
    records = (Reported, Settled)

    def before(self, record: Reported | Settled, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        if isinstance(record, Reported):
            self.hold(record.fence not in task.rejected, f"{task.id}: fence {record.fence} was sent back, and reports")
        elif record.state == "completed" and task.rev in task.results:
            fence = task.results[task.rev].fence
            self.hold(fence not in task.rejected, f"{task.id}: the result under {fence} was sent back, and completes")


class DeadFences(Checker):
    """A fence that was spent, superseded or withdrawn never changes its task again."""

    name = "I7"
    records = _OF_ATTEMPT

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        dead = record.fence in task.dead
        self.hold(not dead, f"{task.id}: {type(record).__name__} under the dead fence {record.fence}")
        alive = record.fence == task.offer or (task.is_open and record.fence == task.fence)
        self.hold(alive, f"{task.id}: {type(record).__name__} under {record.fence}, alive is {_authority(task)}")


class CancelIsFinal(Checker):
    """After `canceled` no result is accepted, after `completed` no cancel succeeds."""

    name = "I11"
    records = (Reported, CancelRequested, Settled)

    def before(self, record: Reported | CancelRequested | Settled, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        if task.settled is None:
            return
        state, what = task.settled.state, type(record).__name__
        cancels = isinstance(record, CancelRequested) or getattr(record, "state", "") == "canceled"
        self.hold(state != "canceled" or cancels, f"{task.id} was canceled, then {what}")
        self.hold(state != "completed" or not cancels, f"{task.id} has completed, then {what}")


class Generations(Checker):
    """A task's generation rises by exactly one with every change of its state and every event."""

    name = "I9g"
    records = _OF_TASK

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        assert self.court.coordinator is not None, "it decided"
        generation = self.court.coordinator.ledger.tasks[record.task].generation
        due = len(self.model.tasks[record.task].events)
        self.hold(generation == due, f"{record.task} has generation {generation} after {due} events")


class Absorbing(Checker):
    """Terminal states are absorbing."""

    name = "I9"
    records = _OF_TASK

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        end = task.settled
        self.hold(end is None, f"{task.id} has ended as {end and end.state}, then {type(record).__name__}")


class CompletedMeansConfirmed(Checker):
    """`completed` has an accepted result with the confirmed hash, or auto or the timer confirmed that hash."""

    name = "I10"
    records = (Settled, Reworked)

    def before(self, record: Settled | Reworked, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        result = task.results.get(task.rev)
        message = cause.message
        # A rework may close a circle in the line for the task's resources, or have no budget left, and so end at once.
        ends_by_itself = isinstance(record, Settled) and record.reason in ("canceled", "deadlock", "budget")
        if isinstance(message, TaskConfirm) and message.task == task.id and not ends_by_itself:
            self.hold(result is not None and task.state == "reported", f"{task.id} is confirmed while {task.state}")
            digest = result.digest if result else ""
            self.hold(
                message.rev == task.rev and message.result_hash == digest,
                f"{task.id}: a word on revision {message.rev} {message.result_hash} settles {task.rev} {digest}",
            )
            is_of_now = message.if_gen in (None, len(task.events))
            self.hold(is_of_now, f"{task.id}: a word for generation {message.if_gen} settles {len(task.events)}")
        if isinstance(record, Reworked):
            self.hold(record.rev == task.rev, f"{task.id}: revision {record.rev} goes back, {task.rev} is current")
            return
        if record.state != "completed":
            return
        self.hold(result is not None and result.fence not in task.rejected, f"{task.id} completes without a result")
        self.hold(result and record.result_hash == result.digest, f"{task.id} completes with another hash")
        if task.evaluator == "human":
            person = cause.kind == "step" and (cause.agent or "").startswith("operator")
            self.hold(person, f"{task.id} wants a human, and is settled by {record.by}")
        if record.by == "auto":
            group = self.model.groups.get(task.id)
            is_auto = isinstance(message, TaskReport) if group is None else bool(group.decided)
            is_auto = is_auto and task.evaluator == "auto"
            self.hold(is_auto or self.model.is_abandoned(task), f"{task.id} is not settled by auto")
        elif record.by == "timer":
            due = task.since + (task.durations["confirm_ms"] or 0)
            self.hold(cause.kind == "tick", f"{task.id} is settled by the timer because {cause.agent} spoke")
            self.hold(due <= record.at, f"{task.id} is settled by the timer {due - record.at} ms early")
        else:
            said = isinstance(message, TaskConfirm) and message.verdict == "accept" and message.task == task.id
            self.hold(said, f"{task.id} completes by {record.by}, who said {message}")


class OnlyTheHolder(Checker):
    """A message from another agent never changes an attempt."""

    name = "I12"
    records = _OF_ATTEMPT

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        whose = task.minted.get(record.fence)
        self.hold(whose is not None, f"{task.id}: {type(record).__name__} under {record.fence}, which is not its fence")
        if cause.kind == "step" and cause.agent != whose:
            who = f"{type(record).__name__} of {whose}'s attempt"
            self.hold(False, f"{task.id}: {who} because {cause.agent} said {cause.message}")
        if isinstance(record, Reported):
            self.hold(record.agent == whose, f"{task.id}: {record.agent} reports under {whose}'s fence")


class Credit(Checker):
    """An agent's offers and leases never exceed its credit as last known before each offer; no away agent gets one."""

    name = "I16"
    records = (Offered,)

    def after(self, record: Offered, lsn: int, cause: Cause) -> None:
        agent = record.agent
        seat = self.model.seats.get(agent)
        self.hold(seat is not None, f"{record.task} is offered to {agent}, who is away")
        assert seat is not None, "just seen"
        held = self.model.slots_filled(agent)
        self.hold(held <= seat.credit, f"{agent} has {held} attempts and credit for {seat.credit}")
        task, known = self.model.tasks[record.task], self.model.agents[agent]
        self.hold(known.status == "ready", f"{agent} is {known.status} and is offered {task.id}")
        self.hold(task.skill in known.skills, f"{agent} cannot {task.skill} and is offered {task.id}")
        self.hold(suits(task, agent, known.labels), f"{agent} is not what {task.id} requires: {task.requires}")
        shunned = task.shunned.get(agent, 0)
        self.hold(shunned <= record.at, f"{agent} declined {task.id} until {shunned}, and is asked at {record.at}")


def suits(task: TaskModel, agent: str, labels: dict[str, str]) -> bool:
    """Whether an agent meets what the task requires and what its hand-off asked for, as far as this world uses them."""
    return all(
        requires.get("agent", agent) == agent
        and agent not in requires.get("exclude", ())
        and all(labels.get(name) == value for name, value in requires.get("labels", {}).items())
        for requires in (task.requires, task.handed_to)
    )


class TreeRules(Checker):
    """child.deadline <= parent.deadline, depth <= max, and no (skill, spec) repeats on a path."""

    name = "I18"
    records = (Delegated,)

    def before(self, record: Delegated, lsn: int, cause: Cause) -> None:
        self.hold(record.depth <= self.court.policy.depth_max, f"{record.task} is on level {record.depth}")
        if record.parent is None:
            self.hold(record.depth == 1, f"{record.task} has no parent and is on level {record.depth}")
            return
        parent = self.model.tasks[record.parent]
        self.hold(record.depth == parent.depth + 1, f"{record.task} is on level {record.depth} below {parent.depth}")
        if parent.deadline_at is not None:
            early = record.deadline_at is not None and record.deadline_at <= parent.deadline_at
            self.hold(early, f"{record.task} may last until {record.deadline_at}, its parent {parent.deadline_at}")
        above: TaskModel | None = parent
        while above is not None:
            same = (above.skill, above.spec_hash) == (record.spec["skill"], record.spec_hash)
            self.hold(not same, f"{record.task} is the same work as {above.id} above it")
            above = self.model.tasks[above.parent] if above.parent else None


class GraceHolds(Checker):
    """No timer with a stored deadline fires during recovery grace: only offers may go out."""

    name = "I19"
    records = tuple(kind for kind in _OF_TASK if kind is not Offered)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        # A task whose turn comes may close a circle, or have no budget left: it then ends, but not by a timer.
        is_its_turn = isinstance(record, Settled) and record.reason in ("deadlock", "budget")
        if cause.kind in ("tick", "restore") and not is_its_turn:
            left = self.model.grace_until - record.at
            self.hold(
                left <= 0, f"{record.task}: {type(record).__name__} by the clock, {left} ms before the grace ends"
            )


class TimersNotEarly(Checker):
    """The clock decides nothing early: no lease, offer or time for a confirm ends before it is over."""

    name = "T1"
    records = (LeaseExpired, OfferWithdrawn, Settled, Answered)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        if cause.kind != "tick":
            if isinstance(record, LeaseExpired | OfferWithdrawn):
                self.hold(isinstance(cause.message, Hello), f"{task.id} is lost because of {cause.message}")
            return
        if isinstance(record, LeaseExpired):
            due = min(task.lease_until, task.evicted_until) if task.evicted else task.lease_until
        elif isinstance(record, OfferWithdrawn):
            due = task.offered_at + (task.durations["offer_ms"] or 0)
        elif isinstance(record, Answered):
            due = task.asks[record.ask_no].deadline_at
        elif record.reason == "deadline":
            due = task.deadline_at or 0
        elif record.reason == "no_capable_agent":
            due = task.since + (task.durations["queue_ms"] or 0)
        elif record.reason == "unanswered":
            due = min(ask.deadline_at for ask in task.asks.values() if ask.is_open)
        elif record.reason == "unconfirmed" or record.by == "timer":
            due = task.since + (task.durations["confirm_ms"] or 0)
        elif record.state == "canceled" and task.state == "canceling" and self._is_own_cancel(task):
            due = min(task.grace_at, task.lease_until)
        else:
            due = record.at
        self.hold(due <= record.at, f"{task.id}: {type(record).__name__} comes {due - record.at} ms early")

    def _is_own_cancel(self, task: TaskModel) -> bool:
        parent = self.model.tasks.get(task.parent or "")
        return parent is None or not parent.has_ended


class HealthyKeepsLease(Checker):
    """In calm weather a connected agent that was heard keeps its lease: it beats as long as it works (LEASE-2)."""

    name = "LEASE-2"
    records = (LeaseExpired,)

    def before(self, record: LeaseExpired, lsn: int, cause: Cause) -> None:
        task, calm_at = self.model.tasks[record.task], self.court.calm_at
        lease, offer = task.durations["lease_ms"] or 0, task.durations["offer_ms"] or 0
        never_heard = task.lease_until == task.offered_at + offer
        if cause.kind != "tick" or calm_at is None or lease < 3_000 or never_heard or task.evicted:
            return  # a short lease may lapse on a slow link; an attempt taken away lapses even if its agent is alive
        settled_down = record.at >= calm_at + 60_000 and record.at >= self.model.grace_until + lease
        here = task.holder in self.model.seats
        self.hold(not (settled_down and here), f"{task.holder} is here, and loses {task.id} in calm weather")


class Chunks(Checker):
    """An artifact's chunks are of one attempt and follow each other without a gap (I20, as far as the world has it)."""

    name = "I20"
    records = (ArtifactAppended,)

    def before(self, record: ArtifactAppended, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        known = task.chunks.get((record.fence, record.artifact))
        mine = task.streamed.get(record.artifact) == record.fence
        if record.append:
            self.hold(mine, f"{task.id}: {record.artifact} goes on with a chunk of another attempt")
            self.hold(
                known == record.chunk_no - 1, f"{task.id}: chunk {record.chunk_no} of {record.artifact} after {known}"
            )
        elif known is not None and mine:
            self.hold(record.chunk_no > known, f"{task.id}: chunk {record.chunk_no} of {record.artifact} twice")


class OneAnswer(Checker):
    """Each question has exactly one answer in force, and a number is asked once."""

    name = "I22"
    records = (Answered, Asked)

    def before(self, record: Answered | Asked, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        ask = task.asks.get(record.ask_no)
        if isinstance(record, Answered):
            self.hold(ask is not None and ask.is_open, f"{task.id}: question {record.ask_no} is answered again")
        else:
            self.hold(ask is None or ask.withdrawn, f"{task.id}: question {record.ask_no} is asked again")


class Bounded(Checker):
    """No livelock: losses, failures, declines, reworks and revivals are each bounded, and so are attempts."""

    name = "L10"
    records = (LeaseExpired, OfferWithdrawn, Declined, Yielded, HandedOff, Reported, Reworked, Revived)

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        bounds = task.bounds
        for name, count, most in (
            ("losses", task.losses, bounds["losses"] + 1),
            ("failures", task.failures, bounds["attempts"]),
            ("declines", task.declines, max(1, bounds["declines"])),
            ("reworks", task.reworks, bounds["reworks"]),
            ("revivals", task.revivals, bounds["revivals"]),
            ("hand-offs", task.handoffs, bounds["handoffs"]),
        ):
            self.hold(count <= most, f"{task.id} has {count} {name}, at most {most} may be")


class EndsInOneStep(Checker):
    """A counter that reaches its bound ends the task in the same decision."""

    name = "L10b"
    records = (Offered,)

    def before(self, record: Offered, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        over = task.losses > task.bounds["losses"] or task.failures >= task.bounds["attempts"]
        self.hold(not over, f"{task.id} is offered again after {task.losses} losses and {task.failures} failures")


class Entitled(Checker):
    """Only the delegator's principal, the holder of the parent or an operator confirms, cancels or answers."""

    name = "AUTH-5"
    records = (Reworked, CancelRequested, Settled, Answered)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        message, agent = cause.message, cause.agent or ""
        if not isinstance(message, TaskConfirm | TaskCancel | TaskAnswer) or message.task != record.task:
            return
        task = self.model.tasks[record.task]
        parent = self.model.tasks.get(task.parent or "")
        entitled = principal_of(agent) in (task.principal, "operator")
        entitled = entitled or (parent is not None and parent.runs and parent.holder == agent)
        self.hold(entitled, f"{agent} decided {type(record).__name__} of {task.id}, which {task.delegator} delegated")


class Identified(Checker):
    """Nobody is welcomed as a principal without the secret to which it is bound."""

    name = "ID-4"
    requests = (Hello,)

    def answered(self, agent: str, message: Hello, reply: Message) -> None:
        if isinstance(reply, Welcome):
            shown = message.secret or reply.secret or ""
            bound = self.model.secrets.get(principal_of(agent))  # it may have been forgotten since
            self.hold(
                bound is None or hashlib.sha256(shown.encode()).hexdigest() == bound,
                f"{agent} is welcomed with a wrong secret",
            )


class MailPosted(Checker):
    """A record that changes something puts the notice of it into the right mailbox (MAIL-2)."""

    name = "MAIL-2"
    records = (Offered, Revived, Yielded, Asked, Answered, Reported, CancelRequested, Settled)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._due: list[tuple[str, str, int]] = []
        """(agent, kind, number) of the notices that the record under way has to post."""

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        task = self.model.tasks[record.task]
        due = self._due = []
        match record:
            case Offered():
                due.append((record.agent, "task.offer", lsn))
            case Asked():
                due.append((self.model.addressee(task), "task.ask", record.ask_no))
            case Answered() if task.runs:
                due.append((task.holder, "task.answer", record.ask_no))
            case CancelRequested():
                due.append((task.holder, "task.revoke", task.fence))
            case Reported() if record.outcome == "completed" and not self._needs_no_word(task):
                due.append((self.model.addressee(task), "task.review", task.rev))
            case Settled():
                due.append((self.model.addressee(task), "task.settled", task.rev))
                if task.runs:
                    due.append((task.holder, "task.revoke", task.fence))
            case Revived():
                missed = [(number, ask) for number, ask in task.asks.items() if ask.fence == record.fence]
                untold = [number for number, ask in missed if ask.answer is not None and not ask.told]
                due.extend((task.holder, "task.answer", number) for number in untold)
        if task.offer and isinstance(record, Revived | Yielded | Reported | Settled):
            due.append((task.minted[task.offer], "task.revoke", task.offer))

    def _needs_no_word(self, task: TaskModel) -> bool:
        return task.evaluator == "auto" or self.model.is_abandoned(task)

    def after(self, record: Any, lsn: int, cause: Cause) -> None:
        assert self.court.coordinator is not None, "it decided"
        mailboxes = self.court.coordinator.ledger.mailboxes
        for agent, kind, number in self._due:
            entries = mailboxes[agent].entries if agent in mailboxes else ()
            there = any(
                (entry.lsn, entry.kind, entry.task, entry.number) == (lsn, kind, record.task, number)
                for entry in entries
            )
            self.hold(there, f"{record.task}: {agent} has no {kind} {number} of {type(record).__name__} in its mailbox")


class RestartLetsGo(Checker):
    """A new process that does not hold an attempt any longer loses it at once (HELLO-7)."""

    name = "HELLO-7"
    requests = (Hello,)

    def answered(self, agent: str, message: Hello, reply: Message) -> None:
        known = self.model.agents.get(agent)
        was = self.court.cause.instance
        if not isinstance(reply, Welcome) or known is None or was in (None, message.instance_id):
            return
        held = {(attempt.task, attempt.fence) for attempt in message.held}
        for task, fence in self.model.holding.get(agent, {}).items():
            self.hold((task, fence) in held, f"{agent} came new without {task}, and still holds it under {fence}")


class OnlyTheGoneAreForgotten(Checker):
    """An agent is forgotten only if it is away with nothing open, and a secret only if nobody has it (REG-7)."""

    name = "REG-7"
    records = (AgentForgotten, PrincipalUnbound)

    def before(self, record: AgentForgotten | PrincipalUnbound, lsn: int, cause: Cause) -> None:
        model = self.model
        if isinstance(record, PrincipalUnbound):
            here = [agent for agent in model.seats if principal_of(agent) == record.principal]
            self.hold(not here, f"the secret of {record.principal} is forgotten, and {here} are here")
            self.hold(isinstance(cause.message, AgentForget), f"nobody has asked to forget that of {record.principal}")
            return
        agent = record.agent
        seat = model.seats.get(agent)
        is_leaving = seat is not None and seat.connection == cause.connection
        self.hold(seat is None or is_leaving, f"{agent} is forgotten, and it is here")
        for task in model.open.values():
            self.hold(task.delegator != agent, f"{agent} is forgotten, and has delegated {task.id}")
            is_its_own = agent in model.agents and agent in task.minted.values()
            self.hold(not is_its_own, f"{agent} is forgotten, and has worked on {task.id}")
        claims = [claim.id for claim in model.claims.values() if claim.task is None and claim.agent == agent]
        self.hold(not claims, f"{agent} is forgotten, and has claims {claims}")
        open_ones = [ruling.id for ruling in model.rulings.values() if ruling.is_open and agent in ruling.parties]
        self.hold(not open_ones, f"{agent} is forgotten, and is party to {open_ones}")
        is_early = agent in model.agents and not record.by and self.court.policy.keep_agents_ms is None
        self.hold(not is_early, f"{agent} is forgotten without a word")


class OnlyTheSettledLeave(Checker):
    """A task that leaves memory has ended, and no task above or below needs it (DURABLE-8)."""

    name = "DURABLE-8"
    records = (Archived, Recalled)

    def before(self, record: Archived | Recalled, lsn: int, cause: Cause) -> None:
        if isinstance(record, Recalled):
            self.hold(self.model.tasks[record.task].is_archived, f"{record.task} is recalled and had not left")
            return
        policy = self.court.policy
        early = [name for name in record.tasks if record.at - self.model.tasks[name].since < policy.linger_ms]
        there = sum(task.has_ended and not task.is_archived for task in self.model.tasks.values()) if early else 0
        room = policy.linger_tasks_max
        fits = len(early) <= max(0, there - room)
        self.hold(
            fits, f"{early} leave within {policy.linger_ms} ms, with room for {room} of the {there} that have ended"
        )
        for name in record.tasks:
            task = self.model.tasks[name]
            self.hold(task.has_ended and not task.is_archived, f"{name} is {task.state} and leaves")
            parent = self.model.tasks.get(task.parent or "")
            self.hold(parent is None or parent.has_ended, f"{name} leaves before its parent has ended")
            below = [child for child in task.children if not self.model.tasks[child].is_archived]
            self.hold(set(below) <= set(record.tasks), f"{name} leaves before {below}")


class OnlyClosedConflictsLeave(Checker):
    """A conflict leaves memory only when it is over, its tasks have left, and no mail about it waits (DURABLE-11)."""

    name = "DURABLE-11"
    records = (ConflictsArchived,)

    def before(self, record: ConflictsArchived, lsn: int, cause: Cause) -> None:
        assert self.court.coordinator is not None, "it decided"
        ledger, policy = self.court.coordinator.ledger, self.court.policy
        mail = {
            ledger.conflict_id_at(entry.number)
            for mailbox in ledger.mailboxes.values()
            for entry in mailbox.entries
            if entry.kind in ("conflict.opened", "conflict.resolved")
        }
        for name in record.conflicts:
            ruling = self.model.rulings[name]
            self.hold(not ruling.is_open and not ruling.is_archived, f"{name} leaves and is open, or has left before")
            self.hold(name not in mail, f"{name} leaves, and somebody has mail about it")
            tasks = [task for task in (ruling.task, *ruling.blocks) if task]
            there = [task for task in tasks if not self.model.tasks[task].is_archived]
            self.hold(not there, f"{name} leaves before {there}")
            over = record.at - ruling.closed_at
            if not tasks:
                self.hold(over >= policy.conflict_rest_ms, f"{name} leaves {over} ms after its end: a rule may find it")
            if ruling.raised:
                self.hold(over >= policy.raised_keep_ms, f"{name} leaves {over} ms after its end: it was raised")


class OnlyTheRecalledChange(Checker):
    """Nothing is decided about a task that has left memory before it is back."""

    name = "DURABLE-9"
    records = (*_OF_TASK, ReportKept, Adopted)

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        has_left = self.model.tasks[record.task].is_archived
        self.hold(not has_left, f"{type(record).__name__} of {record.task}, which has left")


def _authority(task: TaskModel) -> str:
    state = "open" if task.is_open else "spent"
    return f"{task.fence} of {task.holder or 'nobody'} ({state}), on offer {task.offer or 'nothing'}"


SAFETY: tuple[type[Checker], ...] = (
    OneTaskPerKey,
    FencesGrow,
    OneHolder,
    OneResult,
    RejectedStaysRejected,
    DeadFences,
    CancelIsFinal,
    Absorbing,
    Generations,
    CompletedMeansConfirmed,
    OnlyTheHolder,
    Credit,
    TreeRules,
    GraceHolds,
    TimersNotEarly,
    HealthyKeepsLease,
    Chunks,
    OneAnswer,
    Bounded,
    EndsInOneStep,
    Entitled,
    Identified,
    MailPosted,
    RestartLetsGo,
    OnlyTheGoneAreForgotten,
    OnlyTheSettledLeave,
    OnlyClosedConflictsLeave,
    OnlyTheRecalledChange,
)
