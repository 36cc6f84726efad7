from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from a2a import AttemptFailed, GitGuard, LeaseLapsed, TaskFailed
from a2a.testing import squad
from reference_agents.maintenance import deployer
from reference_agents.maintenance.decisions import APPROVAL, PLAN
from reference_agents.maintenance.deployer import EFFECT_KEY, agent, deploy
from reference_agents.maintenance.holding import branch_of, repository_name
from reference_agents.maintenance.workspace import patch_of

MAKE = Callable[..., Any]
TRAILERS = ["A2A-Task: t-1", "A2A-Evidence: 0123"]
FENCE = 7


async def deploy_patch(*given: Any, fence: int = FENCE, **options: Any) -> Any:
    return await deployer.deploy_patch(*given, fence=fence, **options)


async def claimed(repo: Any, branch: str) -> str:
    return branch_of(await repository_name(repo.path), branch)


@pytest.fixture
async def case(repository: MAKE, workspace_on: MAKE, tree_with: MAKE) -> Any:
    """A repository, a workspace on it and two patches for it."""
    repo = repository({"a.py": "x = 1\n"})
    workspace = await workspace_on(repo)
    patches = [await patch_of(workspace, await tree_with(workspace, {"a.py": f"x = {value}\n"})) for value in (2, 3)]
    return repo, workspace, patches


async def refused(workspace: Any, patch: Any, branch: str = "a2a/x", title: str = "A title", **options: Any) -> str:
    trailers = options.pop("trailers", TRAILERS)
    with pytest.raises(AttemptFailed) as caught:
        await deploy_patch(workspace, patch, branch, title, trailers, **options)
    assert not caught.value.retryable
    return str(caught.value.error_code)


async def test_the_commit_is_on_a_branch_of_its_own_and_nothing_else_moved(case: Any, fake_task: MAKE) -> None:
    repo, workspace, [patch, _] = case
    repo.write({"untracked.txt": "mine"})
    files, head = repo.looks_like()[:-2], repo.git("rev-parse", "HEAD")
    task = fake_task()
    task.claims[await claimed(repo, "a2a/modernise")] = FENCE
    made = await deploy(workspace, patch, "a2a/modernise", "Modernise", TRAILERS, task)
    assert made == {"branch": "a2a/modernise", "commit": repo.git("rev-parse", "a2a/modernise"), "created": True}
    assert repo.git("show", "a2a/modernise:a.py") == "x = 2"
    assert repo.git("rev-parse", "a2a/modernise^") == head == repo.git("rev-parse", "HEAD")
    assert repo.looks_like()[:-2] == files
    assert repo.git("status", "--porcelain") == "?? untracked.txt"
    assert task.checks == 1
    assert repo.git("for-each-ref", "--format=%(refname)").split() == [
        "refs/a2a/fences/a2a/modernise", "refs/heads/a2a/modernise", "refs/heads/main",
    ]  # fmt: skip
    repo.git("fsck", "--strict")


async def test_one_that_was_thought_dead_is_turned_away_by_the_repository(case: Any) -> None:
    repo, workspace, [patch, other] = case

    def newer_one_comes() -> None:
        GitGuard(repo.path, "a2a/x").touch(FENCE + 1)

    assert await refused(workspace, patch, before_effect=newer_one_comes) == "fenced_off"
    assert repo.git("branch", "--list", "a2a/x") == "", "though nobody had moved the branch"
    assert await refused(workspace, patch) == "fenced_off"
    made = await deploy_patch(workspace, other, "a2a/x", "A title", TRAILERS, fence=FENCE + 1)
    assert await refused(workspace, patch, expected=made["commit"]) == "fenced_off"
    assert repo.git("rev-parse", "a2a/x") == made["commit"]


async def test_who_begins_is_known_to_the_repository_before_anything_else_happens(case: Any) -> None:
    repo, workspace, [patch, _] = case

    def look() -> None:
        assert GitGuard(repo.path, "a2a/x").seen() == FENCE

    await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS, before_effect=look)


async def test_the_fence_is_that_of_the_claim_which_came_with_the_lease(case: Any) -> None:
    repo, workspace, [patch, _] = case
    given = {"workspace": workspace, "patch": patch, "branch": "a2a/x", "title": "A title", "trailers": TRAILERS}
    async with squad(agent) as up:
        with pytest.raises(TaskFailed, match="moving a2a/x takes a claim"):
            await up.client.call("deploy", given)
        assert repo.git("branch", "--list", "a2a/x") == ""
        name = await claimed(repo, "a2a/x")
        async with up.client.claim(name) as before:
            fence = before.fence
        made = await up.client.call("deploy", given, resources=[name])
    assert repo.git("rev-parse", "a2a/x") == made["commit"]
    assert GitGuard(repo.path, "a2a/x").seen() > fence


async def test_only_what_was_approved_is_deployed(case: Any, fake_task: MAKE, plan_for: MAKE) -> None:
    repo, workspace, [patch, other] = case
    task = fake_task()
    task.claims[await claimed(repo, "a2a/x")] = FENCE
    task.context.values |= {PLAN: plan_for(), APPROVAL: {"patch": patch["digest"], "plan": 1, "by": "human"}}
    with pytest.raises(AttemptFailed, match="nobody has approved patch"):
        await deploy(workspace, other, "a2a/x", "A title", TRAILERS, task)
    assert repo.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert (await deploy(workspace, patch, "a2a/x", "A title", TRAILERS, task))["created"]


