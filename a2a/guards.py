"""Guards keep a late writer out of a file, a database, a git branch or an HTTP service, by the fence it shows.

A coordinator knows who holds a claim, but cannot stop a process that was asleep while its claim went to another. The
resource it writes to can: it remembers the greatest fence it has seen and lets no lower one pass (spec CLAIM-12). Each
guard compares and writes in one step that nobody can interrupt. It learns of a new holder only when that one uses it:
`touch` the resource before you rely on having it alone.

The guards do not know links or coordinators: a fence is a number. Calls block while another holder is in the middle of
a write. Used by agents, and by the services they write to.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from .errors import BranchMoved, FencedOff, LocalProtocolError, StoreError
from .stores.files import resolved, sync, sync_directory

__all__ = ["FenceDirectory", "FenceFile", "FileGuard", "GitGuard", "IfFence", "SqlGuard", "reporting"]


_ELSEWHERE: Final = frozenset(
    {
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_COMMON_DIR",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_NAMESPACE",
        "GIT_QUARANTINE_PATH",
    }
)
"""Variables that git sets for its hooks, and that override the repository that is named, or forbid to move its refs."""


_INSIDE: Final[dict[tuple[int, int], int]] = {}
"""Each lock held by this process, as device and inode of its file, to the thread that is inside."""


def _check(resource: str, fence: int, seen: int) -> None:
    if fence < seen:
        raise FencedOff(resource, fence, seen)


@contextmanager
def reporting(report: Callable[[FencedOff], object]) -> Iterator[None]:
    """Report it if a guard turns a writer away inside the block, and raise the error again.

        with a2a.reporting(lambda refused: client.raise_fenced_off("files/report.txt", refused)):
            report.write("all is well", claim.fence)

    `report` is called after the guard's lock is released. If it fails, the error gets a note: nothing was written
    either way.
    """
    try:
        yield
    except FencedOff as refused:
        try:
            report(refused)
        except Exception as failed:  # noqa: BLE001 - the writer has to learn that it was turned away
            refused.add_note(f"the refusal could not be reported: {failed}")
        raise


class FenceFile:
    """The greatest fence seen for one resource, in a file, under a kernel lock that ends with its process."""

    def __init__(self, path: str | os.PathLike[str], resource: str | None = None) -> None:
        self.path = Path(path)
        self.resource = resource or str(self.path)
        """What an error calls the resource."""

    @contextmanager
    def admitting(self, fence: int) -> Iterator[None]:
        """Admit a fence for the duration of the block, with nobody else inside; remember it first.

        Raises:
            FencedOff: a higher fence was here.
            LocalProtocolError: this thread is inside already, and would wait for itself forever.
            StoreError: the file holds something else than a fence.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        file, thread = os.fstat(fd), threading.get_ident()
        lock, is_inside = (file.st_dev, file.st_ino), False
        try:
            if _INSIDE.get(lock) == thread:
                raise LocalProtocolError(
                    f"{self.resource}: this thread is inside already: leave the block first, do not await in it"
                )
            fcntl.flock(fd, fcntl.LOCK_EX)
            _INSIDE[lock], is_inside = thread, True
            seen = self._number(os.pread(fd, 32, 0))
            _check(self.resource, fence, seen)
            if fence > seen:
                # Before the write it protects: after a crash in between, older fences are still kept out.
                os.pwrite(fd, b"%020d\n" % fence, 0)
                sync(fd)
                sync_directory(self.path.parent)
            yield
        finally:
            if is_inside:
                del _INSIDE[lock]
            os.close(fd)

    def seen(self) -> int:
        """Return the greatest fence so far, 0 if there was none.

        Raises:
            StoreError: the file holds something else than a fence.
        """
        try:
            return self._number(self.path.read_bytes()[:32])
        except FileNotFoundError:
            return 0

    def _number(self, written: bytes) -> int:
        if not re.fullmatch(rb"\s*[0-9]*\s*", written):
            raise StoreError(f"expected a fence in {self.path}, got {written!r}: is it the file of something else?")
        return int(written.strip() or 0)


