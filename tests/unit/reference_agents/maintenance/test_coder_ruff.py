from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reference_agents.maintenance.coder_ruff import agent, propose_patch

MAKE = Callable[..., Any]
OLD = "# -*- coding: utf-8 -*-\nimport sys\nimport os\nclass A(object):\n    x = '%s' % os\n"


@pytest.mark.parametrize(
    ("kind", "contains", "lacks"),
    [
        ("modernise", "class A:", "import sys"),
        ("fix-lint", "class A(object):", "import sys"),
        ("remove-unused", "# -*- coding", "import sys"),
    ],
)
async def test_the_plans_kind_decides_which_fixes_are_made(
    kind: str, contains: str, lacks: str, repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": OLD}))
    made = await propose_patch(workspace, plan_for(kind=kind), fake_task())
    kept = [line[1:] for line in made["patch"]["text"].splitlines() if line[:1] in {" ", "+"}]
    assert any(contains in line for line in kept)
    assert not any(line == lacks for line in kept)
    assert made["agent"] == "coder-ruff"
    assert made["findings_left"] < made["findings_before"]


@pytest.mark.parametrize("kind", ["modernise", "fix-lint", "remove-unused"])
async def test_what_silences_the_repositorys_own_linter_stays(
    kind: str, repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    silenced = "x = 1  # noqa: E501\ny = 2  # noqa: S101,WPS111\nz = 3  # noqa\n"
    workspace = await workspace_on(repository({"a.py": f"import os\n\n{silenced}"}))
    made = await propose_patch(workspace, plan_for(kind=kind), fake_task())
    gone = [line for line in made["patch"]["text"].splitlines() if line.startswith("-")]
    assert "-import os" in gone
    assert not any("noqa" in line for line in gone)


async def test_for_other_plans_there_is_nothing_to_propose(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": OLD}))
    plan = plan_for(kind="rename", old_name="A", new_name="B")
    made = await propose_patch(workspace, plan, fake_task())
    assert made["patch"]["text"] == ""
    assert made["notes"] == ["ruff has nothing to offer for rename"]


def test_the_card_names_the_skill_and_the_tool() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["propose_patch"]
    assert agent.labels == {"tool": "ruff"}
