from __future__ import annotations

import pytest

from reference_agents.desk.words import stem, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The lease of an agent", ["lease", "agent"]),
        ("leaseMs", ["leasems", "lease", "ms"]),
        ("task.delegate", ["task.delegate", "task", "delegate"]),
        ("LEASE-9", ["lease-9", "lease", "9"]),
        ("an_idea", ["an_idea", "idea"]),
        ("Größe über Straße", ["größe", "über", "straße"]),
        ("`WAL`, ...", ["wal"]),
        ("who is it", []),
    ],
)
def test_words_are_what_is_left_without_small_ones(text: str, words: list[str]) -> None:
    assert [word for word in words_of(text) if len(word) > 1 or word.isdigit()] == words


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("leases", "lease"), ("queries", "query"), ("agents", "agent"), ("status", "status"), ("loss", "loss"),
        ("goes", "goe"), ("is", "is"), ("trees", "tree"),
    ],
)  # fmt: skip
def test_plurals_are_taken_off(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed
