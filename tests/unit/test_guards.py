"""What keeps a late writer out: files, databases, git branches and requests that remember the greatest fence."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from a2a import FenceDirectory, FencedOff, FenceFile, FileGuard, GitGuard, IfFence, SqlGuard, reporting
from a2a import guards as module
from a2a.errors import BranchMoved, ClaimLost, LocalProtocolError, StoreError

# One fence -----------------------------------------------------------------------------------------------------------


def test_a_lower_fence_is_refused_and_an_equal_one_is_the_same_holder(tmp_path: Path) -> None:
    fences = FenceFile(tmp_path / "f", "the report")
    assert fences.seen() == 0
    for fence in (5, 5, 7):
        with fences.admitting(fence):
            assert fences.seen() == fence
    with pytest.raises(FencedOff, match="the report has seen fence 7 and refuses 6") as refused, fences.admitting(6):
        raise AssertionError("it was let in")
    assert (refused.value.resource, refused.value.fence, refused.value.seen) == ("the report", 6, 7)
    assert isinstance(refused.value, ClaimLost)
    assert fences.seen() == 7


def test_nobody_gets_in_between_a_comparison_and_its_write(tmp_path: Path) -> None:
    """One that was admitted is in the middle of its write; a higher fence waits for it to end, and is not overtaken."""
    fences = FenceFile(tmp_path / "f")
    inside, may_end = threading.Event(), threading.Event()
    order: list[int] = []

    def slow() -> None:
        with fences.admitting(1):
            inside.set()
            assert may_end.wait(10)
            order.append(1)

    def quick() -> None:
        with fences.admitting(2):
            order.append(2)

    first, second = threading.Thread(target=slow), threading.Thread(target=quick)
    first.start()
    assert inside.wait(10)
    second.start()
    second.join(0.05)
    assert order == []
    may_end.set()
    first.join(10)
    second.join(10)
    assert order == [1, 2]


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from a2a import FenceFile\n"
        "with FenceFile(sys.argv[1]).admitting(3):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "f")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"in\n"
        holder.kill()
    with FenceFile(tmp_path / "f").admitting(4):
        pass
    with pytest.raises(FencedOff), FenceFile(tmp_path / "f").admitting(2):
        pass


def test_who_would_wait_for_itself_is_told(tmp_path: Path) -> None:
    guard = IfFence(FenceDirectory(tmp_path))
    with guard.admitting("5", "a"), guard.admitting("5", "b"):
        with pytest.raises(LocalProtocolError, match="a: this thread is inside already"), guard.admitting("6", "a"):
            pass
    with guard.admitting("6", "a"):
        pass


def test_a_link_in_the_place_of_the_fence_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="f"), FenceFile(tmp_path / "f").admitting(1):
        pass
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("holds", [b"12 of 13\n", b"-1", b"\xff" * 40])
def test_a_file_of_something_else_is_no_fence(tmp_path: Path, holds: bytes) -> None:
    fences = FenceFile(tmp_path / "f")
    fences.path.write_bytes(holds)
    with pytest.raises(StoreError, match="expected a fence in .*f, got b'"), fences.admitting(20):
        pass
    with pytest.raises(StoreError, match="expected a fence"):
        fences.seen()
    assert fences.path.read_bytes() == holds


def test_each_resource_of_a_directory_has_a_fence_of_its_own(tmp_path: Path) -> None:
    fences = FenceDirectory(tmp_path / "fences")
    with fences.admitting("/accounts/7", 5), fences.admitting("../b", 2):
        pass
    assert (fences.seen("/accounts/7"), fences.seen("../b"), fences.seen("c")) == (5, 2, 0)
    with (
        pytest.raises(FencedOff, match="/accounts/7 has seen"),
        FenceDirectory(tmp_path / "fences").admitting("/accounts/7", 4),
    ):
        pass
    assert [path.parent for path in (tmp_path / "fences").iterdir()] == [tmp_path / "fences"] * 2


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_late_writer_of_a_file_is_turned_away(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    early, late = FileGuard(path), FileGuard(path)
    early.write("first", 3)
    late.write(b"second", 8)
    with pytest.raises(FencedOff, match="report.txt has seen fence 8"):
        early.write("from the grave", 3)
    assert path.read_text() == "second"


def test_a_late_writer_by_a_link_is_turned_away_as_well(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    path, link = tmp_path / "there" / "report.txt", tmp_path / "latest"
    link.symlink_to(path)
    early, late = FileGuard(link), FileGuard(path)
    early.write("first", 3)
    late.write("second", 8)
    with pytest.raises(FencedOff, match="latest has seen fence 8"):
        early.write("from the grave", 3)
    early.write("third", 8)
    assert (link.readlink(), path.read_text()) == (path, "third")


def test_a_new_holder_is_known_from_its_first_touch(tmp_path: Path) -> None:
    guard = FileGuard(tmp_path / "report.txt")
    guard.write("first", 3)
    guard.touch(8)
    with pytest.raises(FencedOff):
        guard.write("from the grave", 3)
    with pytest.raises(FencedOff):
        guard.touch(7)
    guard.update(lambda text: text + b" and more", 8)
    assert (tmp_path / "report.txt").read_text() == "first and more"


def test_the_fence_is_durable_before_the_file_is_written_and_the_file_before_it_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "report", list[tuple[str, bool]]()

    def sync(fd: int) -> None:
        synced.append((Path(f"/proc/self/fd/{fd}").resolve().name, path.exists()))
        os.fsync(fd)

    monkeypatch.setattr(module, "sync", sync)
    monkeypatch.setattr(module, "sync_directory", lambda directory: synced.append((directory.name, path.exists())))
    FileGuard(path).write("text", 3)
    here = tmp_path.name
    assert synced == [(".report.fence", False), (here, False), (".report.new", False), (here, True)]


def test_a_write_is_whole_or_not_at_all_and_its_fence_stays(tmp_path: Path) -> None:
    guard = FileGuard(tmp_path / "report.txt")
    guard.write("first", 3)

    def breaks(_: bytes) -> bytes:
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError):
        guard.update(breaks, 5)
    assert (tmp_path / "report.txt").read_text() == "first"
    with pytest.raises(FencedOff):
        guard.write("older", 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".report.txt.fence", "report.txt"]


def test_what_a_crash_left_is_in_nobodys_way_and_the_mode_stays(tmp_path: Path) -> None:
    guard = FileGuard(tmp_path / "report.txt")
    guard.write("first", 3)
    (tmp_path / "report.txt").chmod(0o640)
    (tmp_path / ".report.txt.new").symlink_to(tmp_path / "elsewhere")
    guard.write("second", 4)
    assert (tmp_path / "report.txt").read_text() == "second"
    assert (tmp_path / "report.txt").stat().st_mode & 0o777 == 0o640
    assert not (tmp_path / "elsewhere").exists()


# Databases ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Any:
    opened = []

    def connect(**options: Any) -> sqlite3.Connection:
        connection = sqlite3.connect(tmp_path / "bank.db", timeout=0.05, **options)
        opened.append(connection)
        return connection

    first = connect()
    first.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER)")
    first.execute("INSERT INTO accounts VALUES (7, 100)")
    first.commit()
    yield connect
    for connection in opened:
        connection.close()


def balance(connection: sqlite3.Connection) -> int:
    (row,) = connection.execute("SELECT balance FROM accounts").fetchall()
    return int(row[0])


def test_a_late_writer_of_a_row_is_turned_away_and_changes_nothing(database: Any) -> None:
    early, late = database(), database()
    with SqlGuard(early).writing("accounts/7", 3) as cursor:
        cursor.execute("UPDATE accounts SET balance = 90")
    with SqlGuard(late).writing("accounts/7", 8) as cursor:
        cursor.execute("UPDATE accounts SET balance = 50")
    guard = SqlGuard(early)
    with pytest.raises(FencedOff, match="accounts/7 has seen fence 8"), guard.writing("accounts/7", 3) as cursor:
        cursor.execute("UPDATE accounts SET balance = 0")
    assert (balance(late), guard.seen("accounts/7"), guard.seen("accounts/8")) == (50, 8, 0)
    with guard.writing("accounts/8", 3):
        pass


def test_a_holder_of_a_row_writes_as_often_as_it_likes(database: Any) -> None:
    guard = SqlGuard(database())
    for _ in range(2):
        with guard.writing("accounts/7", 3):
            pass
    assert guard.seen("accounts/7") == 3


def test_fence_and_data_are_one_transaction(database: Any) -> None:
    connection, other = database(), database()
    guard = SqlGuard(connection)
    with pytest.raises(RuntimeError), guard.writing("accounts/7", 8) as cursor:
        cursor.execute("UPDATE accounts SET balance = 0")
        raise RuntimeError("in the middle")
    assert (balance(other), guard.seen("accounts/7")) == (100, 0)
    with guard.writing("accounts/7", 5):
        assert SqlGuard.seen(guard, "accounts/7") == 5


def test_the_guard_keeps_two_holders_apart_from_its_first_statement_on(database: Any) -> None:
    one, other = SqlGuard(database()), SqlGuard(database())
    with one.writing("accounts/7", 5):
        with pytest.raises(sqlite3.OperationalError, match="locked"), other.writing("accounts/7", 8):
            pass
    with other.writing("accounts/7", 8):
        pass


def test_a_transaction_inside_another_is_refused(database: Any) -> None:
    connection = database()
    guard = SqlGuard(connection)
    with guard.writing("accounts/7", 5):
        with pytest.raises(LocalProtocolError, match="that on accounts/7 goes on"), guard.writing("accounts/8", 9):
            pass
        assert connection.in_transaction, "it goes on, under its own fence"
    assert (guard.seen("accounts/7"), guard.seen("accounts/8")) == (5, 0)


def test_a_connection_that_commits_each_statement_is_no_use(database: Any) -> None:
    with pytest.raises(LocalProtocolError, match="autocommit"):
        SqlGuard(database(isolation_level=None))
    with pytest.raises(ValueError, match="not a valid name of a table"):
        SqlGuard(database(), "fences; DROP TABLE accounts")


def test_two_that_are_the_first_at_once_are_compared_all_the_same() -> None:
    """As where another database lets both look before either has written."""

    class Refused(Exception):
        pass

    told: list[str] = []

    class Cursor:
        rowcount = 0

        def execute(self, statement: str, parameters: tuple[Any, ...] = ()) -> None:
            told.append(statement.split()[0])
            if statement.startswith("INSERT"):
                raise Refused
            self.rowcount = int(told.count("UPDATE") == 2)

    class Connection:
        IntegrityError = Refused

        def cursor(self) -> Cursor:
            return Cursor()

        def commit(self) -> None:
            told.append("commit")

        def rollback(self) -> None:
            told.append("rollback")

    with SqlGuard(Connection(), placeholder="%s").writing("a", 5):
        pass
    assert told == ["CREATE", "commit", "UPDATE", "INSERT", "rollback", "UPDATE", "commit"]


# Requests -------------------------------------------------------------------------------------------------------------


def test_a_request_shows_its_fence_in_a_header(tmp_path: Path) -> None:
    guard = IfFence(FenceDirectory(tmp_path))
    with guard.admitting(IfFence.format(5), "/branches/main"):
        pass
    with pytest.raises(FencedOff), guard.admitting("4", "/branches/main"):
        pass
    with guard.admitting("4", "/branches/other"):
        pass
    assert IfFence.parse(" 12 ") == 12


@pytest.mark.parametrize("value", [None, "", "x", "-1", "1.5", "1e3", "9" * 17, '"5"', "١"])
def test_a_request_without_a_fence_is_not_let_in(tmp_path: Path, value: str | None) -> None:
    with pytest.raises(ValueError, match="expected If-Fence"), IfFence(FenceDirectory(tmp_path)).admitting(value, "/a"):
        pass


# Git ------------------------------------------------------------------------------------------------------------------


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "--quiet", "--bare")

    def git(self, *arguments: str, stdin: str = "") -> str:
        identity = {f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        done = subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | identity,
        )
        return done.stdout.strip()

    def commit(self, message: str) -> str:
        tree = self.git("mktree")
        return self.git("commit-tree", tree, "-m", message)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo.git")


def test_a_late_mover_of_a_branch_is_turned_away(repository: Repository) -> None:
    one, two, three = (repository.commit(name) for name in ("one", "two", "three"))
    early, late = GitGuard(repository.path, "main"), GitGuard(repository.path, "main")
    early.advance(one, 3, old=None)
    late.advance(two, 8, old=one)
    with pytest.raises(FencedOff, match="main has seen fence 8"):
        early.advance(three, 3, old=two)
    assert (late.head(), late.seen()) == (two, 8)
    late.advance(three, 8, old=two)
    assert repository.git("cat-file", "blob", "refs/a2a/fences/main") == "8"


def test_a_new_mover_is_known_from_its_first_touch(repository: Repository) -> None:
    one, two = repository.commit("one"), repository.commit("two")
    guard = GitGuard(repository.path, "release/1.0")
    assert (guard.head(), guard.seen()) == (None, 0)
    guard.advance(one, 3, old=None)
    guard.touch(8)
    with pytest.raises(FencedOff):
        guard.advance(two, 7, old=one)
    with pytest.raises(FencedOff):
        guard.touch(7)
    assert guard.head() == one


def test_a_branch_that_is_elsewhere_stays_and_so_does_its_fence(repository: Repository) -> None:
    one, two = repository.commit("one"), repository.commit("two")
    guard = GitGuard(repository.path, "main")
    guard.advance(one, 3, old=None)
    with pytest.raises(BranchMoved, match=f"at {one}, not at {two}"):
        guard.advance(two, 5, old=two)
    with pytest.raises(BranchMoved, match="not at None"):
        guard.advance(two, 5, old=None)
    assert (guard.head(), guard.seen()) == (one, 3)


def test_somebody_who_comes_in_between_is_compared_with(repository: Repository, monkeypatch: Any) -> None:
    """The fence moves after it was read and before the branch is: the move fails, and is looked at again."""
    one, two = repository.commit("one"), repository.commit("two")
    guard, other = GitGuard(repository.path, "main"), GitGuard(repository.path, "main")
    guard.advance(one, 3, old=None)
    git: Callable[..., Any] = guard._git

    def late(*arguments: str, **options: Any) -> Any:
        if arguments[0] == "hash-object" and other.seen() < 9:
            other.touch(9)
        return git(*arguments, **options)

    monkeypatch.setattr(guard, "_git", late)
    with pytest.raises(FencedOff, match="seen fence 9 and refuses 4"):
        guard.advance(two, 4, old=one)
    assert guard.head() == one


def test_where_git_was_called_from_does_not_matter(repository: Repository, tmp_path: Path, monkeypatch: Any) -> None:
    """A hook is told by variables which repository it is in; the guard is of another one."""
    one, other = repository.commit("one"), Repository(tmp_path / "other.git")
    for name in ("GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, str(other.path))
    guard = GitGuard(repository.path, "main")
    guard.advance(one, 3, old=None)
    monkeypatch.undo()
    assert repository.git("rev-parse", "main") == one
    assert other.git("for-each-ref") == ""


def test_a_hook_that_may_not_move_its_own_refs_moves_those_of_another_repository(
    repository: Repository, monkeypatch: Any
) -> None:
    one = repository.commit("one")
    monkeypatch.setenv("GIT_QUARANTINE_PATH", "/elsewhere")  # as git sets it for `pre-receive`
    guard = GitGuard(repository.path, "main")
    guard.advance(one, 3, old=None)
    assert guard.head() == one


@pytest.mark.parametrize("commit", ["", "0" * 40, "0", "{one} {one}", "{one}\ndelete refs/heads/other"])
def test_what_is_no_commit_deletes_no_branch(repository: Repository, commit: str) -> None:
    one = repository.commit("one")
    guard, other = GitGuard(repository.path, "main"), GitGuard(repository.path, "other")
    for each in (guard, other):
        each.advance(one, 3, old=None)
    given = commit.format(one=one)
    with pytest.raises(ValueError, match="expected a commit, got "):
        guard.advance(given, 4, old=one)
    with pytest.raises(ValueError, match="expected a commit, got "):
        guard.advance(one, 4, old=given)
    assert (guard.head(), other.head(), guard.seen()) == (one, one, 3)


@pytest.mark.parametrize("branch", ["", "a b", "a\ndelete refs/heads/main", "a\0"])
def test_what_is_no_branch_is_refused(repository: Repository, branch: str) -> None:
    with pytest.raises(ValueError, match="expected the name of a branch, got "):
        GitGuard(repository.path, branch)


def test_no_hook_of_the_repository_has_a_say(repository: Repository) -> None:
    hook = repository.path / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o700)
    one = repository.commit("one")
    GitGuard(repository.path, "main").advance(one, 3, old=None)
    assert GitGuard(repository.path, "main").head() == one


def test_what_git_refuses_is_told(repository: Repository) -> None:
    guard = GitGuard(repository.path, "main")
    with pytest.raises(OSError, match="update-ref"):
        guard.advance("0" * 39 + "1", 3, old=None)
    with pytest.raises(OSError, match="hash-object"):
        GitGuard(repository.path / "nowhere", "main").touch(1)


def test_guards_are_used_alike(tmp_path: Path) -> None:
    """What admits is a context manager, whatever it guards."""
    made: list[AbstractContextManager[Any]] = [
        FenceFile(tmp_path / "f").admitting(1),
        FenceDirectory(tmp_path / "d").admitting("a", 1),
        IfFence(FenceDirectory(tmp_path / "h")).admitting("1", "/a"),
    ]
    for admitted in made:
        with admitted:
            pass


def test_who_wants_to_hear_of_a_refusal_does_when_the_lock_is_let_go(tmp_path: Path) -> None:
    guard, told = FileGuard(tmp_path / "report.txt"), []
    guard.touch(5)

    def report(refused: FencedOff) -> None:
        guard.touch(6)  # it would wait for itself inside
        told.append((refused.seen, refused.fence))

    with pytest.raises(FencedOff), reporting(report):
        guard.write("late", 4)
    assert told == [(5, 4)]
    with reporting(report):
        guard.write("in time", 6)
    assert told == [(5, 4)]


def test_what_telling_fails_with_hides_no_refusal(tmp_path: Path) -> None:
    guard = FileGuard(tmp_path / "report.txt")
    guard.touch(5)
    with pytest.raises(FencedOff) as caught, reporting(lambda refused: 1 / 0):
        guard.write("late", 4)
    assert caught.value.__notes__ == ["the refusal could not be reported: division by zero"]
