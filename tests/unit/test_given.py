from __future__ import annotations

import dataclasses
import enum
import math
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from inspect import isawaitable
from pathlib import Path
from typing import Any

import anyio
import pytest

import a2a
from a2a import Agent, LinkSettings, TaskContext
from a2a.errors import Malformed
from a2a.given import mapped, milliseconds, milliseconds_if_any, require_kind, several, text, whole
from a2a.testing import Squad, squad

BOUND = 60.0


@pytest.mark.parametrize("given, expected", [(1, 1_000), (0.0015, 2), (timedelta(minutes=1), 60_000), (-1, -1_000)])
def test_times_travel_in_milliseconds(given: float | timedelta, expected: int) -> None:
    assert milliseconds(given, "deadline") == expected


@pytest.mark.parametrize("given", ["soon", None, float("inf"), float("nan")])
def test_what_is_no_time_is_named(given: Any) -> None:
    with pytest.raises(ValueError, match="^deadline: expected a number of seconds, got"):
        milliseconds(given, "deadline")


def test_nobody_is_told_to_leave_out_a_time_without_an_end() -> None:
    """What is left out has a default: a claim then does not wait at all."""
    with pytest.raises(ValueError, match="^wait: expected a number of seconds, got inf$"):
        milliseconds(float("inf"), "wait")


def test_a_time_that_was_left_out_stays_so() -> None:
    assert milliseconds_if_any(None, "deadline") is None
    assert milliseconds_if_any(1.5, "deadline") == 1_500
    with pytest.raises(ValueError, match="^deadline: expected a number of seconds, got"):
        milliseconds_if_any(float("nan"), "deadline")


def test_several_are_a_list_and_no_text() -> None:
    assert several(("a", "b"), "tags") == ["a", "b"]
    with pytest.raises(ValueError, match="^tags: expected a list, got the text 'ab'$"):
        several("ab", "tags")
    with pytest.raises(ValueError, match="^resolve: expected a list, got the map {'strategy': 'human'}$"):
        several({"strategy": "human"}, "resolve")  # type: ignore[arg-type]
    for given in (b"ab", Path("/x"), 7):
        with pytest.raises(ValueError, match="^tags: expected a list, got "):
            several(given, "tags")  # type: ignore[arg-type]


def test_what_is_of_another_kind_is_named_with_what_came() -> None:
    assert mapped({"a": 1}, "labels") == {"a": 1}
    assert whole(7, "copies") == 7
    assert require_kind("main-1", str, "task") == "main-1"
    for check, words in (
        (lambda: mapped("a=1", "labels"), "labels: expected a map, got 'a=1'"),  # type: ignore[arg-type]
        (lambda: whole(1.5, "copies"), "copies: expected a whole number, got 1.5"),  # type: ignore[arg-type]
        (lambda: whole(True, "copies"), "copies: expected a whole number, got True"),
        (lambda: require_kind(None, str, "task"), "task: expected a text, got None"),
        (lambda: require_kind("x", Agent, "agents"), "agents: expected Agent, got 'x'"),
    ):
        with pytest.raises(ValueError) as raised:
            check()
        assert str(raised.value) == words


def test_what_is_said_can_be_sent_whatever_it_was_and_however_long() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise KeyError("no")

    assert text("half \ud800", 100) == "half \\ud800"
    assert text("long", 3) == "lon"
    assert text(7, 100) == "7"
    assert text(Broken(), 100) == "str() of this Broken raised KeyError"


# What users give ------------------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1


class Scalar:
    """As a number of an array library is one."""

    def __index__(self) -> int:
        return 3


@dataclasses.dataclass
class Point:
    x: int = 1


async def not_awaited() -> None: ...


def yielding() -> Iterator[int]:
    yield 1


class _Known:
    """What the calls below are made with."""

    def __init__(self, running: Squad, task: TaskContext) -> None:
        self.client = running.client
        self.shared = running.client.context("c")
        self.settings = running.settings
        self.task = task


