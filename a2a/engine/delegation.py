"""The delegator's machine: the tasks a peer delegated, and what became of each (spec TASK, ACCEPT, WATCH).

Pure: replies and notices in, changed `Delegation`s out. The client's shell wakes whoever waits for one. Clients use it,
and agents for their sub-tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..protocol.canonical import result_hash
from ..protocol.messages import (
    ConflictResolved,
    Error,
    Message,
    Ok,
    StaleBasis,
    TaskAnswer,
    TaskAsk,
    TaskCancel,
    TaskConfirm,
    TaskCreated,
    TaskDelegate,
    TaskEventNotice,
    TaskFound,
    TaskGet,
    TaskReview,
    TaskSettled,
    TaskSteer,
    TaskWatch,
)
from ..protocol.session import PeerSession, Reply

__all__ = ["Delegation", "Delegations", "Review"]

_ENDED = frozenset({"completed", "failed", "canceled", "rejected"})
_NOT_THERE = frozenset({"gone", "not_found"})
"""Error codes about a known task that mean that no further notice will come about it (spec READ-6)."""

_GIVEN_UP = "nobody waits for it any more"

_EVENTS_MAX = 256
"""Events kept until they are taken. Beyond these, new progress replaces progress that came just before it."""


@dataclass(slots=True)
class Review:
    """A result, with what a confirmation has to name."""

    rev: int
    result_hash: str
    payload: bytes
    agent: str
    unseen_steer: bool = False
    """It was written before the delegator's newest word was seen, and waits for a word whatever was agreed."""
    stale_basis: list[StaleBasis] = field(default_factory=list)
    """Decisions it relies on that have changed since; it waits for a word then too."""
    overruled: str = ""
    """The conflict decided against it, or empty."""
    generation: int | None = None
    """The task's generation when this was known of its result; an accept names it (spec ACCEPT-8)."""

    @property
    def is_what_its_hash_says(self) -> bool:
        """Whether the payload has the hash that is named: nobody confirms any other (spec ACCEPT-3)."""
        return result_hash("completed", self.payload) == self.result_hash


@dataclass(slots=True, eq=False)  # two that watch the same task differ, however alike they are
class Delegation:
    """One delegated task, as its delegator knows it."""

    request: TaskDelegate
    request_id: str
    task: str | None = None
    created: bool | None = None
    """Whether this delegation made the task; False: the same key made it before."""
    context_id: str = ""
    refused: Error | None = None
    """Set if the coordinator would not create the task, or no longer has it."""
    review: Review | None = None
    """The newest result."""
    settled: TaskSettled | None = None
    asks: dict[int, TaskAsk] = field(default_factory=dict)
    """Questions without an answer, by number."""
    events: list[TaskEventNotice] = field(default_factory=list)
    """Events not taken yet; only while watched."""
    is_watched: bool = False
    unwatched: Error | None = None
    """Why no events come, if the coordinator refused the watch."""
    generation: int = 0
    """The newest generation seen in an event: a watch resumes here on a new connection."""

    final_event: bool = False
    """Whether the event that ended the task was seen."""
    is_given_up: bool = False
    """Whether the task is to be canceled as soon as its creation is known."""

    @property
    def has_ended(self) -> bool:
        """Whether the task is over, as far as its delegator was told."""
        return self.settled is not None or self.refused is not None

    @property
    def is_over(self) -> bool:
        """Whether no further event will come."""
        return self.refused is not None or self.final_event


