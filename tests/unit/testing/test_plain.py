"""What plain functions wait for."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import anyio.to_thread

from a2a import Agent, SyncTaskContext
from a2a.testing import squad
from a2a.testing.plain import waits

BOUND = 20


async def test_a_plain_function_is_at_work_but_where_it_waits_for_the_squad() -> None:
    agent, began, go_on = Agent("asker"), threading.Event(), threading.Event()

    @agent.skill
    def ask(task: SyncTaskContext) -> str:
        began.set()
        go_on.wait(BOUND)
        return str(task.ask("sure?"))

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            runners = running._course._runners
            assert waits(runners()) == {}
            async with running.client.delegate("ask") as task:
                await anyio.to_thread.run_sync(began.wait)
                ((key, wait),) = waits(runners()).items()
                assert (key[0], wait) == (task.id, None)
                go_on.set()
                number, _ = await task.question()
                while waits(runners())[key] is None:
                    await anyio.lowlevel.checkpoint()  # its thread is on the way to its wait
                assert waits(runners())[key] is waits(runners())[key]
                await task.answer(number, "yes")
                assert await task.result() == "yes"
            assert waits(runners()) == {}
