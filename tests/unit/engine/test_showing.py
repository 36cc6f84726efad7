"""Tasks, their steps and the agents on file in A2A's own JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from a2a.engine.live import Progress
from a2a.engine.showing import card, progress_update, shown, updates
from a2a.protocol.messages import TaskAnswer, TaskArtifact, TaskAsk, TaskYield
from a2a.protocol.operations import Fault

RESULT = b'[{"artifactId":"a1","name":"n","parts":[{"text":"done"}]}]'


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=8)


def told(task):
    """Return what streams tell of all steps of a task."""
    return [update for event in task.history for update in updates(task, event)]


def test_a_task_is_its_view_with_artifacts(town, boss, worker):
    task = town.task(boss.delegate(acceptance="auto"))
    assert shown(town.coordinator.world, task)["artifacts"] == []
    worker.report(worker.offer(), payload=RESULT)
    found = shown(town.coordinator.world, task)
    assert found["artifacts"] == json.loads(RESULT)
    assert "message" not in found["status"], "a result says it all"
    assert "artifacts" not in shown(town.coordinator.world, task, with_artifacts=False)


@pytest.mark.parametrize("question", [b'"which?"', b"[]", b"[1]", b"nonsense", b"{}", b'[{"text":5}]'])
def test_a_question_that_is_no_list_of_parts_is_shown_as_the_text_it_is(town, boss, worker, question):
    task = town.task(boss.delegate())
    offer = worker.offer()
    worker.say(TaskAsk(task.id, 1, question, fence=offer.fence))
    expected = [{"text": question.decode()}]
    assert shown(town.coordinator.world, task)["status"]["message"]["parts"] == expected
    assert told(task)[-1]["statusUpdate"]["status"]["message"]["parts"] == expected


def test_a_question_stays_with_its_own_step(town, boss, worker):
    task = town.task(boss.delegate())
    offer = worker.offer()
    for number in (1, 2):
        worker.say(TaskAsk(task.id, number, json.dumps([{"text": f"q{number}"}]).encode(), fence=offer.fence))
        boss.say(TaskAnswer(task.id, number, b"[]"))
    words = {
        update["statusUpdate"]["metadata"]["event"]: update["statusUpdate"]["status"].get("message", {}).get("parts")
        for update in told(task)[:4]
    }
    assert words == {"created": None, "grant": None, "ask": [{"text": "q1"}], "answer": None}


def test_a_later_question_is_not_told_with_an_earlier_step(town, boss, worker):
    task = town.task(boss.delegate())
    offer = worker.offer()
    worker.say(TaskAsk(task.id, 1, b'[{"text":"q1"}]', fence=offer.fence))
    town.pass_time(4_000)
    boss.say(TaskAnswer(task.id, 1, b"[]"))
    offer = worker.offer()
    worker.accept(offer)
    worker.say(TaskAsk(task.id, 2, b'[{"text":"q2"}]', fence=offer.fence))
    expired = [update for update in told(task) if update["statusUpdate"]["metadata"]["event"] == "expire"]
    assert [update["statusUpdate"]["status"].get("message") for update in expired] == [None]


def test_a_completed_task_needs_no_words(town, boss, worker):
    task = town.task(boss.delegate(acceptance="auto"))
    worker.report(worker.offer(), payload=RESULT)
    noted = replace(task, settled=replace(task.settled, detail="after a conflict"))
    assert "message" not in shown(town.coordinator.world, noted)["status"]


def test_a_task_that_was_at_work_is_not_submitted_again(town, boss, worker):
    task = town.task(boss.delegate())
    offer = worker.offer()
    worker.say(TaskYield(task.id, offer.fence, "later"))
    states = [update["statusUpdate"]["status"]["state"] for update in told(task)]
    assert states[:3] == ["TASK_STATE_SUBMITTED", "TASK_STATE_WORKING", "TASK_STATE_WORKING"]


def test_a_chunk_is_provisional(town, boss, worker):
    task = town.task(boss.delegate())
    offer = worker.offer()
    worker.say(TaskArtifact(task.id, offer.fence, "a", 0, b'[{"text":"x"}]', name="draft", last_chunk=False))
    worker.say(TaskArtifact(task.id, offer.fence, "a", 1, b'[{"text":"y"}]', append=True))
    first, second = (update["artifactUpdate"] for update in told(task)[-2:])
    assert first == {
        "taskId": task.id,
        "contextId": task.context_id,
        "artifact": {"artifactId": "a", "name": "draft", "parts": [{"text": "x"}]},
        "append": False,
        "lastChunk": False,
        "metadata": {"provisional": True, "fence": offer.fence},
    }
    assert (second["append"], second["lastChunk"]) == (True, True)


def test_the_end_is_told_with_why(town, boss, worker):
    task = town.task(boss.delegate("a", "none"))
    boss.cancel(task.id, reason="enough")
    status = told(task)[-1]["statusUpdate"]["status"]
    assert status["state"] == "TASK_STATE_CANCELED"
    assert "enough" in status["message"]["parts"][0]["text"]
    assert status == shown(town.coordinator.world, task)["status"]


def test_a_result_that_is_none_has_no_steps(town, boss, worker):
    task = town.task(boss.delegate(acceptance="auto"))
    worker.report(worker.offer(), payload=b"{}")
    with pytest.raises(Fault):
        told(task)
    with pytest.raises(Fault):
        shown(town.coordinator.world, task)


def test_a_result_whose_part_is_none_of_a2as_cannot_be_shown(town, boss, worker):
    task = town.task(boss.delegate(acceptance="auto"))
    worker.report(worker.offer(), payload=b'[{"artifactId":"a1","parts":[{"text":"a"},{"text":5}]}]')
    with pytest.raises(Fault, match="is no list of artifacts"):
        shown(town.coordinator.world, task)
    with pytest.raises(Fault, match="is no list of artifacts"):
        told(task)


def test_progress_is_told_in_the_generation_it_came_in(town, boss, worker):
    task = town.task(boss.delegate())
    update = progress_update(task, Progress(3, 2_500, "reading", town.now))["statusUpdate"]
    assert update["metadata"] == {
        "event": "progress",
        "generation": task.generation,
        "state": "leased",
        "progressBp": 2_500,
    }
    assert update["status"]["message"]["parts"] == [{"text": "reading"}]
    quiet = progress_update(task, Progress(3, at=town.now))["statusUpdate"]
    assert "message" not in quiet["status"]
    assert "progressBp" not in quiet["metadata"]


def test_a_card_without_agents_has_no_skills(town):
    found = card(town.ledger, ["ws://one", "ws://two"])
    assert found["skills"] == []
    assert [one["url"] for one in found["supportedInterfaces"]] == ["ws://one", "ws://two"]
    assert found["securityRequirements"][0]["schemes"].keys() == found["securitySchemes"].keys()
