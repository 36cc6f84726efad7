"""The gremlin, beside agents that mean well; a whole run beside it is in `tests/process/test_squad.py`."""

from __future__ import annotations

from typing import Any

import anyio

from a2a import Agent
from a2a.testing import squad
from reference_agents.maintenance.gremlin import JUDGE, NAME, VICTIM, act, proposal

BOUND = 30.0


def coder() -> Agent:
    agent = Agent("coder")

    @agent.skill(takes_value=True)
    async def propose_patch(value: Any) -> Any:
        return "mine"

    return agent


async def test_whatever_it_does_is_answered_kept_as_its_own_and_changes_nothing() -> None:
    said: list[str] = []
    tried = anyio.Event()

    def say(words: str) -> None:
        said.append(words)
        if words.startswith(f"as {JUDGE}"):
            tried.set()

    ladder = [{"strategy": "human", "timeoutMs": 60_000}]
    with anyio.fail_after(BOUND):
        async with squad(coder(), Agent(JUDGE)) as up, anyio.create_task_group() as group:
            group.start_soon(act, up.url, up.settings.token or "", say)
            async for change in up.client.watch_agents("propose_patch"):
                if change.agent.agent_id == NAME:
                    break
            async with up.client.delegate("propose_patch", {}, copies=2, resolve=ladder) as task:
                await tried.wait()
                [conflict] = await up.client.conflicts()
                record = await up.client.conflict(conflict["conflict"])
                mine = {it["agent"]: it["ref"] for it in record["subjects"]}
                await up.client.resolve(conflict["conflict"], mine["coder"])
                assert await task.result() == "mine"
            kept = {
                agent: [it["verdict"] for it in (await up.client.get(ref))["metadata"].get("evidence", ())]
                for agent, ref in mine.items()
            }
            group.cancel_scope.cancel()
    assert {it["agent"]: it["value"] for it in record["subjects"]} == {"coder": "mine", NAME: proposal(NAME)}
    assert proposal(NAME)["agent"] == VICTIM, "it says that it is somebody else"
    assert kept == {NAME: ["not_holder", "late"], "coder": ["not_holder"]}
    assert [it["stance"] for it in record["positions"]] == ["all others are wrong"], "the last word counts"
    assert said.count("error forbidden") == 2, "it votes twice, and never may"
    [refusal] = [words for words in said if words.startswith("as ")]
    assert "task.verdict duplicate" in said and '"code":"auth"' in refusal.replace(" ", "")
