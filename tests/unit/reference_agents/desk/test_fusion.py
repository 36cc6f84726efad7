from __future__ import annotations

import itertools

import pytest

from reference_agents.desk.fusion import fuse, is_carried
from reference_agents.desk.shapes import Ballot, Found


def found(place: str, quote: str = "") -> Found:
    path, _, line = place.partition(":")
    return Found(path=path, line=int(line or 1), end=int(line or 1), heading="", quote=quote or place, score=0.5)


def ballot(*places: str) -> Ballot:
    return Ballot(found=[found(place) for place in places], searched=1, skipped=[], skipped_total=0, content="c")


def paths(ballots: dict[str, Ballot]) -> list[str]:
    return [citation["path"] for citation in fuse(ballots)]


def test_what_several_found_is_before_what_one_had_first() -> None:
    assert paths({"x": ballot("a", "b"), "y": ballot("c", "b"), "z": ballot("d", "b")}) == ["b", "a", "c", "d"]


def test_the_score_is_that_of_the_paper_and_everybody_who_found_it_is_named() -> None:
    [first, *_] = fuse({"y": ballot("b", "a"), "x": ballot("a")})
    assert first["score"] == pytest.approx(1 / 61 + 1 / 62)
    assert first["votes"] == [{"agent": "x", "rank": 1}, {"agent": "y", "rank": 2}]


def test_scores_of_retrievers_are_not_compared() -> None:
    loud = ballot("a", "b")
    loud["found"][1]["score"] = 1e9
    assert paths({"x": loud}) == ["a", "b"]


def test_the_order_of_ballots_decides_nothing() -> None:
    ballots = {"x": ballot("a", "b"), "y": ballot("b", "a"), "z": ballot("c")}
    orders = [dict(order) for order in itertools.permutations(ballots.items())]
    assert len({str(fuse(order)) for order in orders}) == 1


def test_equals_go_by_path_and_line() -> None:
    assert paths({"x": ballot("b", "c"), "y": ballot("a", "d")}) == ["a", "b", "c", "d"]
    assert [one["line"] for one in fuse({"x": ballot("a:10"), "y": ballot("a:9")})] == [9, 10]


def test_the_same_ranks_are_equal_whoever_gave_which() -> None:
    rankings = ("abcdefg", "bcdefga", "cdefgab", "defgabc", "efgabcd", "fgabcde", "gabcdef")
    fused = fuse({f"r-{number}": ballot(*ranking) for number, ranking in enumerate(rankings)})
    assert len({one["score"] for one in fused}) == 1
    assert [one["path"] for one in fused] == list("abcdefg")


def test_only_those_who_have_it_among_their_first_are_for_it() -> None:
    [first, *_] = fuse({"x": ballot("a"), "y": ballot("b", "c", "a"), "z": ballot("d", "e", "f", "a")})
    assert (first["path"], first["in_favour"], len(first["votes"])) == ("a", 2, 3)
    assert [is_carried(first, heard) for heard in (3, 4)] == [True, False]


def test_the_same_lines_in_other_words_are_another_passage() -> None:
    one, other = ballot("a"), ballot("a")
    other["found"][0]["quote"] = "changed"
    assert len(fuse({"x": one, "y": other})) == 2


def test_who_has_a_passage_twice_is_for_it_once() -> None:
    [first, *_] = fuse({"x": ballot("a", "a", "b"), "y": ballot("b", "a", "a")})
    assert (first["path"], first["in_favour"]) == ("a", 2)
    assert [(vote["agent"], vote["rank"]) for vote in first["votes"]] == [("x", 1), ("y", 2)]


def test_nothing_found_is_nothing_fused() -> None:
    assert fuse({"x": ballot(), "y": ballot()}) == []
    assert fuse({}) == []
