"""The whole state as bytes, and its hash."""

from __future__ import annotations

from dataclasses import fields, make_dataclass

import pytest

from a2a.engine import plain, snapshot
from a2a.engine.coordinator import Coordinator
from a2a.engine.ledger import Ledger
from a2a.engine.records import CoordinatorStopped, from_bytes, to_bytes
from a2a.protocol.codec import pack
from a2a.protocol.messages import (
    ClaimAcquire,
    ClaimRenew,
    ContextOp,
    ContextRead,
    ContextWrite,
    ContextWritten,
    Seen,
    TaskAnswer,
    TaskAsk,
)

DERIVED = {
    "at_work": "the open tasks say them",
    "attached": "the open tasks say them",
    "keys": "the tasks say them",
    "index": "the tasks say it",
    "wanted_bytes": "the tasks say them",
    "context_bytes": "the contexts say them",
    "contexts_in_use": "the open tasks and the conflicts say it",
    "open_conflicts": "the conflicts say them",
    "conflicts_about": "the conflicts say it",
    "contested": "the conflicts say it",
    "quarantined": "the conflicts say it",
    "touched": "a mark",
    "stirred": "a mark",
    "posted": "a mark",
    "freed": "a mark",
    "closed": "a mark",
}
"""What a ledger holds and a snapshot does not, and why."""


@pytest.fixture
def town(make_town):
    """A namespace in which there is something of everything."""
    town = make_town(linger_ms=0)
    boss, worker = town.join("boss"), town.worker("w1", "echo", "plan", tasks=8)
    town.worker("w2", "echo", tasks=1)
    for number in range(4):
        boss.delegate(f"done-{number}", skill="plan", acceptance="auto")
        worker.report(worker.offer())
    boss.acknowledge()
    worker.acknowledge()
    town.pass_time(3_000)
    boss.delegate("asked", skill="plan")
    offer = worker.offer()
    worker.say(TaskAsk(offer.task, 1, b"[]", offer.fence))
    boss.say(TaskAnswer(offer.task, 1, b"[1]"))
    worker.report(offer)
    boss.delegate("waits", skill="nobody")
    for number in range(3):
        boss.say(
            ContextWrite("plans", f"w{number}", [ContextOp("a", None, b"%d" % number), ContextOp("b", value=b"1")])
        )
    boss.say(ContextWrite("plans", "gone", [ContextOp("b", 3, delete=True)], reason="done with it"))
    worker.say(ContextWrite("other", "w", [ContextOp("decisions/x", 0, b"1")], [Seen("y", 0)]))
    boss.delegate("needs", skill="plan", spec={"resources": [{"name": "repo/a/**"}]})
    worker.say(ClaimAcquire(1, [{"name": "tables/t", "mode": "s"}], offer.task, worker.offer().fence))
    held = boss.say(ClaimAcquire(1, [{"name": "deploy"}], preemptible=True)).claim_fence
    worker.say(ClaimAcquire(1, [{"name": "deploy"}], wait_ms=60_000, priority=1))
    boss.say(ClaimAcquire(2, [{"name": "repo/**"}], wait_ms=100))
    town.pass_time(200)
    boss.say(ClaimRenew(held, 30_000))
    book = town.ledger.claims
    assert len(book.by_fence) == 2
    assert [claim.is_waiting for claim in book.claims.values()].count(True) == 1
    assert book.by_fence[held].recalled
    assert any(numbers.ended for numbers in book.numbers.values())
    return town


def test_a_snapshot_is_the_ledger(town, ledger_facts):
    again = snapshot.load(snapshot.to_bytes(town.ledger), "main")
    town.ledger.touched.clear()
    assert ledger_facts(again) == ledger_facts(town.ledger)
    assert snapshot.to_bytes(again) == snapshot.to_bytes(town.ledger)
    skills = {agent.id: agent for agents in again.by_skill.values() for agent in agents.values()}
    assert all(again.agents[name] is agent for name, agent in skills.items()), "one agent is one object"
    assert all(again.tasks[name] is task for name, task in again.open_tasks.items())


def test_a_snapshot_of_any_moment_and_the_rest_add_up_to_the_same(town, ledger_facts):
    records = [from_bytes(*to_bytes(record)) for _, record in town.records]
    prefix = Ledger("main")
    for position, record in enumerate(records):
        again = snapshot.load(snapshot.to_bytes(prefix), "main")
        for later in records[position:]:
            again.apply(later)
        assert ledger_facts(again) == ledger_facts(town.ledger)
        prefix.apply(record)


def test_everything_a_ledger_holds_is_in_it():
    named = {item.name for item in fields(snapshot._State)} - {"version", "fields"}
    named -= {"claim_owners", "claim_numbers"}  # parts of the book of claims
    assert set(vars(Ledger())) == named | set(DERIVED)


def test_states_that_differ_have_other_hashes(town):
    before = snapshot.state_hash(town.ledger)
    assert before == snapshot.state_hash(snapshot.load(snapshot.to_bytes(town.ledger), "main"))
    task = next(iter(town.ledger.tasks.values()))
    for name, value in (("losses", 1), ("revivals", 2), ("payload", b"[2]")):
        was = getattr(task, name)
        setattr(task, name, value)
        assert snapshot.state_hash(town.ledger) != before
        setattr(task, name, was)
    town.ledger.mailboxes["boss"].next_mseq += 1
    assert snapshot.state_hash(town.ledger) != before
    town.ledger.mailboxes["boss"].next_mseq -= 1
    assert snapshot.state_hash(town.ledger) == before


