"""What peers are told: only what is durable and true, and always the right reply to a late one."""

from __future__ import annotations

from typing import Any

from a2a.errors import ErrorCode
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import Frame
from a2a.protocol.messages import (
    Error,
    Message,
    Ok,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskDecline,
    TaskDelegate,
    TaskEventNotice,
    TaskFound,
    TaskHeartbeat,
    TaskLease,
    TaskOffer,
    TaskPage,
    TaskReport,
    TaskReview,
    TaskRevoke,
    TaskSettled,
    TaskVerdict,
    TaskWatch,
    TaskYield,
    Welcome,
)

from .court import Checker, Court, LifeChecker
from .model import ENDED, TaskModel

__all__ = ["TOLD"]


class _Told(Checker):
    """A checker of what peers take."""

    def durable(self, lsn: int, what: str) -> None:
        """Check that what somebody was told survives a crash."""
        self.hold(0 < lsn <= self.court.durable(), f"{what} (record {lsn}) was told, durable is {self.court.durable()}")

    def task(self, task: str, who: str) -> TaskModel:
        """Return a task that somebody was told of."""
        known = self.model.tasks.get(task)
        self.hold(known is not None, f"{who} was told of {task}, which is not in the ledger")
        assert known is not None, "just seen"
        return known


class CreatedIsThere(_Told):
    """If a delegator received `task.created`, the ledger contains that task, under that key."""

    name = "I2"
    notices = (TaskCreated,)

    def told(self, agent: str, message: TaskCreated, request: Message | None) -> None:
        task = self.task(message.task, agent)
        self.durable(task.lsn, f"{agent}: the creation of {task.id}")
        if isinstance(request, TaskDelegate):
            self.hold(task.key == request.key, f"{agent} asked for {request.key} and was told of {task.key}")
        self.hold(message.state in ("queued", *_STATES), f"{task.id} is in the state {message.state}")


_STATES = ("blocked", "disputed", "offered", "leased", "parked", "canceling", "reported", *ENDED)


class CreatedOnce(Checker):
    """Exactly one request is told that it created the task."""

    name = "I1c"
    requests = (TaskDelegate,)

    def answered(self, agent: str, message: TaskDelegate, reply: Message) -> None:
        if isinstance(reply, TaskCreated):
            fresh = self.model.tasks[reply.task].lsn > self.model.lsn - self.court.cause.records
            if reply.created:
                self.hold(fresh, f"{agent} was told that it created {reply.task}, which was there")
        elif isinstance(reply, Error):
            bad = reply.code == ErrorCode.IDEMPOTENCY_MISMATCH
            self.hold(not bad, f"{agent} sent the same specification, and: {reply.detail}")


class AdmittedIsThere(_Told):
    """If a worker received `admitted` or `duplicate`, the ledger holds exactly that report for that attempt."""

    name = "I3"
    notices = (TaskVerdict,)

    def told(self, agent: str, message: TaskVerdict, request: Message | None) -> None:
        task = self.task(message.task, agent)
        if message.verdict not in ("admitted", "duplicate"):
            return
        assert isinstance(request, TaskReport), "a verdict answers a report"
        outcome, digest, lsn = task.admitted.get(message.fence, ("nothing", "", 0))
        self.durable(lsn, f"{agent}: that its report under {message.fence} of {task.id} is {message.verdict}")
        same = (outcome, digest) == (request.outcome, request.result_hash)
        self.hold(same, f"{agent} reported {request.outcome} {request.result_hash}, the ledger has {outcome} {digest}")
        if outcome == "completed":
            held = [result for result in task.results.values() if result.fence == message.fence]
            self.hold(held and held[0].payload == request.payload, f"{task.id} has another result than {agent} sent")


