"""What each record about a task does to the ledger."""

import pytest

from a2a.engine.records import (
    RECORDS,
    Accepted,
    Adopted,
    AgentForgotten,
    AgentRegistered,
    Answered,
    AnswersRepeated,
    Archived,
    ArtifactAppended,
    Asked,
    CancelRequested,
    Checkpointed,
    Claimed,
    ClaimEnded,
    ClaimRecalled,
    ClaimRenewed,
    ClaimRequested,
    Classified,
    ConflictAppealed,
    ConflictJoined,
    ConflictNoted,
    ConflictOpened,
    ConflictResolved,
    ConflictsArchived,
    ContextRecalled,
    ContextsArchived,
    ContextWritten,
    CoordinatorStarted,
    CoordinatorStopped,
    Declined,
    Delegated,
    Evicted,
    GroupDecided,
    HandedOff,
    HandoffLapsed,
    LeaseExpired,
    MailboxAcked,
    Merged,
    Offered,
    OfferWithdrawn,
    PatchesCompared,
    PositionTaken,
    PrincipalBound,
    PrincipalUnbound,
    Recalled,
    Refused,
    Reported,
    ReportKept,
    Revived,
    Reworked,
    Settled,
    StageClosed,
    StageOpened,
    StatusSet,
    Steered,
    Yielded,
)
from a2a.protocol.states import TERMINAL
from tests.unit.engine.recorded import boxes, reported


@pytest.mark.parametrize(
    "record",
    [
        Accepted(12, "main-1", 2),
        Declined(12, "main-1", 1, "busy", 0),
        OfferWithdrawn(12, "main-1", 9, ""),
        LeaseExpired(12, "main-1", 1, ""),
        Revived(12, "main-1", 1),
        Evicted(12, "main-1", 1, "drain", 99),
        Yielded(12, "main-1", 1, ""),
        HandedOff(12, "main-1", 1, None, None),
        Checkpointed(12, "main-1", 1, 1, "", True, b"[]"),
        Asked(12, "main-1", 1, 1, "hot", False, 99, b"[]"),
        reported(1),
        Reworked(12, "main-1", 0, "boss", "", b"[]"),
        Offered(12, "main-1", "w2", granted=True),
        Settled(12, "main-1", "completed"),
        Settled(12, "main-1", "rejected"),
    ],
    ids=lambda record: f"{type(record).__name__}-{getattr(record, 'state', '')}",
)
def test_a_record_that_does_not_fit_the_state_is_refused(ledger, keep, leased, record):
    with pytest.raises((KeyError, ValueError)):
        keep(record)


@pytest.mark.parametrize(
    "record",
    [
        Accepted(13, "main-1", 2),
        Declined(13, "main-1", 2, "busy", 0),
        OfferWithdrawn(13, "main-1", 2, ""),
        LeaseExpired(13, "main-1", 2, ""),
        Revived(13, "main-1", 2),
        Evicted(13, "main-1", 2, "drain", 99),
        Yielded(13, "main-1", 2, ""),
        HandedOff(13, "main-1", 2, None, None),
        Checkpointed(13, "main-1", 2, 1, "", True, b"[]"),
        Asked(13, "main-1", 2, 1, "hot", False, 99, b"[]"),
        reported(2),
    ],
    ids=lambda record: type(record).__name__,
)
def test_a_spent_fence_changes_nothing_any_more(ledger, keep, leased, record):
    keep(Yielded(12, "main-1", 2, ""))
    with pytest.raises(ValueError, match="fence 2"):
        keep(record)


@pytest.mark.parametrize("end", ["failed", "canceled"])
@pytest.mark.parametrize(
    "record",
    [
        Offered(12, "main-1", "w2", granted=True),
        Offered(12, "main-1", "w2", granted=False),
        Accepted(12, "main-1", 2),
        Declined(12, "main-1", 2, "", 0),
        OfferWithdrawn(12, "main-1", 2, ""),
        LeaseExpired(12, "main-1", 2, ""),
        Revived(12, "main-1", 2),
        Evicted(12, "main-1", 2, "drain", 99),
        Yielded(12, "main-1", 2, ""),
        HandedOff(12, "main-1", 2, None, None),
        Checkpointed(12, "main-1", 2, 1, "", True, b"[]"),
        Steered(12, "main-1", "k", "boss", b"[]"),
        Asked(12, "main-1", 2, 1, "hot", False, 99, b"[]"),
        reported(2),
        Reworked(12, "main-1", 0, "", "", b"[]"),
        CancelRequested(12, "main-1", "coop", "", "boss", 99),
        Settled(12, "main-1", "completed"),
        Settled(12, "main-1", "failed"),
        Settled(12, "main-1", "canceled"),
        Settled(12, "main-1", "rejected"),
    ],
    ids=lambda record: f"{type(record).__name__}-{getattr(record, 'state', '')}{getattr(record, 'granted', '')}",
)
def test_an_end_is_an_end(ledger, keep, leased, end, record):
    keep(Settled(11, "main-1", end))
    state, generation = leased.state, leased.generation
    with pytest.raises((KeyError, ValueError)):
        keep(record)
    assert (leased.state, leased.generation) == (state, generation)


