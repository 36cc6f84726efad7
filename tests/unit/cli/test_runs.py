"""The folders of runs, and which of them a command takes up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from a2a.cli.exits import Failure
from a2a.cli.runs import begin, runs_dir

WANTED = {"request": "modernise", "source": {"sdist": "tabulate==0.8.9"}}


def test_a_new_run_gets_a_folder_and_a_key_of_its_own() -> None:
    with begin(None, WANTED, "tabulate==0.8.9") as one, begin(None, WANTED, "tabulate==0.8.9") as other:
        assert one.folder != other.folder, "somebody is at work in the first"
        assert one.key != other.key
    assert one.folder.parent == runs_dir()
    assert "tabulate-0.8.9" in one.folder.name
    assert not one.is_resumed


def test_the_same_folder_is_the_same_task(tmp_path: Path) -> None:
    with begin(tmp_path / "run", WANTED, "x") as first:
        first.task = "main-7"
        first.save()
    with begin(tmp_path / "run", WANTED, "x") as second:
        assert (second.key, second.task, second.is_resumed) == (first.key, "main-7", True)
        second.ended = "completed"
        second.save()
    with begin(tmp_path / "run", WANTED, "x") as third:
        assert third.key == first.key, "its result is still there"


@pytest.mark.parametrize("ended", ["failed", "rejected"])
def test_what_ended_without_a_result_begins_anew(tmp_path: Path, ended: str) -> None:
    with begin(tmp_path, WANTED, "x") as first:
        first.ended = ended
        first.save()
    with begin(tmp_path, WANTED, "x") as second:
        assert second.key != first.key
        assert (second.ended, second.task, second.is_resumed) == ("", "", False)


def test_a_run_that_begins_anew_is_known_as_that_by_who_takes_it_up(tmp_path: Path) -> None:
    with begin(tmp_path, WANTED, "x") as first:
        first.task, before = "main-7", first.key
        first.begin_anew()
        assert (first.key != before, first.task, first.is_resumed) == (True, "", False)
    with begin(tmp_path, WANTED, "x") as second:
        assert (second.key, second.task, second.is_resumed) == (first.key, "", True)


def test_other_wishes_are_another_task(tmp_path: Path) -> None:
    with begin(tmp_path, WANTED, "x") as first:
        pass
    with begin(tmp_path, WANTED | {"approve": "never"}, "x") as second:
        assert second.key != first.key


def test_a_run_that_was_left_is_taken_up_without_being_named() -> None:
    with begin(None, WANTED, "x") as left:
        pass
    with begin(None, WANTED | {"approve": "never"}, "x") as other:
        assert other.folder != left.folder
    with begin(None, WANTED, "x") as again:
        assert (again.folder, again.key, again.is_resumed) == (left.folder, left.key, True)
        again.ended = "completed"
        again.save()
    with begin(None, WANTED, "x") as new:
        assert new.folder != left.folder, "what is done is done"


def test_two_commands_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        begin(tmp_path, WANTED, "x"),
        pytest.raises(Failure, match="another command is at work"),
        begin(tmp_path, WANTED, "x"),
    ):
        pass


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="is not a folder"), begin(tmp_path / "file", WANTED, "x"):
        pass


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"name": 1, "of": "another version"})])
def test_a_damaged_file_is_a_new_run(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with begin(tmp_path, WANTED, "x") as run:
        assert run.number == 1
