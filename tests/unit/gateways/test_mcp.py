"""The agents of a coordinator for a host of MCP: what a call comes to, and what the host is told meanwhile."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp")  # it needs newer packages than the oldest that all else runs with
import mcp_types as types
from mcp import Client as Host
from mcp.shared.exceptions import MCPError
from mcp.shared.memory import create_client_server_memory_streams
from mcp.shared.message import SessionMessage

from a2a import Agent, ConnectError, LinkSettings, TaskContext, connect
from a2a.engine.policy import Policy
from a2a.errors import QuotaExceeded
from a2a.gateways import mcp as mcp_module
from a2a.gateways.mcp import KEY, ToolServer
from a2a.testing import Squad, squad
from a2a.testing.squad import QUICK

BOUND = 30
ERAS = ("legacy", "auto")
"""How a host begins: by the handshake of MCP before 2026, or as it is since."""


@dataclass(frozen=True)
class Served:
    """A host of a server, and what is behind that."""

    host: Host
    squad: Squad
    tools: ToolServer

    async def call(self, tool: str, arguments: Any = None, **more: Any) -> types.CallToolResult:
        return await self.host.call_tool(tool, arguments or {}, **more)


@asynccontextmanager
async def hosted(tools: ToolServer, mode: Any = "legacy", **options: Any) -> AsyncIterator[Host]:
    """Have a host of a server inside a block."""

    @asynccontextmanager
    async def reached() -> AsyncIterator[Any]:
        async with create_client_server_memory_streams() as (near, far), anyio.create_task_group() as group:
            group.start_soon(tools.server.run, *far, tools.options)
            yield near
            group.cancel_scope.cancel()

    async with tools.serving(), Host(reached(), mode=mode, **options) as client:
        yield client


@asynccontextmanager
async def served(*agents: Agent, mode: Any = "legacy", host: Any = None, **options: Any) -> AsyncIterator[Served]:
    """Have a host of a server inside a block; `host` are the host's own options."""
    with anyio.fail_after(BOUND):
        async with squad(*agents, policy=Policy(durations=QUICK)) as running:
            tools = ToolServer(running.connect("mcp"), "ws://here", **options)
            async with hosted(tools, mode=mode, **(host or {})) as client:
                yield Served(client, running, tools)


@asynccontextmanager
async def joined(running: Squad, agent: Agent) -> AsyncIterator[None]:
    """Have another agent there inside a block."""
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: agent.run(settings=running.settings, stop=stop))
        yield
        stop.set()


def text(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


async def names(host: Host) -> list[str]:
    return [tool.name for tool in (await host.list_tools()).tools]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_call_delegates_a_task_and_returns_its_result(helper, mode):
    async with served(helper, mode=mode) as here:
        assert {"count_words", "echo", "get_task", "answer_task"} <= set(await names(here.host))
        done = await here.call("count_words", {"text": "to be or not to be"})
        assert (done.is_error, text(done), done.structured_content) == (False, '{"words": 6}', {"words": 6})
        assert text(await here.call("echo", {"input": "hello"})) == "hello"


async def test_only_skills_that_were_chosen_are_tools(helper):
    async with served(helper, skills=["echo"]) as here:
        assert await names(here.host) == ["echo", "get_task", "answer_task"]
        refused = await here.call("count_words", {"text": "x"})
        assert refused.is_error and "no connected agent offers count_words" in text(refused)
        assert "Agents: helper; their tools: echo" in text(refused)


async def test_arguments_that_do_not_fit_are_told_before_anything_is_delegated(helper):
    async with served(helper) as here:
        refused = await here.call("count_words", {"text": 7})
        assert refused.is_error and "text: 7 is not of type 'string'" in text(refused)
        async with here.squad.connect("other") as client:
            assert await client.list() == []


async def test_a_key_in_meta_is_the_same_task_and_without_one_each_call_is_a_new_task(helper):
    async with served(helper) as here:
        for _ in range(2):
            await here.call("count_words", {"text": "x"}, meta={KEY: "hamlet"})
            await here.call("count_words", {"text": "x"})
        async with here.squad.connect("other") as client:
            assert len(await client.list(skill="count_words")) == 3
        other = await here.call("count_words", {"text": "y"}, meta={KEY: "hamlet"})
        assert other.is_error and "hamlet" in text(other)
        wrong = await here.call("count_words", {"text": "y"}, meta={KEY: 7})
        assert wrong.is_error and "a2a-coordinator/key in _meta: expected a text, got 7" in text(wrong)


async def test_a_task_that_fails_is_told_with_its_reason(helper):
    async with served(helper) as here:
        failed = await here.call("fail")
        assert failed.is_error and "is failed: it went wrong" in text(failed)
        assert "a2a task show main-" in text(failed)


@pytest.mark.parametrize("mode", ERAS)
async def test_progress_is_told_and_grows(mode):
    worker = Agent("worker", "1")

    @worker.skill
    async def work(task: TaskContext) -> str:
        for progress, note in ((0.5, "first"), (0.25, "second"), (0.75, "third")):
            await task.progress(progress, note)
            async with asyncio.timeout(BOUND):
                await heard[note].wait()
        return "done"

    heard = {note: asyncio.Event() for note in ("first", "second", "third")}
    told: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total))
        heard[str(message)].set()

    async with served(worker, mode=mode) as here:
        await here.host.list_tools()
        assert text(await here.call("work", progress_callback=note)) == "done"
    assert told[0] == (0.5, 1.0) and told[-1] == (0.75, 1.0)
    assert told == sorted(set(told)), "each is greater than the one before"


