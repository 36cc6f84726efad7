"""Squads: what they consist of, where they work, and how they come up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from a2a import Agent, ConnectError, connect
from a2a import squads as module
from a2a.conformance.program import free_port
from a2a.hosting import host
from a2a.squads import (
    Definition,
    Place,
    SquadError,
    bring_up,
    find_place,
    home_of,
    is_up,
    known,
    load,
    state_of,
    users,
)

BOUND = 60.0
TINY = """\
import os

from a2a import Agent

SQUAD = {"name": "tiny", "skill": "greet", "agents": {"greeter": "tiny_squad"}}
agent = Agent("greeter")

@agent.skill
async def greet() -> str:
    return "hello"

@agent.skill
async def beside() -> str:
    return os.environ["A2A_SQUAD"]

@agent.skill
async def looks() -> str:
    return os.environ["PYTHONPATH"]

if __name__ == "__main__":
    agent.main()
"""
BROKEN = 'SQUAD = {"name": "broken", "skill": "x", "agents": {"dead": "broken_squad"}}\nprint("no disk is left")\n'


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> str:
    """The default address is one of this test."""
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    url = free_url()
    monkeypatch.setattr(module, "DEFAULT_URL", url)
    return url


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Definition:
    """A squad of one."""
    described(tmp_path, monkeypatch, "tiny_squad", TINY)
    return load("tiny_squad")


def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def free_url() -> str:
    return f"ws://127.0.0.1:{free_port()}"


@contextmanager
def a_port_that_is_taken(url: str) -> Iterator[None]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", int(url.rpartition(":")[2])))
        other.listen()
        yield


def test_the_maintenance_squad_is_known_by_its_name() -> None:
    definition = load("maintenance")
    assert definition.skill == "maintain"
    assert {"lead", "judge", "coder-libcst"} <= set(definition.agents)
    assert "coder-model" in definition.optional
    assert "ruff" in definition.needs
    assert definition.missing() == []
    assert not set(definition.optional) & set(definition.agents), "they have to be asked for"


def test_agents_on_demand_are_added_by_name() -> None:
    definition = Definition("tiny", "greet", {"greeter": "one"}, {"waver": "two", "nodder": "three"})
    assert definition.including([]).agents == {"greeter": "one"}
    assert definition.including(["waver", "waver"]).agents == {"greeter": "one", "waver": "two"}
    assert definition.agents == {"greeter": "one"}
    with pytest.raises(SquadError, match="the squad tiny has no optional agent shouter; there are: waver, nodder"):
        definition.including(["waver", "shouter"])
    with pytest.raises(SquadError, match="has no optional agent waver; there are none"):
        Definition("tiny", "greet", {}).including(["waver"])


def test_the_desk_is_known_by_its_name() -> None:
    desk = load("desk")
    assert (desk.name, desk.skill) == ("desk", "answer_question")
    assert desk.agents["desk-words"] == "reference_agents.desk.by_words"


def test_what_is_no_squad_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SquadError, match="there is no squad no_such_module"):
        load("no_such_module")
    described(tmp_path, monkeypatch, "no_squad", "SQUAD = 3\n")
    with pytest.raises(SquadError, match="no_squad does not describe a squad"):
        load("no_squad")
    for name in ("", ".no_squad", "no_squad..x"):
        with pytest.raises(SquadError, match="^there is no squad"):
            load(name)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("SQUAD = 1 / 0", r"squad_that_fails\.py:1: ZeroDivisionError: division by zero"),
        ("import no_such_package", r"squad_that_fails\.py:1: ModuleNotFoundError: No module named 'no_such_package'"),
        ("def (", r"SyntaxError: invalid syntax \(squad_that_fails\.py, line 1\)"),
    ],
)
def test_a_squad_whose_module_fails_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    described(tmp_path, monkeypatch, "squad_that_fails", content)
    with pytest.raises(SquadError, match=f"^the squad squad_that_fails cannot be loaded: .*{told}$"):
        load("squad_that_fails")


async def test_where_nobody_is_a_coordinator_is_started_at_the_default(tiny: Definition, nobody_listens: str) -> None:
    assert await find_place(tiny) == Place(nobody_listens, starts_coordinator=True)


async def test_a_coordinator_at_the_default_is_used(tiny: Definition, nobody_listens: str, tmp_path: Path) -> None:
    with anyio.fail_after(BOUND):
        async with host(listen=nobody_listens.removeprefix("ws://")):
            assert await find_place(tiny) == Place(nobody_listens)
            elsewhere = await find_place(tiny, db=tmp_path / "other.db")
            assert elsewhere.starts_coordinator and elsewhere.is_passing and elsewhere.url != nobody_listens


async def test_a_token_that_is_refused_is_told_where_somebody_named_it(
    tiny: Definition, nobody_listens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(BOUND):
        async with host(listen=nobody_listens.removeprefix("ws://")) as hosted:
            with pytest.raises(ConnectError, match="auth: the token does not open this namespace"):
                await find_place(tiny, token="another")
            monkeypatch.setenv("A2A_TOKEN", "another")
            with pytest.raises(ConnectError, match="auth: the token does not open this namespace"):
                await find_place(tiny)
            monkeypatch.delenv("A2A_TOKEN")
            hosted.tokens.token_file.write_text("of somebody else")
            assert (await find_place(tiny)).is_passing


async def test_somebody_else_at_the_default_is_left_alone(
    tiny: Definition, nobody_listens: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_for_us(url: str, token: str | None) -> bool:
        return False

    monkeypatch.setattr(module, "_lets_in", not_for_us)
    with anyio.fail_after(BOUND), a_port_that_is_taken(nobody_listens):
        place = await find_place(tiny)
    assert place.starts_coordinator and place.is_passing and place.url != nobody_listens


async def test_a_named_address_is_where_it_is(tiny: Definition, tmp_path: Path) -> None:
    url = free_url()
    with anyio.fail_after(BOUND):
        assert await find_place(tiny, url, db=tmp_path / "a.db") == Place(
            url, starts_coordinator=True, db=tmp_path / "a.db"
        )
        async with host(listen=url.removeprefix("ws://")):
            assert await find_place(tiny, url) == Place(url)
            with pytest.raises(SquadError, match="with its own ledger: leave out --db"):
                await find_place(tiny, url, db=tmp_path / "a.db")
            with pytest.raises(ConnectError):
                await find_place(tiny, url, token="another")
        with pytest.raises(ConnectError, match="cannot be started from here"):
            await find_place(tiny, "wss://nowhere.invalid:1")
        with pytest.raises(ConnectError, match="cannot be started from here"):
            await find_place(tiny, url.replace("ws://", "wss://"))  # ours would not speak TLS


async def test_a_squad_that_is_up_is_joined_unless_it_has_another_ledger_or_no_coordinator(
    tiny: Definition, nobody_listens: str, tmp_path: Path
) -> None:
    url, other, ours, another = free_url(), free_url(), tmp_path / "a.db", tmp_path / "b.db"
    state = state_of(tiny.name, url)
    assert state.acquire()
    state.write({"name": tiny.name, "url": url, "db": str(ours)})
    with anyio.fail_after(BOUND):
        assert await find_place(tiny, token="t") == Place(nobody_listens, "t", starts_coordinator=True)
        async with host(listen=url.removeprefix("ws://")), host(listen=other.removeprefix("ws://")):
            assert await find_place(tiny) == await find_place(tiny, db=ours) == Place(url)
            assert await find_place(tiny, url, db=ours) == Place(url)
            with pytest.raises(SquadError, match="with its own ledger: leave out --db"):
                await find_place(tiny, other, db=ours)  # which is the ledger at the first one
            assert await find_place(tiny, db=another) == Place(nobody_listens, starts_coordinator=True, db=another)
    state.release()


async def test_a_squad_comes_up_works_and_leaves_nothing(tiny: Definition, tmp_path: Path) -> None:
    said: list[str] = []
    place = Place(free_url(), starts_coordinator=True, db=tmp_path / "tiny.db")
    with anyio.fail_after(BOUND):
        assert not await is_up(tiny, place)
        async with bring_up(tiny, place, say=said.append) as squad:
            assert squad.db == str(tmp_path / "tiny.db")
            async with connect(place.url) as client:
                assert await client.call("greet") == "hello"
                assert await client.call("beside") == "greeter", "each is told who is kept running with it"
            states = known("tiny")
            assert [(state["url"], state["db"]) for state in states] == [(place.url, squad.db)]
            programs = {program["name"]: program["state"] for program in states[0]["programs"]}
            assert programs == {"coordinator": "running", "greeter": "running"}
            there = Place(place.url)
            assert await is_up(tiny, there)
            assert await find_place(tiny) == there, "the one that is up is found"
            assert await find_place(tiny, place.url, db=tmp_path / "tiny.db") == there, "it has that ledger"
            with pytest.raises(SquadError, match="is already up at"):
                async with bring_up(tiny, place):
                    pass
    assert known() == []
    assert said == [f"coordinator at {place.url}, ledger in {squad.db}", "1 agents are ready: greeter"]
    assert (tmp_path / "tiny.db").exists(), "the ledger is what stays"


@pytest.mark.parametrize("name", ["squad_here", "package_here.squad"])
async def test_agents_of_a_squad_in_the_working_directory_look_there_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
    file.parent.mkdir(exist_ok=True)
    file.write_text(TINY.replace("tiny_squad", name))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load(name).folder is None, "it was found elsewhere"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    definition, place = load(name), Place(free_url(), starts_coordinator=True, db=tmp_path / "tiny.db")
    assert definition.folder == str(tmp_path)
    with anyio.fail_after(BOUND):
        async with bring_up(definition, place), connect(place.url) as client:
            assert await client.call("greet") == "hello"
            assert await client.call("looks") == f"{tmp_path}:/nowhere"


async def test_agents_that_somebody_runs_there_are_not_pushed_aside(tiny: Definition) -> None:
    greeter, stop, ready = Agent("greeter"), anyio.Event(), anyio.Event()

    @greeter.skill
    async def wave() -> None:
        """Not what the squad is for, but the same agent."""

    with anyio.fail_after(BOUND):
        async with host() as hosted, anyio.create_task_group() as group:
            group.start_soon(partial(greeter.run, hosted.url, stop=stop, ready=ready.set))
            await ready.wait()
            with pytest.raises(SquadError, match="somebody already runs greeter at"):
                async with bring_up(tiny, Place(hosted.url)):
                    pass
            stop.set()


async def test_an_agent_that_dies_as_soon_as_it_starts_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described(tmp_path, monkeypatch, "broken_squad", BROKEN)
    with anyio.fail_after(BOUND):
        async with host() as hosted:
            with pytest.raises(SquadError, match="dead does not start: .*no disk is left"):
                async with bring_up(load("broken_squad"), Place(hosted.url)):
                    pass
    assert known() == []


async def test_a_squad_without_the_packages_it_needs_is_not_begun(tiny: Definition) -> None:
    needy = replace(tiny, needs=("json", "not_there", "nor_this"))
    with pytest.raises(
        SquadError, match=r"the squad tiny needs not_there, nor_this, which is not installed for .*extra `squad`"
    ):
        async with bring_up(needy, Place(free_url(), starts_coordinator=True)):
            pytest.fail("it is up")
    assert known() == []


async def test_a_coordinator_that_does_not_start_is_told(tiny: Definition, tmp_path: Path) -> None:
    (tmp_path / "wrong.db").write_text("this is no ledger, and long enough to be looked at as if it were one")
    place = Place(free_url(), starts_coordinator=True, db=tmp_path / "wrong.db")
    with (
        anyio.fail_after(BOUND),
        pytest.raises(SquadError, match="the coordinator does not start: .*wrong.db: expected a ledger"),
    ):
        async with bring_up(tiny, place):
            pass


def test_the_last_user_of_a_squad_knows_that(tmp_path: Path) -> None:
    url = "ws://127.0.0.1:1"
    with users("tiny", url) as one:
        with users("tiny", url) as other:
            assert not one(False) and not other(False)
        assert one(False)
        assert one(True)
    assert home_of("tiny", url).is_dir()
    assert not state_of("tiny", url).is_held()
