from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from a2a import Policy
from a2a.testing import squad
from reference_agents.desk import AGENTS
from reference_agents.desk import evaluate as module
from reference_agents.desk.evaluate import evaluate, figures_of, is_ahead, main, table
from reference_agents.desk.questions import Place, Question

QUESTIONS = [
    Question("reworded", "who renews a lease?", (Place("lease.md", "A heartbeat renews"),)),
    Question("typo", "pengiuns", (Place("birds.txt", "Penguins swim"),)),
    Question("exact", "zebra", (Place("birds.txt", "zebra"),)),
]


def test_figures_are_parts_of_all_questions() -> None:
    figures = figures_of([1, 2, 4, 11, None])
    assert (figures.first, figures.of_three, figures.of_ten) == (0.2, 0.4, 0.6)
    assert figures.mrr == pytest.approx((1 + 1 / 2 + 1 / 4) / 5)
    assert figures_of([]).mrr == 0


async def test_every_retriever_and_the_lead_are_asked_everything(folder: Path) -> None:
    async with squad(*module.load_agents(), policy=Policy()) as up:
        ranks = await evaluate(up.client, QUESTIONS, folder, ["*.md", "*.txt"])
    assert set(ranks) == set(AGENTS)
    assert ranks["desk-words"] == [1, None, None]
    assert ranks["desk-ngrams"][1:] == [1, None]
    assert ranks["desk"][1] == 1 and ranks["desk"][2] is None


def test_the_table_names_everybody_with_figures_by_kind() -> None:
    lines = table(QUESTIONS, {"desk-words": [1, None, 2], "desk": [1, 1, 1]})
    assert lines[0] == "3 questions: 1 reworded, 1 typo, 1 exact"
    assert lines[3].split() == [
        "desk-words", "33.3%", "66.7%", "66.7%", "0.500", "reworded", "1.000,", "typo", "0.000,", "exact", "0.500",
    ]  # fmt: skip
    assert lines[4].split()[:3] == ["the", "squad", "100.0%"]


def test_the_squad_is_ahead_only_of_all_of_its_retrievers() -> None:
    assert is_ahead({"a": [2], "b": [None], "desk": [1]})
    assert not is_ahead({"a": [2], "b": [1], "desk": [1]})


def test_the_command_ends_with_1_where_the_squad_is_not_ahead(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen = tmp_path / "questions.json"
    entry: dict[str, Any] = {"kind": "exact", "question": "penguins"}
    chosen.write_text(json.dumps([entry | {"expected": [{"path": "birds.txt", "text": "Penguins swim"}]}]))
    assert main(["--folder", str(folder), "--only", "*.txt", "--questions", str(chosen), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {name: [1] for name in AGENTS}


@pytest.mark.long
def test_the_squad_is_ahead_on_the_questions_about_this_repository(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, "the squad is no better than its best retriever alone"
    assert "the squad" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "why"), [("", " has none of README.md, spec/v1/protocol.md"), ("nowhere", "nowhere is not a folder")]
)
def test_a_folder_without_the_documents_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: str, why: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--folder", str(tmp_path / folder)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"--folder: {tmp_path}" in said
    assert why in said
