"""Calls that wait for their task, and streams: volatile, and in the order of what happened."""

from __future__ import annotations

import json

import pytest

from a2a.engine.records import Delegated
from a2a.protocol.messages import (
    A2ACall,
    A2AEvent,
    A2AFault,
    A2AResult,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskYield,
)

RESULT = b'[{"artifactId":"a1","parts":[{"text":"one"}]},{"artifactId":"a2","parts":[{"text":"two"}]}]'


def sending(operation, name="m1", **fields):
    sent = {"messageId": name, "role": "ROLE_USER", "parts": [{"text": "hello"}]} | fields
    return A2ACall(operation, json.dumps({"message": sent}).encode())


def subscribing(task, from_gen=None):
    return A2ACall("SubscribeToTask", json.dumps({"id": task}).encode(), from_gen=from_gen)


def told(peer, kind=A2AEvent):
    """Return what came over a peer's streams, or in answer to its calls, in order."""
    return [frame.message for frame in peer.frames if isinstance(frame.message, kind)]


def words(event):
    """Return what an event tells, in short."""
    response = json.loads(event.payload)
    if "task" in response:
        return event.generation, "task", response["task"]["status"]["state"].removeprefix("TASK_STATE_")
    if "artifactUpdate" in response:
        return event.generation, "artifact", response["artifactUpdate"]["artifact"]["artifactId"]
    update = response["statusUpdate"]
    return event.generation, update["metadata"]["event"], update["status"]["state"].removeprefix("TASK_STATE_")


def is_quiet(town):
    """Tell whether nothing is left of any call."""
    return not town.coordinator.live.calls and not any(
        seat.calls for seat in town.coordinator.live.connections.values()
    )


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=8)


# Waiting --------------------------------------------------------------------------------------------------------------


def test_a_message_is_answered_when_its_task_has_ended(town, boss, worker):
    assert boss.say(sending("SendMessage")) is None
    offer = worker.offer()
    worker.beat(offer, progress_no=1, note="half")
    assert told(boss, A2AResult) == told(boss) == []
    worker.report(offer, payload=RESULT)
    (answer,) = told(boss, A2AResult)
    task = json.loads(answer.payload)["task"]
    assert (task["id"], task["status"]["state"]) == (offer.task, "TASK_STATE_COMPLETED")
    assert task["artifacts"] == json.loads(RESULT)
    assert is_quiet(town)


def test_a_message_is_answered_when_its_task_asks(town, boss, worker):
    boss.say(sending("SendMessage"))
    offer = worker.offer()
    worker.say(TaskAsk(offer.task, 1, b'[{"text":"which?"}]', fence=offer.fence))
    (answer,) = told(boss, A2AResult)
    status = json.loads(answer.payload)["task"]["status"]
    assert (status["state"], status["message"]["parts"]) == ("TASK_STATE_INPUT_REQUIRED", [{"text": "which?"}])
    assert is_quiet(town)
    boss.say(sending("SendMessage", "m2", taskId=offer.task))
    assert len(told(boss, A2AResult)) == 1, "the answer waits for the end again"
    worker.report(offer, payload=RESULT)
    assert len(told(boss, A2AResult)) == 2


def test_a_message_is_answered_with_the_agents_fault(town, boss, worker):
    boss.say(sending("SendMessage"))
    worker.report(worker.offer(), payload=b'["done"]')
    (answer,) = told(boss, A2AFault)
    assert answer.code == -32006
    assert is_quiet(town)


def test_each_call_about_a_task_is_answered_on_its_own(town, boss, worker):
    boss.say(sending("SendMessage"))
    boss.say(sending("SendMessage"))
    worker.report(worker.offer(), payload=RESULT)
    answers = [frame for frame in boss.frames if isinstance(frame.message, A2AResult)]
    assert len({frame.re for frame in answers}) == len(answers) == 2


