"""Values that somebody typed or has in a file."""

from __future__ import annotations

from typing import Any

import click
import pytest

from a2a.cli.values import checked, decoded, parse_json, parse_value, quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ('"1"', "1"), ("true", True), ("yes", "yes"), ("[1", "[1"), ("NaN", "NaN"), ("", ""), ("{}", {})],
)
def test_what_was_typed_is_json_where_it_parses(text: str, value: Any) -> None:
    assert parse_value(text) == value


NO_VALUES = {
    "12345678901234567890": "12345678901234567890 is beyond 2\\*\\*53 - 1: send it as a string",
    "1e999": "JSON has no form for inf",
    '{"a": -1e999}': "JSON has no form for -inf",
    '"\\ud800"': "lone surrogate",
    "\udcff": "lone surrogate",
    "[" * 3000 + "]" * 3000: "this JSON is nested too deeply",
    '{"a":' * 3000 + "1" + "}" * 3000: "this JSON is nested too deeply",
}
"""What no value stands for, and what is said to it."""


@pytest.mark.parametrize("text", NO_VALUES, ids=[text[:12] for text in NO_VALUES])
def test_what_no_value_stands_for_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError, match=NO_VALUES[text]):
        parse_value(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": }\n', 'f: expected JSON: expected a value at line 2, column 7\n     "b": }\n          ^'),
        (
            "[1 2]",
            "expected a comma, or a closing bracket or brace at line 1, column 4\n    [1 2]\n       ^",
        ),
        ("{a: 1}", "f: expected JSON: expected a name in double quotes at line 1, column 2\n    {a: 1}\n     ^"),
        ('{"a":\n  [1,\n\n', "f: expected JSON: expected a value at line 2, column 6\n      [1,\n         ^"),
        ("", "f: expected JSON: expected a value at line 1, column 1\n    \n    ^"),
        ('["\x1b\t"]', 'an escape for this control character at line 1, column 3\n    ["\\x1b\\t"]\n      ^'),
        ('["\u5b57", x]', 'expected a value at line 1, column 7\n    ["\u5b57", x]\n           ^'),
        ('["\u202e", x]', 'expected a value at line 1, column 7\n    ["\\u202e", x]\n               ^'),
        ("NaN", "f: expected JSON: NaN is not JSON"),
        ("[1e999]", "f.0: JSON has no form for inf"),
    ],
)
def test_where_json_goes_wrong_is_shown_with_its_line(text: str, said: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parse_json(text, "f")
    assert refused.value.message.endswith(said)


def test_of_a_long_line_only_what_is_around_the_place_is_shown() -> None:
    with pytest.raises(click.UsageError) as refused:
        parse_json(f"[{'1,' * 100_000} x, {'2,' * 100_000}2]", "f")
    *_, line, caret = refused.value.message.splitlines()
    assert len(line) < 80 and line.strip(" ").startswith("…") and line.endswith("…")
    assert line[caret.index("^")] == "x"


def test_json_behind_a_byte_order_mark_is_json() -> None:
    assert parse_json('\ufeff{"a": 1}', "f") == {"a": 1}


def test_a_text_that_begins_as_json_and_is_none_is_told() -> None:
    told: list[str] = []
    for text in ("[1", ' {"a": 1, b}', "[draft] x", "plain", "1e", '"a"', "[1]"):
        parse_value(text, "VALUE", told.append)
    assert [note.partition(" at line")[0] for note in told] == [
        "VALUE: not JSON, so it is taken as text: expected a comma, or a closing bracket or brace",
        "VALUE: not JSON, so it is taken as text: expected a name in double quotes",
        "VALUE: not JSON, so it is taken as text: expected a value",
    ]


def test_a_byte_that_is_no_text_is_shown_with_its_line() -> None:
    assert decoded("\u00fc\n".encode(), "f") == "\u00fc\n"
    with pytest.raises(click.UsageError) as refused:
        decoded("one\nz\u00fcr".encode() + b"\xff!\nthree", "f")
    said = "f: expected text in UTF-8, got the byte 0xff at line 2, column 4"
    assert refused.value.message == f"{said}\n    z\u00fcr\\xff!\n       ^"


def test_what_cannot_be_sent_is_named_with_its_place() -> None:
    with pytest.raises(click.UsageError, match=r"^--x\.a\.1: JSON has no form for nan"):
        checked({"a": [1, float("nan")]}, "--x")


def test_what_is_quoted_is_no_longer_than_a_line() -> None:
    assert (quoted("a=\n"), len(quoted("x" * 10_000))) == ("'a=\\n'", 62)
