"""The judge, with real git, real tools and real tests on small repositories."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from a2a import AttemptFailed, TaskFailed
from reference_agents.maintenance import judge as module
from reference_agents.maintenance import trials
from reference_agents.maintenance.coder_pyupgrade import use_pyupgrade
from reference_agents.maintenance.coder_ruff import use_ruff
from reference_agents.maintenance.coding import Tool, make_proposal
from reference_agents.maintenance.judge import (
    AgentUnavailable,
    agent,
    choose_proposal,
    judge_patches,
    judge_proposals,
    merge_patches,
    verify_patch,
)
from reference_agents.maintenance.sandbox import Sandbox
from reference_agents.maintenance.shapes import Judgement, Plan, Proposal, Workspace
from reference_agents.maintenance.workspace import checkout, patch_bytes

MAKE = Callable[..., Any]

REEXPORT = {
    "package/__init__.py": "",
    "package/api.py": "from package.core import answer\nimport os\n",
    "package/core.py": "import sys\nimport os\n\ndef answer():\n    return '%s' % 42\n",
    "package/old.py": "class Old(object):\n    pass\n",
    "tests/test_api.py": "import package.api\n\ndef test_answer():\n    assert package.api.answer() == '42'\n",
    "tests/test_old.py": "import package.old\n\ndef test_old():\n    assert package.old.Old()\n",
}
"""Ruff takes the import in `api` for unused; the tests know better."""


@pytest.fixture(autouse=True)
def sandboxed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for the sandbox once and not in every test."""

    async def known(*_: object) -> Sandbox:
        return sandbox

    monkeypatch.setattr(module, "detect", known)
    # A second run for so few tests would only cost time here; `test_trials` has it.
    monkeypatch.setattr(trials, "CONFIRM_MAX", 0)


async def unavailable(name: str, tree: str, files: list[str]) -> Proposal:
    raise AgentUnavailable("nobody there")


async def content_of(workspace: Workspace, judgement: Judgement, path: str) -> str:
    async with checkout(workspace, "reader", judgement["patch"]["tree"]) as work:
        return (work.path / path).read_text()


class Coders:
    """Coders that can be asked again, as functions."""

    def __init__(self, workspace: Workspace, plan: Plan, **tools: Tool) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self._workspace, self._plan = workspace, plan
        self._tools = {f"coder-{name}": tool for name, tool in tools.items()}

    async def propose(self) -> list[Proposal]:
        return [await make_proposal(name, tool, self._workspace, self._plan) for name, tool in self._tools.items()]

    async def again(self, name: str, tree: str, files: list[str]) -> Proposal:
        self.asked.append((name, tuple(files)))
        return await make_proposal(name, self._tools[name], self._workspace, self._plan, onto=tree, files=files)


def refusals(judgement: Judgement, reason: str) -> dict[tuple[str, ...], Any]:
    return {tuple(it["files"]): it for it in judgement["rejected"] if it["reason"] == reason}


async def test_a_dropped_reexport_is_refused_with_evidence_and_the_rest_is_kept(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository(REEXPORT), baseline=True)
    plan = plan_for()
    coders = Coders(workspace, plan, ruff=use_ruff, pyupgrade=use_pyupgrade)
    proposals = await coders.propose()

    async def answer(skill: str, question: Any, options: dict[str, Any]) -> Any:
        assert skill == "propose_patch"
        assert question.keys() == {"workspace", "plan", "onto", "files"}
        return await coders.again(options["to"], question["onto"], question["files"])

    async def decide() -> tuple[Any, Judgement]:
        task = fake_task()
        task.agents, task.on_call = ["coder-ruff", "coder-pyupgrade"], answer
        return task, await judge_patches(workspace, plan, proposals, task)

    task, judgement = await decide()
    assert judgement["verdict"] == "accepted"
    [refused] = refusals(judgement, "tests").values()
    assert (refused["agent"], refused["files"]) == ("coder-ruff", ["package/api.py"])
    assert refused["evidence"]["failing"] == ["tests/test_api.py::test_answer"]
    assert "has no attribute 'answer'" in refused["evidence"]["excerpt"]
    assert "-from package.core import answer" in Path(refused["patch_path"]).read_text()
    assert ("rejected", refused) in task.artifacts, "told as it happens"

    assert "import answer" in await content_of(workspace, judgement, "package/api.py")
    assert "import" not in await content_of(workspace, judgement, "package/core.py")
    assert judgement["findings_after"]["total"] < judgement["best_single"] < judgement["findings_before"]["total"]
    assert judgement["tests_after"]["passed"] == judgement["tests_before"]["passed"] == 2
    assert judgement["agreements"] == [{"path": "package/old.py", "agents": ["coder-ruff", "coder-pyupgrade"]}]
    assert all("package/api.py" not in files for name, files in coders.asked if name == "coder-ruff")

    second, again = await decide()
    assert (again["patch"], again["digest"]) == (judgement["patch"], judgement["digest"])
    assert again["test_runs"] == 0, "what was tried before a crash is not tried again"
    assert [key for _, _, key, _ in task.calls] == [key for _, _, key, _ in second.calls]
    assert len({key for _, _, key, _ in task.calls}) == len(task.calls)


