"""Looking at tasks and conflicts, from a client and from inside a handler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, FencedOff, SyncTaskContext, TaskContext, connect
from a2a.engine.archived import ArchiveEntry
from a2a.engine.policy import Policy
from a2a.errors import Conflict, Gone, NotFound, RemoteProtocolError, StaleBasis
from a2a.protocol.canonical import result_hash
from a2a.protocol.codec import SUBPROTOCOLS, Encoding
from a2a.protocol.messages import ContextOp, ContextWrite, TaskAnswer, TaskArtifact, TaskAsk, TaskReport
from a2a.stores.base import Appended, Entry
from a2a.stores.memory import MemoryStore
from a2a.testing import squad

BOUND = 20


async def test_lists_are_newest_first_and_filtered(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            await client.call("count_words", {"text": "a"})
            await client.call("draft")
            listed = await client.list()
            assert [task["metadata"]["skill"] for task in listed] == ["draft", "count_words"]
            assert [task["metadata"]["skill"] for task in await client.list(skill="draft")] == ["draft"]
            [older] = await client.list(before=listed[0]["id"])
            assert older == listed[1]
            with pytest.raises(NotFound, match="there is no task nowhere-1"):
                await client.get("nowhere-1")


async def test_tasks_are_listed_by_the_coordinators_word_for_a_state_and_by_a2as_and_by_no_other(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await running.client.call("draft")
            for state in ("completed", "TASK_STATE_COMPLETED"):
                assert len(await running.client.list(state=state)) == 1
            for state in ("done", "Completed", ""):
                with pytest.raises(ValueError, match=r"state: expected blocked, .* TASK_STATE_REJECTED, got '"):
                    await running.client.list(state=state)


@pytest.mark.parametrize("encoding", SUBPROTOCOLS)
async def test_what_is_no_json_is_shown_as_a_text_to_who_looks_at_a_task(encoding: Encoding) -> None:
    """Spec WIRE-5. Agents and clients in other languages say it, and nobody has looked at it on its way."""
    agent, was_looked_at = Agent("foreign"), anyio.Event()

    @agent.skill
    async def odd(task: TaskContext) -> None:
        runner, digest = task._runner, result_hash("completed", b"no result")
        chunk = TaskArtifact(task.id, task.fence, "log", 0, b"no chunk", last_chunk=True)
        for said in (chunk, TaskAsk(task.id, 1, b"no question", task.fence)):
            await runner.on_link(runner.link.call(said))
        await was_looked_at.wait()
        await runner.on_link(runner.link.call(TaskReport(task.id, task.fence, "completed", digest, b"no result")))
        await anyio.sleep_forever()

    with anyio.fail_after(BOUND):
        async with (
            squad(agent) as running,
            connect(name="looker", settings=replace(running.settings, encodings=(encoding,))) as client,
        ):
            async with client.delegate("odd") as task:
                assert await task.question() == (1, "no question")
                await client.link.call(TaskAnswer(task.id, 1, b"no answer"))
                metadata = (await client.get(task.id))["metadata"]
                [asked] = metadata["asks"]
                assert (asked["question"], asked["answer"]) == ("no question", "no answer")
                assert metadata["provisional"][0]["chunks"] == ["no chunk"]
                was_looked_at.set()
                with pytest.raises(
                    RemoteProtocolError, match=f"Artifacts as the result of {task.id}, foreign reported"
                ):
                    await task.result()
                await task.confirm()
                told = [event.value async for event in client.watch(task.id)]
                assert [value for value in told if isinstance(value, str)] == ["no chunk", "no question", "no answer"]
            shown = await client.get(task.id)
            assert [artifact["parts"] for artifact in shown["artifacts"]] == [[{"text": "no result"}]]
            assert (await client.outcome(task.id))["value"] == "no result"


@pytest.mark.parametrize("encoding", SUBPROTOCOLS)
async def test_what_is_no_json_is_shown_as_a_text_to_who_looks_at_a_conflict(encoding: Encoding) -> None:
    """Spec WIRE-5. A context may hold it, and then a decision about it has to be made as well."""

    def odd(value: bytes, key: str = "decisions/db") -> ContextWrite:
        return ContextWrite("plans", f"write {value!r}", [ContextOp(key, 0, value)])

    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            await other.link.call(odd(b"no JSON"))
            await other.link.call(odd(b"", "plan"))
            with pytest.raises(Conflict) as lost:
                await running.client.link.call(odd(b"nor this"))
            async with connect(name="looker", settings=replace(running.settings, encodings=(encoding,))) as client:
                subjects = {"context": "plans", "key": "plan"}, {"value": 1}
                raised = await client.raise_conflict("context", *subjects)
                noticed, told = [await client.conflict(one) for one in (lost.value.data["conflict"], raised)]
            assert [subject["value"] for subject in noticed["subjects"]] == ["no JSON", "nor this"]
            assert [subject["value"] for subject in told["subjects"]] == ["", 1]


async def test_of_two_who_watch_a_task_each_is_told_all_it_asked_for(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client, told = running.client, dict[int, list[int]]()

            async def watch(from_gen: int) -> None:
                events = [event async for event in client.watch(task.id, from_gen)]
                # Progress makes no generation of its own, and comes where an attempt lasts for a heartbeat.
                told[from_gen] = [event.generation for event in events if event.kind != "progress"]

            async with client.delegate("sure") as task:
                number, _ = await task.question()
                async with anyio.create_task_group() as group:
                    for from_gen in (2, 0, 1):
                        group.start_soon(watch, from_gen)
                    await task.answer(number, "yes")
                    await task.result()
                    await task.confirm()
            last = (await client.get(task.id))["metadata"]["generation"]
            assert told == {from_gen: list(range(from_gen + 1, last + 1)) for from_gen in (2, 0, 1)}


async def test_only_a_text_is_the_id_of_a_task_to_read() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, anyio.create_task_group() as group:

            async def refused(task: Any) -> None:
                with pytest.raises(ValueError, match="task: expected a text, got"):
                    await running.client.get(task)

            for task in (["main-1"], {"id": "main-1"}, 1):
                group.start_soon(refused, task)


async def test_a_subject_that_is_named_by_something_else_is_refused_in_the_callers_words() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with pytest.raises(ValueError, match="a subject: expected task, context, key, .* got 'name'"):
                await running.client.raise_conflict("context", {"name": "plans", "key": "db"})
            handle: Any = running.client.delegate("nothing")
            with pytest.raises(ValueError, match="a subject: expected a task's id or a map, got <a2a.*TaskHandle"):
                await running.client.raise_conflict("result", handle, "main-1")


@pytest.mark.parametrize("about", ["main-7", "plans/db", "task:", ""])
async def test_what_names_no_object_is_refused_rather_than_found_to_have_no_conflicts(about: str) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with pytest.raises(ValueError, match=f"about: expected one of task:ID, .*, got '{about}'"):
                await running.client.conflicts(about=about)


def opinion(name: str, value: Any) -> Agent:
    agent = Agent(name)

    @agent.skill
    async def opine() -> Any:
        return value

    return agent


def boss() -> Agent:
    """An agent that has two others disagree and a third weigh it, and tells what it saw of that."""
    agent = Agent("boss")

    @agent.skill
    async def lead(task: TaskContext) -> dict[str, Any]:
        rungs = [{"strategy": "judge", "skill": "weigh"}, "first_wins"]
        async with task.delegate("opine", copies=2, resolve=rungs, ballot=9.0) as group:
            await group.result()
        shown = (await task.get(group.id))["metadata"]
        events = [[event.kind async for event in task.watch(member)] for member in shown["group"]["members"]]
        return {"events": events, "conflict": await task.conflict(shown["conflicts"][0]), "spec": shown["spec"]}

    return agent


def weigher() -> Agent:
    agent = Agent("weigher")

    @agent.skill(takes_value=True)
    async def weigh(value: Any) -> None:
        raise AttemptFailed("who knows", code="unsure", retryable=False)

    return agent


async def test_a_handler_reads_what_others_did_for_it_and_why_it_was_decided_so() -> None:
    agents = boss(), opinion("one", 1), opinion("two", 2), weigher()
    with anyio.fail_after(BOUND):
        # Nothing stays in memory for long: what has left it is read from the archive.
        async with squad(*agents, policy=Policy(linger_ms=1)) as running:
            told = await running.client.call("lead")
            shown = await running.client.conflict(told["conflict"]["conflict"])
    assert told["spec"]["redundancy"]["ballotMs"] == 9_000
    assert all(events[0] == "created" and events[-1] == "complete" for events in told["events"])
    for record in (told["conflict"], shown):
        assert {subject["agent"]: subject["value"] for subject in record["subjects"]} == {"one": 1, "two": 2}
        answers = [[(it["agent"], it["detail"]) for it in stage["answers"]] for stage in record["stages"]]
        assert answers == [[("weigher", "who knows")] * 2, []]


class Shelf(MemoryStore):
    """A store that tells what has been archived."""

    def __init__(self) -> None:
        super().__init__()
        self.shelved: set[str] = set()
        self.news = anyio.Event()

    def append(
        self, entries: Sequence[Entry], expected: int, done: Appended, archived: Sequence[ArchiveEntry] = ()
    ) -> None:
        super().append(entries, expected, done, archived)
        self.shelved.update(kept[0] for kept in archived)
        self.news.set()


async def test_what_is_not_kept_any_more_is_said_to_be_gone() -> None:
    agents = opinion("one", 1), opinion("two", 2), weigher()
    rungs = [{"strategy": "judge", "skill": "weigh"}, "first_wins"]
    store = Shelf()
    with anyio.fail_after(BOUND):
        async with squad(*agents, policy=Policy(linger_ms=1), store=store) as running:
            client = running.client
            await client.call("opine", copies=2, resolve=rungs)
            (conflict,) = await client.conflicts()
            asked = conflict["stages"][0]["asked"]
            while not {*asked, *(subject["ref"] for subject in conflict["subjects"])} <= store.shelved:
                store.news = anyio.Event()
                await store.news.wait()
            await client.list(limit=1)  # behind what the last of them left with
            await store.prune(2**62, 100)
            shown = await client.conflict(conflict["conflict"])
            for call in (client.get(asked[0]), anext(client.watch(asked[0]))):
                with pytest.raises(Gone, match="is not kept any more"):
                    await call
            assert (await client.outcome("nowhere-1"))["state"] == "gone"
    assert [it["state"] for it in shown["stages"][0]["answers"]] == ["gone", "gone"]
    assert [(subject["value"], subject["isKept"]) for subject in shown["subjects"]] == [(None, False)] * 2


async def test_a_result_that_was_sent_back_is_not_shown_as_the_one_that_came_then() -> None:
    agent, store = Agent("worker"), Shelf()

    @agent.skill
    async def build(task: TaskContext) -> str:
        chosen = await task.context.get("decisions/db")
        if not task.feedback:
            await task.other_context(task.context.id).put("decisions/db", "postgres", if_rev=1)
        return f"built on {chosen.value}"

    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy(linger_ms=1), store=store) as running:
            client = running.client
            await client.context("plans").put("decisions/db", "sqlite", if_rev=0)
            async with client.delegate("build", context_id="plans") as task:
                with pytest.raises(StaleBasis):
                    await task.result()
                await task.reject("the choice was changed")
                assert await task.result() == "built on postgres"
                (conflict,) = await client.conflicts()
                there = await client.conflict(conflict["conflict"])
            while task.id not in store.shelved:
                store.news = anyio.Event()
                await store.news.wait()
            archived = await client.conflict(conflict["conflict"])
    assert there["subjects"][0]["value"] == "built on sqlite"
    assert (archived["subjects"][0]["value"], archived["subjects"][0]["isKept"]) == (None, False)


async def test_what_a_party_said_is_shown_beside_the_evidence_of_its_appeal() -> None:
    with anyio.fail_after(BOUND):
        async with squad(opinion("one", 1), opinion("two", 2), policy=Policy(appeal_ms=60_000)) as running:
            client = running.client
            async with client.delegate("opine", copies=2, resolve=["first_wins", "human", "abort"]) as task:
                async for event in task.events():
                    if event.kind == "dispute":
                        break
                (found,) = await client.conflicts()
                conflict = found["conflict"]
                await client.take_position(conflict, "neither of them", {"said": "at first"})
                await client.appeal(conflict, "new_evidence", {"found": "later"})
                shown = await client.conflict(conflict)
                await client.resolve(conflict, found["subjects"][0]["ref"])
                await task.result()
    assert [(taken["stance"], taken["value"]) for taken in shown["positions"]] == [
        ("neither of them", {"said": "at first"})
    ]
    assert (shown["appeal"]["ground"], shown["appeal"]["value"]) == ("new_evidence", {"found": "later"})


async def test_a_handler_and_a_client_say_what_contradicts_what() -> None:
    agent = Agent("reviewer")

    @agent.skill
    async def review(tasks: list[str], task: TaskContext) -> str:
        return await task.raise_conflict("result", *tasks, claim="not both", evidence={"line": 3})

    @agent.skill
    def review_again(tasks: list[str], task: SyncTaskContext) -> str:
        return task.raise_conflict("result", *tasks)

    @agent.skill
    async def tell(fence: int, task: TaskContext) -> str:
        return await task.raise_fenced_off("repo", FencedOff("a file", fence, 7))

    @agent.skill
    def tell_again(fence: int, task: SyncTaskContext) -> str:
        return task.raise_fenced_off("repo", FencedOff("a file", fence, 7))

    @agent.skill
    async def say(number: int) -> int:
        return number

    ladder = ({"strategy": "first_wins"},)
    with anyio.fail_after(BOUND):
        async with squad(agent, policy=Policy(ladder=ladder)) as running:
            client = running.client
            async with client.delegate("say", {"number": 1}) as first, client.delegate("say", {"number": 2}) as second:
                await first.result()
                await second.result()
                raised = await client.call("review", {"tasks": [first.id, second.id]})
                assert await client.call("review_again", {"tasks": [second.id, first.id]}) == raised
                shown = await client.conflict(raised)
                await second.reject(rework=False)  # it was overruled, so that leaving the block says no word on it
            context = client.context("plans")
            await context.put("db", "postgres", if_rev=0)
            other = await client.raise_conflict("context", {"context": "plans", "key": "db"}, {"value": "sqlite"})
            assert [subject["value"] for subject in (await client.conflict(other))["subjects"]] == [
                "postgres",
                "sqlite",
            ]
            late = await client.raise_fenced_off("repo", FencedOff("a file", 3, 7))
            [fences] = await client.conflicts(kind="resource", about="resource:repo")
            assert (fences["conflict"], fences["resolution"]["ref"]) == (late, "fence-1")
            for skill in ("tell", "tell_again"):  # a handler's word is of the same: the same words are the same one
                assert await client.call(skill, {"fence": 3}) == late
    assert {subject["value"] for subject in shown["subjects"]} == {1, 2}
    assert shown["raises"] == [
        {"agent": "reviewer", "claim": "not both", "lsn": shown["openedLsn"], "value": {"line": 3}}
    ]
