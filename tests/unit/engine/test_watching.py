"""Watching: each event of a task once, in order and without a gap, for as long as the watch lasts."""

import pytest

from a2a.errors import ErrorCode
from a2a.protocol.messages import (
    AttemptError,
    Ok,
    TaskArtifact,
    TaskHeartbeat,
    TaskWatch,
)


def told(peer):
    return [(event.generation, event.event, event.state) for event in peer.notices]


def test_a_watcher_gets_what_happened_and_then_what_happens_without_gap(town, boss, worker):
    task = boss.delegate()
    watcher = town.join("watcher")
    assert watcher.say(TaskWatch(task)) == Ok(state="leased")
    assert told(watcher) == [(1, "created", "queued"), (2, "grant", "leased")]
    worker.report(worker.offer())
    boss.confirm(boss.mail()[-1])
    assert told(watcher)[2:] == [(3, "report", "reported"), (4, "complete", "completed")]


@pytest.mark.parametrize("known", [0, 1, 2, 5])
def test_a_watcher_that_knows_a_generation_gets_only_what_is_newer(town, boss, worker, known):
    task = boss.delegate()
    watcher = town.join("watcher")
    watcher.say(TaskWatch(task, from_gen=known))
    offer = worker.offer()
    worker.say(TaskArtifact(task, offer.fence, "a", 0, b"[0]"))
    worker.report(offer)
    assert [generation for generation, _, _ in told(watcher)] == list(range(min(known, 2) + 1, 5))


def test_an_event_carries_its_data_and_its_payload(town, boss, worker):
    task = boss.delegate()
    boss.say(TaskWatch(task, from_gen=2))
    offer = worker.offer()
    worker.say(TaskArtifact(task, offer.fence, "a", 0, b"[0]", name="log"))
    (event,) = boss.notices
    assert (event.event, event.state, event.at, event.payload) == ("artifact", "leased", town.now, b"[0]")
    assert event.data == {
        "artifactId": "a",
        "name": "log",
        "append": False,
        "lastChunk": True,
        "chunkNo": 0,
        "fence": offer.fence,
    }


def test_an_event_of_a_failure_says_what_went_wrong(town, boss, worker):
    task = boss.delegate()
    boss.say(TaskWatch(task, from_gen=2))
    offer = worker.offer()
    worker.report(offer, "failed", error=AttemptError("e", "oh", retryable=True))
    (event,) = boss.notices
    error = {"code": "e", "detail": "oh", "retryable": True}
    assert event.data == {"outcome": "failed", "agent": "w1", "fence": offer.fence, "error": error}


def test_watchers_hear_of_progress_and_a_late_one_of_the_newest(town, boss, worker):
    task = boss.delegate()
    boss.say(TaskWatch(task, from_gen=2))
    offer = worker.offer()
    worker.beat(offer, progress_no=1, progress_bp=10, note="a")
    (event,) = boss.notices
    assert (event.event, event.generation, event.data) == (
        "progress",
        2,
        {"note": "a", "progressBp": 10, "agent": "w1"},
    )
    late = town.join("late")
    late.say(TaskWatch(task, from_gen=2))
    assert late.notices == [event]


def test_beats_without_news_tell_watchers_nothing(town, boss, worker):
    task = boss.delegate()
    boss.say(TaskWatch(task, from_gen=2))
    offer = worker.offer()
    worker.beat(offer)
    assert [event.data for event in boss.notices] == [{"note": "", "agent": "w1"}], "it is alive"
    worker.beat(offer)
    worker.beat(offer, progress_no=1, note="a")
    worker.beat(offer, progress_no=1)
    worker.beat(offer, progress_no=1, note="a")
    assert [event.data["note"] for event in boss.notices] == ["", "a"]


def test_nobody_else_makes_progress(town, boss, worker):
    task = boss.delegate()
    offer = worker.offer()
    worker.beat(offer, progress_no=1)
    boss.say(TaskWatch(task, from_gen=2))
    count = len(boss.notices)
    town.join("stranger").say(TaskHeartbeat(task, offer.fence, 9, note="ha"))
    assert len(boss.notices) == count


def test_a_watch_that_stopped_is_silent(town, boss, worker):
    task = boss.delegate()
    boss.say(TaskWatch(task))
    count = len(boss.notices)
    assert boss.say(TaskWatch(task, stop=True)) == Ok(state="leased")
    worker.report(worker.offer())
    assert len(boss.notices) == count
    assert town.coordinator.live.watchers == {}


def test_one_watcher_that_stops_leaves_the_others(town, boss, worker):
    task = boss.delegate()
    other = town.join("other")
    for peer in (boss, other):
        peer.say(TaskWatch(task, from_gen=2))
    boss.say(TaskWatch(task, stop=True))
    worker.report(worker.offer())
    assert (told(boss), told(other)) == ([], [(3, "report", "reported")])


@pytest.mark.parametrize("how", ["drop", "take over"])
def test_a_watch_ends_with_its_connection(town, boss, worker, how):
    task = boss.delegate()
    boss.say(TaskWatch(task, from_gen=2))
    if how == "drop":
        boss.drop()
    else:
        town.join("boss")
    assert town.coordinator.live.watchers == {}
    count = len(boss.notices)
    worker.report(worker.offer())
    assert len(boss.notices) == count


def test_a_connection_watches_a_bounded_number_of_tasks(make_town):
    town = make_town(watches_max=1)
    boss = town.join("boss")
    first, second = boss.delegate("1"), boss.delegate("2")
    boss.say(TaskWatch(first))
    assert boss.refused(TaskWatch(second)) == ErrorCode.QUOTA
    assert boss.say(TaskWatch(first, from_gen=1)) == Ok(state="queued")
    assert boss.say(TaskWatch(second, stop=True)) == Ok(state="queued")
    boss.say(TaskWatch(first, stop=True))
    assert boss.say(TaskWatch(second)) == Ok(state="queued")


def test_a_watch_ends_with_its_task(make_town):
    town = make_town(watches_max=1)
    boss = town.join("boss")
    first, second = boss.delegate("1"), boss.delegate("2")
    boss.say(TaskWatch(first))
    boss.cancel(first)
    assert told(boss)[-1] == (2, "cancel", "canceled")
    assert town.coordinator.live.watchers == {}
    assert boss.say(TaskWatch(second)) == Ok(state="queued")
    boss.say(TaskWatch(second, stop=True))
    assert boss.say(TaskWatch(first)) == Ok(state="canceled")
    assert told(boss)[-1] == (2, "cancel", "canceled"), "what has ended is told whole and not watched on"
    assert boss.say(TaskWatch(second)) == Ok(state="queued")
