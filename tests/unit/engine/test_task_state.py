"""What follows from the data of a task."""

import pytest

from a2a.engine.records import ArtifactAppended, Declined, LeaseExpired, Offered, Settled
from a2a.protocol.states import TaskState
from tests.unit.engine.recorded import delegated, reported


def test_whoever_has_a_running_lease_holds_it(ledger, keep, leased):
    assert leased.holder == "w1"
    keep(LeaseExpired(20, "main-1", 2, ""))
    assert leased.holder is None, "the authority is open still, the lease has run out"
    assert leased.minted_for(2) == "w1"
    assert leased.minted_for(99) is None


def test_each_agent_that_lost_it_is_told_once(ledger, keep, leased):
    keep(LeaseExpired(20, "main-1", 2, ""), Offered(21, "main-1", "w2", granted=False))
    keep(Declined(22, "main-1", 4, "", 22), Offered(23, "main-1", "w1", granted=False))
    assert leased.agents == ["w1", "w2", "w1"]
    assert leased.lost_by == ["w1"]


def test_what_is_reported_waits_for_a_word_until_it_has_ended(ledger, keep, leased):
    assert not leased.is_reported
    keep(reported(review=True))
    assert (leased.is_reported, leased.is_terminal) == (True, False)
    keep(Settled(21, "main-1", "completed"))
    assert (leased.is_reported, leased.is_terminal, leased.state) == (False, True, TaskState.COMPLETED)


@pytest.mark.parametrize(
    ("acceptance", "evaluator"),
    [({}, "delegator"), ({"acceptance": {}}, "delegator"), ({"acceptance": {"evaluator": "human"}}, "human")],
)
def test_a_delegator_says_the_word_where_nobody_else_is_named(ledger, keep, acceptance, evaluator):
    keep(delegated("main-1", spec={"skill": "s"} | acceptance))
    assert ledger.tasks["main-1"].evaluator == evaluator


def test_a_task_given_up_after_one_agent_lost_it_is_no_dead_letter(ledger, keep, leased):
    keep(LeaseExpired(20, "main-1", 2, ""), Settled(21, "main-1", "failed", "losses"))
    assert not leased.is_dead_letter, "it may be the agent"


def test_a_task_takes_what_its_payloads_take(ledger, keep, leased):
    assert leased.kept_bytes == len(b"[]")
    keep(ArtifactAppended(12, "main-1", 2, "a", "a", 0, False, True, b"[12345]"), reported(review=True))
    assert leased.kept_bytes == len(b"[]") + len(b"[12345]") + len(b"[1]")
