"""What a rung decides between, and who has more to say."""

from dataclasses import replace

import pytest

from a2a.engine.conflicts.case import Candidate
from a2a.engine.conflicts.slate import of_conflict, of_group, outranks
from a2a.engine.ledger import Ledger
from a2a.protocol.messages import ConflictRaise, Held, RaisedSubject, TaskDelegate


def said(agent, task=None, **fields):
    return Candidate("ref", "value", agent, "", b"", 0, 0, task, **fields)


@pytest.fixture
def tree(town):
    """A root that works for boss, and a leaf below it."""
    boss, planner, worker = town.join("boss"), town.worker("planner", "plan"), town.worker("worker")
    root = boss.delegate("root", skill="plan")
    offer = planner.offer()
    leaf = planner.say(TaskDelegate("leaf", {"skill": "echo"}, b"[]", parent=Held(root, offer.fence))).task
    assert worker.offer().task == leaf
    return root, leaf


def test_who_delegated_a_task_outranks_who_works_on_it(town, tree):
    root, leaf = tree
    ledger = town.ledger
    assert outranks(ledger, said("boss"), said("planner", root))
    assert not outranks(ledger, said("planner", root), said("boss"))
    assert outranks(ledger, said("planner", root), said("worker", leaf))
    assert outranks(ledger, said("boss"), said("worker", leaf)), "the root's delegator is above all that is below"
    assert outranks(ledger, said("boss#2"), said("worker", leaf)), "any process of it"


def test_equals_do_not(town, tree):
    _, leaf = tree
    assert not outranks(town.ledger, said("stranger"), said("worker", leaf))
    assert not outranks(town.ledger, said("boss"), said("boss#2", leaf))
    assert not outranks(town.ledger, said("boss"), said("stranger"))


def test_who_is_above_each_other_is_above_nobody(town, tree):
    _, leaf = tree
    other = town.peers[3].delegate("back", skill="plan")
    assert not outranks(town.ledger, said("planner", other), said("worker", leaf))


def test_what_was_recorded_of_a_task_counts_and_not_what_is_in_memory(town, tree):
    _, leaf = tree
    assert outranks(town.ledger, said("boss"), said("worker", "gone", delegators=["planner", "boss"]))
    assert not outranks(town.ledger, said("boss"), said("worker", leaf, delegators=["planner"]))
    assert not outranks(town.ledger, said("boss"), said("worker", "gone")), "an older version did not record it"


def test_what_is_above_a_task_is_known_without_the_tasks_above_it(town, tree):
    root, leaf = tree
    alone, older = Ledger("main"), Ledger("main")
    alone.tasks[leaf] = town.ledger.tasks[leaf]
    assert alone.delegators(leaf) == town.ledger.delegators(leaf) == ["planner", "boss"]
    older.tasks = {root: town.ledger.tasks[root], leaf: replace(town.ledger.tasks[leaf], above=())}
    assert older.delegators(leaf) == ["planner", "boss"], "an older version did not note it"


def test_a_person_outranks_all_agents(town, tree):
    root, _ = tree
    assert outranks(town.ledger, said("worker", root, is_operator=True), said("boss"))
    assert not outranks(town.ledger, said("boss"), said("planner", root, is_operator=True))


def test_a_group_and_a_conflict_of_its_own_have_the_same_form(town):
    boss = town.join("boss")
    workers = [town.worker(f"w{number}", tasks=3) for number in range(2)]
    ladder = [{"strategy": "human"}, {"strategy": "abort"}]
    group = boss.delegate("q", spec={"redundancy": {"n": 2, "policy": ladder}})
    for worker in workers:
        worker.report(worker.offer(), payload=b'[{"parts":[{"text":"%s"}]}]' % worker.name.encode())
    (first,) = town.ledger.conflicts.values()
    task = town.task(group)
    answers = of_group(town.ledger, task, task.group, first)
    subjects = [RaisedSubject(task=member) for member in task.group.electorate]
    raised = boss.say(ConflictRaise("result", subjects))
    own = of_conflict(town.ledger, town.ledger.conflicts[raised.conflict])
    assert sorted(own.classes) == sorted(answers.classes)
    assert sorted(own.payloads) == sorted(answers.payloads)
    assert (own.electorate, own.authors) == (answers.electorate, answers.authors)
    assert answers.involved == {"boss", "w0", "w1"} == own.involved
