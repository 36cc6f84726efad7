"""The blocking client, from a thread that has no event loop."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import anyio
import anyio.to_thread
import pytest

from a2a import Agent, Client, TaskFailed, TaskHandle, sync
from a2a.errors import ConnectionLost, LocalProtocolError, NotFound
from a2a.forking import Copy, is_safe
from a2a.testing import Squad, squad

BOUND = 20


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


class Recorder:
    """Takes every call of an asynchronous client, or of a handle of its."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._delegation = self  # it is entered

    def __getattr__(self, name: str) -> Any:
        async def called(*given: Any, **options: Any) -> None:
            self.calls.append((name, given, options))

        return called


class Here:
    """Runs what is called at once."""

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], *given: Any) -> Any:
        return asyncio.run(function(*given))

    def enter(self, manager: Any) -> Any:
        return manager


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("confirm", ("t",), {"if_generation": 3}),
        ("reject", ("t", "why"), {"rework": False, "reason": "r"}),
        ("cancel", ("t", "why"), {"mode": "kill"}),
        ("steer", ("t", "word", "k"), {"interrupt": True}),
        ("answer", ("t", 1, "value"), {}),
        ("drain", ("agent", 2.0), {}),
        ("forget", ("agent",), {"secret_only": True}),
        ("appeal", ("conflict", "new_evidence", "value"), {}),
    ],
)
def test_a_call_is_made_there_with_all_it_was_given(name: str, given: tuple[Any, ...], options: dict[str, Any]) -> None:
    asked: Any = Recorder()
    client = sync.Client(asked)
    client._loop = cast(Any, Here())
    getattr(client, name)(*given, **options)
    assert asked.calls == [(name, given, options)]


@pytest.mark.parametrize(
    ("name", "given", "options"),
    [
        ("reject", ("why",), {"rework": False, "reason": "r"}),
        ("cancel", ("why",), {"mode": "kill"}),
        ("steer", ("word", "k"), {"interrupt": True}),
        ("answer", (1, "value"), {}),
    ],
)
def test_so_is_one_of_a_handle(name: str, given: tuple[Any, ...], options: dict[str, Any]) -> None:
    asked: Any = Recorder()
    getattr(sync.TaskHandle(cast(Any, Here()), asked), name)(*given, **options)
    assert asked.calls == [(name, given, options)]


def test_a_watch_begins_where_it_is_told_to() -> None:
    begun: list[tuple[str, int]] = []

    class Watched:
        async def watch(self, task: str, from_gen: int) -> AsyncIterator[int]:
            begun.append((task, from_gen))
            yield from_gen

    client = sync.Client(cast(Any, Watched()))
    client._loop = cast(Any, Here())
    assert (next(iter(client.watch("t", 7))), begun) == (7, [("t", 7)])


def calling_back(running: Squad) -> None:
    with sync.connect(settings=running.settings, name="script") as client:
        values = client.context("c")
        with pytest.raises(RuntimeError, match="would wait for itself"):
            values.update("a", lambda _: values.get("b").value)


async def test_a_call_that_would_wait_for_itself_is_refused() -> None:
    with anyio.fail_after(BOUND):
        async with squad() as running:
            await anyio.to_thread.run_sync(calling_back, running)


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
    inside |= {"aclose", "follow_call", "link", "next_answers", "unfollow_call", "waits_for_me"}
    for blocking, other in ((sync.Client, Client), (sync.TaskHandle, TaskHandle)):
        assert {name for name in dir(other) if not name.startswith("_")} - inside <= set(dir(blocking))
    with anyio.fail_after(20):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(more, running)


class Interrupted(BaseException):
    """As a person does by Ctrl-C."""


