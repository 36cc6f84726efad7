"""Which part of a repository a path belongs to, and whether a plan may touch it.

Pure: it looks only at names. Coders check before they write, and safety checks the result again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from .shapes import Area, Plan

__all__ = ["area_of", "asked_for", "in_scope", "is_python", "within"]

TEST_FOLDERS: Final = frozenset({"test", "tests", "testing"})
CI_ROOTS: Final = (
    ".github",
    ".gitlab",
    ".circleci",
    ".buildkite",
    ".azure-pipelines",
    ".woodpecker",
    ".forgejo",
    ".ci",
)
CI_FILES: Final = frozenset(
    {".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".appveyor.yml", "azure-pipelines.yml", "Jenkinsfile",
     "bitbucket-pipelines.yml", ".cirrus.yml"}
)  # fmt: skip
CONFIGURATION_FILES: Final = frozenset(
    {"pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", ".coveragerc", "noxfile.py", "MANIFEST.in", "Makefile",
     "makefile", "mypy.ini", ".flake8", "ruff.toml", ".ruff.toml", ".gitattributes", ".gitmodules", ".gitignore",
     "sitecustomize.py", "usercustomize.py", "Pipfile", "Pipfile.lock", "poetry.lock", "uv.lock"}
)  # fmt: skip
CONFIGURATION_SUFFIXES: Final = frozenset({".toml", ".ini", ".cfg", ".lock", ".pth"})


def area_of(path: str) -> Area | None:
    """Return the area behind the fence that a path is in, or None for the code itself and for texts.

    `setup.py` counts as code: it is a program, and coders may modernise it like any other.
    """
    pure = PurePosixPath(path)
    folders = [part.lower() for part in pure.parts[:-1]]
    if pure.parts[0] in CI_ROOTS or pure.name in CI_FILES:
        return "ci"
    if (
        pure.name in CONFIGURATION_FILES
        or pure.suffix in CONFIGURATION_SUFFIXES
        or pure.name.startswith("requirements")
    ):
        return "configuration"
    stem = pure.stem.lower()
    named_as_test = pure.suffix == ".py" and (stem.startswith("test_") or stem.endswith(("_test", "_tests")))
    if named_as_test or stem in {"test", "tests", "conftest"} or TEST_FOLDERS.intersection(folders):
        return "tests"
    return None


def is_python(path: str) -> bool:
    """Return whether the squad's coders read this file."""
    return path.endswith(".py")


def within(path: str, roots: Iterable[str]) -> bool:
    """Return whether a path is one of the roots or below one; no roots mean everything."""
    wanted = [PurePosixPath(root.rstrip("/") or ".") for root in roots]
    pure = PurePosixPath(path)
    return not wanted or any(root == PurePosixPath() or pure == root or root in pure.parents for root in wanted)


def asked_for(plan: Plan, path: str) -> bool:
    """Return whether a file is among those that a plan is about."""
    spared = plan.get("spared", [])
    return within(path, plan["paths"]) and not (spared and within(path, spared))


def in_scope(plan: Plan, path: str) -> bool:
    """Return whether a plan lets a coder change a file."""
    area = area_of(path)
    return asked_for(plan, path) and (area is None or area in plan["may_touch"])
