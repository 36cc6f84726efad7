"""Records about claims that could not have been written in the state before them."""

from dataclasses import replace

import pytest

from a2a.engine.claimcheck import CHECKS, expected_instead
from a2a.engine.ledger import Ledger
from a2a.engine.records import (
    Claimed,
    ClaimEnded,
    ClaimRecalled,
    ClaimRenewed,
    ClaimRequested,
    Offered,
    from_bytes,
    to_bytes,
)
from a2a.engine.replay.run import Replay
from a2a.protocol.messages import ClaimAcquire, ClaimRelease, ClaimRenew, Held, TaskAsk


def wants(name, no=1, offer=None, **fields):
    if offer is not None:
        fields |= {"task": offer.task, "fence": offer.fence}
    return ClaimAcquire(no, [{"name": name}], **fields)


@pytest.fixture
def records(town):
    """A namespace in which everything has happened that can to claims."""
    boss, me, you = town.join("boss"), town.join("me"), town.join("you")
    worker = town.worker("w", tasks=2)
    boss.delegate("needs", spec={"resources": [{"name": "repo/a"}]})
    boss.delegate("plain")
    needs, plain = worker.mail()
    for offer in (needs, plain):
        worker.beat(offer)
    worker.say(wants("doc", offer=plain))
    mine = me.say(wants("x", preemptible=True, ttl_ms=5_000)).claim_fence
    me.say(ClaimRenew(mine, 60_000))
    you.say(wants("x", wait_ms=60_000, priority=1))
    me.say(wants("repo/**", no=2, wait_ms=100))
    town.pass_time(200)
    yours = you.say(wants("y", no=2)).claim_fence
    you.say(ClaimRelease(yours))
    for _ in range(6):
        town.pass_time(2_000)
        for offer in (needs, plain):
            worker.beat(offer)
    me.say(wants("z", no=3))
    you.say(wants("q", no=3))
    me.say(wants("q", no=4, wait_ms=60_000))
    you.say(wants("z", no=4, wait_ms=60_000))
    for offer in (needs, plain):
        worker.report(offer)
    town.pass_time(70_000)
    reasons = {record.reason for record in town.said(ClaimEnded)}
    assert reasons == {"released", "timeout", "preempted", "deadlock", "ended", "ttl"}
    assert town.said(ClaimRenewed)
    assert town.said(ClaimRecalled)
    return [record for _, record in town.records]


def test_what_was_written_fits(records):
    replay = Replay("main")
    assert replay.run([from_bytes(*to_bytes(record)) for record in records]) is None
    assert replay.decisions > 20


def _as(step, suffix):
    return step | {key: name + suffix for key, name in step.items() if key in ("agent", "waitsForAgent")}


