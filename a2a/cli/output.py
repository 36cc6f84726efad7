"""What a command says: results on stdout, everything else on stderr; and nothing an agent wrote moves the terminal.

Text from agents may hold escape sequences that retitle a window, erase what stands above or type into the shell, and
characters that turn the direction of reading. Every text passes `escape` on its way to a terminal.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import click

from .exits import Failure

__all__ = ["Output", "columns_of", "escape", "is_terminal", "number_of", "paused", "table", "to_json", "uses_color"]

_KEPT = {"\u200c", "\u200d"}
"""Joiners: scripts and emoji are written with them, and they do nothing to what stands beside them."""
_DANGEROUS = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}

_COLORS = {
    "completed": "green",
    "ready": "green",
    "ok": "green",
    "failed": "red",
    "rejected": "red",
    "wrong": "red",
    "canceled": "yellow",
    "canceling": "yellow",
    "draining": "yellow",
    "note": "yellow",
    "parked": "magenta",
    "leased": "cyan",
    "reported": "cyan",
}
"""Words that stand out where colours are in use."""


def escape(text: str, *, lines: bool = False) -> str:
    r"""Return the text with what a terminal would act on written as `\x1b`, `\u202e`, ...

    Args:
        text: anything.
        lines: keep line feeds and tabs, for text that is meant to have several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _is_harmless(c) or (lines and c in "\n\t") else _written(c) for c in text)


def _is_harmless(character: str) -> bool:
    return character in _KEPT or unicodedata.category(character) not in _DANGEROUS


def _written(character: str) -> str:
    number = ord(character)
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return the value as JSON that is safe on a terminal, and the same value for whoever parses it."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isascii() and "\x7f" not in text:
        return text
    # A line feed here is the indentation's: those of the value are escaped already.
    return "".join(c if _is_harmless(c) or c == "\n" else _written_in_json(c) for c in text)


def _written_in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Return lines with the cells in columns; with `width` the last column is cut off there."""
    cells = [[escape(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(columns_of(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        padded = [cell + " " * (wide - columns_of(cell)) for cell, wide in zip(row, widths, strict=True)]
        lines.append(_cut("  ".join(padded).rstrip(), width))
    return lines


def number_of(number: int, word: str) -> str:
    """Return so many of what a word names, as in `1 stop` and `2 stops`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def columns_of(text: str) -> int:
    """Return how many columns a terminal gives a text."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in _KEPT:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _cut(text: str, width: int | None) -> str:
    if width is None or columns_of(text) <= width:
        return text
    while text and columns_of(text) > width - 1:
        text = text[:-1]
    return text + "…"


def is_terminal(stream: IO[Any] | None) -> bool:
    """Tell whether somebody looks at what is written there; None is a stream that was closed before we began."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it was closed
        return False


def uses_color(stream: IO[Any] | None) -> bool:
    """Tell whether colours are wanted there (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _echo(text: str | bytes, *, nl: bool = True) -> None:
    """Write to stdout.

    Raises:
        Failure: it was closed before we began, where click would drop the text and nobody would know; or it takes no
            more, as a file on a full disk.
        BrokenPipeError: whoever read it is gone.
    """
    if sys.stdout is None:
        raise Failure("there is no standard output to write to")
    try:
        click.echo(text, nl=nl)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read it has had enough: a command ends without a word, and one that stays with these.
            raise BrokenPipeError(error.errno, "nobody reads the standard output any more") from error
        raise Failure(f"the standard output cannot be written: {error.strerror}") from error


def _tell(text: str) -> None:
    with suppress(OSError):  # they are gone, or their disk is full
        click.echo(escape(text, lines=True), err=True)


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's words go."""

    as_json: bool = False
    is_quiet: bool = False

    def note(self, text: str) -> None:
        """Say something to whoever watches, on stderr; nothing with --quiet, and nothing depends on it."""
        if not self.is_quiet:
            _tell(text)

    def need_person(self, text: str) -> None:
        """Say what does not go on without a person, on stderr, also with --quiet: else nobody would know."""
        _tell(text)

    def line(self, text: str) -> None:
        """Write a line of the result for people."""
        _echo(escape(text, lines=True))

    def record(self, value: Any) -> None:
        """Write one JSON object, on a line of its own."""
        _echo(to_json(value))

    def value(self, value: Any) -> None:
        """Write the value of a task: text as it is, else JSON. What is no terminal gets it untouched."""
        if isinstance(value, bytes):
            if is_terminal(sys.stdout):
                self.note(f"{len(value)} bytes that are no text; write them to a file with > FILE")
            else:
                _echo(value, nl=False)
        elif not isinstance(value, str):
            _echo(to_json(value, indent=2 if is_terminal(sys.stdout) else None))
        elif is_terminal(sys.stdout):
            _echo(escape(value, lines=True))
        else:
            # Through bytes: a stream whose encoding knows fewer characters would refuse, click would drop colours.
            _echo(value.encode("utf-8", "surrogatepass") + b"\n", nl=False)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table for people; without a first line where all headers are empty."""
        import shutil

        width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
        is_colored = uses_color(sys.stdout)
        head, *body = table(headers, rows, width=width)
        if head:
            _echo(click.style(head, bold=True) if is_colored else head)
        for line in body:
            _echo(self.colored(line) if is_colored else line)

    @staticmethod
    def colored(line: str) -> str:
        """Return a line, escaped before, with the words for states in colour."""
        return "".join(click.style(part, fg=_COLORS[part]) if part in _COLORS else part for part in _words(line))


def _words(line: str) -> list[str]:
    """Split a line into words and the spaces between them."""
    parts: list[str] = []
    for character in line:
        if parts and (character == " ") == (parts[-1][-1] == " "):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


@contextmanager
def paused(live: Any) -> Iterator[None]:
    """Take a moving display of `rich` off the terminal for the time of the block, so that something can be asked.

    What is told meanwhile takes it off as well, and does not bring it back over the question.
    """
    was_moving = live.is_started
    live.stop()
    try:
        yield
    finally:
        if was_moving:
            live.start()
