"""Makes the virtual environment in which a repository's tests run.

Pytest is borrowed from this installation if it is here, else fetched. The repository's own build script runs in the
sandbox, without the network; its dependencies are fetched afterwards, by name. The project's own modules are removed
from the environment again, so that tests can only see those of the tree they run on.
"""

from __future__ import annotations

import email
import importlib.metadata
import importlib.util
import itertools
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from . import git
from .needs import REQUIREMENT, requirements_of_build
from .processes import Finished, Limits, Report, run
from .sandbox import Sandbox, foreign_environment, run_foreign
from .workspace import Worktree, held_folder, write_json

__all__ = ["Environment", "extend_environment", "import_paths_of", "make_environment"]

INSTALL_LIMITS: Final = Limits(seconds=600.0)
BUILD_LIMITS: Final = Limits(seconds=300.0, memory=4 * 1024**3, file_size=512 * 1024**2)
BUILD_FETCHES_MAX: Final = 8
READY: Final = "ready.json"
TEST_EXTRAS: Final = "test,tests,testing"
"""Usual names of the extras that tests need; pip only warns about missing ones."""
DEFAULT_BUILD: Final = ("setuptools", "wheel")
"""What a project without a build section needs, by the rules of packaging."""
PIP: Final = ("--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--quiet")


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment that is ready."""

    python: str
    notes: tuple[str, ...]
    """What could not be installed, for people."""


async def make_environment(
    work: Worktree, run_dir: Path, base: str, sandbox: Sandbox | None, report: Report
) -> Environment:
    """Make the environment for a commit, or find the one an earlier attempt finished.

    Args:
        work: a worktree at that commit; the build may leave files in it.
        sandbox: the sandbox for the build script; None if the script must not run at all.
    """
    parent = run_dir / "environments"
    owner = "venv-" + git.digest(f"{base} {sys.version} {sandbox}".encode())[:12]
    for ready in sorted(parent.glob(f"{owner}.*/{READY}")):
        made = json.loads(ready.read_bytes())
        return Environment(made["python"], tuple(made["notes"]))
    with held_folder(parent, owner, keep=READY) as folder:
        await report(None, "making a virtual environment")
        python = await _make_venv(folder / "venv")
        builder = _Builder(python, folder, work, sandbox)
        await builder.provide_pytest(report)
        if sandbox is not None:
            await builder.install_project(report)
        environment = Environment(python, tuple(builder.notes))
        write_json(folder / READY, {"python": python, "notes": builder.notes})
    return environment


async def extend_environment(made: Environment, requirements: Sequence[str]) -> Environment:
    """Fetch more packages into an environment; its notes name those that cannot be fetched."""
    # One by one: requirements from several places may name several versions for different versions of Python.
    failed = [await _fetch(made.python, requirement) for requirement in requirements]
    return Environment(made.python, (*made.notes, *filter(None, failed)))


def import_paths_of(tree: Path) -> list[str]:
    """Return the folders of a repository that its tests import from."""
    source = tree / "src"
    has_source = source.is_dir() and any(source.rglob("*.py"))
    return ["src", "."] if has_source else ["."]


async def _make_venv(folder: Path) -> str:
    options = ["--without-pip"] if importlib.util.find_spec("pip") else []
    command = [sys.executable, "-I", "-m", "venv", *options, str(folder)]
    done = await run(command, cwd=folder.parent, limits=Limits(seconds=120.0))
    if done.code != 0:
        raise RuntimeError(f"no virtual environment could be made: {done.text.strip()[-400:]}")
    return str(folder / "bin" / "python")


class _Builder:
    """Fills one virtual environment."""

    def __init__(self, python: str, folder: Path, work: Worktree, sandbox: Sandbox | None) -> None:
        self.notes: list[str] = []
        self._python = python
        self._folder = folder
        self._work = work
        self._sandbox = sandbox

    async def provide_pytest(self, report: Report) -> None:
        """Borrow pytest from this installation, or fetch it; it comes before everything that the project fetches.

        The pytest that a project names may be too old for this Python.
        """
        lent = self._folder / "lent"
        lent.mkdir()
        if importlib.util.find_spec("pytest") is not None:
            _lend("pytest", lent)
        else:
            await report(None, "installing pytest")
            await self._fetch("pytest", into=lent)
        before = "next(at for at, part in enumerate(sys.path) if part.endswith('site-packages'))"
        (_site_packages(self._python) / "lent.pth").write_text(
            f"import sys; sys.path.insert({before}, {str(lent)!r})\n"
        )

    async def install_project(self, report: Report) -> None:
        """Build the project in the sandbox, then fetch its declared dependencies."""
        if not any((self._work.path / name).is_file() for name in ("setup.py", "pyproject.toml", "setup.cfg")):
            return
        await report(None, "fetching what the build needs")
        if not await self._fetch(*build_requirements(self._work.path)):
            return
        await report(None, "building the project")
        before, built, tried = self._installed(), await self._build(), set[str]()
        while built.code != 0:  # the script may need undeclared packages, one after the other
            wanted = [it for it in requirements_of_build(built.text, self._work.path) if it not in tried]
            if not wanted or len(tried) >= BUILD_FETCHES_MAX or not await self._fetch(*wanted):
                break
            tried.update(wanted)
            before, built = self._installed(), await self._build()
        if built.code != 0:
            self.notes.append(f"the project could not be installed: {_why(built)}")
            return
        for name, dist in self._installed().items():
            if name not in before:
                await report(None, f"installing what {name} depends on")
                await self._fetch(f"{name}[{TEST_EXTRAS}]")
                _take_out_modules(dist, [self._work.path / path for path in import_paths_of(self._work.path)])

    def _installed(self) -> dict[str, importlib.metadata.Distribution]:
        site = str(_site_packages(self._python))
        return {dist.name: dist for dist in importlib.metadata.distributions(path=[site])}

    async def _build(self) -> Finished:
        assert self._sandbox is not None
        home = self._work.scratch / "build"
        home.mkdir(exist_ok=True)
        env = foreign_environment(self._python, home, []) | _version_of(self._work.path)
        options = ("--no-deps", "--no-build-isolation", "--no-index", "--no-compile", "--no-cache-dir")
        command = [*_pip(self._python, "install"), *options, "--", str(self._work.path)]
        folders = [self._work.path, home, self._folder]
        return await run_foreign(self._sandbox, command, cwd=home, writable=folders, env=env, limits=BUILD_LIMITS)

    async def _fetch(self, *requirements: str, into: Path | None = None) -> bool:
        failed = await _fetch(self._python, *requirements, into=into)
        self.notes += [failed] * bool(failed)
        return not failed


async def _fetch(python: str, *requirements: str, into: Path | None = None) -> str:
    """Install from the index, into another folder if one is named; return what went wrong."""
    where = ["--target", str(into)] if into else []
    command = [*_pip(python, "install"), *where, "--prefer-binary", "--no-compile", "--", *requirements]
    done = await run(command, cwd=Path(python).parent, limits=INSTALL_LIMITS)
    return f"could not install {', '.join(requirements)}: {_why(done)}" if done.code != 0 else ""


def _pip(python: str, verb: str) -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-I", "-m", "pip", "--python", python, verb, *PIP]
    return [python, "-I", "-m", "pip", verb, *PIP]


def _version_of(tree: Path) -> dict[str, str]:
    """Return variables that tell a source distribution's version to builds that ask git for it.

    Its commit is the squad's own and has no version: what such a build makes of it differs each time.
    """
    try:
        told = email.message_from_bytes((tree / "PKG-INFO").read_bytes())["Version"]
    except OSError:
        return {}
    return dict.fromkeys(("SETUPTOOLS_SCM_PRETEND_VERSION", "PBR_VERSION"), told) if told else {}


def build_requirements(tree: Path) -> list[str]:
    """Return what a project's build asks for; only names with versions, never addresses."""
    try:
        settings: dict[str, Any] = tomllib.loads((tree / "pyproject.toml").read_text())
        asked = settings["build-system"]["requires"]
    except (OSError, ValueError, KeyError, TypeError):
        return list(DEFAULT_BUILD)
    named = [text for text in asked if isinstance(text, str) and REQUIREMENT.fullmatch(text.strip())]
    return named or list(DEFAULT_BUILD)


