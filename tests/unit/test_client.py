"""The client, against a coordinator and an agent in this process."""

from __future__ import annotations

import asyncio
import gc
import getpass
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest

from a2a import (
    Agent,
    Client,
    Denied,
    Policy,
    Server,
    TaskCanceled,
    TaskContext,
    TaskFailed,
    TaskHandle,
    client,
    connect,
    delegator,
    slack,
    sync,
)
from a2a.claim import Claim
from a2a.engine.agent_watching import WatchedAgents
from a2a.engine.context_watching import Watched
from a2a.engine.delegation import Delegation
from a2a.engine.work import Attempt
from a2a.errors import ConnectError, ConnectionLost, Forbidden, GenerationMismatch, LocalProtocolError
from a2a.link import Link, LinkSettings
from a2a.shared_context import SharedContext
from a2a.streaming import ChunkStream
from a2a.testing import Squad, squad

BOUND = 20


async def test_agents_are_found_and_watched(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            [found] = await client.find(skill="count_words", tags=["text"], labels={"room": "blue"})
            assert (found.agent_id, found.status, found.credit) == ("helper", "ready", 8)
            assert "count_words" in found.skills
            assert await client.find(skill="count_words", labels={"room": "red"}) == []
            changes = client.watch_agents("hum")
            other = Agent("hummer")
            other.skill(id="hum")(_hum)
            stop, ready = anyio.Event(), anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: other.run(settings=running.settings, stop=stop, ready=ready.set))
                joined = await anext(changes)
                await ready.wait()
                assert (joined.change, joined.agent.agent_id) == ("joined", "hummer")
                stop.set()
            seen = [(await anext(changes)).change, (await anext(changes)).change]
            assert seen == ["changed", "left"], "it drained, then it left"
            await changes.aclose()


async def test_agents_are_watched_over_a_lost_connection_and_until_the_client_is_closed(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            client = running.connect("watcher")
            await client.__aenter__()
            watching = [client.watch_agents(), client.watch_agents()]
            stop = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: helper.run(settings=running.settings, stop=stop))
                for changes in watching:
                    assert (await anext(changes)).change == "joined"
                transport = client.link._transport
                assert transport is not None
                transport.abort()
                stop.set()
            for changes in watching:
                seen = [await anext(changes)]
                while seen[-1].change != "left":
                    seen.append(await anext(changes))
                assert len(seen) <= 2, "it may have been seen to drain, and nothing is told twice"
            waiting = asyncio.create_task(anext(watching[0]))
            await asyncio.sleep(0)
            await client.aclose()
            with pytest.raises(ConnectionLost):
                await waiting


def kept() -> Counter[str]:
    """Count what clients and agents make for each task, watch and claim."""
    gc.collect()
    return Counter(type(known).__name__ for known in gc.get_objects() if isinstance(known, MADE))


MADE = (TaskHandle, Delegation, Watched, WatchedAgents, Claim, SharedContext, Attempt, TaskContext, ChunkStream, Link)


async def test_what_is_over_leaves_nothing_behind_with_a_client_or_an_agent(helper: Agent) -> None:
    """A client may live for months in a server, and go round as often as that is asked something."""

    @helper.skill
    async def all_of_it(task: TaskContext) -> Any:
        await task.artifact("log", "one", append=True, last=False)
        await task.checkpoint({"n": 1})
        await task.context.put("k", task.id)
        async with task.claim(task.id, wait=1):
            return await task.call("echo", 1)

    async def round_of(running: Squad) -> None:
        client = running.client
        async with client.delegate("all_of_it") as task:
            async for _ in task.events():
                pass
            await task.result()
        async with client.delegate("wait") as task:
            pass  # dropped before it has ended
        watching = asyncio.create_task(anext(client.watch(task.id, 1_000)))
        asking = asyncio.create_task(client.call("wait"))
        changes = asyncio.create_task(anext(client.context(f"c-{task.id}").watch()))
        agents = client.watch_agents()
        await anext(agents)
        async with client.claim("a", ttl=30):
            with pytest.raises(Denied):
                await client.claim("a").__aenter__()
        for waiting in (watching, asking, changes):
            waiting.cancel()
        await asyncio.wait([watching, asking, changes])
        await agents.aclose()
        await client.cancel(task.id, mode="kill")
        async with running.connect("guest") as guest:
            await guest.find("echo")

    with anyio.fail_after(BOUND):
        # Memory of the coordinator's, which is in this process, is not what is counted, apart from its newest tasks.
        async with squad(helper, policy=Policy(linger_ms=0)) as running:
            for _ in range(3):
                await round_of(running)
            before = kept()
            for _ in range(12):
                await round_of(running)
            grown = kept() - before
            with anyio.move_on_after(5):  # what was cancelled last may be under way
                while max(grown.values(), default=0) >= 12:
                    await anyio.lowlevel.checkpoint()
                    grown = kept() - before
            assert max(grown.values(), default=0) < 12, grown


