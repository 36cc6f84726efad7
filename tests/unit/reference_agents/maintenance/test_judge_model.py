"""The judge with a model: whom it prefers, and when it has no preference."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance.judge_model import agent, choose_patch
from tests.endpoint import Reply, Request, endpoint

MAKE = Callable[..., Any]
PATCHES = [{"text": "-short\n"}, {"text": "+loud\n"}, {"text": "+plain\n"}]


def said(choice: int, *reasons: str) -> str:
    return json.dumps({"choice": choice, "reasons": list(reasons) or ["because"]})


def likes(words: str) -> Callable[[Request], Reply]:
    """A model that knows what it likes, wherever it stands."""

    def script(request: Request) -> Reply:
        candidates = request.messages[1]["content"].split("===== candidate ")[1:]
        number = next(number for number, text in enumerate(candidates, 1) if words in text)
        return Reply(f"```json\n{said(number, f'I like {words}')}\n```")

    return script


@pytest.fixture
def choose(workspace_on: MAKE, repository: MAKE, plan_for: MAKE, fake_task: MAKE, monkeypatch: Any) -> MAKE:
    """Have a choice made by a model that answers this."""
    project = repository({"a.py": "x = 1\n"})

    async def make(*replies: Reply | str, script: Any = None, patches: Any = PATCHES, task: Any = None) -> Any:
        with endpoint(*replies, script=script) as here:
            for name, value in (("URL", here.url), ("NAME", "stand-in"), ("KEY", "")):
                monkeypatch.setenv(f"A2A_MODEL_{name}", value)
            return await choose_patch(
                await workspace_on(project), plan_for(), patches, task or fake_task()
            ), here.requests

    return make


@pytest.mark.parametrize(("words", "choice"), [("short", 0), ("loud", 1), ("plain", 2)])
async def test_what_is_preferred_in_both_orders_is_chosen(choose: MAKE, words: str, choice: int) -> None:
    chosen, [first, second] = await choose(script=likes(words))
    assert chosen == {"choice": choice, "reasons": [f"I like {words}"]}
    one, other = first.messages[1]["content"], second.messages[1]["content"]
    assert one.index("short") < one.index("loud") < one.index("plain")
    assert other.index("plain") < other.index("loud") < other.index("short")
    assert len(second.messages) == 2, "it is not told what it said before"


@pytest.mark.parametrize("position", [1, 3])
async def test_a_model_that_prefers_a_place_is_undecided(choose: MAKE, position: int) -> None:
    chosen, _ = await choose(said(position, "it is so clear"))
    assert chosen["choice"] == -1
    assert chosen["reasons"] == ["in the other order it chose another one", "it is so clear", "it is so clear"]


async def test_a_model_may_prefer_none(choose: MAKE) -> None:
    chosen, _ = await choose(said(0, "they are the same"))
    assert chosen == {"choice": -1, "reasons": ["they are the same"]}
    once, _ = await choose(said(0), said(3))
    assert once["choice"] == -1


@pytest.mark.parametrize("bad", ["The first.", said(4), said(-1), '{"choice": "1", "reasons": ["x"]}', '{"choice": 1}'])
async def test_an_answer_of_another_form_is_repaired_once_and_else_a_failed_attempt(choose: MAKE, bad: str) -> None:
    chosen, requests = await choose(bad, said(1), said(3))
    assert (chosen["choice"], len(requests)) == (0, 3)
    with pytest.raises(AttemptFailed, match="no use, nor was it before"):
        await choose(bad)


async def test_what_is_too_long_for_one_question_stays_undecided_and_costs_nothing(
    choose: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A2A_MODEL_SOURCE_CHARS", "10")
    chosen, requests = await choose(said(1))
    assert (chosen["choice"], requests) == (-1, [])


async def test_one_patch_is_no_choice(choose: MAKE) -> None:
    with pytest.raises(AttemptFailed, match="nothing to choose between"):
        await choose(said(1), patches=PATCHES[:1])


async def test_both_questions_count(choose: MAKE, fake_task: MAKE) -> None:
    task = fake_task()
    usage = {"prompt_tokens": 30, "completion_tokens": 5}
    await choose(Reply(said(2), usage=usage), task=task)
    assert task.used == 70


def test_the_card_names_the_skill_and_the_tool() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["choose_patch"]
    assert agent.labels == {"tool": "model"}
