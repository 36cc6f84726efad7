"""The suite as a coordinator: what it says by itself, and what a case has it say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from a2a.conformance.case import Failed, Skipped
from a2a.conformance.peer import Peer
from a2a.conformance.socket import Socket
from a2a.conformance.stand_in import Line, PeerSettings, UnderTest
from a2a.conformance.wire import JSON, SUBPROTOCOLS

BOUND = 20
BY_HAND = PeerSettings(command=None)


@asynccontextmanager
async def listening(settings: PeerSettings = BY_HAND) -> AsyncIterator[UnderTest]:
    under = UnderTest(settings, "a_case")
    await under.open()
    try:
        yield under
    finally:
        await under.aclose()


@asynccontextmanager
async def connected(under: UnderTest, *, acknowledges: bool = True) -> AsyncIterator[Peer]:
    """Connect by hand."""
    async with Peer(await Socket.connect(under.url, SUBPROTOCOLS[JSON]), "worker", JSON) as peer:
        peer.acknowledges = acknowledges
        yield peer


@asynccontextmanager
async def arrived(under: UnderTest, *, acknowledges: bool = True, **hello: Any) -> AsyncIterator[tuple[Peer, Line]]:
    """Connect by hand, say hello, and be welcomed."""
    async with connected(under, acknowledges=acknowledges) as peer:
        sent = await peer.send("hello", agentId="worker", **hello)
        line = await under.line()
        peer.welcome = await peer.reply(sent, "hello")
        yield peer, line


async def test_whoever_comes_is_welcomed_and_its_hello_kept() -> None:
    async with listening() as under, arrived(under) as (peer, line):
        assert line.hello.body["agentId"] == "worker"
        assert (peer.welcome.kind, peer.welcome.body["nextMseq"], peer.welcome.body["resumed"]) == ("welcome", 1, False)
        assert (line.encoding, under.trace()[0][:16]) == (JSON, "connection 1: < ")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:0", "ws://127.0.0.1:"),
        ("0.0.0.0:0", "ws://127.0.0.1:"),
        ("localhost:0", "ws://localhost:"),
        ("[::1]:0", "ws://[::1]:"),
    ],
)
async def test_where_it_listens_is_where_a_peer_connects_to(listen: str, url: str) -> None:
    try:
        async with listening(PeerSettings(command=None, listen=listen)) as under:
            assert under.url.startswith(url)
            async with arrived(under) as (peer, _):
                assert peer.welcome.kind == "welcome"
    except OSError:
        if listen != "[::1]:0":
            raise
        pytest.skip("no IPv6 here")


async def test_what_cannot_be_listened_on_is_named() -> None:
    with pytest.raises(OSError, match="cannot listen on 192.0.2.1:1: "):
        async with listening(PeerSettings(command=None, listen="192.0.2.1:1")):
            pass


async def test_what_comes_all_the_time_is_answered() -> None:
    async with listening() as under, arrived(under) as (peer, _):
        lease = await peer.request("task.heartbeat", task="t", fence=5)
        assert (lease.kind, lease.fence, lease.body["leaseMs"]) == ("task.lease", 5, 30_000)
        assert (await peer.request("ping", nonce="n")).body["nonce"] == "n"
        assert (await peer.request("task.checkpoint", task="t", fence=5)).kind == "ok"


async def test_a_case_may_have_it_say_nothing() -> None:
    async with listening() as under, arrived(under) as (peer, line):
        line.answers = False
        await peer.send("task.heartbeat", task="t", fence=5)
        await line.take("task.heartbeat")
        line.answers = True
        await peer.settle()
        assert not peer.waiting


async def test_the_mailbox_is_numbered_over_all_connections() -> None:
    async with listening() as under:
        async with arrived(under) as (peer, line):
            offers = [await line.offer("s", number) for number in range(2)]
            assert [(await peer.offered())["mseq"] for _ in offers] == [1, 2]
            await line.acknowledged_up_to(2)
        async with arrived(under) as (peer, line):
            assert peer.welcome.body["nextMseq"] == 3, "where it has acknowledged"
            third = await line.offer("s")
            assert (third["mseq"], third.fence > offers[1].fence) == (3, True)


async def test_null_where_there_is_nothing_to_resume_is_the_same_as_absent() -> None:
    async with listening() as under, arrived(under, resume={"lastMseq": None}) as (peer, line):
        assert peer.welcome.body["nextMseq"] == 1
        await peer.send("task.watch", task="t", fromGen=None)
        await peer.settle()
        assert line.closed is None


@pytest.mark.parametrize("upto", [None, "1", [1]])
async def test_an_acknowledgement_of_another_form_acknowledges_nothing_and_what_comes_is_read_on(upto: Any) -> None:
    async with listening() as under, arrived(under, acknowledges=False) as (peer, line):
        await peer.send_frames({"id": "a1", "kind": "mailbox.ack", "body": {"upto": upto}})
        await peer.send_frames({"id": "d1", "kind": "task.delegate", "body": {"spec": "none"}})
        await peer.send_frames({"id": "g1", "kind": "task.get", "task": "t"})
        await peer.settle()
        assert line.acknowledged == 0
        assert line.holds("task.get")


async def test_what_was_not_acknowledged_comes_again() -> None:
    async with listening() as under:
        async with arrived(under) as (_, line):
            offers = [await line.offer("s", number) for number in range(2)]
        async with arrived(under, acknowledges=False) as (peer, _):
            assert (peer.welcome.body["nextMseq"], peer.welcome.body["resumed"]) == (1, False)
            assert [(await peer.take("task.offer"))["mseq"] for _ in offers] == [1, 2]
        async with arrived(under, acknowledges=False, resume={"lastMseq": 1}) as (peer, line):
            assert (peer.welcome.body["nextMseq"], peer.welcome.body["resumed"]) == (2, True)
            assert (await peer.take("task.offer"))["mseq"] == 2
            third = await line.offer("s")
            assert (await peer.take("task.offer")).fence == third.fence
        async with arrived(under, acknowledges=False, resume={"lastMseq": 9}) as (peer, _):
            assert (peer.welcome.body["nextMseq"], peer.welcome.body["resumed"]) == (1, False), "of another ledger"


async def test_an_offer_comes_again_as_the_revoke_of_its_fence_where_the_welcome_said_stale() -> None:
    async with listening() as under:
        async with arrived(under) as (_, line):
            offer = await line.offer("s")
        async with connected(under) as peer:
            await peer.send("hello", agentId="worker")
            line = await under.line(welcomed=False)
            await line.welcome(held=[{"task": offer.task, "fence": offer.fence, "verdict": "stale"}])
            revoke = await peer.take("task.revoke", task=offer.task)
            assert (revoke["mseq"], revoke.fence) == (1, offer.fence)


async def test_a_case_that_says_where_the_mailbox_begins_sends_it_itself() -> None:
    async with listening() as under:
        async with arrived(under) as (_, line):
            await line.offer("s")
        async with connected(under) as peer:
            await peer.send("hello", agentId="worker")
            line = await under.line(welcomed=False)
            await line.welcome(nextMseq=1)
            await peer.settle()
            assert not peer.holds("task.offer")


async def test_a_report_is_answered_with_the_verdict_of_the_case() -> None:
    async with listening() as under, arrived(under) as (peer, line):
        await line.offer("s")
        offer = await peer.offered()
        sent = await peer.send("task.report", task=offer.task, fence=offer.fence, outcome="completed")
        await line.reported(offer, verdict="late")
        assert (await peer.reply(sent)).body["verdict"] == "late"


async def test_a_task_is_watched_and_read_as_the_case_has_it_happen() -> None:
    async with listening() as under, arrived(under) as (peer, line):
        await line.happens("t", "created", "queued")
        watch = await peer.send("task.watch", task="t")
        line.told.result = b"[]"
        assert (await peer.take("task.event", re=watch)).body["event"] == "created"
        await line.happens("t", "report", "reported")
        event = await peer.take("task.event", re=watch)
        assert (event["gen"], event.body["state"]) == (2, "reported")
        found = await peer.request("task.get", task="t")
        assert (found.payload, found.body["view"]["metadata"]["state"]) == (b"[]", "reported")


async def test_a_case_says_what_a_view_names_otherwise() -> None:
    async with listening() as under, arrived(under) as (peer, line):
        line.told.result = b"[]"
        line.told.shown = {"resultHash": "another", "overruled": "k1"}
        await line.happens("t", "report", "reported")
        shown = (await peer.request("task.get", task="t")).body["view"]["metadata"]
        assert (shown["state"], shown["resultHash"], shown["overruled"]) == ("reported", "another", "k1")


async def test_a_client_may_go_by_whatever_a_view_names() -> None:
    async with listening() as under, arrived(under) as (peer, line):
        await peer.send("task.delegate", key="k", spec={"skill": "s"}, payload='[{"text":"in"}]')
        await line.take("task.delegate")
        await line.happens("t", "created", "queued", data={"delegator": "worker"})
        await line.happens("t", "grant", "leased", data={"agent": "other", "attempt": 1, "fence": 2})
        line.told.result = b"[]"
        await line.happens("t", "report", "reported", data={"agent": "other", "fence": 2})
        found = await peer.request("task.get", task="t")
        shown = found.body["view"]["metadata"]
        told = ("skill", "key", "delegator", "agent", "attempt", "fence", "evaluator", "pendingAcceptance", "spec")
        assert [shown[name] for name in told] == ["s", "k", "worker", "other", 1, 2, "delegator", True, {"skill": "s"}]
        assert found.body["input"] == '[{"text":"in"}]'
        await line.happens("t", "fail", "failed", data={"reason": "error"})
        found = await peer.request("task.get", task="t", content=False)
        assert "payload" not in found and "input" not in found.body
        assert found.body["view"]["status"]["state"] == "TASK_STATE_FAILED"
        shown = found.body["view"]["metadata"]
        assert (shown["reason"], "pendingAcceptance" in shown, "spec" in shown) == ("error", False, False)


async def test_a_case_is_left_out_where_a_skill_is_not_there() -> None:
    async with listening() as under:
        card = {"name": "w", "skills": [{"id": "here"}]}
        async with arrived(under, card=card) as (_, line):
            await under.has_skill(line, "here")
            with pytest.raises(Skipped, match="the skill there"):
                await under.has_skill(line, "there")
        with pytest.raises(Skipped, match="no command"):
            await under.restart()
        with pytest.raises(Skipped, match="no command"):
            under.ask_to_end()


async def test_nobody_who_comes_is_told_with_what_the_program_said() -> None:
    async with listening() as under:
        with pytest.raises(Failed, match="none came"):
            await under.line(within=0.01)
    program = PeerSettings(command="sh -c 'echo {url} {token} >&2'", token="door")
    async with listening(program) as under:
        await under.start()
        assert under.program is not None
        await under.program.exited()
        with pytest.raises(Failed, match=f"the program ended with exit code 0: {under.url} door"):
            await under.line(within=0.01)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sh -c 'echo no such module; exit 3'", "the program ended with exit code 3: no such module"),
        ("sh -c 'kill -ABRT $$'", "the program died of signal 6: it has written nothing"),
    ],
)
async def test_nobody_is_waited_for_whose_program_has_failed(command: str, says: str) -> None:
    async with asyncio.timeout(BOUND), listening(PeerSettings(command=command)) as under:
        await under.start()
        with pytest.raises(Failed, match=says):
            await under.line(within=10 * BOUND)


async def test_whoever_comes_is_taken_also_where_the_program_has_failed() -> None:
    async with listening(PeerSettings(command="false")) as under:
        await under.start()
        assert under.program is not None
        await under.program.exited()
        async with arrived(under) as (_, line):
            assert line.hello.body["agentId"] == "worker"


async def test_a_first_frame_that_is_no_hello_fails_the_case() -> None:
    async with listening() as under:
        async with Peer(await Socket.connect(under.url, SUBPROTOCOLS[JSON]), "worker", JSON) as peer:
            await peer.send("ping")
            with pytest.raises(Failed, match="hello as the first frame"):
                await under.line()
