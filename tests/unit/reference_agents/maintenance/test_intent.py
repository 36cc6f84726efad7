from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from a2a import AttemptFailed, TaskFailed
from reference_agents.maintenance.intent import PLAN_SCHEMA, Unclear, agent, check_plan, plan_request, understand
from reference_agents.maintenance.shapes import Plan

MAKE = Callable[..., Any]


def plan_of(request: str) -> Plan:
    understood = understand(request)
    assert not isinstance(understood, Unclear), understood
    return understood


@pytest.mark.parametrize(
    ("request_", "kind", "target"),
    [
        ("modernise to py311, keep the tests green", "modernise", "py311"),
        ("Modernize this to Python 3.12", "modernise", "py312"),
        ("upgrade the code to 3.10", "modernise", "py310"),
        ("port to python3.9 and fix warnings", "modernise", "py39"),
        ("use f-strings for python 3.13", "modernise", "py313"),
        ("fix lint findings", "fix-lint", None),
        ("make ruff happy", "fix-lint", None),
        ("remove unused imports", "remove-unused", None),
        ("find unused imports and remove them", "remove-unused", None),
        ("get rid of dead code", "remove-unused", None),
        ("do not remove unused code, only fix lint", "fix-lint", None),
        ("never modernise anything: fix lint", "fix-lint", None),
        ("where is the parser?", "find", None),
        ("which warnings are there", "find", None),
        ("explain how tables are aligned", "find", None),
    ],
)
def test_a_request_tells_its_kind_and_version(request_: str, kind: str, target: str | None) -> None:
    plan = plan_of(request_)
    assert plan["kind"] == kind
    assert target is None or plan["target"] == target
    assert plan["request"] == request_


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ("rename old_name to new_name", ("old_name", "new_name")),
        ("Rename the function `package.old` to `new`.", ("package.old", "new")),
        ("please rename class Old into New", ("Old", "New")),
        ("renaming x to y in src/a.py", ("x", "y")),
    ],
)
def test_renaming_names_both_names(request_: str, names: tuple[str, str]) -> None:
    plan = plan_of(request_)
    assert (plan["kind"], plan["old_name"], plan["new_name"]) == ("rename", *names)


@pytest.mark.parametrize(
    ("request_", "areas"),
    [
        ("fix lint", ["tests"]),
        ("fix lint, keep the tests green", ["tests"]),
        ("fix lint but leave the tests alone", []),
        ("fix lint without touching tests", []),
        ("don't change any test, fix lint", []),
        ("modernise to py311 including configuration and ci", ["tests", "ci", "configuration"]),
        ("modernise to py311, do not touch ci", ["tests"]),
        ("fix lint, tests must not change", []),
        ("fix lint, keep the tests as they are", []),
        ("fix lint, don\u2019t touch tests", []),
        ("fix lint, tests must not fail", ["tests"]),
        ("where is the parser", []),
    ],
)
def test_the_fence_opens_for_tests_by_default_and_for_the_rest_by_name(request_: str, areas: list[str]) -> None:
    assert plan_of(request_)["may_touch"] == areas


def test_paths_in_a_request_limit_the_plan() -> None:
    assert plan_of("fix lint in src/package and in tests/test_a.py")["paths"] == ["src/package", "tests/test_a.py"]
    assert plan_of("fix lint")["paths"] == []


def test_what_a_request_leaves_alone_is_in_the_plan() -> None:
    plan = plan_of("fix lint but not in src/a.py")
    assert (plan["paths"], plan["spared"]) == ([], ["src/a.py"])
    assert check_plan(plan) == plan
    assert "spared" not in plan_of("fix lint")
    unclear = understand("fix lint, do not break src/a.py")
    assert isinstance(unclear, Unclear)
    assert unclear.question.startswith("Is src/a.py to be changed or left alone?")


async def test_an_answer_completes_a_request_and_opens_nothing_that_it_left_alone(fake_task: MAKE) -> None:
    plan = await plan_request("tidy up in src/, not src/vendor/, and leave the tests alone", fake_task("fix lint"))
    assert (plan["kind"], plan["paths"], plan["spared"]) == ("fix-lint", ["src"], ["src/vendor"])
    assert plan["may_touch"] == []