@pytest.mark.parametrize("mode", ERAS)
async def test_a_call_that_the_host_cancels_has_its_task_cancelled(helper, gate, mode):
    async with served(helper, mode=mode) as here:
        async with anyio.create_task_group() as group:
            group.start_soon(here.call, "wait")
            await gate.begun.wait()
            group.cancel_scope.cancel()
        async with here.squad.connect("other") as client:
            (task,) = await client.list(skill="wait")
            events = [event async for event in client.watch(task["id"])]
            assert events[-1].state == "canceled"


async def test_a_host_that_leaves_leaves_its_tasks_going(helper, gate):
    async with squad(helper) as running:
        tools = ToolServer(running.connect("mcp"), "ws://here")
        with anyio.fail_after(BOUND):
            async with tools.serving(), create_client_server_memory_streams() as (near, far):
                async with anyio.create_task_group() as group:
                    group.start_soon(tools.server.run, *far, tools.options)

                    @asynccontextmanager
                    async def reached() -> AsyncIterator[Any]:
                        yield near

                    async def call(host: Host) -> None:
                        with pytest.raises(MCPError):
                            await host.call_tool("wait")

                    async with Host(reached(), mode="legacy") as host:
                        await host.list_tools()
                        group.start_soon(call, host)
                        await gate.begun.wait()
                        await near[1].aclose()
            gate.open.set()
            async with running.connect("other") as client:
                (task,) = await client.list(skill="wait")
                events = [event async for event in client.watch(task["id"])]
                assert events[-1].state == "completed"


async def test_a_call_that_lasts_is_answered_and_get_task_goes_on_waiting(helper, gate):
    async with served(helper, wait=0.5) as here:
        working = await here.call("wait")
        assert not working.is_error
        said = working.structured_content
        assert f"Call get_task with task {said['task']}" in text(working)
        gate.open.set()
        assert text(await here.call("get_task", {"task": said["task"]})) == "attempt 1"
        wrong = await here.call("get_task", {"task": "main-999"})
        assert wrong.is_error and "main-999" in text(wrong)
        assert "take these arguments: 'task' is a required property" in text(await here.call("get_task"))


def answers(*given: types.ElicitResult) -> tuple[dict[str, Any], list[types.ElicitRequestFormParams]]:
    """Return the options of a host whose user says this, and what that user was asked."""
    asked: list[types.ElicitRequestFormParams] = []
    left = list(given)

    async def callback(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params)
        return left.pop(0)

    return {"elicitation_callback": callback}, asked


@pytest.mark.parametrize("mode", ERAS)
async def test_a_question_is_put_to_the_user_as_a_form(helper, mode):
    host, asked = answers(types.ElicitResult(action="accept", content={"answer": "yes"}))
    async with served(helper, mode=mode, host=host) as here:
        await here.host.list_tools()
        assert text(await here.call("sure")) == "true"
        async with here.squad.connect("other") as client:
            assert len(await client.list(skill="sure")) == 1
    (form,) = asked
    assert form.message.startswith("sure?")
    assert form.requested_schema["properties"]["answer"]["enum"] == ["yes", "no"]


