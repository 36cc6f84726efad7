from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import AttemptFailed
from reference_agents.maintenance import workspace as module
from reference_agents.maintenance.shapes import Patch
from reference_agents.maintenance.workspace import (
    abandoned,
    checkout,
    held_folder,
    make_mirror,
    patch_bytes,
    patch_of,
    read_json,
    tree_of,
    write_json,
)

MAKE = Callable[..., Any]
ROOT = Path(module.__file__).parents[2]


async def test_a_run_leaves_the_repository_as_it_was(repository: MAKE, workspace_on: MAKE) -> None:
    repo = repository({"a.py": "x = 1\n"})
    before = repo.looks_like()
    workspace = await workspace_on(repo)
    async with checkout(workspace, "coder", workspace["base"]) as work:
        (work.path / "a.py").write_text("x = 2\n")
        tree = await work.snapshot(["a.py"])
    assert repo.looks_like() == before
    assert (await patch_of(workspace, tree))["text"].count("+x = 2") == 1


async def test_the_mirror_is_made_once(repository: MAKE, tmp_path: Path) -> None:
    repo = repository({"a.py": "x = 1\n"})
    mirror = await make_mirror(repo.path, tmp_path / "run")
    (mirror / "mark").touch()
    assert await make_mirror(repo.path, tmp_path / "run") == mirror
    assert (mirror / "mark").exists()
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["mirror.git"]


async def test_loading_a_tree_removes_what_an_earlier_use_left(repository: MAKE, workspace_on: MAKE) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n", ".gitignore": "*.pyc\n"}))
    async with checkout(workspace, "judge", workspace["base"]) as work:
        (work.path / "left").mkdir()
        (work.path / "left" / "over.txt").touch()
        (work.path / "a.pyc").touch()
        (work.path / "a.py").write_text("x = 2\n")
        await work.load(workspace["base"])
        assert sorted(path.name for path in work.path.iterdir()) == [".git", ".gitignore", "a.py"]
        assert (work.path / "a.py").read_text() == "x = 1\n"


async def test_a_snapshot_takes_in_only_the_paths_asked_for(repository: MAKE, workspace_on: MAKE) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n", "b.py": "y = 1\n"}))
    async with checkout(workspace, "coder", workspace["base"]) as work:
        for name in ("a.py", "b.py"):
            (work.path / name).write_text("z = 0\n")
        patch = await patch_of(workspace, await work.snapshot(["a.py"]))
    assert [file["path"] for file in patch["files"]] == ["a.py"]


async def test_two_agents_work_side_by_side(repository: MAKE, workspace_on: MAKE) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n"}))
    base = workspace["base"]
    async with checkout(workspace, "one", base) as one, checkout(workspace, "other", base) as other:
        (one.path / "a.py").write_text("x = 2\n")
        assert (other.path / "a.py").read_text() == "x = 1\n"
    assert [path.name for path in (Path(workspace["run_dir"]) / "worktrees").iterdir()] == ["lock"]


async def test_many_agents_start_at_the_same_moment(repository: MAKE, workspace_on: MAKE) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n"}))
    there: list[Path] = []

    async def start(number: int) -> None:
        async with checkout(workspace, f"coder-{number}", workspace["base"]) as work:
            assert (work.path / "a.py").is_file()
            there.append(work.path)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(start, number)
    assert len(set(there)) == 8


def test_a_folder_whose_holder_was_killed_is_removed_by_the_next_one(tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib\n"
        "from reference_agents.maintenance.workspace import held_folder\n"
        "with held_folder(pathlib.Path(sys.argv[1]), 'judge') as folder:\n"
        "    (folder / 'half').write_text('done'); print(folder, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().decode().strip())
        assert left.is_dir()
        assert abandoned(tmp_path, "judge") == [], "somebody is at work there"
        with held_folder(tmp_path, "judge"):
            assert left.is_dir()
        holder.kill()
        holder.wait()
    assert abandoned(tmp_path, "judge") == [left]
    with held_folder(tmp_path, "other"):
        assert left.is_dir(), "it is another agent's"
    with held_folder(tmp_path, "judge"):
        assert not left.exists()


def test_a_folder_that_was_finished_stays(tmp_path: Path) -> None:
    with held_folder(tmp_path, "venv", keep="ready") as folder:
        (folder / "ready").touch()
    with held_folder(tmp_path, "venv", keep="ready") as other:
        assert folder.is_dir()
    assert folder.is_dir()
    assert not other.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove anything")
def test_a_folder_without_rights_is_removed_too(tmp_path: Path) -> None:
    with held_folder(tmp_path, "judge") as folder:
        (folder / "locked").mkdir()
        (folder / "locked" / "file").touch()
        (folder / "locked").chmod(0)
    assert not folder.exists()


async def test_a_patch_travels_as_text_as_tree_or_as_both(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n"}))
    tree = await tree_with(workspace, {"a.py": "x = 2\n"})
    patch = await patch_of(workspace, tree)
    assert await tree_of(workspace, patch) == tree
    assert await tree_of(workspace, Patch(text=patch["text"])) == tree
    assert patch["files"] == [{"path": "a.py", "added": 1, "removed": 1}]


async def test_text_that_is_not_what_the_tree_is_gets_caught(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE
) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n"}))
    shown = await patch_of(workspace, await tree_with(workspace, {"a.py": "x = 2\n"}))
    meant = await tree_with(workspace, {"a.py": "import os; os.system('true')\n"})
    with pytest.raises(AttemptFailed) as caught:
        await tree_of(workspace, Patch(text=shown["text"], tree=meant))
    assert caught.value.error_code == "patch_mismatch"
    assert not caught.value.retryable


async def test_a_long_patch_travels_as_a_file_that_cannot_be_changed_unnoticed(
    repository: MAKE, workspace_on: MAKE, tree_with: MAKE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATCH_TEXT_BYTES_MAX", 100)
    workspace = await workspace_on(repository({"a.py": "x = 1\n"}))
    tree = await tree_with(workspace, {"a.py": "y = 2\n" * 100})
    patch = await patch_of(workspace, tree)
    assert patch["text"] == ""
    assert await tree_of(workspace, patch) == tree
    file = Path(patch["path"])
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(AttemptFailed, match="was changed"):
        patch_bytes(workspace, patch)
    with pytest.raises(AttemptFailed, match="is not in"):
        patch_bytes(workspace, Patch(text="", path="/etc/hostname", digest=""))


async def test_a_workspace_that_was_deleted_is_told_as_such(repository: MAKE, workspace_on: MAKE) -> None:
    workspace = await workspace_on(repository({"a.py": "x = 1\n"}))
    with pytest.raises(AttemptFailed) as caught:
        await tree_of(workspace | {"mirror": "/no/such/mirror.git"}, Patch(text=""))
    assert caught.value.error_code == "workspace_lost"


def test_a_file_read_back_is_the_one_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "below" / "baseline.json"
    digest = write_json(path, {"outcomes": {"a": "passed"}})
    assert read_json(path, digest) == {"outcomes": {"a": "passed"}}
    path.write_text('{"outcomes": {}}')
    with pytest.raises(AttemptFailed) as caught:
        read_json(path, digest)
    assert caught.value.error_code == "evidence_lost"
    with pytest.raises(AttemptFailed):
        read_json(tmp_path / "nothing.json", digest)
