"""The worker's machine: the attempts an agent holds, their heartbeats, and what stops them (spec OFFER, LEASE).

Pure, like the coordinator: notices and replies in; `Start`, `Stop`, `Answered` and `Steered` out. Everything it says
goes through the session. It knows nothing of handlers or threads; the agent's shell runs those.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Literal

from ..protocol.canonical import NUMBER_MAX, result_hash
from ..protocol.messages import (
    Answer,
    ArtifactRef,
    AttemptError,
    Error,
    HeldStill,
    Message,
    Ok,
    PatchRef,
    Seen,
    Steer,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCheckpoint,
    TaskDecline,
    TaskHandoff,
    TaskHeartbeat,
    TaskLease,
    TaskOffer,
    TaskReport,
    TaskRevoke,
    TaskSteer,
    TaskVerdict,
    TaskYield,
    Welcome,
)
from ..protocol.session import REPLY_SLACK_MS, PeerSession, Reply

__all__ = [
    "DETAIL_MAX",
    "NOTE_MAX",
    "Answered",
    "Attempt",
    "AttemptState",
    "Start",
    "Steered",
    "Stop",
    "Work",
    "effect_key",
]

_WATCHDOG = 0.9
"""Share of a lease, from the time its renewal was sent, after which the worker takes it for lapsed."""
_BASIS_MAX = 1_000
"""Most keys in one report (spec CTX-10)."""
DETAIL_MAX = 8_000
"""Most characters in the detail of a failure."""
NOTE_MAX = 2_000
"""Most characters in the note of an attempt's progress."""
_UNREAD = frozenset({"malformed", "too_large"})
"""Error codes that say that the coordinator could not read a last word: it knows no more than before."""
_NOTE_EVERY_MS = 100
"""Progress is sent at most this often; the latest wins."""


class AttemptState(Enum):
    """Where an attempt stands, as the worker sees it."""

    ASKING = auto()
    """Offered but not granted: the worker waits to hear that the offer still stands."""
    RUNNING = auto()
    ENDING = auto()
    """Reported, yielded or declined; the answer is on its way."""


@dataclass(slots=True)
class Attempt:
    """One attempt at one task, held by this agent. Times are on the shell's own clock, in milliseconds."""

    offer: TaskOffer
    state: AttemptState
    lease_until: int
    """The worker acts on the lease only until then; the coordinator ends it later."""
    next_beat: int
    beat_sent: dict[str, int] = field(default_factory=dict)
    """Heartbeats and accepts without an answer yet, with the time each was sent."""
    progress_no: int = 0
    progress_bp: int | None = None
    note: str | None = None
    told_no: int = 0
    """The newest progress sent on this connection."""
    chunks: dict[str, int] = field(default_factory=dict)
    """Artifact to the number of its next chunk."""
    hashes: dict[str, Any] = field(default_factory=dict)
    """Artifact to the running hash of its chunks."""
    digests: dict[str, str] = field(default_factory=dict)
    """Hash of each artifact that the coordinator has whole: the hashes go with the result."""
    cp_no: int = 0
    """Number of the checkpoint sent last."""
    cp_kept: int = 0
    """Number of the newest checkpoint that the coordinator said it keeps."""
    steer_no: int = 0
    """Number of the delegator's newest word that the handler has taken."""
    basis: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """Key of the task's context to (newest revision the handler has seen, whether it is a decision)."""
    patches: list[PatchRef] = field(default_factory=list)
    """What its result patches."""
    usage: dict[str, int] = field(default_factory=dict)
    """What the attempt has used so far."""
    waits: int = 0
    """How many sub-tasks the attempt waits for now: while there are any, its slot is free."""
    slot: Literal["held", "released"] = "held"
    """The slot as the newest heartbeat told it."""
    is_plain: bool = False
    """Whether its last word was refused, and a plainer one sent."""
    hand_offs: int = 0
    """Handoffs without an answer yet: if they are refused, the attempt goes on."""
    is_deserted: bool = False
    """Whether the handler did not wait for the answer to a handoff, and does not know how it ended."""
    last_word: TaskReport | TaskYield | TaskDecline | None = None
    """The last word said while a handoff awaited its answer: it counts if the handoff is refused."""

    @property
    def is_at_work(self) -> bool:
        """Whether its handler may have to hear something: also during a handoff, when the attempt may go on."""
        return self.state is AttemptState.RUNNING or self.hand_offs > 0

    @property
    def task(self) -> str:
        """The task's id."""
        return self.offer.task

    @property
    def fence(self) -> int:
        """The attempt's fence."""
        return self.offer.fence


