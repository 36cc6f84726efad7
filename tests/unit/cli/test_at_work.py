"""A squad for the time of a command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import ConnectError, connect
from a2a.cli.at_work import squad_at_work
from a2a.cli.options import Common, Connection
from a2a.cli.output import Output
from a2a.conformance.program import free_port
from a2a.squads import Definition, Place, bring_up, find_place, known, load

BOUND = 60.0
TINY = """\
from a2a import Agent

SQUAD = {"name": "brief", "skill": "greet", "agents": {"brief-greeter": "brief_squad"}}
agent = Agent("brief-greeter")

@agent.skill
async def greet() -> str:
    return "hello"

if __name__ == "__main__":
    agent.main()
"""


@pytest.fixture
def brief(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Definition:
    """A squad of one, of a state directory of its own."""
    (tmp_path / "brief_squad.py").write_text(TINY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    sys.modules.pop("brief_squad", None)
    return load("brief_squad")


@pytest.fixture
def url() -> str:
    return f"ws://127.0.0.1:{free_port()}"


def common(url: str) -> Common:
    return Common(Connection(url, None), Output(), None)


async def test_a_squad_that_is_not_up_comes_and_goes_with_the_command(
    brief: Definition, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with anyio.fail_after(BOUND):
        async with squad_at_work(
            brief, common(url), name="brief_squad", url=url, db=tmp_path / "a.db", keep=False
        ) as place:
            async with connect(place.url) as client:
                assert await client.call("greet") == "hello"
        assert known() == []
    assert "1 agents are ready: brief-greeter" in capsys.readouterr().err


async def test_how_a_squad_that_is_kept_ends_is_told_with_its_name_and_where_it_is(
    brief: Definition, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def detach(name: str, place: Place) -> dict[str, Any]:
        return {}

    monkeypatch.setattr("a2a.cli.at_work.detach", detach)
    with anyio.fail_after(BOUND):
        async with squad_at_work(brief, common(url), name="brief_squad", url=url, db=None, keep=True):
            pass
    assert f"is up at {url}, until: a2a squad down brief_squad --url {url}\n" in capsys.readouterr().err


async def test_a_squad_that_is_up_is_used_and_stays_and_its_end_is_told(
    brief: Definition, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    using, ended = anyio.Event(), anyio.Event()

    async def use() -> None:
        async with squad_at_work(brief, common(url), name="brief_squad", url=url, db=None, keep=False):
            assert len(known("brief")) == 1
        assert len(known("brief")) == 1, "it was not ours to end"
        with pytest.raises(ConnectError, match="was stopped by whoever started it"):
            async with squad_at_work(brief, common(url), name="brief_squad", url=url, db=None, keep=False):
                using.set()
                await anyio.sleep_forever()
        ended.set()

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as group:
            async with bring_up(brief, await find_place(brief, url, db=tmp_path / "a.db")):
                group.start_soon(use)
                await using.wait()
            await ended.wait()
    assert f"the squad brief is up at {url}" in capsys.readouterr().err