class Delegations:
    """The tasks one peer delegated and still cares about."""

    def __init__(self, session: PeerSession) -> None:
        self.session = session
        self._by_request: dict[str, Delegation] = {}
        self._by_task: dict[str, list[Delegation]] = {}
        self._looked_up: set[str] = set()
        """Tasks whose look-up has no answer yet: without a connection, a second one would only queue beside it."""

    @property
    def are_open(self) -> bool:
        """Whether somebody waits for news of a task."""
        return bool(self._by_request or self._by_task)

    @property
    def are_given_up(self) -> bool:
        """Whether a task was given up whose creation is not known yet."""
        return any(delegation.is_given_up for delegation in self._by_request.values())

    # What the delegator says ------------------------------------------------------------------------------------------

    def delegate(self, message: TaskDelegate, *, slack_ms: int | None = None) -> Delegation:
        """Have a task done. The returned record changes as news arrive; forget() it when nobody cares any more.

        Args:
            message: the delegation.
            slack_ms: how long the caller can do without knowing that the task is there, in milliseconds.
        """
        delegation = Delegation(message, self.session.request(message, slack_ms=slack_ms))
        self._by_request[delegation.request_id] = delegation
        return delegation

    def follow(self, task: str, from_gen: int = 0) -> Delegation:
        """Follow a task that somebody else delegated; the caller sends the first watch itself, made by `watching`."""
        request = TaskDelegate(key="-", spec={"skill": "-"})
        delegation = Delegation(request, "", task, created=False, is_watched=True, generation=from_gen)
        self._by_task.setdefault(task, []).append(delegation)
        return delegation

    def watch(self, delegation: Delegation) -> None:
        """Ask for all events of the task, from its beginning."""
        delegation.is_watched = True
        if delegation.task is not None:
            self._watch(delegation.task)

    def watching(self, task: str) -> TaskWatch:
        """Return the watch request for a task. A connection has one: it begins at the lowest generation needed."""
        waiting = (known for known in self._by_task.get(task, ()) if known.is_watched and not known.is_over)
        return TaskWatch(task, from_gen=min((known.generation for known in waiting), default=0))

    def look_up(self, delegation: Delegation) -> None:
        """Ask how the task stands: if another process has delegated it since, notices go to that one (spec TASK-7)."""
        if delegation.task is not None and not delegation.has_ended and delegation.task not in self._looked_up:
            self._looked_up.add(delegation.task)
            self.session.request(TaskGet(delegation.task, content=False))

    def confirm(
        self,
        delegation: Delegation,
        verdict: Literal["accept", "reject"] = "accept",
        *,
        rework: bool = False,
        reason_code: str = "",
        feedback: bytes | None = None,
        read: Review | None = None,
    ) -> str | None:
        """Confirm exactly the result that was seen, and return the request's id; None if there is no result.

        Args:
            delegation: which task.
            verdict: the word.
            rework: whether another revision is wanted.
            reason_code: why it is rejected.
            feedback: what has to change.
            read: the result that was seen; by default the newest. Another may have come since.
        """
        review = read or delegation.review
        if review is None or delegation.task is None:
            return None
        if_gen = review.generation if verdict == "accept" else None
        request = self.session.request(
            TaskConfirm(delegation.task, review.rev, review.result_hash, verdict, rework, reason_code, feedback, if_gen)
        )
        if verdict == "reject" and delegation.review is review:
            delegation.review = None
        return request

    def cancel(self, delegation: Delegation, mode: Literal["coop", "kill", "skip"], reason: str) -> str | None:
        """Ask for the task to end, and return the request's id; None if the task is not created yet."""
        if delegation.task is None:
            return None
        return self.session.request(TaskCancel(delegation.task, mode, reason))

    def answer(self, delegation: Delegation, ask_no: int, payload: bytes) -> str | None:
        """Answer a question, and return the request's id; None if the task is not created yet."""
        if delegation.task is None:
            return None
        request = self.session.request(TaskAnswer(delegation.task, ask_no, payload))
        delegation.asks.pop(ask_no, None)
        return request

    def steer(
        self, delegation: Delegation, key: str, payload: bytes, mode: Literal["enqueue", "interrupt"]
    ) -> str | None:
        """Say a word to the work under way, and return the request's id; None if the task is not created yet."""
        if delegation.task is None:
            return None
        return self.session.request(TaskSteer(delegation.task, key, payload, mode=mode))

    def give_up(self, delegation: Delegation) -> None:
        """Cancel a task whose key nobody else has; one that may not be created yet is canceled as soon as it is known.

        To stop following it, `forget` it as well.
        """
        if delegation.task is None:
            delegation.is_given_up = self.session.was_sent(delegation.request_id)
        elif not delegation.has_ended:
            self.cancel(delegation, "coop", _GIVEN_UP)

    def forget(self, delegation: Delegation) -> None:
        """Stop following a task; it goes on without being heard."""
        if delegation.is_given_up:
            return  # the answer is still awaited, and asked for again
        self._by_request.pop(delegation.request_id, None)
        if delegation.task is None:
            self.session.forget(delegation.request_id)
            return
        others = self._by_task.get(delegation.task, [])
        if delegation in others:
            others.remove(delegation)
        if not others:
            self._by_task.pop(delegation.task, None)
            if delegation.is_watched and not delegation.has_ended:
                self.session.request(TaskWatch(delegation.task, stop=True))

    # What the coordinator says ----------------------------------------------------------------------------------------

    def on_welcome(self) -> None:
        """Watch again: a watch belongs to a connection, the cursor to the delegator."""
        for task, delegations in self._by_task.items():
            if any(delegation.is_watched and not delegation.is_over for delegation in delegations):
                self._watch(task)

    def on_reply(self, reply: Reply) -> list[Delegation]:
        """Take a reply, and return the delegations it changed."""
        message = reply.message
        if isinstance(reply.request, TaskDelegate):
            delegation = self._by_request.pop(reply.re, None)
            return [] if delegation is None else self._created(delegation, message)
        if isinstance(reply.request, TaskGet):
            self._looked_up.discard(reply.request.task)
        if isinstance(reply.request, TaskGet) and isinstance(message, TaskFound):
            if reply.request.content:
                return self._found(message)
            if self._has_news(message):
                self.session.request(TaskGet(message.task))
            elif message.view.get("metadata", {}).get("state") in _ENDED:
                return self._found(message)  # with the result that is already here: its content is not fetched again
        if isinstance(reply.request, TaskGet | TaskWatch) and isinstance(message, Error):
            return self._untold(reply.request, message)
        if isinstance(reply.request, TaskConfirm) and isinstance(message, Ok):
            return self._said(reply.request)
        return []

    def on_notice(self, message: Message, re: str | None) -> list[Delegation]:
        """Take a notice, and return the delegations it changed; notices not about delegated tasks are ignored."""
        if isinstance(message, TaskReview):
            changed = self._by_task.get(message.task, [])
            for delegation in changed:
                if delegation.review is None or delegation.review.rev <= message.rev:
                    delegation.review = Review(
                        message.rev,
                        message.result_hash,
                        message.payload,
                        message.agent,
                        message.unseen_steer,
                        message.stale_basis,
                        generation=message.generation,
                    )
            return list(changed)
        if isinstance(message, TaskSettled):
            return self._settled(message)
        if isinstance(message, TaskAsk):
            changed = self._by_task.get(message.task, [])
            for delegation in changed:
                delegation.asks[message.ask_no] = message
            return list(changed)
        if isinstance(message, TaskEventNotice):
            return self._happened(message)
        if isinstance(message, ConflictResolved):
            self._decided(message)
        return []

    def _created(self, delegation: Delegation, message: Message) -> list[Delegation]:
        if isinstance(message, Error):
            delegation.refused = message
        elif isinstance(message, TaskCreated):
            delegation.task, delegation.created = message.task, message.created
            delegation.context_id = message.context_id
            if delegation.is_given_up:
                self.cancel(delegation, "coop", _GIVEN_UP)
                return []
            self._by_task.setdefault(message.task, []).append(delegation)
            if not message.created:
                # Notices so far went to the first delegator: look the task up.
                self.session.request(TaskGet(message.task))
            if delegation.is_watched:
                self._watch(delegation.task)
        return [delegation]

    def _said(self, word: TaskConfirm) -> list[Delegation]:
        """Note that a result counts as rejected: other delegations of the task may wait for the next one."""
        if word.verdict == "accept":
            return []
        changed = []
        for delegation in self._by_task.get(word.task, ()):
            if not delegation.has_ended and delegation.review is not None and delegation.review.rev <= word.rev:
                delegation.review = None
                changed.append(delegation)
        return changed

    def _untold(self, request: TaskGet | TaskWatch, error: Error) -> list[Delegation]:
        """Note that no more news of a task will come, so that those who wait for news learn it."""
        known = [delegation for delegation in self._by_task.get(request.task, ()) if not delegation.is_over]
        if error.code in _NOT_THERE:
            for delegation in known:
                delegation.refused = error
            return known
        if isinstance(request, TaskGet) or request.stop:
            return []  # it may be looked up again
        watching = [delegation for delegation in known if delegation.is_watched]
        for delegation in watching:
            delegation.is_watched, delegation.unwatched = False, error
        return watching

    def _has_news(self, message: TaskFound) -> bool:
        """Tell whether a task has a result, a question or an end whose content is not known here."""
        metadata = message.view.get("metadata", {})
        state, rev, result_hash = metadata.get("state"), metadata.get("rev", 0), metadata.get("resultHash")
        return any(
            (state in _ENDED and (delegation.review is None or delegation.review.result_hash != result_hash))
            or (state == "reported" and (delegation.review is None or delegation.review.rev < rev))
            or (
                delegation.review is not None and metadata.get("overruled", "") not in ("", delegation.review.overruled)
            )
            or (state == "parked" and not delegation.asks)
            for delegation in self._by_task.get(message.task, ())
            if not delegation.has_ended
        )

    def _found(self, message: TaskFound) -> list[Delegation]:
        metadata = message.view.get("metadata", {})
        state, rev, result_hash = metadata.get("state"), metadata.get("rev", 0), metadata.get("resultHash")
        changed = self._by_task.get(message.task, [])
        for delegation in changed:
            if delegation.has_ended:
                continue
            if result_hash is not None and message.payload is not None and state in ("reported", "completed"):
                is_late = bool(metadata.get("unseenSteer"))
                stale = [
                    StaleBasis(item["key"], item["seen"], item["current"]) for item in metadata.get("staleBasis", ())
                ]
                agent, overruled = metadata.get("agent", ""), metadata.get("overruled", "")
                delegation.review = Review(
                    rev, result_hash, message.payload, agent, is_late, stale, overruled, message.generation
                )
            for ask in message.asks:
                if "answer" not in ask and state not in _ENDED:
                    payload = ask["payload"]
                    question = payload if isinstance(payload, bytes) else str(payload).encode()
                    delegation.asks[ask["askNo"]] = TaskAsk(message.task, ask["askNo"], question)
            if state in _ENDED:
                delegation.settled = TaskSettled(
                    message.task,
                    message.generation,
                    state,
                    metadata.get("reason", ""),
                    metadata.get("detail", ""),
                    rev,
                    result_hash,
                    metadata.get("confirmedBy"),
                    metadata.get("agent"),
                    message.payload,
                )
        return list(changed)

    def _settled(self, message: TaskSettled) -> list[Delegation]:
        changed, is_unread = self._by_task.get(message.task, []), False
        for delegation in changed:
            if message.payload is not None and message.result_hash is not None:
                delegation.review = Review(message.rev, message.result_hash, message.payload, message.agent or "")
            review = delegation.review
            if message.state == "completed" and (review is None or review.result_hash != message.result_hash):
                is_unread = True  # it ends with a result that came to an earlier delegator
                continue
            delegation.settled = message
            delegation.asks.clear()
        if is_unread:
            self.session.request(TaskGet(message.task))
        return list(changed)

    def _decided(self, message: ConflictResolved) -> None:
        """Note which results were overruled: silence does not accept them (spec CONFLICT-15)."""
        for task in message.dissent if message.outcome != "moot" else ():
            for delegation in self._by_task.get(task, ()):
                if delegation.review is not None:
                    delegation.review.overruled = message.conflict

    def _happened(self, message: TaskEventNotice) -> list[Delegation]:
        changed = []
        for delegation in self._by_task.get(message.task, []):
            if not delegation.is_watched:
                continue
            if message.event != "progress":
                if message.generation != delegation.generation + 1:
                    # A repeat; or another's watch began after this one's generation, and this one's is on its way.
                    continue
                delegation.generation = message.generation
                delegation.final_event = message.state in _ENDED
            waiting = delegation.events
            if message.event == "progress" and len(waiting) >= _EVENTS_MAX and waiting[-1].event == "progress":
                # It may come with every heartbeat, and a caller that left its watch for the result takes none.
                waiting[-1] = message
            else:
                waiting.append(message)
            changed.append(delegation)
        return changed

    def _watch(self, task: str) -> None:
        self.session.request(self.watching(task))
