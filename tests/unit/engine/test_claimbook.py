"""The book of claims, built from records."""

import pytest

from a2a.engine import claimbook
from a2a.engine.claimbook import ClaimBook, owner_of
from a2a.engine.ledger import Ledger
from a2a.engine.records import Claimed, ClaimEnded, ClaimRecalled, ClaimRenewed, ClaimRequested


@pytest.fixture
def ledger():
    return Ledger("main")


def request(ledger, no=1, agent="me", ttl_ms=1_000, **names):
    return ledger.apply(
        ClaimRequested(10, agent, "i1", no, names or {"a": "x"}, None, 0, ttl_ms, 500, priority=0, preemptible=False)
    )


def test_a_claim_waits_is_held_and_is_gone(ledger):
    book = ledger.claims
    claim_id = request(ledger)
    claim = book.claims[claim_id]
    assert (claim.is_waiting, claim.owner, book.waits_of("agent:me")) == (True, "agent:me", [claim])
    assert (book.waiting.meeting({"a": "s"}), book.held.meeting({"a": "x"})) == ({claim_id: "a"}, {})
    fence = ledger.apply(Claimed(20, claim_id, waited=False))
    assert (claim.fence, claim.until, claim.is_waiting, book.waits_of("agent:me")) == (fence, 1_020, False, [])
    assert (book.waiting.meeting({"a": "x"}), book.held.meeting({"a": "s"})) == ({}, {claim_id: "a"})
    ledger.apply(ClaimEnded(30, claim_id, "released"))
    assert (book.claims, book.by_fence, book.by_owner, ledger.freed) == ({}, {}, {}, [{"a": "x"}])
    assert book.held == ClaimBook().held
    assert book.find("agent:me", "i1", 1) is claim
    assert claim.ended == "released"


def test_a_claim_is_granted_once(ledger):
    claim_id = request(ledger)
    ledger.apply(Claimed(20, claim_id, waited=False))
    with pytest.raises(ValueError, match="which has fence 2"):
        ledger.apply(Claimed(20, claim_id, waited=False))


def test_a_number_is_of_one_owner_and_one_process(ledger):
    request(ledger, 5)
    book = ledger.claims
    assert (book.newest_no("agent:me", "i1"), book.newest_no("agent:me", "i2"), book.newest_no("agent:you", "i1")) == (
        5,
        0,
        0,
    )
    assert book.find("agent:me", "i2", 5) is None
    book.forget("agent:me")
    assert book.newest_no("agent:me", "i1") == 0


def test_times_move_with_renewal_and_recall(ledger):
    claim_id = request(ledger)
    fence = ledger.apply(Claimed(20, claim_id, waited=True))
    ledger.apply(ClaimRenewed(30, fence, 5_000))
    ledger.apply(ClaimRecalled(40, fence, "because", 99))
    claim = ledger.claims.claims[claim_id]
    assert (claim.ttl_ms, claim.until, claim.recalled, claim.grace_at) == (5_000, 5_030, "because", 99)
    assert [entry.kind for entry in ledger.mailboxes["me"].entries] == ["claim.granted", "claim.preempt"]


def test_an_owner_is_the_task_or_else_the_agent():
    assert (owner_of("main-7", "w"), owner_of(None, "w")) == ("task:main-7", "agent:w")


def test_numbers_of_those_that_claimed_long_ago_are_forgotten(ledger, monkeypatch):
    monkeypatch.setattr(claimbook, "_OWNERS_KEPT", 2)
    held = request(ledger, agent="holder")
    for agent in ("one", "two", "three"):
        ledger.apply(ClaimEnded(30, request(ledger, agent=agent, **{agent: "x"}), "released"))
    assert list(ledger.claims.numbers) == ["agent:holder", "agent:three"]
    assert held in ledger.claims.claims


def test_of_those_that_have_no_claim_whoever_claimed_longest_ago_is_forgotten_first(ledger, monkeypatch):
    monkeypatch.setattr(claimbook, "_OWNERS_KEPT", 3)
    ended = {agent: request(ledger, agent=agent, **{agent: "x"}) for agent in ("one", "two", "three")}
    for agent in ("three", "one", "two"):
        ledger.apply(ClaimEnded(30, ended[agent], "released"))
    request(ledger, 2, agent="one", again="x")
    book = ledger.claims
    ledger.claims = ClaimBook.of(
        list(book.claims.values()), {owner: list(mine) for owner, mine in book.by_owner.items()}, book.numbers
    )
    left = []
    for agent in ("four", "five", "six"):
        request(ledger, agent=agent, **{agent: "x"})
        left.append([owner.removeprefix("agent:") for owner in ledger.claims.numbers])
    assert left == [["three", "one", "four"], ["one", "four", "five"], ["one", "four", "five", "six"]]


def test_a_book_is_built_again_from_what_a_snapshot_keeps(ledger):
    first, second = request(ledger, agent="one"), request(ledger, agent="two", **{"a/**": "s", "b": "x"})
    third = request(ledger, 2, agent="one", c="x")
    ledger.apply(Claimed(20, second, waited=False))
    ledger.apply(Claimed(20, third, waited=False))
    ledger.apply(ClaimEnded(30, request(ledger, 3, agent="one", d="x"), "released"))
    book = ledger.claims
    again = ClaimBook.of(
        list(book.claims.values()), {owner: list(mine) for owner, mine in book.by_owner.items()}, book.numbers
    )
    assert again == book
    assert (list(again.by_fence), list(again.by_owner)) == (list(book.by_fence), list(book.by_owner))
    assert again.waiting.meeting({"a": "x"}) == {first: "a"}
    assert again != ClaimBook()
