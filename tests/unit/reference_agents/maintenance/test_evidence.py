from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reference_agents.maintenance import evidence as module
from reference_agents.maintenance.evidence import (
    Baseline,
    Run,
    RunSettings,
    compare,
    count,
    is_worse,
    no_evidence,
    run_tests,
    those_against,
    unstable_tests,
    within,
)
from reference_agents.maintenance.shapes import EVIDENCE_IDS_MAX, EXCERPT_CHARS_MAX, Outcome
from reference_agents.maintenance.workspace import checkout

MAKE = Callable[..., Any]


def run(output: str = "", **outcomes: Outcome) -> Run:
    return Run(outcomes, output, 0, timed_out=False, seconds=1.0)


@pytest.mark.parametrize(
    ("before", "now", "failing", "vanished"),
    [
        ("passed", "passed", [], []),
        ("passed", "failed", ["t"], []),
        ("passed", "error", ["t"], []),
        ("passed", "skipped", [], ["t"]),
        ("passed", None, [], ["t"]),
        ("passed", "xfailed", [], []),
        ("failed", "failed", [], []),
        ("failed", "error", [], []),
        ("failed", "passed", [], []),
        ("failed", "skipped", [], []),
        ("failed", None, [], ["t"]),
        ("skipped", "failed", ["t"], []),
        ("skipped", None, [], ["t"]),
        ("xfailed", "skipped", [], ["t"]),
        (None, "failed", ["t"], []),
        (None, "passed", [], []),
    ],
)
def test_a_test_speaks_against_a_change_by_failing_newly_or_by_falling_silent(
    before: Outcome | None, now: Outcome | None, failing: list[str], vanished: list[str]
) -> None:
    baseline = Baseline({"t": before} if before else {})
    found = compare(baseline, run(**({"t": now} if now else {})))
    assert (found["failing"], found["vanished"]) == (failing, vanished)
    assert is_worse(found) is bool(failing or vanished)


def test_an_unstable_test_says_nothing_either_way() -> None:
    baseline = Baseline({"t": "passed", "u": "passed"}, frozenset({"t", "u"}))
    assert not is_worse(compare(baseline, run(t="failed")))


def test_two_runs_that_differ_show_which_tests_are_unstable() -> None:
    assert unstable_tests({"a": "passed", "b": "passed", "c": "failed"}, {"a": "passed", "b": "failed"}) == ["b", "c"]


def test_evidence_names_a_few_tests_and_says_how_many_there_were() -> None:
    many: dict[str, Outcome] = {f"t{number:03}": "passed" for number in range(100)}
    found = compare(Baseline(many), run())
    assert (len(found["vanished"]), found["vanished_total"]) == (EVIDENCE_IDS_MAX, 100)


def test_the_excerpt_shows_the_failure_and_not_the_whole_output() -> None:
    output = "x" * 5000 + "\n____ test_b ____\nE   assert 1 == 2\n" + "y" * 5000
    found = compare(Baseline({"f.py::test_b": "passed"}), Run({"f.py::test_b": "failed"}, output, 1, False, 1.0))
    assert found["excerpt"].startswith("____ test_b ____\nE   assert 1 == 2")
    assert len(found["excerpt"]) <= EXCERPT_CHARS_MAX
    assert len(no_evidence("x" * 9999)["excerpt"]) <= EXCERPT_CHARS_MAX


def test_a_run_in_figures_adds_up() -> None:
    tally = count({"a": "passed", "b": "xfailed", "c": "error", "d": "failed", "e": "skipped"}, 1.234)
    assert tally == {"total": 5, "passed": 2, "failed": 2, "skipped": 1, "seconds": 1.23}


TESTS = """
import os, pathlib, sys, unittest
import pytest, project

def test_good(): assert project.ANSWER == 42
def test_bad(): assert project.ANSWER == 0
@pytest.mark.parametrize("value", [1, "a b", "$(x)"])
def test_each(value): pass
@pytest.mark.skip
def test_skipped(): pass
class TestOld(unittest.TestCase):
    @unittest.expectedFailure
    def test_expected(self): assert False
def test_environment():
    assert "A2A_TOKEN" not in os.environ
    assert pathlib.Path.home() == pathlib.Path(os.environ["TMPDIR"])
"""


