"""Peers of raw frames: just enough code to speak the protocol, so that ten thousand of them fit in one process.

A peer is one connection: the upgrade, WebSocket frames, and MessagePack maps as the specification has them. It answers
pings and acknowledges its mail, as every peer has to. It does not check what a user's library would check.
"""

from __future__ import annotations

import asyncio
import base64
import os
import resource
from collections.abc import Callable, Iterable
from typing import Any, cast
from urllib.parse import urlsplit

import msgpack

from benchmarks.report import BenchmarkError

__all__ = ["Map", "Peer", "card", "raise_file_limit"]

Map = dict[str, Any]

ACK_EVERY = 64
"""Mailbox entries between acknowledgements: a fourth of the credit, so that it never runs out."""
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def raise_file_limit(wanted: int) -> int:
    """Let this process have this many open files, or as many as the machine allows; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return allowed
    return soft


def card(skill: str) -> Map:
    """Return the card of an agent with one skill, as the library's decorators make it."""
    described = {"id": skill, "name": skill, "description": "Reverse a text.", "tags": ["benchmark"]}
    return {"name": "benchmark", "description": "Answers every text.", "version": "1.0", "skills": [described]}


class Peer(asyncio.Protocol):
    """One agent on one connection.

    Args:
        agent: its id.
        received: called with each map that comes, except answers to the hello.
    """

    __slots__ = ("_buffer", "_head", "_number", "_received", "_transport", "_unacked", "agent", "ended", "welcomed")

    def __init__(self, agent: str, received: Callable[[Peer, Map], None]) -> None:
        self.agent = agent
        self.ended: str | None = None
        """Why the connection is over, once it is."""
        self._received = received
        self._buffer = b""
        self._head = True
        self._number = 0
        self._unacked = 0
        self._transport: asyncio.Transport | None = None
        self.welcomed: asyncio.Future[Map] | None = asyncio.get_running_loop().create_future()

    @classmethod
    async def join(cls, url: str, token: str, agent: str, received: Callable[[Peer, Map], None], **hello: Any) -> Peer:
        """Connect and be welcomed; `hello` has further fields for its body."""
        where = urlsplit(url)
        assert where.hostname is not None and where.port is not None, "a coordinator says both"
        peer = cls(agent, received)
        welcomed = peer.welcomed
        assert welcomed is not None, "it was made one line above"
        await asyncio.get_running_loop().create_connection(lambda: peer, where.hostname, where.port)
        key = base64.b64encode(os.urandom(16)).decode()
        peer._write(
            f"GET / HTTP/1.1\r\nHost: {where.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: a2a.coord+msgpack\r\n\r\n".encode()
        )
        body = {"versions": ["1.0", "1.0"], "agentId": agent, "instanceId": f"{agent}-1", "incarnation": 1}
        peer.send("hello", body={**body, "token": token, **hello})
        await welcomed
        peer.welcomed = None
        return peer

    def send(self, kind: str, **fields: Any) -> str:
        """Send one frame, and return its id."""
        return self.send_all([(kind, fields)])

    def send_all(self, frames: Iterable[tuple[str, Map]]) -> str:
        """Send frames as one message, and return the id of the last."""
        packed = []
        for kind, fields in frames:
            self._number += 1
            packed.append(msgpack.packb({"id": str(self._number), "kind": kind, "body": {}, **fields}))
        self._write(_framed(_BINARY, b"".join(packed)))
        return str(self._number)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    # --- asyncio ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or str(exc or "the coordinator closed the connection")
        if self.welcomed is not None and not self.welcomed.done():
            self.welcomed.set_exception(BenchmarkError(f"{self.agent} was not let in: {self.ended}"))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data
        if self._head:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = data
                return
            status = data.partition(b"\r\n")[0].decode(errors="replace")
            if " 101 " not in status:
                self.ended = status
                self.close()
                return
            self._head, data = False, data[end + 4 :]
        at = 0
        while (found := _frame_at(data, at)) is not None:
            opcode, start, at = found
            self._take(opcode, data[start:at])
        self._buffer = data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self._write(_framed(_PONG, payload))
        elif opcode == _CLOSE:
            self.ended = payload[2:].decode(errors="replace") or "closed"
        elif opcode == _BINARY:
            unpacker = msgpack.Unpacker()
            unpacker.feed(payload)
            newest = 0
            for frame in unpacker:
                if self.welcomed is not None and not self.welcomed.done():
                    self._hear_welcome(frame)
                    continue
                if (mseq := frame.get("mseq")) is not None:
                    newest = mseq
                    self._unacked += 1
                self._received(self, frame)
            if self._unacked >= ACK_EVERY:
                self._unacked = 0
                self.send("mailbox.ack", body={"upto": newest})

    def _hear_welcome(self, frame: Map) -> None:
        assert self.welcomed is not None, "it is waited for"
        if frame["kind"] == "welcome":
            self.welcomed.set_result(frame["body"])
        else:
            self.welcomed.set_exception(BenchmarkError(f"{self.agent} was not welcomed: {frame['body']}"))

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _framed(opcode: int, payload: bytes) -> bytes:
    """Return a client's frame. It is masked, as it must be, with zeros, which costs nothing."""
    size = len(payload)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def _frame_at(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return a server's frame that is complete: its opcode, the start and the end of its payload; None if it is not."""
    if len(data) < at + 2:
        return None
    size, start = data[at + 1] & 0x7F, at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(data) < start + width:
            return None
        size, start = int.from_bytes(data[start : start + width], "big"), start + width
    return None if len(data) < start + size else (data[at] & 0x0F, start, start + size)
