"""What leaves memory says what it is found by, and can be read again."""

from __future__ import annotations

from a2a.engine import plain
from a2a.engine.conflicts.case import Conflict
from a2a.engine.context_state import Context
from a2a.engine.task_state import Task
from a2a.protocol.messages import ConflictRaise, ContextOp, ContextWrite, RaisedSubject


def test_a_task_a_conflict_and_a_context_are_found_by_what_they_were(make_town):
    town = make_town(linger_ms=0, linger_contexts_ms=0, conflict_rest_ms=0)
    boss, worker = town.join("boss"), town.worker("w1")
    task = boss.delegate("q", context_id="plans", acceptance="auto")
    worker.report(worker.offer())
    boss.say(ContextWrite("plans", "first", [ContextOp("a", 0, b"1")]))
    subjects = [RaisedSubject(task=task), RaisedSubject(context_id="plans", key="a", rev=1)]
    conflict = boss.say(ConflictRaise("result", subjects, claim="one of them is wrong")).conflict
    lsns = (town.task(task).lsn, town.ledger.conflicts[conflict].opened_lsn, town.ledger.contexts["plans"].lsn)
    town.pass_time(10**9)
    for peer in (boss, worker):
        peer.mail()
        peer.acknowledge()
    town.pass_time(10**9)

    (kept, body), shelved, context = town.archive[task], town.shelved[conflict], town.contexts["plans"]
    assert (kept.scope, kept.key, kept.state) == ("principal:boss", "q", "completed")
    assert (kept.skill, kept.context_id, kept.parent) == ("echo", "plans", None)
    assert (shelved.conflict, shelved.kind, shelved.tasks) == (conflict, "result", (task,))
    assert (kept.lsn, shelved.lsn, context.lsn) == lsns
    assert plain.from_bytes(Task, body, kept.beside).id == task
    assert plain.from_bytes(Conflict, shelved.body, shelved.beside).id == conflict
    assert plain.from_bytes(Context, context.body, context.beside).entries["a"].revisions[-1].payload == b"1"
