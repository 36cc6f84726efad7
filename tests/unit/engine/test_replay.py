"""Decisions run again: what was decided is decided anew, and a record that was touched is found."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from a2a.engine.conflicts.case import Conflict
from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import (
    RECORDS,
    Archived,
    Classified,
    ConflictAppealed,
    ConflictOpened,
    ConflictResolved,
    ConflictsArchived,
    ContextWritten,
    Delegated,
    GroupDecided,
    LeaseExpired,
    Merged,
    Offered,
    PatchesCompared,
    Recalled,
    Record,
    Reported,
    Settled,
    StageClosed,
    StageOpened,
)
from a2a.engine.replay import RULES, Replay
from a2a.protocol.messages import (
    AgentUpdate,
    AttemptError,
    ConflictAppeal,
    ConflictPosition,
    ConflictVote,
    ContextOp,
    ContextWrite,
    Held,
    PatchRef,
    Seen,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskDecline,
    TaskDelegate,
    TaskYield,
)

SPEC = {"skill": "echo"}


@pytest.fixture
def town(make_town):
    return make_town(linger_ms=0)


@pytest.fixture
def records(town):
    """A namespace in which nearly everything has happened, ended in good order."""
    boss, worker, other = town.join("boss"), town.worker("w1", tasks=4), town.worker("w2", "plan", tasks=1)
    guest = town.join("boss#guest")

    boss.delegate("reviewed")
    offer = worker.offer()
    worker.say(TaskArtifact(offer.task, offer.fence, "log", 0, b"[1]"))
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    boss.say(TaskAnswer(offer.task, 1, b"[2]"))
    worker.report(offer)
    boss.confirm(boss.mail()[-1], verdict="reject", rework=True, reason_code="again")
    worker.report(worker.offer(), payload=b'["better"]')
    boss.confirm(boss.mail()[-1])
    guest.say(TaskDelegate("reviewed", {"skill": "echo", "acceptance": {"evaluator": "delegator"}}))

    parent = boss.delegate("parent")
    above = worker.offer()
    worker.say(TaskDelegate("child", SPEC, b"[7]", parent=Held(parent, above.fence)))
    worker.beat(worker.offer())
    boss.cancel(parent)
    town.pass_time(8_000)

    write = ContextOp("plan", value=b'{"steps":[1]}', guarded=True, if_rev=0)
    boss.say(ContextWrite("plans", "first", [write, ContextOp("note", value=b"1")], reason="begin"))
    boss.delegate("decided", context_id="plans")
    deciding = worker.offer()
    add = b'[{"op":"add","path":"/steps/-","value":2}]'
    attempt = Held(deciding.task, deciding.fence)
    ops = [ContextOp("plan", 1, patch=add), ContextOp("note", delete=True), ContextOp("decisions/x", 0, b"1")]
    worker.say(ContextWrite("plans", "second", ops, [Seen("note", 1)], attempt))
    boss.say(ContextWrite("plans", "third", [ContextOp("decisions/x", 1, b"2")]))
    worker.report(deciding, basis=[Seen("decisions/x", 1), Seen("plan", 2)])
    boss.confirm(next(mail for mail in boss.mail() if mail.kind == "task.review"))

    boss.delegate("declined", skill="plan")
    busy = other.offer()
    other.say(TaskDecline(busy.task, busy.fence, "busy", 1))
    town.pass_time(10)
    given = other.offer()
    other.say(TaskYield(given.task, given.fence, "tired"))
    failing = other.offer()
    other.report(failing, "failed", error=AttemptError("oops", "it broke", True))
    town.pass_time(1_500)
    town.pass_time(600)
    boss.cancel(busy.task, "skip")
    boss.say(AgentUpdate())
    other.say(AgentUpdate(status="draining"))
    for peer in (boss, worker, other, guest):
        peer.mail()
        if peer.mailbox:
            peer.acknowledge()
    town.pass_time(4_000)
    left = worker.reporting(offer, payload=b'["late"]')
    worker.say(left)
    guest.drop()
    town.coordinator.stop(town.now)
    town.flush()
    found = [record for _, record in town.records]
    assert {Archived, Recalled} <= {type(record) for record in found}
    return found


PATCH = (
    b'[{"metadata":{"patch":{"of":"repo","base":"r1"}},'
    b'"parts":[{"mediaType":"application/json-patch+json","data":%s}]}]'
)


def result(text: str) -> bytes:
    return b'[{"artifactId":"result","parts":[{"data":%s}]}]' % text.encode()


@pytest.fixture
def disputes(make_town):
    """A namespace in which answers agree, contradict each other, and are decided in every way there is."""
    policy = {"admission": Admission(operator_token=digest("op")), "judge_ms": 3_000, "appeal_ms": 500}
    policy["ladders"] = {kind: LADDERS[kind] for kind in ("context", "artifact")}
    town = make_town(linger_ms=0, ballot_ms=1_000, **policy)
    boss, ann = town.join("boss"), town.join("ann", operator_token="op")
    workers = {name: town.worker(name) for name in ("w1", "w2", "w3")}
    judge, merger = town.worker("solomon", "judge"), town.worker("merger", "merge")

    def group(*answers: str, n: int = 3, rungs: tuple[dict[str, object], ...] = (), **redundancy: object) -> str:
        spec = {"redundancy": {"n": n, **({"policy": list(rungs)} if rungs else {}), **redundancy}}
        made = boss.delegate(f"q{town.ledger.lsn}", acceptance="auto", spec=spec)
        for member, text in zip(town.task(made).group.electorate, answers, strict=False):
            worker = workers[town.task(member).holder]
            worker.report(worker.offer(), payload=result(text))
        return made

    def dispute(made: str) -> str:
        return town.task(made).conflicts[0]

    abort, human = {"strategy": "abort"}, {"strategy": "human"}
    judged = {"strategy": "judge", "skill": "judge"}
    group("1", "1.0", comparator="json-c14n")
    town.pass_time(3_000)
    undecided = group("1", "2", "3", rungs=({"strategy": "majority"}, judged, human, abort))
    workers["w1"].say(ConflictPosition(dispute(undecided), b"[1]", "I checked"))
    for _ in range(2):
        judge.report(judge.offer(), payload=result('{"choice":0}'))
    ann.say(ConflictVote(dispute(undecided), town.task(undecided).group.electorate[1], "by hand"))
    appealed = group("1", "2", "2", rungs=({"strategy": "majority"}, judged, abort))
    boss.say(ConflictAppeal(dispute(appealed), "new_evidence", b"[2]"))
    town.pass_time(3_000)
    group("1", "2", n=2, rungs=({"strategy": "merge", "skill": "merge"}, abort))
    merger.report(merger.offer(), payload=result("12"))
    town.pass_time(500)
    hasty = group("1", "2", n=2, rungs=({"strategy": "first_wins"},))
    ann.say(ConflictVote(dispute(hasty), None, "neither"))
    group("1", "2", n=2, rungs=({"strategy": "weighted"}, abort))
    town.pass_time(500)
    again = group("1", "2", n=2, rungs=({"strategy": "majority"}, {"strategy": "retry"}, abort))
    third = next(
        worker for worker in workers.values() if worker.name not in town.ledger.conflicts[dispute(again)].parties
    )
    third.report(third.offer(), payload=result("2"))
    town.pass_time(500)
    group("[1", "{", "7", comparator="numeric(1)", rungs=(abort,))
    for by, name, value, rev in ((boss, "one", b'{"a":1}', 0), (workers["w1"], "other", b'{"b":2}', 0)):
        by.say(ContextWrite("plans", name, [ContextOp("decisions/db", rev, value)]))
    town.pass_time(500)
    for path in ("/a", "/b", "/a/c"):
        made = boss.delegate(f"p{town.ledger.lsn}", context_id="plans")
        worker = workers[town.task(made).holder]
        change = f'[{{"op":"remove","path":"{path}"}}]'
        worker.report(worker.offer(), payload=PATCH % change.encode(), patches=[PatchRef("repo", "r1")])
    town.pass_time(500)
    boss.cancel(group("1", "2", rungs=(human, abort)))
    town.pass_time(5_000)
    for peer in town.peers.values():
        if peer.mail():
            peer.acknowledge()
    town.pass_time(4_000)
    town.coordinator.stop(town.now)
    town.flush()
    found = [record for _, record in town.records]
    told = {Archived, ConflictAppealed, ConflictsArchived, Classified, Merged, PatchesCompared}
    assert told <= {type(record) for record in found}
    return found


def test_a_ledger_with_conflicts_is_decided_again(disputes):
    again = Replay("main")
    assert again.run(disputes) is None
    assert (again.ledger.lsn, again.stops) == (len(disputes), 1)
    resolved = [record for record in disputes if isinstance(record, ConflictResolved)]
    assert {record.by for record in resolved} == {"abort", "ann", "merge", "retry", "weighted"}
    left = [name for record in disputes if isinstance(record, ConflictsArchived) for name in record.conflicts]
    assert left and {(Conflict, name) for name in left} <= set(again.shelf)


def test_every_record_has_a_rule():
    assert set(RULES) == set(RECORDS.values())


def test_a_ledger_as_it_was_written_is_decided_again(records):
    again = Replay("main")
    assert again.run(records) is None
    assert again.ledger.lsn == len(records)
    assert again.stops == 1
    assert len(records) // 2 < again.decisions <= len(records)


def touched(record: Record) -> list[Record]:
    """Return the record with each of its fields changed a little."""
    found = []
    for item in fields(record):
        value = getattr(record, item.name)
        if isinstance(value, bool):
            found.append(replace(record, **{item.name: not value}))
        elif isinstance(value, int) and item.name != "at":
            found.append(replace(record, **{item.name: value + 1}))
        elif isinstance(value, bytes):
            found.append(replace(record, **{item.name: value + b" "}))
        elif isinstance(value, str) and value:
            found.append(replace(record, **{item.name: value + "x"}))
    return found


def _differs(one: Record, other: Record, name: str) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


NOTES = {("StatusSet", "by")}
"""What is written down for people and is no part of the state."""
FREE = {
    "Delegated": {"context_id", "key", "on_parent_end", "deadline_at", "delegator"},
    "PrincipalBound": {"principal", "secret_digest"},
    "AgentRegistered": {"agent", "instance", "incarnation"},
    "StatusSet": {"by", "status"},
    "Adopted": {"delegator"},
    "Yielded": {"reason"},
    "Declined": {"reason", "retry_at"},
    "ArtifactAppended": {"artifact", "name", "payload", "last", "chunk_no"},
    "Asked": {"payload", "deadline_at", "auth", "ask_no"},
    "Answered": {"payload", "by", "rank"},
    "Reworked": {"payload", "reason_code", "by"},
    "CancelRequested": {"reason", "grace_at", "mode", "by"},
    "Settled": {"detail", "by"},
    "Reported": {"retry_at"},
    "PositionTaken": {"stance", "payload"},
    "Merged": {"why"},
    "StageClosed": {"why", "by"},
    "ConflictAppealed": {"ground", "payload"},
    "ContextWritten": {"context_id", "key", "by"},
}
"""Fields that hold what somebody said: another word would have been as good, and only a hash can tell."""


@pytest.mark.parametrize("world", ["records", "disputes"])
def test_a_record_that_was_touched_is_found_by_the_decision_or_by_the_hash(world, request):
    records = request.getfixturevalue(world)
    unseen: set[tuple[str, str]] = set()
    whole = Replay("main")
    whole.run(records)
    kinds: dict[str, int] = {}
    for position, record in enumerate(records):
        name = type(record).__name__
        if kinds.get(name, 0) >= 2:
            continue
        kinds[name] = kinds.get(name, 0) + 1
        for changed in touched(record):
            again = Replay("main")
            difference = again.run([*records[:position], changed, *records[position + 1 :]])
            if difference is None and again.shelf == whole.shelf:
                unseen |= {(name, item.name) for item in fields(record) if _differs(record, changed, item.name)}
            is_free = any(_differs(record, changed, item) for item in FREE.get(name, ()))
            if difference is not None and not is_free:
                assert difference.lsn == position + 1, f"{record} became {changed}: {difference}"
    assert unseen - NOTES == set()


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


def test_a_conflict_that_left_before_its_task_is_found(disputes):
    left = next(record for record in disputes if isinstance(record, ConflictsArchived))
    tasks_leave = next(number for number, record in enumerate(disputes) if isinstance(record, Archived))
    assert tasks_leave < disputes.index(left)
    difference = Replay("main").run([*disputes[:tasks_leave], left])
    assert difference is not None
    assert (difference.stands, difference.expected) == (left, f"{left.conflicts[0]} is needed in memory")


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


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (0, {"value": b"2"}),
        (0, {"if_rev": None}),
        (0, {"if_rev": 1}),
        (0, {"rev": 2}),
        (0, {"guarded": False}),
        (0, {"decision": True}),
        (0, {"key": "other"}),
        (1, {"value": b'{"steps":[1,3]}'}),
        (1, {"patch": b'[{"op":"add","path":"/steps/-","value":3}]'}),
        (1, {"patch": None}),
    ],
)
def test_a_write_that_was_touched_is_found(records, number, change):
    position = [at for at, record in enumerate(records) if isinstance(record, ContextWritten)][number]
    first, *others = records[position].changes
    touched = replace(records[position], changes=[first | change, *others])
    difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn == position + 1


@pytest.mark.parametrize("depends", [[], [{"key": "note", "rev": 0}], [{"key": "plan", "rev": 1}]])
def test_a_write_that_was_made_in_view_of_something_else_is_found(records, depends):
    position = [at for at, record in enumerate(records) if isinstance(record, ContextWritten)][1]
    touched = replace(records[position], depends=depends)
    difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn == position + 1


@pytest.mark.parametrize("field", ["basis", "stale_basis"])
def test_a_basis_that_was_touched_is_found(records, field):
    position = next(at for at, record in enumerate(records) if isinstance(record, Reported) and record.basis)
    touched = replace(records[position], **{field: getattr(records[position], field)[1:] or None})
    difference = Replay("main").run([*records[:position], touched, *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn == position + 1


@pytest.mark.parametrize("kind", [Offered, LeaseExpired, Settled, Delegated, Reported])
def test_a_record_that_is_missing_is_found(records, kind):
    position = next(number for number, record in enumerate(records) if type(record) is kind)
    difference = Replay("main").run([*records[:position], *records[position + 1 :]])
    assert difference is not None
    assert difference.lsn <= position + 10


def test_what_was_expected_is_told(records):
    position = next(number for number, record in enumerate(records) if isinstance(record, Settled))
    changed = replace(records[position], state="failed")
    difference = Replay("main").run([*records[:position], changed, *records[position + 1 :]])
    assert difference is not None
    assert difference.stands == changed
    assert difference.expected.startswith("Settled(")
