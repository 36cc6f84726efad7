from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance.retriever import agent, find_files, retrieve, words_of

MAKE = Callable[..., Any]
FILES = {
    "package/parser.py": (
        '"""Parsing."""\n\nclass TableParser:\n    """Read tables."""\n    def parse_row(self): pass\n'
    ),
    "package/writer.py": "from package.parser import TableParser\n\ndef write(rows): pass\n\nMAX_ROWS = 3\n",
    "package/other.py": "x = 1\n",
    "broken.py": "def (: parser\n",
    "notes.txt": "parser parser parser",
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parse_row", ["parse_row", "parse", "row"]),
        ("TableParser", ["tableparser", "table", "parser"]),
        ("parseURLList", ["parseurllist", "parse", "url", "list"]),
        ("x = y2", ["x", "y2", "y", "2"]),
    ],
)
def test_identifiers_fall_into_words(text: str, words: list[str]) -> None:
    assert list(words_of(text)) == words


async def test_the_file_and_the_symbol_that_fit_come_first(repository: MAKE, plan_for: MAKE, fake_task: MAKE) -> None:
    repo = repository(FILES)
    repo.write({"untracked.py": "parser = 1\n"})
    plan = plan_for(kind="find", query="where is the table parser?")
    listing = await find_files(str(repo.path), plan, fake_task())
    assert [found["path"] for found in listing["files"]] == ["package/parser.py", "package/writer.py", "broken.py"]
    best = listing["symbols"][0]
    assert (best["name"], best["kind"], best["path"], best["line"]) == ("TableParser", "class", "package/parser.py", 3)
    assert listing["searched"] == 4
    assert listing["answer"].startswith("package/parser.py fits best")
    assert "Read tables." in listing["answer"]


async def test_a_plan_that_names_nothing_looks_for_what_gives_old_code_away(repository: MAKE, plan_for: MAKE) -> None:
    repo = repository({"old.py": "import six\nx = six.text_type(unicode)\n", "new.py": "x = str()\n"})
    listing = await retrieve(str(repo.path), plan_for())
    assert [found["path"] for found in listing["files"]] == ["old.py"]
    assert listing["answer"] == ""


async def test_the_paths_of_the_plan_limit_the_search(repository: MAKE, plan_for: MAKE) -> None:
    listing = await retrieve(str(repository(FILES).path), plan_for(query="parser", paths=["package/writer.py"]))
    assert (listing["searched"], [found["path"] for found in listing["files"]]) == (1, ["package/writer.py"])


async def test_nothing_found_is_an_answer(repository: MAKE, plan_for: MAKE) -> None:
    listing = await retrieve(str(repository(FILES).path), plan_for(kind="find", query="zebra"))
    assert listing["answer"] == "Nothing in 4 files matches."


async def test_a_folder_without_a_repository_is_told(tmp_path: Path, plan_for: MAKE) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(AttemptFailed) as caught:
            await retrieve(str(path), plan_for())
        assert caught.value.error_code == "not_a_repository"


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["find_files"]
