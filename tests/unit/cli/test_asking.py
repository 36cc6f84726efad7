"""Asking the person at the terminal."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import click
import pytest

from a2a.cli.asking import ask_person, can_ask, choose, question_lines, read_line

BOUND = 20


def test_a_question_is_shown_with_its_options_and_moves_nothing() -> None:
    assert question_lines({"question": "sure\x1b[2J?", "options": ["y\x07", 2], "schema": {"type": "string"}}) == [
        "sure\\x1b[2J?",
        "  1  y\\x07",
        "  2  2",
        '  an answer of this form: {"type": "string"}',
    ]
    assert question_lines("just a text") == ["just a text"]
    assert question_lines({"other": 1}) == ['{"other": 1}']
    assert question_lines([1]) == ["[1]"]


@pytest.mark.parametrize(
    ("text", "options", "chosen"),
    [
        ("b", ["a", "b"], "b"),
        ("2", ["a", "b"], "b"),
        ("2", ["2", "1"], "2"),
        ("3", ["a", "b"], None),
        ("0", ["a", "b"], None),
        ("c", ["a", "b"], None),
        ("10", [10, 20], 10),
        ("²", ["a", "b"], None),
        ("0", ["a", "b"], None),
        ("3", ["a", "b"], None),
        ("9" * 5000, ["a", "b"], None),  # more digits than Python takes for a number
        ("1e999", [10, 20], None),
        ("reject: too much: all of it", ["reject", "reject: FEEDBACK"], "reject: too much: all of it"),
        ("reject", ["reject", "reject: FEEDBACK"], "reject"),
        ("reject:", ["reject", "reject: FEEDBACK"], None),
        ("2", ["reject", "reject: FEEDBACK"], None),
        ("reject: too much", ["reject", "Grade: A", "at: noon"], None),
        ("2", ["reject", "Grade: A"], "Grade: A"),
    ],
)
def test_an_option_is_named_or_numbered(text: str, options: list[Any], chosen: Any) -> None:
    assert choose(text, options) == chosen


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Standard input, to type into."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", stdin)

        def write(text: str) -> None:
            keyboard.write(text.encode())

        yield write


async def test_a_question_is_put_again_until_the_answer_is_an_option(
    typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Any] = []
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append(await ask_person("main-1", {"question": "sure?", "options": ["yes", "no"]}))

            group.start_soon(ask)
            typed("maybe\n")
            while "please" not in capsys.readouterr().err:
                await anyio.lowlevel.checkpoint()
            typed("2\n")
    assert answers == ["no"]


async def test_a_question_without_options_takes_anything(typed: Callable[[str], None]) -> None:
    typed('{"a": 1}\n')
    assert await ask_person("main-1", "what?") == {"a": 1}


async def test_enter_alone_answers_nothing(typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[Any] = []
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append(await ask_person("main-1", "what?"))

            group.start_soon(ask)
            for line in ("\n", "   \n", "well\n"):
                while not capsys.readouterr().err.endswith("> "):
                    await anyio.lowlevel.checkpoint()
                assert answers == []
                typed(line)
    assert answers == ["well"]


async def test_what_no_value_stands_for_is_asked_again(
    typed: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    answers: list[Any] = []
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                answers.append(await ask_person("main-1", "how many?"))

            group.start_soon(ask)
            typed("1e999\n")
            while "JSON has no form for inf: please give another answer\n" not in capsys.readouterr().err:
                await anyio.lowlevel.checkpoint()
            typed("9\n")
    assert answers == [9]


async def test_a_cancelled_question_leaves_the_line_to_the_next(typed: Callable[[str], None]) -> None:
    with anyio.move_on_after(0):
        await read_line()
    typed("for the next\n")
    with anyio.fail_after(BOUND):
        assert await read_line() == "for the next\n"


async def test_the_end_of_input_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with anyio.fail_after(BOUND), pytest.raises(click.Abort):
            await read_line()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_somebody_can_be_asked_where_both_ends_are_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert can_ask()
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert not can_ask()
