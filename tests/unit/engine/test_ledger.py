"""The ledger: the state that the records build."""

import pytest

from a2a.engine import plain
from a2a.engine.ledger import Ledger, MailboxEntry
from a2a.engine.records import (
    AgentForgotten,
    AgentRegistered,
    Archived,
    CancelRequested,
    CoordinatorStarted,
    MailboxAcked,
    PrincipalBound,
    Recalled,
    Settled,
    StatusSet,
    Yielded,
)
from tests.unit.engine.recorded import boxes, delegated, reported

# Positions ------------------------------------------------------------------------------------------------------------


def test_records_have_consecutive_positions(ledger, keep):
    assert keep(CoordinatorStarted(1, 1)) == 1
    assert keep(CoordinatorStarted(2, 2)) == 2
    assert (ledger.lsn, ledger.at, ledger.epoch) == (2, 2, 2)


def test_time_in_the_ledger_never_goes_back(ledger, keep):
    keep(CoordinatorStarted(9, 1), CoordinatorStarted(3, 2))
    assert ledger.at == 9


def test_a_record_that_does_not_fit_leaves_no_position(ledger, keep):
    with pytest.raises(ValueError, match="its position says main-1"):
        keep(delegated("main-7"))
    assert (ledger.lsn, ledger.tasks) == (0, {})


def test_a_tasks_id_follows_from_its_position_and_namespace():
    assert Ledger("lab").task_id_at(5) == "lab-5"


def test_a_task_leaves_with_its_key_and_comes_back_with_it(ledger, keep, leased):
    keep(reported(review=True), Settled(21, "main-1", "completed"))
    body = plain.to_bytes(leased)
    keep(Archived(22, ["main-1"]))
    assert (ledger.tasks, ledger.keys) == ({}, {})
    assert ledger.archived.may_have("principal:boss", "main-1")
    keep(Recalled(23, "main-1", body))
    assert ledger.tasks == {"main-1": leased}
    assert ledger.keys == {("principal:boss", "main-1"): "main-1"}
    assert list(ledger.recalled) == ["main-1"]
    keep(Archived(24, ["main-1"]))
    assert (ledger.tasks, ledger.recalled) == ({}, {})


def test_only_what_has_ended_leaves_and_only_what_left_comes_back(ledger, keep, leased):
    with pytest.raises(ValueError, match="archives task main-1, which is leased"):
        keep(Archived(12, ["main-1"]))


def test_a_task_that_is_here_is_not_recalled(ledger, keep, leased):
    keep(Settled(12, "main-1", "canceled"))
    for task in ("main-1", "main-2"):
        with pytest.raises(ValueError, match="not what was archived"):
            keep(Recalled(13, task, plain.to_bytes(leased)))


def test_mail_stays_until_it_is_acknowledged(ledger, keep, leased):
    keep(reported(review=True), Settled(21, "main-1", "completed"))
    assert {agent: len(mailbox.entries) for agent, mailbox in ledger.mailboxes.items()} == {"w1": 2, "boss": 2}
    keep(MailboxAcked(22, "boss", 1), MailboxAcked(24, "w1", 2))
    assert {agent: len(mailbox.entries) for agent, mailbox in ledger.mailboxes.items()} == {"w1": 0, "boss": 1}


def test_what_is_lent_is_there_for_as_long_as_a_decision_takes(ledger, keep, leased):
    keep(Settled(12, "main-1", "canceled"), MailboxAcked(13, "w1", 2), Archived(14, ["main-1"]))
    with ledger.lending([leased]):
        assert ledger.tasks == {"main-1": leased}
        assert ledger.keys == {("principal:boss", "main-1"): "main-1"}
    assert (ledger.tasks, ledger.keys) == ({}, {})


@pytest.mark.parametrize("name", ["main-0", "main-01", "main-99", "other-1", "main-x", "main", ""])
def test_some_names_cannot_be_of_a_task_that_left(ledger, keep, leased, name):
    keep(Settled(12, "main-1", "canceled"))
    assert not ledger.may_have_archived("main-1"), "nothing has left yet"
    keep(Archived(13, ["main-1"]))
    assert ledger.may_have_archived("main-1")
    assert not ledger.may_have_archived(name)


def test_what_is_acknowledged_is_gone_and_the_count_goes_on(ledger, keep, leased):
    keep(CancelRequested(12, "main-1", "coop", "", "boss", 99))
    keep(MailboxAcked(13, "w1", 1))
    assert boxes(ledger)["w1"] == [(2, "task.revoke", 2)]
    keep(MailboxAcked(14, "w1", 2), Settled(15, "main-1", "canceled"))
    assert boxes(ledger) == {"w1": [(3, "task.revoke", 2)], "boss": [(1, "task.settled", 0)]}
    assert ledger.mailboxes["w1"].entries[0] == MailboxEntry(3, 6, "task.revoke", "main-1", 2)


def test_a_forgotten_process_leaves_nothing_behind(ledger, keep, leased):
    keep(Yielded(12, "main-1", 2, ""), MailboxAcked(13, "w1", 1), AgentForgotten(14, "w1"))
    assert (ledger.mailboxes, ledger.holding) == ({}, {})


# Agents ---------------------------------------------------------------------------------------------------------------


def registered(instance="w1-1", *skills, **fields):
    return AgentRegistered(1, "w1", instance, 1, {"skills": [{"id": skill} for skill in skills]}, fields)


def test_an_agent_is_found_by_the_skills_it_has_now(ledger, keep):
    keep(registered("w1-1", "a", "b"))
    agent = ledger.agents["w1"]
    assert ledger.by_skill == {"a": {"w1": agent}, "b": {"w1": agent}}
    keep(AgentRegistered(1, "w2", "w2-1", 1, {"skills": [{"id": "b"}]}, {}), registered("w1-1", "c", zone="eu"))
    assert {skill: list(agents) for skill, agents in ledger.by_skill.items()} == {"b": ["w2"], "c": ["w1"]}
    assert ledger.agents["w1"] is agent
    assert (agent.labels, agent.lsn) == ({"zone": "eu"}, 1)
    keep(registered("w1-1"))
    assert "c" not in ledger.by_skill


def test_a_new_process_of_an_agent_is_ready(ledger, keep):
    keep(registered(), StatusSet(2, "w1", "draining", "op"), registered())
    assert ledger.agents["w1"].status == "draining"
    keep(registered("w1-2"))
    assert ledger.agents["w1"].status == "ready"


def test_a_principal_is_bound_to_a_digest(ledger, keep):
    keep(PrincipalBound(1, "boss", "d"))
    assert ledger.principals == {"boss": "d"}
