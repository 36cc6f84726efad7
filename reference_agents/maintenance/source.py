"""Find the code to work on: a git repository on this machine, or a source distribution of the package index.

A repository is only read. A source distribution is unpacked into its own repository below the run directory. Each
problem with a source has an error code of its own, and is reported before anything is changed. This module knows no
virtual environments and no tests.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from a2a import AttemptFailed

from . import git
from .processes import Limits, Report, run
from .scope import is_python
from .shapes import Source
from .workspace import held_folder

__all__ = ["Origin", "find_source", "python_files", "unpack"]

SDIST: Final = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")
FETCH: Final = Path(__file__).with_name("fetch_sdist.py")
DOWNLOAD_LIMITS: Final = Limits(seconds=300.0)
UNPACKED_BYTES_MAX: Final = 512 * 1024**2
MEMBERS_MAX: Final = 50_000
"""Members of an archive. Both limits are well above the largest source distributions that are mostly Python."""
OFFLINE: Final = re.compile(
    rb"NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Temporary failure in name resolution|"
    rb"Network is unreachable|Connection refused|Max retries exceeded|ProxyError"
)
IMPORT_DATE: Final = "2000-01-01T00:00:00Z"
"""The same archive becomes the same commit, whenever it is unpacked."""
REGULAR: Final = frozenset({"100644", "100755"})


@dataclass(frozen=True, slots=True)
class Origin:
    """A repository that can be worked on."""

    name: str
    repository: Path
    base: str
    files: tuple[str, ...]
    """Its Python files, without links."""


async def find_source(source: Source, run_dir: Path, report: Report) -> Origin:
    """Find the repository of a source.

    Raises:
        AttemptFailed: with the code `bad_source`, `no_such_path`, `not_a_repository`, `dirty_worktree`, `no_commit`,
            `not_python`, `no_such_release` or `offline`. Trying again does not help.
    """
    path, sdist = source.get("repository", ""), source.get("sdist", "")
    if bool(path) == bool(sdist):
        raise _refusal("bad_source", "expected either a repository or an sdist")
    if path:
        return await _from_repository(_folder(path))
    return await _from_sdist(sdist, run_dir, report)


async def python_files(repository: Path, base: str) -> tuple[str, ...]:
    """Return the Python files of a commit, without links."""
    entries = await git.files(repository, base)
    return tuple(entry.path for entry in entries if entry.mode in REGULAR and is_python(entry.path))


def _folder(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    if not folder.exists():
        raise _refusal("no_such_path", f"{path} does not exist")
    if not folder.is_dir():
        raise _refusal("not_a_repository", f"{path} is not a folder")
    return folder


async def _from_repository(path: Path) -> Origin:
    try:
        top = (await git.git(path, "rev-parse", "--show-toplevel")).decode().rstrip("\n")
    except git.GitError as exc:
        raise _refusal("not_a_repository", f"{path} is not inside a git work tree: {exc}") from exc
    repository = Path(top)
    try:
        base = (await git.git(repository, "rev-parse", "--verify", "HEAD^{commit}")).decode().strip()
    except git.GitError as exc:
        raise _refusal("no_commit", f"{repository} has no commit yet") from exc
    # Files git does not know are not part of the work, and nothing touches them.
    changed = await git.git(
        repository, "status", "--porcelain", "-z", "--untracked-files=no", "--ignore-submodules=none"
    )
    if changed:
        first = changed.split(b"\0")[0][3:].decode(errors="replace")
        count = changed.count(b"\0")
        raise _refusal("dirty_worktree", f"{repository} has uncommitted changes ({count}, such as {first})")
    return await _origin(repository.name, repository, base)


async def _from_sdist(sdist: str, run_dir: Path, report: Report) -> Origin:
    match = SDIST.fullmatch(sdist.strip())
    if match is None:
        raise _refusal("bad_source", f"expected name==version, got {sdist!r}")
    name, version = match.groups()
    sources = run_dir / "source"
    repository = sources / f"{name}-{version}"
    if not repository.exists():
        sources.mkdir(parents=True, exist_ok=True)
        with held_folder(sources, "download") as folder:
            await report(0.02, f"downloading {name} {version}")
            archive = await _download(f"{name}=={version}", folder)
            unpacked = unpack(archive, folder / "unpacked")
            await _make_repository(unpacked, f"{name} {version}")
            with contextlib.suppress(OSError):  # another attempt may have been faster; its folder is as good
                unpacked.rename(repository)
    base = (await git.git(repository, "rev-parse", "--verify", "HEAD^{commit}")).decode().strip()
    return await _origin(f"{name} {version}", repository, base)


async def _download(requirement: str, folder: Path) -> Path:
    """Fetch the archive, and run nothing in it."""
    target = folder / "archive"
    command = [sys.executable, "-I", str(FETCH), requirement, str(target)]
    done = await run(command, cwd=folder, limits=DOWNLOAD_LIMITS)
    archives = sorted(target.iterdir()) if target.is_dir() else []
    if done.code == 0 and archives:
        return archives[0]
    said = done.err + done.out
    if done.timed_out or OFFLINE.search(said):
        raise _refusal("offline", f"the package index could not be reached for {requirement}")
    if b"No matching distribution" in said or b"Could not find a version" in said:
        raise _refusal("no_such_release", f"the package index has no source distribution of {requirement}")
    raise _refusal("no_such_release", f"pip could not fetch {requirement}: {done.text.strip()[-400:]}")


def unpack(archive: Path, target: Path) -> Path:
    """Unpack an archive without leaving the target folder, and return the one folder in it."""
    target.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, target)
        else:
            _unpack_tar(archive, target)
    except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as exc:
        raise _refusal("bad_archive", f"{archive.name} cannot be unpacked: {exc}") from exc
    folders = [path for path in target.iterdir() if path.is_dir() and not path.is_symlink()]
    if len(folders) != 1:
        raise _refusal("bad_archive", f"{archive.name} holds {len(folders)} folders where one was expected")
    return folders[0]


def _unpack_tar(archive: Path, target: Path) -> None:
    """Unpack folders and files, and skip links and devices, so that nothing leads out of the target.

    `extractall` has a filter for this, but not in the first releases of Python 3.11.
    """
    with tarfile.open(archive) as file:
        size = 0
        for count, member in enumerate(file, 1):  # one by one: a list of all members may be the trap
            size += member.size
            _check_size(archive, count, size)
            _check_path(archive, member.name)
            path = target / member.name
            if not _is_wanted(member.name):
                continue
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.extractfile(member) as source, path.open("wb") as copy:  # type: ignore[union-attr]
                    shutil.copyfileobj(source, copy)
                path.chmod(0o755 if member.mode & 0o100 else 0o644)


def _unpack_zip(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        infos = file.infolist()
        _check_size(archive, len(infos), sum(info.file_size for info in infos))
        for info in infos:
            _check_path(archive, info.filename)
        file.extractall(target, members=[info for info in infos if _is_wanted(info.filename)])


def _is_wanted(name: str) -> bool:
    """Skip names that would make the folder look like a git repository with its own settings."""
    return ".git" not in PurePosixPath(name).parts


def _check_path(archive: Path, name: str) -> None:
    if ".." in PurePosixPath(name).parts or name.startswith("/"):
        raise _refusal("bad_archive", f"{archive.name} holds the path {name!r}")


def _check_size(archive: Path, members: int, size: int) -> None:
    if members > MEMBERS_MAX or size > UNPACKED_BYTES_MAX:
        raise _refusal("bad_archive", f"{archive.name} is too large to be unpacked")


async def _make_repository(folder: Path, title: str) -> None:
    await git.git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    await git.git(folder, "add", "--all", "--force")
    tree = (await git.git(folder, "write-tree")).decode().strip()
    commit = await git.commit_tree(folder, tree, "", f"{title}, as released\n", IMPORT_DATE)
    await git.git(folder, "update-ref", "refs/heads/main", commit)


async def _origin(name: str, repository: Path, base: str) -> Origin:
    files = await python_files(repository, base)
    if not files:
        raise _refusal("not_python", f"{repository} has no Python files")
    return Origin(name, repository, base, files)


def _refusal(code: str, detail: str) -> AttemptFailed:
    return AttemptFailed(detail, code=code, retryable=False)