async def test_a_client_is_entered_first_and_not_again_before_it_was_left() -> None:
    client = connect(name="early")
    for early in (client.find, client.delegate("draft").__aenter__, client.claim("doc").__aenter__, client.aclose):
        with pytest.raises(LocalProtocolError, match="enter the client first"):
            await early()
    with anyio.fail_after(BOUND):
        async with squad() as running:
            client = running.connect("other")
            async with client:
                with pytest.raises(LocalProtocolError, match="already entered"):
                    await client.__aenter__()
                assert await client.find() == [], "it goes on"
            async with client:
                assert await client.find() == []


async def test_what_was_begun_before_a_client_was_left_does_not_wait_for_news_once_it_is_entered_again() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            client = running.connect("owner")
            async with client:
                task = await client.delegate("nobody_has_it", key="k").__aenter__()
                written = await client.follow_context("plans", "", 0)
            async with client:
                for wait in (task.result, task.question, task.next_event, lambda: client.next_written(written)):
                    with pytest.raises(ConnectionLost):
                        await wait()
                async with client.delegate("nobody_has_it", key="k") as again:
                    await task.__aexit__(None, None, None)
                    assert await again.cancel() == "canceled"
                    with pytest.raises(TaskCanceled):
                        await again.result()


async def test_a_client_whose_loop_was_closed_under_it_is_entered_again(
    helper: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = await running.connect("owner").__aenter__()
            task = await client.delegate("nobody_has_it").__aenter__()
            stranded = client.link
            with monkeypatch.context() as patched:
                # As where it is so: the one that runs here cannot be closed, and another leaves much behind.
                patched.setattr(stranded, "_loop", asyncio.new_event_loop())
                stranded._loop.close()
                assert stranded.has_ended
                async with client:
                    assert task not in client._handles.values(), "nobody is there to be woken"
                    assert await client.call("count_words", {"text": "a b"}) == {"words": 2}
            await stranded.aclose()


@pytest.mark.parametrize(
    ("user", "principal"),
    [
        ("ada", "ada"),
        ("ACME\\Ada Lovelace", "ACME-Ada-Lovelace"),
        ("_www", "www"),
        ("ü", "client"),
        ("a" * 200, "a" * 96),
        (KeyError("getpwuid(): uid not found: 54321"), "client"),
        (OSError("No username set in the environment"), "client"),
    ],
)
async def test_a_client_without_a_name_has_the_users_as_far_as_there_is_one(
    monkeypatch: pytest.MonkeyPatch, user: str | Exception, principal: str
) -> None:
    def getuser() -> str:
        if isinstance(user, Exception):
            raise user
        return user

    monkeypatch.setattr(getpass, "getuser", getuser)
    with anyio.fail_after(BOUND):
        async with squad() as running, connect(settings=running.settings) as client:
            assert client.agent_id.partition("#")[0] == principal


async def test_a_card_that_is_as_deep_as_it_may_be_is_found(helper: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    deep: list[Any] = []
    for _ in range(28):
        deep = [deep]
    card = helper.card() | {"x-deep": deep}
    monkeypatch.setattr(helper, "card", lambda: card)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            [found] = await running.client.find(skill="count_words")
            assert found.agent_id == "helper"


async def _hum() -> str:
    return "hm"


async def test_only_who_may_decide_can(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("owner") as owner, running.connect("stranger") as stranger:
            async with owner.delegate("wait") as task:
                with pytest.raises(Forbidden, match=f"may cancel task {task.id}, not stranger"):
                    await stranger.cancel(task.id)
                with pytest.raises(Forbidden):
                    await stranger.drain("helper")
                gate.open.set()
                await task.result()
                with pytest.raises(Forbidden):
                    await stranger.confirm(task.id)
                await running.client.confirm(task.id)  # the operator
            assert (await owner.get(task.id))["metadata"]["state"] == "completed"


async def test_a_human_confirms_what_asks_for_a_human(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("owner") as owner:
            async with owner.delegate("draft", acceptance="human") as task:
                async for event in owner.watch(task.id):
                    if event.state == "reported":
                        break
                with pytest.raises(Forbidden, match="a human confirms"):
                    await owner.confirm(task.id)
                generation = (await running.client.get(task.id))["metadata"]["generation"]
                with pytest.raises(GenerationMismatch, match=f"{task.id} has generation {generation}, the word is for"):
                    await running.client.confirm(task.id, if_generation=generation - 1)
                await running.client.confirm(task.id, if_generation=generation)
                assert await task.result() == "draft"


async def test_a_drained_agent_gets_nothing_new(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper, n=2) as running:
            await running.client.drain("helper/1")
            for number in range(6):
                async with running.client.delegate("draft", key=str(number), acceptance="auto") as task:
                    await task.result()
                assert (await running.client.get(task.id))["metadata"]["agent"] == "helper/2"


async def test_an_agent_that_is_gone_is_forgotten(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.connect("stranger") as stranger:
            with pytest.raises(Denied, match="helper is here"):
                await running.client.forget("helper")
            with pytest.raises(Forbidden, match="only an operator may have helper forgotten, not stranger"):
                await stranger.forget("helper")
            changes = running.client.watch_agents()
            assert (await anext(changes)).change == "joined"
            other, stop = Agent("hummer"), anyio.Event()
            other.skill(id="hum")(_hum)
            async with anyio.create_task_group() as group:
                group.start_soon(partial(other.run, settings=running.settings, stop=stop))
                assert (await anext(changes)).agent.agent_id == "hummer"
                stop.set()
            while (await anext(changes)).change != "left":
                pass
            assert await running.client.forget("hummer", secret_only=True)
            assert [found.agent_id for found in await running.client.find()] == ["helper", "hummer"]
            assert await running.client.forget("hummer")
            assert [found.agent_id for found in await running.client.find()] == ["helper"]
            assert not await running.client.forget("hummer")


@pytest.mark.parametrize("connecting", [connect, lambda *url, **options: sync.connect(*url, **options)._client])
def test_what_is_named_goes_before_the_settings(monkeypatch: pytest.MonkeyPatch, connecting: Any) -> None:
    monkeypatch.setenv("A2A_URL", "ws://environment:1")
    monkeypatch.setenv("A2A_TOKEN", "from the environment")
    said = LinkSettings(url="ws://said:1", token="said", operator_token="said as well", patience=3.0, secrets={})
    assert connecting(settings=said)._settings == said
    assert connecting("ws://named:1", settings=said)._settings == replace(said, url="ws://named:1")
    assert connecting(token="named", settings=said)._settings == replace(said, token="named")
    assert connecting(operator=True, settings=said)._settings == replace(said, operator=True)
    with_token = connecting(operator_token="named", settings=said)._settings
    assert with_token == replace(said, operator=True, operator_token="named")
    operator = replace(said, operator=True)
    assert connecting(settings=operator)._settings == operator
    assert connecting(operator=False, settings=operator)._settings == said
    assert connecting()._settings.url == "ws://environment:1"
    assert connecting(token="named")._settings.token == "named"
    assert not connecting()._settings.operator


def _links_of(name: str) -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(f"link of {name}#")]


async def test_a_client_that_leaves_a_call_behind_does_not_wait_for_what_may_be_kept_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slack, "KEPT_AT_MOST_MS", 600_000)
    monkeypatch.setattr(delegator, "REPLY_SLACK_MS", 600_000)
    monkeypatch.setattr(client, "_DRAINS_WITHIN", 600.0)
    with anyio.fail_after(BOUND):
        async with squad() as running:
            async with running.connect() as leaving:
                call = asyncio.create_task(leaving.call("nobody_has_it"))
                while not running.server._kept._kept:
                    await anyio.lowlevel.checkpoint()
            with pytest.raises(ConnectionLost):
                await call


async def test_a_client_that_is_cancelled_says_what_is_left_and_leaves_no_link() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with anyio.CancelScope() as scope:
                async with running.connect("owner") as client, client.claim("x/y"):
                    assert _links_of("owner")
                    scope.cancel()
                    await anyio.sleep_forever()
            assert client.link.session.waiting, "nobody waited for the answer to the release"
            assert client.link._transport is None
            assert not _links_of("owner")
            while await running.client.claims():
                await anyio.lowlevel.checkpoint()


async def test_a_client_whose_task_is_cancelled_does_not_wait_for_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = anyio.Event()

    async def claim(client: Client) -> None:
        async with client, client.claim("x/y"):
            claimed.set()
            await anyio.sleep_forever()

    monkeypatch.setattr("a2a.client._DRAINS_WITHIN", 10.0 * BOUND)
    with anyio.fail_after(BOUND):
        async with squad() as running:
            claiming = asyncio.create_task(claim(running.connect("owner")))
            await claimed.wait()
            with monkeypatch.context() as patched:
                patched.setattr(Server, "_received", lambda *_: None)  # no answer will come
                claiming.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await claiming
            assert not _links_of("owner")


@pytest.mark.parametrize("times", [1, 20])
async def test_a_client_that_is_cancelled_cancels_the_calls_it_gives_up(
    helper: Agent, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Also those of which it was not told yet that they are there."""
    monkeypatch.setattr(slack, "KEPT_AT_MOST_MS", 600_000)
    monkeypatch.setattr(delegator, "REPLY_SLACK_MS", 600_000)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            with anyio.CancelScope() as scope:
                async with running.connect() as leaving, anyio.create_task_group() as group:
                    for _ in range(times):
                        group.start_soon(leaving.call, "wait")
                    while len(await running.client.list(skill="wait")) < times:
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
            while any(task["metadata"]["state"] != "canceled" for task in await running.client.list(skill="wait")):
                await anyio.lowlevel.checkpoint()
            assert len(await running.client.list(skill="wait")) == times


async def test_a_client_that_is_cancelled_waits_for_no_coordinator_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "_GIVES_UP_WITHIN", 0.05)
    with anyio.fail_after(BOUND):
        async with squad() as running:
            with anyio.CancelScope() as scope:
                async with running.connect("owner") as leaving, anyio.create_task_group() as group:
                    monkeypatch.setattr(Server, "_received", lambda *_: None)
                    group.start_soon(leaving.call, "wait")
                    while not leaving.link.session.waiting:
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()
            assert not _links_of("owner")
            monkeypatch.undo()


async def test_nobody_there_is_said_at_once() -> None:
    with anyio.fail_after(BOUND), pytest.raises(ConnectError, match="nothing listens at"):
        async with connect("ws://127.0.0.1:1"):
            pass


async def test_a_wrong_token_is_refused(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            settings = LinkSettings(url=running.url, token="wrong", secrets={})
            with pytest.raises(ConnectError, match="the token does not open this namespace"):
                async with connect(settings=settings):
                    pass


async def test_another_process_of_the_principal_needs_its_secret() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running, running.connect("someone"):
            settings = LinkSettings(url=running.url, token=running.settings.token, secrets={})
            with pytest.raises(ConnectError, match="someone is bound to a secret"):
                async with connect(settings=settings, name="someone"):
                    pass


async def test_a_remembered_secret_lets_the_next_process_in(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            settings = LinkSettings(url=running.url, token=running.settings.token)
            for _ in range(2):
                async with connect(settings=settings, name="someone") as client:
                    assert not client.is_operator


async def test_what_is_tried_again_needs_as_many_who_agree(helper: Agent) -> None:
    decided_by: list[Any] = ["majority", {"strategy": "judge", "skill": "draft", "costMicro": 5}, "abort"]
    options: dict[str, Any] = {
        "copies": 2,
        "agree": 2,
        "comparator": "bytes",
        "resolve": decided_by,
        "ballot": 1.5,
        "resolve_cost": 9,
    }
    with anyio.fail_after(BOUND):
        async with squad(helper, n=2) as running:
            client = running.client
            async with client.delegate("fail", {"retryable": False}, **options) as failed:
                with pytest.raises(TaskFailed):
                    await failed.result()
            ended = await client.get(failed.id)
            async with client.redrive(ended) as again, client.redrive(ended, "alone", copies=1) as alone:
                specs = [(await client.get(task.id))["metadata"]["spec"] for task in (failed, again, alone)]
            assert specs[0]["redundancy"] == specs[1]["redundancy"]
            assert "redundancy" not in specs[2]


async def test_a_word_by_the_tasks_id_and_a_redrive_of_what_has_ended(helper: Agent, gate: Any) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            async with client.delegate("fail", {"retryable": False}, priority=3, labels={"room": "blue"}) as failed:
                with pytest.raises(TaskFailed):
                    await failed.result()
            ended = await client.get(failed.id)
            async with client.redrive(ended) as again, client.redrive(ended) as same:
                assert (again.created, same.created, same.id) == (True, False, again.id)
            shown = await client.get(again.id)
            assert shown["metadata"]["redriveOf"] == failed.id
            assert shown["metadata"]["spec"] == ended["metadata"]["spec"]
            [listed] = [task for task in await client.list(skill="fail") if task["id"] == failed.id]
            with pytest.raises(ValueError, match=f"task {failed.id} comes without its content"):
                client.redrive(listed)
            async with client.delegate("wait") as task:
                await gate.begun.wait()
                await client.steer(task.id, "faster", key="1")
                events = [event async for event in _until(client.watch(task.id), "steer")]
                assert events[-1].value == "faster"
                gate.open.set()
                await task.result()
            assert await client.list(dead_letter=True) == []


async def _until(events: Any, kind: str) -> Any:
    async for event in events:
        yield event
        if event.kind == kind:
            return


@pytest.mark.parametrize(
    "use",
    [
        lambda client: client.list(),
        lambda client: client.call("count_words", {"text": "a"}),
        lambda client: client.claim("x").__aenter__(),
        lambda client: anext(client.watch("main-1")),
        lambda client: anext(client.watch_agents()),
        lambda client: anext(client.context("c").watch()),
        lambda client: client.aclose(),
    ],
    ids=["list", "call", "claim", "watch", "watch_agents", "context", "aclose"],
)
async def test_in_another_event_loop_a_client_says_so_and_stays_as_it_was(use: Any, helper: Agent) -> None:
    async def elsewhere(client: Client) -> None:
        with anyio.fail_after(BOUND), pytest.raises(LocalProtocolError, match="in an event loop other than this one"):
            await use(client)

    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.client
            await asyncio.to_thread(lambda: asyncio.run(elsewhere(client)))
            assert not client.link.session.waiting
            assert not client._handles
            assert not client._written
            assert not client._claims
            assert await client.call("count_words", {"text": "a b"}) == {"words": 2}


@pytest.mark.parametrize(
    "say",
    [
        lambda task, _: task.confirm(),
        lambda task, _: task.reject("no", rework=False),
        lambda task, _: task.cancel(),
        lambda task, _: task.steer("faster"),
        lambda task, _: task.answer(1, "yes"),
        lambda task, _: task.__aexit__(ValueError, ValueError(), None),
        lambda _, claim: claim.__aexit__(None, None, None),
    ],
    ids=["confirm", "reject", "cancel", "steer", "answer", "leave", "give back"],
)
async def test_what_is_refused_in_another_event_loop_is_not_said(say: Any, helper: Agent) -> None:
    async def elsewhere(task: TaskHandle, claim: Claim) -> None:
        with anyio.fail_after(BOUND), pytest.raises(LocalProtocolError, match="in an event loop other than this one"):
            await say(task, claim)

    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.claim("x") as claim:
            client = running.client
            async with client.delegate("count_words", {"text": "a b"}) as task:
                await task.result()
                await asyncio.to_thread(lambda: asyncio.run(elsewhere(task, claim)))
                assert not client.link.session.waiting, "nothing is on its way to the coordinator"
                claim.check()
            assert (await client.get(task.id))["metadata"]["state"] == "completed"


async def test_a_task_is_not_waited_for_in_another_event_loop(helper: Agent) -> None:
    async def elsewhere(task: TaskHandle) -> None:
        for wait in (task.result, task.question, task.next_event):
            with (
                anyio.fail_after(BOUND),
                pytest.raises(LocalProtocolError, match="in an event loop other than this one"),
            ):
                await wait()

    with anyio.fail_after(BOUND):
        async with squad(helper) as running, running.client.delegate("forever") as task:
            await asyncio.to_thread(lambda: asyncio.run(elsewhere(task)))
            await task.cancel()
