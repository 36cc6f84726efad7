"""A document as passages: paragraphs, list items, rows of tables and blocks of code, each with its lines and heading.

Markdown is parsed only as far as this needs, and other text as paragraphs; nothing is rendered. A passage is what an
answer cites. This module knows no files and no questions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from .shapes import Skipped

__all__ = ["Passage", "cut", "cut_all"]

PASSAGES_MAX: Final = 20_000
"""Passages of a folder. This bounds every index; a specification of 1,700 lines has 500."""
CHARACTERS_MAX: Final = 2_000
"""Characters of a passage: a longer one is cut into several, at ends of lines if it has any."""

FENCE: Final = re.compile(r"\s*(```+|~~~+)")
HEADING: Final = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
UNDERLINE: Final = re.compile(r"(=+|-+)\s*$")
ITEM: Final = re.compile(r"\s*([-*+]|\d+[.)])\s+\S")
RULE: Final = re.compile(r"[\s|:=+-]+$")
"""The line between a table's head and its body, and any other line that is only drawn."""


@dataclass(frozen=True, slots=True)
class Passage:
    """Some lines of a document that belong together."""

    path: str
    line: int
    """The first line, from 1."""
    end: int
    """The last line."""
    heading: str
    """The headings above it, outermost first."""
    text: str


def cut_all(documents: Iterable[tuple[str, str]]) -> tuple[list[Passage], list[Skipped]]:
    """Cut documents into passages, in order, as many as an index takes; also return the documents that do not fit."""
    passages: list[Passage] = []
    skipped: list[Skipped] = []
    for path, text in documents:
        pieces = list(cut(path, text))
        if len(passages) + len(pieces) > PASSAGES_MAX:
            skipped.append(Skipped(path=path, why=f"the folder has more than {PASSAGES_MAX} passages"))
        else:
            passages += pieces
    return passages, skipped


def cut(path: str, text: str) -> Iterator[Passage]:
    """Cut a document into passages. A heading is not a passage; it stands above passages."""
    headings: dict[int, str] = {}
    for block in _blocks(_lines(text)):
        level, words = _as_heading(block)
        if level:
            headings = {above: heading for above, heading in headings.items() if above < level} | {level: words}
        elif any(not RULE.match(line) for line in block.lines):
            yield from _sized(path, block, " / ".join(headings[above] for above in sorted(headings)))


def _lines(text: str) -> list[str]:
    """Return the lines as editors count them: `splitlines` would also end one at a form feed or U+2028."""
    return [line.removesuffix("\n") for line in io.StringIO(text, newline=None)]


@dataclass(slots=True)
class _Block:
    line: int
    lines: list[str]
    is_code: bool = False


def _blocks(lines: list[str]) -> Iterator[_Block]:
    """Yield blocks of lines that belong together; only code has blank lines."""
    block: _Block | None = None
    fence = ""
    for number, line in enumerate(lines, 1):
        if fence and block is not None:
            block.lines.append(line)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                yield block
                block, fence = None, ""
            continue
        opening = FENCE.match(line)
        if block is not None and (opening or not line.strip() or _begins_anew(block, line)):
            yield block
            block = None
        if opening:
            fence, block = opening[1], _Block(number, [line], is_code=True)
        elif line.strip():
            if block is None:
                block = _Block(number, [])
            block.lines.append(line)
    if block is not None:
        yield block


def _begins_anew(block: _Block, line: str) -> bool:
    """Tell whether a line begins a new block."""
    above = block.lines[-1]
    if len(block.lines) == 2 and UNDERLINE.match(above):
        return True
    return bool(_is_row(line) or _is_row(above) or HEADING.match(line) or HEADING.match(above) or ITEM.match(line))


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _as_heading(block: _Block) -> tuple[int, str]:
    """Return the level and words of a block that is a heading, else level 0."""
    if block.is_code:
        return 0, ""
    found = HEADING.match(block.lines[0])
    if found:
        return len(found[1]), found[2]
    if len(block.lines) == 2 and UNDERLINE.match(block.lines[1]):
        return (1 if block.lines[1].startswith("=") else 2), block.lines[0].strip()
    return 0, ""


def _sized(path: str, block: _Block, heading: str) -> Iterator[Passage]:
    """Yield a whole block, or pieces of it that are not too long."""
    first, held, size = block.line, list[str](), 0
    for number, line in enumerate(block.lines, block.line):
        for start in range(0, max(1, len(line)), CHARACTERS_MAX):
            piece = line[start : start + CHARACTERS_MAX]
            if held and size + len(piece) > CHARACTERS_MAX:
                yield Passage(path, first, number - (start == 0), heading, "\n".join(held))
                held, size = [], 0
            if not held:
                first = number
            held.append(piece)
            size += len(piece) + 1
    yield Passage(path, first, block.line + len(block.lines) - 1, heading, "\n".join(held))
