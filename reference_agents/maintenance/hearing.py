"""The hearing: what was proposed, and where proposals are identical.

It cuts off what lies outside the plan, before anybody tries it. It tries and weighs nothing: `judge` does that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from a2a import AttemptFailed

from . import git
from .scope import in_scope
from .shapes import AgreedFile, Plan, Proposal, Workspace
from .workspace import tree_of

__all__ = ["Candidate", "Hearing", "hear"]

Refuse = Callable[[str, Sequence[str], str, str, str], Awaitable[None]]
"""Told of what is not heard: agent, files, reason, detail, and the tree it is about, if there is one."""


@dataclass(slots=True)
class Candidate:
    """What one agent proposed, and what is left of it."""

    agent: str
    tree: str
    """Its proposal, without the files it should not have touched."""
    files: frozenset[str]
    alone: int = 0
    """Findings left by the part of it that holds alone."""
    refused: set[str] = field(default_factory=set)
    """Files of its work that break the tests."""


@dataclass(frozen=True, slots=True)
class Hearing:
    """All proposals."""

    candidates: list[Candidate]
    agreements: list[AgreedFile]


async def hear(
    workspace: Workspace, plan: Plan, proposals: Sequence[Proposal], base: str, refuse: Refuse
) -> Hearing:  # fmt: skip
    """Look each proposal up, and compare their texts.

    Args:
        base: the tree they start from.
        refuse: told of what does not apply, and of files outside the plan.
    """
    candidates = [
        candidate
        for proposal in proposals
        if (candidate := await _candidate(workspace, plan, proposal, base, refuse)) is not None
    ]
    return Hearing(candidates, await _agreements(workspace["mirror"], candidates))


async def _candidate(
    workspace: Workspace, plan: Plan, proposal: Proposal, base: str, refuse: Refuse
) -> Candidate | None:  # fmt: skip
    """Return the part of a proposal that lies inside the plan."""
    name, mirror = proposal["agent"], workspace["mirror"]
    try:
        tree = await tree_of(workspace, proposal["patch"])
    except AttemptFailed as exc:
        if exc.error_code not in {"does_not_apply", "patch_mismatch"}:
            raise
        await refuse(name, [], "does_not_apply", exc.detail, "")
        return None
    changed = await git.changed_paths(mirror, base, tree)
    outside = [path for path in changed if not in_scope(plan, path)]
    if outside:
        await refuse(name, outside, "out_of_scope", "the plan does not let anybody touch these", tree)
        tree = await git.replace_paths(mirror, tree, base, outside)
    inside = frozenset(changed) - frozenset(outside)
    return Candidate(name, tree, inside) if inside else None


async def _agreements(mirror: str, candidates: Sequence[Candidate]) -> list[AgreedFile]:
    """Return the files that several agents would change in the same way."""
    versions: dict[tuple[str, str | None], list[str]] = {}
    for candidate in candidates:
        blobs = {entry.path: entry.blob for entry in await git.files(mirror, candidate.tree)}
        for path in candidate.files:
            versions.setdefault((path, blobs.get(path)), []).append(candidate.agent)
    return [
        AgreedFile(path=path, agents=agents)
        for (path, _), agents in sorted(versions.items(), key=str)
        if len(agents) > 1
    ]  # fmt: skip
