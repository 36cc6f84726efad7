"""Every documented way a conflict may go, with agents that answer as the case wants: one line of JSON a case.

Started by the test beside it as `conflict_cases.py LEDGER`, and by itself as `conflict_cases.py judge URL TOKEN`, to be
a judge that dies over its first case.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

import anyio

from a2a import Agent, LinkSettings, TaskFailed
from a2a.engine.policy import Durations, Policy
from a2a.stores.sqlite import SqliteStore
from a2a.testing import Squad, squad
from a2a.tether import tie

_SILENT = object()
ABORT = {"strategy": "abort"}
MAJORITY = {"strategy": "majority"}


@dataclass(frozen=True)
class Case:
    """What agents answer, and by which ladder that is decided."""

    name: str
    answers: tuple[Any, ...]
    ladder: tuple[dict[str, Any], ...]


def _judged_by(skill: str, **more: Any) -> dict[str, Any]:
    return {"strategy": "judge", "skill": skill, **more}


CASES = (
    Case("two-one", (1, 1, 2), (MAJORITY, ABORT)),
    Case("one-one-one", (1, 2, 3), (MAJORITY, ABORT)),
    Case("two-two", (1, 1, 2, 2), (MAJORITY, _judged_by("by-value"), ABORT)),
    Case("silent", (1, 2, _SILENT), (MAJORITY, _judged_by("by-value"), ABORT)),
    Case("flips", (1, 2), (_judged_by("by-order"), ABORT)),
    Case("dies", (1, 2), (_judged_by("mortal", timeoutMs=5_000), ABORT)),
    Case("nobody-comes", (1, 2), ({"strategy": "human", "timeoutMs": 200}, ABORT)),
)


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

    return agent


async def _try(case: Case, town: Squad) -> dict[str, Any]:
    copies = len(case.answers)
    value: Any
    try:
        async with town.client.delegate(
            case.name, {}, copies=copies, agree=copies, resolve=case.ladder, acceptance="auto"
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


async def _run(ledger: str) -> None:
    # Nobody who is well loses a lease or an offer, however busy the machine is; one that is silent is told to stop.
    policy = Policy(durations=Durations(lease_ms=60_000, offer_ms=60_000, cancel_ms=500), ballot_ms=5_000)
    agents = [*(_expert(number) for number in range(4)), _judge()]
    async with squad(*agents, policy=policy, store=SqliteStore(ledger)) as town:
        command = (sys.executable, __file__, "judge", town.url, town.settings.token or "")
        mortal = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        try:
            assert mortal.stdout is not None, "asked for"
            assert await mortal.stdout.readline() == b"ready\n"
            for case in CASES:
                print(json.dumps(await _try(case, town)), flush=True)
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


if __name__ == "__main__":
    asyncio.run(_be_mortal(*sys.argv[2:]) if sys.argv[1] == "judge" else _run(sys.argv[1]))
