"""The client: delegate, follow and confirm tasks; look at tasks and agents. The public API for getting work done.

    async with a2a.connect() as client:
        async with client.delegate("count_words", {"text": document}, key="doc-42") as task:
            result = await task.result()

Everything runs in the event loop the client was opened in; in another one, calls raise LocalProtocolError. A client
survives restarts of the coordinator: requests without an answer are sent again, and the same key is the same task. A
request that the coordinator cannot answer now is also sent again, for ten seconds, before it raises Unavailable.
"""

from __future__ import annotations

import asyncio
import builtins
import getpass
import re
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import anyio

from .content import parts_payload
from .delegator import AgentChange, AgentInfo, Mode, TaskHandle, expect
from .errors import LocalProtocolError
from .given import milliseconds_if_any, require_kind, whole
from .ids import new_id, new_suffix
from .link import Link, LinkSettings, require_secret, settings_with
from .loop import running_loop
from .protocol.messages import (
    AgentFilter,
    AgentFind,
    AgentForget,
    AgentForgotten,
    AgentFound,
    AgentUpdate,
    ClaimList,
    ClaimPage,
    ClaimRelease,
    ConflictAppeal,
    ConflictPosition,
    ConflictVote,
    CoordinatorFound,
    CoordinatorGet,
    Ok,
    TaskAnswer,
    TaskCancel,
    TaskConfirm,
    TaskFound,
    TaskGet,
    TaskSteer,
)
from .protocol.session import Identity
from .reader import Reader
from .shared_context import SharedContext

__all__ = ["Client", "Ground", "connect"]

Ground = Literal["new_evidence", "misapplied_policy", "judge_not_independent", "wrong_subject"]
"""The ground of an appeal against a decision."""

_DRAINS_WITHIN = 2.0
"""Seconds for which a client that leaves waits for the answers it still lacks."""
_GIVES_UP_WITHIN = 1.0
"""Seconds for which a cancelled client waits for the ids of the tasks that it gives up. Nobody has their keys."""


