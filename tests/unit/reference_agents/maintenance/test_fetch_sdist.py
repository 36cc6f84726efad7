"""In a process of its own, as it is used: pip belongs to the process it runs in."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from reference_agents.maintenance.processes import silent
from reference_agents.maintenance.source import FETCH, find_source

BOUND = 60
SETUP = """\
import pathlib
pathlib.Path({flag!r}).write_text("the build script has run")
from setuptools import setup
setup(name="foreign", version="1.0", py_modules=["foreign"])
"""
Index = Callable[..., Path]


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """What the build script of the distribution leaves where it runs."""
    return tmp_path / "flag"


@pytest.fixture
def index(tmp_path: Path, flag: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one source distribution; return its archive."""
    simple = tmp_path / "simple" / "foreign"
    simple.mkdir(parents=True)
    archive = simple / "foreign-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name, text in (("setup.py", SETUP.format(flag=str(flag))), ("foreign.py", "x = 1\n")):
            member = tarfile.TarInfo(f"foreign-1.0/{name}")
            member.size = len(text)
            file.addfile(member, io.BytesIO(text.encode()))
    page(archive, hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return archive


def page(archive: Path, digest: str) -> None:
    (archive.parent / "index.html").write_text(
        f"<!DOCTYPE html><html><body><a href='{archive.name}#sha256={digest}'>{archive.name}</a></body></html>"
    )


def fetch(requirement: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(FETCH), requirement, str(folder)], capture_output=True, text=True, timeout=BOUND,
        check=False,
    )  # fmt: skip


def test_the_archive_is_fetched_and_nothing_of_it_runs(index: Path, flag: Path, tmp_path: Path) -> None:
    done = fetch("foreign==1.0", tmp_path / "here")
    assert done.returncode == 0, done.stderr
    (fetched,) = (tmp_path / "here").iterdir()
    assert (fetched.name, fetched.read_bytes()) == (index.name, index.read_bytes())
    assert not flag.exists()


def test_a_release_that_is_not_there_is_told_as_pip_does(index: Path, tmp_path: Path) -> None:
    for requirement in ("foreign==2.0", "nobody-has-this==1.0"):
        done = fetch(requirement, tmp_path / "here")
        assert done.returncode == 1
        assert f"No matching distribution found for {requirement}" in done.stderr


def test_another_file_than_the_index_names_is_not_taken(index: Path, tmp_path: Path) -> None:
    page(index, "0" * 64)
    done = fetch("foreign==1.0", tmp_path / "here")
    assert done.returncode == 1
    assert "foreign-1.0.tar.gz is not the file that the index names" in done.stderr
    assert list((tmp_path / "here").iterdir()) == []


async def test_what_was_fetched_becomes_a_source(index: Path, flag: Path, tmp_path: Path) -> None:
    origin = await find_source({"sdist": "foreign==1.0"}, tmp_path / "run", silent)
    assert (origin.name, origin.files) == ("foreign 1.0", ("foreign.py", "setup.py"))
    assert not flag.exists()
