"""Rungs that count: who has won, or that nobody has."""

import pytest

from a2a.engine.conflicts.rungs import Ballot, Rung, count, parse_ladder, weight_of


def ballot(*sizes, electorate=None, weights=None):
    names = iter(f"m{number}" for number in range(99))
    votes = {number: [next(names) for _ in range(size)] for number, size in enumerate(sizes)}
    return Ballot(sum(sizes) if electorate is None else electorate, votes, weights or {})


@pytest.mark.parametrize(
    ("rung", "sizes", "electorate", "winner"),
    [
        (Rung("majority"), (2, 1), 3, 0),
        (Rung("majority"), (1, 2), 3, 1),
        (Rung("majority"), (2, 1), 4, None),
        (Rung("majority"), (2, 2), 4, None),
        (Rung("majority"), (1, 1, 1), 3, None),
        (Rung("majority"), (), 3, None),
        (Rung("quorum", k=2), (2, 1), 5, 0),
        (Rung("quorum", k=2), (2, 2), 5, None),
        (Rung("quorum", k=3), (2, 1), 5, None),
        (Rung("plurality"), (2, 1), 5, 0),
        (Rung("plurality"), (2, 2, 1), 5, None),
        (Rung("plurality", margin=2), (3, 1), 5, 0),
        (Rung("plurality", margin=3), (3, 1), 5, None),
        (Rung("first_wins"), (1, 5), 6, 0),
    ],
)
def test_who_has_won(rung, sizes, electorate, winner):
    assert count(rung, ballot(*sizes, electorate=electorate)).winner == winner


def test_weight_decides_where_it_is_more_than_all_others_together():
    weights = {"m0": 15_000, "m1": 5_000, "m2": 5_000}
    assert count(Rung("weighted"), ballot(1, 2, weights=weights)).winner == 0
    assert count(Rung("weighted"), ballot(1, 1, weights={"m0": 8_000, "m1": 8_000})).winner is None


@pytest.mark.parametrize(
    ("accepted", "decided", "weight"),
    [(0, 0, 10_000), (99, 99, 15_000), (0, 99, 5_000), (1, 2, 10_000), (3, 4, 13_333)],
)
def test_a_weight_follows_from_the_record(accepted, decided, weight):
    assert weight_of(accepted, decided) == weight


@pytest.mark.parametrize(
    "rungs",
    [
        [],
        [{"strategy": "abort"}] * 13,
        [{"strategy": "coin"}],
        [{"strategy": "majority"}],
        [{"strategy": "human", "onTimeout": "hold"}],
        [{"strategy": "human", "onTimeout": "coin"}],
        [{"strategy": "quorum"}, {"strategy": "abort"}],
        [{"strategy": "panel", "k": 2, "skill": "j"}, {"strategy": "abort"}],
        [{"strategy": "verify"}, {"strategy": "abort"}],
    ],
)
def test_a_ladder_that_cannot_be_is_refused(rungs):
    with pytest.raises(ValueError, match=r"."):
        parse_ladder(rungs, irreversible=False)


def test_where_nothing_can_be_undone_the_last_rung_refuses():
    with pytest.raises(ValueError, match="irreversible"):
        parse_ladder([{"strategy": "first_wins"}], irreversible=True)
    assert parse_ladder([{"strategy": "majority"}, {"strategy": "abort"}], irreversible=True)[-1].strategy == "abort"


def test_a_persons_timeout_decides_and_may_be_last():
    (rung,) = parse_ladder([{"strategy": "human", "timeoutMs": 5, "onTimeout": "first_wins"}], irreversible=False)
    assert (rung.timeout_ms, rung.on_timeout) == (5, "first_wins")


@pytest.mark.parametrize(
    ("last", "told"),
    [({"strategy": "majority"}, "majority"), ({"strategy": "human", "onTimeout": "hold"}, "human that holds on")],
)
def test_a_last_rung_that_may_not_decide_is_named(last: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=rf"must always decide \(.*\), not {told}$"):
        parse_ladder([last], irreversible=False)
