"""The agents of a coordinator as tools for one MCP host: a call delegates a task and waits for it.

Tasks belong to the coordinator: giving up a call early, the end of a host and a restart of either do not change them.
Only if the host cancels a call is its task canceled. `tools` makes what a model reads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    CancelledNotificationParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    RequestId,
)

from .. import __version__
from ..client import Client
from ..content import artifacts_value
from ..delegator import AgentInfo, TaskEvent, TaskHandle
from ..errors import A2AError, AlreadyAnswered, QuotaExceeded, Unavailable
from .tools import STANDING, Question, SkillTool, check_arguments, failure, notice, outcome, tools_of

__all__ = ["KEY", "ToolServer"]

KEY = "a2a-coordinator/key"
"""The key of a call in its `_meta`: the same key is the same task."""

_AWAY_AFTER = 10.0
"""Seconds without an answer after which the coordinator counts as away."""
_LISTS_WITHIN = 2.0
"""Seconds in which the coordinator says who is there: hosts ask for the tools at their start, and do not wait."""
_INSTRUCTIONS = """\
Each tool except get_task and answer_task has an agent do a task, which continues by itself until it ends. A result \
may say that the task still works, and name its id: call get_task with that id, and do not call the tool again, which \
would begin another task. A task may ask something: put the question to the user, and call answer_task."""

logger = logging.getLogger(__name__)

_Context = ServerRequestContext[Any, Any]
_Result = CallToolResult | InputRequiredResult


class _Told(Exception):
    """A call has no result, for the reason in the text."""


@dataclass(slots=True)
class _Call:
    """A call that began a task."""

    again: Callable[[], TaskHandle] | None
    """Delegates again with the call's key; None if the call has no key of its own."""
    task: str | None = None
    """The task's id, once it is known."""


