"""A peer without an SDK, on a transport in memory: it sends frames, and keeps those that come."""

from __future__ import annotations

from typing import Any, cast

import anyio

from a2a import Server
from a2a.protocol.codec import MSGPACK, Decoder, Frame, encode
from a2a.protocol.messages import Hello
from a2a.transports.memory import pair

__all__ = ["HELLO", "Peer", "join", "welcomed"]

HELLO = Hello(["1.0", "1.0"], "peer#1", "i1", 1)


class Peer:
    """A raw peer on a memory transport."""

    def __init__(self, encoding: Any = MSGPACK) -> None:
        self.encoding = encoding
        self.transport: Any = None
        self.frames: list[Frame] = []
        self.messages: list[list[str]] = []
        """The requests that each message answered."""
        self.news = anyio.Event()
        self.end: str | None = None

    def opened(self, transport: Any) -> None:
        self.transport = transport

    def received(self, data: bytes) -> None:
        frames = [cast(Frame, frame) for frame in Decoder(self.encoding).decode(data)]
        self.frames += frames
        self.messages.append([frame.re or "" for frame in frames])
        self.news.set()

    def closed(self, reason: str) -> None:
        self.end = reason
        self.news.set()

    def send(self, *frames: Frame) -> None:
        self.transport.send(encode(frames, self.encoding))

    async def reply(self, request: str) -> Any:
        while True:
            found = next((frame.message for frame in self.frames if frame.re == request), None)
            if found is not None:
                return found
            assert self.end is None, f"closed while waiting for the answer to {request}: {self.end}"
            self.news = anyio.Event()
            await self.news.wait()

    async def until(self, kind: str) -> Any:
        while True:
            found = next((frame.message for frame in self.frames if frame.message.kind == kind), None)
            if found is not None:
                return found
            assert self.end is None, f"closed while waiting for {kind}: {self.end}"
            self.news = anyio.Event()
            await self.news.wait()


async def join(server: Server, encoding: Any = MSGPACK) -> Peer:
    peer = Peer(encoding)
    pair(peer, server.receiver(), subprotocol=encoding)
    while peer.transport is None:
        await anyio.lowlevel.checkpoint()
    return peer


async def welcomed(server: Server) -> Peer:
    """Return a peer that was welcomed."""
    peer = await join(server)
    peer.send(Frame("1", HELLO))
    await peer.until("welcome")
    return peer