class Client(Reader):
    """A peer that delegates work. Made by `connect`."""

    def __init__(self, settings: LinkSettings, identity: Identity) -> None:
        super().__init__()
        self._settings = settings
        self._identity = identity

    async def __aenter__(self) -> Self:
        running_loop()  # outside a loop this raises, and says what is needed
        if self._link is not None and not self._link.has_ended:
            raise LocalProtocolError("the client is already entered; leave it before entering it again")
        self._let_go()
        self._link = Link(
            self._settings,
            self._identity,
            on_change=self.changed,
            on_written=self.written,
            on_notice=self.noticed,
        )
        await self.link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close(is_cancelled=isinstance(error, asyncio.CancelledError))

    async def aclose(self) -> None:
        """Send what is left to send, and close."""
        await self._close()

    async def _close(self, *, is_cancelled: bool = False) -> None:
        link = self.link
        link.require_loop()
        try:
            if link.session.is_open and is_cancelled:
                # What is left to say goes out as the link closes. A cancelled client waits only for the ids of the
                # tasks that it gives up: without them it cannot end the tasks.
                with anyio.CancelScope(shield=True):
                    await link.gave_up(_GIVES_UP_WITHIN)
            elif link.session.is_open:
                await link.drained(_DRAINS_WITHIN)
        finally:
            await link.aclose()

    @property
    def agent_id(self) -> str:
        """The agent id this client uses."""
        return self._identity.agent_id

    @property
    def durability(self) -> str:
        """How durable the coordinator's answers are: `fsync`, `os` or `memory`."""
        welcome = self.link.session.welcome
        assert welcome is not None, "an entered client was welcomed"
        return welcome.durability

    @property
    def is_operator(self) -> bool:
        """Whether the coordinator gave this client the operator's role."""
        welcome = self.link.session.welcome
        return welcome is not None and welcome.role == "operator"

    async def resolve(self, conflict: str, choice: str | None, reasons: str = "") -> None:
        """Decide a conflict as a person: for the subject with this `ref`, or for none of them with None.

        Raises:
            Forbidden: this client is not an operator.
            Conflict: it was decided otherwise before.
        """
        await self.link.call(ConflictVote(conflict, choice, reasons))

    async def take_position(self, conflict: str, stance: str, value: Any = "") -> None:
        """State a position on a conflict that this client's principal is a party to; those who decide read it."""
        await self.link.call(ConflictPosition(conflict, parts_payload(value, "value"), stance))

    async def appeal(
        self,
        conflict: str,
        ground: Ground,
        evidence: Any = "",
    ) -> None:
        """Appeal, for a party's principal, against an outcome that has not taken effect yet; once per conflict."""
        await self.link.call(ConflictAppeal(conflict, ground, parts_payload(evidence, "evidence")))

    async def confirm(self, task: str, *, if_generation: int | None = None) -> None:
        """Accept the result of any task this client may decide about.

        Args:
            task: its id.
            if_generation: the task's generation when its result was looked at, from the `metadata` of `get`. By default
                the result is accepted as it stands now, whatever was decided about it since.

        Raises:
            Forbidden: this client may not decide about it.
            Conflict: there is no result to confirm.
            GenerationMismatch: the task has gone on since, for example because a conflict went against its result.
        """
        if if_generation is not None:
            whole(if_generation, "if_generation")
        await self._word(task, "accept", rework=False, reason="", feedback=None, if_generation=if_generation)

    async def reject(self, task: str, feedback: Any = "", *, rework: bool = True, reason: str = "") -> None:
        """Reject the result of any task this client may decide about; with `rework` another revision follows."""
        payload = parts_payload(feedback, "feedback")
        await self._word(task, "reject", rework=rework, reason=reason, feedback=payload)

    async def _word(
        self,
        task: str,
        verdict: Literal["accept", "reject"],
        *,
        rework: bool,
        reason: str,
        feedback: bytes | None,
        if_generation: int | None = None,
    ) -> None:
        found = expect(await self.link.call(TaskGet(task, content=False)), TaskFound)
        metadata = found.view["metadata"]
        # Without a result, the coordinator's answer says best why there is nothing to confirm.
        digest = metadata.get("resultHash") or "sha256:" + "0" * 64
        word = TaskConfirm(task, metadata["rev"], digest, verdict, rework, reason, feedback, if_generation)
        await self.link.call(word)

    async def cancel(self, task: str, reason: str = "", *, mode: Mode = "coop") -> str:
        """Ask for any task to end, and return `canceled`, or `pending` while an agent winds down."""
        answer = await self.link.call(TaskCancel(task, mode, reason))
        return expect(answer, Ok).will or "pending"

    async def answer(self, task: str, ask_no: int, value: Any) -> None:
        """Answer a question of any task this client may decide about; see `TaskHandle.answer`."""
        await self.link.call(TaskAnswer(task, ask_no, parts_payload(value, "value")))

    async def steer(self, task: str, value: Any, key: str | None = None, *, interrupt: bool = False) -> None:
        """Steer the work on any task this client may decide about; see `TaskHandle.steer`."""
        mode: Literal["enqueue", "interrupt"] = "interrupt" if interrupt else "enqueue"
        await self.link.call(TaskSteer(task, key or new_id(), parts_payload(value, "value"), mode=mode))

    def redrive(self, task: dict[str, Any], key: str | None = None, **options: Any) -> TaskHandle:
        """Try an ended task again, as a new task with the same skill and input. Enter the returned handle to send it.

        Its agents are chosen as before, and as many copies have to agree. Its context, limits, timers and budget are
        new.

        Args:
            task: the ended task, from `get`.
            key: of the new task. By default every redrive of this task has the same key.
            options: as for `delegate`; they override what is as before.

        Raises:
            ValueError: the task is without its content, as `list` shows it, or is not a task.
        """
        given: Any = task
        if not isinstance(given, dict) or "metadata" not in given:
            raise ValueError(f"task: expected a task as `get` returns it, got {given!r}")
        metadata = task["metadata"]
        if "input" not in metadata:
            raise ValueError(f"task {task['id']} comes without its content: redrive the task that `get` returns")
        spec, requires = metadata["spec"], metadata["spec"].get("requires", {})
        as_before = {
            "acceptance": metadata["evaluator"],
            "to": requires.get("agent"),
            "tags": requires.get("tags", ()),
            "labels": requires.get("labels"),
            "exclude": requires.get("exclude", ()),
            "priority": spec.get("priority", 0),
            "effect": spec.get("effect"),
            "resources": [(wanted["name"], wanted.get("mode", "x")) for wanted in spec.get("resources", ())],
            "redrive_of": task["id"],
        }
        if options.get("copies") != 1:
            as_before |= _copies(spec.get("redundancy", {}))
        key = key or f"redrive:{task['id']}"
        return self.delegate(metadata["skill"], metadata["input"], key, **(as_before | options))

    def context(self, context_id: str) -> SharedContext:
        """Return what the tasks of a context share: values to read, write and watch."""
        return SharedContext(self, context_id)

    async def drain(self, agent: str, grace: float | None = None) -> None:
        """Stop offering new work to an agent. Needs the operator's role.

        Args:
            agent: its id.
            grace: seconds until it must give back what it holds; None lets it finish that.
        """
        grace_ms = milliseconds_if_any(grace, "grace")
        await self.link.call(AgentUpdate(agent=agent, status="draining", grace_ms=grace_ms))

    async def forget(self, agent: str, *, secret_only: bool = False) -> bool:
        """Have the coordinator forget an agent that will not come back, or its lost secret. Needs the operator's role.

        Args:
            agent: its id. Nothing that it holds, delegated, claimed or is party to may be open.
            secret_only: keep the agent and all that is open; the next process with its id takes that over.

        Returns:
            Whether there was anything to forget.

        Raises:
            Denied: it is connected, or something is open.
            Forbidden: this client does not have the operator's role.
        """
        forgotten = expect(await self.link.call(AgentForget(agent, secret_only)), AgentForgotten)
        return forgotten.known or forgotten.bound

    async def status(self) -> dict[str, Any]:
        """Return the state of the coordinator (spec READ-7).

        Returns:
            Its `namespace`, `epoch` and newest record (`lsn`); how many seconds it has been `up`; how many `tasks` are
            in each state; and `amounts`: name to `count` and `most`, the limit or None.
        """
        found = expect(await self.link.call(CoordinatorGet()), CoordinatorFound)
        return {
            "namespace": found.namespace,
            "epoch": found.epoch,
            "lsn": found.lsn,
            "up": found.up_ms / 1000,
            "tasks": found.tasks,
            "amounts": {amount.what: {"count": amount.count, "most": amount.most} for amount in found.amounts},
        }

    async def claims(
        self, name: str | None = None, *, task: str | None = None, limit: int = 100
    ) -> builtins.list[dict[str, Any]]:
        """Return the claims: first those that are held, then those in line, the next first.

        Args:
            name: only claims that stand in the way of this name.
            task: only the claims of this task.
            limit: at most this many, up to 1000.
        """
        return expect(await self.link.call(ClaimList(name, task, limit)), ClaimPage).claims

    async def release(self, claim_fence: int) -> None:
        """Give back a claim of this principal, wherever it was made; an operator may give back anybody's.

        Raises:
            NotHolder: the claim is somebody else's.
        """
        await self.link.call(ClaimRelease(claim_fence))

    async def refused_hellos(self, agent: str) -> builtins.list[dict[str, Any]]:
        """Return the newest hellos that were refused in the name of an agent without a card on file.

        For an agent with a card they are in its `AgentInfo`. Each has `agent`, `kind`, `code`, `detail`, `at`, `times`.
        """
        answer = expect(await self.link.call(AgentFind(AgentFilter(agent))), AgentFound)
        return [dict(refusal) for refusal in answer.refused]

    async def watch_agents(self, skill: str | None = None) -> AsyncGenerator[AgentChange, None]:
        """Yield agents as they join, leave and change, beginning with those that are there now.

        After a lost connection come the differences from what was told last, but not what came and went in between.

        Args:
            skill: only agents that have it; an agent that loses the skill counts as left.

        Raises:
            ConnectionLost: the client was closed.
        """
        self.link.require_loop()
        if skill is not None:
            require_kind(skill, str, "skill")
        watched = self.link.agents.watch(skill)
        self._written[watched] = asyncio.Event()
        self.link.wake()
        try:
            while True:
                await self._told(watched)
                values, watched.values = watched.values, []
                for event in values:
                    yield AgentChange(event.change, AgentInfo.from_wire(event.agent))
        finally:
            self._written.pop(watched, None)
            self.link.agents.forget(watched)


