"""`a2a mcp`: what it refuses, and what it says when an extra is missing. Real processes are in tests/process."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from a2a.cli.mcp import _text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--wait", "0"), "--wait"),
        (("--wait", "x"), "--wait"),
        (("--acceptance", "delegator"), "--acceptance"),
        (("--token-file", "none"), "Invalid value for --token-file: none: "),
    ],
)
def test_what_cannot_be_run_is_a_usage_error_before_anything_is_read(
    command: Any, arguments: tuple[str, ...], named: str
) -> None:
    done = command("mcp", *arguments)
    assert (done.code, done.out) == (2, "")
    assert named in done.err


def test_there_is_no_token_among_the_arguments(command: Any) -> None:
    assert command("mcp", "--token", "secret").code == 2


def test_without_the_extra_it_says_what_to_install(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    done = command("mcp")
    assert (done.code, done.out) == (1, "")
    assert done.err == "a2a: `a2a mcp` needs mcp: pip install 'a2a-coordinator[mcp]'\n"


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (b"caf\xc3\xa9 \\u00e9 \\n", "caf\xe9 \xe9 \n"),
        (b"\\uD83D\\ude00", "\U0001f600"),
        (b"cut \\ud83d", "cut \ufffd"),
        (b"\\ude00 cut", "\ufffd cut"),
        (b"\\ud83d\\ud83d\\ude00", "\ufffd\U0001f600"),
        (b"\\\\ud83d", r"\ud83d"),
        (b"\\\\\\ud83d", "\\\ufffd"),
        (b"\xff", "\ufffd"),
    ],
)
def test_half_a_character_is_replaced_as_a_request_with_it_would_have_no_answer(written: bytes, text: str) -> None:
    assert json.loads(_text(b'"%b"' % written)) == text
