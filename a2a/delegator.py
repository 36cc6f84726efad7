"""Delegated tasks, as their delegator sees them: the half that clients and agents share.

A `Delegator` owns a link and wakes the `TaskHandle`s that have news; it does not know how the link is made. Everything
runs in the link's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast

from pydantic.alias_generators import to_camel

from .claim import Claim, Name, acquire
from .claim import Mode as ClaimMode
from .claim import resources as resources_of
from .content import UNREADABLE, parts_payload, read_artifacts, read_word, result_value
from .engine.agent_watching import WatchedAgents
from .engine.call_following import Answer, FollowedCall
from .engine.context_watching import Watched
from .engine.delegation import Delegation, Delegations, Review
from .errors import (
    AlreadyAnswered,
    Conflict,
    GenerationMismatch,
    Gone,
    LocalProtocolError,
    NotFound,
    Overruled,
    Refused,
    RemoteProtocolError,
    StaleBasis,
    TaskCanceled,
    TaskError,
    TaskFailed,
    TaskRejected,
)
from .given import mapped, milliseconds, milliseconds_if_any, require_known, several, whole
from .ids import new_id, new_number
from .link import Link, refused
from .protocol.messages import (
    A2ACall,
    AgentFilter,
    AgentFind,
    AgentFound,
    ClaimDenied,
    ClaimGranted,
    ClaimPreempt,
    ContextValue,
    Held,
    Message,
    Ok,
    TaskDelegate,
    TaskEventNotice,
    TaskFound,
    TaskGet,
    TaskLimits,
    Timers,
)
from .protocol.messages import AgentInfo as WireAgentInfo
from .protocol.session import REPLY_SLACK_MS, Notice
from .protocol.types import RungSpec

__all__ = ["AgentChange", "AgentInfo", "Delegator", "Mode", "TaskEvent", "TaskHandle", "expect"]

M = TypeVar("M", bound=Message)

Mode = Literal["coop", "kill", "skip"]
Evaluator = Literal["auto", "delegator", "human"]


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """An agent as the coordinator sees it."""

    agent_id: str
    card: dict[str, Any]
    status: str
    """`ready`, `draining` or `away`."""
    labels: dict[str, str]
    credit: int
    """How many attempts it takes at once."""
    holding: tuple[str, ...]
    """The tasks it holds or was offered."""
    seen: float | None
    """Seconds since the coordinator last heard from it; None while it is away."""
    refused: tuple[dict[str, Any], ...] = ()
    """Hellos in its name that were refused, each with `agent`, `kind`, `code`, `detail`, `at`, `times`."""
    quarantine: dict[str, Any] | None = None
    """Set while it gets no offers because processes take it from each other: the `conflict` about that, and `left`, the
    seconds that remain."""

    @property
    def skills(self) -> list[str]:
        """The ids of the skills on its card."""
        return [skill["id"] for skill in self.card.get("skills", ())]

    @property
    def load(self) -> float:
        """The share of its credit that is in use."""
        return len(self.holding) / self.credit if self.credit else 0.0

    @classmethod
    def from_wire(cls, info: WireAgentInfo) -> AgentInfo:
        """Return the public form of an agent that the coordinator sent."""
        seen = None if info.seen_ms is None else info.seen_ms / 1000
        kept_out = info.quarantine
        return cls(
            info.agent,
            cast(dict[str, Any], info.card),
            info.status,
            info.labels,
            info.credit,
            tuple(info.holding),
            seen,
            tuple(dict(refusal) for refusal in info.refused),
            None if kept_out is None else {"conflict": kept_out["conflict"], "left": kept_out["leftMs"] / 1000},
        )


@dataclass(frozen=True, slots=True)
class AgentChange:
    """An agent joined, left or changed."""

    change: str
    agent: AgentInfo


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to a task."""

    kind: str
    """What happened: `created`, `grant`, `progress`, `artifact`, `ask`, `report`, `complete`, ... (spec STATE-2)."""
    task: str
    generation: int
    state: str
    """The coordinator's own state: `queued`, `leased`, `reported`, ..."""
    at: float
    """Seconds since the epoch, by the coordinator's clock."""
    agent: str | None = None
    progress: float | None = None
    """0 to 1, if the agent reported it."""
    note: str = ""
    value: Any = None
    """The content, if there is one: a question, an answer, a chunk of an artifact, feedback."""
    data: dict[str, Any] = field(default_factory=dict)
    """Everything else the coordinator sent with the event."""

    @classmethod
    def from_wire(cls, notice: TaskEventNotice) -> TaskEvent:
        """Return the public form of an event that the coordinator sent."""
        data = notice.data
        bp = data.get("progressBp")
        return cls(
            notice.event,
            notice.task,
            notice.generation,
            notice.state,
            notice.at / 1000,
            data.get("agent"),
            None if bp is None else bp / 10_000,
            data.get("note", ""),
            read_word(notice.payload),
            data,
        )


