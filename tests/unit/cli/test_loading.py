"""`MODULE:VARIABLE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from a2a.cli import loading
from a2a.cli.exits import ExitCode, Failure
from a2a.cli.loading import load_agent, source_files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


ONE = "from a2a import Agent\nfirst = Agent('one')\n"


def test_an_agent_is_found_by_its_name_or_as_the_only_one(here: Path) -> None:
    (here / "loaded_one.py").write_text(ONE + "again = first\nclass Box:\n    inner = first\n")
    assert load_agent("loaded_one:first").name == "one"
    assert load_agent("loaded_one").name == "one"
    assert load_agent("loaded_one:Box.inner").name == "one"


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        ("loaded_one.py", "loaded_one"),
        ("./loaded_one.py:agent", "loaded_one:agent"),
        ("inner/loaded_in.py:agent", "inner.loaded_in:agent"),
        ("{here}/inner/loaded_in.py:agent", "inner.loaded_in:agent"),
    ],
)
def test_for_the_name_of_a_file_that_of_its_module_is_told(here: Path, spec: str, module: str) -> None:
    spec = spec.format(here=here)
    (here / "loaded_one.py").write_text(ONE)
    (here / "inner").mkdir()
    (here / "inner" / "loaded_in.py").write_text(ONE)
    with pytest.raises(click.UsageError, match=f"; the module in {spec.partition(':')[0]} is {module}$"):
        load_agent(spec)


@pytest.mark.parametrize("spec", ["none.py:agent", "../outside.py", "loaded_text.txt"])
def test_a_file_that_no_module_here_has_is_told_as_any_other_name(here: Path, spec: str) -> None:
    (here / "loaded_text.txt").write_text(ONE)
    (here.parent / "outside.py").write_text(ONE)
    with pytest.raises(click.UsageError, match=r"there is no module .* here or in this installation$"):
        load_agent(spec)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("loaded_none", "there is no module loaded_none"),
        ("", "there is no module without a name here"),
        (":first", "there is no module without a name here"),
        (".loaded_two", "there is no module .loaded_two here"),
        ("loaded_two..first", "there is no module loaded_two..first here"),
        ("loaded_two", "name one agent of the module, as loaded_two:NAME; it has first, second"),
        ("loaded_two:third", "expected an Agent, got NoneType; loaded_two has first, second"),
        ("loaded_two:Agent", "expected an Agent, got type"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(here: Path, spec: str, named: str) -> None:
    (here / "loaded_two.py").write_text(ONE + "second = Agent('two')\n")
    with pytest.raises(click.UsageError, match=named):
        load_agent(spec)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("loaded_bad", r"loaded_bad\.py:2: ZeroDivisionError: division by zero"),
        ("loaded_syntax", r"loaded_syntax\.py:1: SyntaxError: '\(' was never closed$"),
        ("loaded_import", r"loaded_import\.py:1: ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_a_module_that_fails_is_named_with_its_line(here: Path, spec: str, named: str) -> None:
    (here / "loaded_bad.py").write_text("x = 1\ny = x / 0\n")
    (here / "loaded_syntax.py").write_text("x = (\n")
    (here / "loaded_import.py").write_text("import not_there\n")
    with pytest.raises(Failure, match=named) as failed:
        load_agent(spec)
    assert failed.value.exit_code == ExitCode.USAGE


def test_a_module_that_ends_the_process_is_told_where_such_a_call_belongs(here: Path) -> None:
    (here / "loaded_main.py").write_text(ONE + "first.main(['serve', 'me'])\n")
    (here / "loaded_exit.py").write_text("raise SystemExit('no graphics card')\n")
    for name, code in (("loaded_main", "2"), ("loaded_exit", "no graphics card")):
        told = rf"^{name}: importing {name} ends the process \({code}\): .* below `if __name__ == \"__main__\":`$"
        with pytest.raises(Failure, match=told) as failed:
            load_agent(name)
        assert failed.value.exit_code == ExitCode.USAGE


def test_the_files_of_a_module_here_are_all_that_are_here(here: Path) -> None:
    (here / "loaded_one.py").write_text("raise SystemExit('it was run')")
    (here / "helper.py").write_text("")
    for folder in ("loaded_package/inner", ".hidden", "node_modules/x", "env/lib"):
        (here / folder).mkdir(parents=True)
        (here / folder / "b.py").write_text("")
    (here / "env" / "pyvenv.cfg").write_text("")
    (here / "loaded_package" / "__init__.py").write_text("raise SystemExit('it was run')")
    (here / "notes.txt").write_text("")
    expected = [here / name for name in ("helper.py", "loaded_one.py")]
    expected += [here / "loaded_package" / name for name in ("__init__.py", "inner/b.py")]
    assert source_files("loaded_one:agent") == expected
    assert source_files("loaded_package:agent") == expected
    assert source_files("loaded_none") == []
    assert source_files(".loaded_one") == []
    assert source_files("loaded_none.inner") == []
    assert source_files("loaded_one.inner") == []
    assert source_files("loaded_package.none") == []


def test_the_files_of_a_module_elsewhere_are_its_packages_or_its_own(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("installed")
    sys.path.append(str(elsewhere))
    (here / "mine.py").write_text("")
    (elsewhere / "loaded_alone.py").write_text("")
    (elsewhere / "beside.py").write_text("")
    (elsewhere / "loaded_package" / "inner").mkdir(parents=True)
    names = ("__init__.py", "a.py", "inner/__init__.py", "inner/b.py")
    for name in names:
        (elsewhere / "loaded_package" / name).write_text("raise SystemExit('it was run')")
    expected = [elsewhere / "loaded_package" / name for name in names]
    assert source_files("loaded_alone:agent") == [elsewhere / "beside.py", elsewhere / "loaded_alone.py"]
    for spec in ("loaded_package:agent", "loaded_package.a", "loaded_package.inner", "loaded_package.inner.b:agent"):
        assert source_files(spec) == expected


def test_the_files_of_a_module_in_packages_without_an_init_file_are_found(
    here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("installed")
    sys.path.append(str(elsewhere))
    for top, name in ((here, "mine"), (elsewhere, "theirs")):
        (top / name / "agents" / "inner").mkdir(parents=True)
        for path in ("a.py", "agents/b.py", "agents/inner/c.py"):
            (top / name / path).write_text("raise SystemExit('it was run')")
    for name, top in (("mine", here), ("theirs", elsewhere)):
        expected = [top / name / path for path in ("a.py", "agents/b.py", "agents/inner/c.py")]
        for spec in (f"{name}.a", f"{name}.agents.b:agent", f"{name}.agents.inner.c:agent"):
            assert source_files(spec) == expected
        assert source_files(f"{name}.agents.none") == []
        assert source_files(f"{name}.agents.inner") == []


def test_where_there_are_very_many_folders_only_those_of_the_module_are_looked_at(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_FOLDERS_MAX", 4)
    (here / "loaded_one.py").write_text("")
    (here / "loaded_package").mkdir()
    (here / "loaded_package" / "__init__.py").write_text("")
    for number in range(4):
        (here / f"photos_{number}").mkdir()
        (here / f"photos_{number}" / "x.py").write_text("")
    assert source_files("loaded_one") == [here / "loaded_one.py"]
    assert source_files("loaded_package") == [here / "loaded_package" / "__init__.py"]
