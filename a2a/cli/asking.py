"""Asks the person at the terminal a task's question."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from .output import escape, is_terminal, to_json
from .values import parse_value

__all__ = ["ask_person", "can_ask", "question_lines", "read_answer", "read_line", "read_text"]


def can_ask() -> bool:
    """Tell whether a person at the terminal can answer."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def question_lines(question: Any) -> list[str]:
    """Return a question for a person to read, whether `TaskContext.ask` made it or it is any other JSON value."""
    if not isinstance(question, dict):
        return [escape(question if isinstance(question, str) else to_json(question), lines=True)]
    lines = [escape(str(question.get("question", to_json(question))), lines=True)]
    options = question.get("options")
    if isinstance(options, list):
        lines += [f"  {number}  {escape(str(option))}" for number, option in enumerate(options, 1)]
    if question.get("schema") is not None:
        lines.append(f"  an answer of this form: {to_json(question['schema'])}")
    return lines


async def ask_person(who: str, question: Any) -> Any:
    """Put a question to the person at the terminal, and return the answer; repeat it until the answer is an option."""
    options = question.get("options") if isinstance(question, dict) else None
    for line in (f"{escape(who)} asks:", *question_lines(question)):
        click.echo(line, err=True)
    while True:
        text = await read_answer("> ")
        if not isinstance(options, list) or not options:
            try:
                return parse_value(text)
            except click.UsageError as error:
                click.echo(escape(f"{error.message}: please give another answer"), err=True)
                continue
        chosen = choose(text, options)
        if chosen is not None:
            return chosen
        click.echo(f"please give one of the options, or its number{how_to_fill(options)}", err=True)


def choose(text: str, options: list[Any]) -> Any:
    """Return the option a person chose, by its words or its number, or one such as `reject: FEEDBACK` filled in.

    None if it is none of them.
    """
    for option in options:
        if text == option or (not isinstance(option, str) and _parsed(text) == option):
            return option
    if (place := place_of(text, options)) is not None:
        return None if stem_of(options[place]) else options[place]  # nobody means the placeholder itself
    stems = [stem for stem in map(stem_of, options) if stem]
    return text if any(text.startswith(stem) and text != stem for stem in stems) else None


def place_of(text: str, options: Sequence[Any]) -> int | None:
    """Return the index of the option whose number a person typed; None if no option has it."""
    return next((place for place in range(len(options)) if text == str(place + 1)), None)


def stem_of(option: Any) -> str:
    """Return `reject:` of `reject: FEEDBACK`, whose last word is to be filled in; an empty text for other options."""
    match = re.fullmatch(r"(.*\S:) [A-Z]{2,}", option) if isinstance(option, str) else None
    return match[1] if match else ""


def how_to_fill(options: list[Any]) -> str:
    """Return how to answer with an option that has to be filled in, if there is one."""
    return next((f" (`{stem_of(option)} ...` with your own words)" for option in options if stem_of(option)), "")


def _parsed(text: str) -> Any:
    """Return typed text as `parse_value` does, or unchanged if it has no value."""
    try:
        return parse_value(text)
    except click.UsageError:
        return text


async def read_answer(prompt: str) -> str:
    """Return the next line that a person types and that is not empty: Enter alone may be a slip, and answers nothing.

    Raises:
        Abort: stdin has ended.
    """
    while not (text := await read_text(prompt)):
        pass
    return text


async def read_text(prompt: str) -> str:
    """Return the next line that a person types, which may be empty; errors are those of `read_line`."""
    click.echo(prompt, nl=False, err=True)
    return (await read_line()).strip()


async def read_line() -> str:
    """Return the next line of stdin. Cancelling leaves the line to the next reader, because no thread waits for it.

    Raises:
        Abort: stdin has ended.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    line = sys.stdin.readline()  # a terminal is ready when a whole line is
    if not line:
        raise click.Abort
    return line