NEITHER: tuple[Any, ...] = (
    Path("/x"), math.nan, 1.5, Decimal("1.5"), Color.RED, Scalar(), Point(), {1}, datetime(2026, 1, 1), not_awaited,
    yielding(), object(), 2**60, True, "\ud800",
)  # fmt: skip
"""What is neither a text that travels nor a whole number that does, nor a list or a map of either."""
NO_TEXT = (*NEITHER, 7, ["a"], {"a": 1})
NO_NUMBER = (*NEITHER, "7", "", b"7", [7], {"a": 7})
NO_TIME = ("7", math.nan, math.inf, Path("/x"), Decimal("1.5"), datetime(2026, 1, 1), Scalar(), [7])
NO_LIST = ("ab", b"ab", 7, 1.5, {"a": 1}, Path("/x"), object(), not_awaited)
NO_MAP = ("ab", b"ab", 7, ["a"], {1}, Path("/x"), object(), not_awaited)
NO_JSON = (math.nan, object(), not_awaited, Scalar(), [1, math.inf], {"a": {"b": object()}}, {"a": {1: 2}}, 2**60)
NO_FUNCTION = ("ab", 7, None, Path("/x"), yielding())

WRONG: list[tuple[tuple[Any, ...], str, Callable[[_Known, Any], Any]]] = [
    (NO_TEXT, "skill", lambda it, wrong: it.client.delegate(wrong)),
    (NO_TEXT, "key", lambda it, wrong: it.client.delegate("s", key=wrong)),
    (NO_JSON, "input", lambda it, wrong: it.client.delegate("s", wrong)),
    (NO_TEXT, "evaluator", lambda it, wrong: it.client.delegate("s", acceptance=wrong)),
    (NO_TEXT, "agent", lambda it, wrong: it.client.delegate("s", to=wrong)),
    (NO_LIST, "tags", lambda it, wrong: it.client.delegate("s", tags=wrong)),
    (NO_TEXT, "tags.0", lambda it, wrong: it.client.delegate("s", tags=[wrong])),
    (NO_MAP, "labels", lambda it, wrong: it.client.delegate("s", labels=wrong)),
    (NO_TEXT, "labels.a", lambda it, wrong: it.client.delegate("s", labels={"a": wrong})),
    (NO_LIST, "exclude", lambda it, wrong: it.client.delegate("s", exclude=wrong)),
    (NO_NUMBER[:-5], "priority", lambda it, wrong: it.client.delegate("s", priority=wrong)),
    (NO_TEXT, "effect", lambda it, wrong: it.client.delegate("s", effect=wrong)),
    (NO_TIME, "deadline", lambda it, wrong: it.client.delegate("s", deadline=wrong)),
    ((-1, timedelta(days=-1), 1e300), "deadline", lambda it, wrong: it.client.delegate("s", deadline=wrong)),
    (NO_NUMBER, "attempts", lambda it, wrong: it.client.delegate("s", attempts=wrong)),
    (NO_NUMBER, "losses", lambda it, wrong: it.client.delegate("s", losses=wrong)),
    (NO_NUMBER, "reworks", lambda it, wrong: it.client.delegate("s", reworks=wrong)),
    (NO_MAP, "timers", lambda it, wrong: it.client.delegate("s", timers=wrong)),
    (NO_TIME, "lease", lambda it, wrong: it.client.delegate("s", timers={"lease": wrong})),
    (NO_TEXT, "contextId", lambda it, wrong: it.client.delegate("s", context_id=wrong)),
    ((*NO_TEXT, "main-1", ("main-1",), ()), "parent", lambda it, wrong: it.client.delegate("s", parent=wrong)),
    (NO_NUMBER, "parent.fence", lambda it, wrong: it.client.delegate("s", parent=("main-1", wrong))),
    (NO_MAP, "budget", lambda it, wrong: it.client.delegate("s", budget=wrong)),
    (NO_NUMBER, "budget.tokens", lambda it, wrong: it.client.delegate("s", budget={"tokens": wrong})),
    (NO_TIME, "loss", lambda it, wrong: it.client.delegate("s", loss=wrong)),
    (NO_LIST, "resources", lambda it, wrong: it.client.delegate("s", resources=wrong)),
    (NO_TEXT[:-4], "name", lambda it, wrong: it.client.delegate("s", resources=[wrong])),
    ((*NO_NUMBER[:12], None), "", lambda it, wrong: it.client.delegate("s", copies=wrong)),
    (NO_NUMBER, "redundancy.k", lambda it, wrong: it.client.delegate("s", copies=2, agree=wrong)),
    (NO_TIME, "ballot", lambda it, wrong: it.client.delegate("s", copies=2, ballot=wrong)),
    (NO_NUMBER, "costMicro", lambda it, wrong: it.client.delegate("s", copies=2, resolve_cost=wrong)),
    (NO_LIST, "resolve", lambda it, wrong: it.client.delegate("s", copies=2, resolve=wrong)),
    ((7, None, ["majority"]), "a rung", lambda it, wrong: it.client.delegate("s", copies=2, resolve=[wrong])),
    ((*NO_TEXT, "main-1", None), "task", lambda it, wrong: it.client.redrive(wrong)),
    (NO_TEXT, "skill", lambda it, wrong: it.client.find(wrong)),
    (NO_LIST, "tags", lambda it, wrong: it.client.find(tags=wrong)),
    (NO_MAP, "labels", lambda it, wrong: it.client.find(labels=wrong)),
    (NO_TEXT[:-4], "name", lambda it, wrong: it.client.claim(wrong)),
    (NO_TIME, "wait", lambda it, wrong: it.client.claim("n", wait=wrong)),
    (NO_TIME, "ttl", lambda it, wrong: it.client.claim("n", ttl=wrong)),
    ((0, -1, 0.01), "ttl", lambda it, wrong: it.client.claim("n", ttl=wrong)),
    (NO_NUMBER, "priority", lambda it, wrong: it.client.claim("n", priority=wrong)),
    (NO_NUMBER, "limit", lambda it, wrong: it.client.claims(limit=wrong)),
    (NO_TEXT, "task", lambda it, wrong: it.client.get(wrong)),
    (NO_TEXT[:-4], "task", lambda it, wrong: it.client.watch(wrong)),
    (NO_NUMBER, "fromGen", lambda it, wrong: it.client.watch("main-1", wrong)),
    (NO_TEXT[:-4], "skill", lambda it, wrong: it.client.watch_agents(wrong)),
    (NO_NUMBER, "limit", lambda it, wrong: it.client.list(limit=wrong)),
    (NO_TEXT, "about", lambda it, wrong: it.client.conflicts(about=wrong)),
    ((7, None, ["a"], Path("/x")), "a subject", lambda it, wrong: it.client.raise_conflict("result", wrong)),
    (NO_JSON, "value", lambda it, wrong: it.client.raise_conflict("result", {"value": wrong})),
    (NO_JSON, "evidence", lambda it, wrong: it.client.raise_conflict("result", "main-1", evidence=wrong)),
    (NO_TEXT, "stance", lambda it, wrong: it.client.take_position("main-k1", wrong)),
    (NO_JSON, "value", lambda it, wrong: it.client.take_position("main-k1", "no", wrong)),
    (NO_JSON, "evidence", lambda it, wrong: it.client.appeal("main-k1", "new_evidence", wrong)),
    (
        tuple(wrong for wrong in NO_NUMBER if wrong != 2**60),
        "if_generation",
        lambda it, wrong: it.client.confirm("main-1", if_generation=wrong),
    ),
    (NO_JSON, "feedback", lambda it, wrong: it.client.reject("main-1", wrong)),
    (NO_NUMBER, "askNo", lambda it, wrong: it.client.answer("main-1", wrong, "yes")),
    (NO_JSON, "value", lambda it, wrong: it.client.answer("main-1", 1, wrong)),
    (NO_JSON, "value", lambda it, wrong: it.client.steer("main-1", wrong)),
    (NO_TIME, "grace", lambda it, wrong: it.client.drain("nobody", wrong)),
    (NO_NUMBER, "claimFence", lambda it, wrong: it.client.release(wrong)),
    ((*NO_TEXT[:-4], b"k"), "key", lambda it, wrong: it.shared.put(wrong, 1)),
    (NO_JSON, "value", lambda it, wrong: it.shared.put("k", wrong)),
    (NO_NUMBER, "ifRev", lambda it, wrong: it.shared.put("k", 1, if_rev=wrong)),
    (NO_MAP, "depends", lambda it, wrong: it.shared.put("k", 1, depends=wrong)),
    (NO_LIST, "the patch of k", lambda it, wrong: it.shared.patch("k", wrong)),
    ((["add"], [7], [None]), "the patch of k", lambda it, wrong: it.shared.patch("k", wrong)),
    ((*NO_LIST, [7], [("k", 1)]), "changes", lambda it, wrong: it.shared.write(wrong)),
    (NO_FUNCTION, "function", lambda it, wrong: it.shared.update("k", wrong)),
    (NO_LIST, "keys", lambda it, wrong: it.shared.get_many(wrong)),
    (("half", Path("/x"), Decimal("0.5"), [1], math.nan), "fraction", lambda it, wrong: it.task.progress(wrong)),
    (NO_TEXT[:-4], "name", lambda it, wrong: it.task.artifact(wrong, 1)),
    (NO_JSON, "value", lambda it, wrong: it.task.artifact("a", wrong)),
    (NO_JSON, "state", lambda it, wrong: it.task.checkpoint(wrong)),
    (NO_JSON, "message", lambda it, wrong: it.task.hand_off(message=wrong)),
    (NO_MAP, "labels", lambda it, wrong: it.task.hand_off(labels=wrong)),
    (NO_TEXT[:-4], "question", lambda it, wrong: it.task.ask(wrong)),
    (NO_LIST, "options", lambda it, wrong: it.task.ask("?", options=wrong)),
    (NO_MAP, "schema", lambda it, wrong: it.task.ask("?", schema=wrong)),
    (NO_JSON, "default", lambda it, wrong: it.task.ask("?", default=wrong)),
    (NO_TIME, "timeout", lambda it, wrong: it.task.ask("?", timeout=wrong)),
    (NO_TEXT[:-4], "url", lambda it, wrong: a2a.connect(wrong)),
    (NO_TEXT[:-4], "token", lambda it, wrong: a2a.connect(token=wrong)),
    (NO_TEXT[:-4], "name", lambda it, wrong: a2a.connect(name=wrong)),
    (("ws://127.0.0.1:1", {"url": "ws://127.0.0.1:1"}, 7), "settings", lambda it, wrong: a2a.connect(settings=wrong)),
    ((math.nan, -1, "5", [5], timedelta(seconds=5)), "patience", lambda it, wrong: LinkSettings(patience=wrong)),
    ((*NO_TEXT[:-4], None), "name", lambda it, wrong: Agent(wrong)),
    ((*NO_TEXT[:-4], None), "version", lambda it, wrong: Agent("x", wrong)),
    ((*NO_NUMBER[:12], None), "concurrency", lambda it, wrong: Agent("x", concurrency=wrong)),
    (NO_MAP, "labels", lambda it, wrong: Agent("x", labels=wrong)),
    ((*NO_FUNCTION[:2], *NO_FUNCTION[3:], lambda: 1), "expected a", lambda it, wrong: Agent("x").skill(wrong)),
    (NO_TEXT[:-4], "id", lambda it, wrong: Agent("x").skill(id=wrong)(not_awaited)),
    (NO_LIST, "tags", lambda it, wrong: Agent("x").skill(tags=wrong)(not_awaited)),
    (NO_TEXT[:-4], "name", lambda it, wrong: Agent("x").run(name=wrong, settings=it.settings)),
    (("now", 7, threading.Event()), "stop", lambda it, wrong: Agent("x").run(stop=wrong, settings=it.settings)),
    (("now", 7), "ready", lambda it, wrong: Agent("x").run(ready=wrong, settings=it.settings)),
    (([Agent("x")], "x", None), "agents", lambda it, wrong: squad(wrong)),
    (("2", 1.5, None), "n: ", lambda it, wrong: squad(n=wrong)),
    (("quick", {"n": 1}), "policy", lambda it, wrong: squad(policy=wrong)),
]
"""What is wrong, the word by which the error has to name it, and the call that it is given to."""


async def _made(call: Callable[[], Any]) -> None:
    made = call()
    if isawaitable(made):
        await made
    elif isinstance(made, AbstractAsyncContextManager):
        async with made:
            pass
    elif isinstance(made, AsyncGenerator):
        await anext(made)


async def test_whatever_users_give_the_error_says_what_was_expected_what_came_and_where() -> None:
    told: list[str] = []
    agent = Agent("tries")

    @agent.skill
    async def tries(task: TaskContext) -> None:
        for wrongs, name, call in WRONG:
            for wrong in wrongs:
                case = f"{name} is {wrong!r}"
                try:
                    with anyio.fail_after(5):
                        await _made(lambda given=wrong, called=call: called(_Known(running, task), given))
                    told.append(f"{case}: nothing was raised")
                except Exception as error:  # noqa: BLE001 - of whatever kind it is
                    words = str(error)
                    is_told = any(part in words for part in ("got ", "no form", "is beyond", "keys are strings"))
                    if not isinstance(error, ValueError | Malformed) or name not in words or not is_told:
                        told.append(f"{case}: {error!r}")

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            await running.client.call("tries", timers={"lease": BOUND})
    assert told == [], "\n".join(told)
