from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reference_agents.maintenance import environment as module
from reference_agents.maintenance.environment import (
    Environment,
    build_requirements,
    extend_environment,
    import_paths_of,
    make_environment,
)
from reference_agents.maintenance.processes import Finished, silent
from reference_agents.maintenance.sandbox import Sandbox
from reference_agents.maintenance.workspace import Worktree

MAKE = Callable[..., Any]


@pytest.fixture
def work(tmp_path: Path) -> Worktree:
    made = Worktree(tmp_path / "tree", tmp_path / "scratch")
    for part in (made.path, made.scratch):
        part.mkdir()
    return made


def imports(python: str, name: str) -> bool:
    return subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False, cwd="/").returncode == 0


def test_pytest_is_lent_and_nothing_else_of_this_installation(test_python: str) -> None:
    assert imports(test_python, "pytest")
    assert not imports(test_python, "libcst")
    assert not imports(test_python, "a2a")


def test_pytest_comes_before_what_a_project_fetches(test_python: str) -> None:
    [site] = Path(test_python).parents[1].glob("lib/python*/site-packages")
    older = site / "pytest"
    older.mkdir()
    try:
        (older / "__init__.py").write_text("raise ImportError('too old')\n")
        assert imports(test_python, "pytest")
    finally:
        shutil.rmtree(older)


async def test_where_there_is_no_pytest_to_lend_it_is_fetched_beside_what_a_project_fetches(
    work: Worktree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip = Pip(monkeypatch)
    find = module.importlib.util.find_spec
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "pytest" else find(name))
    made = await make_environment(work, tmp_path, "a" * 40, None, silent)
    assert pip.fetched == [["pytest"]]
    assert pip.targets == [str(Path(made.python).parents[2] / "lent")]


async def test_an_environment_is_made_once_for_a_commit(work: Worktree, tmp_path: Path) -> None:
    first = await make_environment(work, tmp_path, "a" * 40, None, silent)
    again = await make_environment(work, tmp_path, "a" * 40, None, silent)
    other = await make_environment(work, tmp_path, "b" * 40, None, silent)
    assert again == first
    assert other.python != first.python
    assert Path(first.python).exists(), "making another one leaves it alone"


async def test_an_environment_that_was_not_finished_is_made_anew(work: Worktree, tmp_path: Path) -> None:
    first = await make_environment(work, tmp_path, "a" * 40, None, silent)
    folder = Path(first.python).parents[2]
    (folder / module.READY).unlink()
    again = await make_environment(work, tmp_path, "a" * 40, None, silent)
    assert again.python != first.python
    assert not folder.exists()


async def test_without_a_sandbox_the_build_script_does_not_run(work: Worktree, tmp_path: Path) -> None:
    (work.path / "setup.py").write_text("raise SystemExit('I ran')\n")
    assert (await make_environment(work, tmp_path, "a" * 40, None, silent)).notes == ()


async def test_what_cannot_be_installed_is_told_and_is_no_failure(
    work: Worktree, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.path / "setup.py").write_text("")
    real = module.run

    async def offline(command: list[str], **options: Any) -> Finished:
        if "install" in command:
            return Finished(1, b"", b"\nERROR: No matching distribution found for setuptools\n", False, 0.1)
        return await real(command, **options)

    monkeypatch.setattr(module, "run", offline)
    made = await make_environment(work, tmp_path, "a" * 40, sandbox, silent)
    assert made.notes == (
        "could not install setuptools, wheel: ERROR: No matching distribution found for setuptools",
    )  # fmt: skip
    assert imports(made.python, "pytest")


FAILED = b"""
  error: subprocess-exited-with-error
      Traceback (most recent call last):
      ModuleNotFoundError: No module named 'pkg_resources'
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
error: metadata-generation-failed
"""