class ToldIsTrue(_Told):
    """Every notice that a peer takes is durable, and says what the ledger says."""

    name = "R2"
    notices = (TaskOffer, TaskReview, TaskSettled, TaskAsk, TaskAnswer, TaskLease, TaskRevoke, TaskEventNotice, Ok)

    def told(self, agent: str, message: Any, request: Message | None) -> None:
        if isinstance(message, Ok):
            self._ok(agent, request)
            return
        task = self.task(message.task, agent)
        if isinstance(message, TaskOffer | TaskLease):
            self.durable(message.fence, f"{agent}: the attempt {message.fence} of {task.id}")
            self.hold(task.minted.get(message.fence) == agent, f"{agent} was told of {message.fence}, not its own")
        elif isinstance(message, TaskReview):
            result = task.results[message.rev]
            self.durable(result.lsn, f"{agent}: the result of {task.id}")
            same = (result.digest, result.payload) == (message.result_hash, message.payload)
            self.hold(same, f"{agent} reviews another result of {task.id} than was admitted")
        elif isinstance(message, TaskSettled):
            self._settled(agent, message, task)
        elif isinstance(message, TaskAsk):
            ask = task.asks[message.ask_no]
            self.durable(ask.lsn, f"{agent}: question {message.ask_no} of {task.id}")
            self.hold(ask.payload == message.payload, f"{agent} is asked something else than {task.id} asked")
        elif isinstance(message, TaskAnswer):
            ask = task.asks[message.ask_no]
            self.durable(ask.answered_lsn, f"{agent}: the answer to question {message.ask_no} of {task.id}")
            self.hold(ask.answer == message.payload, f"{agent} got another answer than is in force for {task.id}")
        elif isinstance(message, TaskEventNotice) and message.event != "progress":
            self.hold(message.generation <= len(task.events), f"{task.id} has no generation {message.generation} yet")
            lsn, state = task.events[message.generation - 1]
            self.durable(lsn, f"{agent}: generation {message.generation} of {task.id}")
            self.hold(state == message.state, f"{task.id} {message.generation} is {state}, told was {message.state}")

    def _settled(self, agent: str, message: TaskSettled, task: TaskModel) -> None:
        self.durable(task.settled_lsn, f"{agent}: the end of {task.id}")
        end = task.settled
        assert end is not None, "its record is durable"
        self.hold(end.state == message.state, f"{task.id} is {end.state}, {agent} was told {message.state}")
        if end.state == "completed":
            result = task.results[task.rev]
            self.hold(message.result_hash == result.digest, f"{agent} was told of another result of {task.id}")
            told = message.payload is None or message.payload == result.payload
            self.hold(told, f"{agent} got another result of {task.id} than was confirmed")

    def _ok(self, agent: str, request: Message | None) -> None:
        if isinstance(request, TaskCancel):
            task = self.task(request.task, agent)
            asked = task.cancels.get(request.mode) or min(task.cancels.values(), default=task.settled_lsn)
            self.durable(asked, f"{agent}: that {task.id} is canceled or about to be")
        elif isinstance(request, TaskConfirm):
            task = self.task(request.task, agent)
            if request.verdict == "accept":
                self.durable(task.settled_lsn, f"{agent}: that {task.id} is settled")
            else:
                self.hold(task.rev > request.rev or task.has_ended, f"{agent} rejected {task.id}, and it stands")
        elif isinstance(request, TaskAnswer):
            ask = self.task(request.task, agent).asks[request.ask_no]
            self.durable(ask.answered_lsn, f"{agent}: that question {request.ask_no} of {request.task} is answered")
            self.hold(ask.answer == request.payload, f"{agent} was told its answer counts, and another one does")
        elif isinstance(request, TaskAsk):
            ask = self.task(request.task, agent).asks[request.ask_no]
            self.durable(ask.lsn, f"{agent}: that question {request.ask_no} of {request.task} is asked")
        elif isinstance(request, TaskArtifact):
            newest = self.task(request.task, agent).chunks.get((request.fence, request.artifact_id), -1)
            self.hold(request.chunk_no <= newest, f"{agent} was told that {request.task} has its chunk")
        elif isinstance(request, TaskYield | TaskDecline):
            task = self.task(request.task, agent)
            over = request.fence in task.dead or (task.lapsed and task.fence == request.fence)
            self.hold(over, f"{agent} gave {request.fence} of {task.id} back, and it lives")


