"""Looking without changing: tasks in A2A's form, pages of them, and what happened to them."""

import pytest

from a2a.engine.decision import Decision
from a2a.engine.policy import Bounds
from a2a.engine.reading import view
from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AgentUpdate,
    ArtifactRef,
    AttemptError,
    Held,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskGet,
    TaskLimits,
    TaskList,
    TaskWatch,
    TaskYield,
    Timers,
)

# One task -------------------------------------------------------------------------------------------------------------


def test_a_new_task_is_shown_as_a2a_shows_it(town, boss):
    task = boss.delegate("job", limits=TaskLimits(deadline_ms=1_500))
    found = boss.say(TaskGet(task))
    assert found.view == {
        "id": task,
        "contextId": town.task(task).context_id,
        "status": {"state": "TASK_STATE_SUBMITTED", "timestamp": "2023-11-14T22:13:20.000Z"},
        "metadata": {
            "skill": "echo",
            "state": "queued",
            "generation": 1,
            "key": "job",
            "delegator": "boss",
            "createdAt": "2023-11-14T22:13:20.000Z",
            "attempt": 0,
            "rev": 0,
            "evaluator": "delegator",
            "counters": {"losses": 0, "failures": 0, "declines": 0, "revivals": 0, "reworks": 0, "handoffs": 0},
            "deadlineAt": "2023-11-14T22:13:21.500Z",
            "spec": town.task(task).spec,
        },
    }
    assert (found.input, found.payload, found.artifacts, found.asks) == (b"[]", None, [], [])


def test_a_task_with_a_past_shows_it(town, boss, worker):
    task = boss.delegate()
    first = worker.offer()
    worker.beat(first, progress_no=1, progress_bp=2_500, note="reading")
    shown = view(town.coordinator.world, town.task(task))["metadata"]
    assert (shown["fence"], shown["agent"], shown["progress"]) == (
        first.fence,
        "w1",
        {"note": "reading", "progressBp": 2_500},
    )
    child = worker.delegate("part", "other", parent=Held(task, first.fence))
    worker.report(first, "failed", error=AttemptError("e", "oh", retryable=True))
    town.pass_time(1_000)
    second = worker.offer()
    worker.report(second)
    town.join("stranger").report(second)
    shown = view(town.coordinator.world, town.task(task))["metadata"]
    assert shown["children"] == [child]
    assert shown["error"] == {"code": "e", "detail": "oh", "retryable": True}
    assert shown["pendingAcceptance"] is True
    assert shown["resultHash"] == town.task(task).results[0].result_hash
    assert [(kept["agent"], kept["verdict"]) for kept in shown["evidence"]] == [("stranger", "not_holder")]
    assert view(town.coordinator.world, town.task(child))["metadata"]["parent"] == task
    boss.confirm(boss.mail()[-1])
    shown = view(town.coordinator.world, town.task(task))["metadata"]
    assert (shown["reason"], shown["confirmedBy"], "pendingAcceptance" in shown) == ("", "boss", False)
    assert "progress" not in shown


def test_a_task_somebody_worked_on_is_never_shown_as_submitted_again(town, boss, worker):
    task = boss.delegate()
    assert view(town.coordinator.world, town.task(task))["status"]["state"] == "TASK_STATE_WORKING"
    worker.drop()
    town.pass_time(500)
    assert town.task(task).state == "queued"
    assert view(town.coordinator.world, town.task(task))["status"]["state"] == "TASK_STATE_WORKING"


def test_content_travels_beside_the_view_unread(town, boss, worker):
    task = boss.delegate(payload=b'["in"]')
    offer = worker.offer()
    worker.say(TaskArtifact(task, offer.fence, "a", 0, b"[0]", name="log", last_chunk=False))
    worker.say(TaskAsk(task, 1, b'["q"]', fence=offer.fence))
    found = boss.say(TaskGet(task))
    assert found.asks == [{"askNo": 1, "payload": b'["q"]'}]
    boss.say(TaskAnswer(task, 1, b'["a"]'))
    found = boss.say(TaskGet(task))
    assert found.input == b'["in"]'
    assert found.asks == [{"askNo": 1, "payload": b'["q"]', "answer": b'["a"]', "by": "boss"}]
    assert found.artifacts == [
        {
            "artifactId": "a",
            "name": "log",
            "fence": offer.fence,
            "chunks": [b"[0]"],
            "complete": False,
            "discarded": False,
            "committed": False,
        }
    ]
    worker.say(TaskYield(task, offer.fence))
    assert boss.say(TaskGet(task)).artifacts[0]["discarded"] is True
    worker.report(worker.offer())
    assert boss.say(TaskGet(task)).payload == b'["done"]'
    without = boss.say(TaskGet(task, content=False))
    assert (without.input, without.payload, without.artifacts, without.asks) == (None, None, [], [])