class FenceDirectory:
    """The greatest fence seen for each of many resources, by name: for a service with state of its own.

    Args:
        path: a directory for nothing else; made if it does not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    def admitting(self, resource: str, fence: int) -> Any:
        """Admit a fence for one resource for the duration of the block; see `FenceFile.admitting`."""
        return self._file(resource).admitting(fence)

    def seen(self, resource: str) -> int:
        """Return the greatest fence so far, 0 if there was none."""
        return self._file(resource).seen()

    def _file(self, resource: str) -> FenceFile:
        return FenceFile(self.path / hashlib.sha256(resource.encode()).hexdigest(), resource)


class FileGuard:
    """A file that is written whole or not at all, and never under a lower fence than one that was here.

    The fence is in a file beside it, `.NAME.fence`. Symbolic links are followed once, here: by whatever path, one file
    has one fence.

    Raises:
        StoreError: symbolic links lead in a circle.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = resolved(Path(path))
        self.fences = FenceFile(self.path.with_name(f".{self.path.name}.fence"), os.fspath(path))

    def touch(self, fence: int) -> None:
        """Become known as the holder: from now on no lower fence is admitted.

        Raises:
            FencedOff: a higher fence was here.
        """
        with self.fences.admitting(fence):
            pass

    def write(self, data: bytes | str, fence: int) -> None:
        """Write the file. It is durable when this returns.

        Raises:
            FencedOff: a higher fence was here; the file is unchanged.
        """
        self.update(lambda _: data, fence)

    def update(self, change: Callable[[bytes], bytes | str], fence: int) -> None:
        """Write what `change` returns for the file's content (empty if there is no file), with nobody in between.

        Raises:
            FencedOff: a higher fence was here; the file is unchanged.
        """
        with self.fences.admitting(fence):
            data = change(self.path.read_bytes() if self.path.exists() else b"")
            self._replace(data.encode() if isinstance(data, str) else data)

    def _replace(self, data: bytes) -> None:
        # Only the holder of the lock makes this file; one left by a crash is replaced.
        temporary = self.path.with_name(f".{self.path.name}.new")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(fd, "wb") as file:
            if self.path.exists():
                os.fchmod(fd, self.path.stat().st_mode & 0o777)
            file.write(data)
            file.flush()
            sync(fd)
        temporary.replace(self.path)
        sync_directory(self.path.parent)


class SqlGuard:
    """Transactions on a database that commit only under the greatest fence so far, or a greater one.

        with guard.writing("accounts/7", claim.fence) as cursor:
            cursor.execute("UPDATE accounts SET balance = ? WHERE id = 7", (balance,))

    Each resource has a row in a table of the guard's own. A transaction writes it first, so the row's lock keeps two
    holders apart.

    Args:
        connection: a DB-API 2 connection that is not in autocommit mode.
        table: made if it does not exist.
        placeholder: the driver's mark for a parameter: `?` or `%s`.
    """

    def __init__(self, connection: Any, table: str = "a2a_fences", placeholder: str = "?") -> None:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", table):
            raise ValueError(f"{table!r} is not a valid name of a table")
        commits_alone = isinstance(connection, sqlite3.Connection) and connection.isolation_level is None
        if commits_alone or getattr(connection, "autocommit", False) is True:
            raise LocalProtocolError("in autocommit mode the fence and what it guards would not be one transaction")
        self._connection = connection
        self._writing: str | None = None
        """The resource of the transaction that goes on."""
        self._refused = getattr(connection, "IntegrityError", Exception)
        self._insert = f"INSERT INTO {table} (resource, fence) VALUES ({placeholder}, {placeholder})"
        self._raise = (
            f"UPDATE {table} SET fence = {placeholder} WHERE resource = {placeholder} AND fence <= {placeholder}"
        )
        self._look = f"SELECT fence FROM {table} WHERE resource = {placeholder}"
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (resource VARCHAR(512) PRIMARY KEY, fence BIGINT NOT NULL)")
        connection.commit()

    @contextmanager
    def writing(self, resource: str, fence: int) -> Iterator[Any]:
        """Begin a transaction and yield its cursor; it is committed with the block, or rolled back if that fails.

        Raises:
            FencedOff: a higher fence was here; nothing was changed.
            LocalProtocolError: inside another such block, whose end would not be under its own fence any more.
        """
        connection = self._connection
        if self._writing is not None:
            raise LocalProtocolError(f"{resource}: a transaction has one fence, and that on {self._writing} goes on")
        cursor = connection.cursor()
        self._writing = resource
        try:
            cursor.execute(self._raise, (fence, resource, fence))
            if cursor.rowcount == 0:
                self._first(cursor, resource, fence)
            yield cursor
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        finally:
            self._writing = None

    def _first(self, cursor: Any, resource: str, fence: int) -> None:
        """Enter a resource's first fence; else a higher fence was here, or two came at once."""
        try:
            cursor.execute(self._insert, (resource, fence))
        except self._refused:
            self._connection.rollback()
            cursor.execute(self._raise, (fence, resource, fence))
            if cursor.rowcount == 0:
                raise FencedOff(resource, fence, self.seen(resource)) from None

    def seen(self, resource: str) -> int:
        """Return the greatest fence so far, 0 if there was none."""
        cursor = self._connection.cursor()
        cursor.execute(self._look, (resource,))
        row = cursor.fetchone()
        return int(row[0]) if row else 0


