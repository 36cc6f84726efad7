"""The suite as an agent and a client, against a coordinator that answers as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from a2a.conformance.case import Failed, Skipped
from a2a.conformance.peer import TIMERS, Coordinator, Settings, card
from a2a.conformance.wire import JSON, MSGPACK, result, result_hash
from a2a.hosting import host

BOUND = 30


@asynccontextmanager
async def coordinator(encoding: str = JSON, **settings: Any) -> AsyncIterator[Coordinator]:
    """Have a coordinator, as one case sees it."""
    async with asyncio.timeout(BOUND), host() as hosted:
        tokens = {"token": hosted.tokens.token, "operator_token": hosted.tokens.operator_token}
        under = Coordinator(Settings(hosted.url, **(tokens | settings)), "a case/of_its own", encoding)
        try:
            yield under
        finally:
            await under.aclose()


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_a_task_from_its_delegation_to_its_end(encoding: str) -> None:
    async with coordinator(encoding) as under:
        skill = under.skill()
        worker, client = await under.peer(skills=(skill,)), await under.peer()
        created = await client.delegate(skill, {"n": 1})
        offer = await worker.offered(created.task)
        assert offer.payload == b'[{"data":{"n":1}}]'
        assert (await worker.heartbeat(offer)).kind != "error"
        await worker.admitted(offer, "done")
        review = await client.reviewed(created.task)
        assert review.body["resultHash"] == result_hash("completed", result("done"))
        assert (await client.confirm(review)).kind != "error"
        assert (await client.settled(created.task)).body["state"] == "completed"
        assert await client.state(created.task) == "completed"
        assert [peer.encoding for peer in under.peers] == [encoding] * 2


async def test_a_request_that_has_to_be_refused() -> None:
    async with coordinator() as under:
        client = await under.peer()
        error = await client.refused("not_found", "task.get", task="nobody-1")
        assert error.code == "not_found"
        with pytest.raises(Failed, match="expected error auth to task.get; came: "):
            await client.refused("auth", "task.get", task="nobody-1")
        with pytest.raises(Failed, match="expected task.found; came: "):
            await client.view("nobody-1")


async def test_the_role_of_an_operator_and_a_restart_need_what_was_given() -> None:
    async with coordinator() as under:
        assert "operator" in str((await under.operator()).welcome)
        with pytest.raises(Skipped, match="restarts the coordinator"):
            await under.restart()
    restarts = []

    async def restart() -> None:
        restarts.append(1)

    async with coordinator(operator_token="", restart=restart) as under:
        with pytest.raises(Skipped, match="operator's token"):
            await under.operator()
        await under.restart()
        assert restarts == [1]
        assert (await under.peer()).welcome.body["durability"] == "memory"
        with pytest.raises(Skipped, match="gone with its process"):
            await under.restart()
        assert restarts == [1], "nobody is killed for what was not promised"


async def test_where_nobody_listens_a_case_fails() -> None:
    under = Coordinator(Settings("ws://127.0.0.1:1"), "case")
    with pytest.raises(Failed, match="expected a WebSocket at ws://127.0.0.1:1"):
        await under.connect()


def test_names_differ_between_cases_runs_and_calls() -> None:
    one, two = Settings("ws://127.0.0.1:1", run="1"), Settings("ws://127.0.0.1:1", run="2")
    sides = [Coordinator(settings, case) for settings in (one, two) for case in ("case", "other")]
    names = [side.name() for side in sides for _ in range(2)]
    assert len(set(names)) == 8


def test_a_hello_is_of_a_new_start_and_keeps_its_secret() -> None:
    under = Coordinator(Settings("ws://127.0.0.1:1", token="door"), "case")
    first, second = under.hello("worker#1", "read"), under.hello("worker#2", secret=None, token="other")
    assert first["token"] == "door"
    assert first["card"] == card("worker#1", "read")
    assert first["secret"] == under.hello("worker")["secret"], "the secret is the principal's"
    assert first["incarnation"] < second["incarnation"]
    assert first["instanceId"] != second["instanceId"]
    assert (second["secret"], second["token"]) == (None, "other")
    assert "card" not in second
    assert "token" not in Coordinator(Settings("ws://127.0.0.1:1"), "case").hello("client")


async def test_a_delegation_has_short_timers_and_a_key_of_its_own() -> None:
    async with coordinator() as under:
        client = await under.peer()
        fields = client.delegation("read", spec={"copies": 2}, timers={"leaseMs": 5}, key="k", context="c")
        assert (fields["key"], fields["context"]) == ("k", "c")
        assert fields["spec"] == {"skill": "read", "copies": 2}
        assert fields["timers"] == TIMERS | {"leaseMs": 5}
        assert client.delegation("read")["key"] != client.delegation("read")["key"]


async def test_a_handshake_that_nobody_answers_fails_in_bounded_time() -> None:
    ended = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    async with asyncio.timeout(BOUND), await asyncio.start_server(silent, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        under = Coordinator(Settings(f"ws://127.0.0.1:{port}"), "a case")
        under.patience = 0.05
        with pytest.raises(Failed, match=r"a WebSocket at \S+; the opening handshake was not answered within 0.05 s"):
            await under.connect()
        ended.set()


async def test_what_is_sent_keeps_within_what_was_announced() -> None:
    async with coordinator() as under:
        client = await under.peer()
        limits = {"payloadMaxBytes": 10_000, "messageMaxBytes": 20_000, "framesPerMessage": 2}
        client.welcome.body["limits"] |= limits
        assert client.payload_max_bytes == 10_000
        client.welcome.body["limits"] |= {"messageMaxBytes": 10_000}
        assert client.payload_max_bytes < 10_000 - 1_000, "there is more in a message than its payload"
        messages: list[int] = []
        send = client.send_frames

        async def counted(*frames: dict[str, Any]) -> None:
            messages.append(len(frames))
            await send(*frames)

        client.send_frames = counted  # type: ignore[method-assign]
        pings = [client.frame("ping", nonce=str(number)) for number in range(5)]
        await client.send_many(pings)
        assert messages == [2, 2, 1]
        assert [(await client.reply(ping["id"])).body["nonce"] for ping in pings] == list("01234")
