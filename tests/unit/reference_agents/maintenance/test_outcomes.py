from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reference_agents.maintenance.outcomes import (
    ENVIRONMENT_VARIABLE,
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
