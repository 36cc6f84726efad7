from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from reference_agents.desk.questions import DOCUMENTS, Place, Question, flat, read_questions

ROOT = Path(__file__).parents[4]
SET = read_questions()


@pytest.mark.parametrize("question", SET, ids=lambda question: question.question)
def test_what_is_expected_stands_in_the_documents(question: Question) -> None:
    assert question.expected
    for place in question.expected:
        assert any(Path(place.path).match(pattern) for pattern in DOCUMENTS)
        assert flat(place.text) in flat((ROOT / place.path).read_text(encoding="utf-8")), place


def test_the_set_is_large_and_varied() -> None:
    assert len({question.question for question in SET}) == len(SET) >= 40
    assert min(Counter(question.kind for question in SET).values()) >= 10
    assert {question.kind for question in SET} == {"reworded", "typo", "exact"}


def test_a_passage_answers_by_its_file_and_words_wherever_lines_break() -> None:
    question = Question("exact", "how long?", (Place("a.md", "ten\nminutes"), Place("b.md", "an hour")))
    assert question.is_answered_by("a.md", "it takes ten  minutes")
    assert question.is_answered_by("b.md", "it takes an\nhour")
    assert not question.is_answered_by("b.md", "it takes ten minutes")
    assert not question.is_answered_by("a.md", "it takes ten hours")
