from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from a2a import AttemptFailed
from reference_agents.desk import folder as module
from reference_agents.desk.folder import Contents, list_folder, read_folder


def read(folder: Path, *only: str) -> Contents:
    return read_folder(str(folder), *list_folder(str(folder), only))


def why(contents: Contents) -> dict[str, str]:
    return {skipped["path"]: skipped["why"] for skipped in contents.skipped}


def test_documents_are_read_by_path_and_code_is_none(folder: Path) -> None:
    (folder / "code.py").write_text("x = 1\n")
    (folder / "a").mkdir()
    (folder / "a" / "deep.rst").write_text("deep\n")
    contents = read(folder)
    assert [path for path, _ in contents.documents] == ["a/deep.rst", "birds.txt", "lease.md"]
    assert contents.documents[0] == ("a/deep.rst", "deep\n")
    assert contents.skipped == ()


def test_patterns_are_of_paths_or_of_names(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "code.py").write_text("x = 1\n")
    (folder / "code.py").write_text("x = 2\n")
    assert [path for path, _ in read(folder, "*.py").documents] == ["a/code.py", "code.py"]
    assert [path for path, _ in read(folder, "a/*.py", "lease.md").documents] == ["a/code.py", "lease.md"]


def test_what_begins_with_a_dot_or_came_with_a_package_is_nobodys_document(folder: Path) -> None:
    (folder / "node_modules" / "ws").mkdir(parents=True)
    (folder / "node_modules" / "ws" / "README.md").write_text("x")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.md").write_text("x")
    (folder / ".b.md").write_text("x")
    assert len(read(folder).documents) == 2


def test_what_cannot_be_read_as_text_is_left_out_with_a_word(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.md"
    outside.write_text("secret")
    (folder / "binary.md").write_bytes(b"a\0b")
    (folder / "latin.txt").write_bytes(b"caf\xe9")
    (folder / "link.md").symlink_to(outside)
    os.mkfifo(folder / "pipe.md")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "s.md"))
        contents = read(folder)
    assert why(contents) == {
        "binary.md": "binary", "latin.txt": "not UTF-8", "link.md": "no regular file", "pipe.md": "no regular file",
        "s.md": "no regular file",
    }  # fmt: skip
    assert [path for path, _ in contents.documents] == ["birds.txt", "lease.md"]


def test_what_was_put_in_the_place_of_a_document_is_not_followed_nor_waited_for(folder: Path) -> None:
    listing = list_folder(str(folder))
    for name in ("lease.md", "birds.txt"):
        (folder / name).unlink()
    (folder / "lease.md").symlink_to("/etc/hostname")
    os.mkfifo(folder / "birds.txt")
    contents = read_folder(str(folder), *listing)
    assert "lease.md" in why(contents) and "unreadable" in why(contents)["lease.md"]
    assert all(text == "" for _, text in contents.documents)


def test_a_file_without_permission_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.open

    def refuse(path: Path, flags: int) -> int:
        if path.name == "lease.md":
            raise PermissionError(13, "Permission denied")  # the tests may run as root, who has all of them
        return really(path, flags)

    monkeypatch.setattr(module.os, "open", refuse)
    assert why(read(folder)) == {"lease.md": "unreadable: Permission denied"}


def test_a_folder_without_permission_is_left_out_with_a_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = [folder / "closed", Path(os.fsdecode(os.fsencode(folder) + b"/\xff"))]
    for one in closed:
        one.mkdir()
    really = os.scandir

    def refuse(path: str) -> object:
        if Path(path) in closed:
            raise PermissionError(13, "Permission denied", path)  # the tests may run as root, who has all of them
        return really(path)

    monkeypatch.setattr(module.os, "scandir", refuse)
    contents = read(folder)
    assert why(contents) == dict.fromkeys(("closed", "'\\udcff'"), "unreadable: Permission denied")
    assert len(contents.documents) == 2


def test_a_name_that_is_not_utf8_is_left_out(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.md")).write_text("x")
    assert why(read(folder)) == {"'\\udcff.md'": "its name is not UTF-8"}


def test_files_and_folders_have_limits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 100)
    assert why(read(folder)) == {"lease.md": "larger than 100 bytes"}
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 10_000)
    for name, value in (("FILES_MAX", 1), ("TOTAL_BYTES_MAX", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert why(read(folder)) == {"lease.md": "the folder has more than is read"}
    monkeypatch.setattr(module, "ENTRIES_MAX", 1)
    with pytest.raises(AttemptFailed) as caught:
        list_folder(str(folder))
    assert caught.value.error_code == "folder_too_large"


def test_a_file_that_grew_after_it_was_listed_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = list_folder(str(folder))
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 100)
    assert why(read_folder(str(folder), *listing)) == {"lease.md": "larger than 100 bytes"}


def test_equal_contents_have_equal_digests_and_others_other_ones(folder: Path) -> None:
    before = read(folder).digest
    assert read(folder).digest == before
    (folder / "birds.txt").rename(folder / "other.txt")
    assert read(folder).digest != before
    (folder / "other.txt").rename(folder / "birds.txt")
    assert read(folder).digest == before
    (folder / "birds.txt").write_text("x")
    assert read(folder).digest != before


@pytest.mark.parametrize("wrong", ["/no/such/folder", "relative", __file__])
def test_what_is_no_folder_is_told(wrong: str) -> None:
    with pytest.raises(AttemptFailed) as caught:
        list_folder(wrong)
    assert caught.value.error_code == "no_such_folder"
    assert wrong in caught.value.detail
