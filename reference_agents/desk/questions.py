"""The questions that measure how good the desk is, and where their answers are.

The questions are about documents of this repository and were written before anything could answer them. An expected
passage is named by its file and by some of its words, so that it is still found when lines move. This module knows no
retriever; `evaluate` asks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["DOCUMENTS", "QUESTIONS", "Place", "Question", "flat", "read_questions"]

QUESTIONS: Final = Path(__file__).with_name("questions.json")
DOCUMENTS: Final = ("README.md", "spec/v1/protocol.md", "spec/v1/glossary.md")
"""The documents they are about, relative to the root of the repository."""


@dataclass(frozen=True, slots=True)
class Place:
    """A passage that answers a question."""

    path: str
    text: str
    """Words of the passage, white space folded, that occur only in passages that answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question of the set."""

    kind: str
    """`reworded`: in other words than the text. `typo`: mistyped. `exact`: names as they are written."""
    question: str
    expected: tuple[Place, ...]
    """Any of these answers it."""

    def is_answered_by(self, path: str, passage: str) -> bool:
        """Tell whether a passage is one of those expected."""
        return any(place.path == path and flat(place.text) in flat(passage) for place in self.expected)


def read_questions(path: Path = QUESTIONS) -> Sequence[Question]:
    """Read a question set."""
    return [
        Question(entry["kind"], entry["question"], tuple(Place(**place) for place in entry["expected"]))
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]


def flat(text: str) -> str:
    """Fold white space: line breaks do not matter."""
    return re.sub(r"\s+", " ", text).strip()
