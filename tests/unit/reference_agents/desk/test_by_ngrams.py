from __future__ import annotations

from collections.abc import Callable

import pytest

from reference_agents.desk import by_ngrams as module
from reference_agents.desk.by_ngrams import NgramIndex, ngrams_of
from reference_agents.desk.passages import Passage

LINES = Callable[..., list[str]]


def test_a_word_is_its_letters_in_a_row_with_its_edges() -> None:
    assert list(ngrams_of("The Ice")) == [" ic", "ice", "ce ", " ice", "ice "]
    assert list(ngrams_of("a-9")) == [" 9 ", " 9 "]


def test_a_mistyped_word_is_found(passages: list[Passage], lines_of: LINES) -> None:
    index = NgramIndex(passages)
    assert lines_of(index.rank("hartbeat"))[0] == "lease.md:11"
    assert lines_of(index.rank("pengiuns"))[0] == "birds.txt:1"


def test_a_passage_of_the_question_alone_is_as_near_as_can_be(lines_of: LINES) -> None:
    passages = [Passage("a", 1, 1, "", text) for text in ("lease", "lease of the penguins", "penguins")]
    ranked = NgramIndex(passages).rank("lease")
    assert [number for number, _ in ranked] == [0, 1]
    own, other = (score for _, score in ranked)
    assert own / other == pytest.approx(1 / 0.71, rel=0.35), "a cosine: what else is said makes it less near"
    assert own > other


def test_only_so_many_are_ranked_as_a_ballot_takes(passages: list[Passage], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOUND_MAX", 2)
    assert len(NgramIndex(passages).rank("lease")) == 2
