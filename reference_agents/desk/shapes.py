"""The payloads that the agents of the desk pass to each other.

Every retriever is given the same input and answers in the same shape, so that their ballots can be counted against each
other.
"""

from __future__ import annotations

# pydantic makes the schemas of the skills, and on Python 3.11 it takes only this TypedDict.
from typing_extensions import TypedDict

__all__ = ["Answer", "Ballot", "Citation", "Fact", "Found", "Skipped", "Unheard", "Vote"]


class Skipped(TypedDict):
    """A file that was not read."""

    path: str
    why: str


class Found(TypedDict):
    """A passage, as a retriever found it."""

    path: str
    line: int
    """The first line, from 1."""
    end: int
    """The last line."""
    heading: str
    """The headings above it."""
    quote: str
    score: float
    """By the retriever's own measure; scores of different retrievers mean different things."""


class Ballot(TypedDict):
    """What a retriever found for a question."""

    found: list[Found]
    """The best first."""
    searched: int
    """Number of documents."""
    skipped: list[Skipped]
    """Only the first ones."""
    skipped_total: int
    content: str
    """The digest of what was searched."""


class Vote(TypedDict):
    """Where a retriever had a passage."""

    agent: str
    rank: int
    """From 1."""


class Citation(TypedDict):
    """A passage that the squad answers with."""

    path: str
    line: int
    end: int
    heading: str
    quote: str
    score: float
    """The fused score."""
    votes: list[Vote]
    """By agent: every retriever that found it at all."""
    in_favour: int
    """How many retrievers had it among their first."""


class Fact(TypedDict):
    """A sentence of a cited passage that another one contradicts."""

    path: str
    line: int
    """The first line of the passage, from 1."""
    end: int
    quote: str
    """The sentence, white space folded."""
    says: str
    """Its figures, and whether it has a "not": the part in which the other facts differ."""


class Unheard(TypedDict):
    """A retriever that did not answer."""

    agent: str
    why: str


class Answer(TypedDict):
    """What the squad says to a question."""

    question: str
    text: str
    """For people."""
    is_carried: bool
    """Whether more than half of the retrievers that were heard have the first citation among their first."""
    citations: list[Citation]
    heard: list[str]
    unheard: list[Unheard]
    searched: int
    skipped: list[Skipped]
    skipped_total: int
    contradicting: list[Fact]
    """Citations that contradict each other; none, or two."""
    conflict: str
    """The conflict that was opened about them; empty if there is none."""
    has_changed: bool
    """Whether the retrievers read different contents: somebody wrote to the folder meanwhile."""
