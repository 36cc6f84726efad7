from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reference_agents.maintenance import account as module
from reference_agents.maintenance import git
from reference_agents.maintenance.account import Account, Outcome
from reference_agents.maintenance.evidence import count, no_evidence
from reference_agents.maintenance.hearing import Hearing
from reference_agents.maintenance.shapes import Advice, FindingCount, Judgement, Rejected, Workspace
from reference_agents.maintenance.trials import Trial

MAKE = Callable[..., Any]
NOTHING = Hearing([], [])


@pytest.fixture
async def workspace(repository: MAKE, workspace_on: MAKE) -> Workspace:
    made: Workspace = await workspace_on(repository({"a.py": "import os\n", "b.py": "import sys\n", "c.py": "x = 1\n"}))
    return made


@pytest.fixture
async def base(workspace: Workspace) -> str:
    return await git.tree_id(workspace["mirror"], workspace["base"])


def trial(tree: str, total: int) -> Trial:
    return Trial(tree, True, no_evidence(), FindingCount(total=total, by_rule={}), count({}, 0.0))


def outcome(tree: str, **changes: Any) -> Outcome:
    settled: dict[str, Any] = {
        "verdict": "accepted", "tree": tree, "findings": {"total": 0, "by_rule": {}}, "best_single": 1,
        "tests": count({"test_a": "passed"}, 1.5), "runs": 3,
    }  # fmt: skip
    return Outcome(**(settled | changes))


async def test_what_was_taken_is_told_by_agent_in_the_order_of_taking(
    workspace: Workspace, base: str, tree_with: MAKE
) -> None:
    one = await tree_with(workspace, {"b.py": ""})
    two = await tree_with(workspace, {"a.py": "", "b.py": ""})
    kept = Account(workspace, base, None)
    assert kept.first is None
    await kept.take("coder-b", trial(base, 2), trial(one, 1))
    await kept.take("coder-a", trial(one, 1), trial(two, 0))
    kept.accept("coder-b", ["c.py"], 5)
    advice = Advice(by="judge-model", between=["coder-a", "coder-b"], chosen="coder-b", reasons=["shorter"])
    kept.advise(advice)
    assert kept.first == "coder-b"
    judgement = await kept.judgement(NOTHING, outcome(two), 1.234)
    assert judgement["accepted"] == [
        {"agent": "coder-b", "files": ["b.py", "c.py"], "removed": 6},
        {"agent": "coder-a", "files": ["a.py"], "removed": 1},
    ]
    assert judgement["advice"] == [advice]
    assert [it["path"] for it in judgement["patch"]["files"]] == ["a.py", "b.py"]
    assert (judgement["elapsed"], judgement["test_runs"], judgement["best_single"]) == (1.23, 3, 1)


async def test_a_refusal_is_told_at_once_and_keeps_its_patch(workspace: Workspace, base: str, tree_with: MAKE) -> None:
    told: list[Rejected] = []

    async def record(rejected: Rejected) -> None:
        told.append(rejected)

    kept = Account(workspace, base, record)
    tree = await tree_with(workspace, {"a.py": "", "b.py": ""})
    await kept.refuse("coder-x", ["a.py"], "tests", "1 tests fail with it", no_evidence("why"), tree=tree)
    await kept.refuse("coder-y", [], "does_not_apply", "stale")
    assert [(it["agent"], it["files"], it["reason"]) for it in told] == [
        ("coder-x", ["a.py"], "tests"), ("coder-y", [], "does_not_apply"),
    ]  # fmt: skip
    text = Path(told[0]["patch_path"]).read_bytes()
    assert git.digest(text) == told[0]["patch_digest"]
    assert b"-import os" in text and b"import sys" not in text, "of the files it is about, and no others"
    assert (told[1]["patch_path"], told[1]["patch_digest"]) == ("", "")
    assert (await kept.judgement(NOTHING, outcome(base), 0.0))["rejected"] == told


async def test_work_without_gain_is_refused_with_what_it_would_have_added(
    workspace: Workspace, base: str, tree_with: MAKE
) -> None:
    ground = await tree_with(workspace, {"a.py": ""})
    after = await tree_with(workspace, {"a.py": "", "c.py": "x = 2\n"})
    kept = Account(workspace, base, None)
    await kept.refuse_gainless("coder-x", trial(ground, 1), trial(after, 2))
    [refused] = (await kept.judgement(NOTHING, outcome(ground), 0.0))["rejected"]
    assert (refused["files"], refused["reason"]) == (["c.py"], "no_gain")
    assert refused["detail"] == "2 findings would be left, 1 are without it"
    assert "-x = 1\n+x = 2\n" in Path(refused["patch_path"]).read_text()


async def test_only_the_first_refusals_quote_output(
    workspace: Workspace, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL_EXCERPTS_MAX", 1)
    kept = Account(workspace, base, None)
    for name in ("coder-x", "coder-y"):
        await kept.refuse(name, [], "tests", "it fails", no_evidence("a long story"))
    rejected = (await kept.judgement(NOTHING, outcome(base), 0.0))["rejected"]
    assert [it["evidence"]["excerpt"] for it in rejected] == ["a long story", ""]


async def test_a_second_judge_comes_to_the_same_digest_in_another_time(workspace: Workspace, base: str) -> None:
    async def digest(elapsed: float, **changes: Any) -> str:
        made: Judgement = await Account(workspace, base, None).judgement(NOTHING, outcome(base, **changes), elapsed)
        return made["digest"]

    first = await digest(1.0)
    assert await digest(2.0, runs=99, tests=count({"test_a": "passed"}, 9.9)) == first
    assert await digest(1.0, tests=count({"test_a": "failed"}, 1.5)) != first
    assert await digest(1.0, best_single=2) != first