@contextmanager
def interrupted(is_time: Callable[[], object]) -> Iterator[None]:
    """Interrupt this thread, which is the main one, in the block as soon as something is so."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def look() -> None:
        until = time.monotonic() + BOUND
        while not is_time() and time.monotonic() < until:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        while not is_over.wait(10.0):  # Python ignores what is raised while it calls a finalizer
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    is_over = threading.Event()
    looking = threading.Thread(target=look)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            looking.start()
            yield
    finally:
        is_over.set()
        looking.join()
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def in_another_thread(*agents: Agent) -> Iterator[Squad]:
    """Run a squad in a loop and thread of its own, for a test in the main thread."""

    async def run(has_begun: Future[Squad], stop: threading.Event) -> None:
        async with squad(*agents) as running:
            has_begun.set_result(running)
            await anyio.to_thread.run_sync(stop.wait)
            raise Interrupted  # the handlers are not waited for

    has_begun: Future[Squad] = Future()
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(asyncio.run, run(has_begun, stop))
        try:
            yield has_begun.result(BOUND)
        finally:
            stop.set()
            assert isinstance(running.exception(BOUND), Interrupted)


@pytest.mark.parametrize("is_handed_over", [True, False])
def test_who_is_interrupted_as_a_call_is_handed_over_has_given_it_up(
    monkeypatch: pytest.MonkeyPatch, is_handed_over: bool
) -> None:
    with in_another_thread() as running, sync.connect(settings=running.settings, name="script") as client:
        hand_over = asyncio.run_coroutine_threadsafe

        def interrupted_in_it(work: Any, loop: Any) -> None:
            monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over)
            if is_handed_over:
                hand_over(work, loop)
            raise Interrupted

        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted_in_it)
        with pytest.raises(Interrupted):
            client.call("nobody_has_it")
        assert not client._client._handles, "nobody waits for it any more"
        until = time.monotonic() + BOUND
        while any(task["metadata"]["state"] != "canceled" for task in client.list()) and time.monotonic() < until:
            pass
        assert {task["metadata"]["state"] for task in client.list()} <= {"canceled"}


@pytest.mark.parametrize("is_leaving", [False, True])
def test_who_is_interrupted_at_the_edge_of_a_block_is_out_of_it(
    monkeypatch: pytest.MonkeyPatch, helper: Agent, is_leaving: bool
) -> None:
    with in_another_thread(helper) as running, sync.connect(settings=running.settings, name="script") as client:
        hand_over = asyncio.run_coroutine_threadsafe

        def interrupted_in_it(work: Any, loop: Any) -> None:
            monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", hand_over)
            if not is_leaving:
                hand_over(work, loop).result(BOUND)  # entered, which the caller is not told
            raise Interrupted

        for block in (client.claim("doc"), client.delegate("echo", [1])):
            if not is_leaving:
                monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted_in_it)
            with pytest.raises(Interrupted), block:
                monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", interrupted_in_it)
        assert client.claims("doc") == []
        assert not client._client._handles, "nobody waits for it any more"


def test_who_is_interrupted_leaves_nothing_behind_that_is_waited_for(helper: Agent, gate: Any) -> None:
    with in_another_thread(helper) as running, sync.connect(settings=running.settings, name="other") as other:
        with sync.connect(settings=running.settings, name="script") as client:
            with interrupted(gate.begun.is_set), client.delegate("wait") as task:
                task.result()
            with client.claim("doc"):
                with interrupted(lambda: len(other.claims("doc")) == 2), client.claim("doc", wait=1000):
                    pass
                assert [claim["state"] for claim in client.claims("doc")] == ["held"], "it does not wait any more"
            values = client.context("c").watch()
            is_there = threading.Event()
            with interrupted(is_there.is_set):
                client.context("c").put("a", 1)
                assert next(values).value == 1
                is_there.set()
                next(values)
            values.close()
            until = time.monotonic() + BOUND  # the read that was interrupted ends in its own loop
            while client._client.link.contexts.are_open and time.monotonic() < until:
                time.sleep(0.005)
            assert not client._client.link.contexts.are_open, "it is not watched any more"
        with pytest.raises(ConnectionLost, match="the client was closed"):
            client.list()
        assert other.claims("doc") == []


def update_until_closed(running: Squad) -> None:
    begun = threading.Event()

    async def never(_: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as other:
        with sync.connect(settings=running.settings, name="script") as client:
            updating = other.submit(client.context("plan").update, "step", never)
            assert begun.wait(BOUND)
        with pytest.raises(ConnectionLost, match="the client was closed"):
            updating.result(BOUND)


async def test_whose_client_is_closed_by_another_thread_is_told_so(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(update_until_closed, running)


def test_a_client_is_entered_first() -> None:
    client = sync.connect()
    for use_it in (lambda: client.call("x"), lambda: client.durability, lambda: client.is_operator):
        with pytest.raises(RuntimeError, match=r"enter the client first: with a2a\.sync"):
            use_it()


def delegating_without_a_block(running: Squad) -> None:
    with sync.connect(settings=running.settings, name="script") as client:
        task = client.delegate("echo", [1], key="k")
        assert task.key == "k"
        for use_it in (lambda: task.id, lambda: task.created, task.result, task.events, task.confirm, task.cancel):
            with pytest.raises(
                LocalProtocolError, match=r"enter the handle to delegate the task: with client\.delegate"
            ):
                use_it()
        with task:
            assert task.result() == [1]


async def test_a_handle_that_was_not_entered_says_how_in_words_for_a_script(helper: Agent) -> None:
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(delegating_without_a_block, running)


@pytest.mark.skipif(not is_safe(), reason="this process may not be copied here")
async def test_in_a_copy_of_the_process_a_client_says_so_and_leaves_the_blocks_alone(helper: Agent) -> None:
    copies: list[Copy] = []

    def use(running: Squad) -> None:
        with sync.connect(settings=running.settings, name="script") as client, client.claim("x") as claim:

            def elsewhere() -> bytes:
                with ExitStack() as blocks:
                    blocks.push(client.__exit__)
                    blocks.push(block.__exit__)
                    with pytest.raises(RuntimeError, match="and this is a copy of it"):
                        client.list()
                return b"told"

            block = client.delegate("count_words", {"text": "a b"})
            with block as task:
                copies.append(Copy(elsewhere))
                assert task.result() == {"words": 2}
            claim.check()

    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(use, running)
            assert await copies[0].result(BOUND) == b"told"


async def test_a_client_that_is_entered_twice_goes_on_in_the_first_block(helper: Agent) -> None:
    def use(running: Squad) -> None:
        with sync.connect(settings=running.settings, name="script") as client:
            with pytest.raises(LocalProtocolError, match="already entered"):
                client.__enter__()
            assert client.call("count_words", {"text": "a b"}) == {"words": 2}
        with client:
            assert client.call("count_words", {"text": "a"}) == {"words": 1}

    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            await anyio.to_thread.run_sync(use, running)
