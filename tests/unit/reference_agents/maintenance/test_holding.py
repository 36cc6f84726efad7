from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from a2a.protocol.types import ResourceName
from reference_agents.maintenance.holding import branch_of, repository_name, turn_at

MAKE = Callable[..., Any]
NAME = TypeAdapter(ResourceName)


async def test_all_ways_to_a_repository_lead_to_one_name(repository: MAKE, tmp_path: Path) -> None:
    repo = repository({"src/a.py": "x = 1\n"})
    repo.git("worktree", "add", "--quiet", "-b", "beside", str(tmp_path / "beside"))
    (tmp_path / "link").symlink_to(repo.path)
    ways = [repo.path, repo.path / "src", tmp_path / "link", tmp_path / "beside"]
    [name] = {await repository_name(way) for way in ways}
    assert name.startswith("repo/project-")
    other = repository({"a.py": "x = 1\n"}, name="other")
    assert await repository_name(other.path) != name


async def test_what_is_no_repository_has_a_name_too(tmp_path: Path) -> None:
    name = await repository_name(tmp_path / "not there, ü*")
    assert name.startswith("repo/not-there----")
    NAME.validate_python(turn_at(name))


@pytest.mark.parametrize("branch", ["a2a/x", "ü/*", "a//b/", "", "/".join("x" * 40), "x" * 250 + "/" + "y" * 250])
def test_every_branch_has_a_name_that_can_be_claimed(branch: str) -> None:
    repository = "repo/" + "r" * 50
    name = NAME.validate_python(branch_of(repository, branch))
    assert name.startswith(f"{repository}/branch") and name != turn_at(repository)


def test_branches_have_names_of_their_own() -> None:
    names = {branch_of("repo/r", branch) for branch in ("a", "b", "a/b", "a/c")}
    assert len(names) == 4
    assert branch_of("repo/r", "a/b") == "repo/r/branch/a/b"