class IfFence:
    """The header `If-Fence: 42` of an HTTP request, modelled on `If-Match`, and its check in a service.

        with guard.admitting(request.headers.get("If-Fence"), request.path):
            ...  # change it

    Answer `FencedOff` with 412 Precondition Failed, `ValueError` with 428 Precondition Required.

    Args:
        fences: where the service remembers the fences it has seen.
    """

    HEADER: Final = "If-Fence"

    def __init__(self, fences: FenceDirectory) -> None:
        self._fences = fences

    @staticmethod
    def format(fence: int) -> str:
        """Return the header's value for a fence."""
        return str(fence)

    @staticmethod
    def parse(value: str | None) -> int:
        """Return the fence in a header's value.

        Raises:
            ValueError: the value holds no fence.
        """
        if value is None or not re.fullmatch(r"[0-9]{1,16}", value.strip()):
            raise ValueError(f"expected If-Fence with a number, got {value!r}")
        return int(value)

    def admitting(self, value: str | None, resource: str) -> Any:
        """Admit a request for the duration of the block, with no other on the same resource inside.

        Raises:
            FencedOff: a request with a higher fence was here.
            ValueError: the request shows no fence.
        """
        return self._fences.admitting(resource, self.parse(value))


def _check_word(given: str, what: str) -> None:
    """Refuse what git would read as nothing, or as several words of its input."""
    if not given or re.search(r"[\s\0]", given):
        raise ValueError(f"expected {what}, got {given!r}")


class GitGuard:
    """A git branch that nobody moves under a lower fence than one that was here.

    The fence is a ref of its own, `refs/a2a/fences/BRANCH`, moved in one transaction with the branch, so everybody who
    fetches the repository can read it. For branches that are not checked out: no working tree is touched.

    Raises:
        ValueError: it is not the name of a branch.
    """

    def __init__(self, repository: str | os.PathLike[str], branch: str) -> None:
        _check_word(branch, "the name of a branch")
        self.repository = os.fspath(repository)
        self.branch = branch
        self._ref, self._fence_ref = f"refs/heads/{branch}", f"refs/a2a/fences/{branch}"

    def seen(self) -> int:
        """Return the greatest fence so far, 0 if there was none."""
        return self._read()[1]

    def head(self) -> str | None:
        """Return the commit the branch is at, or None if there is no such branch."""
        return self._resolve(self._ref)

    def touch(self, fence: int) -> None:
        """Become known as the holder: from now on no lower fence is admitted.

        Raises:
            FencedOff: a higher fence was here.
        """
        self._move(fence, [])

    def advance(self, commit: str, fence: int, *, old: str | None) -> None:
        """Move the branch from one commit to another.

        Args:
            commit: the new commit.
            fence: the fence of the claim on the branch.
            old: the commit it must be at now; None: the branch must not exist, and is made.

        Raises:
            ValueError: `commit` or `old` is not a commit.
            FencedOff: a higher fence was here; the branch is where it was.
            BranchMoved: the branch is not at `old`.
        """
        for given in (commit, old):
            if given is not None:
                _check_word(given, "a commit")
                if not given.strip("0"):  # to git this means to delete the branch
                    raise ValueError(f"expected a commit, got {given!r}, which is none")
        line = f"update {self._ref} {commit} {old}" if old is not None else f"create {self._ref} {commit}"
        self._move(fence, [line], old)

    def _move(self, fence: int, lines: list[str], old: str | None = None) -> None:
        while True:
            blob, seen = self._read()
            _check(f"{self.repository} {self.branch}", fence, seen)
            mine = self._git("hash-object", "-w", "--stdin", stdin=f"{fence}\n").stdout.strip()
            line = f"create {self._fence_ref} {mine}" if blob is None else f"update {self._fence_ref} {mine} {blob}"
            # Both or neither, each only if it is unchanged: a newer holder in between makes this fail.
            done = self._git("update-ref", "--stdin", stdin="\n".join([*lines, line, ""]), fails=True)
            if done.returncode == 0:
                return
            if self._read() == (blob, seen):
                here = self.head()
                if lines and here != old:
                    raise BranchMoved(f"{self.branch} is at {here}, not at {old}")
                raise OSError(f"git update-ref: {done.stderr.strip()}")

    def _read(self) -> tuple[str | None, int]:
        blob = self._resolve(self._fence_ref)
        return blob, 0 if blob is None else int(self._git("cat-file", "blob", blob).stdout)

    def _resolve(self, ref: str) -> str | None:
        done = self._git("rev-parse", "--verify", "--quiet", ref, fails=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def _git(self, *arguments: str, stdin: str = "", fails: bool = False) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", "-C", self.repository, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env={name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
            | {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"},
        )
        if done.returncode != 0 and not fails:
            raise OSError(f"git {arguments[0]}: {done.stderr.strip()}")
        return done
