"""The output of commands: results on stdout, everything else on stderr; no text from an agent controls the terminal.

Text from agents may hold escape sequences that retitle a window, erase earlier lines or type into the shell, and
characters that change the direction of reading. All text goes through `escape` on its way to a terminal.
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
"""Joiners: scripts and emoji need them, and they do not affect neighbouring text."""
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
"""Words that are coloured if colours are in use."""


def escape(text: str, *, lines: bool = False) -> str:
    r"""Return the text with everything a terminal would act on written as `\x1b`, `\u202e`, ...

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
    """Return the value as JSON that is safe on a terminal, and that parses to the same value."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isascii() and "\x7f" not in text:
        return text
    # A line feed here comes from the indentation: those in the value are already escaped.
    return "".join(c if _is_harmless(c) or c == "\n" else _written_in_json(c) for c in text)


def _written_in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None = None) -> list[str]:
    """Return lines with the cells in columns; `width` cuts off the last column."""
    cells = [[escape(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(columns_of(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        padded = [cell + " " * (wide - columns_of(cell)) for cell, wide in zip(row, widths, strict=True)]
        lines.append(_cut("  ".join(padded).rstrip(), width))
    return lines


def number_of(number: int, word: str) -> str:
    """Return a number with its noun, as in `1 stop` and `2 stops`."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def columns_of(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
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
    """Tell whether the stream is a terminal; None is a stream that was closed before we began."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # the stream is closed
        return False


def uses_color(stream: IO[Any] | None) -> bool:
    """Tell whether colours are wanted on a stream (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _echo(text: str | bytes, *, nl: bool = True) -> None:
    """Write to stdout.

    Raises:
        Failure: stdout was closed before we began, in which case click would silently drop the text; or it accepts no
            more, as a file on a full disk.
        BrokenPipeError: its reader is gone.
    """
    if sys.stdout is None:
        raise Failure("there is no standard output to write to")
    try:
        click.echo(text, nl=nl)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader has had enough: a command ends silently, except one that stays, which reports this.
            raise BrokenPipeError(error.errno, "nobody reads the standard output any longer") from error
        raise Failure(f"the standard output cannot be written: {error.strerror}") from error


def _tell(text: str) -> None:
    with suppress(OSError):  # the reader is gone, or the disk is full
        click.echo(escape(text, lines=True), err=True)


@dataclass(frozen=True, slots=True)
class Output:
    """Writes a command's output."""

    as_json: bool = False
    is_quiet: bool = False

    def note(self, text: str) -> None:
        """Write a message to stderr for people who watch; nothing with --quiet, and nothing depends on it."""
        if not self.is_quiet:
            _tell(text)

    def need_person(self, text: str) -> None:
        """Write what needs a person to stderr, even with --quiet: else nobody would know."""
        _tell(text)

    def line(self, text: str) -> None:
        """Write a line of the result for people."""
        _echo(escape(text, lines=True))

    def record(self, value: Any) -> None:
        """Write one JSON object, on a line of its own."""
        _echo(to_json(value))

    def value(self, value: Any) -> None:
        """Write the value of a task: text as it is, else JSON. It is escaped only for a terminal."""
        if isinstance(value, bytes):
            if is_terminal(sys.stdout):
                self.note(f"{len(value)} bytes that are not text; write them to a file with > FILE")
            else:
                _echo(value, nl=False)
        elif not isinstance(value, str):
            _echo(to_json(value, indent=2 if is_terminal(sys.stdout) else None))
        elif is_terminal(sys.stdout):
            _echo(escape(value, lines=True))
        else:
            # As bytes: a stream with a smaller encoding would refuse some characters, and click would drop colours.
            _echo(value.encode("utf-8", "surrogatepass") + b"\n", nl=False)

    def table(self, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table for people; without a header line if all headers are empty."""
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
        """Return an escaped line with the words for states in colour."""
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
    """Take a moving display of `rich` off the terminal inside the block, so that something can be asked.

    Output in the meantime also takes it off, and does not bring it back over the question.
    """
    was_moving = live.is_started
    live.stop()
    try:
        yield
    finally:
        if was_moving:
            live.start()
