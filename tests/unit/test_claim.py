"""Claims in the hands of whoever made them: clients, handlers, plain functions."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise
from typing import Any

import anyio
import pytest

import a2a.claim
import a2a.sync
from a2a import (
    Agent,
    ClaimLost,
    ConnectionLost,
    Deadlock,
    Denied,
    LeaseLapsed,
    Policy,
    Server,
    SyncTaskContext,
    TaskContext,
    TaskFailed,
)
from a2a.claim import Claim, acquire, resources
from a2a.errors import LocalProtocolError, StaleFence, Unavailable
from a2a.protocol.messages import ClaimAcquire, ClaimRelease, ClaimRenew
from a2a.testing import squad
from a2a.testing.squad import QUICK, Squad

BOUND = 20


async def waiting(running: Squad, count: int = 1) -> None:
    """Wait until so many claims stand in line."""
    while sum(claim["state"] == "waiting" for claim in await running.client.claims()) < count:
        await anyio.lowlevel.checkpoint()


async def settled(running: Squad) -> None:
    """Wait until nothing is claimed any more."""
    while await running.client.claims():
        await anyio.lowlevel.checkpoint()


def test_names_have_a_mode_of_their_own_or_that_of_all() -> None:
    assert resources(["a", ("b", "x")], "s") == [{"name": "a", "mode": "s"}, {"name": "b", "mode": "x"}]
    assert resources([["a", "x"]], "s") == [{"name": "a", "mode": "x"}], "as what was read from JSON has it"  # type: ignore[list-item]
    with pytest.raises(LocalProtocolError, match="at least one name"):
        acquire(1, [])
    made = acquire(7, ["a"], attempt=("main-1", 2), wait=1.5, ttl=0.5, priority=3, preemptible=True)
    assert (made.task, made.fence, made.wait_ms, made.ttl_ms, made.priority, made.preemptible) == (
        "main-1",
        2,
        1_500,
        500,
        3,
        True,
    )


@pytest.mark.parametrize("given", [["a", "b"], ["a", "b", "c"], ("a", "q"), ("a",), (5, "x"), 5, None])
def test_what_is_no_name_is_told_as_it_was_given(given: Any) -> None:
    with pytest.raises(ValueError, match=r"^expected a name, or a name with its mode .*, got ") as told:
        acquire(1, [given])
    assert str(told.value).endswith(f"got {given!r}")


async def test_who_asks_again_and_is_still_in_line_waits_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a.claim, "_ASKED_AGAIN", 0.01)
    asked = 0
    with anyio.fail_after(BOUND):
        async with squad() as running:
            client, call = running.client, running.client.link.call

            async def calling(message: Any) -> Any:
                nonlocal asked
                asked += isinstance(message, ClaimAcquire)
                return await call(message)

            monkeypatch.setattr(client.link, "call", calling)
            async with client.claim("a"):
                waiting = asyncio.create_task(client.claim("a", wait=60).__aenter__())
                while asked < 5:
                    await anyio.lowlevel.checkpoint()
                assert not waiting.done()
            async with AsyncExitStack() as stack:
                stack.push_async_exit(await waiting)


async def test_who_gives_up_to_wait_stands_in_line_no_more_and_who_has_left_renews_nothing() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            client = running.client
            async with client.claim("a", ttl=30) as claim:
                with pytest.raises(Denied):
                    await client.claim("a").__aenter__()
                assert list(client._claims.values()) == [claim]
                waiting = asyncio.create_task(client.claim("a", wait=60).__aenter__())
                while len(await client.claims("a")) < 2:
                    pass
                waiting.cancel()
                await asyncio.wait([waiting])
                while len(await client.claims("a")) > 1:
                    pass
            renewing = claim._renewing
            assert renewing is not None
            await asyncio.wait([renewing])
            assert renewing.cancelled() and not client._claims


async def test_a_claim_is_held_inside_the_block_with_growing_fences() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            async with running.client.claim("repo/a/src/**") as claim:
                first = claim.fence
                claim.check()
                with pytest.raises(Denied) as denied:
                    async with other.claim("repo/a/src/x"):
                        pass
                assert denied.value.data["holders"][0]["claimFence"] == first
            await settled(running)
            with pytest.raises(ClaimLost, match="given back"):
                claim.check()
            async with other.claim("repo/a/src/x") as later:
                assert later.fence > first


async def test_a_claim_waits_for_its_turn_and_no_longer_than_it_may() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other, AsyncExitStack() as held:
            first = await held.enter_async_context(running.client.claim("a"))
            with pytest.raises(Denied, match="time to wait is over"):
                async with other.claim("a", wait=0.05):
                    pass
            entered: list[int] = []

            async def second() -> None:
                async with other.claim("a", wait=10) as claim:
                    entered.append(claim.fence)

            async with anyio.create_task_group() as group:
                group.start_soon(second)
                await waiting(running)
                assert entered == []
                await held.aclose()
            assert entered[0] > first.fence


async def test_a_grant_that_comes_late_is_no_claim_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[Any] = []
    noticed = Claim._noticed
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other, running.connect("third") as third:
            late = other.claim("a", wait=10, ttl=0.1)

            def delay(claim: Claim, message: Any) -> None:
                under_way.append(message) if claim is late else noticed(claim, message)

            monkeypatch.setattr(Claim, "_noticed", delay)
            async with running.client.claim("a"):
                entering = asyncio.create_task(late.__aenter__())
                await waiting(running)
            async with third.claim("a", wait=10):
                [granted] = under_way
                noticed(late, granted)
                with pytest.raises(Denied, match=f"fence {granted.claim_fence}, and ended before") as denied:
                    await entering
                assert denied.value.retryable
            await settled(running)


@pytest.mark.parametrize("ttl", [None, 30])
async def test_a_word_that_another_process_got_is_asked_for(monkeypatch: pytest.MonkeyPatch, ttl: float | None) -> None:
    monkeypatch.setattr("a2a.claim._ASKED_AGAIN", 0.05)
    monkeypatch.setattr(Claim, "_noticed", lambda claim, message: None)
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            async with running.client.claim("a"):
                entering = asyncio.create_task(other.claim("a", wait=10, ttl=ttl).__aenter__())
                await waiting(running)
            claim = await entering
            assert claim.fence > 0
            claim.check()
            await claim.__aexit__(None, None, None)
            await settled(running)


async def test_whoever_stops_waiting_is_out_of_the_line() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            async with running.client.claim("a"):

                async def impatient() -> None:
                    async with other.claim("a", wait=10):
                        raise AssertionError("it was not free")

                async with anyio.create_task_group() as group:
                    group.start_soon(impatient)
                    await waiting(running)
                    group.cancel_scope.cancel()
                while len(await running.client.claims()) > 1:
                    await anyio.lowlevel.checkpoint()
            await settled(running)


async def test_a_claim_without_a_task_is_renewed_while_the_block_lasts() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other, running.client.claim("a", ttl=1) as claim:
            with pytest.raises(Denied):
                async with other.claim("a", wait=1.5):
                    pass
            claim.check()


async def test_a_claim_that_is_not_renewed_in_time_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a.claim, "_RENEW", 1_000)
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other, running.client.claim("a", ttl=0.3) as claim:
            async with other.claim("a", wait=5) as theirs:
                assert theirs.fence > claim.fence
            with pytest.raises(ClaimLost, match="not renewed in time"):
                claim.check()


async def test_a_claim_that_was_taken_is_known_with_the_next_renewal() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other, other.claim("a", ttl=0.3) as claim:
            await running.client.release(claim.fence)
            while not claim._lost:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(ClaimLost, match="no claim is held under fence"):
                claim.check()


def without_an_answer(
    monkeypatch: pytest.MonkeyPatch, running: Squad, kind: type[Any], times: float, **said: Any
) -> list[int]:
    """Have so many requests of a kind refused as the coordinator cannot answer now, and note when they were made."""
    link, call = running.client.link, running.client.link.call
    asked: list[int] = []

    async def calling(message: Any) -> Any:
        if isinstance(message, kind):
            asked.append(link.now())
            if len(asked) <= times:
                raise Unavailable("the archive cannot be read", **{"retryable": True, **said})
        return await call(message)

    monkeypatch.setattr(link, "call", calling)
    return asked


async def test_a_renewal_that_has_no_answer_now_is_said_again_and_counts_from_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            asked = without_an_answer(monkeypatch, running, ClaimRenew, 3)
            async with running.client.claim("a", ttl=5) as claim:
                until = claim._until
                while claim._until == until:  # noqa: ASYNC110 - nobody tells of it
                    await anyio.sleep(0.02)
                claim.check()
                assert asked[2] + 4500 < claim._until <= asked[3] + 4500
                assert [later - sooner >= 20 for sooner, later in pairwise(asked)] == [True] * 3


async def test_a_renewal_that_has_no_answer_for_as_long_as_the_claim_lasts_is_a_lost_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            without_an_answer(monkeypatch, running, ClaimRenew, float("inf"))
            async with running.client.claim("a", ttl=0.3) as claim:
                assert claim._renewing is not None
                await asyncio.wait([claim._renewing])
                with pytest.raises(ClaimLost, match="the archive cannot be read"):
                    claim.check()


async def test_a_renewal_that_is_refused_for_good_is_a_lost_claim_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            asked = without_an_answer(monkeypatch, running, ClaimRenew, 1, retryable=False)
            async with running.client.claim("a", ttl=0.3) as claim:
                assert claim._renewing is not None
                await asyncio.wait([claim._renewing])
                assert (len(asked), claim._lost) == (1, "the archive cannot be read")


async def test_a_claim_that_has_no_answer_now_is_asked_for_again_and_its_time_counts_from_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            asked = without_an_answer(monkeypatch, running, ClaimAcquire, 1, retry_after=0.2)
            async with running.client.claim("a", ttl=30) as claim:
                assert asked[1] - asked[0] >= 190
                assert asked[0] < claim._until - 27_000 <= asked[1], "its time counts from when it was asked again"


async def test_a_claim_that_has_no_answer_for_long_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a2a.claim, "SAID_AGAIN_FOR", 0.0)
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("other") as other:
            without_an_answer(monkeypatch, running, ClaimRenew, 1)
            async with other.claim("a"):
                entering = asyncio.create_task(running.client.claim("a", wait=10, ttl=30).__aenter__())
                await waiting(running)
            with pytest.raises(Unavailable):  # granted by mailbox, and not renewed
                await entering
            await settled(running)
            assert not running.client._claims


async def test_a_renewal_that_is_under_way_when_the_link_ends_leaves_no_error_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("owner") as client:
            async with client.claim("a", ttl=0.3) as claim:
                assert claim._renewing is not None
                transport = client.link._transport
                assert transport is not None
                with monkeypatch.context() as patched:
                    patched.setattr(Server, "_received", lambda *_: None)  # no answer will come
                    while not client.link.session.waiting:
                        await anyio.lowlevel.checkpoint()
                client._identity.secret = "another"
                transport.abort()
                await asyncio.wait([claim._renewing])
                assert claim._renewing.exception() is None
            with pytest.raises(ConnectionLost, match=r"the link is closed: .* refused owner#.*: auth: "):
                await client.claims()


async def test_a_claim_is_called_back_and_then_lost() -> None:
    policy = Policy(durations=QUICK, claim_grace_ms=50)
    with anyio.fail_after(BOUND):
        async with (
            squad(policy=policy) as running,
            running.connect("other") as other,
            running.client.claim("a", preemptible=True) as low,
            other.claim("a", wait=10, priority=1) as high,
        ):
            assert low.stopping.endswith("has priority 1")
            assert high.fence > low.fence
            with pytest.raises(ClaimLost, match="priority 1"):
                while True:
                    low.check()
                    await anyio.lowlevel.checkpoint()


async def test_a_circle_is_refused_to_one_and_the_other_goes_on() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("one") as one, running.connect("two") as two:
            done = anyio.Event()

            async def first() -> None:
                async with one.claim("a"):
                    ready.set()
                    await go.wait()
                    async with one.claim("b", wait=10, priority=1):
                        done.set()

            ready, go = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(first)
                await ready.wait()
                async with two.claim("b"):
                    go.set()
                    await waiting(running)
                    with pytest.raises(Deadlock) as deadlock:
                        async with two.claim("a", wait=10):
                            pass
                assert [step["name"] for step in deadlock.value.data["cycle"]] == ["a", "b"]
            assert done.is_set()


async def test_a_wait_that_is_given_up_for_another_raises_deadlock_too() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("one") as one, running.connect("two") as two:
            ready, caught = anyio.Event(), []

            async def first() -> None:
                async with one.claim("a"):
                    ready.set()
                    await go.wait()
                    with pytest.raises(Deadlock) as deadlock:
                        async with one.claim("b", wait=10):
                            pass
                    caught.append(deadlock.value)

            go = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(first)
                await ready.wait()
                async with two.claim("b"):
                    go.set()
                    await waiting(running)
                    async with two.claim("a", wait=10, priority=1):
                        pass
            assert len(caught[0].data["cycle"]) == 2


async def test_the_end_of_the_link_ends_a_wait() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.client.claim("a"):
            other = running.connect("other")
            async with other:
                task = asyncio.create_task(other.claim("a", wait=10).__aenter__())
                await waiting(running)
            with pytest.raises(ConnectionLost):
                await task


async def test_claims_are_entered_in_any_order() -> None:
    agent = Agent("holder")

    @agent.skill
    async def hold(task: TaskContext) -> str:
        first, second = task.claim("a"), task.claim("b")
        async with second, first:
            return "had both"

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            first, second = running.client.claim("c"), running.client.claim("d")
            async with second, first:
                assert first.fence > second.fence
            assert await running.client.call("hold") == "had both"


async def test_a_claim_is_entered_once_and_has_no_fence_before() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            claim = running.client.claim("a")
            with pytest.raises(LocalProtocolError, match="enter the claim first"):
                _ = claim.fence
            with pytest.raises(LocalProtocolError, match="enter the claim first"):
                claim.check()
            async with claim:
                assert claim.names == ["a"]
                with pytest.raises(LocalProtocolError, match="once"):
                    await claim.__aenter__()


async def test_a_release_of_what_is_somebody_elses_needs_an_operator() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("one") as one, running.connect("two") as two:
            async with one.claim("a") as claim:
                with pytest.raises(Exception, match="not two"):
                    await two.release(claim.fence)
                await running.client.release(claim.fence)
                assert await two.claims() == []


# Handlers -------------------------------------------------------------------------------------------------------------


async def test_a_handler_claims_for_its_attempt_and_the_end_of_it_is_the_end_of_the_claim() -> None:
    agent = Agent("careful")
    fences: list[int] = []

    @agent.skill
    async def edit(task: TaskContext) -> list[Any]:
        async with task.claim("repo/**", ("doc", "s"), wait=5) as claim:
            claim.check()
            fences.append(claim.fence)
            assert claim.fence > task.fence
            return [claim.names, claim.stopping]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("edit") == [["repo/**", "doc"], ""]
            assert await running.client.call("edit") == [["repo/**", "doc"], ""]
            await settled(running)
            assert fences == sorted(set(fences))


async def test_an_attempt_without_authority_claims_nothing(gate: Any) -> None:
    agent = Agent("late")
    caught: list[str] = []

    @agent.skill
    async def edit(task: TaskContext) -> None:
        async with task.claim("repo") as claim:
            gate.begun.set()
            try:
                await gate.open.wait()
            finally:
                with pytest.raises(LeaseLapsed, match="may have ended"):
                    claim.check()
                with pytest.raises(LeaseLapsed, match="may have ended"):
                    async with task.claim("other"):
                        caught.append("it was granted")
                caught.append(task.id)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("edit") as task:
            await gate.begun.wait()
            await task.cancel(mode="skip")
            while not caught:
                await anyio.lowlevel.checkpoint()
            assert caught == [task.id]
            await settled(running)


async def test_a_plain_function_claims_and_blocks() -> None:
    agent = Agent("plain")

    @agent.skill
    def edit(task: SyncTaskContext) -> list[Any]:
        with task.claim("repo", wait=1) as claim:
            claim.check()
            return [claim.fence > task.fence, claim.names, task.claims]

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            assert await running.client.call("edit") == [True, ["repo"], {}]
            await settled(running)


async def test_what_a_task_needs_is_there_when_its_handler_begins() -> None:
    agent = Agent("careful", concurrency=4)
    at_once: list[int] = []
    running_now = 0

    @agent.skill
    async def edit(task: TaskContext) -> bool:
        nonlocal running_now
        running_now += 1
        at_once.append(running_now)
        await anyio.sleep(0.01)
        running_now -= 1
        return task.claims == {"repo/a/**": task.fence}

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, anyio.create_task_group() as group:
            answers: list[bool] = []

            async def one() -> None:
                answers.append(await running.client.call("edit", resources=["repo/a/**"]))

            for _ in range(4):
                group.start_soon(one)
    assert (answers, max(at_once)) == ([True] * 4, 1)


@pytest.mark.parametrize(("error", "code"), [(ClaimLost("gone"), "claim_lost"), (Denied("taken"), "denied")])
async def test_a_claim_that_was_not_to_be_had_is_an_attempt_to_be_made_again(error: Exception, code: str) -> None:
    agent = Agent("unlucky")

    @agent.skill
    async def edit() -> None:
        raise error

    with anyio.fail_after(BOUND):
        async with squad(agent) as running, running.client.delegate("edit", attempts=1) as task:
            with pytest.raises(TaskFailed) as failed:
                await task.result()
            assert failed.value.reason == "attempts"
            assert (await running.client.get(task.id))["metadata"]["error"]["code"] == code
            assert (await running.client.get(task.id))["metadata"]["error"]["retryable"]


async def test_a_redriven_task_needs_what_it_needed() -> None:
    agent = Agent("unlucky")

    @agent.skill
    async def edit(task: TaskContext) -> list[str]:
        if task.key != "again":
            raise StaleFence("no luck")
        return list(task.claims)

    with anyio.fail_after(BOUND):
        async with squad(agent) as running:
            async with running.client.delegate("edit", attempts=1, resources=[("repo", "s"), "doc"]) as task:
                with pytest.raises(TaskFailed):
                    await task.result()
            async with running.client.redrive(await running.client.get(task.id), key="again") as again:
                assert await again.result() == ["doc", "repo"]


# Without an event loop ------------------------------------------------------------------------------------------------


async def test_a_script_without_an_event_loop_claims_too() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:

            def script() -> int:
                client = a2a.sync.connect(name="script", settings=replace(running.settings, operator=False))
                with client, client.claim("a", wait=1) as claim:
                    claim.check()
                    assert isinstance(claim, Claim)
                    return claim.fence

            assert await anyio.to_thread.run_sync(script) > 0
            await settled(running)


def test_a_late_word_for_an_earlier_start_is_nobodys() -> None:
    """Numbers begin anywhere, so those of a process before are not this one's."""
    client = a2a.connect("ws://127.0.0.1:1", token="t")
    first = client._next_claim_no()
    assert client._next_claim_no() == first + 1
    assert a2a.connect("ws://127.0.0.1:1", token="t")._next_claim_no() not in range(first, first + 1_000)
    assert ClaimRelease(None, first).claim_no == first