class RightWord(Checker):
    """The table of 2.6: which reply a report, a heartbeat or any other message under a fence gets."""

    name = "L8"
    requests = (TaskReport, TaskHeartbeat, TaskAccept, TaskArtifact, TaskAsk, TaskYield, TaskDecline)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._expected: tuple[str, ...] = ()

    def asked(self, agent: str, message: Any) -> None:
        self._expected = self._words(agent, message)

    def answered(self, agent: str, message: Any, reply: Message) -> None:
        word = reply.kind
        if isinstance(reply, TaskVerdict):
            word = reply.verdict
        elif isinstance(reply, Error):
            word = reply.code
        elif isinstance(reply, TaskRevoke):
            word = f"revoke {reply.reason}"
        expected = self._expected
        said = f"{agent} said {message.kind} on {message.task} {message.fence}"
        self.hold(word in expected, f"{said}: {word} for {expected}")

    def _words(self, agent: str, message: Any) -> tuple[str, ...]:
        task = self.model.tasks.get(message.task)
        beats = isinstance(message, TaskHeartbeat)
        if task is None:
            return ("revoke unknown",) if beats else ("not_found",)
        fence = message.fence
        if task.minted.get(fence) != agent:
            if beats:
                return ("revoke settled",) if task.has_ended else ("revoke not_holder",)
            return ("not_holder",)
        offered = task.offer == fence
        current = task.fence == fence and task.is_open
        if isinstance(message, TaskReport):
            if message.result_hash != content_hash({"outcome": message.outcome}, message.payload):
                return ("invalid",)
            return (self._verdict(task, message, offered, current),)
        if isinstance(message, TaskYield):
            return ("ok",)
        if isinstance(message, TaskDecline):
            return ("conflict",) if current and not task.lapsed and task.state != "leased" else ("ok",)
        can_come_back = not task.lapsed or (not task.evicted and task.revivals < task.bounds["revivals"])
        if offered or (current and can_come_back):
            if isinstance(message, TaskHeartbeat | TaskAccept):
                return ("task.lease",)
            return ("ok", "quota", "conflict")
        if beats:
            return ("revoke settled",) if task.has_ended else ("revoke superseded",)
        if isinstance(message, TaskAsk) and message.ask_no in task.asks:
            return ("ok", "stale")  # a repeated question is answered as before
        if isinstance(message, TaskArtifact) and message.chunk_no <= task.chunks.get((fence, message.artifact_id), -1):
            return ("ok", "stale")
        return ("stale",)

    def _verdict(self, task: TaskModel, message: TaskReport, offered: bool, current: bool) -> str:
        known = task.admitted.get(message.fence)
        if known is not None:
            return "duplicate" if known[:2] == (message.outcome, message.result_hash) else "late"
        if current and task.state == "canceling" and task.cancel == "kill" and message.outcome == "completed":
            return "late"
        if offered or current:
            return "admitted"
        return "late" if task.fence == message.fence else "stale"


class CancelAnswer(Checker):
    """A canceler is told the truth: canceled, about to be, or ended otherwise (I11)."""

    name = "I11"
    requests = (TaskCancel,)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._state: str | None = None

    def asked(self, agent: str, message: TaskCancel) -> None:
        task = self.model.tasks.get(message.task)
        self._state = task.state if task is not None else None

    def answered(self, agent: str, message: TaskCancel, reply: Message) -> None:
        if self._state is None:
            return
        task = self.model.tasks[message.task]
        ended_otherwise = self._state in ("completed", "failed", "rejected")
        if isinstance(reply, Ok):
            self.hold(not ended_otherwise, f"{task.id} was {self._state}, and its cancel was ok")
            expected = {"canceled": ("canceled",), "pending": ("canceling",), "too_late": ("reported", "disputed")}
            is_so = task.state in expected[reply.will or ""]
            self.hold(is_so, f"{task.id} is {task.state}, its canceler was told {reply.will}")
        elif isinstance(reply, Error) and reply.code != ErrorCode.FORBIDDEN:
            self.hold(ended_otherwise, f"{task.id} was {self._state}, and its cancel was refused: {reply.detail}")


