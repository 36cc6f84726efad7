from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import environments
from benchmarks.peers.runner import PEERS
from benchmarks.processes import output
from benchmarks.report import BenchmarkError


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # what would be fetched is not there


@pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
def test_every_requirement_of_a_peer_is_pinned(peer: object) -> None:
    wanted = environments.requirements(peer.requirements)  # type: ignore[attr-defined]
    assert wanted
    assert all(len(each.split("==")) == 2 for each in wanted)


async def test_an_environment_is_made_once_and_finds_the_project_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none.txt").write_text("# nothing\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    home = await environments.provide("none")
    asked = "import benchmarks, sys; print(sys.prefix, sys.path[-1])"
    told = await output(*environments.interpreter(home), "-c", asked, within=30)
    assert told.split() == [str(home), str(environments.PROJECT)]

    made = []

    async def noted(*command: object, within: float) -> str:
        made.append(command[1:3])
        return ""

    monkeypatch.setattr(environments, "output", noted)
    assert await environments.provide("none") == home
    assert made == []
    (home / environments.MARK).unlink()  # as if it had been left half made
    assert await environments.provide("none") == home
    assert made == [("-m", "venv"), ("-m", "pip")]


async def test_packages_that_cannot_be_had_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some.txt").write_text("no-such-package-of-a2a==1.0\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    with pytest.raises(BenchmarkError, match=r"(?s)pip install.* failed: .*no-such-package-of-a2a"):
        await environments.provide("some")
    assert not (environments.home_of("some") / environments.MARK).exists()


def test_other_requirements_are_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    homes = set()
    for wanted in ("a==1", "a==2"):
        (tmp_path / "some.txt").write_text(wanted)
        homes.add(environments.home_of("some"))
    assert len(homes) == 2
