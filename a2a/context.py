"""What a handler gets: its task, and what it may do with it.

Calls go to the link in its own thread and loop; this module does not know how an attempt starts or ends. The runner
makes one context for each attempt.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import anyio
import anyio.from_thread
from pydantic.alias_generators import to_snake

from .claim import Claim, Mode, Name
from .content import parts_payload, read_word
from .delegator import AgentInfo, TaskEvent, TaskHandle, expect
from .engine.work import NOTE_MAX, Attempt, effect_key
from .errors import Conflict, FencedOff, HandedOff, LeaseLapsed
from .given import mapped, milliseconds_if_any, require_kind, several, text
from .protocol.canonical import NUMBER_MAX
from .protocol.messages import ContextValue as ValueOnTheWire
from .protocol.messages import Held, TaskFound, TaskGet
from .protocol.messages import PriorAttempt as PriorOnTheWire
from .reader import Kind
from .shared_context import SharedContext
from .streaming import ChunkStream

if TYPE_CHECKING:
    from .runner import Runner

__all__ = ["ChildTask", "PriorAttempt", "TaskClaim", "TaskContext"]


@dataclass(frozen=True, slots=True)
class PriorAttempt:
    """An earlier attempt at the same task, and how it ended."""

    agent: str
    fence: int
    end: str
    """`lapsed`, `unanswered`, `declined`, `yielded`, `handed_off`, `asked`, or the outcome it reported."""
    ran: float
    """How many seconds it ran."""
    detail: str
    note: str
    """Its last progress note, if the attempt was lost and had sent one."""
    usage: dict[str, Any]
    message: Any
    """Its message if it handed the task on, else None."""

    @classmethod
    def from_wire(cls, prior: PriorOnTheWire) -> PriorAttempt:
        """Return the public form of an attempt that the coordinator sent."""
        usage = dict(prior.usage or {})
        ran, message = prior.ran_ms / 1000, read_word(prior.payload)
        return cls(prior.agent, prior.fence, prior.end, ran, prior.detail, prior.note or "", usage, message)


class TaskContext:
    """What a handler knows of its task, and what it may do with it. Made by the agent, one for each attempt."""

    def __init__(self, runner: Runner, attempt: Attempt) -> None:
        offer = attempt.offer
        self._runner = runner
        self._attempt = attempt
        self.feedback = [read_word(feedback.payload) for feedback in offer.feedback]
        """What the delegator said about earlier revisions, oldest first."""
        self._answers = {answer.ask_no: read_word(answer.payload) for answer in offer.answers}
        self._asked = 0
        self._steers = [(steer.steer_no, read_word(steer.payload)) for steer in offer.steers]
        self._steered = asyncio.Event()
        self._is_over = False
        """Whether the handler has ended."""
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._unheard: dict[bytes, list[int]] = {}
        """Question to its numbers whose answer nobody waits for any longer: equal words are the same question."""
        self._stream: ChunkStream | None = None
        self._checkpointing = asyncio.Lock()
        self._deadline = None if offer.deadline_ms is None else runner.link.clock.now() + offer.deadline_ms
        self.id = offer.task
        """The task's id."""
        self.skill: str = offer.spec["skill"]
        """The id of the skill that was asked for."""
        self.key = offer.key
        """The key it was delegated with."""
        self.attempt = offer.attempt
        """The number of this attempt at the task, from 1."""
        self.fence = offer.fence
        """Grows with every attempt: for resources that can refuse an older one."""
        self.rev = offer.rev
        """How often the delegator sent a result back."""
        self.context_id = offer.context_id
        """Tasks with the same context belong together."""
        self.delegator = offer.delegator
        """The agent id of the delegator."""
        self.spec: dict[str, Any] = dict(offer.spec)
        """The task's specification, as it travelled."""
        self.is_canceled = False
        """Whether somebody wants the task to end; an `async` handler is also cancelled."""
        self.stopping = ""
        """Why the attempt is to be given back soon (`drain`, `attempt`), or empty. If set, leave a checkpoint."""
        self.restored: Any = None if offer.checkpoint is None else read_word(offer.checkpoint.payload)
        """The state that an earlier attempt left with `checkpoint`, or None."""
        self.prior = [PriorAttempt.from_wire(prior) for prior in (offer.dossier.attempts if offer.dossier else ())]
        """The attempts before this one, oldest first."""
        self.budget: dict[str, int] = {to_snake(kind): amount for kind, amount in (offer.budget or {}).items()}  # type: ignore[misc]
        """What was left of each bounded kind when the attempt began."""
        self.claims = {granted.name: granted.fence for granted in offer.claims}
        """The task's own `resources`, granted with this attempt: name to the claim's fence."""

    @cached_property
    def context(self) -> SharedContext:
        """What the tasks of its context share. A result names what its handler has read here: if a decision among it
        has moved by then, the delegator looks at the result before it counts."""
        attempt = Held(self.id, self.fence)
        return SharedContext(
            self._runner, self.context_id, across=self._runner.on_link, attempt=attempt, on_seen=self._has_seen
        )

    def other_context(self, context_id: str) -> SharedContext:
        """Return what the tasks of another context share. No result of this task relies on what is read there, and
        writes are refused once this attempt has lost its authority."""
        attempt = Held(self.id, self.fence)
        return SharedContext(self._runner, context_id, across=self._runner.on_link, attempt=attempt)

    @property
    def deadline(self) -> float | None:
        """Seconds until the task must have ended, or None."""
        return None if self._deadline is None else max(0, self._deadline - self._runner.link.clock.now()) / 1000

    def _has_seen(self, value: ValueOnTheWire) -> None:
        # A watch may deliver a value older than one that the handler has already read or written itself.
        rev, was_decision = self._attempt.basis.get(value.key, (0, False))
        self._attempt.basis[value.key] = (max(rev, value.rev), value.decision or was_decision)

    def check(self) -> None:
        """Call it before an outside effect.

        Raises:
            LeaseLapsed: the handler has ended, or the lease may have, so another agent may be working on the task.
        """
        if self._is_over:
            raise self._over()  # its last word may not have been said yet
        work = self._runner.link.work
        if work.is_lapsed(self._attempt, self._runner.link.now()):
            raise LeaseLapsed(f"the lease of task {self.id} (fence {self.fence}) may have ended")

    async def progress(self, fraction: float | None = None, note: str = "") -> None:
        """Report how far the attempt is: 0 to 1, and a few words. The latest report counts; one may be lost.

        Only the first 2000 characters of the note are sent.

        Raises:
            ValueError: the fraction is not a number.
        """
        given: object = fraction
        if given is not None and (not isinstance(given, int | float) or math.isnan(given)):
            raise ValueError(f"fraction: expected a number from 0 to 1, got {fraction!r}")
        bp = None if fraction is None else round(min(1.0, max(0.0, fraction)) * 10_000)
        self._runner.in_link(self._progress, bp, text(note, NOTE_MAX) if note else None)

    def _progress(self, bp: int | None, note: str | None) -> None:
        link = self._runner.link
        link.work.progress(self._attempt, bp, note, link.now())
        link.wake()

    async def artifact(self, name: str, value: Any, *, append: bool = False, last: bool = True) -> None:
        """Stream a provisional artifact, or with `append` another chunk of it, to whoever watches.

        With `last`, the whole artifact is durable when this returns. Earlier chunks may still be under way then, a few
        at a time; `checkpoint`, `ask`, `hand_off` and the result wait until all of them are durable.

        Args:
            name: the artifact's name.
            value: any JSON value.
            append: whether the chunk continues the artifact; else the artifact begins anew.
            last: whether this is the last chunk.

        Raises:
            StaleFence: the attempt has lost its authority.
            LeaseLapsed: the handler has ended.
            QuotaExceeded, TooLarge: this chunk or an earlier one was refused; the artifact has to begin anew. If no
                call for this artifact raises that, the next call that waits for all chunks does; after the last call
                it fails the attempt.
        """
        if self._is_over:
            raise self._over()  # the agent may have ended too, and then nobody would answer the chunk
        if self._stream is None:
            self._stream = ChunkStream(self._runner, self._attempt)
        payload = parts_payload(value, "value")
        await self._stream.send(require_kind(name, str, "name"), payload, append=append, last=last)

    async def _streamed(self) -> None:
        """Wait until all chunks are durable: what is sent next may rest on them."""
        if self._stream is not None:
            await self._stream.confirmed()

    async def checkpoint(self, state: Any, *, format: str = "", portable: bool = True) -> None:
        """Record where the attempt stands: the next one finds it in `restored`. Durable when this returns.

        Args:
            state: any JSON value; put large data into an artifact.
            format: how to read the state, if agents of several kinds have the skill and tell formats apart.
            portable: whether another agent can go on from the state.

        Raises:
            TooLarge: the state is larger than the coordinator keeps.
            StaleFence: the attempt has lost its authority.
        """
        payload = parts_payload(state, "state")
        await self._streamed()

        async def send() -> None:
            link = self._runner.link
            await link.reply_to(link.work.checkpoint(self._attempt, payload, format=format, portable=portable))

        async with self._checkpointing:  # each names the one before
            try:
                await self._runner.on_link(send())
            except Conflict:
                await self._runner.on_link(send())  # an earlier one counts although its caller stopped waiting

    async def hand_off(
        self,
        to: str | None = None,
        *,
        tags: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        message: Any = None,
    ) -> NoReturn:
        """Hand the task on to another agent, with the last checkpoint and a message; the handler ends here.

        If the caller stops waiting, the handoff still stands: the handler's own outcome counts only if it is refused.

        Args:
            to: the id of the next agent; by default any other.
            tags: tags the next agent's skill must have.
            labels: labels the next agent must have.
            message: any JSON value; the next attempt finds it in `prior`.

        Raises:
            NoCapableAgent: no other agent can do it; the attempt goes on.
            QuotaExceeded: the task was handed on too often; the attempt goes on.
            TooLarge: the message is larger than the coordinator accepts; the attempt goes on.
        """
        requires: dict[str, Any] = {}
        if tags:
            requires["tags"] = several(tags, "tags")
        if labels:
            requires["labels"] = mapped(labels, "labels")
        payload = None if message is None else parts_payload(message, "message")
        await self._streamed()

        async def send() -> None:
            link = self._runner.link
            request = link.work.hand_off(self._attempt, to, requires or None, payload)
            try:
                await link.reply_to(request, stands=True)
            except asyncio.CancelledError:
                self._attempt.is_deserted = True
                raise

        await self._runner.on_link(send())
        raise HandedOff(f"task {self.id} was handed on")

    def use(self, *, tokens: int = 0, cost_micro: int = 0, steps: int = 0) -> None:
        """Add to the attempt's usage, which counts against the task's budget.

        Raises:
            ValueError: a value is not a whole number from 0 on.
        """
        told = {"tokens": tokens, "costMicro": cost_micro, "steps": steps}
        for kind, amount in told.items():
            if type(amount) is not int or not 0 <= amount <= NUMBER_MAX:
                raise ValueError(f"task {self.id}: expected usage as whole numbers from 0, got {amount!r} for {kind}")
        self._runner.in_link(self._use, {kind: amount for kind, amount in told.items() if amount})

    def _use(self, used: dict[str, int]) -> None:
        link = self._runner.link
        link.work.use(self._attempt, used, link.now())
        link.wake()

    def effect_key(self, step: str) -> str:
        """Return a key for an outside effect, the same in every attempt, for services that recognise repeats.

        Another revision has another key, and so has another coordinator, whatever the task's id (FENCE-8).
        """
        return effect_key(self.id, self.rev, step, self._attempt.offer.effect_scope)

    def steers(self) -> list[Any]:
        """Return everything the delegator has said to the work so far, oldest first, and mark it as seen."""
        if self._steers:
            self._attempt.steer_no = self._steers[-1][0]
        return [value for _, value in self._steers]

    async def steer(self) -> Any:
        """Wait for the delegator's next unseen word, and return it.

        Raises:
            LeaseLapsed: the handler has ended, so no further word comes.
        """
        while True:
            unseen = [steer for steer in self._steers if steer[0] > self._attempt.steer_no]
            if unseen:
                self._attempt.steer_no = unseen[0][0]
                return unseen[0][1]
            if self._is_over:
                raise self._over()
            self._steered.clear()
            await self._steered.wait()

    def _was_steered(self, steer_no: int, payload: bytes) -> None:
        if steer_no > (self._steers[-1][0] if self._steers else 0):
            self._steers.append((steer_no, read_word(payload)))
            self._steered.set()

    def _end(self) -> None:
        """Tell whoever still waits here that the handler has ended: a task that it left behind would wait forever."""
        self._is_over = True
        self._steered.set()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(self._over())
                answer.exception()  # nobody may be waiting for it any longer

    def _over(self) -> LeaseLapsed:
        return LeaseLapsed(f"the attempt at task {self.id} (fence {self.fence}) has ended")

    @contextmanager
    def _waiting_for_child(self) -> Iterator[None]:
        """Free the slot of this attempt while it waits for a sub-task: else nobody may be left to do that."""
        self._runner.in_link(self._wait, 1)
        try:
            yield
        finally:
            self._runner.in_link(self._wait, -1)

    def _wait(self, change: int) -> None:
        link = self._runner.link
        link.work.wait(self._attempt, change, link.now())
        link.wake()

    async def ask(
        self,
        question: str,
        *,
        options: Sequence[str] | None = None,
        schema: Mapping[str, Any] | None = None,
        default: Any = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask the delegator, and return the answer. It is kept: a later attempt that asks the same gets it at once.

        If a handler stops waiting and asks again in the same words, that is the same question, with the same answer.

        Args:
            question: for a person to read.
            options: the answers to choose from.
            schema: the JSON Schema of the answer.
            default: the answer if none comes in time; without a default the task then fails.
            timeout: seconds to wait; the coordinator's default is a day.

        Raises:
            Conflict: the task can no longer ask, for example because it is being canceled.
            QuotaExceeded: the task has asked as often as it may.
            StaleFence: the attempt has lost its authority.
            LeaseLapsed: the handler has ended, so no answer comes.
        """
        content: dict[str, Any] = {"question": require_kind(question, str, "question")}
        if options is not None:
            content["options"] = several(options, "options")
        if schema is not None:
            content["schema"] = mapped(schema, "schema")
        payload = parts_payload(content)
        fallback = None if default is None else parts_payload(default, "default")
        timeout_ms = milliseconds_if_any(timeout, "timeout")
        await self._streamed()

        while True:
            if unheard := self._unheard.get(payload):
                ask_no = unheard.pop(0)
            else:
                ask_no = self._asked = self._asked + 1

            async def send(number: int = ask_no) -> None:
                link = self._runner.link
                await link.reply_to(
                    link.work.ask(self._attempt, number, payload, timeout_ms=timeout_ms, default=fallback)
                )

            answer = self._waiting.setdefault(ask_no, asyncio.get_running_loop().create_future())
            try:
                await self._runner.on_link(send())
                if ask_no in self._answers:
                    return self._answers[ask_no]
                return await answer
            except BaseException as error:
                if isinstance(error, Conflict) and await self._is_taken(ask_no, payload):
                    continue  # an earlier attempt asked something else under this number: take the next
                if answer.cancelled():
                    del self._waiting[ask_no]  # the answer may still come
                self._unheard.setdefault(payload, []).append(ask_no)
                raise

    async def _is_taken(self, ask_no: int, payload: bytes) -> bool:
        """Tell whether a number was used for another question: an offer lists only answered questions."""
        found = expect(await self._runner.on_link(self._runner.link.call(TaskGet(self.id))), TaskFound)
        asked = {ask["askNo"]: ask["payload"] for ask in found.asks}
        return ask_no in asked and asked[ask_no] not in (payload, payload.decode())  # a text if frames are JSON

    def _answered(self, ask_no: int, payload: bytes) -> None:
        waiting = self._waiting.setdefault(ask_no, asyncio.get_running_loop().create_future())
        if not waiting.done():
            waiting.set_result(read_word(payload))

    def delegate(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> ChildTask:
        """Delegate a part of this task: as `Client.delegate`, but as a sub-task.

        The key belongs to this task: an attempt after a crash that delegates with the same key gets the same sub-task,
        and its result if it is done. Without a key, the order of the delegations is the key.

        Raises (when entered):
            LeaseLapsed: the lease may have ended.
        """
        self.check()
        if key is None:
            key = f"#{self._runner.next_child(self._attempt)}"
        return ChildTask(self, skill, input, key, options | {"parent": (self.id, self.fence)})

    async def call(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> Any:
        """Delegate a sub-task, wait for its result, confirm it, return it."""
        async with self.delegate(skill, input, key, **options) as child:
            return await child.result()

    def claim(
        self,
        *names: Name,
        mode: Mode = "x",
        wait: float = 0.0,
        ttl: float | None = None,
        priority: int = 0,
        preemptible: bool = False,
    ) -> TaskClaim:
        """Claim names for this attempt: as `Client.claim`, but it ends with the attempt, and by default not before.

        After its lease lapses, a holder keeps the claim until another attempt begins: give `claim.fence` to whatever
        guards the resource.
        """
        options = {"mode": mode, "wait": wait, "ttl": ttl, "priority": priority, "preemptible": preemptible}
        return TaskClaim(self, names, options)

    async def find(self, skill: str | None = None, **wanted: Any) -> list[AgentInfo]:
        """Return the known agents; see `Client.find`."""
        return await self._runner.on_link(self._runner.find(skill, **wanted))

    async def get(self, task: str) -> dict[str, Any]:
        """Return any task; see `Client.get`."""
        return await self._runner.on_link(self._runner.get(task))

    async def outcome(self, task: str) -> dict[str, Any]:
        """Return the outcome of any task; see `Client.outcome`."""
        return await self._runner.on_link(self._runner.outcome(task))

    async def conflict(self, conflict: str) -> dict[str, Any]:
        """Return a conflict's record; see `Client.conflict`."""
        return await self._runner.on_link(self._runner.conflict(conflict))

    async def raise_conflict(self, kind: Kind, *subjects: str | Mapping[str, Any], **said: Any) -> str:
        """Report that things contradict each other; see `Client.raise_conflict`."""
        return await self._runner.on_link(self._runner.raise_conflict(kind, *subjects, **said))

    async def raise_fenced_off(self, resource: str, refused: FencedOff) -> str:
        """Report that a guarded resource has turned a late writer away; see `Client.raise_fenced_off`."""
        return await self._runner.on_link(self._runner.raise_fenced_off(resource, refused))

    async def watch(self, task: str) -> AsyncIterator[TaskEvent]:
        """Yield the events of any task until it has ended; see `Client.watch`."""
        events = self._runner.watch(task)
        under_way: asyncio.Task[Any] | None = None

        async def following() -> TaskEvent | None:
            nonlocal under_way
            under_way = asyncio.current_task()
            return await anext(events, None)

        async def closing() -> None:
            if under_way is not None:
                await asyncio.wait([under_way])  # a caller cancelled here may come back before that has ended there
            await events.aclose()

        try:
            while (event := await self._runner.on_link(following())) is not None:
                yield event
        finally:
            with anyio.CancelScope(shield=True):
                await self._runner.on_link(closing())


class ChildTask:
    """A sub-task, for the handler that delegated it: a `TaskHandle` in the agent's own event loop."""

    def __init__(self, parent: TaskContext, skill: str, input: Any, key: str, options: dict[str, Any]) -> None:
        self._parent = parent
        self._runner = parent._runner
        self._handle: TaskHandle = self._runner.delegate(skill, input, key, **options)

    async def __aenter__(self) -> Self:
        await self._runner.entered(self._handle.__aenter__(), self._handle._forget)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._runner.on_link(self._handle.__aexit__(kind, error, trace))

    @property
    def id(self) -> str:
        """The sub-task's id."""
        return self._handle.id

    @property
    def created(self) -> bool:
        """Whether this attempt made the sub-task; False if an earlier attempt did."""
        return self._handle.created

    @property
    def key(self) -> str:
        """The key it was delegated with; without one it is numbered, alike in every attempt."""
        return self._handle.key

    @property
    def context_id(self) -> str:
        """The context it belongs to."""
        return self._handle.context_id

    @property
    def stale_basis(self) -> dict[str, tuple[int, int]]:
        """The moved decisions that its result relies on; see `TaskHandle.stale_basis`."""
        return self._handle.stale_basis

    async def events(self) -> AsyncIterator[TaskEvent]:
        """Yield its events; see `TaskHandle.events`."""
        while (event := await self._next_event()) is not None:
            is_last = self._handle.waits_for_me(event)
            yield event
            if is_last:
                return

    async def _next_event(self) -> TaskEvent | None:
        # Only while it waits: with an event the handler is at work, which takes its slot again.
        with self._parent._waiting_for_child():
            return await self._runner.on_link(self._handle.next_event())

    async def result(self) -> Any:
        """Wait for its result and return the value; see `TaskHandle.result`."""
        with self._parent._waiting_for_child():
            return await self._runner.on_link(self._handle.result())

    async def artifacts(self) -> list[dict[str, Any]]:
        """Wait for its result and return it as A2A Artifacts."""
        with self._parent._waiting_for_child():
            return await self._runner.on_link(self._handle.artifacts())

    async def question(self) -> tuple[int, Any]:
        """Wait until it asks something; see `TaskHandle.question`."""
        with self._parent._waiting_for_child():
            return await self._runner.on_link(self._handle.question())

    async def steer(self, value: Any, key: str | None = None, *, interrupt: bool = False) -> None:
        """Send a word to its work; see `TaskHandle.steer`."""
        await self._runner.on_link(self._handle.steer(value, key, interrupt=interrupt))

    async def answer(self, ask_no: int, value: Any) -> None:
        """Answer one of its questions."""
        await self._runner.on_link(self._handle.answer(ask_no, value))

    async def confirm(self) -> None:
        """Accept its result."""
        await self._runner.on_link(self._handle.confirm())

    async def reject(self, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """Reject its result; with `rework` another revision follows, with the feedback."""
        await self._runner.on_link(self._handle.reject(feedback, rework=rework, reason=reason))

    async def cancel(self, reason: str = "", *, mode: Literal["coop", "kill", "skip"] = "coop") -> str:
        """Ask for it to end; see `TaskHandle.cancel`."""
        return await self._runner.on_link(self._handle.cancel(reason, mode=mode))


class TaskClaim:
    """A claim, for the handler that made it: a `Claim` in the agent's own event loop."""

    def __init__(self, context: TaskContext, names: Sequence[Name], options: dict[str, Any]) -> None:
        self._context = context
        self._runner = context._runner
        self._claim: Claim = self._runner._claim(names, attempt=(context.id, context.fence), **options)

    async def __aenter__(self) -> Self:
        self._context.check()
        await self._runner.entered(self._claim.__aenter__(), self._claim._abandon)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._runner.on_link(self._claim.__aexit__(kind, error, trace))

    @property
    def names(self) -> list[str]:
        """The names that were claimed."""
        return self._claim.names

    @property
    def fence(self) -> int:
        """See `Claim.fence`."""
        return self._claim.fence

    @property
    def stopping(self) -> str:
        """See `Claim.stopping`."""
        return self._claim.stopping

    def check(self) -> None:
        """Call it before an outside effect.

        Raises:
            LeaseLapsed: the lease may have ended, so another agent may be working on the task.
            ClaimLost: somebody else may have the names by now.
        """
        self._context.check()
        self._claim.check()
