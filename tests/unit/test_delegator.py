"""Delegated tasks in the hands of their delegator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, Conflict, ConnectionLost, TaskCanceled, TaskContext, TaskError, TaskFailed
from a2a import delegator as module
from a2a.engine.delegation import Delegations
from a2a.engine.policy import Policy
from a2a.errors import (
    AlreadyAnswered,
    Gone,
    IdempotencyMismatch,
    LocalProtocolError,
    Overruled,
    QuotaExceeded,
    Refused,
    RemoteProtocolError,
    TooLarge,
    Unauthenticated,
)
from a2a.protocol.messages import A2ACall, A2AEvent, A2AResult, Message, TaskCreated, TaskDelegate, TaskSteer
from a2a.protocol.operations import BINDING, encode
from a2a.protocol.session import REPLY_SLACK_MS
from a2a.stores.memory import MemoryStore
from a2a.testing import squad
from a2a.testing.squad import QUICK

BOUND = 20


async def test_delegate_follow_read_confirm(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("count_words", {"text": "a b c"}, key="doc") as task:
                assert task.created
                kinds = [event.kind async for event in task.events()]
                assert kinds[:2] == ["created", "grant"]
                assert kinds[-1] == "report"
                assert await task.result() == {"words": 3}
            shown = await running.client.get(task.id)
            assert shown["status"]["state"] == "TASK_STATE_COMPLETED"
            assert shown["metadata"]["confirmedBy"] == running.client.agent_id
            assert shown["metadata"]["input"] == {"text": "a b c"}
            assert shown["artifacts"][0]["parts"] == [{"data": {"words": 3}}]


async def test_what_is_said_travels_with_what_it_was_given(
    helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client, said = running.client, list[Any]()
            request = client.link.session.request

            def requesting(message: Message, **options: Any) -> str:
                said.append(message)
                return request(message, **options)

            monkeypatch.setattr(client.link.session, "request", requesting)
            async with client.delegate("wait", on_delegator_loss="cancel", loss=2.5) as task:
                await gate.begun.wait()
                await task.steer("a word", "the word")
                await task.cancel(mode="kill")
            [delegated] = [message for message in said if isinstance(message, TaskDelegate)]
            assert delegated.loss_ms == 2_500
            assert {message.key for message in said if isinstance(message, TaskSteer)} == {"the word"}


async def test_a_block_that_is_left_or_refused_leaves_nothing_behind(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            async with client.delegate("count_words", {"text": "a"}, key="k") as task:
                await task.result()
            assert not client._handles
            with pytest.raises(IdempotencyMismatch):
                async with client.delegate("count_words", {"text": "b"}, key="k"):
                    pass
            assert not client._handles


def test_claims_of_processes_that_start_at_one_time_have_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec CLAIM-4. They have one mailbox where their id is the same, and one clock where it was set back."""
    monkeypatch.setattr(time, "time", lambda: 1_000.0)
    delegators = [module.Delegator() for _ in range(100)]
    numbers = {delegator._next_claim_no() for delegator in delegators for _ in range(100)}
    assert len(numbers) == 10_000
    assert 1 <= min(numbers) <= max(numbers) < 2**53


def test_who_takes_no_attempts_is_at_no_load() -> None:
    info = module.AgentInfo("a", {}, "ready", {}, credit=0, holding=(), seen=None)
    assert (info.load, replace(info, credit=4, holding=("t",)).load) == (0.0, 0.25)