def _lend(distribution: str, target: Path) -> None:
    """Link a distribution and everything it needs into a folder; nothing else of this installation becomes visible."""
    waiting, lent = [distribution], set()
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in lent:
            continue
        lent.add(key)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed only on another platform or version
        _link(found, target)
        for requirement in found.requires or []:
            match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
            if match and "extra ==" not in requirement:
                waiting.append(match.group())


def _link(distribution: importlib.metadata.Distribution, target: Path) -> None:
    for file in distribution.files or []:
        top = file.parts[0]
        if top in {"..", "__pycache__"} or (target / top).exists():
            continue
        (target / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def _site_packages(python: str) -> Path:
    return next(Path(python).parents[1].glob("lib/python*/site-packages"))


def _take_out_modules(distribution: importlib.metadata.Distribution, roots: Sequence[Path]) -> None:
    """Remove the installed copy of every module that the repository has itself; metadata and built extensions stay."""
    for file in distribution.files or []:
        if file.suffix == ".py" and any((root / file).is_file() for root in roots):
            Path(str(distribution.locate_file(file))).unlink(missing_ok=True)


def _why(done: Finished) -> str:
    if done.timed_out:
        return "it took too long"
    lines = [line.strip() for line in done.text.splitlines() if line.strip()]
    for line, following in itertools.pairwise(lines):
        if following == "[end of output]":  # of a build script, which pip wraps in its own failure message
            return line[:300]
    errors = [line for line in lines if line.lower().startswith(("error", "modulenotfounderror"))]
    return (errors or lines or [f"exit code {done.code}"])[-1][:300]
