"""How the ballots of several retrievers become one ranking, and which retrievers support a passage.

Reciprocal rank fusion (Cormack, Clarke and Buettcher, Reciprocal Rank Fusion outperforms Condorcet and individual Rank
Learning Methods, SIGIR 2009): only ranks count, since scores of different methods mean different things. The result
depends only on the ballots, not on their order or on who came first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from .shapes import Ballot, Citation, Vote

__all__ = ["FIRST", "fuse", "is_carried"]

K: Final = 60
"""From the paper: how little it matters whether a passage is first or second."""
FIRST: Final = 3
"""A retriever supports its passages up to this rank: as many as a person reads before asking again."""

Place = tuple[str, int, int, str]
"""The identity of a find: path, lines, and words, which may have changed meanwhile."""


def fuse(ballots: Mapping[str, Ballot]) -> list[Citation]:
    """Fuse ballots, by agent, into one ranking, the best first.

    Equal scores are ordered by path and line.
    """
    cited: dict[Place, Citation] = {}
    for agent in sorted(ballots):
        for rank, found in enumerate(ballots[agent]["found"], 1):
            place = (found["path"], found["line"], found["end"], found["quote"])
            if place not in cited:
                cited[place] = Citation(
                    path=found["path"], line=found["line"], end=found["end"], heading=found["heading"],
                    quote=found["quote"], score=0.0, votes=[], in_favour=0,
                )  # fmt: skip
            citation = cited[place]
            if citation["votes"] and citation["votes"][-1]["agent"] == agent:
                continue  # a long line has equal pieces at the same place: one vote, for the best
            citation["votes"].append(Vote(agent=agent, rank=rank))
            citation["in_favour"] += rank <= FIRST
    for citation in cited.values():
        # Summed exactly, so that the same ranks give the same score, whichever agent gave which rank.
        citation["score"] = math.fsum(1 / (K + vote["rank"]) for vote in citation["votes"])
    return sorted(cited.values(), key=lambda one: (-one["score"], one["path"], one["line"], one["quote"]))


def is_carried(citation: Citation, heard: int) -> bool:
    """Tell whether more than half of the retrievers that were heard support a passage."""
    return 2 * citation["in_favour"] > heard
