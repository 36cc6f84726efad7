from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from reference_agents.desk import passages
from reference_agents.desk import shelf as module
from reference_agents.desk.passages import Passage
from reference_agents.desk.shelf import Shelf


class Builder:
    """Builds numbered indexes."""

    def __init__(self) -> None:
        self.built: list[int] = []

    def __call__(self, passages: Sequence[Passage]) -> int:
        self.built.append(len(passages))
        return len(self.built)


@pytest.fixture
def build() -> Builder:
    return Builder()


async def test_an_index_is_built_once_for_a_content(folder: Path, build: Builder) -> None:
    shelf = Shelf(build)
    first = await shelf.take(str(folder))
    assert (first.index, first.searched, len(first.passages), list(first.skipped)) == (1, 2, 5, [])
    assert (await shelf.take(str(folder))).index == 1
    (folder / "birds.txt").write_text("One.\n")
    assert (await shelf.take(str(folder))).index == 2
    assert build.built == [5, 4]


async def test_two_questions_at_once_build_it_once(folder: Path, build: Builder) -> None:
    shelf = Shelf(build)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(shelf.take, str(folder))
    assert build.built == [5]


async def test_the_same_content_elsewhere_and_a_touched_file_build_nothing(
    folder: Path, build: Builder, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shelf = Shelf(build)
    await shelf.take(str(folder))
    os.utime(folder / "lease.md", ns=(1, 1))
    await shelf.take(str(folder))
    other = tmp_path_factory.mktemp("other")
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "binary.md").write_bytes(b"\0")
    taken = await shelf.take(str(other))
    assert [skipped["path"] for skipped in taken.skipped] == ["binary.md"]
    assert list((await shelf.take(str(folder))).skipped) == [], "what is left out is the folder's own"
    assert build.built == [5]


async def test_a_folder_nobody_wrote_to_is_not_read_again(
    folder: Path, build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(build)
    reads: list[str] = []
    read = module.read_folder
    monkeypatch.setattr(module, "read_folder", lambda *given: reads.append(given[0]) or read(*given))
    await shelf.take(str(folder))
    await shelf.take(str(folder))
    assert len(reads) == 2, "files written to just now may be written to again within the same tick"
    monkeypatch.setattr(module, "SETTLED", -(10**18))
    await shelf.take(str(folder))
    await shelf.take(str(folder))
    assert len(reads) == 3
    (folder / "lease.md").write_text("Written to.\n")
    assert len((await shelf.take(str(folder))).passages) == 3
    assert len(reads) == 4


async def test_other_patterns_are_another_content(folder: Path, build: Builder) -> None:
    shelf = Shelf(build)
    await shelf.take(str(folder))
    assert (await shelf.take(str(folder), ["*.txt"])).searched == 1
    assert build.built == [5, 2]


async def test_the_index_that_was_not_asked_for_the_longest_goes(
    build: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VOLUMES_MAX", 2)
    shelf = Shelf(build)
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.md").write_text(f"{name}\n")
    for name in "abacbca":
        await shelf.take(str(tmp_path / name))
    assert len(build.built) == 5, "a, b, c in the place of b, b in that of a, a in that of b"


async def test_documents_beyond_what_an_index_takes_are_told_also_when_it_is_built_already(
    folder: Path, build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "PASSAGES_MAX", 3)
    shelf = Shelf(build)
    for _ in range(2):
        taken = await shelf.take(str(folder))
        assert [skipped["path"] for skipped in taken.skipped] == ["lease.md"]
        assert taken.searched == 1
    assert build.built == [2]