class ToolServer:
    """Serves one host.

    Args:
        client: the owner of the tasks; it is entered in `serving`.
        url: where the coordinator is, for messages.
        skills: the ids of the skills to offer as tools; if empty, all skills.
        wait: seconds after which a call is answered although its task still works.
        acceptance: who says that a result is good (spec ACCEPT-1).
        typed: makes a command line from its words, as a user types it to reach the same coordinator.
    """

    def __init__(
        self,
        client: Client,
        url: str,
        *,
        skills: Collection[str] = (),
        wait: float = 50.0,
        acceptance: Literal["auto", "human"] = "auto",
        typed: Callable[[str], str] = "a2a {}".format,
    ) -> None:
        self._client = client
        self._url = url
        self._skills = skills
        self._wait = wait
        self._acceptance = acceptance
        self._typed = typed
        self._entered = anyio.Event()
        self._agents: dict[str, AgentInfo] = {}
        self._tools: dict[str, SkillTool] = {}
        self._session: Any = None
        self._calls: dict[RequestId | None, _Call] = {}
        self._bus = InMemorySubscriptionBus()
        self.server: Server[Any] = Server(
            "a2a",
            version=__version__,
            title="Agents",
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=ListenHandler(self._bus),
        )
        self.server.add_notification_handler("notifications/cancelled", CancelledNotificationParams, self._cancel)

    @property
    def options(self) -> InitializationOptions:
        """What the server says of itself when a connection begins."""
        return self.server.create_initialization_options(NotificationOptions(tools_changed=True))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Follow the coordinator inside the block, even one that starts later.

        Raises:
            ConnectError: it refused the client.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._follow_agents)
            yield
            group.cancel_scope.cancel()

    # Tools ------------------------------------------------------------------------------------------------------------

    async def _follow_agents(self) -> None:
        async with self._client, aclosing(self._client.watch_agents()) as changes:
            self._entered.set()
            async for change in changes:
                agents = {**self._agents, change.agent.agent_id: change.agent}
                if change.change == "left":
                    del agents[change.agent.agent_id]
                before = self._tools
                if self._know(agents) != before:
                    await self._bus.publish(ToolsListChanged())  # to hosts of MCP from 2026 on
                    if self._session is not None:
                        await self._session.send_tool_list_changed()  # to older hosts

    def _know(self, agents: dict[str, AgentInfo]) -> dict[str, SkillTool]:
        shown = [(agent.agent_id, agent.status, agent.card) for agent in agents.values()]
        if shown != [(agent.agent_id, agent.status, agent.card) for agent in self._agents.values()]:
            self._tools = tools_of(agents.values(), self._skills)
        self._agents = agents
        return self._tools

    async def _list(self, ctx: _Context, params: PaginatedRequestParams | None) -> ListToolsResult:
        self._session = ctx.session
        tools = self._tools
        with anyio.move_on_after(_LISTS_WITHIN) as scope:
            await self._entered.wait()
            tools = tools_of(await self._client.find(), self._skills)
        if scope.cancelled_caught:
            logger.warning("%s has not answered: the tools are the last known ones", self._url)
        return ListToolsResult(tools=[*(tool.shown for tool in tools.values()), *STANDING])

    # Calls ------------------------------------------------------------------------------------------------------------

    async def _call(self, ctx: _Context, params: CallToolRequestParams) -> _Result:
        until = anyio.current_time() + self._wait
        try:
            task, tool = await self._begun(ctx, params)
            is_declined = params.request_state is not None and _accepted(params) is None
            may_ask = not is_declined and _takes_forms(ctx)
            result = await self._followed(ctx, task, tool, until, may_ask=may_ask)
        except (A2AError, ValueError, _Told) as error:
            result = failure(str(error))
        # Not if the host has cancelled the call: `_cancel` runs after this.
        self._calls.pop(ctx.request_id, None)
        return result

    async def _begun(self, ctx: _Context, params: CallToolRequestParams) -> tuple[str, SkillTool | None]:
        """Tell the coordinator what a call says, and return the task and the tool whose result it has."""
        arguments = params.arguments or {}
        kept = "call again"
        with anyio.move_on_after(_AWAY_AFTER):
            if params.request_state is not None:
                if not (state := re.fullmatch(r"(\S+) (\d+)", params.request_state)):
                    raise _Told(f"requestState: expected what the question came with, got {params.request_state!r}")
                task, number = state[1], int(state[2])
                self._calls[ctx.request_id] = _Call(None, task)
                await self._entered.wait()
                if (answer := _accepted(params)) is not None:
                    await self._answer(task, number, answer)
                return task, self._tools.get(params.name)
            if standing := next((tool for tool in STANDING if tool.name == params.name), None):
                check_arguments(standing, arguments)
                task = arguments["task"]
                await self._entered.wait()
                if params.name == "answer_task":
                    await self._answer(task, None, arguments["answer"])
                return task, None
            key = _key_of(ctx)
            kept = "nothing was begun" if key is None else "call again with the same key"
            await self._entered.wait()
            tool = self._tools.get(params.name) or await self._found(params.name)
            return await self._delegated(ctx.request_id, tool, tool.input_of(arguments), key), tool
        raise _Told(f"no coordinator has answered at {self._url} for {_AWAY_AFTER:g} s: {kept}. The user may start it.")

    async def _found(self, name: str) -> SkillTool:
        """Return a tool that was missing when agents last changed; the coordinator has the last word."""
        found = await self._client.find()
        tools = tools_of(found, self._skills)
        if name not in tools:
            agents = ", ".join(agent.agent_id for agent in found if agent.status == "ready") or "none"
            there = f"Agents: {agents}; their tools: {', '.join(tools) or 'none'}"
            raise _Told(f"no connected agent offers {name}, and nothing was begun. {there}")
        return tools[name]

    async def _delegated(self, request: RequestId | None, tool: SkillTool, value: Any, key: str | None) -> str:
        def delegate() -> TaskHandle:
            return self._client.delegate(tool.skill, value, key, acceptance=self._acceptance)

        call = self._calls[request] = _Call(None if key is None else delegate)
        async with delegate() as handle:  # without its own key the task ends if it is given up here
            call.task = handle.id
        return call.task

    async def _cancel(self, ctx: _Context, params: CancelledNotificationParams) -> None:
        """Cancel the task of a call that the host has cancelled."""
        call = self._calls.pop(params.request_id, None)
        if call is None:
            return
        reason = "the host cancelled the call"
        try:
            with anyio.move_on_after(_AWAY_AFTER) as scope:
                if call.task is not None:
                    await self._client.cancel(call.task, reason)
                elif call.again is not None:  # without its own key the task has been given up
                    async with call.again() as handle:
                        await handle.cancel(reason)
        except A2AError as error:
            logger.info("%s could not be canceled: %s", call.task, error)
        else:
            if scope.cancelled_caught:
                logger.warning("%s may go on: the coordinator at %s has not answered", call.task, self._url)

    # Tasks ------------------------------------------------------------------------------------------------------------

    async def _followed(
        self, ctx: _Context, task: str, tool: SkillTool | None, until: float, *, may_ask: bool
    ) -> _Result:
        """Wait until a task stands still, and return what to say of it; or that it still works."""
        metadata: dict[str, Any] = {}
        told = 0.0
        with anyio.CancelScope(deadline=until), suppress(Unavailable, QuotaExceeded):  # the task goes on all the same
            while True:
                found = await self._client.get(task)
                metadata, generation = found["metadata"], found["metadata"]["generation"]
                result = await self._standing(ctx, task, found, tool, may_ask=may_ask)
                if result is not None:
                    return result
                async with aclosing(self._client.watch(task, generation)) as events:
                    async for event in events:
                        if event.kind == "progress":
                            told = await _progressed(ctx, event, told)
                        elif event.generation > generation:
                            break
        asked = _open_ask(metadata)  # the person has not answered yet
        return self._working(task, metadata) if asked is None else self._asking(task, Question(asked["question"]))

    async def _standing(
        self, ctx: _Context, task: str, found: dict[str, Any], tool: SkillTool | None, *, may_ask: bool
    ) -> _Result | None:
        """Return what to say of a task that waits for somebody or has ended; None if it goes on."""
        metadata = found["metadata"]
        match metadata["state"]:
            case "completed":
                whole = self._typed(f"task result {task}")
                return outcome(task, artifacts_value(found["artifacts"]), tool, whole)
            case "failed" | "rejected" | "canceled" as ended:
                detail = (metadata.get("error") or {}).get("detail") or metadata.get("detail", "")
                reason = detail or metadata.get("reason") or "nobody said why"
                return failure(f"{task} is {ended}: {reason}\nWhat led to it: {self._typed(f'task show {task}')}")
            case "reported":
                how = f"somebody has to accept it: {self._typed(f'task confirm {task}')}"
                note = f"{task} has a result that does not count yet, {how}"
                return notice(task, "reported", note, artifacts_value(found["artifacts"]))
        asked = _open_ask(metadata)
        if asked is None:
            return None
        question = Question(asked["question"])
        if not may_ask:
            return self._asking(task, question)
        form = ElicitRequestFormParams(message=question.text, requested_schema=question.form)
        if not ctx.session.can_send_request:
            state = f"{task} {asked['askNo']}"
            return InputRequiredResult(input_requests={"answer": ElicitRequest(params=form)}, request_state=state)
        try:
            given = await ctx.session.elicit_form(form.message, form.requested_schema, ctx.request_id)
        except (MCPError, ValueError) as error:
            logger.warning("the host could not ask for %s: %s", task, error)
            return self._asking(task, question)
        if (answer := _filled_in(given)) is None:
            return self._asking(task, question)
        await self._answer(task, asked["askNo"], answer)
        return None

    async def _answer(self, task: str, number: int | None, given: Any) -> None:
        """Answer a task's question for a person: the question with this number, or the open one."""
        asked = _open_ask((await self._client.get(task))["metadata"])
        if asked is None or number not in (None, asked["askNo"]):
            if number is None:
                raise _Told(f"{task} has no open question: call get_task to see its state")
            return  # somebody else was faster
        try:
            await self._client.answer(task, asked["askNo"], Question(asked["question"]).answer_of(given))
        except AlreadyAnswered:
            logger.info("question %d of %s was answered by somebody else", asked["askNo"], task)
        except ValueError as error:
            raise _Told(f"{task} still asks: {error}. Call answer_task with another answer.") from error

    # What is said -----------------------------------------------------------------------------------------------------

    def _asking(self, task: str, question: Question) -> CallToolResult:
        how = f"call answer_task with task {task}; or the user types: {self._typed(f'answer {task}')}"
        return notice(task, "asks", f"{task} waits for an answer to:\n{question.text}\nAsk the user, and {how}")

    def _working(self, task: str, metadata: dict[str, Any]) -> CallToolResult:
        state = metadata.get("state", "unknown")
        how = "it is queued until an agent is free for it" if state == "queued" else "it is at work"
        if not self._client.link.session.is_open:
            how = f"the coordinator at {self._url} is away, and the task continues when it is back"
        return notice(task, state, f"{task} has no result yet: {how}. Call get_task with task {task} to wait for it.")


