from __future__ import annotations

import sys
from pathlib import Path

import pytest

from reference_agents.maintenance import findings as module
from reference_agents.maintenance import processes
from reference_agents.maintenance.findings import RULES_OF, SYNTAX, batches, count_findings, list_findings, ruff


async def test_findings_are_counted_by_rule_in_the_files_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os\nimport sys\n")
    (tmp_path / "b.py").write_text("import os\n")
    found = await count_findings(tmp_path, ["a.py"])
    assert found == {"total": 2, "by_rule": {"F401": 2}}


async def test_the_repositorys_own_settings_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os\n")
    (tmp_path / "ruff.toml").write_text("[lint]\nselect = []\n")
    (tmp_path / "ruff.py").write_text("raise SystemExit('a module of the repository was run')\n")
    assert (await count_findings(tmp_path, ["a.py"]))["total"] == 1


async def test_a_file_that_is_no_python_counts_as_such(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def (:\n")
    assert SYNTAX in (await count_findings(tmp_path, ["a.py"]))["by_rule"]


async def test_a_file_that_is_gone_has_no_findings(tmp_path: Path) -> None:
    assert await count_findings(tmp_path, ["gone.py"]) == {"total": 0, "by_rule": {}}


async def test_findings_are_listed_for_some_rules(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os\nx = set([1])\n")
    [found] = await list_findings(tmp_path, ["a.py", "gone.py"], "C4")
    assert (found["code"], found["location"]["row"], Path(found["filename"]).name) == ("C405", 2, "a.py")


async def test_findings_are_counted_however_much_there_is_to_say_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "OUTPUT_BYTES_MAX", 20_000)  # a finding takes some 500, and no line may be longer
    (tmp_path / "a.py").write_text("x = set([1])\n" * 500)
    assert await count_findings(tmp_path, ["a.py"]) == {"total": 500, "by_rule": {"C405": 500}}


def test_a_request_to_fix_lint_does_not_ask_for_newer_syntax() -> None:
    assert "UP" in RULES_OF["modernise"].split(",")
    assert "UP" not in RULES_OF["fix-lint"].split(",")


async def test_names_that_look_like_options_are_names(tmp_path: Path) -> None:
    (tmp_path / "--fix.py").write_text("import os\n")
    assert (await count_findings(tmp_path, ["--fix.py"]))["total"] == 1


def test_long_lists_are_cut_into_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ARGUMENTS_CHARS_MAX", 10)
    assert list(batches(["aaaa", "bbbb", "cccc", "d" * 30, "e"])) == [["aaaa", "bbbb"], ["cccc"], ["d" * 30], ["e"]]
    assert list(batches([])) == []


def test_the_linter_is_the_one_of_this_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Path(ruff("check")[0]).parent == Path(sys.executable).parent
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert ruff("check") == [str(tmp_path / "python"), "-I", "-m", "ruff", "check"], "isolated from the working folder"
