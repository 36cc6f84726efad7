from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance import git
from reference_agents.maintenance.hearing import Hearing, hear
from reference_agents.maintenance.shapes import Plan, Proposal, Workspace

MAKE = Callable[..., Any]


class Clerk:
    """Hears proposals, and notes what is refused."""

    def __init__(self, workspace: Workspace, plan: Plan) -> None:
        self.refused: list[tuple[str, list[str], str, bool]] = []
        self.workspace, self.plan = workspace, plan

    async def hear(self, *proposals: Proposal) -> Hearing:
        base = await git.tree_id(self.workspace["mirror"], self.workspace["base"])
        return await hear(self.workspace, self.plan, proposals, base, self.refuse)

    async def refuse(self, name: str, files: Sequence[str], reason: str, detail: str, tree: str) -> None:
        assert detail, "a refusal has words"
        self.refused.append((name, list(files), reason, bool(tree)))


async def test_a_proposal_is_heard_whole_where_it_stays_inside_the_plan(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\n", "b.py": "x = 1\n"}))
    clerk = Clerk(workspace, plan_for())
    heard = await clerk.hear(await proposal_of(workspace, "coder-x", {"a.py": "", "c.py": "y = 2\n"}))
    [candidate] = heard.candidates
    assert (candidate.agent, candidate.files, candidate.refused) == ("coder-x", {"a.py", "c.py"}, set())
    assert (heard.agreements, clerk.refused) == ([], [])


async def test_what_the_plan_does_not_open_is_cut_off(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\n", "test_a.py": "import a\n", "setup.cfg": ""}))
    clerk = Clerk(workspace, plan_for(may_touch=[]))
    both = await proposal_of(workspace, "coder-x", {"a.py": "", "test_a.py": "", "setup.cfg": "[x]\n"})
    outside = await proposal_of(workspace, "coder-y", {"setup.cfg": "[y]\n"})
    heard = await clerk.hear(both, outside)
    [candidate] = heard.candidates
    changed = await git.changed_paths(workspace["mirror"], workspace["base"], candidate.tree)
    assert (candidate.agent, candidate.files, changed) == ("coder-x", {"a.py"}, ["a.py"])
    assert clerk.refused == [
        ("coder-x", ["setup.cfg", "test_a.py"], "out_of_scope", True),
        ("coder-y", ["setup.cfg"], "out_of_scope", True),
    ]


async def test_a_patch_that_does_not_apply_or_is_not_what_it_says_is_not_heard(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE, tree_with: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\n"}))
    stale = await proposal_of(workspace, "coder-stale", {"a.py": ""})
    stale["patch"] = {"text": stale["patch"]["text"].replace("import os", "import sys")}
    liar = await proposal_of(workspace, "coder-liar", {"a.py": ""})
    liar["patch"]["tree"] = await tree_with(workspace, {"a.py": "evil = 1\n"})
    clerk = Clerk(workspace, plan_for())
    assert (await clerk.hear(stale, liar)).candidates == []
    assert clerk.refused == [
        ("coder-stale", [], "does_not_apply", False), ("coder-liar", [], "does_not_apply", False),
    ]  # fmt: skip


async def test_a_workspace_that_is_gone_is_nobodys_bad_patch(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\n"}))
    proposal = await proposal_of(workspace, "coder-x", {"a.py": ""})
    clerk = Clerk(workspace | {"mirror": "/nowhere"}, plan_for())
    with pytest.raises(AttemptFailed, match="the workspace is gone"):
        await hear(clerk.workspace, clerk.plan, [proposal], "0" * 40, clerk.refuse)


async def test_where_proposals_agree_to_the_letter_that_is_found(
    repository: MAKE, workspace_on: MAKE, plan_for: MAKE, proposal_of: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "import os\nx = 1\n", "b.py": "import os\n", "c.py": "y = 1\n"}))
    one = await proposal_of(workspace, "coder-one", {"a.py": "x = 1\n", "b.py": "import re\n"})
    two = await proposal_of(workspace, "coder-two", {"a.py": "x = 1\n", "b.py": "import sys\n"})
    three = await proposal_of(workspace, "coder-three", {"c.py": "y = 2\n", "b.py": None})
    heard = await Clerk(workspace, plan_for()).hear(one, two, three)
    assert heard.agreements == [{"path": "a.py", "agents": ["coder-one", "coder-two"]}]
