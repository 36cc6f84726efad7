"""`a2a dev`: what it looks at. It runs as a process in tests/process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a.cli import dev as dev_module
from a2a.cli.dev import _stamps, _watch
from a2a.cli.output import Output

BOUND = 20


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_a_changed_file_has_another_stamp(here: Path) -> None:
    path = here / "watched_one.py"
    path.write_text("x = 1")
    before = _stamps("watched_one:agent")
    assert list(before) == [path]
    os.utime(path, (1, 1))
    assert _stamps("watched_one:agent") != before
    path.unlink()
    assert _stamps("watched_one:agent") == {}


def test_a_file_that_cannot_be_looked_at_is_missing(here: Path) -> None:
    path = here / "watched_four.py"
    path.write_text("x = 1")
    (here / "circle.py").symlink_to("circle.py")
    assert list(_stamps("watched_four:agent")) == [path]


async def test_a_change_has_the_agent_started_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev_module, "LOOK_EVERY", 0.01)
    looked = anyio.Event()
    path = here / "watched_two.py"
    path.write_text("x = 1")

    def stamps(spec: str) -> dict[Path, int]:
        found = _stamps(spec)
        anyio.from_thread.run_sync(looked.set)
        return found

    monkeypatch.setattr(dev_module, "_stamps", stamps)
    restarted = anyio.Event()

    def restart(name: str) -> None:
        assert name == "watched_two"
        restarted.set()

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            group.start_soon(_watch, "watched_two", restart, Output())
            await looked.wait()
            assert not restarted.is_set()
            os.utime(path, (1, 1))
            await restarted.wait()
            group.cancel_scope.cancel()
    assert capsys.readouterr().err == "watched_two.py changed: watched_two is started again\n"


async def test_one_that_looks_for_long_looks_less_often(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Looked(Exception):
        pass

    async def sleep(seconds: float) -> None:
        assert seconds == pytest.approx(0.2 / dev_module.LOOK_SHARE)
        raise Looked

    monkeypatch.setattr(dev_module, "_timed_stamps", lambda spec: ({}, 0.2))
    monkeypatch.setattr(anyio, "sleep", sleep)
    with pytest.raises(Looked):
        await _watch("watched_three", lambda name: None, Output())


def test_an_agent_of_no_module_is_refused(command: Any) -> None:
    done = command("dev", "no_such_module:agent", "--listen", "127.0.0.1:0")
    assert done.code == 2
    assert "no_such_module:agent: there is no module no_such_module here or in this installation" in done.err


def test_an_agent_that_is_named_twice_is_refused(here: Path, command: Any) -> None:
    (here / "watched_five.py").write_text("x = 1")
    done = command("dev", "watched_five:agent", "watched_five", "watched_five:agent", "--listen", "127.0.0.1:0")
    assert done.code == 2
    assert "expected each agent once, got watched_five:agent again" in done.err


def test_an_address_that_others_reach_is_refused(command: Any) -> None:
    done = command("dev", "--listen", "0.0.0.0:0")
    assert done.code == 2
    assert "can be reached from other machines" in done.err