async def test_a_question_that_another_has_answered_is_not_asked_again(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("sure", key="k") as task:
                number, _ = await task.question()
                known = task._known.asks[number]
                await running.client.answer(task.id, number, "no")
                task._known.asks[number] = known  # it has not heard of that
                with pytest.raises(AlreadyAnswered):
                    await task.answer(number, "yes")
                assert not task._known.asks
                assert await task.result() is False


async def test_of_two_questions_the_first_is_told_first() -> None:
    agent = Agent("curious")

    @agent.skill
    async def ask(task: TaskContext) -> list[Any]:
        return await asyncio.gather(task.ask("one?"), task.ask("two?"))

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("ask") as task:
            while len(task._known.asks) < 2:
                await anyio.lowlevel.checkpoint()
            for number, said in ((1, "one?"), (2, "two?")):
                assert await task.question() == (number, {"question": said})
                await task.answer(number, said)
            assert await task.result() == ["one?", "two?"]


async def test_a_block_that_is_entered_again_accepts_nothing_that_was_not_read_in_it(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            handle = running.client.delegate("count_words", {"text": "a"}, key="k")
            with pytest.raises(ZeroDivisionError):
                async with handle as task:
                    await task.result()
                    raise ZeroDivisionError
            async with handle as task:
                while task._known.review is None:
                    await anyio.lowlevel.checkpoint()
            assert (await running.client.get(task.id))["metadata"]["state"] == "reported"


async def test_a_task_whose_key_was_drawn_is_new_though_the_answer_was_lost(
    helper: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            link, lost = running.client.link, []
            receive = link.session.receive

            def receiving(frame: Any) -> Any:
                if isinstance(frame.message, TaskCreated) and not lost:
                    lost.append(frame.message)
                    assert link._transport is not None
                    link._transport.abort()
                    return []
                return receive(frame)

            monkeypatch.setattr(link.session, "receive", receiving)
            handle = running.client.delegate("count_words", {"text": "a b c"})
            async with handle as task:
                assert (task.id, task.created) == (lost[0].task, True)
            async with handle as task:
                assert not task.created, "the second time it is not"


async def test_only_who_calls_does_without_knowing_its_task(helper: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spec RPC-7. Whoever enters a block looks at the task in it."""
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            session = running.client.link.session
            request, said = session.request, []

            def noting(message: Message, **how: Any) -> str:
                if isinstance(message, TaskDelegate):
                    said.append(how["slack_ms"])
                return request(message, **how)

            monkeypatch.setattr(session, "request", noting)
            assert await running.client.call("count_words", {"text": "a b c"}) == {"words": 3}
            async with running.client.delegate("count_words", {"text": "a"}) as task:
                await task.result()
            assert said == [REPLY_SLACK_MS, None]


@pytest.mark.parametrize("slack_ms", [REPLY_SLACK_MS, None])
async def test_a_call_that_is_given_up_has_its_task_cancelled_unless_a_key_leads_back_to_it(
    helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch, slack_ms: int | None
) -> None:
    monkeypatch.setattr(module, "REPLY_SLACK_MS", slack_ms)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            calling = asyncio.create_task(client.call("wait"))
            await gate.begun.wait()  # that the task is there may still be untold
            calling.cancel()
            await asyncio.wait([calling])
            [given_up] = await client.list()
            with pytest.raises(TaskCanceled, match="nobody waits for it any more"):
                async with client.delegate("wait", key=given_up["metadata"]["key"]) as task:
                    await task.result()
            assert gate.ended == [given_up["id"]]
            assert not client.link.delegations.are_open
            gate.begun = anyio.Event()
            calling = asyncio.create_task(client.call("wait", key="k"))
            await gate.begun.wait()
            calling.cancel()
            await asyncio.wait([calling])
            await client.list()  # that the task is there is told with the answer at the latest
            assert [task["metadata"]["key"] for task in await client.list(state="leased")] == ["k"]
            gate.open.set()
            assert await client.call("wait", key="k") == "attempt 1"


async def test_a_task_that_is_given_up_before_its_block_is_entered_is_cancelled(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("other") as client:
            handle = client.delegate("wait")
            entering = asyncio.create_task(handle.__aenter__())
            await asyncio.sleep(0)
            assert handle._delegation is not None, "it is on its way"
            entering.cancel()
            await asyncio.wait([entering])
            assert entering.cancelled()
            await client.aclose()  # what is still to be said goes first
            [given_up] = await running.client.list()
            events = [event.state async for event in running.client.watch(given_up["id"])]
            assert events[-1] == "canceled"


async def test_a_result_that_is_not_what_its_hash_says_is_neither_read_nor_confirmed(helper: Agent) -> None:
    """Spec ACCEPT-3."""
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            with pytest.raises(RemoteProtocolError, match="does not have the hash"):
                async with running.client.delegate("count_words", {"text": "a b c"}) as task:
                    await task.result()
                    assert task._known.review is not None
                    task._known.review.payload = b"[]"
                    task._was_read = False
                    await task.result()
            shown = await running.client.get(task.id)
            assert shown["metadata"]["state"] == "reported"


@pytest.fixture
def go_on() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def slow(go_on: asyncio.Event) -> Agent:
    """An agent that is at work until it may go on."""
    agent = Agent("slow")

    @agent.skill
    async def wait() -> str:
        await go_on.wait()
        return "done"

    return agent


async def test_the_first_of_two_processes_with_one_key_gets_the_result_as_well(
    slow: Agent, go_on: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task's notices go to the one that came last (spec TASK-7)."""
    monkeypatch.setattr(module, "LOOKS_AFTER", 0.05)
    with anyio.fail_after(BOUND):
        async with squad(slow) as running, running.connect("p") as one, running.connect("p") as two:
            async with one.delegate("wait", key="k") as first:
                waiting = asyncio.create_task(first.result())
                async with two.delegate("wait", key="k") as second:
                    assert (second.id, second.created) == (first.id, False)
                    go_on.set()
                    assert await second.result() == "done"
                assert await waiting == "done"


async def test_waiting_for_a_task_that_is_not_kept_any_more_ends(
    slow: Agent, go_on: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped for days, while another one had the task's notices (spec READ-6)."""
    monkeypatch.setattr(module, "LOOKS_AFTER", 3600.0)
    with anyio.fail_after(BOUND):
        store = MemoryStore()
        policy = Policy(durations=QUICK, linger_ms=0)
        async with squad(slow, policy=policy, store=store) as running:
            async with running.connect("p") as one, running.connect("p") as two:
                async with one.delegate("wait", key="k", acceptance="auto") as first:
                    waiting = [asyncio.create_task(news) for news in (first.result(), first.question())]
                    async with two.delegate("wait", key="k", acceptance="auto") as second:
                        go_on.set()
                        assert await second.result() == "done"
                    while not await store.prune(2**52, 1):  # noqa: ASYNC110 - nothing tells when it is archived
                        await asyncio.sleep(0.01)
                    first._look(3600.0)
                    for news in waiting:
                        with pytest.raises(Gone, match="is not kept any more"):
                            await news
                    with pytest.raises(Gone, match="is not kept any more"):
                        await first.next_event()


async def test_watching_more_tasks_than_a_connection_may_is_refused(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper, policy=Policy(durations=QUICK, watches_max=1)) as running:
            delegate = running.client.delegate
            async with delegate("nobody_has_this") as one, delegate("nobody_has_this") as two:
                assert (await anext(aiter(one.events()))).kind == "created"
                with pytest.raises(QuotaExceeded, match="at most 1 tasks"):
                    await two.next_event()
                await one.cancel()
                assert [event.kind async for event in one.events()][-1] == "cancel"
                event = await two.next_event()
                assert event is not None
                assert event.kind == "created"


async def test_a_handle_that_was_left_looks_no_more(helper: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKS_AFTER", 0.01)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            looked = asyncio.Event()
            monkeypatch.setattr(running.client.link.delegations, "look_up", lambda delegation: looked.set())
            async with running.client.delegate("nobody_has_this") as task:
                for _ in range(2):
                    await looked.wait()
                    looked.clear()
            assert task._look_at is not None
            assert task._look_at.cancelled()


async def test_the_same_key_is_the_same_task_and_another_input_is_refused(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            async with client.delegate("count_words", {"text": "a"}, key="k") as first:
                await first.result()
            async with client.delegate("count_words", {"text": "a"}, key="k") as second:
                assert (second.id, second.created) == (first.id, False)
                assert await second.result() == {"words": 1}
            with pytest.raises(IdempotencyMismatch, match="key 'k' is task"):
                await client.call("count_words", {"text": "b"}, key="k")


async def test_nothing_was_created_by_a_handle_that_was_not_entered_or_was_refused(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            fresh = running.client.delegate("count_words", {"text": "a"})
            with pytest.raises(LocalProtocolError, match="enter the handle"):
                assert not fresh.created
            async with fresh:
                assert fresh.created
            assert fresh.created, "also after it was left"
            refused = running.client.delegate("count_words", parent=("main-999", 1))
            with pytest.raises(Refused):
                await refused.__aenter__()
            assert not refused.created


async def test_an_exception_leaves_the_result_unconfirmed_for_another_process(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            with pytest.raises(KeyError):
                async with running.client.delegate("count_words", {"text": "a"}, key="k") as task:
                    await task.result()
                    raise KeyError
            assert (await running.client.get(task.id))["metadata"]["pendingAcceptance"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"budget": {"token": 2_000}}, "budget: expected tokens, cost_micro, steps, children, depth, got 'token'"),
        ({"timers": {"bogus": 1}}, "timers: expected heartbeat, lease, .*, got 'bogus'"),
        ({"timers": {"lease": float("nan")}}, "expected a number of seconds, got nan"),
        ({"deadline": float("inf")}, "expected a number of seconds, got inf"),
        ({"copies": 0}, "expected at least 1 copy, got 0"),
        ({"tags": "text"}, "tags: expected a list, got the text 'text'"),
        ({"exclude": "helper"}, "exclude: expected a list"),
        ({"resources": "repo/a/**"}, "resources: expected a list"),
        ({"copies": 2, "resolve": "majority"}, "resolve: expected a list"),
        (
            {"copies": 2, "resolve": ["majority", {"strategy": "human", "timeout": 60}, "abort"]},
            "a rung of resolve: expected strategy, k, margin, skill, timeoutMs, onTimeout, costMicro, got 'timeout'",
        ),
    ],
)
async def test_what_no_coordinator_knows_is_refused_where_it_is_said(options: Any, why: str) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with pytest.raises(ValueError, match=why):
                running.client.delegate("count_words", **options)


async def test_automatic_acceptance_needs_no_word(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("count_words", {"text": "a"}, acceptance="auto") as task:
                assert await task.result() == {"words": 1}
            assert (await running.client.get(task.id))["metadata"]["confirmedBy"] == "auto"


async def test_a_rejected_result_is_reworked_with_the_feedback(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("draft") as task:
            assert await task.result() == "draft"
            await task.reject("shorter")
            assert await task.result() == "draft shorter"


@pytest.mark.parametrize("turns", [None, *range(8)])
async def test_a_rejection_that_was_refused_or_given_up_may_be_said_again(helper: Agent, turns: int | None) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("draft") as task:
            assert await task.result() == "draft"
            if turns is None:
                with pytest.raises(TooLarge):
                    await task.reject("x" * 5_000_000)
            else:
                await given_up(task.reject("shorter"), turns)
            await task.reject("shorter")
            assert await task.result() == "draft shorter"


async def test_leaving_the_block_accepts_nothing_of_which_a_rejection_was_given_up(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("draft") as task:
                assert await task.result() == "draft"
                await given_up(task.reject("shorter"), 1)
            state = (await running.client.get(task.id))["metadata"]["state"]
            assert state != "completed"


@pytest.mark.parametrize("turns", [None, *range(8)])
async def test_a_question_is_there_until_an_answer_to_it_counts(helper: Agent, turns: int | None) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("sure") as task:
            asked = await task.question()
            if turns is None:
                with pytest.raises(TooLarge):
                    await task.answer(1, "x" * 5_000_000)
            else:
                await given_up(task.answer(1, "yes"), turns)
            if turns is None or turns < 2:
                assert await task.question() == asked
            await task.answer(1, "yes")
            assert await task.result() is True


async def given_up(saying: Coroutine[Any, Any, None], turns: int) -> None:
    """Say something, and wait no longer for the answer than so many turns of the loop."""
    saying_it = asyncio.ensure_future(saying)
    for _ in range(turns):
        await asyncio.sleep(0)
    saying_it.cancel()
    await asyncio.wait([saying_it])


@pytest.mark.parametrize("is_said", [True, False])
async def test_no_result_is_accepted_in_place_of_the_one_that_was_read(helper: Agent, is_said: bool) -> None:
    """Somebody else has rejected that one, and the next is here."""
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("owner") as client:
            with pytest.raises(Conflict):
                async with client.delegate("draft") as task:
                    assert await task.result() == "draft"
                    await running.client.reject(task.id, "shorter")
                    while task._known.review is None or not task._known.review.rev:
                        await task._next()
                    if is_said:
                        with pytest.raises(Conflict):
                            await task.confirm()
            assert (await client.get(task.id))["metadata"]["state"] == "reported"
            async with client.delegate("draft", key=task.key) as again:
                assert await again.result() == "draft shorter"
            assert (await client.get(task.id))["metadata"]["state"] == "completed"


async def test_a_rejection_is_of_the_result_that_was_read_and_of_no_newer_one(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("owner") as client:
            async with client.delegate("draft") as task:
                assert await task.result() == "draft"
                await running.client.reject(task.id, "shorter")
                while task._known.review is None or not task._known.review.rev:
                    await task._next()
                await task.reject("longer")  # which is what was said of it already
                assert await task.result() == "draft shorter"
            assert (await client.get(task.id))["metadata"]["state"] == "completed"


async def test_a_result_that_was_taken_already_is_there_though_it_was_rejected_too_late(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("draft", acceptance="auto") as task:
                assert await task.result() == "draft"
                with pytest.raises(Conflict, match="has ended as completed"):
                    await task.reject("too late")
                assert await task.result() == "draft"


async def test_failures_say_why(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            with pytest.raises(TaskFailed, match="it went wrong") as failed:
                await running.client.call("fail")
            assert failed.value.reason == "error"
            with pytest.raises(TaskFailed, match="text: Field required"):
                await running.client.call("count_words", {})
            with pytest.raises(TaskFailed, match=r"policy") as declined:
                await running.client.call("decline")
            assert declined.value.reason == "declines"


async def test_a_question_reaches_the_delegator_and_its_answer_the_agent(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("sure") as task:
            number, question = await task.question()
            assert (number, question) == (1, {"question": "sure?", "options": ["yes", "no"]})
            await task.answer(number, "yes")
            assert await task.result() is True


async def test_a_task_that_was_completed_asks_nothing_and_has_not_failed(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("draft", acceptance="auto") as task:
            with pytest.raises(TaskError, match="completed: it has no more questions") as ended:
                await task.question()
            assert not isinstance(ended.value, TaskFailed)
            assert await task.result() == "draft"


async def test_a_task_whose_result_waits_for_ones_word_asks_nothing_until_it_is_rejected(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("draft") as task:
                with pytest.raises(
                    TaskError, match="reported: its result waits to be confirmed or rejected first"
                ) as waits:
                    await task.question()
                assert not isinstance(waits.value, TaskFailed)
                assert await task.result() == "draft"
                asking = asyncio.create_task(task.question())
                await task.reject("shorter")
                with pytest.raises(TaskError, match="reported"):
                    await asking
                assert await task.result() == "draft shorter"
            with pytest.raises(TaskError, match="completed: it has no more questions"):
                async with running.client.delegate("draft", key=task.key) as again:
                    await again.question()


async def test_of_two_with_one_key_neither_sees_a_result_that_the_other_has_rejected(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("draft", key="k") as one:
            async with running.client.delegate("draft", key="k") as other:
                assert [await one.result(), await other.result()] == ["draft"] * 2
                await one.reject("shorter")
                assert [await other.result(), await one.result()] == ["draft shorter"] * 2
                await other.confirm()


async def test_who_takes_a_task_up_again_is_told_on_behind_a_result_that_was_rejected(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("p") as one, running.connect("p") as two:
            async with one.delegate("draft", key="k") as task:
                assert await task.result() == "draft"
                await task.reject("shorter")
            async with two.delegate("draft", key="k") as again:
                kinds = [event.kind async for event in again.events()]
                assert ("rework" in kinds, kinds[-1]) == (True, "report"), kinds
                assert await again.result() == "draft shorter"


async def test_events_end_with_a_result_also_where_it_is_rejected_as_it_is_told(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("draft") as task:
            for first in ("created", "rework"):
                kinds = []
                async for event in task.events():
                    kinds.append(event.kind)
                    if event.kind == "report" and "rework" not in kinds:
                        await task.result()
                        await task.reject("shorter")
                        while not any(later.event == "rework" for later in task._known.events):
                            await task._next()
                assert (kinds[0], kinds[-1]) == (first, "report")


async def test_cancel_stops_the_handler_and_ends_the_task(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("wait") as task:
            await gate.begun.wait()
            assert await task.cancel("enough") == "pending"
            with pytest.raises(TaskCanceled, match="enough"):
                await task.result()
            assert gate.ended == [task.id]


async def test_artifacts_are_streamed_to_whoever_watches(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("stream", acceptance="auto") as task:
                chunks = [event.value async for event in task.events() if event.kind == "artifact"]
                assert chunks == ["one", "two"]
            behind = [event.kind async for event in running.client.watch(task.id, from_gen=2)]
            assert behind == ["artifact", "artifact", "report", "complete"]


async def test_waiting_for_a_result_ends_with_the_client(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            other = running.connect("other")
            await other.__aenter__()
            handle = other.delegate("wait")
            await handle.__aenter__()
            waiting = asyncio.create_task(handle.result())
            await gate.begun.wait()
            await other.aclose()
            with pytest.raises(ConnectionLost):
                await waiting
            gate.open.set()


async def test_waiting_for_news_ends_with_the_block(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("wait", key="k") as handle:

                async def follow() -> None:
                    async for _ in handle.events():
                        pass

                waiting = [asyncio.create_task(wait()) for wait in (handle.result, handle.question, follow)]
                await gate.begun.wait()
            for task in waiting:
                with pytest.raises(LocalProtocolError, match="was left"):
                    await task
            with pytest.raises(LocalProtocolError, match="was left"):
                await handle.result()
            gate.open.set()
            async with handle:
                assert await handle.result() == "attempt 1", "entered again it is heard again"


async def test_a_handle_is_not_entered_again_before_it_was_left(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.client.delegate("count_words", {"text": "a b"}) as task:
                with pytest.raises(LocalProtocolError, match=f"the block of task {task.id} is already entered"):
                    await task.__aenter__()
                assert await task.result() == {"words": 2}
            assert not running.client.link.delegations.are_open
            async with task:
                assert not task.created, "once it was left, it may be"


async def test_a_handle_is_entered_first(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            handle = running.client.delegate("draft")
            with pytest.raises(LocalProtocolError, match="enter the handle"):
                _ = handle.id


def test_refusals_are_one_class_for_each_code() -> None:
    assert str(Unauthenticated("no")) == "auth: no"
    assert isinstance(AttemptFailed("x"), Exception)


def _of_the_opinion(name: str, answer: str) -> Agent:
    agent = Agent(name)

    @agent.skill
    async def capital() -> str:
        return answer

    return agent


async def test_copies_are_one_result_and_what_contradicts_it_is_kept() -> None:
    agents = [_of_the_opinion(name, answer) for name, answer in (("a", "Paris"), ("b", "Lyon"), ("c", "Paris"))]
    with anyio.fail_after(BOUND):
        async with squad(*agents) as running:
            client = running.client
            rungs = ["majority", {"strategy": "human", "onTimeout": "abort"}]
            async with client.delegate("capital", copies=3, agree=3, comparator="text-nfc", resolve=rungs) as task:
                assert await task.result() == "Paris"
            (conflict,) = await client.conflicts(task=task.id)
            shown = await client.conflict(conflict["conflict"])
            assert {(subject["agent"], subject["value"]) for subject in shown["subjects"]} == {
                ("a", "Paris"),
                ("b", "Lyon"),
                ("c", "Paris"),
            }
            assert shown["resolution"]["by"] == "majority"


async def test_what_it_may_cost_to_decide_goes_with_the_task() -> None:
    agents = [_of_the_opinion(name, answer) for name, answer in (("a", "Paris"), ("b", "Lyon"))]
    judge = Agent("judge")

    @judge.skill(takes_value=True)
    async def choose(value: Any, task: TaskContext) -> dict[str, int]:
        task.use(cost_micro=5)
        return {"choice": 0}

    with anyio.fail_after(BOUND):
        async with squad(*agents, judge) as running:
            rungs = [{"strategy": "judge", "skill": "choose", "costMicro": 9}, "human", "first_wins"]
            async with running.client.delegate("capital", copies=2, resolve=rungs, resolve_cost=10) as task:
                await task.result()
            (conflict,) = await running.client.conflicts(task=task.id)
            costs = [(stage["strategy"], stage["costMicro"]) for stage in conflict["stages"]]
            assert costs == [("judge", 10), ("human", 0), ("first_wins", 0)]


async def test_what_decides_between_copies_needs_copies(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            said = ({"agree": 2}, {"comparator": "set"}, {"resolve": ["abort"]}, {"ballot": 1.0}, {"resolve_cost": 0})
            for wanted in said:
                with pytest.raises(ValueError, match="copies is 1"):
                    running.client.delegate("count_words", {"text": "a"}, **wanted)


def says() -> Agent:
    """Return an agent that says what it is told."""
    agent = Agent("worker")

    @agent.skill
    async def say(what: str) -> str:
        return what

    return agent


@pytest.mark.parametrize("is_said", [False, True])
async def test_leaving_a_block_is_no_word_on_a_result_that_was_overruled_since_it_was_read(is_said: bool) -> None:
    with anyio.fail_after(BOUND):
        async with squad(says()) as running:
            client = running.client
            async with client.delegate("say", {"what": "yes"}) as stands:
                await stands.result()
                lost = client.delegate("say", {"what": "no"})
                await lost.__aenter__()
                await lost.result()
                conflict = await client.raise_conflict("result", stands.id, lost.id)
                await client.resolve(conflict, stands.id)
                assert (await client.get(lost.id))["metadata"]["overruled"] == conflict
                if is_said:
                    with pytest.raises(Overruled, match=f"was overruled by conflict {conflict}; confirm or"):
                        await lost.confirm()
                    await lost.confirm()
                    await lost.__aexit__(None, None, None)
                else:
                    with pytest.raises(Overruled, match=f"was overruled by conflict {conflict}; confirm or") as lost_to:
                        await lost.__aexit__(None, None, None)
                    assert (lost_to.value.task, lost_to.value.value) == (lost.id, "no")
                    assert lost_to.value.conflict == conflict
            states = [(await client.get(task.id))["metadata"]["state"] for task in (stands, lost)]
            assert states == ["completed", "completed" if is_said else "reported"]


@pytest.mark.parametrize("stands", [True, False])
async def test_a_word_that_crosses_what_is_decided_about_its_result(
    stands: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Delegations, "_decided", lambda self, message: None)  # the news is still on its way
    with anyio.fail_after(BOUND):
        async with squad(says()) as running:
            client = running.client
            async with client.delegate("say", {"what": "yes"}) as other:
                await other.result()
                async with client.delegate("say", {"what": "no"}) as task:
                    await task.result()
                    conflict = await client.raise_conflict("result", other.id, task.id)
                    await client.resolve(conflict, task.id if stands else other.id)
                    if not stands:
                        with pytest.raises(Overruled) as told:
                            await task.confirm()
                        assert (told.value.task, told.value.value, told.value.conflict) == (task.id, "no", conflict)
                        assert (await client.get(task.id))["metadata"]["state"] == "reported"
                    await task.confirm()
                    assert (await client.get(task.id))["metadata"]["state"] == "completed"
                if stands:
                    with pytest.raises(Overruled):
                        await other.confirm()
                await other.confirm()


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_result_that_was_overruled_is_read_with_that_said(accepted: bool) -> None:
    with anyio.fail_after(BOUND):
        async with squad(says()) as running:
            client = running.client
            async with client.delegate("say", {"what": "yes"}) as stands:
                await stands.result()
                async with client.delegate("say", {"what": "no"}, key="no") as lost:
                    async for event in lost.events():
                        assert event.state != "completed"
                    conflict = await client.raise_conflict("result", stands.id, lost.id)
                    await client.resolve(conflict, stands.id)
                    for read in (lost.result, lost.artifacts):
                        with pytest.raises(Overruled, match=f"overruled by conflict {conflict}; confirm or") as told:
                            await read()
                        assert (told.value.task, told.value.value, told.value.conflict) == (lost.id, "no", conflict)
                async with client.delegate("say", {"what": "no"}, key="no") as again:
                    with pytest.raises(Overruled):
                        await again.result()
                    if accepted:
                        await again.confirm()
                        assert await again.result() == "no"
                    else:
                        await again.reject(rework=False, reason="overruled")
                        with pytest.raises(TaskFailed, match="overruled"):
                            await again.result()


def sent(operation: str, key: str, skill: str) -> A2ACall:
    message: dict[str, Any] = {"messageId": key, "role": "ROLE_USER", "parts": [{"data": {}}]}
    return A2ACall(operation, encode({"message": message | {"metadata": {BINDING: {"skill": skill}}}}))


async def test_answers_to_a_call_of_a2a_come_one_after_the_other_and_none_behind_the_last(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            followed = client.follow_call(sent("SendStreamingMessage", "m1", "stream"))
            events = list[Any]()
            while answers := await client.next_answers(followed):
                events += answers
            assert [event.last for event in events] == [False] * (len(events) - 1) + [True]
            client.unfollow_call(followed)
            called = client.follow_call(A2ACall("GetTask", encode({"id": events[0].task})))
            [found] = await client.next_answers(called)
            assert isinstance(found, A2AResult)
            assert b"TASK_STATE_COMPLETED" in found.payload
            assert await client.next_answers(called) == []
            client.unfollow_call(called)


async def test_a_call_whose_link_ends_is_told_so(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with running.connect("other") as client:
                followed = client.follow_call(sent("SendMessage", "m1", "wait"))
                await gate.begun.wait()
                waiting = asyncio.create_task(client.next_answers(followed))
            with pytest.raises(ConnectionLost):
                await waiting
            gate.open.set()


async def test_streams_that_were_left_hold_up_no_others(
    helper: Agent, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection has a bounded number of them, which only its end ends: those that somebody follows go on."""
    monkeypatch.setattr(module, "_LEFT_MAX", 3)
    with anyio.fail_after(BOUND):
        async with squad(helper, policy=Policy(durations=QUICK, calls_max=4)) as running:
            client = running.client
            kept = client.follow_call(sent("SendStreamingMessage", "kept", "wait"))
            [first, *_] = await client.next_answers(kept)
            assert isinstance(first, A2AEvent)
            for number in range(9):
                left = client.follow_call(A2ACall("SubscribeToTask", encode({"id": first.task})))
                [answer, *_] = await client.next_answers(left)
                assert isinstance(answer, A2AEvent), f"stream {number} was refused: {answer}"
                client.unfollow_call(left)
            gate.open.set()
            events = list[Any]()
            while answers := await client.next_answers(kept):
                events += answers
            assert b"TASK_STATE_COMPLETED" in events[-1].payload