def test_every_record_about_a_task_was_tried_above():
    about_others = {
        CoordinatorStarted,
        CoordinatorStopped,
        PrincipalBound,
        PrincipalUnbound,
        AgentRegistered,
        StatusSet,
        MailboxAcked,
        AgentForgotten,
        Delegated,
        ContextWritten,
        ClaimRequested,
        Claimed,
        ClaimRenewed,
        ClaimRecalled,
        ClaimEnded,
        Archived,
        Recalled,
        ContextsArchived,
        ContextRecalled,
    }
    of_conflicts = {  # tried in conflicts/test_folding.py
        Classified,
        GroupDecided,
        ConflictOpened,
        ConflictJoined,
        ConflictNoted,
        ConflictsArchived,
        PositionTaken,
        PatchesCompared,
        StageOpened,
        Merged,
        StageClosed,
        ConflictAppealed,
        ConflictResolved,
    }
    changes_no_state = {Adopted, AnswersRepeated, ArtifactAppended, Answered, HandoffLapsed, Refused, ReportKept}
    tried = {
        Offered,
        Accepted,
        Declined,
        OfferWithdrawn,
        LeaseExpired,
        Revived,
        Evicted,
        Yielded,
        HandedOff,
        Checkpointed,
        Steered,
        Asked,
        Reported,
        Reworked,
        CancelRequested,
        Settled,
    }
    assert about_others | of_conflicts | changes_no_state | tried == set(RECORDS.values())


# Authority ------------------------------------------------------------------------------------------------------------


def test_a_fence_is_the_position_of_its_offer(ledger, keep, leased):
    assert (leased.authority.fence, leased.minted_for(2), leased.attempt) == (2, "w1", 1)
    keep(LeaseExpired(12, "main-1", 2, ""), Offered(13, "main-1", "w2", granted=False))
    assert (leased.offer.fence, leased.authority.fence) == (4, 2)
    assert [leased.minted_for(fence) for fence in (2, 3, 4)] == ["w1", None, "w2"]


def test_an_expired_lease_keeps_its_authority_until_another_accepts(ledger, keep, leased):
    keep(LeaseExpired(12, "main-1", 2, ""), Offered(13, "main-1", "w2", granted=False))
    assert (leased.authority.is_open, leased.authority.lapsed, leased.holder) == (True, True, None)
    keep(Accepted(14, "main-1", 4))
    assert (leased.authority.fence, leased.holder) == (4, "w2")


def test_only_the_offer_that_is_out_is_accepted(ledger, keep, leased):
    keep(
        LeaseExpired(12, "main-1", 2, ""),
        Offered(13, "main-1", "w2", granted=False),
        OfferWithdrawn(14, "main-1", 4, ""),
        Offered(15, "main-1", "w3", granted=False),
    )
    with pytest.raises(ValueError, match="fence 4"):
        keep(Accepted(16, "main-1", 4))
    keep(Accepted(16, "main-1", 6))
    assert leased.holder == "w3"


def test_what_an_agent_holds_is_counted_while_it_holds_it(ledger, keep, leased):
    assert ledger.holding == {"w1": {"main-1": 2}}
    keep(LeaseExpired(12, "main-1", 2, ""), Offered(13, "main-1", "w1", granted=False))
    assert ledger.holding == {"w1": {"main-1": 4}}
    keep(Accepted(14, "main-1", 4))
    assert ledger.holding == {"w1": {"main-1": 4}}
    keep(Reported(15, "main-1", 4, "w1", "failed", "sha256:1", b"[]", retry_at=15))
    assert ledger.holding == {"w1": {}}


def test_an_old_attempt_that_ends_does_not_free_the_credit_of_a_newer_one(ledger, keep, leased):
    ledger.let_go("w1", leased, 1)
    assert ledger.holding == {"w1": {"main-1": 2}}
    ledger.let_go("nobody", leased, 2)
    ledger.let_go("w1", leased, 2)
    assert ledger.holding == {"w1": {}}