def test_what_does_not_exist_is_not_found(boss):
    assert boss.refused(TaskGet("main-9")) == ErrorCode.NOT_FOUND
    assert boss.refused(TaskWatch("main-9")) == ErrorCode.NOT_FOUND
    assert boss.refused(TaskList(before="main-9")) == ErrorCode.NOT_FOUND


# Pages ----------------------------------------------------------------------------------------------------------------


def listed(peer, **wanted):
    page = peer.say(TaskList(**wanted))
    return [task["id"] for task in page.tasks], page.next_before


def test_pages_go_from_the_newest_task_to_the_oldest_without_gap_or_repeat(boss):
    ids = [boss.delegate(str(number)) for number in range(5)][::-1]
    assert listed(boss) == (ids, None)
    assert listed(boss, limit=5) == (ids, None)
    assert listed(boss, limit=2) == (ids[:2], ids[1])
    assert listed(boss, limit=2, before=ids[1]) == (ids[2:4], ids[3])
    assert listed(boss, limit=2, before=ids[3]) == (ids[4:], None)


def test_a_page_has_only_what_was_asked_for(town, boss):
    echo = boss.delegate("1")
    other = boss.delegate("2", "other", context_id="c")
    worker = town.worker("w1")
    child = worker.delegate("part", "x", parent=Held(echo, worker.offer().fence))
    ended = boss.delegate("3", "x")
    boss.cancel(ended)
    assert listed(boss, skill="other")[0] == [other]
    assert listed(boss, state="leased")[0] == [echo]
    assert listed(boss, state="TASK_STATE_SUBMITTED")[0] == [child, other]
    assert listed(boss, state="TASK_STATE_CANCELED")[0] == listed(boss, state="canceled")[0] == [ended]
    assert listed(boss, parent=echo)[0] == [child]
    assert listed(boss, context_id="c")[0] == [other]
    assert listed(boss, context_id="c", skill="echo")[0] == []


def test_the_last_page_is_known_as_such_though_older_tasks_of_other_kinds_follow(boss):
    boss.delegate("1", "other")
    task = boss.delegate("2")
    assert listed(boss, skill="echo", limit=1) == ([task], None)


def test_reading_decides_nothing(town, boss):
    task = boss.delegate()
    for message in (TaskGet(task), TaskList(), TaskWatch(task)):
        decision = boss.decide(message)
        assert decision == Decision([], decision.reply)


# What several attempts and their delegator left -----------------------------------------------------------------------


def test_what_was_streamed_without_a_heartbeat_is_no_progress(town, boss, worker):
    boss.delegate()
    offer = worker.offer()
    worker.say(TaskArtifact(offer.task, offer.fence, "a", 0, b"[]"))
    boss.say(TaskWatch(offer.task))
    assert "progress" not in [notice.event for notice in boss.notices]
    assert "progress" not in boss.say(TaskGet(offer.task)).view["metadata"]
    worker.beat(offer, note="at it")
    assert boss.say(TaskGet(offer.task)).view["metadata"]["progress"] == {"note": "at it"}


def lose(town, task, *names):
    """Have these agents lose the task, one after the other."""
    for name in names:
        loser = town.worker(name, instance_id=f"{name}-{town.now}", incarnation=town.now)
        assert town.task(task).state != "queued", name
        loser.drop()
        town.pass_time(600)


@pytest.mark.parametrize(("losers", "is_dead"), [(("a", "a"), False), (("a", "b"), True)])
def test_a_dead_letter_was_lost_by_more_than_one_agent(make_town, losers, is_dead):
    town = make_town(bounds=Bounds(losses=1))
    boss = town.join("boss")
    task = boss.delegate()
    other = boss.delegate("other", "rare")
    lose(town, task, *losers)
    assert (town.task(task).settled.reason, town.task(task).losses) == ("losses", 2)
    assert boss.say(TaskGet(task)).view["metadata"].get("deadLetter", False) is is_dead
    listed = [view["id"] for view in boss.say(TaskList(dead_letter=True)).tasks]
    assert listed == ([task] if is_dead else [])
    assert [view["id"] for view in boss.say(TaskList()).tasks] == [other, task]


