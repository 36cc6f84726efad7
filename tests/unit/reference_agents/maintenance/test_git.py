from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reference_agents.maintenance import git, processes

MAKE = Callable[..., Any]


async def edited(repository: Any, changes: dict[str, str | bytes]) -> str:
    """Commit changes on the side and return their tree; the branch goes back to where it was."""
    base = repository.git("rev-parse", "HEAD")
    repository.commit(changes)
    tree = repository.git("rev-parse", "HEAD^{tree}")
    repository.git("reset", "--hard", "--quiet", base)
    return str(tree)


async def test_a_patch_takes_a_tree_to_the_other_one(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n", "b.py": "y = 1\n", "c.bin": bytes(range(256))})
    tree = await edited(repo, {"a.py": "x = 2\n", "new/d.py": "", "c.bin": bytes(range(255, -1, -1))})
    patch = await git.diff(repo.path, "HEAD", tree)
    assert await git.apply(repo.path, "HEAD", patch) == tree
    assert await git.changed_paths(repo.path, "HEAD", tree) == ["a.py", "c.bin", "new/d.py"]


async def test_a_patch_of_text_that_is_not_utf8_can_still_be_written_as_utf8(repository: MAKE) -> None:
    latin = "# -*- coding: latin-1 -*-\nname = 'café'\n".encode("latin-1")
    repo = repository({"latin.py": latin, "plain.py": "x = 1\n"})
    tree = await edited(repo, {"latin.py": latin.replace(b"name", b"other"), "plain.py": "x = 2\n"})
    patch = await git.diff(repo.path, "HEAD", tree)
    assert "GIT binary patch" in patch.decode()
    assert "+x = 2" in patch.decode()
    assert await git.apply(repo.path, "HEAD", patch) == tree


async def test_line_ends_are_kept(repository: MAKE) -> None:
    repo = repository({"dos.py": b"x = 1\r\ny = 2\r\n"})
    tree = await edited(repo, {"dos.py": b"x = 1\r\ny = 3\r\n"})
    assert await git.apply(repo.path, "HEAD", await git.diff(repo.path, "HEAD", tree)) == tree


async def test_names_that_look_like_options_or_hold_strange_characters_are_just_names(repository: MAKE) -> None:
    names = ["-rf.py", "a b.py", "täst.py", "$(touch x).py", 'quote".py']
    repo = repository({f"d/{name}": "x = 1\n" for name in names})
    tree = await edited(repo, {f"d/{name}": "x = 2\n" for name in names})
    assert await git.changed_paths(repo.path, "HEAD", tree) == sorted(f"d/{name}" for name in names)
    assert {entry.path for entry in await git.files(repo.path, tree)} == {f"d/{name}" for name in names}
    assert await git.apply(repo.path, "HEAD", await git.diff(repo.path, "HEAD", tree)) == tree


async def test_a_patch_that_does_not_apply_is_an_error_and_leaves_nothing(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n"})
    before = repo.looks_like()
    with pytest.raises(git.GitError, match=r"a\.py"):
        await git.apply(repo.path, "HEAD", b"--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-z = 9\n+z = 8\n")
    assert repo.looks_like() == before


async def test_no_patch_is_no_change(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n"})
    assert await git.apply(repo.path, "HEAD", b"") == await git.tree_id(repo.path, "HEAD")


async def test_some_paths_can_be_taken_from_another_tree(repository: MAKE) -> None:
    repo = repository({"a.py": "1\n", "b.py": "1\n", "c.py": "1\n"})
    repo.git("rm", "--quiet", "c.py")
    repo.commit({"a.py": "2\n", "b.py": "2\n"})
    other = repo.git("rev-parse", "HEAD^{tree}")
    repo.git("reset", "--hard", "--quiet", "HEAD~1")
    base = await git.tree_id(repo.path, "HEAD")
    mixed = await git.replace_paths(repo.path, base, other, ["a.py", "c.py"])
    assert await git.changed_paths(repo.path, base, mixed) == ["a.py", "c.py"]
    assert [entry.path for entry in await git.files(repo.path, mixed)] == ["a.py", "b.py"]
    assert await git.replace_paths(repo.path, mixed, base, ["a.py", "c.py"]) == base


async def test_trees_that_change_different_lines_merge(repository: MAKE) -> None:
    lines = [f"line {number}\n" for number in range(20)]
    repo = repository({"a.py": "".join(lines)})
    one = await edited(repo, {"a.py": "".join(["first\n", *lines[1:]])})
    other = await edited(repo, {"a.py": "".join([*lines[:-1], "last\n"])})
    merged = await git.merge(repo.path, "HEAD", one, other)
    assert merged.conflicts == ()
    [entry] = await git.files(repo.path, merged.tree)
    [content] = await git.read_blobs(repo.path, [entry.blob])
    assert content.decode() == "".join(["first\n", *lines[1:-1], "last\n"])


async def test_trees_that_change_the_same_line_conflict_and_the_path_is_named(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n", "b.py": "y = 1\n"})
    one = await edited(repo, {"a.py": "x = 2\n"})
    other = await edited(repo, {"a.py": "x = 3\n", "b.py": "y = 2\n"})
    before = repo.looks_like()
    assert (await git.merge(repo.path, "HEAD", one, other)).conflicts == ("a.py",)
    assert repo.looks_like() == before


async def test_blobs_come_back_in_order(repository: MAKE) -> None:
    repo = repository({"a.py": b"a\n\nb", "b.py": b"", "c.py": b"\0\n"})
    blobs = [entry.blob for entry in await git.files(repo.path, "HEAD")]
    assert await git.read_blobs(repo.path, blobs) == [b"a\n\nb", b"", b"\0\n"]
    with pytest.raises(git.GitError, match="missing"):
        await git.read_blobs(repo.path, ["0" * 40])


async def test_hooks_and_commands_of_the_repository_do_not_run(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n"})
    hook = repo.path / ".git" / "hooks" / "reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch '{repo.path}/hook-ran'\n")
    hook.chmod(0o755)
    repo.git("config", "core.fsmonitor", f"touch '{repo.path}/monitor-ran'")
    await git.git(repo.path, "status", "--porcelain")
    await git.git(repo.path, "update-ref", "refs/heads/other", "HEAD")
    assert not (repo.path / "monitor-ran").exists()
    assert not (repo.path / "hook-ran").exists()


async def test_a_refusal_says_what_git_said(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n"})
    with pytest.raises(git.GitError, match=r"rev-parse: fatal"):
        await git.tree_id(repo.path, "nothing")
    with pytest.raises(git.GitError):
        await git.tree_id(repo.path, "--all")


async def test_what_git_says_is_whole_or_an_error(repository: MAKE, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = repository({"a.py": "x = 1\n" * 100_000})
    blob = repo.git("rev-parse", "HEAD:a.py")
    monkeypatch.setattr(processes, "OUTPUT_BYTES_MAX", 1)
    with pytest.raises(git.GitError, match=r"git cat-file in .* says more than \d+ bytes"):
        await git.read_blobs(repo.path, [blob])


async def test_a_commit_says_who_made_it_and_moves_no_branch(repository: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n"})
    before = repo.looks_like()
    commit = await git.commit_tree(repo.path, await git.tree_id(repo.path, "HEAD"), "HEAD", "title\n")
    assert repo.git("show", "--no-patch", "--format=%an %s", commit) == "a2a maintenance squad title"
    assert repo.looks_like() == before


async def test_a_branch_that_leaves_no_room_for_another_one_is_named(repository: MAKE) -> None:
    repo = repository({"a.py": ""})
    for there in ("a2a", "deep/er/one"):
        repo.git("branch", there)
    wanted = {"a2a/x": "a2a", "a2a": "", "a2ab/x": "", "deep": "deep/er/one", "deep/er": "deep/er/one", "deep/x": ""}
    assert {name: await git.branch_beside(repo.path, name) for name in wanted} == wanted