def _redundancy(
    copies: int,
    agree: int | None,
    comparator: str | None,
    resolve: Sequence[str | Mapping[str, Any]],
    ballot: float | timedelta | None,
    cost_micro: int | None,
) -> dict[str, Any]:
    redundancy: dict[str, Any] = {"n": copies}
    if agree is not None:
        redundancy["k"] = agree
    if comparator is not None:
        redundancy["comparator"] = comparator
    if resolve:
        rungs = several(resolve, "resolve")
        for rung in rungs:  # a misspelt limit would not count: the coordinator ignores fields it does not know
            require_known(() if isinstance(rung, str) else mapped(rung, "a rung of resolve"), RUNG, "a rung of resolve")
        redundancy["policy"] = [{"strategy": rung} if isinstance(rung, str) else dict(rung) for rung in rungs]
    if ballot is not None:
        redundancy["ballotMs"] = milliseconds(ballot, "ballot")
    if cost_micro is not None:
        redundancy["costMicro"] = cost_micro
    return redundancy


_LEFT_MAX = 256
"""Streams that nobody follows. They count among the 1,024 that a connection may have."""

LOOKS_AFTER = 10.0
"""Seconds without an end after which a handle looks up its task: another process may get its notices. ..."""
LOOKS_APART_MAX = 300.0
"""... The pause doubles each time, up to this, so that tasks that wait for weeks cost little."""


def _held(parent: tuple[str, int] | None) -> Held | None:
    match parent:
        case None:
            return None
        case (str(task), fence):
            return Held(task, fence)
    raise ValueError(f"parent: expected a task and the fence of its attempt as in ('main-1', 7), got {parent!r}")


BUDGETS = ("tokens", "cost_micro", "steps", "children", "depth")
RUNG = tuple(RungSpec.__annotations__)
TIMERS = tuple(item.name.removesuffix("_ms") for item in fields(Timers))


