from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reference_agents.maintenance import coder_pyupgrade as module
from reference_agents.maintenance.coder_pyupgrade import agent, propose_patch

MAKE = Callable[..., Any]
OLD = "from __future__ import print_function\nimport six\nx = six.text_type\nclass A(object): pass\n"


async def test_old_syntax_becomes_new_syntax(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    files = {f"{name}.py": OLD for name in "abc"} | {"broken.py": "def (:\n", "pyupgrade.py": "raise SystemExit(9)\n"}
    workspace = await workspace_on(repository(files))
    task = fake_task()
    made = await propose_patch(workspace, plan_for(), task)
    assert [file["path"] for file in made["patch"]["files"]] == ["a.py", "b.py", "c.py"]
    assert "+class A: pass" in made["patch"]["text"]
    assert "+x = str" in made["patch"]["text"]
    assert {"2 files done", "4 files done", "5 files done"} <= set(task.notes)


async def test_the_target_says_how_new(repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE) -> None:
    annotated = "from typing import List\nx: List[int] = []\n"
    workspace = await workspace_on(repository({"a.py": annotated}))
    old = await propose_patch(workspace, plan_for(target="py38"), fake_task())
    new = await propose_patch(workspace, plan_for(target="py312"), fake_task())
    assert old["patch"]["text"] == ""
    assert "+x: list[int]" in new["patch"]["text"]


async def test_a_file_in_another_encoding_is_left_alone_and_the_others_are_not(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    latin = "# -*- coding: latin-1 -*-\nx = u'\xe9'\n".encode("latin-1")
    workspace = await workspace_on(repository({"a.py": OLD, "latin.py": latin}))
    made = await propose_patch(workspace, plan_for(), fake_task())
    assert [file["path"] for file in made["patch"]["files"]] == ["a.py"]
    assert made["notes"] == ["latin.py: not UTF-8, which pyupgrade does not read"]


async def test_only_modernising_is_its_business(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": OLD}))
    made = await propose_patch(workspace, plan_for(kind="fix-lint"), fake_task())
    assert (made["patch"]["text"], made["notes"]) == ("", ["pyupgrade has nothing to offer for fix-lint"])


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["propose_patch"]
