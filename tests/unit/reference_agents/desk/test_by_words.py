from __future__ import annotations

from collections.abc import Callable

from reference_agents.desk.by_words import WordIndex
from reference_agents.desk.passages import Passage

LINES = Callable[..., list[str]]


def test_a_passage_is_found_by_its_heading_and_by_other_forms_of_its_words(
    passages: list[Passage], lines_of: LINES
) -> None:
    index = WordIndex(passages)
    assert lines_of(index.rank("begins")) == ["lease.md:10", "lease.md:11"]
    assert lines_of(index.rank("holders, heartbeats"))[:2] == ["lease.md:11", "lease.md:5"]


def test_a_mistyped_word_finds_nothing(passages: list[Passage]) -> None:
    assert WordIndex(passages).rank("hartbeat") == []
