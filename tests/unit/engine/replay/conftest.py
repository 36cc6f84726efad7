"""Ledgers in which nearly everything has happened, to be decided again."""

from __future__ import annotations

import pytest

from a2a.engine.policy import LADDERS, Admission, digest
from a2a.engine.records import (
    Archived,
    Classified,
    ConflictAppealed,
    ConflictsArchived,
    Merged,
    PatchesCompared,
    Recalled,
)
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
