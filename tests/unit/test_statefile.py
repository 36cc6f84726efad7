"""What a supervisor tells other processes."""

from __future__ import annotations

from pathlib import Path

from a2a.statefile import StateFile


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
