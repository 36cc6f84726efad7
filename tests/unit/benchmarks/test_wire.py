from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from a2a.engine.policy import Admission, Policy, digest
from a2a.server import Server
from a2a.stores.memory import MemoryStore
from benchmarks import wire
from benchmarks.report import BenchmarkError
from benchmarks.wire import Map, Peer, card, raise_file_limit

BOUND = 20.0


@asynccontextmanager
async def coordinator() -> AsyncIterator[tuple[Server, str]]:
    server = Server(MemoryStore(), Policy(admission=Admission(digest("open"))))
    await server.open()
    try:
        yield server, (await server.listen()).url
    finally:
        await server.aclose()


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_masked_and_says_how_long_it_is(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(size % 256)
    framed = wire._framed(0x2, payload)
    assert framed[0] == 0x82 and framed[1] & 0x80, "whole, binary, masked"
    assert framed.endswith(bytes(4) + payload)
    unmasked = (
        bytes((framed[0], framed[1] & 0x7F))
        + framed[2 : -size - 4 or None][: {126: 2, 127: 8}.get(framed[1] & 0x7F, 0)]
    )
    whole = unmasked + payload
    assert wire._frame_at(b"before" + whole + b"\x82", 6) == (2, 6 + len(unmasked), 6 + len(whole))
    for cut in {0, 1, 2, len(unmasked) - 1, len(whole) - 1} - {len(whole)}:
        assert wire._frame_at(whole[:cut], 0) is None


async def test_a_peer_is_welcomed_asks_and_is_answered() -> None:
    heard: asyncio.Queue[Map] = asyncio.Queue()
    async with coordinator() as (_, url), asyncio.timeout(BOUND):
        peer = await Peer.join(url, "open", "someone", lambda _, frame: heard.put_nowait(frame), card=card("s"))
        request = peer.send("agent.find", body={"filter": {"skill": "s"}})
        answer = await heard.get()
        assert (answer["kind"], answer["re"]) == ("agent.found", request)
        assert [agent["agent"] for agent in answer["body"]["agents"]] == ["someone"]
        peer.send_all([("ping", {"body": {"nonce": text}}) for text in ("a", "b")])
        assert [(await heard.get())["body"]["nonce"] for _ in range(2)] == ["a", "b"]
        peer.close()


async def test_who_is_not_let_in_says_why() -> None:
    async with coordinator() as (_, url), asyncio.timeout(BOUND):
        with pytest.raises(BenchmarkError, match="someone was not welcomed: .*auth"):
            await Peer.join(url, "another", "someone", lambda _, frame: None)


async def test_a_peer_answers_pings_and_notices_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with coordinator() as (server, url), asyncio.timeout(BOUND):
        peer = await Peer.join(url, "open", "someone", lambda _, frame: None)
        (there,) = server._peers.values()
        pings = there.transport
        assert pings is not None
        before = pings._received_at  # type: ignore[attr-defined]
        pings.keepalive(0.01)
        while pings._received_at == before:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        pings.abort()
        while peer.ended is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("limits", "allowed", "raised"),
    [((10, 90), 50, True), ((10, 30), 30, True), ((70, 90), 70, False), ((10, resource.RLIM_INFINITY), 50, True)],
)
def test_as_many_files_are_allowed_as_the_machine_lets_one(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], allowed: int, raised: bool
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: asked.append(pair))
    assert raise_file_limit(50) == allowed
    assert asked == ([(allowed, limits[1])] if raised else [])