class Pip:
    """Stands for pip: what it was told to install, and how builds of the project go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *builds: bytes) -> None:
        self.fetched: list[list[str]] = []
        self.targets: list[str] = []
        self.variables: list[dict[str, str]] = []
        self.built = ""
        """What a build installs that goes well."""
        self._builds = list(builds)
        self._real = module.run
        monkeypatch.setattr(module, "run", self._run)
        monkeypatch.setattr(module, "run_foreign", self._build)

    async def _run(self, command: list[str], **options: Any) -> Finished:
        if "install" not in command:
            return await self._real(command, **options)
        self.fetched.append(command[command.index("--") + 1 :])
        self.targets += [after for option, after in itertools.pairwise(command) if option == "--target"]
        is_there = "nowhere" not in self.fetched[-1]
        if "--python" in command:
            self._install(command[command.index("--python") + 1], *self.fetched[-1])
        return Finished(0 if is_there else 1, b"", b"" if is_there else b"ERROR: No matching distribution", False, 0.1)

    def _install(self, python: str, *names: str) -> None:
        for name in names:
            for site in Path(python).parents[1].glob("lib/python*/site-packages"):
                (site / f"{name}-1.dist-info").mkdir()
                (site / f"{name}-1.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n")

    async def _build(self, _: object, command: list[str], *, env: dict[str, str], **options: Any) -> Finished:
        self.variables.append(env)
        said = self._builds.pop(0)
        if self.built and not said:
            self._install(command[command.index("--python") + 1], self.built)
        return Finished(1 if said else 0, b"", said, False, 0.1)


async def test_what_a_build_script_imports_is_fetched_and_it_is_built_again(
    work: Worktree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.path / "setup.py").write_text("")
    pip = Pip(monkeypatch, FAILED, FAILED.replace(b"pkg_resources", b"six"), b"")
    made = await make_environment(work, tmp_path, "a" * 40, Sandbox("none"), silent)
    assert pip.fetched == [["setuptools", "wheel"], ["setuptools<70"], ["six"]]
    assert made.notes == ()


async def test_what_a_build_script_wants_is_not_taken_for_the_project(
    work: Worktree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.path / "setup.py").write_text("")
    pip = Pip(monkeypatch, FAILED.replace(b"pkg_resources", b"six"), b"")
    pip.built = "project"
    await make_environment(work, tmp_path, "a" * 40, Sandbox("none"), silent)
    assert pip.fetched == [["setuptools", "wheel"], ["six"], ["project[test,tests,testing]"]]


async def test_the_error_of_a_build_script_is_told_and_not_that_pip_met_one(
    work: Worktree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.path / "setup.py").write_text("")
    Pip(monkeypatch, FAILED, FAILED)
    made = await make_environment(work, tmp_path, "a" * 40, Sandbox("none"), silent)
    assert made.notes == ("the project could not be installed: ModuleNotFoundError: No module named 'pkg_resources'",)


@pytest.mark.parametrize("is_source_distribution", [True, False])
async def test_a_source_distribution_says_which_version_it_is(
    is_source_distribution: bool, work: Worktree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work.path / "setup.py").write_text("")
    if is_source_distribution:
        (work.path / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: project\nVersion: 2.8.0\n\nText.\n")
    pip = Pip(monkeypatch, b"")
    await make_environment(work, tmp_path, "a" * 40, Sandbox("none"), silent)
    [variables] = pip.variables
    expected = "2.8.0" if is_source_distribution else None
    assert variables.get("SETUPTOOLS_SCM_PRETEND_VERSION") == variables.get("PBR_VERSION") == expected


async def test_an_environment_is_extended_one_by_one_and_tells_what_could_not_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pip = Pip(monkeypatch)
    made = await extend_environment(Environment(str(tmp_path / "python"), ("before",)), ["one", "nowhere", "two"])
    assert pip.fetched == [["one"], ["nowhere"], ["two"]]
    assert made.notes == ("before", "could not install nowhere: ERROR: No matching distribution")


def test_build_requirements_are_names_and_never_addresses_or_options(tmp_path: Path) -> None:
    assert build_requirements(tmp_path) == ["setuptools", "wheel"]
    (tmp_path / "pyproject.toml").write_text(
        "[build-system]\n"
        "requires = ['hatchling>=1.2', 'setuptools', 'evil @ https://e.invalid/e.zip', '-r /etc/passwd', 7]\n"
    )
    assert build_requirements(tmp_path) == ["hatchling>=1.2", "setuptools"]
    (tmp_path / "pyproject.toml").write_text("not toml")
    assert build_requirements(tmp_path) == ["setuptools", "wheel"]


def test_a_project_is_imported_from_src_where_there_is_one(tmp_path: Path) -> None:
    assert import_paths_of(tmp_path) == ["."]
    (tmp_path / "src" / "package").mkdir(parents=True)
    assert import_paths_of(tmp_path) == ["."]
    (tmp_path / "src" / "package" / "a.py").touch()
    assert import_paths_of(tmp_path) == ["src", "."]


def test_the_installed_copy_of_a_module_of_the_repository_is_taken_out(tmp_path: Path) -> None:
    site, tree = tmp_path / "site", tmp_path / "tree"
    for folder in (site / "package", site / "package-1.dist-info", tree / "src" / "package"):
        folder.mkdir(parents=True)
    for file in (site / "package" / "own.py", site / "package" / "built.so", tree / "src" / "package" / "own.py"):
        file.touch()
    info = site / "package-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: package\nVersion: 1\n")
    (info / "RECORD").write_text("package/own.py,,\npackage/built.so,,\npackage-1.dist-info/METADATA,,\n")
    [found] = module.importlib.metadata.distributions(path=[str(site)])
    module._take_out_modules(found, [tree / "src", tree])
    assert sorted(path.name for path in site.rglob("*") if path.is_file()) == ["METADATA", "RECORD", "built.so"]