def test_a_stop_records_the_hash_of_the_state_before_it(town):
    town.coordinator.stop(town.now)
    town.flush()
    *before, (_, last) = town.records
    assert isinstance(last, CoordinatorStopped)
    again = Ledger("main")
    for _, record in before:
        again.apply(record)
    assert last.state_hash == snapshot.state_hash(again)


def test_contexts_go_on_from_a_snapshot(town):
    boss = town.join("boss", incarnation=2)
    before = boss.say(ContextRead("plans", prefix="", history=True))
    body = snapshot.to_bytes(town.ledger)
    town.coordinator.load(body)
    boss = town.join("boss", incarnation=3)
    assert boss.say(ContextRead("plans", prefix="", history=True)) == before
    again = ContextWrite("plans", "w1", [ContextOp("a", None, b"1"), ContextOp("b", value=b"1")])
    assert boss.say(again) == ContextWritten("plans", {"a": 2, "b": 2}), "a repeat is known"
    assert boss.say(ContextWrite("other", "new", [ContextOp("decisions/x", None, b"2")])).code == "conflict"
    assert boss.say(ContextWrite("other", "new", [ContextOp("decisions/x", 1, b"2")])).revs == {"decisions/x": 2}


def test_a_coordinator_goes_on_from_a_snapshot(town, ledger_facts):
    body, lsn = snapshot.to_bytes(town.ledger), town.ledger.lsn
    town.join("late")
    again = Coordinator(town.policy)
    again.load(body)
    again.restore([record for _, record in town.records[lsn:]], "another key", town.now)
    assert again.world.ledger is again.ledger
    whole = Coordinator(town.policy)
    whole.restore([record for _, record in town.records], "another key", town.now)
    assert ledger_facts(again.ledger) == ledger_facts(whole.ledger)


@pytest.mark.parametrize("namespace", ["other"])
def test_a_snapshot_of_another_namespace_is_refused(town, namespace):
    with pytest.raises(ValueError, match="of the namespace main, not other"):
        snapshot.load(snapshot.to_bytes(town.ledger), namespace)


@pytest.mark.parametrize("body", [b"", b"nonsense", plain.to_bytes(make_dataclass("_State", ["x"])(1))])
def test_what_is_no_snapshot_is_refused(body):
    with pytest.raises(ValueError, match="another version of this software wrote it, or it is damaged"):
        snapshot.load(body, "main")


def test_what_is_kept_elsewhere_is_named_and_asked_for(town, boss):
    large = b'["%s"]' % (b"x" * plain.LARGE_BYTES)
    kept = {b"1": large}
    other = large[:-2] + b'y"]'
    for key, payload in (("a", large), ("b", large), ("c", b'["small"]'), ("d", other)):
        boss.delegate(key, payload=payload)
    asked: list[bytes] = []

    def blob_of(piece: bytes) -> bytes | None:
        asked.append(piece)
        return next((name for name, known in kept.items() if known == piece), None)

    body = snapshot.to_bytes(town.ledger, blob_of)
    assert asked == [large, large, other]
    assert body.count(large) == 0
    assert body.count(other) == 1
    assert snapshot.load(body, "main", kept.__getitem__).tasks == town.ledger.tasks
    with pytest.raises(ValueError, match="31 is not kept here"):
        snapshot.load(body, "main")
    assert (snapshot.namespace_of(body), snapshot.blobs_of(body)) == ("main", [b"1", b"1"])
    assert snapshot.to_bytes(town.ledger).count(large) == 2


@pytest.mark.parametrize("body", [b"", pack(5), pack([5, b""]), pack([["name"], b""]), plain.with_checksum(b"?")[:-1]])
def test_what_names_no_large_byte_strings_is_no_snapshot(body):
    with pytest.raises(ValueError, match="snapshot"):
        snapshot.blobs_of(body)


def test_a_snapshot_that_was_changed_on_the_disk_is_refused(town):
    body = snapshot.to_bytes(town.ledger)
    place = body.index(b"main-")
    with pytest.raises(ValueError, match="it is not what was written"):
        snapshot.load(body[:place] + b"m" + body[place + 1 :].replace(b"main-", b"gain-", 1), "main")


def test_a_snapshot_of_another_version_is_refused(town, monkeypatch):
    body = snapshot.to_bytes(town.ledger)
    monkeypatch.setattr(snapshot, "VERSION", snapshot.VERSION + 1)
    with pytest.raises(ValueError, match="another version"):
        snapshot.load(body, "main")


def test_a_snapshot_of_tasks_with_other_fields_is_refused(town, monkeypatch):
    """A field that has a default today may have been something else by the records."""
    body = snapshot.to_bytes(town.ledger)
    monkeypatch.setattr(plain, "fingerprint", lambda kind: "other")
    with pytest.raises(ValueError, match="another version"):
        snapshot.load(body, "main")


def test_a_fingerprint_looks_into_what_a_class_is_made_of():
    names = ("a", "b")
    inner = [make_dataclass("Inner", [(name, int)]) for name in names]
    outer = [make_dataclass("Outer", [("inner", list[kind])]) for kind in inner]
    assert plain.fingerprint(outer[0]) != plain.fingerprint(outer[1])
