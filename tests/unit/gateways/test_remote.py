"""A remote agent as an agent here: what it is sent, what comes of it, and what is never sent twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from pydantic import TypeAdapter

from a2a import Client, LeaseLapsed, TaskCanceled, TaskContext, TaskFailed
from a2a.errors import ConnectionLost
from a2a.gateways import remote as module
from a2a.gateways.calling import Caller, Interface, card_url
from a2a.gateways.remote import RemoteAgent, agent_name
from a2a.gateways.serving import gateway
from a2a.protocol.operations import BINDING
from a2a.protocol.types import AgentId
from a2a.testing import Squad, squad
from tests.far_agent import ENDED, FarAgent

BOUND = 20
NAME = "far"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES", (0.01, 0.05))


@dataclass(frozen=True)
class Reached:
    """A remote agent, the agent that stands for it here, and a coordinator with a client."""

    far: FarAgent
    agent: RemoteAgent
    squad: Squad

    async def call(self, value: Any = "hello", **options: Any) -> Any:
        return await self.squad.client.call("echo", value, **options)

    async def failure(self, value: Any = "hello", **options: Any) -> TaskFailed:
        with pytest.raises(TaskFailed) as raised:
            await self.call(value, **options)
        return raised.value

    async def crash(self) -> None:
        """Have the agent here die and be started again."""
        self.squad.crash(NAME)
        await self.squad.advance(0)


Reach = Callable[..., AbstractAsyncContextManager[Reached]]


@asynccontextmanager
async def reach(far: FarAgent | None = None, **options: Any) -> AsyncIterator[Reached]:
    with anyio.fail_after(BOUND):
        async with (far or FarAgent()).listening() as there, Caller(card_url(there.url)) as caller:
            agent = RemoteAgent(caller, await caller.card(), **({"name": NAME} | options))
            async with squad(agent) as running:
                yield Reached(there, agent, running)


WAYS = [("JSONRPC", True), ("JSONRPC", False), ("HTTP+JSON", True), ("HTTP+JSON", False)]


# What is sent, and what comes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("binding", "streaming"), WAYS)
async def test_a_task_is_sent_followed_and_reported(binding: str, streaming: bool):
    far = FarAgent(binding=binding, streaming=streaming)
    async with reach(far) as here:
        far.does = far.work
        async with here.squad.client.delegate("echo", {"text": "hello"}, "k") as handle:
            await far.until(lambda: far.streams if streaming else far.count("GetTask"))
            far.turn(far.tasks["far-1"], "COMPLETED", "", {"text": "HELLO"})
            assert await handle.result() == "HELLO"
        (message,) = far.sent()
        assert message["parts"] == [{"text": "hello"}]
        assert message["metadata"] == {BINDING: {"skill": "echo"}}
        assert message["role"] == "ROLE_USER"
        assert "contextId" not in message
        assert all(one["a2a-version"] == "1.0" for one in far.headers)
        assert (far.count("SendStreamingMessage"), far.count("SendMessage")) == ((1, 0) if streaming else (0, 1))


@pytest.mark.parametrize(
    ("value", "modes", "parts"),
    [
        ("hi", ["text/plain"], [{"text": "hi"}]),
        ({"text": "hi"}, ["text/plain"], [{"text": "hi"}]),
        ({"text": "hi"}, ["text/plain", "application/json"], [{"data": {"text": "hi"}}]),
        ({"text": "hi", "n": 1}, ["text/plain"], [{"text": '{"text":"hi","n":1}'}]),
        ({"n": 1}, ["*/*"], [{"data": {"n": 1}}]),
        (None, ["application/json"], [{"data": {}}]),
        (b"\xff", ["text/plain"], [{"raw": "/w==", "mediaType": "application/octet-stream"}]),
        ([{"text": "a"}, {"url": "http://x/"}], ["text/plain"], [{"text": "a"}, {"url": "http://x/"}]),
    ],
)
def test_an_input_becomes_parts_that_the_remote_takes(value: Any, modes: list[str], parts: Any):
    assert module._parts(value, modes) == parts


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        ([], None),
        ([{"data": {"n": 1}}], {"n": 1}),
        ([{"raw": "/w=="}], b"\xff"),
        ([{"text": "a"}, {"text": "b"}], [{"text": "a"}, {"text": "b"}]),
    ],
)
def test_one_part_is_its_value_and_several_are_a_list(parts: Any, value: Any):
    assert module._value(parts) == value


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_largest_result_fits_in_whatever_way_json_writes_it(streaming: bool):
    async with reach(FarAgent(streaming=streaming)) as here:  # which escapes whatever is not ASCII
        value = "\N{LATIN SMALL LETTER E WITH ACUTE}" * 1_040_000
        assert await here.call(value) == value


@pytest.mark.parametrize("artifacts", [5, {"parts": []}, [{"parts": 5}], [{"parts": {"text": "a"}}], [{"parts": [5]}]])
async def test_a_result_of_another_form_ends_the_task(artifacts: Any):
    async with reach() as here:

        def does(task: dict[str, Any], message: dict[str, Any]) -> None:
            here.far.turn(task, "COMPLETED")
            task["artifacts"] = artifacts

        here.far.does = does
        assert "is not a list of A2A " in str(await here.failure())


async def test_a_task_without_artifacts_has_come_to_what_it_said():
    async with reach() as here:
        here.far.does = lambda task, message: here.far.turn(task, "COMPLETED", "all done")
        assert await here.call() == "all done"


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_message_may_be_the_whole_answer(streaming: bool):
    async with reach(FarAgent(streaming=streaming)) as here:
        here.far.does = lambda task, message: {"messageId": "m", "role": "ROLE_AGENT", "parts": [{"text": "at once"}]}
        assert await here.call() == "at once"
        assert here.far.count("GetTask") == 0


@pytest.mark.parametrize("state", ["FAILED", "REJECTED", "CANCELED"])
async def test_it_fails_as_the_remote_says_and_is_not_tried_again(state: str):
    async with reach() as here:
        here.far.does = lambda task, message: here.far.turn(task, state, "no tea")
        error = await here.failure()
        assert f"the remote agent says {state.lower()}: no tea" in str(error)
        assert len(here.far.sent()) == 1


async def test_who_wants_to_authorise_is_told_of():
    async with reach() as here:
        here.far.does = lambda task, message: here.far.turn(task, "AUTH_REQUIRED", "log in at x")
        assert "authorisation, which nobody here can give: log in at x" in str(await here.failure())


async def test_what_the_remote_says_meanwhile_is_told_as_a_note():
    async with reach() as here:
        here.far.does = here.far.work
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            async for event in handle.events():
                if event.note == "at it":
                    here.far.turn(here.far.tasks["far-1"], "COMPLETED", "", {"text": "x"})
            assert await handle.result() == "x"


# Nothing twice --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("binding", "streaming"), WAYS)
async def test_the_next_attempt_takes_the_task_up(binding: str, streaming: bool):
    far = FarAgent(binding=binding, streaming=streaming)
    async with reach(far) as here:
        far.does = far.work
        far.knows_repeats = False
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            async for event in handle.events():
                if event.note == "at it":
                    break
            looked = far.count("GetTask")
            await here.crash()
            await far.until(lambda: far.count("GetTask") > looked)
            far.turn(far.tasks["far-1"], "COMPLETED", "", {"text": "once"})
            assert await handle.result() == "once"
        assert len(far.sent()) == 1
        assert (await here.squad.client.get(handle.id))["metadata"]["attempt"] == 2


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_message_whose_answer_was_lost_is_the_same_message_again(streaming: bool):
    async with reach(FarAgent(streaming=streaming)) as here:
        operation = "SendStreamingMessage" if streaming else "SendMessage"
        here.far.wrong[operation] += ["lost", 503, 429]
        assert await here.call() == "hello"
        first, *others = here.far.sent()
        assert others == [first] * 3
        assert len(here.far.tasks) == 1


async def test_an_attempt_that_died_over_its_message_sends_the_same_one():
    async with reach() as here:
        here.far.wrong["SendStreamingMessage"] += ["hang"]
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            await here.far.until(here.far.sent)
            await here.crash()
            assert await handle.result() == "hi"
        first, second = here.far.sent()
        assert first == second


async def test_another_coordinator_sends_another_message_whatever_its_task_is_called():
    sent = []
    for _ in range(2):
        async with reach() as here:
            async with here.squad.client.delegate("echo", "hi", "k") as handle:
                await handle.result()
            sent.append((handle.id, here.far.sent()[0]["messageId"]))
    (first, one), (second, other) = sent
    assert first == second
    assert one != other


@pytest.mark.parametrize("how", ["lost", "hang"])
async def test_what_is_irreversible_is_not_sent_again(how: str):
    async with reach() as here:
        here.far.wrong["SendStreamingMessage"] += [how]
        async with here.squad.client.delegate("echo", "hi", "k", effect="irreversible") as handle:
            await here.far.until(here.far.sent)
            if how == "hang":
                await here.crash()
            with pytest.raises(TaskFailed, match="what is irreversible is not sent again"):
                await handle.result()
        assert len(here.far.sent()) == 1


async def test_what_is_irreversible_and_has_not_arrived_is_sent_by_the_next_attempt():
    async with reach(away=0.05) as here:
        here.far.wrong["SendStreamingMessage"] += [429] * 1000
        async with here.squad.client.delegate("echo", "hi", "k", effect="irreversible", attempts=50) as handle:
            async for event in handle.events():
                if "remote_away" in str(event):
                    break
            here.far.wrong["SendStreamingMessage"].clear()
            assert await handle.result() == "hi"
        assert len({one["messageId"] for one in here.far.sent()}) == 1


async def test_a_task_that_the_remote_lost_is_sent_once_more():
    async with reach() as here:
        here.far.does, here.far.knows_repeats = here.far.work, False
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            await here.far.until(lambda: here.far.tasks)
            here.far.does = here.far.echo
            here.far.wrong["GetTask"] += [(-32001, "it is gone")]
            await here.far.cut_stream()
            assert await handle.result() == "hi"
        first, second = here.far.sent()
        assert first == second


async def test_a_task_that_the_remote_loses_again_and_again_fails():
    async with reach() as here:
        here.far.wrong["GetTask"] += [(-32001, "it is gone")] * 100
        assert "has lost its task" in str(await here.failure(attempts=1))
        assert len(here.far.sent()) == 2


async def test_what_is_irreversible_and_lost_there_is_not_sent_again():
    async with reach(FarAgent(streaming=False)) as here:
        here.far.wrong["GetTask"] += [(-32001, "it is gone")]
        assert "has lost its task" in str(await here.failure(effect="irreversible"))
        assert len(here.far.sent()) == 1


@pytest.mark.parametrize("streaming", [True, False])
async def test_an_attempt_whose_lease_may_have_ended_sends_nothing(streaming: bool, monkeypatch: pytest.MonkeyPatch):
    checked: list[int] = []

    def check(task: TaskContext) -> None:
        checked.append(task.attempt)
        if task.attempt == 1:
            raise LeaseLapsed("the lease may have ended")

    monkeypatch.setattr(TaskContext, "check", check)
    async with reach(FarAgent(streaming=streaming)) as here:
        assert await here.call() == "hello"
        assert checked == [1, 2]
        assert len(here.far.sent()) == 1


# Away -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [503, 500, 401, 302, "cut", "nonsense", (-32603, "oh")])
async def test_who_is_away_while_it_works_is_waited_for(wrong: Any):
    async with reach(FarAgent(streaming=False)) as here:
        here.far.wrong["GetTask"] += [wrong] * 3
        assert await here.call() == "hello"
        assert here.far.count("GetTask") == 4
        assert len(here.far.sent()) == 1


async def test_a_stream_that_was_cut_is_taken_up():
    async with reach() as here:
        here.far.does = here.far.work
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            await here.far.until(lambda: here.far.tasks)
            for _ in range(2):
                subscribed = here.far.count("SubscribeToTask")
                await here.far.cut_stream()
                await here.far.until(lambda before=subscribed: here.far.count("SubscribeToTask") > before)
            here.far.turn(here.far.tasks["far-1"], "COMPLETED", "", {"text": "x"})
            assert await handle.result() == "x"
        assert len(here.far.sent()) == 1


async def test_who_is_away_for_too_long_fails_the_attempt_and_another_one_goes_on():
    async with reach(FarAgent(streaming=False), away=0.05) as here:
        here.far.wrong["GetTask"] += [503] * 1000
        async with here.squad.client.delegate("echo", "hi", "k", attempts=50) as handle:
            async for event in handle.events():
                if "remote_away" in str(event):
                    here.far.wrong["GetTask"].clear()
                    break
            assert await handle.result() == "hi"
        assert len(here.far.sent()) == 1


async def test_who_has_no_streams_after_all_is_asked():
    async with reach() as here:
        here.far.does = here.far.work
        here.far.wrong["SubscribeToTask"] += [(-32004, "no streams")] * 1000
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            await here.far.cut_stream()
            await here.far.until(lambda: here.far.count("GetTask") > 2)
            here.far.turn(here.far.tasks["far-1"], "COMPLETED", "", {"text": "x"})
            assert await handle.result() == "x"
        assert here.far.count("SubscribeToTask") == 1


@pytest.mark.parametrize("wrong", [401, 302, 404, "nonsense", (-32602, "bad parts")])
async def test_a_message_that_is_refused_is_not_sent_again(wrong: Any):
    async with reach() as here:
        here.far.wrong["SendStreamingMessage"] += [wrong]
        assert "the remote agent refuses: " in str(await here.failure())
        assert len(here.far.sent()) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "expected a task, a message or an update, got nothing"),
        ({"task": {"contextId": "c"}}, "expected a task, a message or an update, got task"),
        ({"message": {"messageId": "m"}}, "expected the parts of a message"),
        ({"message": {"parts": [{"words": "x"}]}}, "is not a list of A2A parts"),
    ],
)
async def test_an_answer_of_another_form_ends_the_task(answer: Any, words: str):
    async with reach(FarAgent(streaming=False)) as here:
        here.far.wrong["SendMessage"] += [answer]
        assert words in str(await here.failure(attempts=1))
        assert len(here.far.sent()) == 1


async def test_a_task_of_another_form_is_looked_at_again():
    async with reach(FarAgent(streaming=False)) as here:
        here.far.wrong["GetTask"] += [{}, {"id": "far-1"}, {"id": "far-1", "status": {"state": 7}}]
        assert await here.call(attempts=1) == "hello"
        assert len(here.far.sent()) == 1


@pytest.mark.parametrize(("effect", "sent"), [(None, 2), ("irreversible", 1)])
async def test_a_message_that_broke_something_there_is_tried_again_unless_it_is_irreversible(effect: Any, sent: int):
    async with reach() as here:
        here.far.wrong["SendStreamingMessage"] += [500]
        if effect is None:
            assert await here.call() == "hello"
        else:
            assert "is answered with 500" in str(await here.failure(effect=effect))
        assert len(here.far.sent()) == sent


# Questions ------------------------------------------------------------------------------------------------------------


def asks(far: FarAgent, *questions: Any) -> None:
    """Have a task ask these, one after the other, and come to the answers."""
    answers: list[str] = []

    def does(task: dict[str, Any], message: dict[str, Any]) -> None:
        if message.get("taskId"):
            answers.append(message["parts"][0]["text"])
        if len(answers) < len(questions):
            far.turn(task, "INPUT_REQUIRED", questions[len(answers)])
        else:
            far.turn(task, "COMPLETED", "", {"text": " ".join(answers)})

    far.does = does


@pytest.mark.parametrize(("binding", "streaming"), WAYS)
async def test_what_the_remote_asks_the_delegator_answers(binding: str, streaming: bool):
    far = FarAgent(binding=binding, streaming=streaming)
    async with reach(far) as here:
        asks(far, "more?", "more?")
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, question = await handle.question()
            assert question["question"] == "more?"
            await handle.answer(number, "milk")
            number, question = await handle.question()
            assert question["question"] == "more? (question 2)"
            await here.crash()
            await handle.answer(number, "sugar")
            assert await handle.result() == "milk sugar"
        first, *answers = far.sent()
        assert [one["taskId"] for one in answers] == ["far-1", "far-1"]
        assert [one["contextId"] for one in answers] == ["far-context-1", "far-context-1"]
        assert len({one["messageId"] for one in far.sent()}) == 3


@pytest.mark.parametrize(
    ("asked", "question"),
    [
        (
            {"question": "Which?", "options": ["a", "b"], "schema": {"type": "string"}},
            {"question": "Which?", "options": ["a", "b"], "schema": {"type": "string"}},
        ),
        ({"question": "How?", "options": ["a", 1], "schema": []}, {"question": "How?"}),
        ({"question": "How?", "options": "ab"}, {"question": "How?"}),
        ({"question": 1}, {"question": '{"question":1}'}),
        ([{"question": "Which?"}], {"question": '[{"question":"Which?"}]'}),
        (
            {"question": "Which?", "options": ["a" * module._WORDS_MAX]},
            {"question": ('{"question":"Which?","options":["' + "a" * module._WORDS_MAX)[: module._WORDS_MAX]},
        ),
    ],
)
async def test_a_question_of_an_agent_as_those_here_keeps_its_options_and_its_form(asked: Any, question: Any):
    async with reach() as here:
        asks(here.far, asked)
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, told = await handle.question()
            assert told == question
            await handle.answer(number, "a")
            assert await handle.result() == "a"


async def test_an_answer_that_may_be_there_is_not_said_again_where_it_shows():
    async with reach() as here:
        asks(here.far, "more?")
        here.far.wrong["SendStreamingMessage"] += [None, "lost"]
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, _ = await handle.question()
            await handle.answer(number, "milk")
            assert await handle.result() == "milk"
        assert len(here.far.sent()) == 2


async def test_an_answer_that_was_lost_on_its_way_is_said_again():
    async with reach() as here:
        asks(here.far, "more?")
        here.far.wrong["SendStreamingMessage"] += [None, "cut"]
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, _ = await handle.question()
            await handle.answer(number, "milk")
            assert await handle.result() == "milk"
        _, first, second = here.far.sent()
        assert first == second


async def test_a_question_that_is_shown_for_a_while_behind_its_answer_is_not_answered_again():
    async with reach(FarAgent(streaming=False)) as here:
        far = here.far
        far.does = lambda task, message: None if message.get("taskId") else far.turn(task, "INPUT_REQUIRED", "more?")
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, _ = await handle.question()
            await handle.answer(number, "milk")
            await far.until(lambda: len(far.sent()) == 2)
            looked = far.count("GetTask")
            await far.until(lambda: far.count("GetTask") > looked + 2)
            far.turn(far.tasks["far-1"], "COMPLETED", "", {"text": "x"})
            assert await handle.result() == "x"
        assert len(far.sent()) == 2


async def test_an_answer_that_comes_too_late_is_none():
    async with reach() as here:
        asks(here.far, "more?")
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, _ = await handle.question()
            here.far.turn(here.far.tasks["far-1"], "COMPLETED", "", {"text": "without"})
            here.far.wrong["SendStreamingMessage"] += [(-32004, "it has ended")]
            await handle.answer(number, "milk")
            assert await handle.result() == "without"


async def test_an_answer_that_is_refused_while_it_is_wanted_ends_the_task():
    async with reach() as here:
        asks(here.far, "more?")
        here.far.wrong["SendStreamingMessage"] += [None, (-32004, "not now"), (-32004, "not now")]
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            number, _ = await handle.question()
            await handle.answer(number, "milk")
            with pytest.raises(TaskFailed, match="the remote agent refuses: .*not now"):
                await handle.result()


# Cancel ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["coop", "skip"])
async def test_what_is_cancelled_here_is_cancelled_there(mode: Any):
    async with reach() as here:
        here.far.does = here.far.work
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            async for event in handle.events():
                if event.note == "at it":
                    break
            await handle.cancel(mode=mode)
            with pytest.raises(TaskCanceled):
                await handle.result()
        await here.far.until(lambda: here.far.count("CancelTask"))


async def test_what_ends_here_by_its_deadline_is_cancelled_there():
    async with reach() as here:
        here.far.does = here.far.work
        async with here.squad.client.delegate("echo", "hi", "k", deadline=60) as handle:
            await here.far.until(lambda: here.far.streams)
            await here.squad.advance(61)
            with pytest.raises(TaskFailed, match="deadline"):
                await handle.result()
        await here.far.until(lambda: here.far.count("CancelTask"))


async def test_what_was_done_when_it_is_cancelled_counts():
    async with reach() as here:
        here.far.does = here.far.work
        here.far.wrong["CancelTask"] += [(-32002, "it has ended")]
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            async for event in handle.events():
                if event.note == "at it":
                    break
            task = here.far.tasks["far-1"]
            task["status"] = {"state": "TASK_STATE_COMPLETED"}
            task["artifacts"] = [{"artifactId": "a", "parts": [{"text": "done"}]}]
            await handle.cancel()
            assert await handle.result() == "done"


async def test_an_attempt_that_was_taken_away_leaves_its_task_to_the_next_one():
    async with reach() as here:
        here.far.does = here.far.work
        async with here.squad.client.delegate("echo", "hi", "k") as handle:
            await here.far.until(lambda: here.far.streams)
            await here.squad.client.drain(NAME, 0.0)
            await here.far.until(lambda: not here.far.streams)
            for _ in range(3):  # as long as a cancel takes, which is asked for in one exchange
                await here.squad.client.get(handle.id)
            await here.agent.caller.card()
            assert here.far.count("CancelTask") == 0
            await handle.cancel()


# Revisions and contexts -----------------------------------------------------------------------------------------------


async def test_what_was_rejected_is_a_new_message_in_the_same_context():
    async with reach() as here:
        async with here.squad.client.delegate("echo", "draft", "k") as handle:
            assert await handle.result() == "draft"
            await handle.reject("shorter")
            assert await handle.result() == "shorter"
        first, second = here.far.sent()
        assert second["messageId"] != first["messageId"]
        assert (second["parts"], second["contextId"]) == ([{"text": "shorter"}], "far-context-1")
        assert second["referenceTaskIds"] == ["far-1"]
        assert "taskId" not in second


async def test_the_tasks_of_a_context_are_one_context_there():
    async with reach() as here:
        for key in ("a", "b"):
            await here.call(key, key=key, context_id="chat")
        await here.call("c", context_id="another")
        told = [message.get("contextId") for message in here.far.sent()]
        assert told == [None, "far-context-1", None]


async def test_a_word_to_the_work_stays_here_and_the_delegator_looks():
    async with reach() as here:
        here.far.does = here.far.work
        async with here.squad.client.delegate("echo", "hi", "k", acceptance="auto") as handle:
            await here.far.until(lambda: here.far.tasks)
            await handle.steer("faster")
            here.far.turn(here.far.tasks["far-1"], "COMPLETED", "", {"text": "x"})
            assert await handle.result() == "x"
            assert (await here.squad.client.get(handle.id))["metadata"]["state"] == "reported"
            await handle.confirm()
        assert len(here.far.sent()) == 1


# A circle -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def circle(*names: str, concurrency: int, streaming: bool) -> AsyncIterator[tuple[Squad, list[RemoteAgent]]]:
    """Have remote agents of these names for a gateway of their own coordinator inside a block."""
    card = {"skills": [{"id": "echo"}], "capabilities": {"streaming": streaming}}
    with anyio.fail_after(BOUND):
        async with Caller("http://127.0.0.1:9/card.json", headers=lambda: {"Authorization": "Bearer t"}) as caller:
            agents = [RemoteAgent(caller, card, name=name, concurrency=concurrency) for name in names]
            async with (
                squad(*agents) as running,
                gateway(running.connect("gateway"), "127.0.0.1:0", token="t") as here,
            ):
                caller.interface = Interface(f"{here.url}/", "JSONRPC")
                yield running, agents


async def is_circular(client: Client, key: str) -> None:
    with pytest.raises(TaskFailed, match="leads to this same coordinator"):
        await client.call("echo", "hi", key)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(("names", "concurrency", "tasks"), [("a", 8, 1), ("a", 2, 2), ("ab", 8, 3)])
async def test_a_gateway_of_its_own_coordinator_is_found_by_the_task_that_comes_back(
    names: str, concurrency: int, tasks: int, streaming: bool
):
    async with circle(*names, concurrency=concurrency, streaming=streaming) as (running, agents):
        async with anyio.create_task_group() as group:
            for number in range(tasks):
                group.start_soon(is_circular, running.client, str(number))
            for agent in agents:
                await agent.came_back.wait()
        while any(not task["status"]["state"].endswith(ENDED) for task in await running.client.list()):
            await running.advance(1)


@pytest.mark.parametrize("streaming", [True, False])
async def test_the_task_that_came_back_is_cancelled(streaming: bool):
    async with circle("a", concurrency=1, streaming=streaming) as (running, _):
        await is_circular(running.client, "k")
        states = {task["metadata"]["key"]: task["status"]["state"] for task in await running.client.list()}
        assert states.pop("k") == "TASK_STATE_FAILED"
        assert list(states.values()) == ["TASK_STATE_CANCELED"]


async def test_nothing_is_sent_any_more_once_a_task_has_come_back():
    async with reach() as here:
        here.agent.came_back.set()
        assert "leads to this same coordinator" in str(await here.failure())
        assert here.far.sent() == []


@pytest.mark.parametrize("length", [0, 129])
async def test_an_id_of_the_remotes_that_is_one_here_or_can_be_none_is_no_circle(length: int):
    async with reach(FarAgent(streaming=False)) as here:
        async with here.squad.client.delegate("another", "hi", "k") as other:
            answer = {"id": "x" * length or other.id, "contextId": "c", "status": {"state": "TASK_STATE_COMPLETED"}}
            answer["artifacts"] = [{"artifactId": "a", "parts": [{"text": "done there"}]}]
            here.far.wrong |= {"SendMessage": [{"task": answer}], "GetTask": [answer]}
            assert await here.call() == "done there"
            assert here.agent.leads_elsewhere
            assert here.far.count("CancelTask") == 0
            await other.cancel()


async def test_what_cannot_be_looked_for_here_goes_on_and_the_next_one_is(monkeypatch: pytest.MonkeyPatch):
    async def lost(task: TaskContext, name: str) -> Any:
        raise ConnectionLost("the coordinator is away")

    async with reach() as here:
        with monkeypatch.context() as patched:
            patched.setattr(TaskContext, "get", lost)
            assert await here.call() == "hello"
        assert not here.agent.leads_elsewhere
        assert await here.call() == "hello"
        assert here.agent.leads_elsewhere


# The card -------------------------------------------------------------------------------------------------------------


async def test_the_card_here_has_the_remotes_skills_and_says_where_it_is():
    async with reach(concurrency=3) as here:
        (info,) = await here.squad.client.find(agent=NAME)
        assert info.card["description"] == f"Far away (remote, at {card_url(here.far.url)})"
        assert (info.card["version"], info.labels, info.credit) == ("3.1", {"remote": "127.0.0.1"}, 3)
        assert info.card["skills"] == [
            {
                "id": "echo",
                "name": "Echo",
                "description": "Says it again",
                "tags": ["text"],
                "examples": [],
                "inputModes": ["text/plain"],
                "outputModes": ["text/plain"],
            }
        ]


async def test_a_card_that_has_changed_is_told(monkeypatch: pytest.MonkeyPatch):
    async with reach() as here, anyio.create_task_group() as group:
        told = anyio.Event()
        update = here.agent.update

        async def updated() -> None:
            await update()
            told.set()

        monkeypatch.setattr(here.agent, "update", updated)
        whole = dict(here.far.card)
        here.far.card["skills"] = []  # of which nothing is taken
        group.start_soon(here.agent.keep_card, 0.01)
        await here.far.until(lambda: here.far.cards > 3)
        assert list(here.agent.skills) == ["echo"]
        assert not told.is_set()
        here.far.card = whole | {"skills": [{"id": "sing", "name": "Sing", "description": "", "tags": []}]}
        await told.wait()
        (info,) = await here.squad.client.find(agent=NAME)
        assert info.skills == ["sing"]
        assert await here.squad.client.call("sing", "la") == "la"
        group.cancel_scope.cancel()


async def test_a_card_that_the_coordinator_refuses_changes_nothing(caplog: pytest.LogCaptureFixture):
    async with reach() as here, anyio.create_task_group() as group:
        here.far.card["skills"] = [{"id": f"skill-{number}"} for number in range(257)]
        group.start_soon(here.agent.keep_card, 0.01)
        await here.far.until(lambda: "could not be renewed: malformed" in caplog.text)
        assert await here.call("hi") == "hi", "whether or not it was looked at again"
        here.far.card["skills"] = [{"id": "echo"}, {"id": "sing"}]
        while list(here.agent.skills) != ["echo", "sing"]:
            await anyio.lowlevel.checkpoint()
        assert await here.squad.client.call("sing", "la") == "la"
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("skills", "words"),
    [(None, "names no skill"), ([{"id": ""}], "1 to 128 characters"), ([{"id": "x" * 129}], "1 to 128 characters")],
)
def test_a_card_without_skills_is_refused(skills: Any, words: str):
    with pytest.raises(ValueError, match=words):
        RemoteAgent(Caller("http://h/card.json"), {"skills": skills})


@pytest.mark.parametrize(
    ("name", "asked", "agent_id"),
    [
        ("Judge", "http://h:8/.well-known/agent-card.json", "remote-judge@h:8"),
        ("Judge", "https://H.example/.well-known/agent-card.json", "remote-judge@h.example"),
        ("Judge", "https://h/Agents/a/.well-known/agent-card.json", "remote-judge@h/Agents/a"),
        ("Judge", "https://h/cards/a.json", "remote-judge@h/cards/a.json"),
        ("Ü / é!", "http://h/.well-known/agent-card.json", "remote-agent@h"),
        (None, "http://h/.well-known/agent-card.json", "remote-agent@h"),
        ("x" * 99, "http://h/.well-known/agent-card.json", f"remote-{'x' * 32}@h"),
    ],
)
def test_no_card_takes_the_name_of_an_agent_here(name: Any, asked: str, agent_id: str):
    assert agent_name({"name": name}, asked) == agent_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://h:1", "http://h:2"),
        ("http://[::1]:8", "http://[::1:8]"),
        ("http://h/ä", "http://h/ö"),
        ("http://h/a.json?v=1", "http://h/a.json?v=2"),
        (f"http://h/{'a' * 99}/b", f"http://h/{'a' * 99}/c"),
    ],
)
def test_remote_agents_at_two_addresses_have_two_ids_whatever_their_cards_say(one: str, other: str):
    names = [agent_name({"name": "n" * 99}, card_url(url)) for url in (one, other, one)]
    assert names[0] == names[2] != names[1]
    for name in names:
        assert TypeAdapter(AgentId).validate_python(name) == name


def test_what_a_query_says_is_in_no_id():
    assert "secret" not in agent_name({}, card_url("http://h/a.json?key=secret"))


def test_it_has_its_id_by_the_address_of_its_card():
    caller = Caller("http://h:8/a/.well-known/agent-card.json")
    assert RemoteAgent(caller, {"name": "Judge", "skills": [{"id": "x"}]}).name == "remote-judge@h:8/a"