def test_losses_declines_failures_and_revivals_are_counted_apart(ledger, keep, leased):
    keep(
        LeaseExpired(12, "main-1", 2, ""),
        Revived(13, "main-1", 2),
        reported(2, "failed", retry_at=21),
        Offered(22, "main-1", "w1", granted=True),
        Declined(23, "main-1", 6, "busy", 99),
    )
    assert (leased.losses, leased.revivals, leased.failures, leased.declines) == (1, 1, 1, 1)
    assert leased.shunned == {"w1": 99}
    keep(Offered(24, "main-1", "w1", granted=True), reported(8, "canceled", 25, retry_at=25))
    assert leased.failures == 1


# Steps ----------------------------------------------------------------------------------------------------------------


def test_every_step_is_one_generation_and_is_remembered(ledger, keep, leased):
    keep(
        ArtifactAppended(12, "main-1", 2, "a", "a", 0, False, True, b"[0]"),
        ReportKept(13, "main-1", 1, "x", "stale", "completed", "sha256:2", b"[]"),
        reported(2),
        Settled(21, "main-1", "completed", by="boss"),
    )
    assert [(event.generation, event.lsn, event.event) for event in leased.history] == [
        (1, 1, "created"),
        (2, 2, "grant"),
        (3, 3, "artifact"),
        (4, 5, "report"),
        (5, 6, "complete"),
    ]
    assert leased.generation == 5
    assert [event.at for event in leased.history] == [10, 11, 12, 20, 21]


def test_a_state_knows_since_when_it_is(ledger, keep, leased):
    keep(ArtifactAppended(15, "main-1", 2, "a", "a", 0, False, True, b"[0]"))
    assert leased.since == 11
    keep(reported(2, at=20))
    assert leased.since == 20


def test_an_ended_task_is_open_no_longer_and_known_ever_after(ledger, keep, leased):
    assert ledger.open_tasks == {"main-1": leased}
    keep(Settled(20, "main-1", "canceled"))
    assert ledger.open_tasks == {}
    assert (ledger.tasks["main-1"].state in TERMINAL, ledger.keys) == (True, {("principal:boss", "main-1"): "main-1"})


def test_a_result_belongs_to_its_revision(ledger, keep, leased):
    keep(reported(2, review=True), Reworked(21, "main-1", 0, "boss", "style", b'["no"]'))
    assert (leased.rev, leased.feedback, leased.results[0].rev) == (1, [(0, "style", b'["no"]')], 0)
    keep(Offered(22, "main-1", "w2", granted=True), reported(5, at=23))
    assert [result.rev for result in leased.results] == [0, 1]


# Mail -----------------------------------------------------------------------------------------------------------------


def test_notices_are_put_into_mailboxes_in_order(ledger, keep, leased):
    keep(
        Asked(12, "main-1", 2, 1, "hot", False, 99, b"[]"),
        Answered(13, "main-1", 1, "boss", b"[]"),
        reported(2, review=True),
        Settled(21, "main-1", "completed", by="boss"),
    )
    assert boxes(ledger) == {
        "w1": [(1, "task.offer", 2), (2, "task.answer", 1), (3, "task.settled", 0)],
        "boss": [(1, "task.ask", 1), (2, "task.review", 0), (3, "task.settled", 0)],
    }
    assert list(ledger.posted) == ["w1", "boss"]


def test_a_worker_of_a_revision_before_is_not_told_how_the_last_one_ended(ledger, keep, leased):
    keep(
        reported(2, review=True),
        Reworked(21, "main-1", 0, "boss", "", b"[]"),
        Offered(22, "main-1", "w2", granted=True),
        Reported(23, "main-1", 5, "w2", "failed", "sha256:1", b"[]"),
        Settled(23, "main-1", "failed", "error"),
    )
    assert boxes(ledger)["w1"] == [(1, "task.offer", 2)]


def test_who_holds_the_task_when_it_ends_is_told_to_stop(ledger, keep, leased):
    keep(Settled(20, "main-1", "failed", "deadline"))
    assert boxes(ledger)["w1"] == [(1, "task.offer", 2), (2, "task.revoke", 2)]


def test_who_has_the_offer_when_it_ends_is_told_to_stop(ledger, keep, leased):
    keep(LeaseExpired(12, "main-1", 2, ""), Offered(13, "main-1", "w2", granted=False), Settled(14, "main-1", "failed"))
    assert boxes(ledger)["w2"] == [(1, "task.offer", 4), (2, "task.revoke", 4)]
    assert boxes(ledger)["w1"] == [(1, "task.offer", 2)], "its lease was over"


def test_an_adopted_task_writes_to_its_new_delegator(ledger, keep, leased):
    keep(Adopted(12, "main-1", "boss#2"), reported(2, review=True))
    assert boxes(ledger) == {"w1": [(1, "task.offer", 2)], "boss#2": [(1, "task.review", 0)]}
    assert leased.principal == "boss"
