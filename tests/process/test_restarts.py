"""A coordinator that is started over and over, and one that is started beside another."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

import a2a
from a2a import Agent, LinkSettings
from tests.chaos.audit import Heard, judge, read_ledger
from tests.chaos.processes import Post

pytestmark = pytest.mark.timeout(240)

BOUND = 150.0
RESTARTS = 9


def coordinator(name: str, folder: Path, listen: str = "127.0.0.1:0") -> Post:
    command = ("-m", "a2a", "coordinator", "run", "--listen", listen, "--db", str(folder / "ledger.db"), "--ready-json")
    return Post(name, command, folder, {"A2A_STATE_DIR": str(folder / "state")})


async def test_restarts_in_a_row_lose_nothing_and_count_epochs(tmp_path: Path) -> None:
    """Killed as soon as it is ready, while everybody is at the door; every third time before it has got that far."""
    agent, heard = Agent("doubler"), Heard()

    @agent.skill
    async def double(number: int) -> int:
        return 2 * number

    first = coordinator("first", tmp_path)
    try:
        await first.start()
        ready = json.loads(await first.line())
        again = coordinator("again", tmp_path, ready["url"].removeprefix("ws://"))
        token = Path(ready["tokenFile"]).read_text().strip()
        settings = LinkSettings(url=ready["url"], token=token, secrets={}, patience=float("inf"))
        async with asyncio.timeout(BOUND), a2a.connect(name="client", settings=settings) as client:
            serving = asyncio.create_task(agent.run(settings=settings))
            assert await client.call("double", {"number": 0}) == 0  # everybody has been here

            async def delegate(number: int) -> None:
                key = f"key-{number}"
                async with client.delegate("double", {"number": number}, key, losses=RESTARTS) as task:
                    heard.tasks[key] = task.id
                    value = await task.result()
                heard.values[key] = value

            epochs = [ready["epoch"]]
            await first.kill()
            async with asyncio.TaskGroup() as group:
                for number in range(RESTARTS):
                    group.create_task(delegate(number))
                    await again.start()
                    if number % 3 != 2:
                        epochs.append(json.loads(await again.line())["epoch"])
                    await again.kill()
                await again.start()
                epochs.append(json.loads(await again.line())["epoch"])
            assert heard.values == {f"key-{number}": 2 * number for number in range(RESTARTS)}
            assert epochs == sorted(set(epochs))
            serving.cancel()
            await asyncio.wait([serving])
        await again.end()
    finally:
        await first.clear_away()
        await again.clear_away()
    found = judge(await read_ledger(tmp_path / "ledger.db"), heard)
    assert (found.wrong(), found.tasks) == ([], RESTARTS + 1)


async def test_a_second_coordinator_on_a_ledger_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    first, second = coordinator("first", tmp_path), coordinator("second", tmp_path)
    try:
        await first.start()
        ready = json.loads(await first.line())
        await second.start()
        assert await second.process.wait() == 1
        assert f"another process (pid {first.process.pid}) has this ledger open" in second.last_words()
        token = Path(ready["tokenFile"]).read_text().strip()
        settings = LinkSettings(url=ready["url"], token=token, secrets={})
        async with asyncio.timeout(BOUND), a2a.connect(name="client", settings=settings) as client:
            assert await client.list() == [], "the first one goes on"
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
        await second.start()
        assert json.loads(await second.line())["epoch"] == 2, "the lock went with its holder"
        await second.end()
    finally:
        await first.clear_away()
        await second.clear_away()
