from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest

from reference_agents.desk import MODEL_PACKAGE
from reference_agents.desk.by_meaning import MeaningIndex, agent, load_model
from reference_agents.desk.passages import Passage

LINES = Callable[..., list[str]]
WITHOUT_NETWORK = """
import socket
def refuse(*given, **options):
    raise AssertionError("nothing is fetched")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from reference_agents.desk.by_meaning import load_model
[one, same, other] = load_model()(["the boat sinks", "a ship goes down", "taxes are due"])
near = lambda a, b: sum(x * y for x, y in zip(a, b))
assert near(one, same) > near(one, other), (near(one, same), near(one, other))
"""


def embed(texts: list[str]) -> Iterable[list[float]]:
    """Say how much of a text is about birds, and how much about leases."""
    return [[float(text.count("Swift") + text.count("flying")), float(text.count("lease"))] for text in texts]


def test_passages_are_ranked_by_their_vectors(passages: list[Passage], lines_of: LINES) -> None:
    index = MeaningIndex(passages, embed)
    assert lines_of(index.rank("flying"))[0] == "birds.txt:3"
    assert lines_of(index.rank("lease"))[:2] == ["lease.md:5", "lease.md:11"]
    assert MeaningIndex([], embed).rank("lease") == []


def test_without_the_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODEL_PACKAGE, None)
    with pytest.raises(ImportError, match=r"needs the package wordllama: pip install 'a2a-coordinator\[meaning\]'"):
        load_model()


@pytest.mark.skipif(find_spec(MODEL_PACKAGE) is None, reason="the extra `meaning` is not installed")
def test_the_model_comes_with_its_package_and_knows_what_words_mean() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_is_logged_is_not_for_the_package_to_say(tmp_path: Path) -> None:
    (tmp_path / f"{MODEL_PACKAGE}.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.INFO)\n"
        "class WordLlama:\n    load = staticmethod(lambda **options: None)\n"
    )
    look = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from reference_agents.desk.by_meaning import load_model; "
        "load_model(); import logging; print(logging.getLogger().handlers, logging.getLogger().level)"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[] 30\n", "")


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["find_passages", "state_fact"]
