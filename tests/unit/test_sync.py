"""The blocking client, from a thread that has no event loop."""

from __future__ import annotations

import anyio
import pytest

from a2a import Agent, TaskFailed, sync
from a2a.testing import Squad, squad


def use(running: Squad) -> None:
    with sync.connect(settings=running.settings, name="script") as client:
        with client.delegate("count_words", {"text": "a b"}, key="k") as task:
            assert task.created
            assert [event.kind for event in task.events()][-1] == "report"
            assert task.result() == {"words": 2}
        assert client.get(task.id)["metadata"]["state"] == "completed"
        assert client.call("echo", [1]) == [1]
        assert [agent.agent_id for agent in client.find("count_words")] == ["helper"]
        assert client.refused_hellos("nobody") == []
        assert len(client.list(limit=1)) == 1
        with client.delegate("sure") as asking:
            number, _ = asking.question()
            asking.answer(number, "no")
            assert asking.result() is False
        with client.delegate("draft") as draft:
            draft.result()
            draft.reject("more")
            assert draft.result() == "draft more"
        with pytest.raises(TaskFailed):
            client.call("fail")


async def test_everything_blocks_until_it_is_there(helper: Agent) -> None:
    with anyio.fail_after(20):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(use, running)


def test_a_client_is_entered_first() -> None:
    with pytest.raises(RuntimeError, match="enter the client first"):
        sync.connect().call("x")
