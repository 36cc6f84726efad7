"""Shared context in the hands of handlers and clients, over real connections."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from a2a import (
    Agent,
    Conflict,
    ConnectionLost,
    ContextChange,
    ContextValue,
    Policy,
    StaleBasis,
    StaleFence,
    SyncTaskContext,
    TaskContext,
)
from a2a import sync as a2a_sync
from a2a.engine import context_state
from a2a.engine.context_watching import Watched
from a2a.errors import NotFound, RemoteProtocolError, SchemaMismatch
from a2a.protocol.messages import ContextOp, ContextValues, ContextWrite, ContextWritten
from a2a.protocol.messages import ContextValue as ValueOnTheWire
from a2a.shared_context import SharedContext
from a2a.testing import squad
from a2a.testing.squad import QUICK

BOUND = 20


def brief(values: list[ContextValue]) -> list[tuple[str, int, Any]]:
    return [(value.key, value.rev, value.value) for value in values]


def test_a_revision_that_a_watch_tells_of_twice_is_told_once_and_counts_as_seen() -> None:
    seen: list[ValueOnTheWire] = []
    owner: Any = None
    value = ValueOnTheWire("a", 1, payload=b"1")
    context = SharedContext(owner, "c", on_seen=seen.append)
    assert brief(list(context._news([value, value], {}))) == [("a", 1, 1)]
    assert seen == [value]


async def test_a_patch_and_a_deletion_count_for_the_revision_that_they_name_only() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            values = running.client.context("c")
            old = await values.put("a", {"x": 1})
            await values.put("a", {"x": 2})
            patch = [{"op": "replace", "path": "/x", "value": 3}]
            for change in (values.patch("a", patch, if_rev=old), values.delete("a", if_rev=old)):
                with pytest.raises(Conflict):
                    await change
            assert (await values.get("a")).value == {"x": 2}


async def test_what_was_written_while_pages_were_read_is_behind_what_was_read() -> None:
    pages = [ContextValues("c", 5, [], "a"), ContextValues("c", 9, [])]

    async def call(message: Any) -> ContextValues:
        return pages.pop(0)

    owner: Any = SimpleNamespace(link=SimpleNamespace(call=call))
    assert await SharedContext(owner, "c")._read(None, "") == (5, [])
    assert not pages


async def test_values_are_read_written_patched_and_deleted() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            context = running.client.context("plans")
            absent = await context.get("plan")
            assert (absent.rev, absent.value, absent.exists) == (0, None, False)
            assert await context.put("plan", {"steps": ["a"]}, if_rev=0, reason="begin") == 1
            assert await context.patch("plan", [{"op": "add", "path": "/steps/-", "value": "b"}]) == 2
            plan = await context.get("plan")
            assert (plan.value, plan.rev, plan.exists) == ({"steps": ["a", "b"]}, 2, True)
            assert plan.author == running.client.agent_id
            assert (await context.get("plan", at_rev=1)).value == {"steps": ["a"]}
            assert await context.delete("plan", if_rev=2) == 3
            history = await context.history("plan")
            assert brief(history) == [("plan", 1, {"steps": ["a"]}), ("plan", 2, plan.value), ("plan", 3, None)]
            assert (history[0].reason, history[2].deleted, history[2].exists) == ("begin", True, False)
            with pytest.raises(NotFound):
                await context.get("plan", at_rev=4)
            assert await context.history("nothing") == []


async def test_a_value_that_is_no_json_is_named_with_who_wrote_it() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            values = running.client.context("c")
            await values.put("a", 1)
            write = ContextWrite("c", "w", [ContextOp("odd", value=b"no JSON")])
            assert isinstance(await running.client.link.call(write), ContextWritten)
            for read in (partial(values.get, "odd"), values.get_many, partial(values.history, "odd")):
                with pytest.raises(RemoteProtocolError, match="JSON under odd, got revision 1 by .*, which is not"):
                    await read()
            assert (await values.get("a")).value == 1


async def test_one_where_several_are_wanted_is_not_taken_apart() -> None:
    operation: Any = {"op": "add", "path": "/steps/-", "value": "b"}
    with anyio.fail_after(BOUND):
        async with squad() as running:
            context = running.client.context("plans")
            with pytest.raises(ValueError, match="^keys: expected a list, got the text 'plan'$"):
                await context.get_many("plan")
            with pytest.raises(ValueError, match="^the patch of plan: expected a list, got the map"):
                await context.patch("plan", operation)


async def test_a_write_that_lost_says_what_is_there() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            context = running.client.context("plans")
            await context.put("a", [1])
            with pytest.raises(Conflict) as caught:
                await context.put("a", [2], if_rev=0)
            facts = {"key": "a", "rev": 1, "author": running.client.agent_id, "value": [1]}
            assert caught.value.data == facts
            with pytest.raises(Conflict) as caught:
                await context.patch("a", [{"op": "test", "path": "/0", "value": 2}])
            assert caught.value.data["operation"] == 0
            with pytest.raises(SchemaMismatch):
                await context.patch("a", [{"op": "nonsense", "path": ""}])
            with pytest.raises(Conflict):
                await context.put("b", 1, depends={"a": 2})
            await context.put("g", 1, guarded=True, if_rev=0)
            with pytest.raises(Conflict):
                await context.put("g", 2)
            with pytest.raises(Conflict):
                await context.put("decisions/x", 1)


async def test_several_keys_change_at_once_and_the_same_write_is_one() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            context = running.client.context("plans")
            changes = [ContextChange("a", None), ContextChange("b", 2, decision=True, if_rev=0)]
            assert await context.write(changes, key="k") == {"a": 1, "b": 1}
            assert await context.write(changes, key="k") == {"a": 1, "b": 1}
            with pytest.raises(Conflict):
                await context.write([ContextChange("a", delete=True), ContextChange("b", 3, if_rev=0)])
            found = await context.get_many(prefix="")
            assert {key: (value.value, value.rev) for key, value in found.items()} == {"a": (None, 1), "b": (2, 1)}
            assert found["b"].decision
            await context.delete("a")
            assert list(await context.get_many()) == ["b"]
            named = await context.get_many(["a", "c"])
            assert [(value.key, value.rev, value.deleted) for value in named.values()] == [
                ("a", 2, True),
                ("c", 0, False),
            ]
            assert await context.get_many([]) == {}


async def test_many_values_come_in_pages() -> None:
    with anyio.fail_after(BOUND):
        async with squad(policy=Policy(durations=QUICK, context_answer_max_bytes=1_000)) as running:
            context = running.client.context("plans")
            await context.write([ContextChange(f"k{number:02}", number) for number in range(20)])
            assert [value.value for value in (await context.get_many(prefix="k")).values()] == list(range(20))
            assert len(await context.get_many([f"k{number:02}" for number in range(25)])) == 25


async def test_two_agents_writing_one_key_a_thousand_times_each_lose_no_update() -> None:
    agent = Agent("counter", concurrency=1)

    @agent.skill
    async def count(times: int, task: TaskContext) -> int:
        for _ in range(times):
            await task.context.update("n", lambda n: (n or 0) + 1)
        return times

    with anyio.fail_after(90):
        async with squad(agent, n=2) as running:
            async with (
                running.client.delegate("count", {"times": 1_000}, context_id="sums", to="counter/1") as one,
                running.client.delegate("count", {"times": 1_000}, context_id="sums", to="counter/2") as two,
            ):
                assert await one.result() == await two.result() == 1_000
            total = await running.client.context("sums").get("n")
            assert (total.value, total.rev) == (2_000, 2_000)
            authors = {value.author for value in await running.client.context("sums").history("n")}
            assert authors == {"counter/1", "counter/2"}


async def test_who_looks_again_after_a_lost_race_quarrels_with_nobody_and_who_does_not_is_told() -> None:
    other = Agent("other")

    @other.skill
    async def take(value: str, task: TaskContext) -> int:
        rev = (await task.context.get("decisions/db")).rev
        return await task.context.put("decisions/db", value, if_rev=rev)

    ladders = {"context": ({"strategy": "human"}, {"strategy": "abort"})}
    with anyio.fail_after(BOUND):
        async with squad(other, policy=Policy(ladders=ladders)) as running:
            client, calls = running.client, []
            context = client.context("plans")

            async def add(value: Any) -> Any:
                if not calls:
                    async with client.delegate("take", {"value": "postgres"}, context_id="plans") as task:
                        await task.result()
                calls.append(value)
                return f"{value} and sqlite"

            assert await context.update("decisions/db", add) == "postgres and sqlite"
            assert (calls, await client.conflicts()) == ([None, "postgres"], [])
            async with client.delegate("take", {"value": "postgres"}, context_id="plans") as task:
                await task.result()
            with pytest.raises(Conflict) as caught:
                await context.put("decisions/db", "sqlite", if_rev=2)
            [conflict] = await client.conflicts(is_open=True)
            assert caught.value.data["conflict"] == conflict["conflict"]
            with pytest.raises(Conflict, match="is open"):
                await context.update("decisions/db", lambda value: "sqlite")


async def test_update_may_call_a_coroutine_and_gives_up_where_it_makes_no_sense() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            context = running.client.context("plans")

            async def grow(value: list[int] | None) -> list[int]:
                if value is None:
                    await running.client.context("plans").put("a", [1])  # somebody was quicker
                return [*(value or []), 2]

            assert await context.update("a", grow) == [1, 2]
            assert await context.update("decisions/a", lambda _: "yes", reason="so") == "yes"
            assert (await context.history("decisions/a"))[-1].reason == "so"


# Watching -------------------------------------------------------------------------------------------------------------


async def test_a_watch_begins_with_what_is_there_and_goes_on() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            context = running.client.context("plans")
            await context.put("a/1", 1)
            await context.put("a/2", 1)
            await context.delete("a/2")
            await context.put("b", 1)
            async with aclosing(other.context("plans").watch("a/")) as values:
                assert brief([await anext(values)]) == [("a/1", 1, 1)]
                await context.write([ContextChange("a/1", 2), ContextChange("a/3", 3), ContextChange("b", 2)])
                await context.delete("a/1")
                seen = [await anext(values) for _ in range(3)]
                assert brief(seen) == [("a/1", 2, 2), ("a/3", 1, 3), ("a/1", 3, None)]
                assert seen[-1].deleted
            assert not other.link.contexts.are_open


async def test_a_watcher_misses_nothing_while_its_connection_is_away() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            context = running.client.context("plans")
            await context.put("a", 0)
            async with aclosing(other.context("plans").watch()) as values:
                assert (await anext(values)).value == 0
                await context.put("a", 1)
                assert (await anext(values)).value == 1
                assert other.link._transport is not None
                other.link._transport.abort()
                await context.put("a", 2)
                await context.put("b", 3)
                seen = [await anext(values) for _ in range(2)]
                assert [(value.key, value.rev) for value in seen] == [("a", 3), ("b", 1)]


async def test_a_watcher_that_was_away_for_too_long_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_state, "WRITES_KEPT", 2)
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            context = running.client.context("plans")
            await context.write([ContextChange("a", 0), ContextChange("b", 0)])
            async with aclosing(other.context("plans").watch()) as values:
                assert [(await anext(values)).key for _ in range(2)] == ["a", "b"]
                away = anyio.Event()
                dial = other.link._dial

                async def wait_and_dial() -> None:
                    await away.wait()
                    await dial()

                await context.put("c", 1)
                assert (await anext(values)).key == "c"
                monkeypatch.setattr(other.link, "_dial", wait_and_dial)
                assert other.link._transport is not None
                other.link._transport.abort()
                for number in range(5):
                    await context.put("a", number)
                await context.delete("b")
                away.set()
                assert brief([await anext(values) for _ in range(2)]) == [("a", 6, 4), ("b", 2, None)]


async def test_two_watchers_of_one_prefix_hear_the_same() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            context = running.client.context("plans")
            async with aclosing(context.watch()) as one, aclosing(context.watch()) as two:
                await context.put("a", 1)
                assert brief([await anext(one)]) == brief([await anext(two)])
                await context.put("a", 2)
                assert brief([await anext(one)]) == brief([await anext(two)]) == [("a", 2, 2)]


async def test_a_watch_ends_with_its_link() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            other = running.connect("other")
            await other.__aenter__()
            ended: list[str] = []

            async def watch() -> None:
                try:
                    async for _ in other.context("plans").watch():
                        await other.aclose()
                except ConnectionLost as error:
                    ended.append(type(error).__name__)

            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await running.client.context("plans").put("a", 1)
            assert ended == ["ConnectionLost"]


# In a handler ---------------------------------------------------------------------------------------------------------


async def test_a_result_on_a_decision_that_moved_waits_though_nobody_had_to_say_a_word(gate: Any) -> None:
    agent = Agent("worker")

    @agent.skill
    async def build(task: TaskContext) -> str:
        chosen = await task.context.get("decisions/db")
        await task.context.put("note", "for myself")
        gate.begun.set()
        await gate.open.wait()
        return f"built on {chosen.value}"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            context = running.client.context("plans")
            await context.put("decisions/db", "sqlite", if_rev=0)
            async with running.client.delegate("build", context_id="plans", acceptance="auto") as task:
                await gate.begun.wait()
                await context.put("decisions/db", "postgres", if_rev=1)
                gate.open.set()
                kinds = [event.kind async for event in task.events() if event.kind != "progress"]
                assert kinds == ["created", "grant", "report"]
                shown = await running.client.get(task.id)
                assert shown["metadata"]["state"] == "reported"
                assert shown["metadata"]["staleBasis"] == [{"key": "decisions/db", "seen": 1, "current": 2}]
                for _ in range(2):
                    with pytest.raises(StaleBasis, match="decisions/db") as stale:
                        await task.result()
                assert (stale.value.value, stale.value.task) == ("built on sqlite", task.id)
                assert stale.value.moved == task.stale_basis == {"decisions/db": (1, 2)}
                await task.reject("the choice was changed")
                assert await task.result() == "built on postgres"
            shown = await running.client.get(task.id)
            assert (shown["metadata"]["state"], shown["metadata"]["confirmedBy"]) == ("completed", "auto")


async def test_a_delegator_that_takes_the_task_up_again_sees_what_moved(gate: Any) -> None:
    agent = Agent("worker")

    @agent.skill
    async def build(task: TaskContext) -> str:
        await task.context.get("decisions/db")
        gate.begun.set()
        await gate.open.wait()
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("build", key="k", context_id="plans", acceptance="auto"):
                await gate.begun.wait()
            await running.client.context("plans").put("decisions/db", 1, if_rev=0)
            gate.open.set()
            async with running.client.delegate("build", key="k", context_id="plans", acceptance="auto") as again:
                with pytest.raises(StaleBasis) as stale:
                    await again.result()
                assert stale.value.moved == {"decisions/db": (0, 1)}
            assert (await running.client.get(again.id))["metadata"]["state"] == "reported", "leaving is no word"
            async with running.client.delegate("build", key="k", context_id="plans", acceptance="auto") as again:
                with pytest.raises(StaleBasis):
                    await again.result()
                await again.confirm()
                assert await again.result() == "done"
            shown = (await running.client.get(again.id))["metadata"]
            assert (shown["state"], shown["confirmedBy"]) == ("completed", running.client.agent_id)


async def test_what_a_handler_wrote_or_saw_last_is_what_it_relies_on(gate: Any) -> None:
    agent = Agent("worker")

    @agent.skill
    async def build(task: TaskContext) -> str:
        context = task.context
        await context.get("decisions/read twice")
        await context.get("decisions/mine")
        await context.get("decisions/old", at_rev=1)
        gate.begun.set()
        await gate.open.wait()
        await context.get_many(prefix="decisions/read")
        await context.put("decisions/mine", "decided", if_rev=1)
        await context.history("decisions/told")
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            context = running.client.context("plans")
            names = ["read twice", "mine", "old", "told"]
            await context.write([ContextChange(f"decisions/{name}", 1, if_rev=0) for name in names])
            async with running.client.delegate("build", context_id="plans", acceptance="auto") as task:
                await gate.begun.wait()
                for name in ("read twice", "old", "told"):
                    await context.put(f"decisions/{name}", 2, if_rev=1)
                gate.open.set()
                assert await task.result() == "done"
                assert task.stale_basis == {}
            (result,) = running.server.coordinator.ledger.tasks[task.id].results
            seen = {entry["key"]: entry["rev"] for entry in result.basis}
            assert seen == {"decisions/read twice": 2, "decisions/mine": 2, "decisions/told": 2}


async def test_a_watch_in_a_handler_counts_as_seen() -> None:
    agent = Agent("worker")

    @agent.skill
    async def look(task: TaskContext) -> int:
        async with aclosing(task.context.watch("decisions/")) as values:
            async for value in values:
                if value.rev == 2:
                    return int(value.value)
        raise AssertionError("a watch does not end by itself")

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            context = running.client.context("plans")
            await context.put("decisions/x", 1, if_rev=0)
            async with running.client.delegate("look", context_id="plans", acceptance="auto") as task:
                await context.put("decisions/x", 2, if_rev=1)
                assert await task.result() == 2
                assert task.stale_basis == {}


async def test_a_watch_that_is_behind_a_write_of_its_handler_takes_nothing_back() -> None:
    agent = Agent("worker")

    @agent.skill
    async def decide(task: TaskContext) -> int:
        async with aclosing(task.context.watch("decisions/")) as values:
            assert (await anext(values)).rev == 1
            for rev in (1, 2):
                await task.context.put("decisions/x", rev, if_rev=rev)
            return (await anext(values)).rev

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            await running.client.context("plans").put("decisions/x", 0, if_rev=0)
            async with running.client.delegate("decide", context_id="plans", acceptance="auto") as task:
                assert await task.result() == 2
                assert task.stale_basis == {}


async def test_an_attempt_that_lost_its_authority_writes_nothing(gate: Any) -> None:
    agent = Agent("zombie")
    caught: list[BaseException] = []

    @agent.skill
    async def work(task: TaskContext) -> None:
        await task.context.put("a", "alive")
        gate.begun.set()
        try:
            await gate.open.wait()
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await task.context.put("a", "undead")
                except StaleFence as stale:
                    caught.append(stale)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("work", context_id="plans") as task:
            await gate.begun.wait()
            await task.cancel(mode="skip")
            while not caught:
                await anyio.lowlevel.checkpoint()
            value = await running.client.context("plans").get("a")
            assert (value.value, value.task) == ("alive", task.id)


async def test_a_handler_may_go_to_another_context_and_relies_on_nothing_of_it(gate: Any) -> None:
    agent = Agent("worker")

    @agent.skill
    async def work(task: TaskContext) -> Any:
        there = task.other_context("others")
        value = (await there.get("decisions/a")).value
        await there.put("by", task.id)
        gate.begun.set()
        await gate.open.wait()
        return value

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            others = running.client.context("others")
            await others.put("decisions/a", "one", if_rev=0)
            async with running.client.delegate("work", context_id="plans") as task:
                await gate.begun.wait()
                await others.put("decisions/a", "two", if_rev=1)
                gate.open.set()
                assert await task.result() == "one"
            written = await others.get("by")
            assert (written.value, written.task) == (task.id, task.id)


async def test_plain_functions_have_the_same_calls() -> None:
    agent = Agent("plain")

    @agent.skill
    def work(task: SyncTaskContext) -> list[Any]:
        context = task.context
        context.put("a", [1], if_rev=0)
        context.patch("a", [{"op": "add", "path": "/-", "value": 2}])
        context.update("a", lambda value: [*value, 3])
        context.write([ContextChange("b", 1), ContextChange("c", 1)])
        context.delete("b")
        watched = context.watch("a")
        first = next(watched)
        watched.close()
        named = context.get_many(prefix="")
        assert task.other_context("others").put("a", 0) == 1
        return [context.get("a").value, list(named), len(context.history("a")), first.rev, context.id]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            done = await running.client.call("work", context_id="plans")
            assert done == [[1, 2, 3], ["a", "c"], 3, 3, "plans"]

            def blocking() -> int:
                settings = replace(running.settings)
                with a2a_sync.connect(name="script", settings=settings) as client:
                    return client.context("plans").put("d", 1)

            assert await anyio.to_thread.run_sync(blocking) == 1


async def test_who_is_cancelled_before_it_hears_that_it_watches_watches_no_more() -> None:
    async def cancelled_late(work: Coroutine[Any, Any, Any]) -> Any:
        answer = await work
        if isinstance(answer, Watched):
            raise asyncio.CancelledError
        return answer

    with anyio.fail_after(BOUND):
        async with squad() as running:
            client = running.client
            with pytest.raises(asyncio.CancelledError):
                await anext(SharedContext(client, "plans", across=cancelled_late).watch())
            assert not client._written and not client.link.contexts.are_open
