"""The deployer: makes a branch with one commit on it, and touches nothing else.

The commit is built from objects, so no working tree, index or hook of the repository is involved. The branch moves by
compare-and-swap, under the fence of the claim that the attempt was granted with: if an attempt was presumed dead and
comes back after another, the repository itself turns it away. An effect key in the commit's trailer identifies the
request, so that a repeat - after a crash, or because a message came twice - finds the existing commit. The deployer
never pushes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final

import anyio.to_thread

from a2a import Agent, AttemptFailed, BranchMoved, FencedOff, GitGuard, TaskContext

from . import git
from .decisions import heed_approval
from .holding import branch_of, repository_name
from .processes import Report, silent
from .shapes import Deployment, Patch, Workspace
from .workspace import patch_bytes, tree_of

__all__ = ["EFFECT_KEY", "agent", "deploy", "deploy_patch"]

EFFECT_KEY: Final = "Effect-Key"
TITLE_CHARS_MAX: Final = 200
TRAILERS_MAX: Final = 50
TRAILER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*: \S.*")

agent = Agent("deployer", version="1.0", description="Commits a patch on a branch of its own.", concurrency=1)


@agent.skill(tags=["maintenance"])
async def deploy(
    workspace: Workspace,
    patch: Patch,
    branch: str,
    title: str,
    trailers: list[str],
    task: TaskContext,
    expected: str = "",
) -> Deployment:
    """Commit a patch on a new branch of the repository, with a claim on that branch."""
    name = branch_of(await repository_name(workspace["repository"]), branch)
    if name not in task.claims:
        raise _refusal("no_claim", f"moving {branch} takes a claim: delegate this with {name} among its resources")
    await heed_approval(task, git.digest(patch_bytes(workspace, patch)))
    return await deploy_patch(
        workspace, patch, branch, title, trailers, fence=task.claims[name], expected=expected,
        before_effect=task.check, report=task.progress,
    )  # fmt: skip


async def deploy_patch(
    workspace: Workspace,
    patch: Patch,
    branch: str,
    title: str,
    trailers: Sequence[str],
    *,
    fence: int,
    expected: str = "",
    before_effect: Callable[[], object] = lambda: None,
    report: Report = silent,
) -> Deployment:
    """Do the deployer's work.

    Args:
        trailers: `Key: value`, one each; they say where the commit comes from.
        fence: the fence of the claim on the branch.
        expected: the commit the branch is at; empty if the branch must not exist yet.
        before_effect: called right before the branch moves; raises if it must no longer move.

    Raises:
        AttemptFailed: `bad_branch`, `bad_title`, `bad_trailer`, `empty_patch`, `fenced_off`, `branch_moved`,
            `branch_checked_out`, or what `workspace.tree_of` raises. The branch has not moved then.
    """
    repository, base = workspace["repository"], workspace["base"]
    ref = await _checked_ref(repository, branch)
    tree = await tree_of(workspace, patch)
    if tree == await git.tree_id(workspace["mirror"], base):
        raise _refusal("empty_patch", "the patch changes nothing")
    message = _message(title, trailers)
    key = git.digest(json.dumps([base, tree, ref, message]).encode())
    await report(0.3, f"committing on {branch}")
    guard = GitGuard(repository, branch)
    try:
        await _guarded(lambda: guard.touch(fence))  # from now on the guard refuses older claims
    except OSError as exc:
        raise _refusal("branch_moved", f"{branch} cannot be guarded: {exc}") from exc
    there = await _tip(repository, ref)
    if there and await _carries(repository, there, base, key):
        return Deployment(branch=branch, commit=there, created=False)
    if there != expected:
        raise _refusal("branch_moved", f"{branch} is at {there or 'nothing'}, expected was {expected or 'nothing'}")
    if await _is_checked_out(repository, ref):
        raise _refusal(
            "branch_checked_out", f"{branch} is checked out; moving it would pull the ground from under somebody"
        )
    commit = await git.commit_tree(workspace["mirror"], tree, base, f"{message}{EFFECT_KEY}: {key}\n")
    await _hand_over(workspace["mirror"], repository, commit, base)
    before_effect()
    try:
        await _guarded(lambda: guard.advance(commit, fence, old=there or None))
    except (BranchMoved, OSError) as exc:
        # Somebody was faster, perhaps an attempt of this same task that was presumed dead.
        now = await _tip(repository, ref)
        if now and await _carries(repository, now, base, key):
            return Deployment(branch=branch, commit=now, created=False)
        raise _refusal("branch_moved", f"{branch} could not be moved: {exc}") from exc
    await report(1.0, f"{commit[:12]} on {branch}")
    return Deployment(branch=branch, commit=commit, created=True)


async def _checked_ref(repository: str, branch: str) -> str:
    try:
        await git.git(repository, "check-ref-format", f"refs/heads/{branch}")
    except git.GitError as exc:
        raise _refusal("bad_branch", f"{branch!r} cannot be the name of a branch") from exc
    if branch.startswith("-"):
        raise _refusal("bad_branch", f"{branch!r} looks like an option")
    return f"refs/heads/{branch}"


async def _guarded(move: Callable[[], None]) -> None:
    """Do something that the branch's guard lets only the newest holder of the claim do."""
    try:
        await anyio.to_thread.run_sync(move)
    except FencedOff as exc:
        forget = "where no coordinator of yours knows that claim, delete the branch's ref in refs/a2a/fences"
        raise _refusal("fenced_off", f"somebody with a newer claim on the branch was here: {exc}; {forget}") from exc