@pytest.mark.parametrize("mode", ERAS)
async def test_a_question_that_the_user_declines_is_told_and_asked_once(helper, mode):
    host, asked = answers(types.ElicitResult(action="decline"))
    async with served(helper, mode=mode, host=host) as here:
        told = await here.call("sure")
        assert len(asked) == 1
        assert not told.is_error and told.structured_content["state"] == "asks"
        assert "sure?" in text(told) and "a2a answer main-" in text(told)
        assert text(await here.call("answer_task", {"task": told.structured_content["task"], "answer": "1"})) == "true"


@pytest.mark.parametrize("mode", ERAS)
async def test_without_forms_a_question_is_told_and_answer_task_answers_it(helper, mode):
    async with served(helper, mode=mode) as here:
        task = (await here.call("sure")).structured_content["task"]
        wrong = await here.call("answer_task", {"task": task, "answer": "perhaps"})
        assert wrong.is_error and "expected one of yes, no, got 'perhaps'" in text(wrong)
        assert text(await here.call("answer_task", {"task": task, "answer": "no"})) == "false"
        late = await here.call("answer_task", {"task": task, "answer": "no"})
        assert late.is_error and f"{task} has no open question" in text(late)


async def test_an_operator_accepts_where_that_is_wanted(helper):
    async with served(helper, acceptance="human") as here:
        told = await here.call("count_words", {"text": "x"})
        assert told.structured_content["state"] == "reported"
        assert "a2a task confirm main-" in text(told) and '{"words": 1}' in text(told)


async def test_a_coordinator_that_is_away_is_told_within_a_bound(monkeypatch):
    monkeypatch.setattr(mcp_module, "_AWAY_AFTER", 0.3)
    monkeypatch.setattr(mcp_module, "_LISTS_WITHIN", 0.1)
    nowhere = connect(name="mcp", settings=LinkSettings(url="ws://127.0.0.1:9", token="t", patience=math.inf))
    with anyio.fail_after(BOUND):
        async with hosted(ToolServer(nowhere, "ws://127.0.0.1:9")) as host:
            assert await names(host) == ["get_task", "answer_task"]
            away = await host.call_tool("count_words", {"text": "x"})
            assert away.is_error and "no coordinator has answered at ws://127.0.0.1:9" in text(away)
            assert "nothing was begun" in text(away)
            assert "call again with the same key" in text(await host.call_tool("count_words", {}, meta={KEY: "k"}))
            assert "call again" in text(await host.call_tool("get_task", {"task": "main-1"}))


@pytest.mark.parametrize("key", [None, "hamlet"])
async def test_a_call_that_is_given_up_before_its_task_is_known_leaves_none_behind(helper, gate, monkeypatch, key):
    """The coordinator is away when it is said, and back when the host cancels the call."""
    async with served(helper) as here:
        await here.call("echo", {"input": "x"})
        link = here.tools._client.link
        dial, is_asked = link._dial, anyio.Event()

        async def nobody() -> None:
            is_asked.set()
            raise ConnectError("nothing listens")

        monkeypatch.setattr(link, "_dial", nobody)
        link._transport.abort()
        await is_asked.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: here.call("wait", meta={KEY: key} if key else None))
            while not here.tools._calls:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        monkeypatch.setattr(link, "_dial", dial)
        await here.call("echo", {"input": "x"})
        while here.tools._calls:
            await anyio.lowlevel.checkpoint()
        async with here.squad.connect("other") as client:
            for task in await client.list(skill="wait"):
                assert [event async for event in client.watch(task["id"])][-1].state == "canceled"


