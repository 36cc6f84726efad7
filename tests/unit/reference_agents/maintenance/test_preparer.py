from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance import preparer as module
from reference_agents.maintenance.environment import Environment
from reference_agents.maintenance.evidence import Run, run_tests
from reference_agents.maintenance.preparer import agent, prepare, prepare_workspace
from reference_agents.maintenance.sandbox import Sandbox
from reference_agents.maintenance.workspace import read_json

MAKE = Callable[..., Any]
FILES = {
    "project.py": "import os\nANSWER = 42\n",
    "test_project.py": "import project\ndef test_good(): assert project.ANSWER == 42\ndef test_bad(): assert False\n",
}


@pytest.fixture(autouse=True)
def sandboxed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the sandbox once and not in every test; where there is none, these tests may go without."""

    async def known(*_: object) -> Sandbox:
        return sandbox

    monkeypatch.setattr(module, "detect", known)


async def made(source: Any, run_dir: Path, **options: Any) -> Any:
    return await prepare_workspace(source, str(run_dir), **({"allow_unsandboxed": True} | options))


async def test_a_repository_becomes_a_workspace_with_a_baseline(repository: MAKE, tmp_path: Path) -> None:
    repo = repository(FILES)
    before = repo.looks_like()
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert (workspace["evidence"], workspace["evidence_reason"]) == ("ok", "")
    assert workspace["base"] == repo.git("rev-parse", "HEAD")
    assert workspace["findings"]["total"] > 0
    tests = workspace["tests"]
    assert (tests["total"], tests["passed"], tests["failed"]) == (2, 1, 1)
    assert tests["failing"] == ["test_project.py::test_bad"]
    stored = read_json(tests["path"], tests["digest"])
    assert stored["outcomes"] == {"test_project.py::test_good": "passed", "test_project.py::test_bad": "failed"}
    assert repo.looks_like() == before
    again = await made({"repository": str(repo.path)}, tmp_path / "run")
    again["tests"]["seconds"] = tests["seconds"]
    assert again == workspace, "a second attempt in the same folder comes to the same"


async def test_a_test_that_is_not_the_same_twice_is_unstable(repository: MAKE, tmp_path: Path) -> None:
    good = "import project\ndef test_good(): assert project.ANSWER == 42\n"
    sometimes = "import pytest, time\n@pytest.mark.parametrize('now', [time.time_ns()])\ndef test_now(now): pass\n"
    repo = repository({"project.py": "ANSWER = 42\n", "test_a.py": good, "test_b.py": sometimes})
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert workspace["evidence"] == "ok"
    assert [test.partition("[")[0] for test in workspace["tests"]["unstable"]] == ["test_b.py::test_now"] * 2


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"project.py": "x = 1\n"}, "no tests were found"),
        ({"test_a.py": "def test_bad(): assert False\n"}, "no test passes"),
        (
            {"test_a.py": "def test_good(): pass\ndef test_bad(): {}['x']\ndef test_worse(): assert False\n"},
            "only 1 of 3 tests pass before anything is touched: KeyError: 'x'",
        ),
        ({"conftest.py": "raise RuntimeError('not here')\n", "test_a.py": "def test_good(): pass\n"}, "not here"),
        ({"test_a.py": "import nothing_of_that_name\n"}, "No module named 'nothing_of_that_name'"),
    ],
)
async def test_where_tests_cannot_decide_the_workspace_says_why(
    files: dict[str, str], reason: str, repository: MAKE, tmp_path: Path
) -> None:
    workspace = await made({"repository": str(repository(files).path)}, tmp_path / "run")
    assert workspace["evidence"] == "none"
    assert reason in workspace["evidence_reason"]


async def test_what_tests_do_not_find_is_fetched_as_far_as_it_is_known(
    repository: MAKE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[list[str]] = []

    async def fetch(made: Environment, requirements: list[str]) -> Environment:
        fetched.append(requirements)
        [site] = Path(made.python).parents[1].glob("lib/python*/site-packages")
        for name in requirements:
            (site / f"{name.replace('-', '_')}.py").write_text("import second_need\n" if "first" in name else "")
        return Environment(made.python, (*made.notes, "a note"))

    monkeypatch.setattr(module, "extend_environment", fetch)
    needs = "first-need\nsecond-need\nthird-need\n"
    repo = repository({"test_a.py": "import first_need\ndef test_good(): pass\n", "dev-requirements.txt": needs})
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert fetched == [["first-need"], ["second-need"]]
    assert (workspace["evidence"], workspace["tests"]["passed"], workspace["notes"]) == ("ok", 1, ["a note"] * 2)


async def test_while_something_can_be_fetched_no_test_is_run(
    repository: MAKE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[dict[str, str]] = []

    async def watched(*arguments: Any, **options: Any) -> Run:
        run = await run_tests(*arguments, **options)
        runs.append(dict(run.outcomes))
        return run

    async def fetch(made: Environment, requirements: list[str]) -> Environment:
        [site] = Path(made.python).parents[1].glob("lib/python*/site-packages")
        (site / "a_need.py").write_text("")
        return made

    monkeypatch.setattr(module, "run_tests", watched)
    monkeypatch.setattr(module, "extend_environment", fetch)
    good = {"test_b.py": "def test_b(): pass\n", "requirements.txt": "a-need\n"}
    repo = repository(good | {"test_a.py": "import a_need\ndef test_a(): pass\n"})
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert (workspace["evidence"], workspace["tests"]["passed"]) == ("ok", 2)
    assert [len(outcomes) for outcomes in runs] == [1, 2, 2], "the file that is not collected, and two runs of all"
    runs.clear()
    beyond = repository(good | {"test_a.py": "import nothing_of_that_name\n"}, name="beyond")
    workspace = await made({"repository": str(beyond.path)}, tmp_path / "other")
    assert (workspace["evidence"], workspace["tests"]["passed"], workspace["tests"]["failed"]) == ("ok", 1, 1)
    assert runs[-1] == {"test_a.py": "error", "test_b.py::test_b": "passed"}, "what cannot be mended is left aside"


async def test_what_cannot_be_had_is_tried_once(
    repository: MAKE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nowhere(made: Environment, requirements: list[str]) -> Environment:
        return Environment(made.python, (*made.notes, f"could not install {' '.join(requirements)}"))

    monkeypatch.setattr(module, "extend_environment", nowhere)
    workspace = await made({"repository": str(repository({"test_a.py": "import mock\n"}).path)}, tmp_path / "run")
    reason = "ModuleNotFoundError: No module named 'mock' (could not install mock)"
    assert workspace["evidence_reason"] == f"no test passes before anything is touched: {reason}"


async def test_options_for_plugins_that_are_not_here_are_left_out(repository: MAKE, tmp_path: Path) -> None:
    repo = repository({"test_a.py": "def test_good(): pass\n", "pytest.ini": "[pytest]\naddopts = --cov=project\n"})
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert workspace["evidence"] == "ok"
    assert workspace["pytest_options"] == ["-o", "addopts="]


async def test_a_plugin_that_pytest_does_not_take_any_more_is_left_out(repository: MAKE, tmp_path: Path) -> None:
    plugin = "def pytest_collect_file(path, nobody, knows): pass\n"
    files = {
        "test_a.py": "def test_good(): pass\n",
        "old_plugin.py": plugin,
        "old_plugin-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: old-plugin\nVersion: 1\n",
        "old_plugin-1.dist-info/entry_points.txt": "[pytest11]\nold = old_plugin\n",
    }
    workspace = await made({"repository": str(repository(files).path)}, tmp_path / "run")
    assert (workspace["evidence"], workspace["tests"]["passed"]) == ("ok", 1)
    assert workspace["pytest_options"] == ["-p", "no:old"]


async def test_tests_by_the_names_that_other_runners_take_are_found_where_there_are_no_others(
    repository: MAKE, tmp_path: Path
) -> None:
    names = ("project/tests.py", "tests/project_tests.py", "testall.py")
    repo = repository(dict.fromkeys(names, "def test_good(): pass\n"))
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert (workspace["evidence"], workspace["tests"]["passed"]) == ("ok", 3)
    assert workspace["pytest_options"] == ["-o", "python_files=test*.py *_test.py *_tests.py"]
    with_both = repository({"test_a.py": "def test_a(): pass\n", "tests.py": "def test_b(): pass\n"}, name="both")
    workspace = await made({"repository": str(with_both.path)}, tmp_path / "other")
    assert (workspace["tests"]["passed"], workspace["pytest_options"]) == (1, [])


async def test_warnings_that_pytest_has_learned_since_are_no_errors_where_they_would_end_it(
    repository: MAKE, tmp_path: Path
) -> None:
    marks = "import pytest\ndef pytest_collection_modifyitems(items): items[0].add_marker(pytest.mark.unknown)\n"
    strict = "[pytest]\nfilterwarnings = error\n"
    repo = repository({"test_a.py": "def test_good(): pass\n", "conftest.py": marks, "pytest.ini": strict})
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run")
    assert (workspace["evidence"], workspace["tests"]["passed"]) == ("ok", 1)
    assert workspace["pytest_options"] == ["-W", "ignore::pytest.PytestWarning"]


async def test_without_a_sandbox_nothing_of_the_repository_runs_unless_allowed(
    repository: MAKE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    repo = repository({"test_a.py": f"open({str(mark)!r}, 'w')\ndef test_good(): pass\n"})

    async def nothing(*_: object) -> Sandbox:
        return Sandbox("none")

    monkeypatch.setattr(module, "detect", nothing)
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run", allow_unsandboxed=False)
    assert (workspace["sandbox"], workspace["evidence"]) == ("none", "none")
    assert "not allowed" in workspace["evidence_reason"]
    assert not mark.exists()
    allowed = await made({"repository": str(repo.path)}, tmp_path / "other", allow_unsandboxed=True)
    assert (allowed["sandbox"], allowed["evidence"]) == ("none", "ok")
    assert mark.exists()


async def test_what_is_only_asked_about_is_ready_without_an_environment(repository: MAKE, tmp_path: Path) -> None:
    repo = repository(FILES)
    workspace = await made({"repository": str(repo.path)}, tmp_path / "run", with_tests=False)
    assert (workspace["python"], workspace["evidence"], workspace["evidence_reason"]) == ("", "none", "")
    assert workspace["findings"]["total"] > 0 and workspace["tests"]["total"] == 0
    assert not (tmp_path / "run" / "environments").exists()


async def test_a_source_that_cannot_be_worked_on_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(AttemptFailed) as caught:
        await made({"repository": str(tmp_path / "nothing")}, tmp_path / "run")
    assert caught.value.error_code == "no_such_path"
    assert not (tmp_path / "run").exists()


async def test_the_skill_reports_how_far_it_is(repository: MAKE, tmp_path: Path, fake_task: MAKE) -> None:
    task = fake_task()
    source: Any = {"repository": str(repository({"a.py": "x = 1\n"}).path)}
    workspace = await prepare(source, str(tmp_path / "run"), task, allow_unsandboxed=True)
    assert workspace["files"] == ["a.py"]
    assert len(task.notes) >= 4


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["prepare"]