def _open_ask(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first unanswered question of a task."""
    return next((one for one in metadata.get("asks", ()) if one["isOpen"]), None)


def _key_of(ctx: _Context) -> str | None:
    key: Any = (ctx.meta or {}).get(KEY)
    if key is not None and (not isinstance(key, str) or not key):
        raise _Told(f"{KEY} in _meta: expected a text, got {key!r}")
    return key


def _accepted(params: CallToolRequestParams) -> Any:
    """Return the answer in the form of a repeated call; None if the person did not fill it in."""
    given = (params.input_responses or {}).get("answer")
    return _filled_in(given) if isinstance(given, ElicitResult) else None


def _filled_in(form: ElicitResult) -> Any:
    """Return the answer in a form; None if there is none, as some hosts accept an empty form."""
    return (form.content or {}).get("answer") if form.action == "accept" else None


def _takes_forms(ctx: _Context) -> bool:
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    # Hosts from before forms had a name send an empty capability.
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


async def _progressed(ctx: _Context, event: TaskEvent, told: float) -> float:
    """Report a task's progress, and return it. As MCP requires, it grows with each notice."""
    progress = event.progress if event.progress is not None and event.progress > told else told + 1e-6
    await ctx.session.report_progress(progress, 1.0, event.note or None)
    return progress
