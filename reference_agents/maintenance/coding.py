"""What the coders share: the way from a workspace and a tree to a proposal.

A coder is a tool that rewrites files in a folder. This module decides which files it may touch, provides the folder,
and describes the result; it does not assume that the result is any good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from a2a import AttemptFailed

from . import git
from .findings import count_findings
from .processes import Limits, Report, silent
from .scope import in_scope
from .shapes import Plan, Proposal, Workspace
from .workspace import checkout, patch_of

__all__ = ["TOOL_LIMITS", "Job", "Tool", "make_proposal", "paths_in_scope"]

TOOL_LIMITS: Final = Limits(seconds=900.0, memory=4 * 1024**3)
"""The slowest tool needed 66 s for 18,000 lines."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a tool has to do."""

    folder: Path
    scratch: Path
    paths: Sequence[str]
    """Relative to the folder; all of them exist."""
    plan: Plan
    report: Report


Tool = Callable[[Job], Awaitable[list[str]]]
"""Rewrites files in place and returns notes for people."""


async def make_proposal(
    agent: str,
    tool: Tool,
    workspace: Workspace,
    plan: Plan,
    *,
    onto: str = "",
    files: Sequence[str] | None = None,
    report: Report = silent,
) -> Proposal:
    """Let a tool work on its own copy of a tree, and describe the result. The same inputs give the same proposal.

    Args:
        agent: the name under which to propose.
        onto: the tree or commit to build on; the base if empty.
        files: stay within these.
    """
    started = monotonic()
    try:
        start = await git.tree_id(workspace["mirror"], onto or workspace["base"])
    except git.GitError as exc:
        raise AttemptFailed(f"there is no tree {onto!r} to build on", code="no_such_tree", retryable=False) from exc
    async with checkout(workspace, agent, start) as work:
        paths = [path for path in paths_in_scope(workspace, plan, files) if (work.path / path).is_file()]
        before = await count_findings(work.path, workspace["files"])
        await report(0.1, f"working on {len(paths)} files")
        notes = await tool(Job(work.path, work.scratch, paths, plan, report)) if paths else []
        tree = await work.snapshot(paths)
        after = await count_findings(work.path, workspace["files"])
    patch = await patch_of(workspace, tree)
    await report(1.0, f"{before['total']} findings -> {after['total']}")
    return Proposal(
        agent=agent, patch=patch, onto=start, findings_before=before["total"], findings_left=after["total"],
        notes=notes, elapsed=round(monotonic() - started, 2),
    )  # fmt: skip


def paths_in_scope(workspace: Workspace, plan: Plan, files: Sequence[str] | None) -> list[str]:
    """Return the files that a plan lets coders change, of those asked for."""
    wanted = None if files is None else set(files)
    return [path for path in workspace["files"] if in_scope(plan, path) and (wanted is None or path in wanted)]