async def test_calls_whose_ids_differ_only_in_kind_are_cancelled_each_for_itself(helper, gate):
    async def say(method: str, params: dict[str, Any], **more: Any) -> None:
        said = {"jsonrpc": "2.0", "method": method, "params": params} | more
        await write.send(SessionMessage(types.jsonrpc_message_adapter.validate_python(said)))

    with anyio.fail_after(BOUND):
        async with squad(helper, policy=Policy(durations=QUICK)) as running:
            tools = ToolServer(running.connect("mcp"), "ws://here")
            async with (
                tools.serving(),
                create_client_server_memory_streams() as ((read, write), far),
                anyio.create_task_group() as group,
            ):
                group.start_soon(tools.server.run, *far, tools.options)
                about = {"capabilities": {}, "clientInfo": {"name": "host", "version": "1"}}
                await say("initialize", about | {"protocolVersion": "2025-06-18"}, id=0)
                await read.receive()
                await say("notifications/initialized", {})
                tasks = list[str]()
                for number in (1, "1"):
                    await say("tools/call", {"name": "wait", "arguments": {}}, id=number)
                    while (call := tools._calls.get(number)) is None or call.task is None:
                        await anyio.lowlevel.checkpoint()
                    tasks.append(call.task)
                for number, task in ((1, tasks[0]), ("1", tasks[1])):
                    assert (await running.client.get(task))["metadata"]["state"] in ("queued", "offered", "leased")
                    await say("notifications/cancelled", {"requestId": number})
                    async with aclosing(running.client.watch(task)) as events:
                        assert [event.state async for event in events][-1] == "canceled"
                group.cancel_scope.cancel()


async def test_a_wait_that_ends_while_the_coordinator_is_away_says_so(helper, monkeypatch):
    async with served(helper, wait=0.1) as here:
        while "helper" not in here.tools._agents:
            await anyio.lowlevel.checkpoint()
        link = here.tools._client.link

        async def nobody() -> None:
            raise ConnectError("nothing listens")

        monkeypatch.setattr(link, "_dial", nobody)
        link._transport.abort()
        told = await here.call("get_task", {"task": "main-1"})
        assert "the coordinator at ws://here is away, and the task continues" in text(told)


async def test_a_form_that_comes_back_as_none_is_told_as_a_question(helper):
    async def callback(context: Any, params: Any) -> types.ErrorData:
        return types.ErrorData(code=-32603, message="no window")

    async with served(helper, host={"elicitation_callback": callback}) as here:
        told = await here.call("sure")
        assert told.structured_content["state"] == "asks"
        assert (
            text(await here.call("answer_task", {"task": told.structured_content["task"], "answer": "no"})) == "false"
        )


@pytest.mark.parametrize("mode", ERAS)
@pytest.mark.parametrize("content", [None, {}, {"answer": None}])
async def test_an_empty_form_answers_nothing(mode, content):
    worker = Agent("worker", "1")

    @worker.skill
    async def ask(task: TaskContext) -> str:
        return await task.ask("what?")

    host, asked = answers(types.ElicitResult(action="accept", content=content))
    async with served(worker, mode=mode, host=host) as here:
        told = await here.call("ask")
        assert told.structured_content["state"] == "asks"
        assert len(asked) == 1
        answer = {"task": told.structured_content["task"], "answer": "this"}
        assert text(await here.call("answer_task", answer)) == "this"


@pytest.mark.parametrize("mode", ERAS)
async def test_where_somebody_else_was_faster_that_answer_counts(helper, mode):
    async def callback(context: Any, params: Any) -> types.ElicitResult:
        (task,) = await here.squad.client.list(skill="sure")
        await here.squad.client.answer(task["id"], 1, "no")
        return types.ElicitResult(action="accept", content={"answer": "yes"})

    async with served(helper, mode=mode, host={"elicitation_callback": callback}) as here:
        assert text(await here.call("sure")) == "false"


@pytest.mark.parametrize("mode", ERAS)
async def test_an_answer_is_not_taken_for_one_to_the_next_question(mode):
    worker = Agent("worker", "1")

    @worker.skill
    async def twice(task: TaskContext) -> list[str]:
        return [await task.ask("first?"), await task.ask("second?")]

    async def callback(context: Any, params: Any) -> types.ElicitResult:
        client = here.squad.client
        if params.message == "first?":
            (task,) = await client.list(skill="twice")
            await client.answer(task["id"], 1, "somebody's")
            while len((await client.get(task["id"]))["metadata"]["asks"]) < 2:
                await anyio.lowlevel.checkpoint()
        return types.ElicitResult(action="accept", content={"answer": f"to {params.message}"})

    async with served(worker, mode=mode, host={"elicitation_callback": callback}) as here:
        assert text(await here.call("twice")) == '["somebody\'s", "to second?"]'


