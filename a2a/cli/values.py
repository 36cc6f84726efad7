"""Values that somebody typed or has in a file: JSON if it parses, else text; errors show the place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import click

from ..content import json_payload
from .output import columns_of, escape

__all__ = ["checked", "decoded", "parse_json", "parse_value", "quoted"]

_CONTEXT: Final = 36
"""Characters shown on either side of an error."""
_QUOTED_MAX: Final = 60
_SAID: Final = {
    "Expecting value": "expected a value",
    "Expecting property name enclosed in double quotes": "expected a name in double quotes",
    "Expecting ':' delimiter": "expected a colon",
    "Expecting ',' delimiter": "expected a comma, or a closing bracket or brace",
    "Extra data": "expected the end of the text",
    "Unterminated string starting at": "this string has no end",
    "Invalid control character at": "expected an escape for this control character",
    "Illegal trailing comma before end of object": "expected another name, or no comma",
    "Illegal trailing comma before end of array": "expected another value, or no comma",
}
"""The parser's words, with clearer ones for some errors."""


def parse_value(text: str, what: str = "", note: Callable[[str], None] | None = None) -> Any:
    """Return typed text as a value: JSON if it parses, else the text itself.

    Args:
        text: the typed text.
        what: the name of the argument or option, for messages.
        note: told of a text that begins like a JSON object or array, with the place of its error.

    Raises:
        UsageError: it is JSON without a value, such as an infinite number, or it is not a text.
    """
    try:
        value = _loaded(text, what)
    except json.JSONDecodeError as error:
        if note is not None and text.lstrip()[:1] in ("{", "["):
            note(f"{_named(what)}not JSON, so it is taken as text: {_told(error)}")
        value = text
    except ValueError:
        value = text
    return checked(value, what)


def parse_json(text: str, what: str) -> Any:
    """Return the value of a JSON text.

    Args:
        what: the source of the text, for the error.

    Raises:
        UsageError: it is not JSON (the error shows the place), or has no value.
    """
    try:
        value = _loaded(text, what)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"{_named(what)}expected JSON: {_told(error)}") from error
    except ValueError as error:
        raise click.UsageError(f"{_named(what)}expected JSON: {error}") from error
    return checked(value, what)


def decoded(content: bytes, what: str, *, wanted: str = "text") -> str:
    """Return the contents of a file with UTF-8 text.

    Args:
        what: the source, for the error.
        wanted: what was expected there, for the error.

    Raises:
        UsageError: it is not UTF-8; the error shows the place.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line = content[error.start - len(before.rpartition("\n")[2].encode()) :].partition(b"\n")[0]
        where = _shown(before, line.decode("utf-8", "backslashreplace"))
        said = f"expected {wanted} in UTF-8, got the byte 0x{content[error.start]:02x}"
        raise click.UsageError(f"{_named(what)}{said} {where}") from error


def checked(value: Any, what: str = "") -> Any:
    """Return a typed value unchanged after checking it.

    Args:
        what: the name of the argument or option, for the error.

    Raises:
        UsageError: it cannot be sent.
    """
    try:
        json_payload(value, what)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return value


def quoted(text: str) -> str:
    """Return typed text in quotes, cut off if it is long."""
    return repr(text if len(text) <= _QUOTED_MAX else text[: _QUOTED_MAX - 1] + "…")


def _loaded(text: str, what: str) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"), parse_constant=_no_constant)  # some editors write this mark
    except RecursionError as error:
        raise click.UsageError(f"{_named(what)}this JSON is nested too deeply") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _named(what: str) -> str:
    return f"{what}: " if what else ""


def _told(error: json.JSONDecodeError) -> str:
    """Return what makes a text invalid JSON, and where."""
    # If it ends too soon, the place is after its last character.
    before = error.doc[: error.pos] if error.doc[error.pos :].strip() else error.doc.rstrip()
    line = error.doc[before.rfind("\n") + 1 :].partition("\n")[0]
    return f"{_SAID.get(error.msg, error.msg[:1].lower() + error.msg[1:])} {_shown(before, line)}"


def _shown(before: str, line: str) -> str:
    """Return a place as its line and column, with as much of the line as fits a terminal, and a caret.

    Args:
        before: the text up to the place.
        line: the whole line that the place is in.
    """
    at = len(before) - before.rfind("\n") - 1
    first = max(0, at - _CONTEXT)
    head = ("…" if first else "") + escape(line[first:at])
    tail = escape(line[at : at + _CONTEXT]) + ("…" if len(line) > at + _CONTEXT else "")
    place = f"at line {before.count(chr(10)) + 1}, column {at + 1}"
    return f"{place}\n    {head}{tail}\n    {' ' * columns_of(head)}^"
