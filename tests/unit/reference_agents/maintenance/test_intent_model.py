"""Intent with a model: what it makes of a request, and what is not left to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from a2a import AttemptFailed
from reference_agents.maintenance.intent import check_plan
from reference_agents.maintenance.intent_model import FIELDS, SCHEMA, SYSTEM, agent, read_request
from tests.endpoint import Reply, endpoint

MAKE = Callable[..., Any]


def said(**changes: Any) -> str:
    return json.dumps({"kind": "modernise", "old_name": "", "new_name": "", "query": "", "paths": []} | changes)


@pytest.fixture
def read(tmp_path: Path, fake_task: MAKE, monkeypatch: pytest.MonkeyPatch) -> MAKE:
    """Have a request read by a model that answers this."""
    (tmp_path / "src").mkdir()

    async def make(*replies: Reply | str, task: Any = None, repository: str | None = None) -> Any:
        with endpoint(*replies) as here:
            for name, value in (("URL", here.url), ("NAME", "stand-in"), ("KEY", "")):
                monkeypatch.setenv(f"A2A_MODEL_{name}", value)
            where = str(tmp_path) if repository is None else repository
            plan = await read_request("make it look like this year", "py311", task or fake_task(), repository=where)
            return plan, here.requests

    return make


async def test_a_request_becomes_a_plan(read: MAKE, fake_task: MAKE) -> None:
    task = fake_task()
    usage = {"prompt_tokens": 30, "completion_tokens": 5}
    plan, [request] = await read(Reply(f"```json\n{said(paths=['src'])}\n```", usage=usage), task=task)
    assert check_plan(plan) == plan
    assert (plan["kind"], plan["target"], plan["paths"]) == ("modernise", "py311", ["src"])
    assert plan["may_touch"] == [], "that is not for a model to open"
    assert plan["request"] == "make it look like this year"
    assert request.messages[0]["content"] == SYSTEM
    assert request.messages[1]["content"] == "The request:\nmake it look like this year"
    assert task.used == 35


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("Sure!", "not JSON"),
        (said(kind="delete"), "kind: 'delete' is not one of"),
        (said(may_touch=["ci"]), "Additional properties"),
        (said(kind="rename", old_name="a"), "new_name"),
        (said(paths=["lib"]), "there is no lib in the repository"),
        (said(paths=["../.."]), "there is no"),
        (said(paths=["/"]), "there is no"),
        (said(paths=["x" * 5000]), "there is no"),
    ],
)
async def test_a_plan_that_does_not_match_is_repaired_once_and_else_a_failed_attempt(
    read: MAKE, bad: str, words: str
) -> None:
    plan, [_, second] = await read(bad, said())
    assert plan["kind"] == "modernise"
    assert words in second.messages[-1]["content"]
    with pytest.raises(AttemptFailed) as caught:
        await read(bad)
    assert (caught.value.error_code, caught.value.retryable) == ("bad_answer", False)


async def test_without_a_repository_a_path_only_has_to_be_one(read: MAKE) -> None:
    plan, _ = await read(said(paths=["lib"]), repository="")
    assert plan["paths"] == ["lib"]


async def test_a_model_may_find_it_unclear_as_well(read: MAKE) -> None:
    with pytest.raises(AttemptFailed, match="unclear to the model as well") as caught:
        await read(said(kind="unclear"))
    assert caught.value.error_code == "unclear"


def test_the_schema_is_a_part_of_a_plans() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]) == set(FIELDS)


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["read_request"]