async def test_a_name_that_cannot_be_guarded_is_as_good_as_taken(case: Any) -> None:
    repo, workspace, [patch, _] = case
    await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    repo.git("branch", "--quiet", "-D", "a2a/x")
    assert await refused(workspace, patch, branch="a2a/x/y") == "branch_moved"


async def test_the_trailer_says_where_the_commit_comes_from(case: Any) -> None:
    repo, workspace, [patch, _] = case
    made = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    trailers = repo.git("show", "--no-patch", "--format=%(trailers:only,unfold)", made["commit"]).splitlines()
    assert trailers[:2] == TRAILERS
    assert trailers[2].startswith(f"{EFFECT_KEY}: ")
    assert repo.git("show", "--no-patch", "--format=%s", made["commit"]) == "A title"


async def test_deploying_twice_gives_one_commit(case: Any) -> None:
    repo, workspace, [patch, _] = case
    first = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    again = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    assert again == first | {"created": False}
    assert repo.git("rev-list", "--count", "a2a/x") == "2"


async def test_a_branch_that_is_somewhere_else_is_not_moved(case: Any) -> None:
    repo, workspace, [patch, other] = case
    first = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    assert await refused(workspace, other) == "branch_moved"
    assert await refused(workspace, other, expected=workspace["base"]) == "branch_moved"
    assert await refused(workspace, other, branch="a2a/none", expected=first["commit"]) == "branch_moved"
    assert repo.git("rev-parse", "a2a/x") == first["commit"]
    second = await deploy_patch(workspace, other, "a2a/x", "A title", TRAILERS, expected=first["commit"])
    assert repo.git("rev-parse", "a2a/x") == second["commit"]
    assert repo.git("rev-parse", "a2a/x^") == workspace["base"]


async def test_a_branch_that_moves_at_the_last_moment_is_not_overwritten(case: Any) -> None:
    repo, workspace, [patch, _] = case

    def meanwhile() -> None:
        repo.git("branch", "a2a/x", "HEAD")

    assert await refused(workspace, patch, before_effect=meanwhile) == "branch_moved"
    assert repo.git("rev-parse", "a2a/x") == workspace["base"]


async def test_an_attempt_that_was_thought_dead_and_was_faster_has_done_our_work(case: Any) -> None:
    repo, workspace, [patch, _] = case
    there: list[str] = []
    first = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    repo.git("update-ref", "-d", "refs/heads/a2a/x")

    def meanwhile() -> None:
        repo.git("update-ref", "refs/heads/a2a/x", first["commit"])
        there.append(first["commit"])

    again = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS, before_effect=meanwhile)
    assert again == {"branch": "a2a/x", "commit": there[0], "created": False}


async def test_a_lapsed_lease_stops_it_before_the_branch_moves(case: Any) -> None:
    repo, workspace, [patch, _] = case

    def lapsed() -> None:
        raise LeaseLapsed("too late")

    with pytest.raises(LeaseLapsed):
        await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS, before_effect=lapsed)
    assert repo.git("branch", "--list", "a2a/x") == ""


async def test_a_branch_somebody_works_on_is_left_alone(case: Any) -> None:
    repo, workspace, [patch, _] = case
    assert await refused(workspace, patch, branch="main", expected=workspace["base"]) == "branch_checked_out"
    repo.git("worktree", "add", "--quiet", "-b", "beside", str(repo.path.parent / "beside"))
    assert await refused(workspace, patch, branch="beside", expected=workspace["base"]) == "branch_checked_out"


async def test_what_does_not_fit_is_refused_before_anything_is_written(case: Any) -> None:
    repo, workspace, [patch, _] = case
    before = repo.looks_like()
    for branch in ("", "a..b", "a b", "-x", "a.lock", "x\ny"):
        assert await refused(workspace, patch, branch=branch) == "bad_branch"
    for title in ("", "two\nlines", "x" * 500):
        assert await refused(workspace, patch, title=title) == "bad_title"
    for trailer in ("no colon", "Key: two\nlines", f"{EFFECT_KEY}: forged", "Key:"):
        assert await refused(workspace, patch, trailers=[trailer]) == "bad_trailer"
    assert await refused(workspace, {"text": ""}) == "empty_patch"
    assert await refused(workspace, {"text": "--- a/z\n+++ b/z\n@@ -1 +1 @@\n-1\n+2\n"}) == "does_not_apply"
    assert repo.looks_like() == before


async def test_a_forged_key_in_the_middle_of_a_message_is_not_taken_for_ours(case: Any) -> None:
    repo, workspace, [patch, _] = case
    first = await deploy_patch(workspace, patch, "a2a/x", "A title", TRAILERS)
    message = repo.git("show", "--no-patch", "--format=%B", first["commit"])
    commit = repo.git("commit-tree", f"{first['commit']}^{{tree}}", "-p", first["commit"], "-m", message)
    repo.git("update-ref", "refs/heads/a2a/x", commit)
    assert await refused(workspace, patch) == "branch_moved", "it is not right above the base"


def test_the_card_names_the_skill() -> None:
    assert [skill["id"] for skill in agent.card()["skills"]] == ["deploy"]
