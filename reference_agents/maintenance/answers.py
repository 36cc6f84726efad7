"""Answers of a model: asked for once, read strictly, and sent back once with what was wrong.

The caller decides what is acceptable. This module knows the two forms of an answer: a diff, and JSON that matches a
schema. It knows no tasks and trusts nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import jsonschema
from referencing import Registry

from a2a import AttemptFailed

from ..chat import Chat, Message

__all__ = ["Unusable", "answer", "read_diff", "read_json"]

DETAIL_CHARS_MAX: Final = 1000
"""Characters of the complaint about an answer: git lists every hunk."""
BLOCK: Final = re.compile(r"^```[^\S\n]*([\w-]*)[^\S\n]*\n(.*?)^```", re.M | re.S)
REPAIR: Final = "This cannot be used: {reason}\nAnswer again, the whole of it, in the form you were asked for."
"""Enough for a model that only slipped; one that slips twice will slip a third time."""

T = TypeVar("T")


class Unusable(Exception):
    """What is wrong with an answer, in words for the model that gave it."""


async def answer(chat: Chat, system: str, question: str, read: Callable[[str], Awaitable[T]]) -> T:
    """Ask a model, and return what was read from its answer.

    Args:
        read: reads an answer, or raises `Unusable`; then the model may repair the answer once.

    Raises:
        AttemptFailed: the repaired answer is useless too (`bad_answer`), or there is none.
    """
    messages: list[Message] = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    said = await chat.say(messages)
    try:
        return await read(said)
    except Unusable as exc:
        reason = str(exc)[:DETAIL_CHARS_MAX]
    messages += [
        {"role": "assistant", "content": said},
        {"role": "user", "content": REPAIR.format(reason=reason)},
    ]
    try:
        return await read(await chat.say(messages))
    except Unusable as exc:
        detail = f"the model's answer is no use, nor was it before: {str(exc)[:DETAIL_CHARS_MAX]}"
        raise AttemptFailed(detail, code="bad_answer") from exc


def read_diff(text: str) -> bytes:
    """Return the unified diff in an answer: its blocks named `diff` or `patch`, or all of it.

    Raises:
        Unusable: there is none.
    """
    blocks = [body for name, body in BLOCK.findall(text) if name.lower() in {"diff", "patch"}]
    diff = "".join(blocks) if blocks else text.lstrip("\n")
    if not re.match(r"diff --git |--- ", diff):
        raise Unusable("there is no unified diff in it")
    return (diff if diff.endswith("\n") else f"{diff}\n").encode()


def read_json(text: str, schema: Mapping[str, Any]) -> Any:
    """Return the JSON value in an answer: its only block, or all of it.

    Raises:
        Unusable: there is none, or it does not match the schema; the text says where.
    """
    blocks = [body for _, body in BLOCK.findall(text)]
    try:
        value = json.loads(blocks[0] if len(blocks) == 1 else text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise Unusable("there is half of a surrogate pair in it") from exc
    except (ValueError, RecursionError) as exc:
        raise Unusable(f"it is not JSON: {exc}") from exc
    # An empty registry: a schema must never make this process fetch anything.
    for error in jsonschema.Draft202012Validator(schema, registry=Registry()).iter_errors(value):
        where = "/".join(str(part) for part in error.absolute_path) or "the value"
        raise Unusable(f"{where}: {error.message}")
    return value
