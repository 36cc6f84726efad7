"""Pages of tasks as A2A lists them, out of memory and the archive."""

from __future__ import annotations

import json

import pytest

from a2a.protocol.messages import A2ACall, A2AFault, TaskCancel

RESULT = b'[{"artifactId":"a1","parts":[{"text":"done"}]}]'


def page(peer, **request):
    answer = peer.say(A2ACall("ListTasks", json.dumps(request).encode()))
    if isinstance(answer, A2AFault):
        return answer
    return json.loads(answer.payload)


def ids(found):
    return [task["id"] for task in found["tasks"]]


def pages(peer, **request):
    """Return the tasks on all pages, each with its total."""
    seen, token = [], ""
    while True:
        found = page(peer, pageToken=token, **request)
        assert len(found["tasks"]) <= found["pageSize"]
        seen.append((ids(found), found["totalSize"]))
        token = found["nextPageToken"]
        if not token:
            return seen


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=8)


def test_an_empty_list_has_all_its_fields(boss):
    assert page(boss) == {"tasks": [], "nextPageToken": "", "pageSize": 50, "totalSize": 0}


def test_tasks_come_in_the_order_in_which_they_changed_last(town, boss, worker):
    tasks = []
    for number in range(5):
        town.pass_time(1)
        tasks.append(boss.delegate(f"k{number}", "none"))
    town.pass_time(1)
    boss.say(TaskCancel(tasks[1]))
    order = [tasks[1], *[task for task in tasks[::-1] if task != tasks[1]]]
    assert pages(boss, pageSize=2) == [(order[:2], 5), (order[2:4], 5), (order[4:], 5)]
    assert pages(boss, pageSize=5) == [(order, 5)]


def test_tasks_of_one_millisecond_come_newest_first(boss):
    tasks = [boss.delegate(f"k{number}", "none") for number in range(5)]
    assert [task for page, _ in pages(boss, pageSize=2) for task in page] == tasks[::-1]
    for task in tasks[::-1]:  # the order in which they came to it says nothing
        boss.say(TaskCancel(task))
    canceled = pages(boss, pageSize=2, status="TASK_STATE_CANCELED")
    assert [task for page, _ in canceled for task in page] == tasks[::-1]


def test_tasks_are_filtered(town, boss, worker):
    done = boss.delegate("done", acceptance="auto", context_id="c1")
    worker.report(worker.offer(), payload=RESULT)
    town.pass_time(10)
    held, queued = boss.delegate("held"), boss.delegate("queued", "none", context_id="c1")
    assert ids(page(boss, status="TASK_STATE_COMPLETED")) == [done]
    assert ids(page(boss, status="TASK_STATE_WORKING")) == [held]
    assert ids(page(boss, status="TASK_STATE_SUBMITTED")) == [queued]
    assert ids(page(boss, status="TASK_STATE_UNSPECIFIED", contextId="")) == [queued, held, done]
    assert ids(page(boss, contextId="c1")) == [queued, done]
    assert page(boss, contextId="c1", pageSize=1)["totalSize"] == 2
    assert ids(page(boss, statusTimestampAfter="2023-11-14T22:13:20.010Z")) == [queued, held]
    assert ids(page(boss, statusTimestampAfter="2023-11-14T22:13:20.010001Z")) == []


def test_artifacts_are_there_where_they_are_asked_for(boss, worker):
    done, bad = boss.delegate("done", acceptance="auto"), boss.delegate("bad", acceptance="auto")
    offers = worker.mail()
    worker.report(offers[0], payload=RESULT)
    worker.report(offers[1], payload=b"{}")
    open_task = boss.delegate("open", "none")
    assert all("artifacts" not in task for task in page(boss)["tasks"])
    shown = {task["id"]: task["artifacts"] for task in page(boss, includeArtifacts=True)["tasks"]}
    assert shown == {open_task: [], bad: [], done: json.loads(RESULT)}


