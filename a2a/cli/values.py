"""Values that somebody typed or has in a file: JSON where it parses, else text; and where in it something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import click

from ..content import json_payload
from .output import columns_of, escape

__all__ = ["checked", "decoded", "parse_json", "parse_value", "quoted"]

_CONTEXT: Final = 36
"""Characters that are shown on either side of what is wrong."""
_QUOTED_MAX: Final = 60
_SAID: Final = {
    "Expecting value": "expected a value",
    "Expecting property name enclosed in double quotes": "expected a name in double quotes",
    "Expecting ':' delimiter": "expected a colon",
    "Expecting ',' delimiter": "expected a comma or the end of what is open",
    "Extra data": "expected the end of the text",
    "Unterminated string starting at": "this string does not end",
    "Invalid control character at": "expected a control character as an escape",
    "Illegal trailing comma before end of object": "expected another name, or no comma",
    "Illegal trailing comma before end of array": "expected another value, or no comma",
}
"""The parser's words, where others are clearer."""


def parse_value(text: str, what: str = "", note: Callable[[str], None] | None = None) -> Any:
    """Return what was typed as a value: JSON where it parses, else the text itself.

    Args:
        text: what was typed.
        what: the name of the argument or option, for what is said.
        note: told of a text that begins as a JSON object or array, where it goes wrong as one.

    Raises:
        UsageError: it is JSON that no value stands for, as a number without end, or no text.
    """
    try:
        value = _loaded(text, what)
    except json.JSONDecodeError as error:
        if note is not None and text.lstrip()[:1] in ("{", "["):
            note(f"{_named(what)}taken as a text, it is no JSON: {_told(error)}")
        value = text
    except ValueError:
        value = text
    return checked(value, what)


def parse_json(text: str, what: str) -> Any:
    """Return the value that a JSON text stands for.

    Args:
        what: where it is from, for the error.

    Raises:
        UsageError: it is no JSON, and where it is not; or no value stands for it.
    """
    try:
        value = _loaded(text, what)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"{_named(what)}expected JSON: {_told(error)}") from error
    except ValueError as error:
        raise click.UsageError(f"{_named(what)}expected JSON: {error}") from error
    return checked(value, what)


def decoded(content: bytes, what: str, *, wanted: str = "text") -> str:
    """Return what is in a file, which is text in UTF-8.

    Args:
        what: where it is from, for the error.
        wanted: what was expected there, likewise.

    Raises:
        UsageError: it is none, and where it is not.
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
    """Return a value that somebody typed, as it is.

    Args:
        what: the name of the argument or option, for the error.

    Raises:
        UsageError: it cannot be sent.
    """
    try:
        json_payload(value, what)
    except RecursionError as error:
        raise click.UsageError(_too_deep(what)) from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return value


def quoted(text: str) -> str:
    """Return what was typed in quotes, cut off where it is long."""
    return repr(text if len(text) <= _QUOTED_MAX else text[: _QUOTED_MAX - 1] + "…")


def _loaded(text: str, what: str) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"), parse_constant=_no_constant)  # which some editors write
    except RecursionError as error:
        raise click.UsageError(_too_deep(what)) from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _too_deep(what: str) -> str:
    return f"{_named(what)}this JSON is nested too deep"


def _named(what: str) -> str:
    return f"{what}: " if what else ""


def _told(error: json.JSONDecodeError) -> str:
    """Return what is wrong with a text as JSON, and where."""
    # Where it ends too soon, that is behind what stands there last.
    before = error.doc[: error.pos] if error.doc[error.pos :].strip() else error.doc.rstrip()
    line = error.doc[before.rfind("\n") + 1 :].partition("\n")[0]
    return f"{_SAID.get(error.msg, error.msg[:1].lower() + error.msg[1:])} {_shown(before, line)}"


def _shown(before: str, line: str) -> str:
    """Return a place as its line and column, with so much of the line as a terminal has room for, and a caret.

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
