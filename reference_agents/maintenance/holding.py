"""The parts of a repository that only one task may hold at a time, and the names under which to claim them.

The names are the same for every path that leads to a repository, its linked worktrees included, and in every process on
its machine. This module claims nothing itself: the lead and its sub-tasks do.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from . import git

__all__ = ["branch_of", "repository_name", "turn_at"]

SEGMENTS_MAX: Final = 24
CHARS_MAX: Final = 300
"""Of a name, with room to spare: a claim takes 32 segments and 512 characters."""
LABEL_CHARS_MAX: Final = 40


async def repository_name(path: str | Path) -> str:
    """Return the name of a repository on this machine, or of the folder if there is no repository yet."""
    folder = _expanded(path)
    try:
        told = await git.git(folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
    except git.GitError:
        return _named(folder)  # the agent that works on it says what is wrong with it
    return _named(os.fsdecode(told.removesuffix(b"\n")))


def _expanded(path: str | Path) -> Path:
    return Path(path).expanduser()


def _named(folder: str | Path) -> str:
    real = Path(folder).resolve()
    label = real.parent.name if real.name == ".git" else real.name
    return f"repo/{_segment(label)[:LABEL_CHARS_MAX]}-{git.digest(os.fsencode(real))[:12]}"


def turn_at(repository: str) -> str:
    """Return the name of the turn to work on a repository, given the repository's name."""
    return f"{repository}/turn"


def branch_of(repository: str, branch: str) -> str:
    """Return the name of a branch of a repository. Two branches may share a name, which separates more than it must."""
    segments = [_segment(segment) for segment in branch.split("/") if segment]
    return f"{repository}/branch/{'/'.join(segments[:SEGMENTS_MAX])}"[:CHARS_MAX].rstrip("/")


def _segment(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", text) or "-"
