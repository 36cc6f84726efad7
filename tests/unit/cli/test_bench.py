"""`a2a bench`."""

from __future__ import annotations

import getpass
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from a2a import Agent, Client, connect
from a2a.cli import bench as bench_module
from a2a.cli.bench import Measured, percentile
from a2a.cli.options import Connection
from a2a.errors import Denied

SHORT = ("--seconds", "0.1", "--in-flight", "4")


@pytest.fixture(autouse=True)
def no_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "WARM_UP", 0.0)


@pytest.fixture
def helper() -> Agent:
    agent = Agent("helper")

    @agent.skill
    async def double(number: int) -> int:
        return 2 * number

    @agent.skill
    async def fail() -> None:
        raise ValueError("what went wrong")

    return agent


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 50.0), (51, 51.0), (95, 95.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: int, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_of_a_few_values_the_high_percentiles_are_the_longest() -> None:
    assert [percentile([1.0, 2.0, 3.0], percent) for percent in (50, 95, 99)] == [2.0, 3.0, 3.0]


def test_a_phase_in_plain_form() -> None:
    assert Measured(2, 4.0, [0.001] * 94 + [0.002] * 5 + [0.0304567]).to_plain() == {
        "inFlight": 2,
        "tasks": 100,
        "seconds": 4.0,
        "tasksPerSecond": 25.0,
        "p50Ms": 1.0,
        "p95Ms": 2.0,
        "p99Ms": 2.0,
    }


def test_an_own_agent_does_the_tasks_and_leaves(command: Any, world: Any) -> None:
    done = command("bench", *SHORT, "--json")
    assert done.code == 0, done.err
    throughput, sequential = map(json.loads, done.out.splitlines())
    assert (throughput["name"], throughput["inFlight"]) == ("throughput", 4)
    assert (sequential["name"], sequential["inFlight"]) == ("sequential", 1)
    for phase in (throughput, sequential):
        assert phase["durability"] == "memory"
        assert phase["tasks"] >= phase["inFlight"]
        assert 0 < phase["p50Ms"] <= phase["p95Ms"] <= phase["p99Ms"]
    agents = [json.loads(line)["agent"] for line in command("agent", "ls", "--json").out.splitlines()]
    assert agents == ["helper"], "its own is forgotten"
    states = {json.loads(line)["metadata"]["state"] for line in command("task", "ls", "--json").out.splitlines()}
    assert states == {"completed"}


def test_an_own_agent_stays_known_where_nobody_is_an_operator(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def member(connection: Connection) -> Client:
        return connect(connection.url, token=connection.token)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "client", member)
        assert command("bench", *SHORT).code == 0
    agents = [json.loads(line) for line in command("agent", "ls", "--json").out.splitlines()]
    (own,) = [agent for agent in agents if agent["agent"] != "helper"]
    assert (own["agent"].endswith("#bench"), own["status"]) == (True, "away")


def test_an_own_agent_that_cannot_be_forgotten_yet_spoils_nothing(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(client: Client, agent: str) -> bool:
        raise Denied(f"{agent} works on task main-1, or did, or was offered it, and it is open")

    monkeypatch.setattr(Client, "forget", forget)
    done = command("bench", *SHORT)
    assert (done.code, done.err) == (0, "durability: memory\n")


@asynccontextmanager
async def at_work(agent: Agent, url: str) -> AsyncIterator[None]:
    stop, ready = anyio.Event(), anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(partial(agent.run, url, stop=stop, ready=ready.set))
        await ready.wait()
        yield
        stop.set()


def test_two_at_once_would_measure_each_other(command: Any, world: Any) -> None:
    name = f"{getpass.getuser()}#bench"
    other = Agent(name)
    other.skill(lambda: None, id="bench")
    with world.portal.wrap_async_context_manager(at_work(other, world.url)):
        done = command("bench", *SHORT)
    assert (done.code, f"{name} is connected already" in done.err) == (1, True), done.err


def test_for_a_person_it_is_a_table(command: Any, world: Any) -> None:
    done = command("bench", *SHORT)
    heads, throughput, sequential = done.out.splitlines()
    assert heads.split() == ["in", "flight", "tasks/s", "p50", "ms", "p95", "ms", "p99", "ms", "tasks"]
    assert throughput.split()[:2] == ["throughput", "4"]
    assert sequential.split()[:2] == ["sequential", "1"]
    assert done.err == "durability: memory\n"


def test_agents_with_a_skill_do_the_tasks(command: Any, world: Any) -> None:
    done = command("bench", "--skill", "double", "number=21", "--acceptance", "delegator", *SHORT, "--json")
    assert done.code == 0, done.err
    tasks = [json.loads(line) for line in command("task", "ls", "--json").out.splitlines()]
    assert {(task["metadata"]["skill"], task["metadata"]["state"]) for task in tasks} == {("double", "completed")}
    assert {task["metadata"]["evaluator"] for task in tasks} == {"delegator"}


def test_where_nobody_has_the_skill_nothing_is_delegated(command: Any, world: Any) -> None:
    done = command("bench", "--skill", "nothing", *SHORT)
    assert (done.code, done.err) == (1, "a2a: no agent with the skill nothing is ready: the tasks would wait for one\n")
    assert command("task", "ls", "--json").out == ""


def test_a_task_that_fails_ends_it(command: Any, world: Any) -> None:
    done = command("bench", "--skill", "double", "number=x", *SHORT)
    assert done.code == 5, done.err


def test_it_ends_with_the_time_it_has(command: Any, world: Any) -> None:
    done = command("bench", "--seconds", "60", "--timeout", "0.5")
    assert (done.code, done.err) == (4, "a2a: not done within 0.5 s\n")


@pytest.mark.parametrize("given", [("a=1",), ("--in-flight", "0"), ("--seconds", "0"), ("--seconds", "nan")])
def test_what_does_not_go_together(command: Any, given: tuple[str, ...]) -> None:
    assert command("bench", *given).code == 2
