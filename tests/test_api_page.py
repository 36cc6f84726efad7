"""The page of the Python API says what the docstrings say, and its example runs."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

import a2a
from a2a import FenceDirectory
from tests.api_page import PAGE, page

TEXT = PAGE.read_text(encoding="utf-8")


def test_its_tables_are_those_of_the_docstrings() -> None:
    assert page(TEXT) == TEXT, "python -m tests.api_page"
    assert len(re.findall("; begin -->", TEXT)) == len(re.findall("<!-- end -->", TEXT)) > 10


def test_every_public_name_stands_in_it_and_says_what_it_is() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))
    same = {"SyncChildTask", "SyncSharedContext", "__version__"}
    assert {name for name in a2a.__all__ if not told.get(name)} == same


class Granted:
    """A client whose claims have these fences."""

    def __init__(self, fence: int) -> None:
        self.fence = fence

    def claim(self, name: str, wait: float) -> Granted:
        return self

    def __enter__(self) -> Granted:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_the_example_of_the_guards_runs_as_printed(tmp_path: Path) -> None:
    (printed,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    said: dict[str, Any] = {}
    exec(printed, said)

    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE accounts (id INTEGER, balance INTEGER)")
    database.execute("INSERT INTO accounts VALUES (7, 0)")
    said["pay_in"](Granted(9), database, 5)
    with pytest.raises(a2a.FencedOff):
        said["pay_in"](Granted(8), database, 5)
    assert database.execute("SELECT balance FROM accounts").fetchall() == [(5,)]
    database.close()

    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q", ".")
    git("commit", "-q", "--allow-empty", "-m", "first")
    commit = git("rev-parse", "HEAD")
    said["release"](Granted(9), str(tmp_path), commit)
    assert git("rev-parse", "release") == commit
    with pytest.raises(a2a.FencedOff):
        said["release"](Granted(8), str(tmp_path), commit)

    fences = FenceDirectory(tmp_path / "fences")
    answers = [said["put"](fences, headers, "/x") for headers in ({"If-Fence": "9"}, {"If-Fence": "8"}, {})]
    assert answers == [204, 412, 428]
