from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from reference_agents.desk.by_sections import PASSAGE_MU, SECTION_MU, SectionIndex
from reference_agents.desk.passages import Passage

LINES = Callable[..., list[str]]


def test_a_passage_is_found_by_what_is_said_around_it(lines_of: LINES, passages: list[Passage]) -> None:
    index = SectionIndex(passages)
    assert lines_of(index.rank("heartbeat")) == ["lease.md:11", "lease.md:10"]
    assert lines_of(index.rank("begin offer"))[0] == "lease.md:10"


def test_the_score_is_that_of_the_formula() -> None:
    passages = [
        Passage("a", 1, 1, "x", "lease lapses"),
        Passage("a", 2, 2, "x", "offer"),
        Passage("b", 1, 1, "y", "bird"),
    ]
    [(first, score), _] = SectionIndex(passages).rank("lapses")
    everywhere = 1 / 6
    section = (1 + SECTION_MU * everywhere) / (4 + SECTION_MU)
    assert first == 0
    assert score == pytest.approx(math.log((1 + PASSAGE_MU * section) / (2 + PASSAGE_MU)))


def test_words_nobody_uses_change_nothing(passages: list[Passage]) -> None:
    index = SectionIndex(passages)
    assert index.rank("heartbeat zebra") == index.rank("heartbeat")
