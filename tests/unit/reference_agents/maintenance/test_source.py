from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from a2a import AttemptFailed
from reference_agents.maintenance import source as module
from reference_agents.maintenance.processes import Finished, silent
from reference_agents.maintenance.shapes import Source
from reference_agents.maintenance.source import Origin, find_source, python_files, unpack

MAKE = Callable[..., Any]


async def find(source: Source, run_dir: Path) -> Origin:
    return await find_source(source, run_dir, silent)


async def refused(source: Source, run_dir: Path) -> str:
    """Return the code a source is refused with; nothing may have been made then."""
    with pytest.raises(AttemptFailed) as caught:
        await find(source, run_dir)
    assert not caught.value.retryable
    assert not run_dir.exists() or not [path for path in run_dir.rglob("*") if path.is_file()]
    return str(caught.value.error_code)


def tar(path: Path, members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


async def test_a_repository_is_found_from_any_folder_inside_it(repository: MAKE, tmp_path: Path) -> None:
    repo = repository({"package/a.py": "", "package/data.txt": "", "setup.py": ""})
    origin = await find({"repository": str(repo.path / "package")}, tmp_path / "run")
    assert origin == Origin("project", repo.path, repo.git("rev-parse", "HEAD"), ("package/a.py", "setup.py"))


async def test_links_are_not_among_the_files(repository: MAKE, tmp_path: Path) -> None:
    repo = repository({"a.py": ""})
    (repo.path / "link.py").symlink_to("/etc/hostname")
    base = repo.commit({})
    assert await python_files(repo.path, base) == ("a.py",)


async def test_each_thing_that_can_be_wrong_with_a_path_has_a_code(repository: MAKE, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    plain = tmp_path / "plain"
    plain.mkdir()
    empty = tmp_path / "empty"
    empty.mkdir()
    repo = repository({"a.py": ""})
    texts = repository({"README": ""}, name="texts")
    module_git = texts.git
    module_git("init", "--quiet", str(empty))
    assert await refused({"repository": str(tmp_path / "nothing")}, run_dir) == "no_such_path"
    assert await refused({"repository": str(repo.path / "a.py")}, run_dir) == "not_a_repository"
    assert await refused({"repository": str(plain)}, run_dir) == "not_a_repository"
    assert await refused({"repository": str(empty)}, run_dir) == "no_commit"
    assert await refused({"repository": str(texts.path)}, run_dir) == "not_python"
    assert await refused({}, run_dir) == "bad_source"
    assert await refused({"repository": "a", "sdist": "b==1"}, run_dir) == "bad_source"


async def test_uncommitted_changes_are_refused_and_untracked_files_are_not(repository: MAKE, tmp_path: Path) -> None:
    repo = repository({"a.py": "x = 1\n"})
    repo.write({"notes.txt": "mine"})
    assert (await find({"repository": str(repo.path)}, tmp_path / "run")).files == ("a.py",)
    repo.write({"a.py": "x = 2\n"})
    before = repo.looks_like()
    assert await refused({"repository": str(repo.path)}, tmp_path / "run") == "dirty_worktree"
    repo.git("add", "a.py")
    assert await refused({"repository": str(repo.path)}, tmp_path / "run") == "dirty_worktree"
    repo.git("reset", "--quiet")
    assert repo.looks_like()[:-3] == before[:-3]


@pytest.mark.parametrize("name", ["tabulate", "tabulate>=1", "../x==1", "--index-url=x", "a==1; rm", "a b==1", "==1"])
async def test_a_source_distribution_is_named_exactly(name: str, tmp_path: Path) -> None:
    assert await refused({"sdist": name}, tmp_path / "run") == "bad_source"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"ERROR: Could not find a version\nERROR: No matching distribution found for x==9", "no_such_release"),
        (b"WARNING: Retrying after NewConnectionError\nERROR: Could not find a version that satisfies it", "offline"),
        (b"Temporary failure in name resolution", "offline"),
        (b"error: subprocess-exited-with-error", "no_such_release"),
    ],
)  # fmt: skip
async def test_what_pip_says_becomes_a_code(
    said: bytes, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pip(*_: Any, **__: Any) -> Finished:
        return Finished(1, b"", said, timed_out=False, seconds=0.1)

    monkeypatch.setattr(module, "run", pip)
    assert await refused({"sdist": "x==9"}, tmp_path / "run") == code


async def test_a_source_distribution_becomes_a_repository_with_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads = []

    async def pip(command: list[str], **_: Any) -> Finished:
        downloads.append(command[-2])
        target = Path(command[-1])
        target.mkdir()
        tar(
            target / "x-1.0.tar.gz",
            {"x-1.0/x.py": b"x = 1\n", "x-1.0/.gitignore": b"*.py\n", "x-1.0/.git/config": b"[core]"},
        )
        return Finished(0, b"", b"", timed_out=False, seconds=0.1)

    monkeypatch.setattr(module, "run", pip)
    first = await find({"sdist": "x==1.0"}, tmp_path / "run")
    again = await find({"sdist": "x==1.0"}, tmp_path / "run")
    elsewhere = await find({"sdist": "x==1.0"}, tmp_path / "other")
    assert downloads == ["x==1.0", "x==1.0"]
    assert again == first
    assert first.files == ("x.py",)
    assert elsewhere.base == first.base, "the same archive is the same commit"
    assert await find({"repository": str(first.repository)}, tmp_path / "run"), "and it is clean"


async def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    up = tar(tmp_path / "up.tar.gz", {"x/a.py": b"", "../../up.py": b""})
    root = tar(tmp_path / "root.tar.gz", {"x/a.py": b"", str(tmp_path / "up.py"): b""})
    for archive in (up, root):
        with pytest.raises(AttemptFailed, match="holds the path") as caught:
            unpack(archive, tmp_path / archive.stem)
        assert caught.value.error_code == "bad_archive"
    link = tar(tmp_path / "link.tar.gz", {"x/a.py": b""}, {"x/out": "/etc"})
    assert [path.name for path in unpack(link, tmp_path / "link").iterdir()] == ["a.py"]
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as file:
        file.writestr("../up.py", "")
    with pytest.raises(AttemptFailed, match="holds the path"):
        unpack(tmp_path / "up.zip", tmp_path / "zip")
    assert not list(tmp_path.parent.glob("**/up.py"))


async def test_a_file_keeps_its_content_and_whether_it_can_be_run(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "x" / "run.sh").chmod(0o4755)
    (tmp_path / "x" / "read.py").write_bytes(b"a = 1\n")
    (tmp_path / "x" / "read.py").chmod(0o400)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "x", "x")
    folder = unpack(tmp_path / "x.tar.gz", tmp_path / "there")
    assert {path.name: (path.read_bytes(), path.stat().st_mode & 0o7777) for path in folder.iterdir()} == {
        "run.sh": (b"#!/bin/sh\n", 0o755),
        "read.py": (b"a = 1\n", 0o644),
    }


async def test_an_archive_that_is_too_large_or_not_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(AttemptFailed, match="cannot be unpacked"):
        unpack(tmp_path / "no.tar.gz", tmp_path / "no")
    monkeypatch.setattr(module, "UNPACKED_BYTES_MAX", 10)
    with pytest.raises(AttemptFailed, match="too large"):
        unpack(tar(tmp_path / "big.tar.gz", {"x/a": b"x" * 11}), tmp_path / "big")
    two = tar(tmp_path / "two.tar.gz", {"x/a": b"", "y/a": b""})
    with pytest.raises(AttemptFailed, match="2 folders"):
        unpack(two, tmp_path / "two")
