"""Git, as far as the squad needs it: objects, trees, patches and one ref at a time.

Nothing here runs a hook, asks for a password, refreshes an index or reads what a person has checked out: trees are
built in a separate index and identified by their ids. This module knows no worktrees (see `workspace`) and no plans.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .processes import inherited_environment, run

__all__ = [
    "Entry",
    "GitError",
    "Merge",
    "apply",
    "branch_beside",
    "changed_paths",
    "commit_tree",
    "diff",
    "digest",
    "files",
    "git",
    "merge",
    "read_blobs",
    "replace_paths",
    "tree_id",
]

ALWAYS: Final = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.autocrlf=false",
    "-c", "core.safecrlf=false", "-c", "core.quotePath=true", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
    "-c", "commit.gpgSign=false", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false",
    "-c", "diff.renames=false", "-c", "advice.detachedHead=false",
)  # fmt: skip
"""Override settings of a person or a repository that would run a program or change the output."""

IDENTITY: Final = {
    "GIT_AUTHOR_NAME": "a2a maintenance squad",
    "GIT_AUTHOR_EMAIL": "squad@a2a.invalid",
    "GIT_COMMITTER_NAME": "a2a maintenance squad",
    "GIT_COMMITTER_EMAIL": "squad@a2a.invalid",
}
"""A commit says who made it. The person who approved it is in the trailer, if at all."""


class GitError(Exception):
    """Git refused; the text is its message."""


async def git(
    repository: str | Path, *arguments: str, stdin: bytes | None = None, env: dict[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> bytes:  # fmt: skip
    """Run git on a repository and return its output.

    Raises:
        GitError: it ended with an unexpected code, or its output is longer than what is kept.
    """
    surroundings = inherited_environment() | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}
    done = await run(
        ["git", *ALWAYS, "-C", os.fspath(repository), *arguments],
        cwd="/", env=surroundings | (env or {}), stdin=stdin,
    )  # fmt: skip
    if done.code not in codes:
        raise GitError(f"git {arguments[0]}: {done.err.decode(errors='replace').strip() or done.code}")
    if done.is_cut:
        # A truncated list of files or patch would look like a complete one.
        raise GitError(f"git {arguments[0]} in {os.fspath(repository)} says more than {len(done.out)} bytes")
    return done.out


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a tree."""

    mode: str
    """`100644`, `100755`, `120000` for a symbolic link, `160000` for a submodule."""
    blob: str
    path: str


async def files(repository: str | Path, tree: str) -> list[Entry]:
    """List the files of a tree or commit. Paths that are not UTF-8 are left out: nobody could name them."""
    entries = []
    for line in (await git(repository, "ls-tree", "-r", "-z", "--full-tree", tree)).split(b"\0"):
        if line:
            head, _, path = line.partition(b"\t")
            mode, _, blob = head.decode().split(" ")
            with contextlib.suppress(UnicodeDecodeError):
                entries.append(Entry(mode, blob, path.decode()))
    return entries


