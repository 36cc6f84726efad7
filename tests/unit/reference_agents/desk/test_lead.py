"""The lead, with retrievers beside it that say what a test wants them to say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest

from a2a import Agent, AttemptFailed, TaskContext, TaskFailed
from a2a.testing import squad
from reference_agents.desk import AGENTS, SQUAD, lead
from reference_agents.desk.lead import sum_up
from reference_agents.desk.shapes import Ballot, Found
from reference_agents.presence import SQUAD_VARIABLE

GIVEN = {"question": "who lapses?", "folder": "/docs"}
Says = Callable[[dict[str, Any]], Awaitable[Any]]


def found(path: str, line: int = 1, end: int = 1, quote: str = "Leases lapse.") -> Found:
    return Found(path=path, line=line, end=end, heading="One / Two", quote=quote, score=1.0)


def ballot(*passages: Found, content: str = "c") -> Ballot:
    return Ballot(found=list(passages), searched=2, skipped=[], skipped_total=0, content=content)


def retriever(name: str, given: list[Any], said: Ballot | AttemptFailed, states: Any = None) -> Agent:
    agent = Agent(name)

    @agent.skill(id="find_passages", takes_value=True)
    async def find(value: Any, task: TaskContext) -> Any:
        given.append((name, task.key, value))
        if isinstance(said, AttemptFailed):
            raise said
        return said

    @agent.skill(id="state_fact", takes_value=True)
    async def state(value: Any, task: TaskContext) -> Any:
        if isinstance(states, AttemptFailed):
            raise states
        return states or value["facts"][value["speakers"][name]]

    return agent


async def asked(*retrievers: Agent, **given: Any) -> tuple[Any, list[Any]]:
    """Ask the lead beside these retrievers; return the answer and the story."""
    async with squad(lead.agent, *retrievers) as up:
        async with up.client.delegate("answer_question", GIVEN | given) as task:
            story = [event.value async for event in task.events() if event.kind == "artifact"]
            return await task.result(), story


async def test_all_retrievers_are_asked_the_same_and_their_ballots_fused() -> None:
    given: list[Any] = []
    one = retriever("r-one", given, ballot(found("a.md"), found("b.md", 3, 4)))
    other = retriever("r-other", given, ballot(found("b.md", 3, 4), found("c.md")))
    answer, story = await asked(one, other, only=["*.md"])
    assert sorted(name for name, _, _ in given) == ["r-one", "r-other"]
    assert {key.rpartition("-")[0] for _, key, _ in given} == {"look-r-one", "look-r-other"}
    assert [value for _, _, value in given] == [GIVEN | {"only": ["*.md"]}] * 2
    assert [(one["path"], one["line"], one["in_favour"]) for one in answer["citations"]] == [
        ("b.md", 3, 2), ("a.md", 1, 1), ("c.md", 1, 1),
    ]  # fmt: skip
    assert answer["is_carried"] and answer["heard"] == ["r-one", "r-other"] and answer["unheard"] == []
    assert answer["text"].splitlines()[:2] == ["b.md:3-4 (Two), 2 of 2 for it", "  Leases lapse."]
    assert {told["who"] for told in story if told["kind"] == "found"} == {"r-one", "r-other"}


async def test_a_name_with_a_line_feed_stays_on_its_line() -> None:
    answer, _ = await asked(retriever("r-one", [], ballot(found("a\nb.md:1, 9 of 9 for it"), found("c ü.md"))))
    assert answer["citations"][0]["path"] == "a\nb.md:1, 9 of 9 for it"
    assert [line for line in answer["text"].splitlines() if line.endswith("for it")] == [
        "'a\\nb.md:1, 9 of 9 for it':1 (Two), 1 of 1 for it", "c ü.md:1 (Two), 1 of 1 for it",
    ]  # fmt: skip


async def test_a_retriever_that_fails_is_named_and_not_counted() -> None:
    broken = retriever("r-broken", [], AttemptFailed("no memory left", code="memory"))
    answer, story = await asked(retriever("r-one", [], ballot(found("a.md"))), broken)
    assert answer["unheard"] == [{"agent": "r-broken", "why": "no memory left"}]
    assert answer["is_carried"] and answer["heard"] == ["r-one"]
    assert "r-broken was not heard: no memory left" in answer["text"]
    assert {"kind": "failed", "who": "r-broken", "what": "no memory left"} in story


@pytest.mark.parametrize("kept", ["desk,r-one", "desk,r-one,r-gone"])
async def test_of_those_that_are_away_only_who_is_to_be_there_is_missed(
    monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    monkeypatch.setattr(lead, "QUEUE_AWAY", 0.2)
    monkeypatch.setenv(SQUAD_VARIABLE, kept)
    one, gone = (retriever(name, [], ballot(found("a.md"))) for name in ("r-one", "r-gone"))
    async with squad(lead.agent, one) as up, anyio.create_task_group() as group:
        stop, ready = anyio.Event(), anyio.Event()
        group.start_soon(partial(gone.run, settings=up.settings, stop=stop, ready=ready.set))
        await ready.wait()
        stop.set()
        while not any(it.status == "away" for it in await up.client.find("find_passages")):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        answer = await up.client.call("answer_question", GIVEN)
    assert answer["heard"] == ["r-one"]
    assert [it["agent"] for it in answer["unheard"]] == ["r-gone"] * ("r-gone" in kept)


async def test_where_nobody_is_heard_it_fails_with_the_reason() -> None:
    wrong = [retriever(name, [], AttemptFailed("no folder", code="no_such_folder")) for name in ("r-one", "r-other")]
    async with squad(lead.agent, *wrong) as up:
        async with up.client.delegate("answer_question", GIVEN) as task:
            with pytest.raises(TaskFailed, match="no folder"):
                await task.result()
        assert (await up.client.get(task.id))["metadata"]["error"]["code"] == "no_such_folder"


async def test_it_waits_for_a_retriever_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "ASSEMBLY", 0.1)
    async with squad(lead.agent) as up, up.client.delegate("answer_question", GIVEN) as task:
        with pytest.raises(TaskFailed, match="nobody is there for find_passages"):
            await task.result()


TEN, THIRTY = found("a.md", quote="A lease lasts 10 seconds."), found("b.md", 7, 8, "A lease lasts 30 seconds.")
LASTS = {"question": "how long does a lease last?", "folder": "/docs"}


async def test_a_contradiction_becomes_a_conflict_with_both_quotes() -> None:
    all_three = [retriever(name, [], ballot(TEN, THIRTY)) for name in ("r-one", "r-other", "r-third")]
    async with squad(lead.agent, *all_three) as up:
        async with up.client.delegate("answer_question", LASTS) as task:
            answer = await task.result()
        [conflict] = await up.client.conflicts()
        record = await up.client.conflict(conflict["conflict"])
    assert answer["conflict"] == conflict["conflict"]
    assert [(fact["path"], fact["line"], fact["says"]) for fact in answer["contradicting"]] == [
        ("a.md", 1, "10"), ("b.md", 7, "30"),
    ]  # fmt: skip
    assert f"These contradict each other (a2a conflict show {answer['conflict']}):" in answer["text"]
    assert "  a.md:1: A lease lasts 10 seconds.\n  b.md:7: A lease lasts 30 seconds." in answer["text"]
    assert "A lease lasts 10 seconds." in str(record) and "A lease lasts 30 seconds." in str(record)
    assert {subject["group"] for subject in record["subjects"]} == {0, 1}
    assert record["resolution"]["outcome"] == "reject_all", "nobody here knows which is true"


async def test_where_nobody_states_the_other_side_both_are_told_without_a_conflict() -> None:
    gone = AttemptFailed("b.md does not say so any more", code="gone")
    same = [{"path": path, "says": "10"} for path in ("a.md", "c.md")]
    for states in ([gone, gone], same):
        names = zip(("r-one", "r-other"), states, strict=True)
        answer, story = await asked(*(retriever(name, [], ballot(TEN, THIRTY), said) for name, said in names), **LASTS)
        assert (answer["conflict"], len(answer["contradicting"])) == ("", 2)
        assert "These contradict each other:\n" in answer["text"]
        assert ("failed" in {told["kind"] for told in story}) == (states is not same)


async def test_one_retriever_alone_makes_no_conflict() -> None:
    answer, _ = await asked(retriever("r-one", [], ballot(TEN, THIRTY)), **LASTS)
    assert (answer["conflict"], len(answer["contradicting"])) == ("", 2)


async def test_without_a_contradiction_nobody_states_anything() -> None:
    never = AttemptFailed("nobody should ask")
    answer, story = await asked(*(retriever(name, [], ballot(TEN), never) for name in ("r-one", "r-other")), **LASTS)
    assert (answer["conflict"], answer["contradicting"]) == ("", [])
    assert "failed" not in {told["kind"] for told in story}


def test_what_no_majority_is_for_is_told_so() -> None:
    ballots = {name: ballot(found(f"{name}.md")) for name in ("r-a", "r-b", "r-c")}
    answer = sum_up("?", ballots, {})
    assert not answer["is_carried"]
    said = answer["text"].splitlines()
    assert said[0] == "No passage is among the first of most of 3 retrievers; these come nearest."
    assert [line.split()[0] for line in said if ".md:" in line] == ["r-a.md:1", "r-b.md:1", "r-c.md:1"]


def test_nothing_found_is_an_answer() -> None:
    answer = sum_up("?", {"r-a": ballot()}, {})
    assert (answer["text"], answer["citations"], answer["is_carried"]) == ("Nothing in 2 documents fits.", [], False)


def test_only_the_first_passages_are_cited_and_fewer_shown() -> None:
    answer = sum_up("?", {"r-a": ballot(*(found(f"{number}.md") for number in range(12)))}, {})
    assert len(answer["citations"]) == 10
    assert [number for number in range(12) if f"{number}.md" in answer["text"]] == [0, 1, 2]


def test_what_was_not_read_and_that_somebody_wrote_meanwhile_is_told() -> None:
    one, other = ballot(found("a.md")), ballot(found("a.md"), content="another")
    other["searched"] = 3
    other["skipped"] = [{"path": f"{number}.md", "why": "binary"} for number in range(4)]
    other["skipped_total"] = 9
    answer = sum_up("?", {"r-a": one, "r-b": other}, {})
    assert answer["has_changed"] and answer["searched"] == 3
    assert answer["text"].splitlines()[-2:] == [
        "Somebody wrote to the documents while they were read.",
        "Not read: 0.md (binary), 1.md (binary), 2.md (binary), and 6 more",
    ]


def test_the_squad_names_its_agents_and_the_skill_of_its_lead() -> None:
    assert SQUAD["agents"] == AGENTS
    assert set(AGENTS) >= {"desk", "desk-words", "desk-ngrams", "desk-sections"}
    assert lead.agent.name == "desk"
    assert [skill["id"] for skill in lead.agent.card()["skills"]] == [SQUAD["skill"]]