async def test_a_request_that_is_said_again_stands_for_itself(fake_task: MAKE, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    plan = await plan_request("fix lint in scr/", fake_task("fix lint in src/"), repository=str(tmp_path))
    assert plan["paths"] == ["src"]


def test_files_get_no_new_names() -> None:
    unclear = understand("rename utils.py to helpers.py")
    assert isinstance(unclear, Unclear)
    assert unclear.question.startswith("Not files")


def test_a_path_that_is_not_there_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    assert not isinstance(understand("fix lint in src/", str(tmp_path)), Unclear)
    missing = understand("fix lint in source/", str(tmp_path))
    assert isinstance(missing, Unclear)
    assert "source" in missing.question


@pytest.mark.parametrize(
    ("request_", "option"),
    [
        ("", "fix lint findings"),
        ("make it nicer", "remove unused code"),
        ("modernise to python 2.7", "modernise to Python 3.11"),
        ("modernise to python 3.99", "modernise to Python 3.11"),
        ("rename a to b and fix lint", "rename a to b"),
    ],
)
def test_an_unclear_request_becomes_a_question_whose_answers_are_clear(request_: str, option: str) -> None:
    unclear = understand(request_)
    assert isinstance(unclear, Unclear)
    assert option in unclear.options
    for answer in unclear.options:
        again = understand(answer)
        assert not isinstance(again, Unclear) or "something" in answer


async def test_the_person_is_asked_and_the_answer_completes_the_plan(fake_task: MAKE) -> None:
    task = fake_task("rename something", "`old` to `new`")
    plan = await plan_request("make it nicer", task)
    assert (plan["kind"], plan["old_name"], plan["new_name"]) == ("rename", "old", "new")
    assert plan["request"] == "make it nicer"
    assert [options is not None for _, options in task.asked] == [True, False]


async def test_a_clear_request_asks_nothing(fake_task: MAKE) -> None:
    task = fake_task()
    await plan_request("fix lint", task)
    assert task.asked == []


async def test_a_person_who_does_not_say_is_not_asked_for_ever(fake_task: MAKE) -> None:
    task = fake_task("hm", "well", "no")
    with pytest.raises(AttemptFailed) as caught:
        await plan_request("make it nicer", task)
    assert caught.value.error_code == "unclear"
    assert len(task.asked) == 3


def reader(said: Any) -> Any:
    """Somebody who reads requests."""

    async def read(skill: str, question: Any, options: dict[str, Any]) -> Any:
        assert (skill, options["to"]) == ("read_request", "intent-model")
        assert question == {"request": "freshen up tests and ci for python 3.12", "target": "py312", "repository": "/r"}
        if isinstance(said, BaseException):
            raise said
        return said

    return read


async def test_what_it_has_no_words_for_is_read_by_somebody_who_has(fake_task: MAKE) -> None:
    task = fake_task()
    read = {**plan_of("fix lint"), "kind": "modernise", "may_touch": ["configuration"], "target": "py38"}
    task.readers, task.on_call = ["intent-model"], reader(read)
    plan = await plan_request("freshen up tests and ci for python 3.12", task, repository="/r")
    assert "spared" not in plan
    assert (plan["kind"], plan["target"], task.asked) == ("modernise", "py312", [])
    assert plan["request"] == "freshen up tests and ci for python 3.12"
    assert plan["may_touch"] == ["tests", "ci"], "as the person's words say, and nobody else's"


@pytest.mark.parametrize(
    "said", [TaskFailed("t1", "error", "no model"), {**plan_of("fix lint"), "kind": "delete"}, {}, "modernise"]
)
async def test_where_that_comes_to_nothing_the_person_is_asked(fake_task: MAKE, said: Any) -> None:
    task = fake_task("fix lint findings")
    task.readers, task.on_call = ["intent-model"], reader(said)
    plan = await plan_request("freshen up tests and ci for python 3.12", task, repository="/r")
    assert (plan["kind"], len(task.asked), len(task.calls)) == ("fix-lint", 1, 1)


async def test_what_only_the_person_can_say_is_asked_of_nobody_else(fake_task: MAKE) -> None:
    task = fake_task("rename a to b", "fix lint", "fix lint")
    task.readers = ["intent-model"]
    await plan_request("rename a to b and fix lint", task)
    await plan_request("make it nicer for python 2.7", task)
    assert task.calls == []


def test_a_plan_is_checked_against_its_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(PLAN_SCHEMA)
    good = plan_of("fix lint")
    assert check_plan(good) == good
    bad: list[dict[str, Any]] = [
        {"kind": "delete"}, {"target": "py27"}, {"may_touch": ["everything"]}, {"extra": 1}, {"kind": "rename"}
    ]  # fmt: skip
    for change in bad:
        with pytest.raises(AttemptFailed) as caught:
            check_plan({**good, **change})
        assert caught.value.error_code == "bad_plan"


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["plan_request"]