async def read_blobs(repository: str | Path, blobs: Sequence[str]) -> list[bytes]:
    """Read many blobs with one process."""
    raw = await git(repository, "cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode())
    contents, at = [], 0
    for blob in blobs:
        head_end = raw.index(b"\n", at)
        head = raw[at:head_end].split(b" ")
        if head[-1] == b"missing":
            raise GitError(f"object {blob} is missing")
        size = int(head[2])
        contents.append(raw[head_end + 1 : head_end + 1 + size])
        at = head_end + 1 + size + 1
    return contents


async def tree_id(repository: str | Path, treeish: str) -> str:
    """Return the id of the tree of a commit, tree or ref."""
    return (await git(repository, "rev-parse", "--verify", "--end-of-options", f"{treeish}^{{tree}}")).decode().strip()


async def apply(repository: str | Path, base: str, patch: bytes) -> str:
    """Apply a patch to a tree without any checkout, and return the new tree's id.

    Raises:
        GitError: it does not apply.
    """
    if not patch.strip():
        return await tree_id(repository, base)
    async with _index(repository, base) as env:
        await git(repository, "apply", "--cached", "--binary", "--whitespace=nowarn", "-", stdin=patch, env=env)
        return (await git(repository, "write-tree", env=env)).decode().strip()


async def replace_paths(repository: str | Path, base: str, source: str, paths: Sequence[str]) -> str:
    """Return `base` with some paths replaced by those of `source`, or removed if `source` does not have them."""
    wanted = set(paths)
    there = {entry.path: entry for entry in await files(repository, source) if entry.path in wanted}
    lines = []
    for path in sorted(wanted):
        entry = there.get(path)
        lines.append(f"{entry.mode} {entry.blob}\t{path}" if entry else f"0 {'0' * len(base)}\t{path}")
    async with _index(repository, base) as env:
        feed = "".join(f"{line}\0" for line in lines).encode()
        await git(repository, "update-index", "-z", "--index-info", stdin=feed, env=env)
        return (await git(repository, "write-tree", env=env)).decode().strip()


async def changed_paths(repository: str | Path, base: str, tree: str) -> list[str]:
    """Return the paths in which two trees differ, sorted."""
    raw = await git(repository, "diff-tree", "-r", "-z", "--name-only", "--no-renames", base, tree)
    return sorted(path.decode() for path in raw.split(b"\0") if path)


async def diff(repository: str | Path, base: str, tree: str) -> bytes:
    """Return the patch between two trees as UTF-8, which `apply` accepts; other text is in git's binary form."""
    options = ("diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv")
    plain = await git(repository, *options, base, tree)
    try:
        plain.decode()
    except UnicodeDecodeError:
        return await _diff_of_mixed_text(repository, options, base, tree)
    return plain


async def commit_tree(repository: str | Path, tree: str, parent: str, message: str, date: str = "") -> str:
    """Make a commit object; no ref moves."""
    env = IDENTITY | ({"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {})
    parents = ["-p", parent] if parent else []
    made = await git(repository, "commit-tree", tree, *parents, "-F", "-", stdin=message.encode(), env=env)
    return made.decode().strip()


async def branch_beside(repository: str | Path, branch: str) -> str:
    """Return a branch that rules out one of this name, if any: git would store one of the two names as a folder."""
    parts = branch.split("/")
    folders = ["/".join(parts[:end]) for end in range(1, len(parts))]
    ways = [f"refs/heads/{name}" for name in (*folders, branch)]
    there = (await git(repository, "for-each-ref", "--format=%(refname:lstrip=2)", *ways)).decode().splitlines()
    return next((name for name in there if name in folders or name.startswith(f"{branch}/")), "")


@dataclass(frozen=True, slots=True)
class Merge:
    """Git's merge of two trees with the same base."""

    tree: str
    """With conflict markers in it, if there are conflicts."""
    conflicts: tuple[str, ...]
    """Paths, sorted."""


async def merge(repository: str | Path, base: str, ours: str, theirs: str) -> Merge:
    """Merge two trees over their common base, in memory."""
    date = "2000-01-01T00:00:00Z"  # scratch commits: the same trees always give the same commits
    root = await commit_tree(repository, await tree_id(repository, base), "", "base", date)
    sides = [await commit_tree(repository, side, root, "side", date) for side in (ours, theirs)]
    raw = await git(
        repository, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", *sides, codes=(0, 1)
    )
    tree, *conflicts = [part.decode() for part in raw.split(b"\0") if part]
    return Merge(tree, tuple(sorted(conflicts)))


@contextlib.asynccontextmanager
async def _index(repository: str | Path, tree: str) -> AsyncIterator[dict[str, str]]:
    """Make a separate index that holds a tree, for the duration of the block."""
    with tempfile.TemporaryDirectory(prefix="squad-index-") as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        await git(repository, "read-tree", tree, env=env)
        yield env


async def _diff_of_mixed_text(repository: str | Path, options: Sequence[str], base: str, tree: str) -> bytes:
    """Treat files whose text is not UTF-8 as binary. Only attributes can say so, hence the temporary repository."""
    parts = []
    base, tree = await tree_id(repository, base), await tree_id(repository, tree)
    objects = (await git(repository, "rev-parse", "--path-format=absolute", "--git-path", "objects")).decode().strip()
    with tempfile.TemporaryDirectory(prefix="squad-diff-") as folder:
        await git("/", "init", "--quiet", "--bare", "--template=", folder)
        attributes = Path(folder) / "info" / "attributes"
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("* -diff\n")
        for path in await changed_paths(repository, base, tree):
            part = await git(repository, *options, base, tree, "--", f":(literal){path}")
            try:
                part.decode()
            except UnicodeDecodeError:
                env = {"GIT_OBJECT_DIRECTORY": objects}
                part = await git(folder, *options, base, tree, "--", f":(literal){path}", env=env)
            parts.append(part)
    return b"".join(parts)


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes, in the form of every digest in the squad."""
    return hashlib.sha256(content).hexdigest()
