"""What a supervisor tells other processes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from a2a.statefile import StateFile, write_whole


def test_a_state_is_read_while_its_supervisor_lives(tmp_path: Path) -> None:
    file, other = StateFile(tmp_path / "here" / "state.json"), StateFile(tmp_path / "here" / "state.json")
    assert other.read() is None and not other.is_held()
    assert file.acquire()
    assert other.is_held() and other.read() is None, "it has only begun"
    file.write({"programs": [{"pid": 41}]})
    state = other.read()
    assert state is not None and state["programs"][0]["pid"] == 41
    assert not other.acquire(), "there is one"
    file.release()
    assert other.read() is None
    other.wait_released()
    assert other.acquire()
    other.release()


def test_a_state_that_a_killed_supervisor_left_says_nothing(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.acquire()
    file.release()
    file.write({"programs": []})
    assert file.read() is None


def test_what_a_full_disk_does_not_keep_is_named_and_not_left_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, writes = tmp_path / "state.json", Path.write_text

    def full(path: Path, text: str, **options: Any) -> None:
        writes(path, text[:1], **options)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_whole(file, "before", mode=0o600)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        write_whole(file, "after")
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("before", 0o600)