async def test_a_real_run_tells_every_test_and_reports_on_the_way(
    repository: MAKE, workspace_on: MAKE, settings: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A2A_TOKEN", "secret")
    monkeypatch.setattr(module, "LOOK_AGAIN", 0.02)
    notes = []

    async def report(_: float | None, note: str) -> None:
        notes.append(note)

    files = {"project.py": "ANSWER = 42\n", "test_a.py": TESTS, "test_broken.py": "import nothing_of_that_name\n"}
    workspace = await workspace_on(repository(files))
    async with checkout(workspace, "judge", workspace["base"]) as work:
        done = await run_tests(work, settings, report, expected=9)
        again = await run_tests(work, settings)
        assert not [path for path in work.path.rglob("*") if path.name in {"__pycache__", ".pytest_cache"}]
    assert done.outcomes == {
        "test_broken.py": "error",
        "test_a.py::test_good": "passed",
        "test_a.py::test_bad": "failed",
        "test_a.py::test_each[1]": "passed",
        "test_a.py::test_each[a b]": "passed",
        "test_a.py::test_each[$(x)]": "passed",
        "test_a.py::test_skipped": "skipped",
        "test_a.py::TestOld::test_expected": "xfailed",
        "test_a.py::test_environment": "passed",
    }
    assert again.outcomes == done.outcomes
    assert any(note.endswith("of 9 tests") for note in notes)
    assert str(workspace["run_dir"]) not in compare(Baseline({}), done)["excerpt"]


async def test_a_run_that_does_not_end_is_stopped_and_what_it_said_is_kept(
    repository: MAKE, workspace_on: MAKE, settings: RunSettings
) -> None:
    tests = "import time\ndef test_a(): pass\ndef test_b(): time.sleep(600)\n"
    workspace = await workspace_on(repository({"test_a.py": tests}))
    short = RunSettings(settings.python, settings.sandbox, seconds=3.0)
    async with checkout(workspace, "judge", workspace["base"]) as work:
        done = await run_tests(work, short)
    assert done.timed_out
    assert done.outcomes == {"test_a.py::test_a": "passed"}
    found = compare(Baseline({"test_a.py::test_a": "passed", "test_a.py::test_b": "passed"}), done)
    assert found["vanished"] == ["test_a.py::test_b"]
    assert "stopped after 3 seconds" in found["excerpt"]


def test_the_tests_that_speak_against_a_change_can_be_asked_alone() -> None:
    baseline = Baseline({"a.py::t": "passed", "a.py::u": "failed", "b.py::t": "passed", "c.py::t": "passed"})
    told = Run({"a.py::t": "passed", "a.py::u": "failed", "b.py": "error"}, "", 1, False, 1.0)
    assert those_against(baseline, told) == ["b.py", "b.py::t", "c.py::t"]
    assert is_worse(compare(*within({"b.py"}, baseline, told)))
    assert not is_worse(compare(*within({"a.py::t"}, baseline, told))), "of the others it says nothing"


async def test_some_tests_are_run_as_they_are_among_all(
    repository: MAKE, workspace_on: MAKE, settings: RunSettings
) -> None:
    # Named on the command line they would be read with another file of settings, and have other names.
    files = {
        "tests/test_a.py": "def test_a(): pass\n",
        "tests/test_b.py": "def test_b(): pass\n",
        "tests/pytest.ini": "[pytest]\npython_functions = nothing\n",
    }
    workspace = await workspace_on(repository(files))
    async with checkout(workspace, "judge", workspace["base"]) as work:
        told = await run_tests(work, settings, only=["tests/test_b.py::test_b", "tests/gone.py::test_c"])
    assert told.outcomes == {"tests/test_b.py::test_b": "passed"}


async def test_a_test_has_one_name_in_all_folders(repository: MAKE, workspace_on: MAKE, settings: RunSettings) -> None:
    text = """\
import os, pytest
FILES = [__file__, os.path.expanduser("~/x"), "/elsewhere"]
@pytest.mark.parametrize("path", FILES, ids=FILES)
def test_path(path): assert path
"""
    workspace = await workspace_on(repository({"test_a.py": text}))
    told = []
    for owner in ("preparer", "judge"):
        async with checkout(workspace, owner, workspace["base"]) as work:
            told.append((await run_tests(work, settings)).outcomes)
            assert len((await run_tests(work, settings, only=["test_a.py::test_path[test_a.py]"])).outcomes) == 1
    assert told[0] == told[1]
    assert [*told[0]] == [f"test_a.py::test_path[{path}]" for path in ("test_a.py", "x", "/elsewhere")]