def test_dead_letters_are_listed_from_the_archive_as_well(make_town):
    town = make_town(bounds=Bounds(losses=1), linger_ms=0)
    boss = town.join("boss")
    task = boss.delegate()
    lose(town, task, "a", "b")
    last = town.worker("c")
    for key in ("done", "failed"):
        boss.delegate(key, acceptance="auto")
        last.report(last.offer(), "completed" if key == "done" else "failed")
    back = [town.worker(name, "rare", instance_id=f"{name}-back", incarnation=town.now) for name in ("a", "b")]
    for peer in (boss, last, *back):
        if peer.mailbox:
            peer.acknowledge()
    town.pass_time(10_000)
    assert len(town.archive) == 3 and town.ledger.tasks == {}
    assert [view["id"] for view in boss.say(TaskList(dead_letter=True)).tasks] == [task]
    assert len(boss.say(TaskList()).tasks) == 3


def test_a_task_that_failed_otherwise_is_no_dead_letter_whoever_lost_it(make_town):
    town = make_town(bounds=Bounds(losses=2))
    boss = town.join("boss")
    task = boss.delegate()
    lose(town, task, "a", "b")
    last = town.worker("c")
    last.report(last.offer(), "failed")
    assert boss.say(TaskList(dead_letter=True)).tasks == []


def test_losses_by_stalling_make_a_dead_letter_too(make_town):
    town = make_town(bounds=Bounds(losses=1))
    boss = town.join("boss")
    task = boss.delegate(timers=Timers(stall_ms=1_000))
    for name in ("a", "b"):
        worker = town.worker(name)
        offer = worker.offer()
        worker.beat(offer)
        town.pass_time(1_000)
        worker.say(AgentUpdate(status="draining"))
        worker.say(TaskYield(offer.task, offer.fence))
    assert [view["id"] for view in boss.say(TaskList(dead_letter=True)).tasks] == [task]


def test_a_task_says_which_one_it_tries_anew(town, boss):
    first = boss.delegate("1")
    second = boss.delegate("2", redrive_of=first)
    assert boss.say(TaskGet(second)).view["metadata"]["redriveOf"] == first
    assert "redriveOf" not in boss.say(TaskGet(first)).view["metadata"]
    assert "redriveOf" in town.restart().join("boss").say(TaskGet(second)).view["metadata"]


def test_a_view_shows_what_was_used_and_what_may_be(boss, worker):
    task = boss.delegate(budget={"tokens": 9})
    assert "usage" not in boss.say(TaskGet(task)).view["metadata"]
    worker.report(worker.offer(), usage={"tokens": 4, "watts": 1})
    metadata = boss.say(TaskGet(task)).view["metadata"]
    assert (metadata["usage"], metadata["budget"]) == ({"tokens": 4}, {"tokens": 9})


def committed(boss, task):
    return {
        found["artifactId"]: (found["committed"], found["discarded"]) for found in boss.say(TaskGet(task)).artifacts
    }


def test_what_a_report_names_is_committed_when_the_task_has_completed_with_it(boss, worker):
    task = boss.delegate()
    offer = worker.offer()
    for name in ("kept", "scratch"):
        worker.say(TaskArtifact(task, offer.fence, name, 0, b"[]"))
    worker.report(offer, artifacts=[ArtifactRef("kept")])
    assert committed(boss, task) == {"kept": (False, False), "scratch": (False, False)}
    boss.confirm(boss.mail()[-1])
    assert committed(boss, task) == {"kept": (True, False), "scratch": (False, False)}


def test_what_a_rejected_report_named_is_not_committed_by_the_next_one(boss, worker):
    task = boss.delegate()
    offer = worker.offer()
    for name in ("first", "both"):
        worker.say(TaskArtifact(task, offer.fence, name, 0, b"[]"))
    worker.report(offer, artifacts=[ArtifactRef("first"), ArtifactRef("both")])
    boss.confirm(boss.mail()[-1], verdict="reject", rework=True)
    again = worker.offer()
    worker.say(TaskArtifact(task, again.fence, "both", 0, b"[]"))
    worker.report(again, payload=b'["2"]')
    boss.confirm(boss.mail()[-1])
    assert committed(boss, task) == {"first": (False, True), "both": (False, False)}
