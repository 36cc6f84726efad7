"""Cited passages that contradict each other: sentences in nearly the same words, with other figures or an added "not".

It sees nothing else. It does not understand words, so it misses contradictions that are phrased differently, and its
findings are for a person to look at: it cannot know which is true. It knows no folder, and of agents only their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from .shapes import Citation, Fact
from .words import words_of

__all__ = ["contradicting", "sentences", "speakers"]

SIDES: Final = 2
"""Nobody decides between them, so a conflict is complete with two sides: a third would be in it only sometimes."""
SHARED_MIN: Final = 3
"""The fewest words that two sentences must share: shorter ones are alike by chance."""
ALIKE: Final = 0.75
"""The share of all their words that two sentences must have in common to be about the same."""

END: Final = re.compile(r"(?<=[.!?;])\s+")
MARK: Final = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")
FIGURE: Final = re.compile(r"(?<![\w.,-])\d(?:[\d,_]*\d)?(?:\.\d+)?(?!\d|[.,]\d|-\w)")
NEGATION: Final = re.compile(r"\b(?:not|never|no|cannot)\b|n't\b", re.I)


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    words: frozenset[str]
    figures: tuple[str, ...]
    is_negated: bool

    @property
    def says(self) -> str:
        return " ".join([*self.figures, *(["not"] if self.is_negated else [])])


def contradicting(question: str, citations: Sequence[Citation]) -> list[Fact]:
    """Return facts of citations that contradict each other, each in the words of its document: none or two.

    The first contradicted citation decides what they are about.
    """
    asked = set(words_of(question))
    read = [[_read(text) for text in sentences(citation["quote"])] for citation in citations]
    for number, citation in enumerate(citations):
        for sentence in read[number]:
            if not asked & sentence.words:
                continue
            facts = {sentence.says: _fact(citation, sentence)}
            for later in range(number + 1, len(citations)):
                for other in read[later]:
                    if _contradicts(sentence, other):
                        facts.setdefault(other.says, _fact(citations[later], other))
            if len(facts) > 1:
                return list(facts.values())[:SIDES]
    return []


def speakers(facts: Sequence[Fact], citations: Sequence[Citation], agents: Sequence[str]) -> dict[str, int]:
    """Assign agents to facts: one to each fact, and each other agent to the fact that it ranks highest.

    Returns:
        Agent to the number of its fact; empty if there are fewer agents than facts.
    """
    if len(agents) < len(facts):
        return {}
    ranks: list[dict[str, int]] = []
    for fact in facts:
        [votes] = [one["votes"] for one in citations if (one["path"], one["line"]) == (fact["path"], fact["line"])][:1]
        ranks.append({vote["agent"]: vote["rank"] for vote in votes})
    chosen: dict[str, int] = {}
    for number, by_agent in enumerate(ranks):
        free = [agent for agent in agents if agent not in chosen]
        chosen[min(free, key=lambda agent: (by_agent.get(agent, inf), agent))] = number
    for agent in agents:
        if agent not in chosen:
            chosen[agent] = min(range(len(facts)), key=lambda number: (ranks[number].get(agent, inf), number))
    return chosen


def sentences(passage: str) -> Iterator[str]:
    """Yield the sentences of a passage, white space folded; a row of a table is one sentence."""
    for text in END.split(" ".join(MARK.sub("", passage).split())):
        if text:
            yield text


def _read(text: str) -> _Sentence:
    words = frozenset(words_of(NEGATION.sub(" ", FIGURE.sub(" ", text))))
    figures = tuple(figure.replace(",", "").replace("_", "") for figure in FIGURE.findall(text))
    return _Sentence(text, words, figures, NEGATION.search(text) is not None)


def _contradicts(one: _Sentence, other: _Sentence) -> bool:
    shared = len(one.words & other.words)
    if shared < SHARED_MIN or shared < ALIKE * len(one.words | other.words):
        return False
    if one.figures == other.figures:
        return one.is_negated != other.is_negated
    return one.is_negated == other.is_negated and len(one.figures) == len(other.figures)


def _fact(citation: Citation, sentence: _Sentence) -> Fact:
    return Fact(
        path=citation["path"], line=citation["line"], end=citation["end"], quote=sentence.text, says=sentence.says
    )
