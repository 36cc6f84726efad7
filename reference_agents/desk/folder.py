"""The documents of a folder: which there are, within limits, and why others are left out.

Nothing outside the folder is read, not even through a link. This module knows no passages and no questions. `shelf`
reads folders with it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from stat import S_ISREG
from typing import Final

from a2a import AttemptFailed

from .shapes import Skipped

__all__ = ["Contents", "Listed", "list_folder", "read_folder"]

PATTERNS: Final = ("*.md", "*.markdown", "*.rst", "*.txt", "*.text", "*.adoc", "*.org")
"""Names of documents, if nobody says which to read."""
FILES_MAX: Final = 2_000
FILE_BYTES_MAX: Final = 1024 * 1024
"""A larger file is data in the shape of text."""
TOTAL_BYTES_MAX: Final = 8 * 1024 * 1024
"""An index takes up to ten times as much memory as its text, and some seconds a megabyte to build."""
ENTRIES_MAX: Final = 200_000
"""Names to look at: somebody may point at the root of a file system."""

OTHERS: Final = frozenset({"node_modules"})
"""Folders of other people's files, which a package manager has put there."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A document as the file system knows it; if two are equal, the file has not been written to."""

    path: str
    size: int
    modified: int
    changed: int
    inode: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What there is to read in a folder."""

    documents: tuple[tuple[str, str], ...]
    """Path and text, by path."""
    skipped: tuple[Skipped, ...]
    digest: str
    """Of paths and texts: equal folders have equal digests."""


def list_folder(folder: str, only: Sequence[str] = ()) -> tuple[list[Listed], list[Skipped]]:
    """List the documents of a folder by path, and what was left out.

    Args:
        only: patterns that a path or a file's name has to match; by default the usual names of documents.

    Raises:
        AttemptFailed: `no_such_folder`.
    """
    root = Path(folder)
    if not root.is_absolute() or not root.is_dir():
        raise AttemptFailed(f"{folder} is no folder here (an absolute path is needed)", code="no_such_folder")
    listed: list[Listed] = []
    total = 0
    paths, skipped = _matching(root, only or PATTERNS)
    for path in paths:
        try:
            told = (root / path).lstat()
            path.encode()
        except OSError as exc:
            skipped.append(Skipped(path=_sayable(path), why=f"unreadable: {exc.strerror}"))
            continue
        except UnicodeEncodeError:
            skipped.append(Skipped(path=_sayable(path), why="its name is not UTF-8"))
            continue
        if not S_ISREG(told.st_mode):
            skipped.append(Skipped(path=path, why="no regular file"))
        elif told.st_size > FILE_BYTES_MAX:
            skipped.append(Skipped(path=path, why=f"larger than {FILE_BYTES_MAX} bytes"))
        elif len(listed) == FILES_MAX or total + told.st_size > TOTAL_BYTES_MAX:
            skipped.append(Skipped(path=path, why="the folder has more than is read"))
        else:
            total += told.st_size
            listed.append(Listed(path, told.st_size, told.st_mtime_ns, told.st_ctime_ns, told.st_ino))
    return listed, skipped


def read_folder(folder: str, listed: Sequence[Listed], skipped: Sequence[Skipped]) -> Contents:
    """Read the listed files; those that turn out not to be text are left out as well."""
    documents = []
    left_out = list(skipped)
    hashed = hashlib.sha256()
    for entry in listed:
        text = _read(Path(folder) / entry.path)
        if isinstance(text, str):
            documents.append((entry.path, text))
            hashed.update(f"{entry.path}\0{len(text)}\0{text}".encode())
        else:
            left_out.append(Skipped(path=entry.path, why=text.why))
    return Contents(tuple(documents), tuple(sorted(left_out, key=lambda one: one["path"])), hashed.hexdigest())


@dataclass(frozen=True, slots=True)
class _NoText:
    why: str


def _read(path: Path) -> str | _NoText:
    try:
        # The path may have become a link, or a pipe that never ends, since the listing.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        return _NoText(f"unreadable: {exc.strerror}")
    if len(content) > FILE_BYTES_MAX:
        return _NoText(f"larger than {FILE_BYTES_MAX} bytes")
    if b"\0" in content:
        return _NoText("binary")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _NoText("not UTF-8")


def _matching(root: Path, patterns: Sequence[str]) -> tuple[list[str], list[Skipped]]:
    """Return the paths that match, sorted, and the folders that cannot be read.

    Names that begin with a dot, and files that came with a package, are not documents.
    """
    found = []
    closed: list[Skipped] = []
    seen = 0

    def note(exc: OSError) -> None:
        path = Path(exc.filename).relative_to(root).as_posix()
        closed.append(Skipped(path=_sayable(path), why=f"unreadable: {exc.strerror}"))

    for folder, folders, files in os.walk(root, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in OTHERS)
        seen += len(folders) + len(files)
        if seen > ENTRIES_MAX:
            raise AttemptFailed(f"{root} has more than {ENTRIES_MAX} files and folders", code="folder_too_large")
        for name in files:
            path = (Path(folder) / name).relative_to(root).as_posix()
            if not name.startswith(".") and any(fnmatch(path, one) or fnmatch(name, one) for one in patterns):
                found.append(path)
    return sorted(found), closed


def _sayable(path: str) -> str:
    """Return a path as an answer can name it: parts that are not UTF-8 are escaped."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return ascii(path)
    return path
