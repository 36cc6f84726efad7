"""What an implementation has to meet: the numbered paragraphs of the specification, read from its text.

Requirements have the names of their paragraphs (`LEASE-8`); nothing is written down twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

__all__ = ["LEVELS", "TEXTS", "Level", "Requirement", "level_of", "requirements", "specification"]

TEXTS = ("protocol.md", "a2a-binding.md")
"""The files of the specification that have numbered paragraphs."""

_HEADING = re.compile(r"^#{2,3} (?:\d+(?:\.\d+)?\.? )?(.+)$")
_PARAGRAPH = re.compile(r"^\*\*([A-Z]+-\d+)\.\*\* (.+)$", re.DOTALL)


class Level(StrEnum):
    """How binding a requirement is (RFC 2119). A sentence that has none of the words is a promise, and binds."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


LEVELS = tuple(Level)
"""The most binding one first."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One numbered paragraph."""

    name: str
    """Such as `LEASE-8`."""
    section: str
    """The heading it stands under."""
    text: str
    level: Level

    @property
    def area(self) -> str:
        """The part of the name in front of its number: `LEASE`."""
        return self.name.partition("-")[0]


def specification() -> Path:
    """Return the folder with the text of version 1: in an installed package, or in the source tree."""
    package = Path(__file__).parent.parent
    installed = package / "spec" / "v1"
    return installed if installed.is_dir() else package.parent / "spec" / "v1"


@cache
def requirements() -> dict[str, Requirement]:
    """Return every requirement by its name, in the order of the text."""
    found: dict[str, Requirement] = {}
    section = ""
    text = "\n\n".join((specification() / name).read_text(encoding="utf-8") for name in TEXTS)
    for block in text.split("\n\n"):
        if heading := _HEADING.match(block.strip()):
            section = heading[1]
        elif paragraph := _PARAGRAPH.match(block.strip()):
            words = " ".join(paragraph[2].split())
            found[paragraph[1]] = Requirement(paragraph[1], section, words, level_of(words))
    return found


def level_of(words: str) -> Level:
    """Return how binding a paragraph is as a whole: as binding as its most binding sentence."""
    sentences = re.split(r"(?<=[.;:]) ", words)
    said = [re.search(r"\b(MUST|SHOULD|MAY)\b", sentence) for sentence in sentences]
    found = {Level(word[1]) if word else Level.MUST for word in said}
    return next(level for level in LEVELS if level in found)
