"""The blocking client, from a thread that has no event loop."""

from __future__ import annotations

import anyio
import pytest

from a2a import Agent, Client, TaskFailed, TaskHandle, sync
from a2a.errors import NotFound
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


def more(running: Squad) -> None:
    settings = running.settings
    with sync.connect(settings=settings, name="script", operator=True) as client:
        assert client.agent_id.startswith("script#") and client.is_operator and client.durability == "memory"
        with client.delegate("count_words", {"text": "a b"}, key="k", context_id="c") as task:
            assert (task.key, task.context_id, task.stale_basis) == ("k", "c", {})
            assert task.artifacts()[0]["parts"] == [{"data": {"words": 2}}]
        assert [event.kind for event in client.watch(task.id)][-1] == "complete"
        assert client.outcome(task.id)["state"] == "completed"
        with client.redrive(client.get(task.id)) as again:
            assert again.result() == {"words": 2}
        with client.claim("doc") as claim:
            (held,) = client.claims("doc")
            assert held["claimFence"] == claim.fence
            client.release(claim.fence)
        joined = next(client.watch_agents("count_words"))
        assert (joined.change, joined.agent.agent_id) == ("joined", "helper")
        client.drain("helper")
        with pytest.raises(NotFound):
            client.take_position("main-k99", "no")
        with pytest.raises(NotFound):
            client.appeal("main-k99", "new_evidence")
        values = client.context("c").watch()
        client.context("c").put("a", 1)
        assert next(values).value == 1
    values.close()  # the client has gone before, and its watch with it


async def test_nothing_that_a_client_can_do_is_left_out(helper: Agent) -> None:
    inside = {"changed", "follow_context", "next_event", "next_written", "noticed", "unfollow_context", "written"}
    inside |= {"aclose", "waits_for_me"}
    for blocking, other in ((sync.Client, Client), (sync.TaskHandle, TaskHandle)):
        assert {name for name in dir(other) if not name.startswith("_")} - inside <= set(dir(blocking))
    with anyio.fail_after(20):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(more, running)


def test_a_client_is_entered_first() -> None:
    with pytest.raises(RuntimeError, match="enter the client first"):
        sync.connect().call("x")
