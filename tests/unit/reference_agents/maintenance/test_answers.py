"""What is read from a model's answer, and what a model is told that cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.chat import Chat, Settings
from reference_agents.maintenance.answers import DETAIL_CHARS_MAX, Unusable, answer, read_diff, read_json
from tests.endpoint import Reply, endpoint

SCHEMA = {
    "type": "object",
    "properties": {"size": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}}},
    "required": ["size"],
    "additionalProperties": False,
}
DIFF = "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"


async def number(text: str) -> int:
    if not text.isdecimal():
        raise Unusable(f"{text!r} is no number")
    return int(text)


async def ask(*replies: Reply | str, read: Any = number) -> tuple[Any, list[list[dict[str, str]]], int]:
    used: list[int] = []

    def use(*, tokens: int) -> None:
        used.append(tokens)

    with endpoint(*replies) as here:
        async with Chat(Settings(here.url, "stand-in"), used=use) as chat:
            value = await answer(chat, "be brief", "how many?", read)
    return value, [request.messages for request in here.requests], len(used)


async def test_an_answer_that_can_be_read_is_asked_for_once() -> None:
    value, asked, used = await ask("42")
    assert (value, used) == (42, 1)
    assert asked == [[{"role": "system", "content": "be brief"}, {"role": "user", "content": "how many?"}]]


async def test_a_slip_is_repaired_once_with_what_was_wrong() -> None:
    value, [first, second], used = await ask("many", "7")
    assert (value, used) == (7, 2)
    assert second[:2] == first
    assert second[2] == {"role": "assistant", "content": "many"}
    assert second[3]["role"] == "user"
    assert "'many' is no number" in second[3]["content"]


async def test_a_second_slip_is_a_failed_attempt_that_says_why() -> None:
    with pytest.raises(AttemptFailed, match="no use, nor was it before: 'very many' is no number") as caught:
        await ask("many", "very many", "7")
    assert (caught.value.error_code, caught.value.retryable) == ("bad_answer", False)


async def test_a_long_list_of_what_is_wrong_is_cut() -> None:
    _, [_, second], _ = await ask("m" * 100_000, "7")
    assert len(second[3]["content"]) < DETAIL_CHARS_MAX + 200
    with pytest.raises(AttemptFailed) as caught:
        await ask("m" * 100_000)
    assert len(caught.value.detail) < DETAIL_CHARS_MAX + 200


@pytest.mark.parametrize(
    "text",
    [
        DIFF,
        f"\n{DIFF.rstrip()}",
        f"Here it is:\n```diff\n{DIFF}```\nI hope that helps.",
        f"```patch\n{DIFF}```",
        f"The old code:\n```python\nx = 1\n```\nThe diff:\n``` diff\n{DIFF}```\n",
    ],
)
def test_a_diff_is_found_in_its_block_or_alone(text: str) -> None:
    assert read_diff(text).decode() == DIFF


def test_several_blocks_are_one_diff() -> None:
    other = DIFF.replace("a.py", "b.py")
    assert read_diff(f"```diff\n{DIFF}```\nand\n```diff\n{other}```").decode() == DIFF + other


@pytest.mark.parametrize("text", ["Just delete it.", "```python\nx = 2\n```", "```diff\nx = 2\n```", ""])
def test_no_diff_is_told(text: str) -> None:
    with pytest.raises(Unusable, match="no unified diff"):
        read_diff(text)


@pytest.mark.parametrize("text", ['{"size": 3}', '```json\n{"size": 3}\n```', 'So:\n```\n{"size": 3}\n```\n'])
def test_json_is_found_in_its_block_or_alone(text: str) -> None:
    assert read_json(text, SCHEMA) == {"size": 3}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("three", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ('{"size": 3, "names": ["\\ud800"]}', "there is half of a surrogate pair in it"),
        ("3", "the value: 3 is not of type 'object'"),
        ('{"size": "3"}', "size: '3' is not of type 'integer'"),
        ('{"size": 3, "names": ["a", 1]}', "names/1: 1 is not of type 'string'"),
        ('{"size": 3, "more": 1}', "Additional properties are not allowed"),
    ],
)
def test_what_is_wrong_with_json_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        read_json(text, SCHEMA)
