from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reference_agents.maintenance import environment as module
from reference_agents.maintenance.environment import build_requirements, import_paths_of, make_environment
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
