"""`a2a claim ...`: who has and who waits for what."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

import a2a
from a2a import Client


@pytest.fixture
def holder(world: Any) -> Any:
    """A client of another principal, for whatever a test wants to have claimed."""

    async def enter() -> Client:
        return await a2a.connect(world.url, name="holder").__aenter__()

    client = world.call(enter)
    yield client
    world.call(client.aclose)


def entered(world: Any, claim: Any) -> Any:
    return world.call(claim.__aenter__)


def test_nobody_has_anything(command: Any, world: Any) -> None:
    done = command("claim", "ls")
    assert (done.code, done.out, done.err) == (0, "", "nobody holds or waits for anything\n")
    assert command("claim", "ls", "--name", "repo/a").err == "nobody holds or waits for repo/a\n"


def test_a_task_without_claims_and_one_that_is_none_are_told_apart(command: Any, world: Any, holder: Any) -> None:
    async def delegate() -> str:
        async with holder.delegate("anything", "x", key="one") as handle:
            return str(handle.id)

    task = world.call(delegate)
    done = command("claim", "ls", "--task", task)
    assert (done.code, done.err) == (0, f"task {task} neither holds nor waits for anything\n")
    wrong = command("claim", "ls", "--task", "main-999999")
    assert wrong.code == 1 and "main-999999" in wrong.err


def test_who_holds_and_who_waits(command: Any, world: Any, holder: Any) -> None:
    claim = entered(world, holder.claim("repo/**", ("doc", "s"), ttl=90))

    async def wait() -> None:
        async def second() -> None:
            async with holder.claim("repo/a", wait=30, priority=1):
                raise AssertionError("it is not free")

        async with anyio.create_task_group() as group:
            group.start_soon(second)
            while len(await holder.claims()) < 2:
                await anyio.lowlevel.checkpoint()
            shown.append(await anyio.to_thread.run_sync(lambda: command("claim", "ls")))
            shown.append(await anyio.to_thread.run_sync(lambda: command("claim", "ls", "--json", "--name", "repo/a")))
            group.cancel_scope.cancel()

    shown: list[Any] = []
    world.call(wait)
    head, held, waiting = shown[0].out.splitlines()
    assert head.split() == ["FENCE", "STATE", "NAMES", "OWNER", "FOR", "NOTE"]
    assert held.split()[:5] == [str(claim.fence), "held", "doc", "(shared)", "repo/**"]
    assert "for 1 min" in held
    assert waiting.split()[:3] == ["-", "waiting", "repo/a"]
    assert f"waits for repo/** of {holder.agent_id}" in waiting
    records = [json.loads(line) for line in shown[1].out.splitlines()]
    assert [record["state"] for record in records] == ["held", "waiting"]
    assert records[0]["claimFence"] == claim.fence


def test_a_claim_is_given_back_by_an_operator(command: Any, world: Any, holder: Any) -> None:
    claim = entered(world, holder.claim("repo"))
    done = command("claim", "release", str(claim.fence))
    assert (done.code, done.err) == (0, f"nobody holds the claim with fence {claim.fence} now\n")
    assert world.call(holder.claims) == []
    again = command("claim", "release", str(claim.fence), "--json")
    assert json.loads(again.out) == {"claimFence": claim.fence, "state": "released", "wasHeld": False}


def test_giving_back_what_nobody_has_is_told_as_that(command: Any, world: Any, holder: Any) -> None:
    claim = entered(world, holder.claim("repo"))
    told = json.loads(command("claim", "release", str(claim.fence), "--json").out)
    assert told == {"claimFence": claim.fence, "state": "released", "wasHeld": True}
    again = command("claim", "release", str(claim.fence))
    assert again.code == 0, "it is so already"
    assert again.err == f"no claim has fence {claim.fence}, or it has already ended: nothing was given back\n"


def test_the_fence_of_a_task_is_not_taken_for_its_claims(command: Any, world: Any, gate: Any) -> None:
    task = command("delegate", "wait", "--resource", "repo/a", "--no-wait").out.strip()
    world.call(gate.begun.wait)
    shown = json.loads(command("claim", "ls", "--json").out)
    attempt = json.loads(command("task", "show", task, "--json").out)["metadata"]["fence"]
    assert "fence" not in shown
    assert shown["attemptFence"] == attempt
    assert command("claim", "ls").out.splitlines()[1].split()[0] == str(shown["claimFence"])
    world.call(gate.open.set)


def test_a_fence_nobody_has_is_told(command: Any, world: Any) -> None:
    done = command("claim", "release", "99999")
    assert done.code == 1
    assert "no fence 99999 was minted yet" in done.err


def test_a_task_waits_for_its_resources(command: Any, world: Any, holder: Any) -> None:
    claim = entered(world, holder.claim("repo/**"))
    words = ("delegate", "count_words", "text=a b", "--resource", "repo/a", "--resource", "doc")
    done = command(*words, "--no-wait", "--key", "k")
    assert done.code == 0
    (waiting,) = [shown for shown in world.call(holder.claims) if shown["state"] == "waiting"]
    assert waiting["claims"] == [{"name": "doc", "mode": "x"}, {"name": "repo/a", "mode": "x"}]
    world.call(lambda: claim.__aexit__(None, None, None))
    assert command(*words, "--key", "k").code == 0
