from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reference_agents.maintenance.outcomes import (
    ENVIRONMENT_VARIABLE,
    ONLY_VARIABLE,
    pytest_collection_modifyitems,
    pytest_collectreport,
    pytest_runtest_logreport,
)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "outcomes.jsonl"
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(path))
    return path


def report(when: str, outcome: str, **more: Any) -> Any:
    passed, failed, skipped = (outcome == it for it in ("passed", "failed", "skipped"))
    return SimpleNamespace(
        nodeid="t.py::t", when=when, outcome=outcome, passed=passed, failed=failed, skipped=skipped, **more
    )


@pytest.mark.parametrize(
    ("reports", "outcomes"),
    [
        ([report("setup", "passed"), report("call", "passed"), report("teardown", "passed")], ["passed"]),
        ([report("setup", "passed"), report("call", "failed"), report("teardown", "passed")], ["failed"]),
        ([report("setup", "failed")], ["error"]),
        ([report("setup", "passed"), report("call", "passed"), report("teardown", "failed")], ["passed", "error"]),
        ([report("setup", "skipped")], ["skipped"]),
        ([report("setup", "passed"), report("call", "skipped")], ["skipped"]),
        ([report("setup", "passed"), report("call", "skipped", wasxfail="why")], ["xfailed"]),
        ([report("setup", "passed"), report("call", "passed", wasxfail="why")], ["xpassed"]),
        ([report("setup", "skipped", wasxfail="run=False")], ["xfailed"]),
    ],
)
def test_each_way_a_test_can_end_has_a_word(reports: list[Any], outcomes: list[str], written: Path) -> None:
    for it in reports:
        pytest_runtest_logreport(it)
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert [line["outcome"] for line in lines] == outcomes
    assert {line["test"] for line in lines} == {"t.py::t"}


def test_a_file_that_cannot_be_collected_is_an_error(written: Path) -> None:
    pytest_collectreport(SimpleNamespace(nodeid="t.py", failed=True))
    pytest_collectreport(SimpleNamespace(nodeid="u.py", failed=False))
    assert written.read_text() == '{"test": "t.py", "outcome": "error", "when": ""}\n'


@pytest.mark.parametrize(
    ("only", "left"), [(None, 3), (["u.py::three"], 1), (["a/t.py::one", "gone.py::one"], 1), (["a/t.py"], 0)]
)
def test_of_the_tests_that_were_collected_some_are_run(
    only: list[str] | None, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ONLY_VARIABLE, raising=False)
    if only is not None:
        (tmp_path / "only.json").write_text(json.dumps(only))
        monkeypatch.setenv(ONLY_VARIABLE, str(tmp_path / "only.json"))
    items = [SimpleNamespace(nodeid=test) for test in ("a/t.py::one", "a/t.py::Some::two", "u.py::three")]
    told: list[Any] = []
    hook = SimpleNamespace(pytest_deselected=lambda *, items: told.extend(items))
    kept = [*items]
    pytest_collection_modifyitems(SimpleNamespace(hook=hook), kept)
    assert (len(kept), len(told)) == (left, 3 - left)
