from __future__ import annotations

import math

import pytest

from reference_agents.bm25 import Bm25


def test_rare_words_count_more_than_common_ones_and_long_documents_less() -> None:
    index = Bm25([["common"] * 3, ["common", "rare"], ["common", "rare", *["filler"] * 5], ["nothing"]])
    ranked = index.rank(["common", "rare"])
    assert [found.index for found in ranked] == [1, 2, 0]
    assert ranked[0].matches == ("rare", "common")


def test_the_score_is_that_of_the_formula() -> None:
    [found] = Bm25([["a", "a", "b"], ["c"]]).rank(["a", "zebra"])
    weight, norm = math.log(1 + 1.5 / 1.5), 1.2 * (0.25 + 0.75 * 3 / 2)
    assert found.score == pytest.approx(weight * 2 * 2.2 / (2 + norm))


def test_a_word_of_the_query_counts_once_and_equals_stay_in_order() -> None:
    index = Bm25([["a"], ["a"], ["b"]])
    assert index.rank(["a", "a"]) == index.rank(["a"])
    assert [found.index for found in index.rank(["a"])] == [0, 1]


def test_nothing_shared_is_nothing_found() -> None:
    assert Bm25([["a"]]).rank(["b"]) == []
    assert Bm25([]).rank(["a"]) == []
    assert Bm25([[]]).rank(["a"]) == []