def test_a_call_is_gone_with_its_connection_and_made_again(town, boss, worker):
    boss.say(sending("SendMessage"))
    boss.say(sending("SendStreamingMessage"))
    boss.drop()
    assert is_quiet(town)
    again = town.join("boss")
    worker.report(worker.offer(), payload=RESULT)
    answer = again.say(sending("SendMessage"))
    assert json.loads(answer.payload)["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert len(town.said(Delegated)) == 1


def test_a_call_is_gone_when_a_newer_connection_takes_over(town, boss, worker):
    boss.say(sending("SendMessage"))
    again = town.dial()
    again.say(town.hello("boss", incarnation=2))
    assert is_quiet(town)
    worker.report(worker.offer(), payload=RESULT)
    assert told(boss, A2AResult) == told(again, A2AResult) == []


@pytest.mark.parametrize("operation", ["SendMessage", "SendStreamingMessage"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_call_under_the_id_of_another_takes_its_place(town, boss, worker, monkeypatch, operation, leaves):
    with monkeypatch.context() as patched:
        patched.setattr(town, "next_id", lambda: "again")
        boss.say(sending(operation, "m1"))
        boss.say(sending(operation, "m2"))
    first, second = (message for message in worker.mail())
    assert list(town.coordinator.live.calls) == [second.task]
    if leaves:
        boss.drop()
    before = len(boss.frames)
    worker.report(first, payload=RESULT)
    assert [frame for frame in boss.frames[before:] if frame.re] == []
    worker.report(second, payload=RESULT)
    assert is_quiet(town)


def test_how_many_calls_wait_is_bounded(make_town):
    town = make_town(calls_max=2)
    boss = town.join("boss")
    worker = town.worker("w1", tasks=8)
    boss.say(sending("SendMessage"))
    boss.say(sending("SendStreamingMessage"))
    offer = worker.offer()
    count = len(town.records)
    for message in (sending("SendMessage", "m2"), sending("SendStreamingMessage", "m2"), subscribing(offer.task)):
        answer = boss.say(message)
        assert (answer.code, answer.data[0]["metadata"]) == (-32603, {"code": "quota", "retryable": "true"})
    assert len(town.records) == count
    worker.report(offer, payload=RESULT)
    assert boss.say(sending("SendMessage", "m2")) is None


# Streams --------------------------------------------------------------------------------------------------------------


def test_a_stream_begins_with_the_task_and_ends_with_its_end(town, boss, worker):
    boss.say(sending("SendStreamingMessage"))
    offer = worker.offer()
    worker.beat(offer, progress_no=1, progress_bp=5_000, note="half")
    worker.say(TaskArtifact(offer.task, offer.fence, "draft", 0, b'[{"text":"o"}]'))
    worker.say(TaskAsk(offer.task, 1, b'[{"text":"which?"}]', fence=offer.fence))
    boss.say(TaskAnswer(offer.task, 1, b'[{"text":"that"}]'))
    worker.report(offer, payload=RESULT)
    events = told(boss)
    assert [words(event) for event in events] == [
        (1, "task", "SUBMITTED"),
        (2, "grant", "WORKING"),
        (2, "progress", "WORKING"),
        (3, "artifact", "draft"),
        (4, "ask", "INPUT_REQUIRED"),
        (5, "answer", "WORKING"),
        (6, "report", "WORKING"),
        (7, "artifact", "a1"),
        (7, "artifact", "a2"),
        (7, "complete", "COMPLETED"),
    ]
    assert [event.last for event in events] == [False] * 9 + [True]
    assert {event.task for event in events} == {offer.task}
    assert len({frame.re for frame in boss.frames if isinstance(frame.message, A2AEvent)}) == 1
    assert is_quiet(town)


def test_a_stream_goes_on_behind_a_generation(town, boss, worker):
    boss.say(sending("SendStreamingMessage"))
    offer = worker.offer()
    boss.drop()
    worker.say(TaskYield(offer.task, offer.fence, "later"))
    again = town.join("boss")
    again.say(subscribing(offer.task, from_gen=2))
    worker.report(worker.offer(), payload=RESULT)
    generation = town.task(offer.task).generation
    events = [words(event) for event in told(again)]
    assert events[0][1] == "task"
    numbers = [number for number, *_ in events[1:]]
    assert list(dict.fromkeys(numbers)) == list(range(3, generation + 1)), "each generation behind it, in order"
    assert numbers == sorted(numbers)


def test_a_stream_without_a_generation_goes_on_from_now(town, boss, worker):
    task = boss.delegate(acceptance="auto")
    boss.say(subscribing(task))
    worker.report(worker.offer(), payload=RESULT)
    assert [words(event)[:2] for event in told(boss)] == [
        (2, "task"),
        (3, "report"),
        (4, "artifact"),
        (4, "artifact"),
        (4, "complete"),
    ]


def test_a_stream_cannot_go_on_behind_what_never_was(boss, worker):
    task = boss.delegate()
    assert boss.say(subscribing(task, from_gen=3)).code == -32602
    assert isinstance(boss.say(subscribing(task, from_gen=2)), A2AEvent)


def test_a_stream_of_what_has_ended_is_the_task_alone(town, boss, worker):
    boss.say(sending("SendMessage"))
    offer = worker.offer()
    worker.report(offer, payload=RESULT)
    boss.say(sending("SendStreamingMessage"))
    (event,) = told(boss)
    assert (words(event), event.last) == ((4, "task", "COMPLETED"), True)
    assert boss.say(subscribing(offer.task)).code == -32004
    assert is_quiet(town)


def test_streams_of_one_task_get_the_same(town, boss, worker):
    boss.say(sending("SendStreamingMessage"))
    task = worker.offer()
    other = town.join("other")
    other.say(subscribing(task.task, from_gen=0))
    worker.report(task, payload=RESULT)
    assert [words(event) for event in told(boss)][1:] == [words(event) for event in told(other)][2:]
    other.drop()


def test_one_stream_ends_without_the_other(town, boss, worker):
    boss.say(sending("SendStreamingMessage"))
    offer = worker.offer()
    other = town.join("other")
    other.say(subscribing(offer.task))
    other.drop()
    worker.report(offer, payload=RESULT)
    assert told(boss)[-1].last
    assert is_quiet(town)


def test_a_stream_ends_with_the_agents_fault(town, boss, worker):
    boss.say(sending("SendStreamingMessage"))
    worker.report(worker.offer(), payload=b'["done"]')
    (answer,) = told(boss, A2AFault)
    assert answer.code == -32006
    again = boss.say(sending("SendStreamingMessage"))
    assert again == answer, "it begins with nothing else"
    assert not any(event.last for event in told(boss))
    assert is_quiet(town)


def test_a_task_nobody_called_about_costs_nothing(town, boss, worker):
    boss.delegate(acceptance="auto")
    worker.report(worker.offer(), payload=RESULT)
    assert told(boss) == told(boss, A2AResult) == []
    assert is_quiet(town)
