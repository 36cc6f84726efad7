"""Tasks in memory, found by their state and by their context, whatever becomes of them."""

from __future__ import annotations

import pytest

from a2a.engine import reading
from a2a.engine.task_index import TaskIndex
from a2a.protocol.messages import Held, TaskCancel, TaskList
from a2a.protocol.states import outside


def shown(ledger):
    """Return the ids by state, newest first, as the tasks themselves say."""
    found = {}
    for task in sorted(ledger.tasks.values(), key=lambda task: (-task.since, -task.lsn)):
        if task.id not in ledger.recalled:
            found.setdefault(outside(task.state, was_leased=task.was_leased), []).append(task.id)
    return found


def told(index):
    """Return the same as the index says."""
    found = {}
    for task in index.newest(None):
        found.setdefault(outside(task.state, was_leased=task.was_leased), []).append(task.id)
    assert {state: [task.id for task in index.newest(state)] for state in found} == found
    return found


@pytest.fixture
def busy(make_town):
    """A town with tasks in several states, each changed at a time of its own."""
    town = make_town(linger_ms=60_000)
    boss, worker = town.join("boss"), town.worker("w1", tasks=8)
    tasks = []
    for number, skill in enumerate(["echo", "none", "echo", "none", "echo"]):
        town.pass_time(1)
        tasks.append(boss.delegate(f"k{number}", skill, acceptance="auto"))
    first, second, _ = worker.mail()
    town.pass_time(1)
    worker.report(first)
    town.pass_time(1)
    boss.say(TaskCancel(tasks[1]))
    return town, boss, worker, tasks, second


def test_it_agrees_with_the_tasks(busy):
    town, _, _, tasks, _ = busy
    found = told(town.ledger.index)
    assert found == shown(town.ledger)
    assert {state: len(ids) for state, ids in found.items()} == {
        "TASK_STATE_COMPLETED": 1,
        "TASK_STATE_CANCELED": 1,
        "TASK_STATE_WORKING": 2,
        "TASK_STATE_SUBMITTED": 1,
    }
    index = town.ledger.index
    assert (index.count(None), index.count("TASK_STATE_WORKING"), index.count("none")) == (5, 2, 0)


def test_made_of_the_tasks_it_is_the_same(busy):
    town, *_ = busy
    again = TaskIndex(town.ledger.tasks.values())
    assert again == town.ledger.index
    assert told(again) == shown(town.ledger)
    again.remove(next(iter(town.ledger.tasks.values())))
    assert again != town.ledger.index


def test_what_leaves_memory_leaves_it_and_what_is_back_is_left_to_the_archive(busy):
    town, boss, worker, tasks, _ = busy
    boss.acknowledge(), worker.acknowledge()
    town.pass_time(120_000)
    assert tasks[0] not in town.ledger.tasks
    assert told(town.ledger.index) == shown(town.ledger)
    town.join("boss#2").delegate("k0", acceptance="auto")
    assert tasks[0] in town.ledger.recalled
    assert told(town.ledger.index) == shown(town.ledger)
    assert town.ledger.index.count(None) == len(town.ledger.tasks) - 1


def test_it_finds_the_tasks_of_a_context(busy):
    town, boss, worker, tasks, _ = busy
    index = town.ledger.index
    own = town.ledger.tasks[tasks[0]].context_id
    assert [task.id for task in index.of_context(own)] == [tasks[0]]
    beside = boss.delegate("beside", "none", context_id=own)
    shared = [boss.delegate(f"s{number}", "none", context_id="c") for number in range(2)]
    assert sorted(task.id for task in index.of_context(own)) == sorted([tasks[0], beside])
    assert sorted(task.id for task in index.of_context("c")) == shared
    assert index.of_context(f"main-c{town.ledger.tasks[beside].lsn}") == [], "it was put elsewhere"
    assert index.of_context("none") == index.of_context(own[:-1] + "x") == index.of_context("") == []
    for task in (*shared, beside):
        boss.say(TaskCancel(task))
    boss.acknowledge(), worker.acknowledge()
    town.pass_time(120_000)
    assert index.of_context("c") == index.of_context(own) == []
    assert index == TaskIndex(town.ledger.tasks.values())


def test_a_task_that_names_the_context_that_another_would_have_alone_is_found_there(busy):
    town, boss, *_ = busy
    lsn = town.ledger.lsn
    other = boss.delegate("other", "none", context_id=f"main-c{lsn + 2}")
    it = boss.delegate("it", "none")
    assert town.ledger.tasks[it].context_id == f"main-c{lsn + 2}"
    assert sorted(task.id for task in town.ledger.index.of_context(f"main-c{lsn + 2}")) == sorted([other, it])


@pytest.mark.parametrize("many", [1, 8, 10**9])
@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"state": "queued"},
        {"state": "leased"},
        {"state": "TASK_STATE_WORKING"},
        {"state": "TASK_STATE_SUBMITTED"},
        {"state": "TASK_STATE_COMPLETED"},
        {"state": "none"},
        {"skill": "echo"},
        {"skill": "none", "context_id": "c"},
        {"parent": "main-9"},
        {"dead_letter": True},
    ],
)
def test_a_list_is_the_same_whether_it_goes_through_all_tasks_or_by_the_index(busy, monkeypatch, many, wanted):
    town, boss, worker, _, offer = busy
    town.pass_time(1)
    wanted = {name: offer.task if name == "parent" else value for name, value in wanted.items()}
    for number in range(3):
        parent = Held(offer.task, offer.fence)
        worker.delegate(f"c{number}", "none", parent=parent, context_id="c" if number else None)
    monkeypatch.setattr(reading, "_MANY", many)
    found = [task["id"] for task in boss.say(TaskList(**wanted)).tasks]
    message = TaskList(**wanted)
    assert found == [task.id for task in reversed(town.ledger.tasks.values()) if reading._listed(task, message)]
    assert found or wanted in ({"state": "none"}, {"dead_letter": True})
