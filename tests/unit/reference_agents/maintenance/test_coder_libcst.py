from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance.coder_libcst import agent, propose_patch

MAKE = Callable[..., Any]


async def test_codemods_run_beside_the_agent_and_tell_of_each_file(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    files = {"a.py": "x = 1\nprint('%s' % (x,))\n", "b.py": "def (:  # %\n", "libcst.py": "raise SystemExit(9)\n"}
    workspace = await workspace_on(repository(files))
    task = fake_task()
    made = await propose_patch(workspace, plan_for(), task)
    assert "+print(f'{x}')" in made["patch"]["text"]
    assert made["notes"][0].startswith("b.py: ParserSyntaxError")
    assert "3 of 3 files" in task.notes


async def test_a_new_name_reaches_every_file(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    files = {
        "a.py": "def old(): pass\n",
        "tests/test_a.py": "from a import old\ndef test_old(): old()\n",
        "c.py": "x = 1\n",
    }
    workspace = await workspace_on(repository(files))
    plan = plan_for(kind="rename", old_name="a.old", new_name="a.fresh")
    made = await propose_patch(workspace, plan, fake_task())
    assert [file["path"] for file in made["patch"]["files"]] == ["a.py", "tests/test_a.py"]
    assert "+from a import fresh" in made["patch"]["text"]


@pytest.mark.parametrize(("old", "new"), [("old", "not a name"), ("old", "class"), ("1x", "y")])
async def test_only_names_can_be_renamed(
    old: str, new: str, repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "def old(): pass\n"}))
    with pytest.raises(AttemptFailed) as caught:
        await propose_patch(workspace, plan_for(kind="rename", old_name=old, new_name=new), fake_task())
    assert caught.value.error_code == "bad_name"


async def test_finding_changes_nothing(repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\n"}))
    made = await propose_patch(workspace, plan_for(kind="find"), fake_task())
    assert (made["patch"]["text"], made["notes"]) == ("", ["libcst has nothing to offer for find"])


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["propose_patch"]
