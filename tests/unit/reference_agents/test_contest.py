"""A step that several agents do; what the lead makes of it is in `test_lead`."""

from __future__ import annotations

from typing import Any

import anyio

from a2a import Agent, AttemptFailed, TaskContext
from a2a.testing import squad
from reference_agents.contest import Rules, settled
from reference_agents.delegating import MOVED
from reference_agents.errand import ErrandFailed, Outdated, never
from reference_agents.steps import Steps

BOUND = 30.0


def guesser(name: str, value: Any) -> Agent:
    agent = Agent(name)

    @agent.skill
    async def guess() -> Any:
        if value is None:
            raise AttemptFailed("no idea", code="idea", retryable=False)
        return value

    return agent


async def contested(
    *values: Any, ladder: tuple[Any, ...] = ("plurality", "abort"), outdated: Outdated = never, beside: Any = ()
) -> dict[str, Any]:
    """Have agents `a`, `b`, ... answer, and return what is known of it."""
    told: dict[str, Any] = {"stories": []}
    lead = Agent("lead")

    async def nobody(question: str, options: list[str] | None) -> Any:
        raise AssertionError(f"nobody is to be asked: {question}")

    async def heard(outcome: dict[str, Any]) -> None:
        told[outcome["agent"]] = outcome["value"] if outcome["state"] == "completed" else outcome["detail"]

    @lead.skill
    async def ask(task: TaskContext) -> Any:
        steps = Steps(task, nobody, outdated=outdated)
        contest = steps.contest("guess", "guess", "guess", Rules(len(values), "json-c14n", ladder, 20.0, 20.0), heard)
        try:
            told["result"] = await contest.run()
        except ErrandFailed as failed:
            told["failed"] = failed.code
        told["author"], told["record"], told["steps"] = contest.author, contest.record, steps.accounts
        return None

    agents = [guesser(chr(ord("a") + number), value) for number, value in enumerate(values)]
    with anyio.fail_after(BOUND):
        async with squad(lead, *agents, *beside) as up:
            async with up.client.delegate("ask") as task:
                async for event in task.events():
                    if event.kind == "artifact":
                        told["stories"].append((event.value["kind"], event.value["what"]))
                await task.result()
    return told


async def test_everybody_is_a_step_of_its_own_and_a_contradiction_is_settled_by_the_record() -> None:
    told = await contested(1, 2, 2)
    assert (told["result"], told["a"], told["b"]) == (2, 1, 2)
    assert told["author"] in {"b", "c"}
    assert sorted((step["agent"], step["state"]) for step in told["steps"]) == [
        (name, "completed") for name in ("a", "b", "c")
    ]
    conflict = settled(told["record"], str)
    assert (conflict["outcome"], conflict["by"], conflict["tried"]) == (
        "select", "plurality", ["plurality: decided, a lead of 1"]
    )  # fmt: skip
    assert (conflict["chosen"], conflict["dissent"], conflict["evidence"]) == (told["author"], ["a"], [])
    assert conflict["seal"] == told["record"]["seal"] != ""
    assert ("conflict", f"a2a conflict show {conflict['conflict']}") in told["stories"]


async def test_where_nobody_contradicts_there_is_no_record_and_who_failed_is_heard() -> None:
    told = await contested(1, None)
    assert (told["result"], told["author"], told["record"], told["b"]) == (1, "a", None, "no idea")
    assert [(step["agent"], step["detail"]) for step in told["steps"] if step["state"] == "failed"] == [
        ("b", "no idea")
    ]


async def test_one_alone_is_a_plain_step() -> None:
    told = await contested(1)
    assert (told["result"], told["author"], told["record"], told["a"]) == (1, "a", None, 1)
    assert [step["agent"] for step in told["steps"]] == ["a"]


async def test_a_person_need_not_decide_what_is_outdated() -> None:
    async def moved() -> str:
        return "the plan is another"

    told = await contested(1, 2, ladder=("human",), outdated=moved)
    assert told["failed"] == MOVED
    assert told["record"]["resolution"]["outcome"] == "moot"


async def test_the_evidence_is_what_was_answered_at_the_rung_that_decided() -> None:
    chooser = Agent("chooser")

    @chooser.skill
    async def choose(task: dict[str, Any], input: Any, candidates: list[Any], context: TaskContext) -> Any:
        values = [candidate[0]["parts"][0]["data"] for candidate in candidates]
        return {"choice": values.index(2)}

    ladder = (
        {"strategy": "verify", "skill": "nobody", "timeoutMs": 200},
        {"strategy": "judge", "skill": "choose"},
        "abort",
    )
    told = await contested(1, 2, ladder=ladder, beside=[chooser])
    conflict = settled(told["record"], lambda value: f"place {value['choice']}")
    assert (conflict["outcome"], conflict["by"], conflict["chosen"], conflict["dissent"]) == (
        "select", "judge", "b", ["a"]
    )  # fmt: skip
    assert sorted(evidence.partition(" by ")[2] for evidence in conflict["evidence"]) == [
        "chooser: place 0", "chooser: place 1",
    ]  # fmt: skip
    assert [tried.partition(",")[0] for tried in conflict["tried"]] == ["verify: undecided", "judge: decided"]