async def test_a_test_that_vanishes_is_refused_though_everything_that_runs_passes(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "sums.py": "import os\nx = 1\n",
        "test_sums.py": "import os\nimport sums\n\ndef test_one():\n    pass\n\ndef test_two():\n    assert sums\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    dropped = "def test_one():\n    pass\n"
    proposal = await proposal_of(workspace, "coder-x", {"sums.py": "x = 1\n", "test_sums.py": dropped})
    judgement = await judge_proposals(workspace, plan_for(), [proposal], again=unavailable)
    [refused] = refusals(judgement, "tests").values()
    assert refused["files"] == ["test_sums.py"]
    assert refused["evidence"]["vanished"] == ["test_sums.py::test_two"]
    assert [it["path"] for it in judgement["patch"]["files"]] == ["sums.py"]


async def test_proposals_that_agree_are_said_to(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "a.py": "import os\nx = 1\n",
        "b.py": "import os\n",
        "test_a.py": "def test_a():\n    import a\n    assert a\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    one = await proposal_of(workspace, "coder-one", {"a.py": "x = 1\n"})
    other = await proposal_of(workspace, "coder-other", {"a.py": "x = 1\n", "b.py": ""})
    judgement = await judge_proposals(workspace, plan_for(), [one, other], again=unavailable)
    assert judgement["agreements"] == [{"path": "a.py", "agents": ["coder-one", "coder-other"]}]
    assert judgement["findings_after"]["total"] == 0
    assert [it["agent"] for it in judgement["accepted"]] == ["coder-other"]


async def test_overlapping_changes_of_agents_that_cannot_be_asked_again(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "a.py": "import os\nimport sys\nx = 1\n",
        "b.py": "import os\n",
        "test_a.py": "def test_a():\n    import a\n    assert a.x == 1\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    one = await proposal_of(workspace, "coder-one", {"a.py": "x = 1\n"})
    other = await proposal_of(workspace, "coder-other", {"a.py": "import sys\nx = 1\n", "b.py": ""})
    judgement = await judge_proposals(workspace, plan_for(), [one, other], again=unavailable)
    assert list(refusals(judgement, "conflict")) == [("a.py",)]
    assert judgement["findings_after"]["total"] == 0, "what does not overlap is taken from both"
    assert {it["agent"]: it["files"] for it in judgement["accepted"]} == {
        "coder-one": ["a.py"],
        "coder-other": ["b.py"],
    }


async def test_a_clean_merge_that_breaks_the_meaning_is_refused(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "a.py": "import json\nimport os\n",
        "b.py": "import json\nimport sys\n\n\ndef dump():\n    return json.dumps(1)\n",
        "test_b.py": "import b\n\n\ndef test_b():\n    assert b.dump() == '1'\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    # Each is sound alone, and no line is in both.
    one = await proposal_of(workspace, "coder-one", {"a.py": ""})
    other = await proposal_of(
        workspace, "coder-other", {"b.py": "import a\n\n\ndef dump():\n    return a.json.dumps(1)\n"}
    )
    judgement = await judge_proposals(workspace, plan_for(), [one, other], again=unavailable)
    assert judgement["verdict"] == "accepted"
    assert judgement["tests_after"]["failed"] == 0
    [refused] = refusals(judgement, "tests").values()
    assert (refused["agent"], refused["files"]) == ("coder-other", ["b.py"])
    assert "no attribute 'json'" in refused["evidence"]["excerpt"]


async def test_files_the_plan_does_not_open_are_cut_off(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "a.py": "import os\n",
        "test_a.py": "import os\n\ndef test_a():\n    import a\n    assert a\n",
        "setup.cfg": "",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    tampered = {"a.py": "", "test_a.py": "def test_a():\n    pass\n", "setup.cfg": "[tool:pytest]\naddopts = --co\n"}
    proposal = await proposal_of(workspace, "coder-x", tampered)
    judgement = await judge_proposals(workspace, plan_for(may_touch=[]), [proposal], again=unavailable)
    assert list(refusals(judgement, "out_of_scope")) == [("setup.cfg", "test_a.py")]
    assert [it["path"] for it in judgement["patch"]["files"]] == ["a.py"]


async def test_a_patch_that_does_not_apply_or_is_not_what_it_says_is_refused(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, tree_with: MAKE
) -> None:
    workspace = await workspace_on(
        repository({"a.py": "import os\n", "test_a.py": "def test_a(): pass\n"}), baseline=True
    )
    stale = await proposal_of(workspace, "coder-stale", {"a.py": ""})
    stale["patch"] = {"text": stale["patch"]["text"].replace("import os", "import sys")}
    liar = await proposal_of(workspace, "coder-liar", {"a.py": ""})
    liar["patch"]["tree"] = await tree_with(workspace, {"a.py": "evil = 1\n"})
    judgement = await judge_proposals(workspace, plan_for(), [stale, liar], again=unavailable)
    assert [(it["agent"], it["reason"]) for it in judgement["rejected"]] == [
        ("coder-stale", "does_not_apply"), ("coder-liar", "does_not_apply"),
    ]  # fmt: skip
    assert (judgement["verdict"], judgement["patch"]["text"]) == ("nothing", "")
    assert judgement["findings_after"] == judgement["findings_before"]


async def test_a_change_without_gain_is_left_out(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(
        repository({"a.py": "import os\n", "test_a.py": "def test_a(): pass\n"}), baseline=True
    )
    proposal = await proposal_of(workspace, "coder-x", {"a.py": "import sys\n"})
    judgement = await judge_proposals(workspace, plan_for(), [proposal], again=unavailable)
    assert judgement["verdict"] == "nothing"
    assert list(refusals(judgement, "no_gain")) == [("a.py",)]


async def test_renaming_needs_no_gain_in_findings(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "a.py": "def old():\n    return 1\n",
        "test_a.py": "import a\n\n\ndef test_a():\n    assert a.old() == 1\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    changes = {name: text.replace("old", "new") for name, text in files.items()}
    plan = plan_for(kind="rename", old_name="old", new_name="new")
    judgement = await judge_proposals(
        workspace, plan, [await proposal_of(workspace, "coder-x", changes)], again=unavailable
    )
    assert judgement["verdict"] == "accepted"
    assert [it["path"] for it in judgement["patch"]["files"]] == ["a.py", "test_a.py"]


@pytest.mark.parametrize(("line", "verdict"), [("", "accepted"), ("import os\n", "nothing")])
async def test_a_new_name_may_stand_where_the_order_of_names_wants_another(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, line: str, verdict: str
) -> None:
    files = {
        "a.py": "__all__ = ['first', 'old']\n\n\ndef first():\n    pass\n\n\ndef old():\n    return 1\n",
        "test_a.py": "from a import first, old\n\n\ndef test_a():\n    assert old() == 1 and first() is None\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    changes = {name: text.replace("old", "again") for name, text in files.items()}
    changes["a.py"] += line
    plan = plan_for(kind="rename", old_name="old", new_name="again")
    judgement = await judge_proposals(
        workspace, plan, [await proposal_of(workspace, "coder-x", changes)], again=unavailable
    )
    assert judgement["verdict"] == verdict
    assert verdict == "nothing" or judgement["findings_after"]["by_rule"] == {"I001": 1, "RUF022": 1}


async def test_of_a_new_name_that_breaks_a_test_no_file_is_kept(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    files = {
        "a.py": "import json\n\n\ndef load(path):\n    return json.load(path)\n",
        "cli.py": "import a\n\n\ndef main(path):\n    return a.load(path)\n",
        "test_a.py": "import io\n\nimport a\n\n\ndef test_a():\n    assert a.load(io.StringIO('1')) == 1\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    changes = {name: text.replace("load", "fetch") for name, text in files.items()}
    plan = plan_for(kind="rename", old_name="load", new_name="fetch")
    proposal = await proposal_of(workspace, "coder-x", changes)
    judgement = await judge_proposals(workspace, plan, [proposal], again=unavailable)
    assert judgement["verdict"] == "nothing", "no test reads cli.py, which would call what is not there"
    [refused] = refusals(judgement, "tests").values()
    assert refused["files"] == ["a.py", "cli.py", "test_a.py"]
    assert refused["detail"] == "1 test fails with it; a new name is taken in all files or in none"


async def test_without_evidence_nothing_is_tried_and_a_person_has_to_decide(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\nimport sys\n"}))
    good = await proposal_of(workspace, "coder-good", {"a.py": "import os\n"})
    boastful = await proposal_of(workspace, "coder-boastful", {"a.py": "import os\nimport re\n"}, left=0)
    judgement = await judge_proposals(workspace, plan_for(), [boastful, good], again=unavailable)
    assert (judgement["verdict"], judgement["test_runs"]) == ("no_evidence", 0)
    assert [it["agent"] for it in judgement["accepted"]] == ["coder-good"], "counted, not believed"
    assert judgement["findings_after"]["total"] == 1


async def test_a_baseline_that_was_changed_is_no_evidence_for_anything(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(
        repository({"a.py": "import os\n", "test_a.py": "def test_a(): pass\n"}), baseline=True
    )
    Path(workspace["tests"]["path"]).write_text('{"outcomes": {}, "unstable": []}')
    proposal = await proposal_of(workspace, "coder-x", {"a.py": ""})
    with pytest.raises(AttemptFailed) as caught:
        await judge_proposals(workspace, plan_for(), [proposal], again=unavailable)
    assert caught.value.error_code == "evidence_lost"


async def test_without_a_sandbox_the_judge_does_not_run_tests_that_nobody_allowed(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = await workspace_on(
        repository({"a.py": "import os\n", "test_a.py": "def test_a(): pass\n"}), baseline=True
    )

    async def nothing(*_: object) -> Sandbox:
        return Sandbox("none")

    monkeypatch.setattr(module, "detect", nothing)
    proposal = await proposal_of(workspace, "coder-x", {"a.py": ""})
    with pytest.raises(AttemptFailed) as caught:
        await judge_proposals(workspace | {"allow_unsandboxed": False}, plan_for(), [proposal], again=unavailable)
    assert caught.value.error_code == "no_sandbox"


async def test_an_agent_that_fails_when_asked_again_costs_only_its_addition(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    files = {"a.py": "import os\n", "b.py": "import os\n", "test_a.py": "def test_a(): pass\n"}
    workspace = await workspace_on(repository(files), baseline=True)
    proposals: Sequence[Proposal] = [
        await proposal_of(workspace, "coder-one", {"a.py": ""}),
        await proposal_of(workspace, "coder-gone", {"b.py": ""}),
    ]  # fmt: skip
    task = fake_task()

    async def answer(*_: Any) -> Any:
        raise TaskFailed("t1", "deadline")

    task.agents, task.on_call = ["coder-gone"], answer
    judgement = await judge_patches(workspace, plan_for(), list(proposals), task)
    assert sorted(it["path"] for it in judgement["patch"]["files"]) == ["a.py", "b.py"]
    assert any("cannot be asked again" in note for note in task.notes)


async def test_the_patch_of_the_judgement_is_a_patch(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    repo = repository({"a.py": "import os\n", "test_a.py": "def test_a(): pass\n"})
    workspace = await workspace_on(repo, baseline=True)
    proposal = await proposal_of(workspace, "coder-x", {"a.py": ""})
    judgement = await judge_proposals(workspace, plan_for(), [proposal], again=unavailable)
    patch = repo.path.parent / "the.patch"
    patch.write_bytes(patch_bytes(workspace, judgement["patch"]))
    repo.git("apply", "--check", str(patch))


async def test_nobody_is_asked_again_who_is_not_there(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    files = {"a.py": "import os\n", "test_a.py": "def test_a(): pass\n"}
    workspace = await workspace_on(repository(files), baseline=True)
    task = fake_task()
    edited = await proposal_of(workspace, "human", {"a.py": "import os  # mine\n"})
    judgement = await judge_patches(workspace, plan_for(), [edited], task)
    assert (judgement["verdict"], task.calls) == ("nothing", [])


def test_the_card_names_the_skill() -> None:
    skills = [skill["id"] for skill in agent.card()["skills"]]
    assert skills == ["judge_patches", "merge_patches", "verify_patch", "choose_proposal"]


MODULES = {
    **{f"{name}.py": "import json\nimport os\nimport sys\nx = 1\n" for name in "abcd"},
    **{f"test_{name}.py": f"import {name}\n\n\ndef test_{name}():\n    assert {name}.x == 1\n" for name in "abcd"},
}


def editor(old: str, new: str, *only: str) -> Tool:
    """Make a tool that puts one text in place of another."""

    async def edit(job: Any) -> list[str]:
        for path in job.paths:
            text = (job.folder / path).read_text()
            if not path.startswith("test_") and (not only or path in only):
                (job.folder / path).write_text(text.replace(old, new))
        return []

    return edit


async def test_what_coders_add_is_tried_together_and_a_worse_proposal_not_alone(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE
) -> None:
    workspace = await workspace_on(repository(MODULES), baseline=True)
    plan = plan_for()
    tools = {"one": editor("import os\n", ""), "two": editor("import sys\n", "", "a.py", "b.py")}
    coders = Coders(workspace, plan, three=editor("import sys\n", "", "c.py"), **tools)
    judgement = await judge_proposals(workspace, plan, await coders.propose(), again=coders.again)
    assert {it["agent"]: (it["files"], it["removed"]) for it in judgement["accepted"]} == {
        "coder-one": (["a.py", "b.py", "c.py", "d.py"], 4), "coder-two": (["a.py", "b.py"], 2),
        "coder-three": (["c.py"], 1),
    }  # fmt: skip
    assert judgement["rejected"] == []
    assert judgement["findings_after"]["total"] == judgement["best_single"] - 3
    assert judgement["test_runs"] == 2, "the best alone, and all that was added to it"
    assert judgement["tests_after"]["passed"] == 4


@pytest.mark.parametrize("breaking", ["x = 1\n", "x = 2\n", "x =\n"])
async def test_of_what_was_added_only_the_file_that_breaks_something_is_refused(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, breaking: str
) -> None:
    workspace = await workspace_on(repository(MODULES), baseline=True)
    plan = plan_for()

    async def breaks(job: Any) -> list[str]:
        await editor("import sys\n", "")(job)
        if "b.py" in job.paths:
            text = (job.folder / "b.py").read_text()
            (job.folder / "b.py").write_text(text.replace("x = 1\n", breaking))
        return []

    tools: dict[str, Tool] = {"a": editor("import os\n", ""), "b": breaks, "c": editor("import json\n", "", "c.py")}
    coders = Coders(workspace, plan, **tools)
    first, second, third = await coders.propose()
    # The second one proposes less than it adds when it is asked again, so that it is not tried alone.
    second["patch"] = (await make_proposal("coder-b", editor("import sys\n", "", "a.py"), workspace, plan))["patch"]
    judgement = await judge_proposals(workspace, plan, [first, second, third], again=coders.again)
    accepted = {it["agent"]: it["files"] for it in judgement["accepted"]}
    assert accepted["coder-a"] == ["a.py", "b.py", "c.py", "d.py"]
    async with checkout(workspace, "reader", judgement["patch"]["tree"]) as work:
        made = {name: (work.path / f"{name}.py").read_text() for name in "abcd"}
    refused = [(it["agent"], it["files"], it["reason"]) for it in judgement["rejected"] if it["reason"] != "no_gain"]
    assert accepted["coder-c"] == ["c.py"], "also if it was asked on top of what does not hold"
    if breaking == "x = 1\n":
        assert (refused, accepted["coder-b"]) == ([], ["a.py", "b.py", "c.py", "d.py"])
        return
    assert refused == [("coder-b", ["b.py"], "tests" if breaking == "x = 2\n" else "syntax")]
    assert accepted["coder-b"] == ["a.py", "c.py", "d.py"]
    json = "import json\nx = 1\n"
    assert made == {"a": json, "b": "import json\nimport sys\nx = 1\n", "c": "x = 1\n", "d": json}
    assert judgement["tests_after"]["passed"] == 4
    again = await judge_proposals(workspace, plan, [first, second, third], again=coders.again)
    assert (again["digest"], again["test_runs"]) == (judgement["digest"], 0)


EQUALS = {
    "a.py": "import os\nimport sys\nx = [1, 2]\n",
    "test_a.py": "import a\n\n\ndef test_a():\n    assert a.x == [1, 2]\n",
}


async def equals(repository: MAKE, workspace_on: MAKE, proposal_of: MAKE) -> tuple[Workspace, list[Proposal]]:
    """Two patches that the evidence cannot tell apart, one that is worse, and one that breaks a test."""
    workspace = await workspace_on(repository(EQUALS), baseline=True)
    return workspace, [
        await proposal_of(workspace, "coder-one", {"a.py": "x = [1, 2]\n"}),
        await proposal_of(workspace, "coder-two", {"a.py": "# the two\nx = [1, 2]\n"}),
        await proposal_of(workspace, "coder-worse", {"a.py": "import sys\nx = [1, 2]\n"}),
        await proposal_of(workspace, "coder-wrong", {"a.py": "x = [1]\n"}),
    ]


class Adviser:
    """Says which of the patches it was shown has some words in it."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.asked: list[Any] = []

    async def __call__(self, skill: str, question: Any, options: dict[str, Any]) -> Any:
        if skill == "propose_patch":
            raise TaskFailed("t1", "error")
        self.asked.append((options["to"], question))
        found = [number for number, patch in enumerate(question["patches"]) if self.words in patch["text"]]
        return {"choice": found[0] if found else -1, "reasons": [f"I looked for {self.words}"]}


@pytest.mark.parametrize(("words", "winner"), [("# the two", "coder-two"), ("nothing", "coder-one")])
async def test_advice_decides_only_where_the_evidence_does_not(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE, words: str, winner: str
) -> None:
    workspace, proposals = await equals(repository, workspace_on, proposal_of)
    task, adviser = fake_task(), Adviser(words)
    task.advisers, task.on_call = ["judge-model"], adviser
    judgement = await judge_patches(workspace, plan_for(), proposals, task)
    assert [accepted["agent"] for accepted in judgement["accepted"]] == [winner]
    [(asked, question)] = adviser.asked
    assert asked == "judge-model"
    assert len(question["patches"]) == 2, "not those that are worse, or do not hold"
    assert "coder-" not in str(question["patches"]), "it does not know whose they are"
    [advice] = judgement["advice"]
    assert (advice["by"], sorted(advice["between"])) == ("judge-model", ["coder-one", "coder-two"])
    assert advice["chosen"] == ("coder-two" if words == "# the two" else "")
    assert advice["reasons"] == [f"I looked for {words}"]


async def test_where_the_evidence_decides_nobody_is_asked(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    workspace, [one, _, *others] = await equals(repository, workspace_on, proposal_of)
    task, adviser = fake_task(), Adviser("x = [1]")
    task.advisers, task.on_call = ["judge-model"], adviser
    judgement = await judge_patches(workspace, plan_for(), [one, *others], task)
    assert [accepted["agent"] for accepted in judgement["accepted"]] == ["coder-one"]
    assert (adviser.asked, judgement["advice"]) == ([], [])


async def test_a_model_does_not_judge_its_own_work(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    workspace, proposals = await equals(repository, workspace_on, proposal_of)
    for models, asked in ({"judge-model": "m", "coder-two": "m"}, []), ({"judge-model": "m", "coder-two": "n"}, ["m"]):
        task, adviser = fake_task(), Adviser("# the two")
        task.agents, task.advisers, task.models, task.on_call = ["coder-two"], ["judge-model"], models, adviser
        judgement = await judge_patches(workspace, plan_for(), proposals, task)
        assert len(judgement["advice"]) == len(adviser.asked) == len(asked)


@pytest.mark.parametrize("said", [TaskFailed("t1", "error", "no model"), {"choice": "the first"}, None])
@pytest.mark.long
async def test_an_adviser_that_fails_or_talks_rubbish_has_said_nothing(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE, said: Any
) -> None:
    workspace, proposals = await equals(repository, workspace_on, proposal_of)

    async def fail(skill: str, *_: Any) -> Any:
        if skill == "choose_patch" and not isinstance(said, Exception):
            return said
        raise TaskFailed("t1", "error", "no model")

    task = fake_task()
    task.advisers, task.on_call = ["judge-model"], fail
    judgement = await judge_patches(workspace, plan_for(), proposals, task)
    assert [accepted["agent"] for accepted in judgement["accepted"]] == ["coder-one"]
    [advice] = judgement["advice"]
    assert advice["chosen"] == "" and "it failed" in advice["reasons"][0]


async def asked(workspace: Workspace, plan: Plan, *proposals: Any) -> dict[str, Any]:
    """Return what the coordinator gives to whoever is asked at a rung."""
    candidates = [[{"parts": [{"data": proposal}]}] for proposal in proposals]
    return {
        "task": {"skill": "propose_patch"},
        "input": [{"data": {"workspace": workspace, "plan": plan}}],
        "candidates": candidates,
    }


async def test_at_the_rungs_each_proposal_is_verified_and_the_best_of_those_that_hold_is_chosen(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    files = {
        "a.py": "import os\nimport sys\nx = 1\n",
        "test_a.py": "import a\n\n\ndef test_a():\n    assert a.x == 1\n",
    }
    workspace = await workspace_on(repository(files), baseline=True)
    good = await proposal_of(workspace, "coder-a", {"a.py": "import os\nx = 1\n"})
    better = await proposal_of(workspace, "coder-b", {"a.py": "x = 1\n"})
    wrong = await proposal_of(workspace, "coder-c", {"a.py": "y = 1\n"})
    shown = [wrong, good, better, "no proposal"]
    verified = [await verify_patch(**await asked(workspace, plan_for(), one), context=fake_task()) for one in shown]
    assert [(one["passed"], one["left"]) for one in verified] == [(False, 0), (True, 2), (True, 0), (False, -1)]
    assert verified[0]["evidence"]["failing"] == ["test_a.py::test_a"]
    for order, choice in ((shown, 2), (shown[::-1], 1), ([wrong], -1), ([better, better], -1)):
        made = await choose_proposal(**await asked(workspace, plan_for(), *order), context=fake_task())
        assert made["choice"] == choice, "the fewest findings of those that hold; a tie is nobody's"


async def test_where_tests_cannot_decide_nothing_is_merged_or_passes_and_findings_are_counted(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\nimport sys\n"}))
    one = await proposal_of(workspace, "coder-a", {"a.py": "import os\n"})
    two = await proposal_of(workspace, "coder-b", {"a.py": ""})
    question = await asked(workspace, plan_for(), one, two)
    with pytest.raises(AttemptFailed, match="no evidence: nobody looked"):
        await merge_patches(**question, context=fake_task())
    verified = await verify_patch(**await asked(workspace, plan_for(), two), context=fake_task())
    assert (verified["passed"], verified["left"], verified["detail"]) == (False, 0, "nobody looked")
    assert await choose_proposal(**question, context=fake_task()) == {"choice": 1, "left": [1, 0]}


async def test_a_merger_takes_from_the_record_who_proposed_what(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, fake_task: MAKE
) -> None:
    files = {"a.py": "import os\n", "b.py": "import os\n", "test_a.py": "def test_a(): pass\n"}
    workspace = await workspace_on(repository(files), baseline=True)
    honest = await proposal_of(workspace, "coder-a", {"a.py": ""})
    liar = await proposal_of(workspace, "coder-a", {"b.py": ""})
    subjects = [{"agent": "coder-a", "value": honest}, {"agent": "liar", "value": liar}, {"agent": "x", "value": 7}]

    class Task(fake_task):  # type: ignore[misc]
        id = "t9"

        async def get(self, task: str) -> Any:
            return {"metadata": {"parent": "t1", "conflicts": ["k2"]}}

        async def conflict(self, conflict: str) -> Any:
            return {"subjects": subjects}

    judgement = await merge_patches(**await asked(workspace, plan_for()), context=Task())
    assert {it["agent"]: it["files"] for it in judgement["accepted"]} == {"coder-a": ["a.py"], "liar": ["b.py"]}
    assert [(it["agent"], it["reason"]) for it in judgement["rejected"]] == [("x", "does_not_apply")]
