"""Every documented way a conflict may go, with agents that answer as the case wants, in a process of its own.

`python -m tests.process.conflict_cases --runs N` does all of it in N fresh processes, under two hash seeds in turn:
each has to come to the same, and each ledger has to prove it. Such a process is started as `play LEDGER` and prints one
line of JSON a case; `judge URL TOKEN` is a judge that dies over its first case.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from a2a import Agent, LinkSettings, TaskContext, TaskFailed
from a2a.engine.policy import Durations, Policy
from a2a.stores.sqlite import SqliteStore
from a2a.testing import Squad, squad
from a2a.tether import tie

__all__ = ["HASH_SEEDS", "wrong_with"]

HASH_SEEDS = ("0", "4711")
BOUND = 200.0
_SILENT = object()
ABORT = {"strategy": "abort"}
MAJORITY = {"strategy": "majority"}
REFUSED = ("reject_all", "abort")


@dataclass(frozen=True)
class Case:
    """What agents answer, by which ladder that is decided, and what comes of it."""

    name: str
    answers: tuple[Any, ...]
    ladder: tuple[dict[str, Any], ...]
    value: Any
    """The result, or for what reason there is none."""
    stages: str
    """Each rung that was tried: + decided, - undecided."""
    outcome: tuple[str, str]
    """How it ended, and by whom."""
    cost: int | None = None
    """What all who are asked may use."""

    @property
    def expected(self) -> dict[str, Any]:
        """What is told of it: the answers that are equal are counted together."""
        given = [answer for answer in self.answers if answer is not _SILENT]
        return {
            "case": self.name,
            "value": self.value,
            "sizes": sorted(given.count(answer) for answer in set(given)),
            "stages": [
                [rung["strategy"], "decided" if mark == "+" else "undecided"]
                for rung, mark in zip(self.ladder, self.stages, strict=False)
            ],
            "outcome": list(self.outcome),
        }


def _judged_by(skill: str, **more: Any) -> dict[str, Any]:
    return {"strategy": "judge", "skill": skill, **more}


BY_VALUE, BY_ORDER = _judged_by("by-value"), _judged_by("by-order")
CASES = (
    Case("two-one", (1, 1, 2), (MAJORITY, ABORT), 1, "+", ("select", "majority")),
    Case("one-one-one", (1, 2, 3), (MAJORITY, ABORT), "unresolved", "-+", REFUSED),
    Case("two-two", (1, 1, 2, 2), (MAJORITY, BY_VALUE, ABORT), 2, "-+", ("select", "judge")),
    Case("silent", (1, 2, _SILENT), (MAJORITY, BY_VALUE, ABORT), 2, "-+", ("select", "judge")),
    Case("flips", (1, 2), (BY_ORDER, ABORT), "unresolved", "-+", REFUSED),
    Case("dies", (1, 2), (_judged_by("mortal", timeoutMs=5_000), ABORT), "unresolved", "-+", REFUSED),
    Case("dear", (1, 2), (_judged_by("at-a-price", costMicro=6), BY_VALUE, ABORT), 2, "-+", ("select", "judge")),
    Case("too-dear", (1, 2), (_judged_by("at-a-price"), BY_VALUE, ABORT), "unresolved", "--+", REFUSED, 6),
    Case("nobody-comes", (1, 2), ({"strategy": "human", "timeoutMs": 200}, ABORT), "unresolved", "-+", REFUSED),
)


# All of it, as often as wanted ----------------------------------------------------------------------------------------


def wrong_with(folder: Path, hash_seed: str) -> list[str]:
    """Have a fresh process play all cases, and return what did not go as documented."""
    ledger = folder / "ledger.db"
    env = os.environ | {"PYTHONHASHSEED": hash_seed, "A2A_STATE_DIR": str(folder / "state")}

    def end(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=BOUND, check=False)

    played = end(__file__, "play", str(ledger))
    if played.returncode:
        return [played.stderr]
    told = {line["case"]: line for line in map(json.loads, played.stdout.splitlines())}
    expected = {case.name: case.expected for case in CASES}
    wrong = [f"{name}: expected {expected[name]}, told {told.get(name)}" for name in expected
             if told.get(name) != expected[name]]  # fmt: skip
    proof = end("-m", "a2a", "replay", str(ledger), "--verify")
    return wrong + ([proof.stdout + proof.stderr] if proof.returncode else [])


def _repeat(runs: int) -> int:
    failed = 0
    for number in range(runs):
        hash_seed = HASH_SEEDS[number % len(HASH_SEEDS)]
        with tempfile.TemporaryDirectory(prefix="a2a-cases-") as folder:
            wrong = wrong_with(Path(folder), hash_seed)
        for detail in wrong:
            print(f"run {number}, hash seed {hash_seed}: {detail}")
        failed += bool(wrong)
    print(f"{len(CASES)} cases, {runs} fresh processes, {len(HASH_SEEDS)} hash seeds: {failed} were not the same")
    return 1 if failed else 0


# One process ----------------------------------------------------------------------------------------------------------


def _expert(number: int) -> Agent:
    """An agent that can answer the cases in which there are so many."""
    agent = Agent(f"expert{number}")
    for case in CASES:
        if number < len(case.answers):
            _teach(agent, case.name, case.answers[number])
    return agent


def _teach(agent: Agent, case: str, answer: Any) -> None:
    async def say() -> Any:
        if answer is _SILENT:
            await anyio.sleep_forever()
        return answer

    agent.skill(id=case)(say)


def _judge() -> Agent:
    agent = Agent("judge")

    @agent.skill(id="by-value")
    async def by_value(task: dict[str, Any], input: list[Any], candidates: list[Any]) -> dict[str, int]:
        values = [candidate[0]["parts"][0]["data"] for candidate in candidates]
        return {"choice": values.index(max(values))}

    @agent.skill(id="by-order")
    async def by_order(task: dict[str, Any], input: list[Any], candidates: list[Any]) -> dict[str, int]:
        return {"choice": 0}

    @agent.skill(id="at-a-price", takes_value=True)
    async def at_a_price(value: Any, task: TaskContext) -> dict[str, int]:
        task.use(cost_micro=3)
        return {"choice": 0}

    return agent


async def _try(case: Case, town: Squad) -> dict[str, Any]:
    copies = len(case.answers)
    value: Any
    try:
        async with town.client.delegate(
            case.name, {}, copies=copies, agree=copies, resolve=case.ladder, resolve_cost=case.cost, acceptance="auto"
        ) as task:
            value = await task.result()
    except TaskFailed as error:
        value = error.reason
    told: dict[str, Any] = {"case": case.name, "value": value}
    for shown in await town.client.conflicts(task=task.id):
        groups = [subject["group"] for subject in shown["subjects"]]
        told["sizes"] = sorted(groups.count(group) for group in set(groups))
        told["stages"] = [[stage["strategy"], stage["outcome"]] for stage in shown["stages"]]
        told["outcome"] = [shown["resolution"]["outcome"], shown["resolution"]["by"]]
    return told


async def _play(ledger: str) -> None:
    # Nobody who is well loses a lease or an offer, however busy the machine is; one that is silent is told to stop.
    policy = Policy(durations=Durations(lease_ms=60_000, offer_ms=60_000, cancel_ms=500), ballot_ms=5_000)
    agents = [*(_expert(number) for number in range(4)), _judge()]
    async with squad(*agents, policy=policy, store=SqliteStore(ledger)) as town:
        command = (sys.executable, __file__, "judge", town.url, town.settings.token or "")
        mortal = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert mortal.stdout is not None, "asked for"
            assert await mortal.stdout.readline() == b"ready\n"
            # Side by side: most of their time is the wait for somebody who does not come.
            for told in await asyncio.gather(*(_try(case, town) for case in CASES)):
                print(json.dumps(told))
            assert await mortal.wait() == 9, "it died over its case"
        finally:
            if mortal.returncode is None:
                mortal.kill()
                await mortal.wait()


async def _be_mortal(url: str, token: str) -> None:
    tie(os.getppid())  # it outlives nobody, however its case ends
    agent = Agent("mortal")

    @agent.skill(id="mortal")
    async def mortal(task: dict[str, Any], input: list[Any], candidates: list[Any]) -> dict[str, int]:
        os._exit(9)

    await agent.run(settings=LinkSettings(url=url, token=token, secrets={}), ready=lambda: print("ready", flush=True))


def main(arguments: Sequence[str]) -> int:
    """Repeat all cases, or be one of the processes that takes."""
    match arguments:
        case ["play", ledger]:
            asyncio.run(_play(ledger))
        case ["judge", url, token]:
            asyncio.run(_be_mortal(url, token))
        case _:
            parser = argparse.ArgumentParser(prog="python -m tests.process.conflict_cases", description=__doc__)
            parser.add_argument("--runs", type=int, default=100, help="how many fresh processes")
            return _repeat(parser.parse_args(arguments).runs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