@dataclass(slots=True)
class Start:
    """Begin work on this attempt."""

    attempt: Attempt


@dataclass(slots=True)
class Stop:
    """End work on this attempt: it lost its authority, or somebody wants it to end."""

    attempt: Attempt
    reason: str
    mode: Literal["coop", "kill", "skip"]
    grace_ms: int
    """How long the attempt may take to wind down and report; 0: nothing it says counts any longer."""


@dataclass(slots=True)
class Answered:
    """A question of this attempt was answered."""

    attempt: Attempt
    ask_no: int
    payload: bytes


@dataclass(slots=True)
class Steered:
    """The delegator said a word to this attempt."""

    attempt: Attempt
    steer_no: int
    payload: bytes


Event = Start | Stop | Answered | Steered


def effect_key(task: str, rev: int, step: str, scope: str = "") -> str:
    """Return a step's key for outside effects that recognise repeats: the same in every attempt (spec FENCE-8).

    Args:
        task: the task's id.
        rev: its revision.
        step: a name for the step.
        scope: the `effectScope` of its offers.
    """
    told = f"{task}\n{rev}\n{step}"
    return hashlib.sha256((f"{scope}\n{told}" if scope else told).encode()).hexdigest()


class Work:
    """The attempts of one agent."""

    def __init__(self, session: PeerSession) -> None:
        self.session = session
        self.attempts: dict[tuple[str, int], Attempt] = {}
        self.is_draining = False
        self._due: int | None = None
        """No heartbeat is due earlier; None: no attempt has one due. Kept because an agent may have thousands of
        attempts, and asks with every message that it gets or sends."""

    def held(self) -> list[HeldStill]:
        """Name the attempts still at work, for the hello."""
        return [
            HeldStill(attempt.task, attempt.fence, attempt.progress_no, attempt.offer.proof)
            for attempt in self.attempts.values()
            if attempt.state is not AttemptState.ASKING
        ]

    # What the coordinator says ----------------------------------------------------------------------------------------

    def on_notice(self, message: Message, re: str | None, now: int) -> list[Event]:
        """Take a notice; notices that are not about attempts are ignored."""
        if isinstance(message, TaskOffer):
            return self._offered(message, now)
        if isinstance(message, TaskLease):
            return self._renewed(message, re)
        if isinstance(message, TaskRevoke):
            return self._revoked(message)
        if isinstance(message, TaskAnswer | TaskSteer):
            return self._told(message)
        return []

    def on_reply(self, reply: Reply, now: int) -> list[Event]:
        """Take the answer to a request of an attempt."""
        request, message = reply.request, reply.message
        if isinstance(request, TaskAccept):
            attempt = self.attempts.get((request.task, request.fence))
            if attempt is None or attempt.state is not AttemptState.ASKING:
                return []
            if isinstance(message, TaskLease):
                sent = attempt.beat_sent.pop("accept", now)
                attempt.state = AttemptState.RUNNING
                attempt.lease_until = sent + int(message.lease_ms * _WATCHDOG)
                self._beat_at(attempt, now + attempt.offer.heartbeat_ms)
                return [Start(attempt)]
            del self.attempts[request.task, request.fence]  # the offer no longer stood
            return []
        if isinstance(request, TaskReport | TaskYield | TaskDecline):
            self._ended(request, message)
            return []
        if isinstance(request, TaskHandoff):
            return self._handed_on(request, message)
        if isinstance(request, TaskArtifact) and request.digest is not None and isinstance(message, Ok):
            attempt = self.attempts.get((request.task, request.fence))
            # Not if a later chunk is under way, as the handler did not wait: the artifact is no longer whole.
            if attempt is not None and attempt.chunks.get(request.artifact_id) == request.chunk_no + 1:
                attempt.digests[request.artifact_id] = request.digest
        if isinstance(request, TaskCheckpoint):
            self._left(request, message)
        is_stale = isinstance(message, Error) and message.code == "stale"
        if is_stale and isinstance(request, TaskCheckpoint | TaskArtifact | TaskAsk):
            return self._lost(request.task, request.fence or 0, "superseded")
        return []

    def _ended(self, last_word: TaskReport | TaskYield | TaskDecline, answer: Message) -> None:
        """Forget an ended attempt; if its last word could not be read, report the end in a plainer one."""
        attempt = self.attempts.get((last_word.task, last_word.fence))
        if attempt is None or attempt.state is not AttemptState.ENDING:
            return
        error = None if attempt.is_plain else _not_taken(last_word, answer)
        if error is None:
            del self.attempts[last_word.task, last_word.fence]
            return
        attempt.is_plain = True
        # The plainer word has nothing that the handler wrote, so that the coordinator cannot stumble over it again.
        digest = result_hash("failed", b"[]")
        report = TaskReport(attempt.task, attempt.fence, "failed", digest, b"[]", error)
        report.usage, report.steer_no = _usage(attempt), attempt.steer_no
        self.session.request(report)

    def _left(self, request: TaskCheckpoint, message: Message) -> None:
        """Note which checkpoint the coordinator keeps: this one, or another if it refused this one."""
        attempt = self.attempts.get((request.task, request.fence))
        if attempt is None:
            return
        if isinstance(message, Ok):
            attempt.cp_kept = request.cp_no
        elif isinstance(message, Error) and type(kept := (message.data or {}).get("cpNo")) is int:
            attempt.cp_kept, attempt.cp_no = kept, max(attempt.cp_no, kept)

    def _handed_on(self, request: TaskHandoff, message: Message) -> list[Event]:
        attempt = self.attempts.get((request.task, request.fence))
        if attempt is None:
            return []
        attempt.hand_offs -= 1
        if not isinstance(message, Error):
            del self.attempts[request.task, request.fence]
            return [Stop(attempt, "handed_off", "skip", 0)] if attempt.is_deserted else []
        if attempt.hand_offs:
            return []
        attempt.state = AttemptState.RUNNING  # no other agent fits, or the fence is not current: it goes on or is lost
        self._beat_at(attempt, attempt.next_beat)
        if message.code == "stale":
            return self._lost(request.task, request.fence, "superseded")
        if attempt.last_word is not None:
            self._end(attempt, attempt.last_word)
        return []

    def on_welcome(self, welcome: Welcome, greeted_at: int, now: int) -> list[Event]:
        """Learn what became of each attempt held while the connection was down.

        Args:
            welcome: the coordinator's answer.
            greeted_at: when the hello was sent: a lease it renews runs from then.
            now: the current time.
        """
        events: list[Event] = []
        for held in welcome.held:
            attempt = self.attempts.get((held.task, held.fence))
            if attempt is None:
                continue
            attempt.beat_sent.clear()
            if held.verdict == "keep":
                attempt.told_no = 0  # the beat with the newest progress may be lost, and the coordinator may be new
                attempt.lease_until = greeted_at + int((held.lease_ms or 0) * _WATCHDOG)
                self._beat_at(attempt, now)
            elif attempt.state is AttemptState.RUNNING:
                events.extend(self._lost(held.task, held.fence, held.verdict))
        return events

    def _offered(self, offer: TaskOffer, now: int) -> list[Event]:
        if (offer.task, offer.fence) in self.attempts:
            return []
        # The first sign of life is due well before the offer ends; a quick attempt reports earlier and sends none.
        first_beat = now + min(offer.offer_ms // 4, offer.heartbeat_ms)
        attempt = Attempt(offer, AttemptState.RUNNING, now + int(offer.offer_ms * _WATCHDOG), first_beat)
        self.attempts[offer.task, offer.fence] = attempt
        self._beat_at(attempt, first_beat)
        if self.is_draining:
            if offer.granted:
                # From an agent that drains, a yield counts against nobody, as a decline does (spec LEASE-7).
                self.yield_(attempt, "the agent is draining")
            else:
                self.decline(attempt, "busy", 1000)
            return []
        if offer.granted:
            return [Start(attempt)]
        attempt.state = AttemptState.ASKING
        attempt.beat_sent["accept"] = now
        self.session.request(TaskAccept(offer.task, offer.fence))
        return []

    def _told(self, message: TaskAnswer | TaskSteer) -> list[Event]:
        events: list[Event] = []
        for attempt in [attempt for attempt in self.attempts.values() if attempt.task == message.task]:
            offer = attempt.offer
            if attempt.state is AttemptState.ASKING:
                # Accepted on a connection that is gone: the handler begins with what the offer has.
                if isinstance(message, TaskAnswer):
                    offer.answers.append(Answer(message.ask_no, message.payload))
                elif message.steer_no > max((steer.steer_no for steer in offer.steers), default=0):
                    offer.steers.append(Steer(message.steer_no, message.payload))
            elif attempt.is_at_work and isinstance(message, TaskAnswer):
                events.append(Answered(attempt, message.ask_no, message.payload))
            elif attempt.is_at_work and isinstance(message, TaskSteer):
                events.append(Steered(attempt, message.steer_no, message.payload))
        return events

    def _renewed(self, lease: TaskLease, re: str | None) -> list[Event]:
        attempt = self.attempts.get((lease.task, lease.fence))
        sent = attempt.beat_sent.pop(re, None) if attempt is not None and re is not None else None
        if attempt is None or sent is None:
            return []
        attempt.lease_until = max(attempt.lease_until, sent + int(lease.lease_ms * _WATCHDOG))
        return []

    def _revoked(self, message: TaskRevoke) -> list[Event]:
        attempt = self.attempts.get((message.task, message.fence))
        if attempt is None:
            return []
        if message.grace_ms > 0:
            if attempt.state is AttemptState.ASKING:
                # Accepted on a connection that is gone, with the answer to come: then the attempt does not begin.
                self.yield_(attempt, message.reason)
            if not attempt.is_at_work:
                return []
            return [Stop(attempt, message.reason, message.mode, message.grace_ms)]
        return self._lost(message.task, message.fence, message.reason)

    def _lost(self, task: str, fence: int, reason: str) -> list[Event]:
        attempt = self.attempts.get((task, fence))
        if attempt is None or attempt.state is AttemptState.ENDING:
            return []  # its last word is in the outbox and will be answered
        del self.attempts[task, fence]
        return [Stop(attempt, reason, "skip", 0)] if attempt.state is AttemptState.RUNNING else []

    # What the worker says ---------------------------------------------------------------------------------------------

    def progress(self, attempt: Attempt, progress_bp: int | None, note: str | None, now: int) -> None:
        """Note how far the attempt is; a heartbeat tells it soon."""
        attempt.progress_no += 1
        attempt.progress_bp = attempt.progress_bp if progress_bp is None else progress_bp
        attempt.note = attempt.note if note is None else note
        self._beat_soon(attempt, now)

    def artifact(self, attempt: Attempt, artifact_id: str, payload: bytes, *, append: bool, last: bool) -> str:
        """Stream a chunk of a provisional artifact, and return the request's id."""
        # Numbers go on when an artifact begins anew: an earlier number would make the chunk a repeat.
        chunk_no = attempt.chunks.get(artifact_id, 0)
        attempt.chunks[artifact_id] = chunk_no + 1
        if not append or artifact_id not in attempt.hashes:
            attempt.hashes[artifact_id] = hashlib.sha256()
        attempt.hashes[artifact_id].update(payload)
        attempt.digests.pop(artifact_id, None)
        return self.session.request(
            TaskArtifact(
                attempt.task,
                attempt.fence,
                artifact_id,
                chunk_no,
                payload,
                name=artifact_id,
                append=append and chunk_no > 0,
                last_chunk=last,
                digest=f"sha256:{attempt.hashes[artifact_id].hexdigest()}" if last else None,
            )
        )

    def checkpoint(self, attempt: Attempt, payload: bytes, *, format: str = "", portable: bool = True) -> str:
        """Leave a checkpoint, and return the request's id. It names the newest checkpoint known to be kept."""
        attempt.cp_no += 1
        return self.session.request(
            TaskCheckpoint(attempt.task, attempt.fence, attempt.cp_no, payload, attempt.cp_kept, format, portable)
        )

    def use(self, attempt: Attempt, used: dict[str, int], now: int) -> None:
        """Add to what the attempt has used; a heartbeat tells it soon, and the last word again."""
        for kind, amount in used.items():
            attempt.usage[kind] = min(attempt.usage.get(kind, 0) + amount, NUMBER_MAX)
        self._beat_soon(attempt, now)

    def wait(self, attempt: Attempt, change: int, now: int) -> None:
        """Count one sub-task more or less that the attempt waits for; its slot is free while it waits (spec FLOW-5)."""
        attempt.waits += change
        if (attempt.waits > 0) is not (attempt.slot == "released"):
            self._beat_soon(attempt, now)

    def ask(
        self,
        attempt: Attempt,
        ask_no: int,
        payload: bytes,
        *,
        timeout_ms: int | None = None,
        default: bytes | None = None,
    ) -> str:
        """Ask the delegator, and return the request's id; `Answered` follows."""
        return self.session.request(
            TaskAsk(attempt.task, ask_no, payload, attempt.fence, timeout_ms=timeout_ms, default=default)
        )

    def report(
        self,
        attempt: Attempt,
        outcome: Literal["completed", "failed", "rejected", "canceled"],
        payload: bytes = b"[]",
        error: AttemptError | None = None,
    ) -> None:
        """Report how the attempt ended. The report goes out even if the lease seems lost: the coordinator decides.

        A result larger than the coordinator takes is reported as a failure that another attempt would not mend.
        """
        if len(payload) > (most := self.session.payload_max):
            detail = f"the result has {len(payload)} bytes, a payload at most {most} (spec LIMIT-1): stream an artifact"
            outcome, payload, error = "failed", b"[]", AttemptError("too_large", detail)
        digest = result_hash(outcome, payload)
        report = TaskReport(attempt.task, attempt.fence, outcome, digest, payload, error)
        report.usage, report.steer_no = _usage(attempt), attempt.steer_no
        report.basis = _basis(attempt)
        report.patches = attempt.patches if outcome == "completed" else []
        if outcome == "completed":
            report.artifacts = [ArtifactRef(name, digest) for name, digest in attempt.digests.items()]
        self._end(attempt, report)

    def yield_(self, attempt: Attempt, reason: str) -> None:
        """Give the attempt back."""
        self._end(attempt, TaskYield(attempt.task, attempt.fence, reason, _usage(attempt)))

    def hand_off(self, attempt: Attempt, to: str | None, requires: dict[str, Any] | None, payload: bytes | None) -> str:
        """Hand the task off to another agent, and return the request's id; if refused, the attempt goes on."""
        request = self.session.request(
            TaskHandoff(attempt.task, attempt.fence, to, requires, payload, _usage(attempt))  # type: ignore[arg-type]
        )
        attempt.state = AttemptState.ENDING  # only now: a message that is too large is refused above
        attempt.hand_offs += 1
        attempt.is_deserted = False
        return request

    def decline(
        self,
        attempt: Attempt,
        reason: Literal["busy", "unsupported", "policy", "budget", "conflict_of_interest"],
        retry_after_ms: int,
    ) -> None:
        """Hand the task back before any work was done."""
        self._end(attempt, TaskDecline(attempt.task, attempt.fence, reason, retry_after_ms))

    def _end(self, attempt: Attempt, last_word: TaskReport | TaskYield | TaskDecline) -> None:
        if attempt.state is AttemptState.ENDING:
            if attempt.hand_offs:
                attempt.last_word = last_word
            return
        attempt.state = AttemptState.ENDING
        self.attempts[attempt.task, attempt.fence] = attempt
        self.session.request(last_word, slack_ms=REPLY_SLACK_MS)

    # Time -------------------------------------------------------------------------------------------------------------

    def is_lapsed(self, attempt: Attempt, now: int) -> bool:
        """Tell whether the lease may have ended; failed beats alone never stop work, only outside effects.

        The last word ends it: another agent may be at work before the answer arrives, which may be kept back.
        """
        has_ended = attempt.state is AttemptState.ENDING or (attempt.task, attempt.fence) not in self.attempts
        return has_ended or now >= attempt.lease_until

    def tick(self, now: int) -> None:
        """Send the heartbeats that are due."""
        if self._due is None or now < self._due or not self.session.is_open:
            return
        self._due = None
        for attempt in self.attempts.values():
            if attempt.state is AttemptState.RUNNING and attempt.next_beat <= now:
                fresh = attempt.progress_no > attempt.told_no
                beat = self.session.tell(
                    TaskHeartbeat(
                        attempt.task,
                        attempt.fence,
                        attempt.progress_no,
                        attempt.progress_bp if fresh else None,
                        attempt.note if fresh else None,
                        _usage(attempt),
                        "released" if attempt.waits else "held",
                    )
                )
                attempt.slot = "released" if attempt.waits else "held"
                attempt.told_no = attempt.progress_no
                attempt.next_beat = now + attempt.offer.heartbeat_ms
                if beat is not None:
                    if len(attempt.beat_sent) > 16:
                        attempt.beat_sent.clear()  # their answers will not come any more
                    attempt.beat_sent[beat] = now
            if attempt.state is AttemptState.RUNNING:
                self._beat_at(attempt, attempt.next_beat)

    def next_deadline(self) -> int | None:
        """Return when to call `tick` again, or None. The attempt that is due then may have ended meanwhile."""
        return self._due if self.session.is_open else None

    def _beat_soon(self, attempt: Attempt, now: int) -> None:
        self._beat_at(attempt, min(attempt.next_beat, now + _NOTE_EVERY_MS))

    def _beat_at(self, attempt: Attempt, due: int) -> None:
        attempt.next_beat = due
        if self._due is None or due < self._due:
            self._due = due


def _not_taken(last_word: TaskReport | TaskYield | TaskDecline, answer: Message) -> AttemptError | None:
    """Return why the coordinator did not take the last word, so that the attempt goes on for it, or None."""
    if isinstance(answer, Error) and answer.code in _UNREAD:
        return AttemptError("refused", f"{last_word.kind} was refused: {answer.detail}"[:DETAIL_MAX])
    if isinstance(answer, TaskVerdict) and answer.verdict == "invalid":
        return AttemptError("invalid", f"{last_word.kind} is invalid: {answer.reason}"[:DETAIL_MAX])
    return None


def _basis(attempt: Attempt) -> list[Seen]:
    """Return what the handler has seen in the context; decisions first, as a report has room for only so many."""
    seen = sorted(attempt.basis.items(), key=lambda item: not item[1][1])
    return [Seen(key, rev) for key, (rev, _) in seen[:_BASIS_MAX]]


def _usage(attempt: Attempt) -> Any:
    return dict(attempt.usage) or None
