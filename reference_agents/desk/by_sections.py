"""A retriever that goes by a passage's surroundings: how likely its section would produce the question.

Query likelihood with Dirichlet smoothing (Zhai and Lafferty, 2001): words that a passage lacks are estimated from its
section, and then from all documents. So a short passage is found by what is said around it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from .passages import Passage
from .retrieving import Scored, retriever
from .words import words_of

__all__ = ["SectionIndex", "agent"]

PASSAGE_MU: Final = 50.0
"""Weight of the section when mixed with a passage, in words: about as many as the passage has."""
SECTION_MU: Final = 500.0
"""Weight of all documents when mixed with a section, in words."""


class SectionIndex:
    """Passages and their sections, by the counts of their words."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._sections = [(passage.path, passage.heading) for passage in passages]
        self._by_passage = [Counter(words_of(passage.text)) for passage in passages]
        self._by_section: dict[tuple[str, str], Counter[str]] = {}
        for section, counts in zip(self._sections, self._by_passage, strict=True):
            if section not in self._by_section:
                self._by_section[section] = Counter(words_of(section[1]))
            self._by_section[section].update(counts)
        self._everything: Counter[str] = Counter()
        for counts in self._by_section.values():
            self._everything.update(counts)
        self._lengths = [counts.total() for counts in self._by_passage]
        self._section_lengths = {section: counts.total() for section, counts in self._by_section.items()}
        self._total = self._everything.total()

    def rank(self, question: str) -> Sequence[Scored]:
        """Rank passages by how likely they produce the question; a section with none of its words is left out."""
        wanted = [word for word in words_of(question) if self._everything[word]]
        around = {
            section: [self._in_section(section, counts, word) for word in wanted]
            for section, counts in self._by_section.items()
            if any(word in counts for word in wanted)
        }
        scored = []
        for number, (section, counts) in enumerate(zip(self._sections, self._by_passage, strict=True)):
            if section in around:
                length = self._lengths[number] + PASSAGE_MU
                said = [counts[word] + PASSAGE_MU * p for word, p in zip(wanted, around[section], strict=True)]
                scored.append((number, sum(math.log(weight / length) for weight in said)))
        return sorted(scored, key=lambda one: (-one[1], one[0]))

    def _in_section(self, section: tuple[str, str], counts: Counter[str], word: str) -> float:
        everywhere = self._everything[word] / self._total
        return (counts[word] + SECTION_MU * everywhere) / (self._section_lengths[section] + SECTION_MU)


agent = retriever("desk-sections", "Finds passages by what is said around them.", SectionIndex)

if __name__ == "__main__":
    agent.main()
