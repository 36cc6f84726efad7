"""BM25: how well documents match some words, weighted by the words' rarity and the documents' lengths.

Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond (2009). The caller decides what a word
and a document are. The squads' retrievers use it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["Bm25", "Ranked"]

K1: Final = 1.2
B: Final = 0.75
"""The usual constants; nothing here is special enough to tune them."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """How well a document matches a query."""

    index: int
    score: float
    matches: tuple[str, ...]
    """The words it shares with the query, the rarest first."""


class Bm25:
    """An index that is built once and queried often."""

    def __init__(self, documents: Iterable[Iterable[str]]) -> None:
        self._holders: dict[str, dict[int, int]] = {}
        """Word to the documents that contain it, and how often."""
        self._lengths: list[int] = []
        for index, words in enumerate(documents):
            counts = Counter(words)
            self._lengths.append(counts.total())
            for word, count in counts.items():
                self._holders.setdefault(word, {})[index] = count
        self._average = sum(self._lengths) / len(self._lengths) if self._lengths else 0.0

    def rank(self, query: Iterable[str]) -> list[Ranked]:
        """Rank the documents, the best first; those that share no word with the query are left out."""
        wanted = sorted(set(query) & self._holders.keys(), key=lambda word: (len(self._holders[word]), word))
        scores: dict[int, float] = {}
        matches: dict[int, list[str]] = {}
        for word in wanted:
            holders = self._holders[word]
            weight = math.log(1 + (len(self._lengths) - len(holders) + 0.5) / (len(holders) + 0.5))
            for index, count in holders.items():
                norm = K1 * (1 - B + B * self._lengths[index] / self._average)
                scores[index] = scores.get(index, 0.0) + weight * count * (K1 + 1) / (count + norm)
                matches.setdefault(index, []).append(word)
        ranked = [Ranked(index, score, tuple(matches[index])) for index, score in scores.items()]
        return sorted(ranked, key=lambda found: (-found.score, found.index))