SPOILED = {
    "a number used before": (ClaimRequested, lambda r: replace(r, claim_no=0), "a number after"),
    "names out of order": (ClaimRequested, lambda r: replace(r, names={"b": "x", "a": "x"}), "canonical order"),
    "a wait into the past": (ClaimRequested, lambda r: replace(r, wait_until=r.at - 1), "a wait that ends"),
    "no time to live": (
        ClaimRequested,
        lambda r: replace(r, ttl_ms=None) if r.task is None else None,
        "a time to live",
    ),
    "under an old fence": (
        ClaimRequested,
        lambda r: replace(r, fence=1) if r.task is not None else None,
        "the current attempt",
    ),
    "under another word": (
        ClaimRequested,
        lambda r: replace(r, under="1") if r.task is not None else None,
        "a claim under",
    ),
    "granted twice": (Claimed, lambda r: replace(r, claim=1), "a claim that waits"),
    "renewed when gone": (ClaimRenewed, lambda r: replace(r, claim_fence=1), "a claim that is held"),
    "called back unasked": (ClaimRecalled, lambda r: replace(r, claim_fence=1), "may be called back"),
    "no grace": (ClaimRecalled, lambda r: replace(r, grace_at=r.at - 1), "a grace"),
    "ended twice": (ClaimEnded, lambda r: replace(r, claim=1), "has not ended"),
    "timeout of a holder": (
        ClaimEnded,
        lambda r: replace(r, reason="timeout") if r.reason == "released" else None,
        "a reason",
    ),
    "too early": (ClaimEnded, lambda r: replace(r, at=r.at - 100) if r.reason == "timeout" else None, "a reason"),
    "a circle of nothing": (
        ClaimEnded,
        lambda r: replace(r, data=None) if r.reason == "deadlock" else None,
        "a reason",
    ),
    "a circle with a gap": (
        ClaimEnded,
        lambda r: replace(r, data={"cycle": r.data["cycle"][:1]}) if r.reason == "deadlock" else None,
        "a reason",
    ),
    "a circle of others": (
        ClaimEnded,
        lambda r: replace(r, data={"cycle": [_as(step, "k") for step in r.data["cycle"]]}) if r.data else None,
        "a reason",
    ),
    "another reason": (ClaimEnded, lambda r: replace(r, reason="whim"), "a reason"),
    "an end too soon": (
        ClaimEnded,
        lambda r: replace(r, reason="ended") if r.reason == "released" else None,
        "a reason",
    ),
    "without its resources": (
        Offered,
        lambda r: replace(r, claims=None) if r.claims else None,
        "the resources of",
    ),
    "with others' resources": (
        Offered,
        lambda r: replace(r, claims={"all": "x"}) if not r.claims else None,
        "the resources of",
    ),
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_could_not_have_been_written_is_found(records, what):
    kind, spoil, expected = SPOILED[what]
    spoiled = list(records)
    number = next(number for number, record in enumerate(records) if type(record) is kind and spoil(record) is not None)
    spoiled[number] = spoil(records[number])
    found = Replay("main").run(spoiled)
    assert found is not None
    assert (found.lsn, expected in found.expected) == (number + 1, True), found


@pytest.fixture
def knotted(town):
    """Circles through a sub-task and a busy agent, and through a question."""
    boss, parent, x = town.join("boss"), town.worker("parent", "plan"), town.worker("x", "part")
    boss.delegate("plan", "plan")
    above = parent.offer()
    parent.say(wants("a", offer=above))
    boss.delegate("fill", "part")
    theirs = x.offer()
    x.beat(theirs)
    held = Held(above.task, above.fence)
    parent.delegate("part", "part", parent=held)
    parent.beat(above, slot="released")
    x.say(wants("a", offer=theirs, wait_ms=60_000))
    parent.beat(above, slot="held")
    x.report(theirs)
    child = x.offer()
    x.say(wants("c", offer=child))
    x.say(TaskAsk(child.task, 1, b"[1]", child.fence))
    parent.say(wants("c", no=2, offer=above, wait_ms=60_000))
    broken = [record for _, record in town.records if isinstance(record, ClaimEnded) and record.reason == "deadlock"]
    steps = [[step["for"] for step in record.data["cycle"]] for record in broken]
    assert steps == [["claim", "sub-task", "capacity"], ["claim", "ask"]]
    return [record for _, record in town.records]


@pytest.mark.parametrize("one", ["sub-task", "capacity", "ask"])
@pytest.mark.parametrize("other", ["sub-task", "capacity", "ask", "nothing"])
def test_a_circle_of_tasks_that_could_not_wait_so_is_found(knotted, one, other):
    if one == other:
        assert Replay("main").run(knotted) is None
        return

    def spoil(record):
        cycle = (getattr(record, "data", None) or {}).get("cycle", [])
        steps = [step | {"for": other} if step["for"] == one else step for step in cycle]
        return replace(record, data={"cycle": steps}) if steps != cycle else record

    found = Replay("main").run([spoil(record) for record in knotted])
    assert found is not None
    assert "a reason for claim" in found.expected


def test_a_grant_over_another_is_found(records):
    ledger = Ledger("main")
    for record in records:
        if isinstance(record, ClaimEnded) and record.reason == "preempted":
            break
        ledger.apply(record)
    waiting = next(claim for claim in ledger.claims.claims.values() if claim.is_waiting)
    assert "a wait for x of agent:me" in (expected_instead(ledger, Claimed(1, waiting.id, waited=True)) or "")


def test_calling_back_for_nobody_is_found(records):
    position = next(number for number, record in enumerate(records) if isinstance(record, ClaimRecalled))
    asked = next(number for number in range(position, 0, -1) if isinstance(records[number], ClaimRequested))
    found = Replay("main").run([*records[:asked], replace(records[asked], priority=0), *records[asked + 1 :]])
    assert found is not None
    assert found.lsn == position + 1
    assert "higher priority" in found.expected


def test_an_offer_that_overtakes_a_claim_is_found(town):
    boss, me = town.join("boss"), town.join("me")
    me.say(wants("a/x"))
    me.say(wants("a/**", no=2, wait_ms=60_000, priority=9))
    boss.delegate("k", spec={"resources": [{"name": "a/b"}]})
    town.worker("w")
    assert not town.said(Offered)
    task = next(iter(town.ledger.tasks.values()))
    early = Offered(town.now, task.id, "w", True, {"a/b": "x"})
    assert "a wait for a/** of agent:me" in (expected_instead(town.ledger, early) or "")


def test_every_record_about_claims_is_looked_at():
    assert set(CHECKS) == {ClaimRequested, Claimed, ClaimRenewed, ClaimRecalled, ClaimEnded, Offered}