class OffersCarryAll(Checker):
    """Every offer carries all answers so far, all feedback, all sub-tasks (I22); a dead one is told as a revoke."""

    name = "I22"
    mail = (TaskOffer,)

    def posted(self, agent: str, message: TaskOffer, connection: int) -> None:
        task = self.model.tasks[message.task]
        alive = message.fence == task.offer or (task.is_open and message.fence == task.fence)
        self.hold(alive, f"{agent} is offered {task.id} under {message.fence}, which is dead")
        self.hold(message.granted == (message.fence != task.offer), f"{task.id}: granted is {message.granted}")
        answers = {ask_no: ask.answer for ask_no, ask in task.asks.items() if ask.answer is not None}
        told = {answer.ask_no: answer.payload for answer in message.answers}
        self.hold(told == answers, f"{task.id} has answers {sorted(answers)}, the offer to {agent} has {sorted(told)}")
        self.hold(message.rev == task.rev, f"{task.id} wants revision {task.rev}, the offer says {message.rev}")
        self.hold(len(message.feedback) == task.reworks, f"{task.id} was sent back {task.reworks} times")
        self.hold([child.task for child in message.children] == task.children, f"{task.id} has {task.children}")
        number = list(task.minted).index(message.fence) + 1
        self.hold(message.attempt == number, f"{task.id}: {message.fence} is attempt {number}, not {message.attempt}")


class MailInOrder(LifeChecker):
    """Mail comes in order without gaps, and entries an agent has not got are not skipped when it comes back."""

    name = "I29"
    mail = (TaskOffer, TaskReview, TaskSettled, TaskAsk, TaskAnswer, TaskRevoke)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._next: dict[int, int] = {}
        """Connection to the next entry."""
        self._got: dict[tuple[str, int], int] = {}
        """Agent, and how often its mailbox was forgotten, to the newest entry that any of its processes took.

        A crash may also lose that a mailbox was forgotten, and then what was taken before counts again.
        """

    def welcomed(self, connection: int, agent: str, welcome: Welcome) -> None:
        self._next[connection] = welcome.next_mseq
        got = self._got.get((agent, self.model.forgotten.get(agent, 0)), 0)
        skipped = welcome.next_mseq - 1 - got
        self.hold(skipped <= 0, f"{agent} has mail up to {got}, and its mailbox goes on with {welcome.next_mseq}")

    def sent(self, connection: int, agent: str, frame: Frame) -> None:
        due = self._next[connection]
        self.hold(frame.mseq == due, f"{agent} is sent entry {frame.mseq}, {due} comes next")
        self._next[connection] = due + 1
        seat = self.model.seats.get(agent)
        if seat is not None and seat.connection == connection:
            flying = due - seat.acked
            self.hold(
                flying <= seat.frames, f"FLOW-1: {agent} has {flying} entries unacknowledged, {seat.frames} may be"
            )

    def took(self, agent: str, frame: Frame) -> None:
        mailbox = (agent, self.model.forgotten.get(agent, 0))
        self._got[mailbox] = max(self._got.get(mailbox, 0), frame.mseq or 0)


