"""A retriever that goes by sequences of letters: n-grams, weighted by tf-idf, compared by their cosine.

Mistyped words and other forms of a word still share most n-grams. (Damashek, Gauging Similarity with n-Grams, 1995.)
"""

from __future__ import annotations

import heapq
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from .passages import Passage
from .retrieving import FOUND_MAX, Scored, retriever
from .words import ASKING

__all__ = ["NgramIndex", "agent", "ngrams_of"]

SIZES: Final = (3, 4)
WORD: Final = re.compile(r"[^\W_]+")


class NgramIndex:
    """Passages by the n-grams of their words."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        # Arrays: a passage has some 400 n-grams, and as objects they would take ten times the memory.
        self._holders: dict[str, array[int]] = {}
        self._weights: dict[str, array[float]] = {}
        self._size = len(passages)
        for number, passage in enumerate(passages):
            for gram, count in Counter(ngrams_of(f"{passage.heading} {passage.text}")).items():
                self._holders.setdefault(gram, array("I")).append(number)
                self._weights.setdefault(gram, array("f")).append(1 + math.log(count))
        squares = array("d", bytes(8 * len(passages)))
        for gram, holders in self._holders.items():
            rarity, weights = self._rarity(gram), self._weights[gram]
            for at, number in enumerate(holders):
                weights[at] *= rarity
                squares[number] += weights[at] ** 2
        self._lengths = array("d", map(math.sqrt, squares))

    def rank(self, question: str) -> Sequence[Scored]:
        """Rank passages by the n-grams they share with a question."""
        scores: dict[int, float] = {}
        for gram, count in Counter(ngrams_of(question)).items():
            if gram in self._holders:
                weight = (1 + math.log(count)) * self._rarity(gram)
                for number, other in zip(self._holders[gram], self._weights[gram], strict=True):
                    scores[number] = scores.get(number, 0.0) + weight * other
        cosines = ((number, score / self._lengths[number]) for number, score in scores.items())
        return heapq.nsmallest(FOUND_MAX, cosines, key=lambda scored: (-scored[1], scored[0]))

    def _rarity(self, gram: str) -> float:
        return math.log((1 + self._size) / (1 + len(self._holders[gram]))) + 1


def ngrams_of(text: str) -> Iterator[str]:
    """Yield the n-grams of each word of a text; blanks mark the edges of a word."""
    for word in WORD.findall(text.lower()):
        if word in ASKING:
            continue
        padded = f" {word} "
        for size in SIZES:
            for start in range(max(1, len(padded) - size + 1)):
                yield padded[start : start + size]


agent = retriever("desk-ngrams", "Finds passages by letters in a row, mistyped ones too.", NgramIndex)

if __name__ == "__main__":
    agent.main()