def _message(title: str, trailers: Sequence[str]) -> str:
    """Return the commit message, ready for the effect key to follow."""
    if not title.strip() or len(title) > TITLE_CHARS_MAX or "\n" in title or "\0" in title:
        raise _refusal("bad_title", f"expected one line of at most {TITLE_CHARS_MAX} characters")
    if len(trailers) > TRAILERS_MAX:
        raise _refusal("bad_trailer", f"expected at most {TRAILERS_MAX} trailers, got {len(trailers)}")
    for trailer in trailers:
        if not TRAILER.fullmatch(trailer) or trailer.lower().startswith(f"{EFFECT_KEY.lower()}:"):
            raise _refusal("bad_trailer", f"expected `Key: value` on one line, got {trailer!r}")
    return f"{title.strip()}\n\n" + "".join(f"{trailer}\n" for trailer in trailers)


async def _tip(repository: str, ref: str) -> str:
    """Return the commit a branch is at, or an empty text if the branch does not exist."""
    found = await git.git(repository, "for-each-ref", "--format=%(refname) %(objectname)", ref)
    for line in found.decode().splitlines():
        name, _, commit = line.partition(" ")
        if name == ref:
            return commit
    return ""


async def _carries(repository: str, commit: str, base: str, key: str) -> bool:
    """Tell whether a commit is the one asked for: directly on the base, with the effect key in its trailer."""
    told = await git.git(
        repository, "show", "--no-patch", "--no-show-signature",
        f"--format=%P%n%(trailers:key={EFFECT_KEY},valueonly,separator=%x2C)", commit,
    )  # fmt: skip
    parent, _, keys = told.decode(errors="replace").strip().partition("\n")
    return parent == base and keys.strip().split(",")[-1] == key


async def _is_checked_out(repository: str, ref: str) -> bool:
    listed = await git.git(repository, "worktree", "list", "--porcelain")
    return f"branch {ref}\n".encode() in listed


async def _hand_over(mirror: str, repository: str, commit: str, base: str) -> None:
    """Copy the commit's new objects into the repository; without a ref they are invisible there."""
    pack = await git.git(mirror, "pack-objects", "--revs", "--stdout", "-q", stdin=f"{commit}\n^{base}\n".encode())
    await git.git(repository, "unpack-objects", "-q", stdin=pack)


def _refusal(code: str, detail: str) -> AttemptFailed:
    return AttemptFailed(detail, code=code, retryable=False)


if __name__ == "__main__":
    agent.main()
