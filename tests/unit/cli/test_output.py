"""What reaches a terminal, and how."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2a.cli.exits import Failure
from a2a.cli.output import Output, escape, is_terminal, number_of, table, to_json, uses_color


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, ümläute, 漢字, 👩\u200d💻", "plain words, ümläute, 漢字, 👩\u200d💻"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\nc\td\x7f", "a\\rb\\nc\\td\\x7f"),
        ("\u202egnp.exe\u2066", "\\u202egnp.exe\\u2066"),
        ("\u2028\u2029\ufeff\xad", "\\u2028\\u2029\\ufeff\\xad"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_act_on_is_written_out(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_text_of_several_lines_keeps_them_but_no_carriage_return() -> None:
    assert escape("a\n\tb\rc", lines=True) == "a\n\tb\\rc"


@given(st.text())
def test_nothing_that_is_escaped_moves_a_terminal(text: str) -> None:
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in escape(text))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3))
def test_json_is_safe_and_the_same_value(value: object) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert escape(text) == text


def test_json_of_several_lines_is_safe_too() -> None:
    value = {"a": "\x7f\u202e\U000e0041\n", "b": [1]}
    text = to_json(value, indent=2)
    assert json.loads(text) == value
    assert text.splitlines()[0] == "{"
    assert escape(text, lines=True) == text


def test_a_table_has_columns_by_the_width_that_is_seen() -> None:
    assert table(("A", "B"), [("漢字", "x"), ("abc", "y\n"), ("e\u0301", "z")]) == [
        "A     B",
        "漢字  x",
        "abc   y\\n",
        "e\u0301     z",
    ]


def test_a_table_is_cut_where_the_terminal_ends() -> None:
    assert table(("A", "B"), [("x", "y" * 100)], width=10)[1] == "x  yyyyyy…"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_color_is_for_terminals_and_those_who_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert uses_color(Terminal())
    assert not uses_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not uses_color(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not uses_color(Terminal())


def test_a_closed_stream_is_no_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)
    assert not is_terminal(None)
    assert not uses_color(None)


def test_a_result_that_can_be_written_nowhere_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    ways: list[Callable[[], None]] = [
        lambda: Output().line("x"),
        lambda: Output().record("x"),
        lambda: Output().value("x"),
        lambda: Output().value(b"x"),
        lambda: Output().value([1]),
        lambda: Output().table(("A",), [("x",)]),
    ]
    for write in ways:
        with pytest.raises(Failure, match="no standard output"):
            write()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_a_full_disk_is_told_of_a_result_and_stops_nobody_who_only_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(Failure, match="the standard output cannot be written: No space left"):
            Output().line("x")
        monkeypatch.setattr(sys, "stderr", full)
        Output().note("x")
        with contextlib.suppress(OSError):  # what it keeps to write is dropped
            full.close()


def test_words_for_states_are_colored_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Output.colored("a  failed  b") == "a  \x1b[31mfailed\x1b[0m  b"


def test_notes_go_to_stderr_and_not_at_all_with_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Output().note("one\x1b")
    Output(is_quiet=True).note("two")
    assert capsys.readouterr() == ("", "one\\x1b\n")


def test_a_text_is_untouched_where_no_terminal_is(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    Output().value("\x1b[31mü")
    Output().value({"a": "\x1b"})
    Output().value(b"\xff\x00")
    assert capsysbinary.readouterr().out == b'\x1b[31m\xc3\xbc\n{"a": "\\u001b"}\n\xff\x00'


def test_a_text_is_escaped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    Output().value("a\n\x1b[31m")
    Output().value([1])
    assert terminal.getvalue() == "a\n\\x1b[31m\n[\n  1\n]\n"


def test_bytes_are_not_written_to_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    Output().value(b"\x1b[31m")
    assert terminal.getvalue() == ""
    assert "5 bytes" in capsys.readouterr().err


def test_a_table_on_a_terminal_has_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().table(("A",), [("failed",)])
    assert terminal.getvalue() == "\x1b[1mA\x1b[0m\n\x1b[31mfailed\x1b[0m\n"


def test_one_is_told_as_one() -> None:
    assert [number_of(count, "stop") for count in (0, 1, 2)] == ["0 stops", "1 stop", "2 stops"]


def test_a_table_without_headers_has_no_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("", ""), [("a", "b")])
    assert capsys.readouterr().out == "a  b\n"
