"""A retriever that goes by words: BM25 over each passage and the headings above it."""

from __future__ import annotations

from collections.abc import Sequence

from ..bm25 import Bm25
from .passages import Passage
from .retrieving import Scored, retriever
from .words import words_of

__all__ = ["WordIndex", "agent"]


class WordIndex:
    """Passages by the words in them."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._bm25 = Bm25([*words_of(passage.heading), *words_of(passage.text)] for passage in passages)

    def rank(self, question: str) -> Sequence[Scored]:
        """Rank passages by the words they share with a question."""
        return [(found.index, found.score) for found in self._bm25.rank(words_of(question))]


agent = retriever("desk-words", "Finds passages by their words (BM25).", WordIndex)

if __name__ == "__main__":
    agent.main()
