from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance.coding import Job, make_proposal, paths_in_scope
from reference_agents.maintenance.workspace import tree_of

MAKE = Callable[..., Any]
FILES = {"a.py": "import os\n", "b.py": "import os\n", "tests/test_a.py": "import os\n", "README": "import os\n"}


async def empty_all(job: Job) -> list[str]:
    """A tool that empties every file it is given, and one that it is not."""
    for path in job.paths:
        (job.folder / path).write_text("")
    (job.folder / "README").write_text("")
    return [f"{len(job.paths)} files"]


async def test_a_proposal_is_what_the_tool_did_to_the_files_it_was_given(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE
) -> None:
    workspace = await workspace_on(repository(FILES))
    made = await make_proposal("coder", empty_all, workspace, plan_for())
    assert [file["path"] for file in made["patch"]["files"]] == ["a.py", "b.py", "tests/test_a.py"]
    assert (made["findings_before"], made["findings_left"]) == (3, 0)
    assert made["notes"] == ["3 files"]
    again = await make_proposal("coder", empty_all, workspace, plan_for())
    assert again["patch"] == made["patch"]
    assert [path.name for path in (Path(workspace["run_dir"]) / "worktrees").iterdir()] == ["lock"]


async def test_the_plan_and_the_caller_say_which_files(repository: MAKE, workspace_on: MAKE, plan_for: MAKE) -> None:
    workspace = await workspace_on(repository(FILES))
    assert paths_in_scope(workspace, plan_for(may_touch=[]), None) == ["a.py", "b.py"]
    assert paths_in_scope(workspace, plan_for(paths=["tests"]), None) == ["tests/test_a.py"]
    assert paths_in_scope(workspace, plan_for(), ["b.py", "elsewhere.py"]) == ["b.py"]
    made = await make_proposal("coder", empty_all, workspace, plan_for(), files=["b.py"])
    assert [file["path"] for file in made["patch"]["files"]] == ["b.py"]


async def test_work_on_another_tree_is_a_patch_to_the_base_all_the_same(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, tree_with: MAKE
) -> None:
    workspace = await workspace_on(repository(FILES))
    onto = await tree_with(workspace, {"a.py": "x = 1\n"})
    made = await make_proposal("coder", empty_all, workspace, plan_for(), onto=onto, files=["b.py"])
    assert made["onto"] == onto
    assert [file["path"] for file in made["patch"]["files"]] == ["a.py", "b.py"]
    assert await tree_of(workspace, made["patch"]) == made["patch"]["tree"]


async def test_a_tree_that_is_not_there_is_told(repository: MAKE, workspace_on: MAKE, plan_for: MAKE) -> None:
    workspace = await workspace_on(repository(FILES))
    with pytest.raises(AttemptFailed) as caught:
        await make_proposal("coder", empty_all, workspace, plan_for(), onto="0" * 40)
    assert caught.value.error_code == "no_such_tree"


async def test_nothing_in_scope_is_an_empty_proposal(repository: MAKE, workspace_on: MAKE, plan_for: MAKE) -> None:
    workspace = await workspace_on(repository(FILES))
    made = await make_proposal("coder", empty_all, workspace, plan_for(paths=["docs"]))
    assert (made["patch"]["text"], made["patch"]["files"], made["notes"]) == ("", [], [])
