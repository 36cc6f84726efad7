"""The gremlin, beside agents that mean well; a whole run beside it is in `tests/process/test_squad.py`."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.to_thread
import pytest

from a2a import Agent
from a2a.cli.main import run
from a2a.testing import squad
from reference_agents.maintenance.gremlin import JUDGE, NAME, VICTIM, act, main, proposal

BOUND = 30.0


def coder() -> Agent:
    agent = Agent("coder")

    @agent.skill(takes_value=True)
    async def propose_patch(value: Any) -> Any:
        return "mine"

    return agent


def judge() -> Agent:
    agent = Agent(JUDGE)

    @agent.skill
    async def judge_patch() -> str:
        return "good"

    return agent


async def test_whatever_it_does_is_answered_kept_as_its_own_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    tried = anyio.Event()

    def say(words: str) -> None:
        said.append(words)
        if words.startswith(f"as {JUDGE}"):
            tried.set()

    ladder = [{"strategy": "human", "timeoutMs": 60_000}]
    with anyio.fail_after(BOUND):
        async with squad(coder(), judge()) as up, anyio.create_task_group() as group:
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
            monkeypatch.setenv("A2A_URL", up.url)
            monkeypatch.setenv("A2A_TOKEN", up.settings.token or "")

            async def shown(*command: str) -> list[str]:
                capsys.readouterr()
                await anyio.to_thread.run_sync(run, list(command))
                lines = capsys.readouterr().out.splitlines()
                return [line.split(": ")[0].split(None, 1)[1] for line in lines if line.startswith("  refused")]

            refused = {
                "its own task": await shown("task", "show", mine[NAME]),
                "another's": await shown("task", "show", mine["coder"]),
                "the conflict": await shown("conflict", "show", conflict["conflict"]),
                "the judge": await shown("agent", "show", JUDGE),
            }
            group.cancel_scope.cancel()
    assert refused == {
        "its own task": [f"task.report of {NAME}", f"task.checkpoint of {NAME}", f"task.report of {NAME}"],
        "another's": [f"task.heartbeat of {NAME}"],
        "the conflict": [f"conflict.vote of {NAME}"] * 2,
        "the judge": [f"hello of {JUDGE}"],
    }
    assert {it["agent"]: it["value"] for it in record["subjects"]} == {"coder": "mine", NAME: proposal(NAME)}
    assert proposal(NAME)["agent"] == VICTIM, "it says that it is somebody else"
    assert kept == {NAME: ["not_holder", "late"], "coder": ["not_holder"]}
    assert [it["stance"] for it in record["positions"]] == ["all others are wrong"], "the last word counts"
    assert said.count("error forbidden") == 2, "it votes twice, and never may"
    [refusal] = [words for words in said if words.startswith("as ")]
    assert "task.verdict duplicate" in said and '"code":"auth"' in refusal.replace(" ", "")


def test_without_a_coordinator_it_says_what_is_not_set(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A2A_URL", "ws://127.0.0.1:1")
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "gremlin: A2A_TOKEN not set: they name the coordinator to connect to\n"