async def test_an_answer_that_comes_too_late_by_a_moment_is_no_error(helper, monkeypatch):
    host, _ = answers(types.ElicitResult(action="accept", content={"answer": "yes"}))
    async with served(helper, host=host) as here:
        answer = here.tools._client.answer

        async def late(task: str, number: int, value: Any) -> None:
            await here.squad.client.answer(task, number, "no")
            await answer(task, number, value)

        monkeypatch.setattr(here.tools._client, "answer", late)
        assert text(await here.call("sure")) == "false"


async def test_a_state_that_no_question_came_with_is_told(helper):
    async with served(helper, mode="auto") as here:
        told = await here.call("sure", request_state="main-1")
        assert told.is_error and "requestState: expected what the question came with, got 'main-1'" in text(told)


async def test_a_task_that_cannot_be_watched_just_now_goes_on(helper, monkeypatch, gate):
    async with served(helper) as here:
        await here.call("echo", {"input": "x"})

        async def watch(task: str, generation: int) -> AsyncIterator[Any]:
            await gate.begun.wait()
            raise QuotaExceeded("too many are watched")
            yield

        monkeypatch.setattr(here.tools._client, "watch", watch)
        told = await here.call("wait")
        assert not told.is_error and "Call get_task with task" in text(told)
        gate.open.set()


@pytest.mark.parametrize(
    ("capabilities", "takes"),
    [
        (None, False),
        ({}, False),
        ({"elicitation": {}}, True),
        ({"elicitation": {"form": {}}}, True),
        ({"elicitation": {"url": {}}}, False),
    ],
)
def test_forms_are_for_hosts_that_have_them(capabilities, takes):
    told = None if capabilities is None else types.ClientCapabilities.model_validate(capabilities)
    assert mcp_module._takes_forms(SimpleNamespace(session=SimpleNamespace(client_capabilities=told))) is takes


async def test_tasks_of_others_are_seen_and_not_decided_about(helper, gate):
    async with served(helper) as here, here.squad.connect("other") as client:
        async with client.delegate("sure", key="k", acceptance="auto") as task:
            assert "sure?" in text(await here.call("get_task", {"task": task.id}))
            refused = await here.call("answer_task", {"task": task.id, "answer": "yes"})
            assert refused.is_error
            number, _ = await task.question()
            await task.answer(number, "yes")


async def test_a_form_that_is_open_when_the_wait_ends_is_told_as_a_question(helper):
    async def callback(context: Any, params: Any) -> types.ElicitResult:
        await anyio.sleep_forever()
        raise AssertionError

    async with served(helper, wait=0.5, host={"elicitation_callback": callback}) as here:
        async with here.squad.connect("mcp") as client, client.delegate("sure", acceptance="auto") as task:
            await task.question()
            told = await here.call("get_task", {"task": task.id})
            assert told.structured_content["state"] == "asks" and "sure?" in text(told)
            assert text(await here.call("answer_task", {"task": task.id, "answer": "no"})) == "false"


async def test_tools_that_come_and_go_are_told_to_hosts_of_before_2026(helper):
    changed = anyio.Event()

    async def heard(message: Any) -> None:
        nonlocal changed
        if isinstance(message, types.ToolListChangedNotification):
            changed.set()

    other = Agent("other", "1")

    @other.skill
    async def late() -> str:
        return "late"

    async with served(helper, host={"message_handler": heard}) as here:
        assert here.host.server_capabilities.tools.list_changed
        assert "late" not in await names(here.host)
        async with joined(here.squad, other):
            while "late" not in await names(here.host):  # it may be told of the first one as well
                await changed.wait()
                changed = anyio.Event()


async def test_tools_that_come_are_told_to_hosts_that_listen(helper):
    other = Agent("other", "1")

    @other.skill
    async def late() -> str:
        return "late"

    async with served(helper, mode="auto") as here:
        async with here.host.listen(tools_list_changed=True) as changes:
            async with joined(here.squad, other):
                async for _ in changes:
                    if "late" in await names(here.host):
                        break