def test_a_page_ends_where_it_would_be_too_large(make_town):
    town = make_town(call_page_max_bytes=1_500)
    boss = town.join("boss")
    tasks = [boss.delegate(f"k{number}", "none") for number in range(9)]
    seen = pages(boss)
    assert len(seen) > 2
    assert [task for page, _ in seen for task in page] == tasks[::-1]
    town = make_town(call_page_max_bytes=1)
    boss = town.join("boss")
    boss.delegate("a", "none"), boss.delegate("b", "none")
    assert [len(page) for page, _ in pages(boss)] == [1, 1], "one is on each at least"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"pageToken": "5"}, "pageToken"),
        ({"pageToken": "1.2.3"}, "pageToken"),
        ({"pageSize": 0}, "pageSize"),
        ({"pageSize": 101}, "pageSize"),
        ({"pageSize": "5"}, "pageSize"),
        ({"historyLength": -1}, "historyLength"),
        ({"status": "working"}, "status"),
        ({"statusTimestampAfter": "yesterday"}, "statusTimestampAfter"),
        ({"statusTimestampAfter": "2023-11-14T22:13:20+01:00"}, "statusTimestampAfter"),
        ({"statusTimestampAfter": "2023-11-14T22:13:20"}, "statusTimestampAfter"),
    ],
)
def test_wrong_parameters_are_named(boss, request_, field):
    answer = page(boss, **request_)
    assert (answer.code, answer.data[1]["fieldViolations"][0]["field"]) == (-32602, field)


# The archive ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def long(make_town):
    """A town where four tasks ended and left memory, between them one that is still open, and its delegator."""
    town = make_town(linger_ms=0)
    boss, worker = town.join("boss"), town.worker("w1")
    tasks = []
    for number in range(5):
        town.pass_time(1_000)
        tasks.append(boss.delegate(f"k{number}", "none" if number == 2 else "echo", acceptance="auto"))
        if number != 2:
            worker.report(worker.offer(), payload=RESULT)
            boss.acknowledge()
            worker.acknowledge()
    town.pass_time(5_000)
    assert list(town.ledger.tasks) == [tasks[2]]
    return town, boss, tasks


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_a_page_has_the_tasks_of_memory_and_of_the_archive(long, size):
    town, boss, tasks = long
    seen = pages(boss, pageSize=size)
    assert [task for page, _ in seen for task in page] == tasks[::-1]
    assert {total for _, total in seen} == {5}
    assert page(boss, includeArtifacts=True)["tasks"][0]["artifacts"] == json.loads(RESULT)
    assert list(town.ledger.tasks) == [tasks[2]]


def test_the_archive_is_asked_only_for_what_may_be_there(long):
    town, boss, tasks = long
    town.is_slow = True
    assert ids(page(boss, status="TASK_STATE_SUBMITTED")) == [tasks[2]]
    assert not town.needs
    town.is_slow = False
    assert ids(page(boss, status="TASK_STATE_COMPLETED", pageSize=2)) == [tasks[4], tasks[3]]


def test_a_task_that_came_back_from_the_archive_is_listed_once(long):
    town, boss, tasks = long
    town.join("boss#2").delegate("k1", acceptance="auto")
    assert tasks[1] in town.ledger.recalled
    assert [(page, total) for page, total in pages(boss, pageSize=2)] == [
        ([tasks[4], tasks[3]], 5),
        ([tasks[2], tasks[1]], 5),
        ([tasks[0]], 5),
    ]


def test_a_task_that_leaves_memory_meanwhile_is_listed(long):
    town, boss, tasks = long
    other = town.join("other")
    boss.say(TaskCancel(tasks[2]))
    boss.acknowledge()
    town.is_slow = True
    asked = {"pageSize": 1}
    assert other.say(A2ACall("ListTasks", json.dumps(asked).encode())) is None
    (need,) = town.needs
    rows = town.ended(need.ended)
    town.pass_time(5_000)
    assert not town.ledger.tasks
    town.needs.clear()
    town.coordinator.found(need, *rows[:1], town.now, rows[1])
    town.flush()
    answer = list(other.replies.values())[-1]
    assert ids(json.loads(answer.payload)) == [tasks[2]]
