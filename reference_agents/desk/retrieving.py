"""What all retrievers share: an agent with the skills of the desk, around an index and its ranking.

A retriever is a way to build an index and to rank the passages in it. All retrievers are asked the same, so that their
finds can be counted against each other; none knows who else is asked, or what follows. If documents contradict each
other, each retriever is told which one to speak for, and checks whether the document still says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio.to_thread

from a2a import Agent, AttemptFailed, TaskContext

from .contradictions import sentences
from .passages import Passage
from .shapes import Ballot, Fact, Found
from .shelf import Shelf

__all__ = ["FOUND_MAX", "Index", "Scored", "retriever"]

FOUND_MAX: Final = 30
"""Passages on a ballot; later ones no longer decide anything."""
SKIPPED_MAX: Final = 20
"""How many unread files to name; all are counted."""
QUESTION_MAX: Final = 2_000
"""Characters of a question that count."""
AT_ONCE: Final = 4

Scored = tuple[int, float]
"""Number of a passage, and how well it matches."""


class Index(Protocol):
    """What a retriever makes of the passages of a folder."""

    def rank(self, question: str) -> Sequence[Scored]:
        """Return the matching passages, the best first; equal ones in the order of the documents."""


def retriever(name: str, description: str, build: Callable[[Sequence[Passage]], Index]) -> Agent:
    """Make an agent that retrieves with its own kind of index."""
    agent = Agent(name, version="1.0", description=description, concurrency=AT_ONCE)
    shelf = Shelf(build)

    @agent.skill(tags=["desk"])
    async def find_passages(question: str, folder: str, task: TaskContext, only: list[str] | None = None) -> Ballot:
        """Find the passages in a folder of documents that answer a question."""
        if not question.strip():
            raise AttemptFailed("a question is needed", code="no_question")
        await task.progress(0.0, "reading")
        volume = await shelf.take(folder, only or ())
        await task.progress(0.5, f"looking through {len(volume.passages)} passages")
        ranked = await anyio.to_thread.run_sync(volume.index.rank, question[:QUESTION_MAX])
        return Ballot(
            found=[_found(volume.passages[number], score) for number, score in ranked[:FOUND_MAX]],
            searched=volume.searched,
            skipped=list(volume.skipped[:SKIPPED_MAX]),
            skipped_total=len(volume.skipped),
            content=volume.digest,
        )

    @agent.skill(tags=["desk"])
    async def state_fact(
        facts: list[Fact], speakers: dict[str, int], folder: str, task: TaskContext, only: list[str] | None = None
    ) -> Fact:
        """State the fact, of some that contradict each other, that this agent speaks for."""
        number = speakers.get(agent.name, -1)
        if not 0 <= number < len(facts):
            raise AttemptFailed(f"{agent.name} speaks for none of them", code="no_speaker")
        fact = facts[number]
        volume = await shelf.take(folder, only or ())
        for passage in volume.passages:
            if passage.path == fact["path"] and fact["quote"] in sentences(passage.text):
                return Fact(
                    path=fact["path"], line=passage.line, end=passage.end, quote=fact["quote"], says=fact["says"]
                )
        raise AttemptFailed(f"{fact['path']} does not say so any more", code="gone")

    return agent


def _found(passage: Passage, score: float) -> Found:
    return Found(
        path=passage.path, line=passage.line, end=passage.end, heading=passage.heading, quote=passage.text,
        score=round(score, 6),
    )  # fmt: skip