class Delegator:
    """Delegates through a link and wakes whoever waits for a task: the half that clients and agents share."""

    def __init__(self) -> None:
        self._handles: dict[int, TaskHandle] = {}
        self._written: dict[Watched | WatchedAgents | FollowedCall, asyncio.Event] = {}
        self._claims: dict[int, Claim] = {}
        # The mailbox may hold a late answer for an earlier process of this name, which must not count for another
        # claim. No clock tells them apart: it may be set back, or begin with the same time at each start.
        self._claim_no = new_number()
        self._link: Link | None = None

    @property
    def link(self) -> Link:
        """The link to the coordinator.

        Raises:
            LocalProtocolError: there is no link yet.
        """
        if self._link is None:
            raise LocalProtocolError("enter the client first: async with a2a.connect() as client")
        return self._link

    def _let_go(self) -> None:
        """Forget everybody who waits for news of a link that has ended: another link brings them none."""
        self._handles.clear()
        self._written.clear()
        if self._link is not None and self._link.is_stranded:
            self._claims.clear()  # they wait in a loop that cannot wake them

    def changed(self, delegations: list[Delegation]) -> None:
        """Wake the handles of these delegations, or all handles if the link has ended."""
        if not delegations:
            for handle in list(self._handles.values()):
                handle._wake()
            for claim in list(self._claims.values()):
                claim._link_ended()
        for delegation in delegations:
            known = self._handles.get(id(delegation))
            if known is not None:
                known._wake()

    def noticed(self, notice: Notice) -> None:
        """Pass on news of claims."""
        if isinstance(notice.message, ClaimGranted | ClaimDenied | ClaimPreempt):
            claim = self._claims.get(notice.message.claim_no)
            if claim is not None:
                claim._noticed(notice.message)

    def written(self, watches: list[Watched | WatchedAgents | FollowedCall]) -> None:
        """Wake whoever watches these contexts or agents, or made these calls; everybody if the link has ended."""
        for watched in watches or list(self._written):
            known = self._written.get(watched)
            if known is not None:
                known.set()

    async def follow_context(self, context_id: str, prefix: str, from_lsn: int) -> Watched:
        """Begin to watch a context; `next_written` returns what is written, `unfollow_context` ends the watch."""
        self.link.require_loop()
        watched = self.link.contexts.watch(context_id, prefix, from_lsn)
        self._written[watched] = asyncio.Event()
        self.link.wake()
        return watched

    async def next_written(self, watched: Watched) -> list[ContextValue]:
        """Wait until a watched context is written to, and return the new revisions in order.

        Raises:
            Gone: while this side was not connected, more was written than a watch can deliver.
            ConnectionLost: the link was closed.
        """
        await self._told(watched)
        values, watched.values = watched.values, []
        return values

    async def _told(self, watched: Watched | WatchedAgents | FollowedCall) -> None:
        news = self._written.get(watched)
        while not watched.values:
            if watched.refused is not None:
                raise refused(watched.refused)
            if self.link.has_ended or news is None:
                raise self.link.lost()
            news.clear()
            await news.wait()

    async def unfollow_context(self, watched: Watched) -> None:
        """Stop watching a context."""
        self._written.pop(watched, None)
        self.link.contexts.forget(watched)
        self.link.wake()

    def follow_call(self, call: A2ACall, *, newest_only: bool = False) -> FollowedCall:
        """Call one of A2A's operations (spec BIND); `next_answers` returns its answers, `unfollow_call` ends it.

        Args:
            call: the operation.
            newest_only: of the answers that came since the last look, return only the newest.

        Raises:
            TooLarge: its payload is larger than the coordinator accepts.
        """
        self.link.require_loop()
        followed = self.link.calls.make(call, newest_only=newest_only)
        self._written[followed] = asyncio.Event()
        self.link.wake()
        return followed

    async def next_answers(self, followed: FollowedCall) -> list[Answer]:
        """Wait for answers to a call, and return them; return none after the last one.

        Raises:
            Refused: the coordinator refused the call.
            Unavailable: the coordinator could not answer, or could not be reached, for ten seconds.
            ConnectionLost: the link was closed.
        """
        if not followed.is_over:
            await self._told(followed)
        return followed.take()

    def unfollow_call(self, followed: FollowedCall) -> None:
        """Stop following a call. Streams that nobody follows end with their connection, so many of them renew it."""
        self._written.pop(followed, None)
        self.link.calls.forget(followed)
        if self.link.calls.left >= _LEFT_MAX:
            self.link.renew()
        self.link.wake()

    def delegate(
        self,
        skill: str,
        input: Any = None,
        key: str | None = None,
        *,
        acceptance: Evaluator = "delegator",
        to: str | None = None,
        tags: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        priority: int = 0,
        effect: Literal["pure", "idempotent", "irreversible"] | None = None,
        deadline: float | timedelta | None = None,
        attempts: int | None = None,
        losses: int | None = None,
        reworks: int | None = None,
        timers: Mapping[str, float] | None = None,
        context_id: str | None = None,
        parent: tuple[str, int] | None = None,
        on_parent_end: Literal["cancel", "abandon", "detach"] = "cancel",
        budget: Mapping[str, int] | None = None,
        on_delegator_loss: Literal["continue", "pause", "cancel"] = "continue",
        loss: float | timedelta = 60.0,
        redrive_of: str | None = None,
        resources: Sequence[Name] = (),
        copies: int = 1,
        agree: int | None = None,
        comparator: str | None = None,
        resolve: Sequence[str | Mapping[str, Any]] = (),
        ballot: float | timedelta | None = None,
        resolve_cost: int | None = None,
    ) -> TaskHandle:
        """Delegate a task. Enter the returned handle to send it.

        Args:
            skill: the id of the skill.
            input: any JSON value; agents made with this package want an object with the skill's arguments. A set, also
                as a field of a model or dataclass, travels as a sorted list, which is the same after a restart; inside
                a dict or a list, give a list instead.
            key: the same key is the same task, now and after any restart. None: a new task each time; a caller that
                gives up before the task is known to exist, for example by a timeout, has it canceled.
            acceptance: who says that the result is good: `delegator` (you, when the block ends without an exception),
                `auto` (it is taken as reported), `human` (an operator).
            to: only this agent.
            tags: tags the skill must have.
            labels: labels the agent must have.
            exclude: agents that must not get it.
            priority: 0 to 9, higher first.
            effect: what the task does to the world; kept with the task, for those who decide about it.
            deadline: seconds from now by which the task must have ended.
            attempts: attempts that may fail retryably; the coordinator's default is 3.
            losses: attempts that may be lost with their agent; the coordinator's default is 3.
            reworks: how often the result may be rejected for another revision; the coordinator's default is 2.
            timers: durations in seconds by name: `heartbeat`, `lease`, `offer`, `queue`, `confirm`, `ask`, `cancel`;
                and `stall` and `attempt` for work that may hang while its agent is alive.
            context_id: the context of the task; by default the parent's, else a new one.
            parent: (task, fence) of the attempt this is a sub-task of; `TaskContext.delegate` fills it in.
            on_parent_end: what happens to a sub-task when its parent ends: `cancel` cancels it; with `abandon` it goes
                on, and its result is taken as reported; with `detach` it goes on as a task of its own.
            budget: what the task and all tasks below it may use: `tokens`, `cost_micro`, `steps`, and `children`,
                `depth`. A kind that is not named is shared with the task above.
            on_delegator_loss: what happens while no process of this principal is connected: `pause` offers the task
                to nobody, `cancel` ends it after `loss` seconds.
            loss: the seconds for `on_delegator_loss`.
            redrive_of: the ended task that this one tries again.
            resources: names to claim for each attempt, as for `claim`: an attempt begins only when it has them all.
            copies: how many agents do the task, each without knowing of the others, for one result. A question of a
                copy is answered under the copy's own id, one of `client.list(parent=task.id)`.
            agree: how many equal answers decide; by default more than half of the copies.
            comparator: how to compare two answers: `json-c14n`, `bytes`, `text-nfc`, `set`, `numeric(0.01)`,
                `pointers[/answer]`, or `agent:SKILL`, which asks an agent with that skill; by default the
                coordinator's.
            resolve: who decides if too few answers are equal, one rung after the other, as in `["majority",
                {"strategy": "judge", "skill": "review", "costMicro": 5000}, "human", "abort"]`; by default the
                coordinator's.
            ballot: seconds to wait for more answers once two contradict each other; by default the coordinator's.
            resolve_cost: what all agents that are asked to decide may use together, in millionths as for `cost_micro`
                of a budget; once it is used, the last rung decides. By default the coordinator's.

        Raises:
            ValueError: `agree`, `comparator`, `resolve`, `ballot` or `resolve_cost` without `copies`; an unknown kind
                of budget, timer or field of a rung; a value that is not a duration; one text where several are
                expected; an input without a JSON form, or an argument of the wrong type.
        """
        budget, timers = mapped(budget or {}, "budget"), mapped(timers or {}, "timers")
        require_known(budget, BUDGETS, "budget")
        require_known(timers, TIMERS, "timers")
        if whole(copies, "copies") < 1:
            raise ValueError(f"expected at least 1 copy, got {copies}")
        requires: dict[str, Any] = {}
        if to is not None:
            requires["agent"] = to
        if tags:
            requires["tags"] = several(tags, "tags")
        if labels:
            requires["labels"] = mapped(labels, "labels")
        if exclude:
            requires["exclude"] = several(exclude, "exclude")
        spec: dict[str, Any] = {"skill": skill, "acceptance": {"evaluator": acceptance}}
        if requires:
            spec["requires"] = requires
        if priority:
            spec["priority"] = priority
        if effect is not None:
            spec["effect"] = effect
        if resources:
            spec["resources"] = resources_of(several(resources, "resources"))
        if copies > 1:
            spec["redundancy"] = _redundancy(copies, agree, comparator, resolve, ballot, resolve_cost)
        elif resolve or any(given is not None for given in (agree, comparator, ballot, resolve_cost)):
            raise ValueError(
                "agree, comparator, resolve, ballot and resolve_cost decide between copies, but copies is 1"
            )
        message = TaskDelegate(
            key=new_id() if key is None else key,
            spec=spec,  # type: ignore[arg-type]
            payload=parts_payload({} if input is None else input, "input"),
            context_id=context_id,
            parent=_held(parent),
            limits=TaskLimits(milliseconds_if_any(deadline, "deadline"), attempts, losses, None, reworks),
            timers=Timers(**{f"{name}_ms": milliseconds_if_any(value, name) for name, value in timers.items()}),
            on_parent_end=on_parent_end,
            budget={to_camel(kind): amount for kind, amount in budget.items()} if budget else None,  # type: ignore[arg-type]
            on_delegator_loss=on_delegator_loss,
            loss_ms=milliseconds_if_any(loss, "loss") or 0,
            redrive_of=redrive_of,
        )
        return TaskHandle(self, message, acceptance, is_new=key is None)

    def claim(
        self,
        *names: Name,
        mode: ClaimMode = "x",
        wait: float = 0.0,
        ttl: float | None = None,
        priority: int = 0,
        preemptible: bool = False,
    ) -> Claim:
        """Claim names, all of them or none. Enter the returned claim to hold them for the duration of the block.

        Args:
            names: `repo/a/file`, or `repo/a/**` for it and all below; or each with a mode, as `("repo/a", "s")`.
            mode: for names without one: `x` claims them alone, `s` shares them with other `s` claims.
            wait: seconds to wait in line while somebody else holds one of the names.
            ttl: seconds after which the claim ends unless renewed; it is renewed while the block lasts. The
                coordinator's default is a minute.
            priority: 0 to 9, higher first; time spent waiting counts too.
            preemptible: whether a claim of higher priority may take it back; see `Claim.stopping`.

        Raises (when entered):
            Denied: somebody else holds one of the names, and the time to wait is over.
            Deadlock: the wait would never end; `data["cycle"]` says who waits for whom.
        """
        return self._claim(
            names, mode=mode, wait=wait, ttl=ttl, priority=priority, preemptible=preemptible, attempt=None
        )

    def _claim(self, names: Sequence[Name], **options: Any) -> Claim:
        return Claim(self, acquire(0, names, **options))

    def _next_claim_no(self) -> int:
        """Number a claim each time it is asked for: the coordinator takes only growing numbers (CLAIM-4)."""
        self._claim_no += 1
        return self._claim_no

    async def call(self, skill: str, input: Any = None, key: str | None = None, **options: Any) -> Any:
        """Delegate, wait for the result, confirm it and return it. Options and errors as for `delegate` and `result`.

        A caller that gives up waiting can take the task up again with its key. Without a key the task is canceled.
        """
        handle = self.delegate(skill, input, key, **options)
        handle._slack_ms = REPLY_SLACK_MS  # nobody needs the task's id before its result is there
        async with handle as task:
            try:
                return await task.result()
            except asyncio.CancelledError:
                task._give_up()
                raise

    async def find(
        self,
        skill: str | None = None,
        *,
        agent: str | None = None,
        tags: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        media_type: str | None = None,
        input_schema: str | None = None,
    ) -> list[AgentInfo]:
        """Return the known agents that match everything given, ordered by id.

        Args:
            skill: the id of a skill they must have.
            agent: the id of the only agent to return.
            tags: tags that skill must have.
            labels: labels the agent must have.
            media_type: an input mode that skill must accept.
            input_schema: the content hash (`sha256:...`) of the input schema that skill must have.
        """
        wanted = AgentFilter(
            agent, skill, several(tags, "tags"), mapped(labels or {}, "labels"), media_type, input_schema
        )
        answer = await self.link.call(AgentFind(wanted))
        return [AgentInfo.from_wire(info) for info in expect(answer, AgentFound).agents]


