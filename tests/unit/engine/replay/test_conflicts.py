"""A record of a conflict that is missing, or says something else, is found."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest

from a2a.engine.conflicts import asking, merging, patches, procedure
from a2a.engine.conflicts.case import Conflict
from a2a.engine.ledger import Ledger
from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import (
    Classified,
    ConflictOpened,
    ConflictResolved,
    ConflictsArchived,
    ContextWritten,
    Delegated,
    GroupDecided,
    Merged,
    PatchesCompared,
    Settled,
    StageClosed,
    StageOpened,
)
from a2a.engine.replay.run import Replay
from a2a.engine.task_index import own_context
from a2a.protocol.messages import ConflictRaise, ContextOp, ContextWrite, Held, PatchRef, RaisedSubject
from tests.unit.engine.conflicts.court import Court, answer, ladder


def test_a_ledger_with_conflicts_is_decided_again(disputes):
    again = Replay("main")
    assert again.run(disputes) is None
    assert (again.ledger.lsn, again.stops) == (len(disputes), 1)
    resolved = [record for record in disputes if isinstance(record, ConflictResolved)]
    assert {record.by for record in resolved} == {"abort", "ann", "merge", "retry", "weighted"}
    left = [name for record in disputes if isinstance(record, ConflictsArchived) for name in record.conflicts]
    assert left and {(Conflict, name) for name in left} <= set(again.shelf)


@pytest.mark.parametrize(
    "kind",
    [
        *(Classified, PatchesCompared, ConflictOpened, StageOpened, Merged, StageClosed, ConflictResolved),
        *(GroupDecided, Settled),
    ],
)
def test_a_record_of_a_conflict_that_is_missing_is_found(disputes, kind):
    position = next(number for number, record in enumerate(disputes) if type(record) is kind)
    difference = Replay("main").run([*disputes[:position], *disputes[position + 1 :]])
    assert difference is not None
    assert difference.lsn <= position + 10


def test_a_conflict_decided_for_another_than_won_is_found(disputes):
    position = next(
        number
        for number, record in enumerate(disputes)
        if isinstance(record, ConflictResolved) and record.outcome == "select"
    )
    resolved = disputes[position]
    group = next(record for record in disputes if isinstance(record, Delegated) and record.task == resolved.task)
    members = [record.task for record in disputes if isinstance(record, Delegated) and record.parent == group.task]
    other = next(member for member in members if member != resolved.ref)
    difference = Replay("main").run([*disputes[:position], replace(resolved, ref=other), *disputes[position + 1 :]])
    assert difference is not None
    assert (difference.lsn, difference.stands) == (position + 1, replace(resolved, ref=other))


def test_a_ledger_that_does_not_say_who_delegated_is_decided_again(make_town):
    town = make_town(ladders={"context": ({"strategy": "authority"}, {"strategy": "abort"})})
    boss, worker = town.join("boss"), town.worker("w")
    task = boss.delegate(context_id="c")
    attempt = Held(task, worker.offer().fence)
    worker.say(ContextWrite("c", "1", [ContextOp("decisions/a", 0, b"1")], attempt=attempt))
    boss.say(ContextWrite("c", "2", [ContextOp("decisions/a", 0, b"2")]))
    records = town.said()
    older = list(records)
    for position, record in enumerate(records):
        if isinstance(record, ContextWritten):
            older[position] = replace(record, delegators=None)
            touched = replace(record, delegators=["mallory"])
        elif isinstance(record, ConflictOpened):
            without = [{name: one[name] for name in one if name != "delegators"} for one in record.candidates]
            older[position] = replace(record, candidates=without)
            touched = replace(record, candidates=[one | {"delegators": ["mallory"]} for one in record.candidates])
        else:
            continue
        difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
        assert difference is not None and difference.lsn == position + 1
    assert [type(record) for record in records].count(ContextWritten) == 2
    assert Replay("main").run(older) is None


def test_diffs_that_were_read_loosely_are_read_again(make_town, monkeypatch):
    head = "--- a/f\n+++ b/f\n"
    texts = (
        f"{head}@@ -2,2 +2,2 @@\n-b\n+z\n c\n".replace("\n", "\r\n"),
        f"{head}@@ -1,4 +1,4 @@\n a\n-b\n+x\n c\n d\n+behind\n",
        f"{head}@@ -4,3 +4,3 @@\n d\n-e\n+y\n f\n",
    )
    town = make_town(ladders={"artifact": ({"strategy": "merge"}, {"strategy": "abort"})})
    boss, worker = town.join("boss"), town.worker("w")
    with monkeypatch.context() as patched:
        patched.setattr(merging, "run", partial(merging.run, loosely=True))
        patched.setattr(patches, "run", partial(patches.run, loosely=True))
        for number, text in enumerate(texts):
            boss.delegate(f"k{number}", context_id="c")
            part = {"text": text, "mediaType": patches.DIFF}
            result = [{"artifactId": "r", "metadata": {"patch": {"of": "repo", "base": "r1"}}, "parts": [part]}]
            worker.report(worker.offer(), payload=json.dumps(result).encode(), patches=[PatchRef("repo", "r1")])
    records = town.said()
    assert [record.number for record in records if isinstance(record, PatchesCompared)] == [0, 0, 1]
    (merged,) = [record for record in records if isinstance(record, Merged)]
    assert merged.payload is not None and b"behind" not in merged.payload
    assert Replay("main").run(records) is None
    position = records.index(merged)
    records[position] = replace(merged, payload=merged.payload.replace(b"+x", b"+w"))
    assert Replay("main").run(records) is not None


def test_objects_that_were_merged_in_place_of_something_else_are_merged_again(make_town, monkeypatch):
    town = make_town(ladders={"context": ({"strategy": "merge"}, {"strategy": "abort"})})
    boss, other = town.join("boss"), town.join("other")
    with monkeypatch.context() as patched:
        patched.setattr(merging, "run", partial(merging.run, loosely=True))
        for by, rev, value in ((boss, 0, b"1"), (boss, 1, b'{"a":1}'), (other, 1, b'{"b":2}')):
            by.say(ContextWrite("plans", f"{by.name}-{rev}", [ContextOp("decisions/db", rev, value)]))
    records = town.said()
    (merged,) = [record for record in records if isinstance(record, Merged)]
    assert merged.payload == b'{"a":1,"b":2}'
    assert Replay("main").run(records) is None
    records[records.index(merged)] = replace(merged, payload=b'{"a":1,"b":3}')
    assert Replay("main").run(records) is not None


@pytest.mark.parametrize(("why", "is_known"), [("no answer contradicts it", True), ("so there", False)])
def test_a_group_that_was_decided_when_all_had_ended_is_decided_again(disputes, why, is_known):
    position = next(number for number, record in enumerate(disputes) if isinstance(record, GroupDecided))
    waited = [*disputes[:position], replace(disputes[position], why=why), *disputes[position + 1 :]]
    assert disputes[position].why != why
    assert (Replay("main").run(waited) is None) is is_known


def test_a_judge_asked_in_a_context_that_somebody_had_written_to_is_asked_again(make_town, monkeypatch):
    town = make_town(ladders={"instruction": ({"strategy": "judge", "skill": "judge"}, {"strategy": "abort"})})
    boss = town.join("boss")
    task = boss.delegate(context_id="plans")
    taken = f"main-c{town.ledger.lsn + 3}"
    boss.say(ContextWrite(taken, "k", [ContextOp("k", value=b"1")]))
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "own_context_at", lambda ledger, lsn: own_context(ledger.namespace, lsn))
        subjects = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
        boss.say(ConflictRaise("instruction", subjects, f"task:{task}"))
    records = town.said()
    position = next(number for number, record in enumerate(records) if getattr(record, "context_id", "") == taken) + 2
    asked = records[position]
    assert isinstance(asked, Delegated) and asked.context_id == taken
    assert Replay("main").run(records) is None
    records[position] = replace(asked, context_id="plans")
    assert Replay("main").run(records) is not None


def test_one_more_answer_from_who_had_judged_is_asked_for_again(make_town, monkeypatch):
    case = Court(make_town(), 2, redundancy=ladder({"strategy": "judge", "skill": "judge"}, "retry", "abort"))
    judge = case.town.worker("x", "judge", "echo")
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "worked_on", _on_members_only(Ledger.worked_on))
        case.answers("1", "2")
        for _ in range(3):
            judge.report(judge.offer(), payload=answer("1"))
    records = case.town.said()
    assert case.conflict.by == "retry"
    assert Replay("main").run(records) is None
    position = next(at for at, record in enumerate(records) if isinstance(record, Delegated) and record.key == "1.0")
    records[position] = replace(records[position], spec=records[position].spec | {"requires": {"exclude": ["y"]}})
    assert Replay("main").run(records) is not None


def _on_members_only(worked_on):
    """Return what earlier versions knew: who has worked on a member, and not who was asked at a rung."""
    return lambda ledger, tasks: worked_on(ledger, (task for task in tasks if ledger.tasks[task].scope[:2] == "gr"))


def test_what_followed_from_silence_at_once_is_decided_again(make_town, monkeypatch):
    silence = {"strategy": "human", "timeoutMs": 1_000, "onTimeout": "first_wins"}
    case = Court(make_town(appeal_ms=500), 2, redundancy=ladder(silence, "abort"))
    case.answers("1", "2")
    with monkeypatch.context() as patched:
        patched.setattr(procedure, "_appeal_until", lambda terms, conflict: 0)
        case.town.pass_time(1_000)
    records = case.town.said()
    position = next(number for number, record in enumerate(records) if isinstance(record, ConflictResolved))
    assert Replay("main").run(records) is None
    records[position] = replace(records[position], by="ann")
    assert Replay("main").run(records) is not None


@pytest.mark.parametrize(
    "redundancy",
    [
        ladder({"strategy": "judge", "skill": "judge"}, "abort"),
        ladder({"strategy": "verify", "skill": "judge"}, "abort"),
        ladder("abort") | {"comparator": "agent:judge"},
    ],
)
@pytest.mark.parametrize("payload", [b'a["text"]', b'[]],"candidates":[1,2],"input":[', b"["])
def test_a_question_in_which_what_is_no_json_stood_as_it_came_is_asked_again(
    make_town, monkeypatch, redundancy, payload
):
    town = make_town(admission=Admission(operator_token=digest("op")))
    with monkeypatch.context() as patched:
        patched.setattr(asking, "_as_json", lambda payload: payload)
        case = Court(town, 2, redundancy=redundancy)
        town.worker("solomon", "judge", tasks=2)
        case.answers("1")
        case.workers[1].report(case.offers[1], payload=payload)
    records = town.said()
    assert Replay("main").run(records) is None
    position = max(
        number
        for number, record in enumerate(records)
        if getattr(record, "payload", None) and payload in record.payload
    )
    touched = replace(records[position], payload=records[position].payload + b" ")
    assert Replay("main").run([*records[:position], touched, *records[position + 1 :]]) is not None


def test_a_conflict_raised_about_a_task_in_the_archive_is_raised_again_and_about_one_that_never_was_it_is_found(
    make_town,
):
    town = make_town(linger_ms=0, ladders=LADDERS)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate("k", acceptance="auto")
    worker.report(worker.offer())
    town.pass_time(1_000)
    assert town.ledger.tasks == {}
    said = [RaisedSubject(value=b"1"), RaisedSubject(value=b"2")]
    raised = boss.say(ConflictRaise("result", said, f"task:{task}", claim="which is it?"))
    assert raised.is_open
    records = [record for _, record in town.records]
    assert Replay("main").run(records) is None
    position = next(number for number, record in enumerate(records) if isinstance(record, ConflictOpened))
    never = replace(records[position], object="task:main-2")
    difference = Replay("main").run([*records[:position], never, *records[position + 1 :]])
    assert (difference.lsn, difference.expected) == (position + 1, "a task that there is, main-2 is none")
