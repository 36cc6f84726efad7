from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reference_agents.maintenance.scope import area_of, in_scope, is_python, within


@pytest.mark.parametrize(
    ("path", "area"),
    [
        ("package/core.py", None),
        ("setup.py", None),
        ("README.md", None),
        ("contest.py", None),
        ("latest/module.py", None),
        ("tests/data/x.json", "tests"),
        ("test/test_output.py", "tests"),
        ("package/tests/test_core.py", "tests"),
        ("package/test_core.py", "tests"),
        ("package/core_test.py", "tests"),
        ("conftest.py", "tests"),
        ("test.py", "tests"),
        (".github/workflows/ci.yml", "ci"),
        (".gitlab-ci.yml", "ci"),
        ("pyproject.toml", "configuration"),
        ("setup.cfg", "configuration"),
        ("requirements-dev.txt", "configuration"),
        ("docs/pytest.ini", "configuration"),
        ("sitecustomize.py", "configuration"),
        ("package/startup.pth", "configuration"),
    ],
)
def test_a_path_tells_the_area_it_is_in(path: str, area: str | None) -> None:
    assert area_of(path) == area


@pytest.mark.parametrize(
    ("path", "roots", "inside"),
    [
        ("a/b.py", [], True),
        ("a/b.py", ["a"], True),
        ("a/b.py", ["a/"], True),
        ("a/b.py", ["a/b.py"], True),
        ("a/b.py", ["."], True),
        ("ab/b.py", ["a"], False),
        ("b.py", ["a"], False),
    ],
)
def test_a_path_is_within_a_folder_or_not(path: str, roots: list[str], inside: bool) -> None:
    assert within(path, roots) is inside


def test_a_plan_opens_areas_by_name_and_paths_by_prefix(plan_for: Callable[..., Any]) -> None:
    assert in_scope(plan_for(), "tests/test_a.py")
    assert not in_scope(plan_for(may_touch=[]), "tests/test_a.py")
    assert not in_scope(plan_for(), "setup.cfg")
    assert in_scope(plan_for(may_touch=["configuration"]), "setup.cfg")
    assert not in_scope(plan_for(paths=["src"]), "setup.py")
    assert not in_scope(plan_for(spared=["src/vendor"]), "src/vendor/a.py")
    assert in_scope(plan_for(paths=["src"], spared=["src/vendor"]), "src/a.py")


def test_only_python_files_are_read_by_coders() -> None:
    assert is_python("a.py")
    assert not is_python("a.pyi")
    assert not is_python("a.py.txt")
