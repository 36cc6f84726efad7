"""A retriever that goes by the company a passage keeps: how likely its section would put the question so.

Query likelihood with Dirichlet smoothing (Zhai and Lafferty, 2001): what a passage does not say itself, its section and
then all documents say for it. So a short passage is found by what is said around it.
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
"""Words of its section that a passage is mixed with: about as many as it has itself."""
SECTION_MU: Final = 500.0
"""Words of everything that a section is mixed with."""


class SectionIndex:
    """Passages and their sections, by how often they use which word."""

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
        """Rank passages by how likely they make the question; a section without a word of it is left out."""
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