def _copies(redundancy: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of `delegate` that a task's redundancy was made from."""
    names = {"n": "copies", "k": "agree", "comparator": "comparator", "policy": "resolve", "costMicro": "resolve_cost"}
    options = {option: redundancy[name] for name, option in names.items() if name in redundancy}
    if "ballotMs" in redundancy:
        options["ballot"] = redundancy["ballotMs"] / 1000
    return options


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    name: str | None = None,
    operator: bool | None = None,
    operator_token: str | None = None,
    settings: LinkSettings | None = None,
) -> Client:
    """Return a client to enter: `async with a2a.connect() as client`.

    Args:
        url: the coordinator's; by default A2A_URL, else the default port on this machine.
        token: the namespace's; by default A2A_TOKEN, else the one in this user's state directory for the URL.
        name: the principal this client speaks for; each principal has its own keys. By default the user's name, or
            `client` if the user has none.
        operator: whether to ask for the operator's role, with the token from the state directory; by default no.
        operator_token: ask for that role with this token.
        settings: everything else about the link. The other arguments override them; with settings, the environment is
            not read.

    Raises:
        ValueError: an argument has the wrong type.

    Entering raises:
        ConnectError: no coordinator was reached, or it did not let this client in.
    """
    if name is not None:
        require_kind(name, str, "name")
    require_secret(operator_token, "operator_token")
    chosen = settings_with(settings, url=url, token=token)
    if operator_token is not None:
        chosen = replace(chosen, operator=True, operator_token=operator_token)
    if operator is not None:
        chosen = replace(chosen, operator=operator)
    principal = name or _user() or "client"
    suffix = new_suffix()
    identity = Identity(f"{principal}#{suffix}", instance_id=suffix, incarnation=int(time.time() * 1000))
    return Client(chosen, identity)


def _user() -> str:
    """Return the user's name in the form of an id (spec ID-1), or an empty text if the user has none."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # as in a container that runs under a numeric user id
        return ""
    return re.sub(r"[^A-Za-z0-9._-]", "-", user).lstrip("._-")[:96]
