"""What the records about groups and conflicts do to the ledger, and which they are refused."""

from copy import deepcopy

import pytest

from a2a.engine.conflicts.folding import close
from a2a.engine.records import (
    Classified,
    ConflictAppealed,
    ConflictOpened,
    ConflictResolved,
    GroupDecided,
    Merged,
    PositionTaken,
    StageClosed,
    StageOpened,
)

LADDER = [{"strategy": "majority"}, {"strategy": "human"}, {"strategy": "abort"}]


@pytest.fixture
def group(town):
    """A group of two members, both leased, and its ledger."""
    boss = town.join("boss")
    town.worker("w0")
    town.worker("w1")
    return town.task(boss.delegate("q", spec={"redundancy": {"n": 2, "policy": LADDER}}))


@pytest.fixture
def disputed(town, group):
    for peer in list(town.peers.values())[1:]:
        peer.report(peer.offer(), payload=b'[{"artifactId":"r","parts":[{"text":"%s"}]}]' % peer.name.encode())
    return group


@pytest.fixture
def ledger(town, disputed):
    """A copy of the ledger, for records that no coordinator would write."""
    return deepcopy(town.ledger)


def test_a_group_knows_its_members(town, group):
    assert (group.state, len(group.group.electorate)) == ("blocked", 2)
    assert [town.task(member).parent for member in group.group.electorate] == [group.id, group.id]


def test_what_is_not_about_a_conflict_under_way_does_not_fit(ledger, disputed):
    (conflict,) = ledger.conflicts.values()
    assert (disputed.state, conflict.stage.strategy) == ("disputed", "human")
    first, second = disputed.group.electorate
    for record in (
        Classified(1, disputed.id, first, 0),
        Classified(1, disputed.id, "main-99", 5),
        GroupDecided(1, first, second, review=False),
        ConflictOpened(1, "main-k1", disputed.id, "result", "r1", LADDER, 9, {}),
        StageOpened(1, conflict.id, disputed.id, 2, "abort", 0, [], {}),
        StageClosed(1, conflict.id, disputed.id, 0, 0, ""),
        Merged(1, conflict.id, 0, ""),
    ):
        with pytest.raises((KeyError, ValueError)):
            ledger.apply(record)


def test_a_conflict_that_is_over_is_over(ledger, disputed):
    (conflict,) = ledger.conflicts.values()
    close(ledger, conflict, "select", disputed.group.electorate[0], "ann", "", 1, ledger.lsn)
    for record in (
        PositionTaken(1, conflict.id, disputed.id, "w0", "", b"[]"),
        StageClosed(1, conflict.id, disputed.id, 1, 0, ""),
        ConflictAppealed(1, conflict.id, disputed.id, "w0", "new_evidence", b"[]"),
        ConflictResolved(1, conflict.id, disputed.id, "select", None, "", ""),
    ):
        with pytest.raises(ValueError, match="is over"):
            ledger.apply(record)


def test_a_rung_is_answered_once(ledger, disputed):
    (conflict,) = ledger.conflicts.values()
    record = Merged(1, conflict.id, conflict.stage.number, "", b"1")
    ledger.apply(record)
    assert conflict.stage.merged == b"1"
    with pytest.raises(ValueError, match="has not asked"):
        ledger.apply(record)


def test_an_appeal_is_made_once(ledger, disputed):
    (conflict,) = ledger.conflicts.values()
    record = ConflictAppealed(1, conflict.id, disputed.id, "w0", "new_evidence", b"[]")
    ledger.apply(record)
    assert conflict.level == 2
    with pytest.raises(ValueError, match="a second time"):
        ledger.apply(record)
