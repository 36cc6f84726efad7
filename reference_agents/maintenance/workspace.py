"""The folders of a run: the mirror, one worktree for each agent and attempt, and patches to pass on.

Everything lies below the run directory. A worktree belongs to one attempt of one agent and is held by a kernel lock, so
a killed attempt leaves a folder that the next one recognises as abandoned and removes. This module knows no tools and
no tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from a2a import AttemptFailed

from . import git
from .shapes import PATCH_TEXT_BYTES_MAX, Patch, PatchedFile, Workspace

__all__ = [
    "MIRROR",
    "Worktree",
    "abandoned",
    "checkout",
    "held_folder",
    "make_mirror",
    "patch_bytes",
    "patch_of",
    "read_json",
    "tree_of",
    "write_json",
]

MIRROR: Final = "mirror.git"


@dataclass(frozen=True, slots=True)
class Worktree:
    """A checked-out tree that belongs to one attempt alone."""

    path: Path
    scratch: Path
    """A folder beside it for temporary files; removed with it."""

    async def load(self, tree: str) -> None:
        """Make the folder hold exactly this tree, and nothing from an earlier use."""
        await git.git(self.path, "read-tree", "--reset", "-u", tree)
        await git.git(self.path, "clean", "-ffdxq")

    async def snapshot(self, paths: Sequence[str]) -> str:
        """Return the tree that the folder holds now; only these paths are checked."""
        feed = "".join(f"{path}\0" for path in paths).encode()
        await git.git(self.path, "update-index", "-z", "--remove", "--stdin", stdin=feed)
        return (await git.git(self.path, "write-tree")).decode().strip()


async def make_mirror(repository: str | Path, run_dir: str | Path) -> Path:
    """Make the bare clone that all worktrees belong to, or find the one an earlier attempt made.

    It borrows the repository's objects and keeps everything new to itself, so the repository does not change.
    """
    mirror = Path(run_dir) / MIRROR
    if not mirror.exists():
        with held_folder(Path(run_dir), "clone") as folder:
            target = folder / MIRROR
            await git.git("/", "clone", "--quiet", "--bare", "--shared", "--", os.fspath(repository), str(target))
            # Another attempt may have been faster; its clone is as good.
            with contextlib.suppress(FileExistsError, OSError):
                target.rename(mirror)
    await git.git(mirror, "worktree", "prune")
    return mirror


@contextlib.asynccontextmanager
async def checkout(workspace: Workspace, owner: str, tree: str) -> AsyncIterator[Worktree]:
    """Check a tree out for one attempt of an agent, and remove it at the end of the block."""
    parent = Path(workspace["run_dir"]) / "worktrees"
    with held_folder(parent, owner) as folder:
        work = Worktree(folder / "tree", folder / "scratch")
        work.scratch.mkdir()
        # Git reads the entries of all worktrees when it adds one, and fails on one that is just being made.
        async with _alone(parent / "lock"):
            await git.git(workspace["mirror"], "worktree", "prune")
            await git.git(
                workspace["mirror"], "worktree", "add", "--quiet", "--detach", "--force", "--no-checkout", "--",
                str(work.path), workspace["base"],
            )  # fmt: skip
        await work.load(tree)
        yield work


@contextlib.asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Do something that only one process of a run may do at a time; a killed process releases its lock."""
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        await anyio.to_thread.run_sync(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def held_folder(parent: Path, owner: str, keep: str = "") -> Iterator[Path]:
    """Make a folder that is ours for the duration of the block; first remove abandoned ones of the same owner.

    Args:
        keep: the name of a file; a folder that contains it is finished, and stays.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for folder in abandoned(parent, owner):
        if not (keep and (folder / keep).exists()):
            _remove(folder)
    folder = Path(tempfile.mkdtemp(prefix=f"{owner}.", dir=parent))
    lock = os.open(folder / "held.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    # A lock, not a process id in the name: the kernel releases it however the process ends. It gets its name only once
    # it is locked, so that nobody takes a folder that is just being made for an abandoned one.
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / "held.new").rename(folder / "held")
    try:
        yield folder
    finally:
        if not (keep and (folder / keep).exists()):
            _remove(folder)
        os.close(lock)


def abandoned(parent: Path, owner: str) -> list[Path]:
    """Return the folders of an owner that no living process holds."""
    found = []
    for folder in sorted(parent.glob(f"{owner}.*")):
        try:
            lock = os.open(folder / "held", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # being made right now, or being removed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.append(folder)
        except OSError:
            pass  # somebody is at work there
        finally:
            os.close(lock)
    return found


async def tree_of(workspace: Workspace, patch: Patch) -> str:
    """Return the tree that the base becomes with a patch.

    Raises:
        AttemptFailed: the patch does not apply, or its text does not match its tree.
    """
    mirror, base = workspace["mirror"], workspace["base"]
    if not Path(mirror).is_dir():  # noqa: ASYNC240 - as fast as git, which would say it less clearly
        raise AttemptFailed(f"the workspace is gone: no {mirror}", code="workspace_lost", retryable=False)
    tree = patch.get("tree", "")
    text = patch_bytes(workspace, patch)
    try:
        if not tree:
            return await git.apply(mirror, base, text)
        # One reader sees the text and another applies the tree: both have to be the same.
        if await git.diff(mirror, base, tree) != text:
            raise AttemptFailed(f"the text of the patch is not tree {tree}", code="patch_mismatch", retryable=False)
        return await git.tree_id(mirror, tree)
    except git.GitError as exc:
        raise AttemptFailed(f"the patch does not apply: {exc}", code="does_not_apply", retryable=False) from exc


def patch_bytes(workspace: Workspace, patch: Patch) -> bytes:
    """Return the whole text of a patch, wherever it is."""
    path = patch.get("path", "")
    if not path:
        return patch["text"].encode()
    within = Path(workspace["run_dir"]).resolve()
    if not Path(path).resolve().is_relative_to(within):
        raise AttemptFailed(f"patch file {path} is not in {within}", code="patch_mismatch", retryable=False)
    try:
        text = Path(path).read_bytes()
    except OSError as exc:
        raise AttemptFailed(f"patch file {path}: {exc.strerror}", code="patch_mismatch", retryable=False) from exc
    if git.digest(text) != patch.get("digest"):
        raise AttemptFailed(f"patch file {path} was changed", code="patch_mismatch", retryable=False)
    return text


async def patch_of(workspace: Workspace, tree: str, *, since: str = "", as_file: bool = False) -> Patch:
    """Describe the difference between the base and a tree; long text goes to a file named by its digest.

    Args:
        since: a tree to start from instead of the base; such a patch is for the record only.
        as_file: keep the text in a file, however short it is.
    """
    mirror, start = workspace["mirror"], since or workspace["base"]
    text = await git.diff(mirror, start, tree)
    changed = await _patched_files(mirror, start, tree)
    patch = Patch(text="", tree=tree, path="", digest=git.digest(text), files=changed)
    if len(text) <= PATCH_TEXT_BYTES_MAX and not as_file:
        patch["text"] = text.decode()
        return patch
    target = Path(workspace["run_dir"]) / "patches" / f"{patch['digest']}.patch"
    _write(target, text)
    patch["path"] = str(target)
    return patch


async def _patched_files(mirror: str, base: str, tree: str) -> list[PatchedFile]:
    raw = await git.git(mirror, "diff-tree", "-r", "-z", "--numstat", "--no-renames", base, tree)
    found = []
    for line in raw.split(b"\0"):
        if line:
            added, removed, path = line.decode().split("\t", 2)
            found.append(PatchedFile(path=path, added=int(added.strip("-") or 0), removed=int(removed.strip("-") or 0)))
    return found


def write_json(path: Path, value: Any) -> str:
    """Write a value so that the file is complete or absent; return the digest of the file."""
    content = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    _write(path, content)
    return git.digest(content)


def read_json(path: str | Path, digest: str) -> Any:
    """Read a value back.

    Raises:
        AttemptFailed: the file is missing, or not the one that was written.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as exc:
        raise AttemptFailed(f"{path}: {exc.strerror}", code="evidence_lost", retryable=False) from exc
    if git.digest(content) != digest:
        raise AttemptFailed(f"{path} was changed after it was written", code="evidence_lost", retryable=False)
    return json.loads(content)


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(target)


def _remove(folder: Path) -> None:
    """Remove a folder even if tests took away the permission."""

    def allow(function: Any, path: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            Path(path).parent.chmod(0o700)
            Path(path).chmod(0o700)
            function(path)

    shutil.rmtree(folder, onerror=allow)
