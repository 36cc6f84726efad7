from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from a2a import TaskFailed
from a2a.testing import squad
from reference_agents.desk import by_ngrams, by_sections, by_words
from reference_agents.desk import retrieving as module
from reference_agents.desk.passages import Passage
from reference_agents.desk.retrieving import retriever


class Lengths:
    """Ranks passages by length, and keeps what it was asked."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages
        self.asked: list[str] = []

    def rank(self, question: str) -> list[tuple[int, float]]:
        self.asked.append(question)
        return sorted(
            ((number, float(len(passage.text))) for number, passage in enumerate(self.passages)),
            key=lambda one: -one[1],
        )


async def test_a_retriever_answers_with_a_ballot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "binary.md").write_bytes(b"\0")
    (folder / "other.md").write_bytes(b"\0")
    monkeypatch.setattr(module, "FOUND_MAX", 2)
    monkeypatch.setattr(module, "SKIPPED_MAX", 1)
    monkeypatch.setattr(module, "QUESTION_MAX", 10)
    built: list[Lengths] = []
    agent = retriever("longest", "Finds the longest.", lambda passages: built.append(Lengths(passages)) or built[-1])
    async with squad(agent) as up:
        given = {"question": "which is the longest?", "folder": str(folder)}
        async with up.client.delegate("find_passages", given) as task:
            ballot = await task.result()
        async with up.client.delegate("find_passages", {**given, "only": ["*.txt"]}) as task:
            assert (await task.result())["searched"] == 1
        for wrong, words in ({"question": " "}, "a question is needed"), ({"folder": "/no/such"}, "is no folder here"):
            with pytest.raises(TaskFailed, match=words):
                async with up.client.delegate("find_passages", given | wrong) as task:
                    await task.result()
    assert len(ballot["found"]) == 2
    assert ballot["found"][0] == {
        "path": "lease.md", "line": 5, "end": 6, "heading": "Leases / How they end", "score": 88.0,
        "quote": "A lease lapses when nobody hears from its holder.\nThe task then waits for another agent.",
    }  # fmt: skip
    assert (ballot["searched"], ballot["skipped_total"]) == (2, 2)
    assert ballot["skipped"] == [{"path": "binary.md", "why": "binary"}]
    assert len(ballot["content"]) == 64
    assert built[0].asked == ["which is t"]


async def test_it_states_the_fact_it_speaks_for_as_long_as_the_document_does(folder: Path) -> None:
    other = {"path": "birds.txt", "line": 1, "end": 1, "quote": "Penguins swim under the ice.", "says": ""}
    mine = {"path": "lease.md", "line": 1, "end": 1, "quote": "The task then waits for another agent.", "says": "x"}
    given = {"facts": [other, mine], "speakers": {"longest": 1}, "folder": str(folder)}
    async with squad(retriever("longest", "Finds the longest.", Lengths)) as up:
        async with up.client.delegate("state_fact", given) as task:
            assert await task.result() == mine | {"line": 5, "end": 6}, "where it stands now"
        changed = {**mine, "quote": "The task then waits."}
        for wrong, words in (
            ({"speakers": {"another": 1}}, "speaks for none of them"),
            ({"speakers": {"longest": 2}}, "speaks for none of them"),
            ({"facts": [other, changed]}, "lease.md does not say so any more"),
            ({"facts": [other, {**mine, "path": "birds.txt"}]}, "birds.txt does not say so any more"),
        ):
            with pytest.raises(TaskFailed, match=words):
                async with up.client.delegate("state_fact", given | wrong) as task:
                    await task.result()


@pytest.mark.parametrize("index", [by_words.WordIndex, by_ngrams.NgramIndex, by_sections.SectionIndex])
def test_an_index_finds_what_is_there_and_says_so_where_nothing_is(
    index: Callable[[Sequence[Passage]], module.Index],
    passages: list[Passage],
    lines_of: Callable[..., list[str]],
) -> None:
    built = index(passages)
    assert lines_of(built.rank("how do penguins swim?"))[0] == "birds.txt:1"
    assert lines_of(built.rank("who renews a lease"))[0] == "lease.md:11"
    assert built.rank("how do penguins swim?") == built.rank("how do penguins swim?")
    assert list(built.rank("zzz")) == []
    assert list(built.rank("of the")) == []
    assert list(index([]).rank("lease")) == []


@pytest.mark.parametrize("module_of", [by_words, by_ngrams, by_sections])
def test_the_card_names_the_skill(module_of: Any) -> None:
    assert [skill["id"] for skill in module_of.agent.card()["skills"]] == ["find_passages", "state_fact"]