def expect(answer: Message, kind: type[M]) -> M:
    if not isinstance(answer, kind):
        raise RemoteProtocolError(f"expected {kind.kind}, the coordinator answered {answer.kind}")
    return answer


class TaskHandle:
    """A delegated task, as its delegator sees it. Made by `delegate`; enter it to send it.

    Leaving the block after reading the result confirms the result. Leaving it with an exception leaves the result
    unconfirmed, so that the same key can take it up again.
    """

    def __init__(self, owner: Delegator, request: TaskDelegate, evaluator: str, *, is_new: bool = False) -> None:
        self._owner = owner
        self._request = request
        self._evaluator = evaluator
        self._is_new = is_new
        """Whether nobody has delegated with the key before."""
        self._delegation: Delegation | None = None
        self._news = asyncio.Event()
        self._was_read = False
        """Whether leaving the block accepts a result."""
        self._read: Review | None = None
        """The result that was read last. The coordinator may have sent a newer one that the caller has not read."""
        self._told = ""
        """The conflict against the result that the caller was told of."""
        self._was_confirmed = False
        self._was_left = False
        self._look_at: asyncio.TimerHandle | None = None
        self._slack_ms: int | None = None
        """For how many milliseconds it does not matter that the task is not known yet."""

    async def __aenter__(self) -> Self:
        self._owner.link.require_loop()
        if self._delegation is not None and not self._was_left:
            raise LocalProtocolError(
                f"the block of task {self._delegation.task or self.key} is already entered; leave it before "
                "entering it again"
            )
        self._was_read = self._was_confirmed = self._was_left = False
        self._read = None
        self._is_new = self._is_new and self._delegation is None
        delegation = self._owner.link.delegations.delegate(self._request, slack_ms=self._slack_ms)
        self._delegation = delegation
        self._owner._handles[id(delegation)] = self
        self._owner.link.wake()
        try:
            while delegation.task is None and delegation.refused is None:
                await self._next()
        except BaseException:
            self._give_up()
            self._forget()
            raise
        if delegation.refused is not None:
            self._forget()
            raise refused(delegation.refused)
        self._look_later(LOOKS_AFTER)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.link.require_loop()
        try:
            is_open = self._known.settled is None and not self._was_confirmed
            if kind is None and self._was_read and self._is_mine_to_confirm and is_open:
                self._check_stands(self._known.review)
                await self.confirm()
        finally:
            self._forget()

    def _check_stands(self, review: Review | None) -> None:
        """Refuse to confirm an overruled result implicitly: neither reading it nor leaving the block confirms it.

        Raises:
            Overruled: a conflict went against the result.
        """
        if review is not None and review.overruled:
            self._told = review.overruled
            raise Overruled(self.id, self._value_of(review), review.overruled)

    def _look_later(self, pause: float) -> None:
        self._look_at = asyncio.get_running_loop().call_later(pause, self._look, pause)

    def _look(self, pause: float) -> None:
        """Look up the task, now and later: a process that has delegated it since gets its notices (spec TASK-7)."""
        if self._known.has_ended or self._owner.link.has_ended:
            return
        self._owner.link.delegations.look_up(self._known)
        self._owner.link.wake()
        self._look_later(min(2 * pause, LOOKS_APART_MAX))

    def _give_up(self) -> None:
        """Have the task end, unless it has a key to take it up again: nobody was told its id."""
        if self._is_new and self._delegation is not None and not self._owner.link.has_ended:
            self._owner.link.delegations.give_up(self._delegation)

    def _forget(self) -> None:
        if self._look_at is not None:
            self._look_at.cancel()
        if self._delegation is not None:
            self._owner._handles.pop(id(self._delegation), None)
            self._owner.link.delegations.forget(self._delegation)
            self._owner.link.wake()
        self._was_left = True
        self._wake()  # others may wait for news of the task, and no more comes

    @property
    def _known(self) -> Delegation:
        if self._delegation is None:
            raise LocalProtocolError("enter the handle to delegate the task: async with client.delegate(...) as task")
        return self._delegation

    @property
    def _delegations(self) -> Delegations:
        # Looked at before a word is said: the loop of the link would send it although its caller is told it cannot.
        self._owner.link.require_loop()
        return self._owner.link.delegations

    @property
    def id(self) -> str:
        """The task's id."""
        task = self._known.task
        assert task is not None, "an entered handle has its task"
        return task

    @property
    def key(self) -> str:
        """The key the task was delegated with."""
        return self._request.key

    @property
    def created(self) -> bool:
        """Whether this delegation made the task; False if the same key had made it before.

        With a key of your own it is also False if a connection ended before the coordinator's answer arrived.
        """
        # A request that is sent again finds the task it made itself; nobody else has a key that was drawn.
        return self._known.task is not None and (self._is_new or bool(self._known.created))

    @property
    def context_id(self) -> str:
        """The context the task belongs to."""
        return self._known.context_id

    async def next_event(self) -> TaskEvent | None:
        """Return the next event, from the task's beginning; None when the task has ended and all events were returned.

        Each event is returned once, to one caller of this handle. `Client.watch` gives each of its callers all events.

        Raises:
            Gone, NotFound: the coordinator no longer has the task.
            QuotaExceeded: this client watches as many tasks as it may.
        """
        delegation = self._known
        if not delegation.is_watched:
            self._check_heard()
            self._owner.link.delegations.watch(delegation)
            self._owner.link.wake()
        while not delegation.events:
            if delegation.refused is not None:
                raise refused(delegation.refused)
            if delegation.is_over:
                return None
            if delegation.unwatched is not None:
                error, delegation.unwatched = delegation.unwatched, None
                raise refused(error)
            await self._next()
        return TaskEvent.from_wire(delegation.events.pop(0))

    async def events(self) -> AsyncIterator[TaskEvent]:
        """Yield the events of the task, from its beginning until it ends or its result waits to be confirmed."""
        while (event := await self.next_event()) is not None:
            is_last = self.waits_for_me(event)
            yield event
            if is_last:
                return

    def waits_for_me(self, event: TaskEvent) -> bool:
        """Tell whether nothing more happens after this event until the delegator confirms or rejects."""
        is_doubtful = bool(event.data.get("unseenSteer") or event.data.get("staleBasis"))
        is_mine = self._evaluator == "delegator" or (self._evaluator == "auto" and is_doubtful)
        if not is_mine or event.kind != "report" or event.state != "reported":
            return False
        # A later rework means that this result was already rejected, perhaps by another process with the key.
        return all(later.event != "rework" for later in self._known.events)

    @property
    def _is_mine_to_confirm(self) -> bool:
        review = self._known.review
        is_doubtful = review is not None and (review.unseen_steer or bool(review.stale_basis))
        return self._evaluator == "delegator" or (self._evaluator == "auto" and is_doubtful)

    @property
    def stale_basis(self) -> dict[str, tuple[int, int]]:
        """Decisions that the result relies on and that had moved when it was reported: key to (seen, current)."""
        review = self._known.review
        return {stale.key: (stale.seen, stale.current) for stale in review.stale_basis} if review is not None else {}

    async def result(self) -> Any:
        """Wait for the result and return its value.

        Raises:
            TaskFailed, TaskRejected, TaskCanceled: the task ended without a result.
            StaleBasis: the result relies on decisions that have moved since, and nobody has accepted it anyway.
            Overruled: a conflict went against the result, and nobody has accepted it anyway.
            Gone, NotFound: the coordinator no longer has the task.
            RemoteProtocolError: the result does not match its hash, or is not an array of Artifacts (spec WIRE-5).
            ConnectionLost: the client was closed.
            LocalProtocolError: the block was left before a result arrived.
        """
        delegation = self._known
        while True:
            settled = delegation.settled
            if settled is not None and settled.state != "completed":
                raise _ended(settled.state, self.id, settled.reason, settled.detail)
            if delegation.review is not None and (settled is not None or self._is_mine_to_confirm):
                review = delegation.review
                if not review.is_what_its_hash_says:
                    raise RemoteProtocolError(f"the result of {self.id} does not have the hash {review.result_hash}")
                value = self._value_of(review)
                self._read = review
                if settled is None and not self._was_confirmed:
                    self._check_stands(review)
                    if self.stale_basis:
                        raise StaleBasis(self.id, value, self.stale_basis)
                self._was_read = True
                return value
            if settled is not None:
                raise TaskFailed(self.id, "lost", "the coordinator settled the task without a result")
            if delegation.refused is not None:
                raise refused(delegation.refused)
            await self._next()

    def _value_of(self, review: Review) -> Any:
        try:
            return result_value(review.payload)
        except UNREADABLE as error:
            told = (
                f"expected a JSON array of Artifacts as the result of {self.id}, {review.agent} reported something else"
            )
            raise RemoteProtocolError(f"{told}: {error}") from error

    async def artifacts(self) -> list[dict[str, Any]]:
        """Wait for the result and return it as A2A Artifacts."""
        await self.result()
        review = self._known.review
        return read_artifacts(review.payload) if review else []

    async def question(self) -> tuple[int, Any]:
        """Wait until the task asks something, and return (number, question).

        Raises:
            TaskError: the task ended first, or its result waits for your word, before which it asks nothing. It is a
                TaskFailed only if the task failed.
            Gone, NotFound: the coordinator no longer has the task.
        """
        delegation = self._known
        while not delegation.asks:
            if (settled := delegation.settled) is not None:
                detail = settled.detail or ("it has no more questions" if settled.state == "completed" else "")
                raise _ended(settled.state, self.id, settled.reason, detail)
            if delegation.refused is not None:
                raise refused(delegation.refused)
            if delegation.review is not None and self._is_mine_to_confirm and not self._was_confirmed:
                raise _ended("reported", self.id, "", "its result waits to be confirmed or rejected first")
            await self._next()
        ask = min(delegation.asks.values(), key=lambda ask: ask.ask_no)
        return ask.ask_no, read_word(ask.payload)

    async def confirm(self) -> None:
        """Accept the result that was read.

        Raises:
            Conflict: another result is current by now.
            Overruled: a conflict has gone against the result since it was read, so it was not accepted. Call again to
                accept it anyway.
        """
        known = self._known
        while True:
            read = self._read or known.review
            if read is not None and read.overruled != self._told:
                self._check_stands(read)
            try:
                await self._say(self._delegations.confirm(known, read=read), "confirm")
                break
            except GenerationMismatch:
                assert read is not None, "a word was said on it"
                await self._look_again(read)
        self._was_confirmed = True

    async def _look_again(self, read: Review) -> None:
        """Learn what became of the task while a word on its result was under way (spec ACCEPT-8)."""
        found = expect(await self._owner.link.call(TaskGet(self.id, content=False)), TaskFound)
        metadata = found.view.get("metadata", {})
        read.generation = found.generation
        if (metadata.get("rev"), metadata.get("resultHash")) == (read.rev, read.result_hash):
            read.overruled = metadata.get("overruled", "")

    async def reject(self, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """Reject the result that was read; with `rework` another revision follows, with the feedback.

        Raises:
            Conflict: another result is current by now, or this one was accepted already.
        """
        known, rejected, was_read, read = self._known, self._known.review, self._was_read, self._read
        request = self._delegations.confirm(
            known, "reject", rework=rework, reason_code=reason, feedback=parts_payload(feedback, "feedback"), read=read
        )
        self._was_read, self._read = False, None
        try:
            await self._say(request, "reject")
        except BaseException as error:
            if known.review is None:  # nothing newer came meanwhile: it is still the current one
                known.review = rejected
                # A caller that gave up waiting may have rejected it: leaving the block must not accept it.
                self._was_read, self._read = was_read and isinstance(error, Refused), read
            raise

    async def cancel(self, reason: str = "", *, mode: Mode = "coop") -> str:
        """Ask for the task to end, and return `canceled`, or `pending` while an agent winds down."""
        answer = await self._say(self._delegations.cancel(self._known, mode, reason), "cancel")
        return expect(answer, Ok).will or "pending"

    async def steer(self, value: Any, key: str | None = None, *, interrupt: bool = False) -> None:
        """Send a word to the work under way: its handler reads it, in this attempt or the next.

        A result written before the handler saw the word is not taken as reported, but waits for `confirm`.

        Args:
            value: any JSON value.
            key: the same key is the same word, however often it is sent. None: a new word.
            interrupt: have the attempt give the task back, so that the next one begins with the word.

        Raises:
            Conflict: no attempt is under way to hear it.
        """
        mode: Literal["enqueue", "interrupt"] = "interrupt" if interrupt else "enqueue"
        payload = parts_payload(value, "value")
        await self._say(self._delegations.steer(self._known, key or new_id(), payload, mode), "steer")

    async def answer(self, ask_no: int, value: Any) -> None:
        """Answer a question of the task.

        Raises:
            AlreadyAnswered: another answer counts; it is in `data["answer"]`.
            Conflict: the question was withdrawn.
        """
        known, asked = self._known, self._known.asks.get(ask_no)
        request = self._delegations.answer(known, ask_no, parts_payload(value, "value"))
        try:
            await self._say(request, "answer")
        except (AlreadyAnswered, Conflict, NotFound, Gone):
            raise
        except BaseException:
            if asked is not None and not known.has_ended:  # the question may still have no answer
                known.asks.setdefault(ask_no, asked)
                self._wake()
            raise

    async def _say(self, request: str | None, what: str) -> Message:
        if request is None:
            raise LocalProtocolError(f"task {self._known.task} has no result to {what} yet")
        return await self._owner.link.reply_to(request)

    async def _next(self) -> None:
        self._news.clear()
        self._check_heard()
        await self._news.wait()

    def _check_heard(self) -> None:
        self._owner.link.require_loop()
        if self._owner.link.has_ended:
            raise self._owner.link.lost()
        if self._was_left:
            raise LocalProtocolError(
                f"the block of task {self._known.task} was left, and this handle gets no more events: "
                "delegate with its key to follow it again"
            )
        if id(self._known) not in self._owner._handles:  # its client was left and entered again
            raise self._owner.link.lost()

    def _wake(self) -> None:
        self._news.set()


def _ended(state: str, task: str, reason: str, detail: str) -> TaskError:
    kinds = {"failed": TaskFailed, "rejected": TaskRejected, "canceled": TaskCanceled}
    return kinds.get(state, TaskError)(task, reason or state, detail)
