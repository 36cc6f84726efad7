"""A function as a skill: its card, its arguments, its result."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import partial
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, PlainSerializer
from typing_extensions import TypedDict

from a2a import SyncTaskContext, TaskContext
from a2a.content import Patch, artifacts_payload
from a2a.errors import AttemptFailed
from a2a.skills import Skill

CONTEXTS = (TaskContext, SyncTaskContext)


class Point(BaseModel):
    x: int
    y: int = 0


@dataclass
class Area:
    size: float


async def measure(points: list[Point], task: TaskContext, unit: str = "m") -> Area:
    """Measure an area.

    More words.
    """
    return Area(len(points))


def test_the_card_says_what_the_annotations_say() -> None:
    skill = Skill.of(measure, CONTEXTS, tags=("geo",))
    card = skill.card()
    assert (card["id"], card["description"], card["tags"]) == ("measure", "Measure an area.", ["geo"])
    assert set(card["inputSchema"]["properties"]) == {"points", "unit"}
    assert card["inputSchema"]["required"] == ["points"]
    assert card["outputSchema"]["properties"] == {"size": {"title": "Size", "type": "number"}}
    assert skill.is_async
    assert skill.context == "task"


class Renamed(BaseModel):
    kind_of: str = Field(alias="kindOf")


def test_a_model_with_aliases_travels_as_it_was_announced() -> None:
    async def pass_on(value: Renamed) -> Renamed:
        return value

    skill, told = Skill.of(pass_on, CONTEXTS), {"kindOf": "x"}
    assert list(skill.card()["outputSchema"]["properties"]) == ["kindOf"]
    assert skill.result(skill.arguments({"value": told})["value"])[0] == artifacts_payload(told)


def test_arguments_are_validated_and_converted() -> None:
    skill = Skill.of(measure, CONTEXTS)
    assert skill.arguments({"points": [{"x": 1}]}) == {"points": [Point(x=1)], "unit": "m"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "points: Field required"),
        ({"points": [{"x": "a"}]}, r"points\.0\.x"),
        ({"points": [], "colour": 1}, "colour: Extra inputs"),
        (None, "points: Field required"),
        ("text", r"expected arguments by name \(points, unit\), got text"),
        ([1], "got list"),
    ],
)
def test_a_wrong_input_is_refused_for_good_and_says_what_was_expected(value: Any, said: str) -> None:
    with pytest.raises(AttemptFailed, match=said) as caught:
        Skill.of(measure, CONTEXTS).arguments(value)
    assert not caught.value.retryable
    assert caught.value.error_code == "schema"


def test_results_become_json_values() -> None:
    assert Skill.of(measure, CONTEXTS).result(Area(2.5)) == (artifacts_payload({"size": 2.5}), [])

    def untyped():  # type: ignore[no-untyped-def]
        return {"p": Point(x=1)}

    assert Skill.of(untyped, CONTEXTS).result({"p": Point(x=1)}) == (artifacts_payload({"p": {"x": 1, "y": 0}}), [])
    with pytest.raises(AttemptFailed, match="no JSON form"):
        Skill.of(untyped, CONTEXTS).result(object())


class Mood(Enum):
    GOOD = "good"


@pytest.mark.parametrize(
    ("hint", "returned", "reported"),
    [
        (list[int], (1, 2), [1, 2]),
        (Point, {"x": 1}, {"x": 1}),
        (dict[str, int], {"a": 1.0}, {"a": 1.0}),
        (Mood, "good", "good"),
        (int | None, None, None),
        (bytes, b"\xff", b"\xff"),
        (bytes | None, b"\xff", b"\xff"),
        (int, 2.0, 2),
        (float, 1, 1),
        (datetime, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        (Annotated[str, PlainSerializer(len, return_type=int)], "four", 4),
    ],
)
def test_what_travels_as_it_was_announced_is_a_result(hint: Any, returned: Any, reported: Any) -> None:
    assert Skill.of(returning(hint), CONTEXTS).result(returned)[0] == artifacts_payload(reported)


@pytest.mark.parametrize(
    ("hint", "returned"),
    [
        (int, "text"),
        (int, None),
        (str, 3),
        (list[int], [1, "two"]),
        (Point, {"y": 1}),
        (dict[str, int], {"a": 1.5}),
        (Mood, "bad"),
        (None, "text"),
        (int, "1"),
        (float, "1.5"),
        (bool, 1),
        (Point, {"x": "1"}),
        (int, b"1"),
        (str, b"text"),
        (str, Patch("repo", "1", "diff")),
        (Point, [Patch("repo", "1", "diff")]),
    ],
)
def test_what_was_not_announced_is_no_result(hint: Any, returned: Any) -> None:
    """Spec: an output schema is for the worker to check against."""
    with pytest.raises(AttemptFailed, match="^tell returned something other than its annotation says: ") as failed:
        Skill.of(returning(hint), CONTEXTS, id="tell").result(returned)
    assert failed.value.error_code == "schema"


@pytest.mark.parametrize("hint", [Any, list[int], Iterable[int]])
def test_a_generator_is_read_once(hint: Any) -> None:
    reported = Skill.of(returning(hint), CONTEXTS).result(number for number in (1, 2))[0]
    assert reported == artifacts_payload([1, 2])


def test_a_generator_inside_a_result_is_not_taken_for_an_empty_list() -> None:
    for result in ({"a": (number for number in (1, 2))}, {"a": [1]} | {"b": iter((1, 2))}):
        with pytest.raises(AttemptFailed, match="a generator inside it can be read only once: return a list"):
            Skill.of(returning(dict[str, list[int]]), CONTEXTS).result(result)


def test_a_number_that_json_has_not_is_found_in_a_generator() -> None:
    with pytest.raises(AttemptFailed, match="nan and inf are not JSON numbers"):
        Skill.of(returning(Iterable[float]), CONTEXTS).result(number for number in (1.0, math.nan))


class Tagged(BaseModel):
    tags: set[int]


@pytest.mark.parametrize("hint", [Any, set[int], dict[str, set[int]], Tagged])
def test_equal_sets_are_equal_results(hint: Any) -> None:
    """The order of a set follows how it was filled, and the results of copies are compared."""
    made: list[Any] = [set(items) for items in ([0, 8], [8, 0])]
    assert [list(one) for one in made] == [[0, 8], [8, 0]]
    if hint is Tagged:
        made = [Tagged(tags=one) for one in made]
    elif hint not in (Any, set[int]):
        made = [{"a": one} for one in made]
    one, other = (Skill.of(returning(hint), CONTEXTS).result(result)[0] for result in made)
    assert one == other


def returning(hint: Any) -> Any:
    def function() -> Any: ...

    function.__annotations__["return"] = hint
    return function


def test_a_skill_that_takes_the_value_gets_it_as_it_came() -> None:
    def raw(value: Any) -> Any:
        return value

    skill = Skill.of(raw, CONTEXTS, takes_value=True)
    assert skill.arguments("text") == {"value": "text"}
    assert "inputSchema" not in skill.card()


def takes_any_number(*values: int) -> None: ...
def takes_any_name(**values: int) -> None: ...
def takes_by_place(task: TaskContext, /, values: int = 0) -> None: ...
def takes_the_value_by_place(value: Any, /) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "name", "takes_value"),
    [
        (takes_any_number, "values", False),
        (takes_any_name, "values", False),
        (takes_by_place, "task", False),
        (takes_the_value_by_place, "value", True),
    ],
)
def test_parameters_have_to_have_names(wrong: Callable[..., Any], name: str, takes_value: bool) -> None:
    with pytest.raises(ValueError, match=f"skill {wrong.__name__}: parameter {name} must be one that can be given by"):
        Skill.of(wrong, CONTEXTS, takes_value=takes_value)


def test_beside_the_value_parameters_need_no_names() -> None:
    def with_others(value: Any, *others: Any, **named: Any) -> Any:
        return (value, others, named)

    skill = Skill.of(with_others, CONTEXTS, takes_value=True)
    assert skill.function(**skill.arguments(1)) == (1, (), {})


async def returns_any(value: Any): ...  # type: ignore[no-untyped-def]


async def returns_dict(value: Any) -> dict: ...  # type: ignore[type-arg, empty-body]


async def returns_floats(value: Any) -> dict[str, float]: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("function", "number"),
    [
        *((returns, number) for returns in (returns_any, returns_dict) for number in (math.nan, math.inf, 2**53)),
        *((returns_floats, number) for number in (math.nan, math.inf)),
    ],
)
def test_a_number_that_json_has_not_is_no_result(function: Any, number: float) -> None:
    with pytest.raises(AttemptFailed, match="returned a value that has no JSON form") as failed:
        Skill.of(function, CONTEXTS).result({"a": number, "b": None})
    assert (failed.value.error_code, failed.value.retryable) == ("schema", False)


class Place(TypedDict):
    path: str


def json_lines(json: str, copy: int = 1, *, _deep: bool = False, model_config: Place | None = None) -> None: ...


def test_a_parameter_may_have_any_name() -> None:
    skill = Skill.of(json_lines, CONTEXTS)
    assert list(skill.card()["inputSchema"]["properties"]) == ["json", "copy", "_deep", "model_config"]
    assert skill.card()["inputSchema"]["properties"]["json"] == {"title": "Json", "type": "string"}
    given = {"json": "{}", "_deep": True, "model_config": {"path": "x"}}
    assert skill.arguments(given) == given | {"copy": 1}
    with pytest.raises(AttemptFailed, match="copy: Input should be a valid integer"):
        skill.arguments({"json": "{}", "copy": "x"})


async def yields_later():
    yield 1  # type: ignore[no-untyped-def]


def yields():
    yield 1  # type: ignore[no-untyped-def]


async def two_contexts(first: TaskContext, second: SyncTaskContext) -> None: ...


async def for_plain_ones(task: SyncTaskContext) -> None: ...


async def for_plain_ones_or_none(task: SyncTaskContext | None = None) -> None: ...


async def nowhere(value: NotThere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


class Adder:
    """Adds."""

    def __init__(self, most: int) -> None:
        self.most = most

    async def __call__(self, a: int, task: TaskContext | None = None) -> int:
        """Add to it."""
        return self.most + a


@pytest.mark.parametrize(
    ("function", "takes_value", "why"),
    [
        (yields_later, False, "skill yields_later: expected a function that returns its result, this one yields"),
        (yields, False, "this one yields"),
        (json_lines, True, "skill json_lines: with takes_value, its function needs a parameter named value"),
        (two_contexts, False, "only one parameter can get the task's context, got first and second"),
        (for_plain_ones, False, "expected TaskContext for task, as it is async, got .*SyncTaskContext"),
        (for_plain_ones_or_none, False, "expected TaskContext for task, as it is async, got .*SyncTaskContext"),
        (nowhere, False, "skill nowhere: its annotations cannot be resolved when it runs: name 'NotThere'"),
        (Adder(1), False, "expected an id for the skill, got an object of Adder without one"),
    ],
)
def test_a_skill_that_nobody_could_call_is_refused(function: Any, takes_value: bool, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Skill.of(function, CONTEXTS, takes_value=takes_value)


@pytest.mark.parametrize("called", [Adder(1), partial(Adder(1)), Adder(1).__call__, partial(Adder.__call__, Adder(1))])
async def test_whatever_is_called_like_a_function_is_a_skill(called: Any) -> None:
    skill = Skill.of(called, CONTEXTS, id="add")
    assert skill.is_async and skill.context == "task", "it may be left out where it is called as a function"
    assert (skill.description, list(skill.card()["inputSchema"]["properties"])) == ("Add to it.", ["a"])
    assert await skill.function(**skill.arguments({"a": 2})) == 3


def test_a_function_may_name_both_contexts() -> None:
    async def later(task: TaskContext | SyncTaskContext) -> None: ...

    def now(task: TaskContext | SyncTaskContext) -> None: ...

    assert {Skill.of(function, CONTEXTS).context for function in (later, now)} == {"task"}


def test_an_annotation_that_is_no_type_of_values_is_told_with_its_skill() -> None:
    def parse(text: str, lock: threading.Lock) -> str: ...  # type: ignore[empty-body]

    with pytest.raises(ValueError, match="skill parse: an annotation has no JSON Schema: "):
        Skill.of(parse, CONTEXTS).card()