class WatchedInOrder(LifeChecker):
    """Events of a watched task come in the order of their generations, each once, without a gap (WATCH-2)."""

    name = "WATCH"
    requests = (TaskWatch,)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._cursors: dict[tuple[int, str], int] = {}

    def answered(self, agent: str, message: TaskWatch, reply: Message) -> None:
        if isinstance(reply, Ok) and not message.stop:
            newest = len(self.model.tasks[message.task].events)
            self._cursors[self.court.cause.connection, message.task] = min(message.from_gen, newest)

    def happened(self, connection: int, event: TaskEventNotice) -> None:
        if event.event == "progress":
            return
        due = self._cursors.get((connection, event.task), 0) + 1
        self.hold(event.generation == due, f"{event.task}: generation {event.generation} is sent, {due} comes next")
        self._cursors[connection, event.task] = due


class Outside(Checker):
    """Seen from outside, a task never goes from WORKING to SUBMITTED, and nothing follows its end."""

    name = "I30"
    notices = (TaskFound, TaskPage)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._seen: dict[str, tuple[int, str]] = {}

    def told(self, agent: str, message: TaskFound | TaskPage, request: Message | None) -> None:
        for view in [message.view] if isinstance(message, TaskFound) else message.tasks:
            self._view(view)
        if isinstance(message, TaskFound):
            self._content(message)

    def _view(self, view: dict[str, Any]) -> None:
        task = self.model.tasks[view["id"]]
        generation, shown = view["metadata"]["generation"], view["status"]["state"].removeprefix("TASK_STATE_")
        before, was = self._seen.get(task.id, (0, "SUBMITTED"))
        if generation <= before:
            return  # an older reading that took longer
        self._seen[task.id] = (generation, shown)
        if shown == "SUBMITTED":
            self.hold(was == "SUBMITTED", f"{task.id} was {was} and is SUBMITTED again")
        self.hold(was.lower() not in ENDED, f"{task.id} has ended as {was} and is {shown}")
        state = task.events[generation - 1][1]
        worked = any(state == "leased" for _, state in task.events[:generation])
        fits = {
            "queued": "WORKING" if worked else "SUBMITTED",
            "offered": "WORKING" if worked else "SUBMITTED",
            "parked": "INPUT_REQUIRED",
        }.get(state, state.upper() if state in ENDED else "WORKING")
        self.hold(fits == shown, f"{task.id} is {state} in generation {generation} and shows {shown}")

    def _content(self, message: TaskFound) -> None:
        task = self.model.tasks[message.task]
        for artifact in message.artifacts:
            whose = artifact["fence"]
            if artifact["discarded"]:
                continue
            self.hold(whose in task.minted, f"{task.id}: {artifact['artifactId']} is of {whose}")
            result = task.results.get(task.rev)
            if task.has_ended and task.settled and task.settled.state == "completed" and result is not None:
                good = whose == result.fence
                self.hold(good, f"I20: {task.id} completed under {result.fence} and shows an artifact of {whose}")


class Kept(Checker):
    """Refusals are data: a late report with something new to say is kept (R8)."""

    name = "R8"
    requests = (TaskReport,)

    def answered(self, agent: str, message: TaskReport, reply: Message) -> None:
        if not isinstance(reply, TaskVerdict) or reply.verdict not in ("late", "stale", "not_holder"):
            return
        kept, minted = self.model.tasks[message.task].kept, self.model.tasks[message.task].minted
        mine = (agent, message.fence, message.result_hash) in kept
        foreign = sum(minted.get(fence) != whose for whose, fence, _ in kept)
        full = len(kept) >= self.court.policy.evidence_max or (
            reply.verdict == "not_holder" and foreign >= self.court.policy.evidence_foreign_max
        )
        self.hold(mine or full, f"{agent}'s report under {message.fence} of {message.task} is not kept")


TOLD: tuple[type[Checker], ...] = (
    CreatedIsThere,
    CreatedOnce,
    AdmittedIsThere,
    ToldIsTrue,
    RightWord,
    CancelAnswer,
    OffersCarryAll,
    MailInOrder,
    WatchedInOrder,
    Outside,
    Kept,
)
