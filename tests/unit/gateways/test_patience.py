"""How long the gateway waits for what of a request is still to come."""

from __future__ import annotations

import anyio
import h11
import pytest

from a2a.gateways import patience
from a2a.gateways.patience import PatientProtocol
from a2a.gateways.serving import gateway
from a2a.testing import squad

BOUND = 30
CARD = b"GET /.well-known/agent-card.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HALF = b"POST /message:send HTTP/1.1\r\nHost: 127.0.0.1\r\n"
UNTOLD = HALF + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"


@pytest.mark.parametrize(
    ("is_first", "sent", "answered"),
    [
        (True, b"", b""),
        (True, HALF, b""),
        (True, UNTOLD, b"HTTP/1.1 401 "),
        (False, HALF, b""),
        (False, UNTOLD, b"HTTP/1.1 401 "),
    ],
    ids=["nothing", "half a head", "half a body and no token", "half a second head", "half a second body"],
)
async def test_who_does_not_say_all_of_a_request_is_not_waited_for(helper, monkeypatch, is_first, sent, answered):
    for state in patience.BOUNDS:
        monkeypatch.setitem(patience.BOUNDS, state, 0.2)
    came = b""
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, gateway(running.connect("gateway"), "127.0.0.1:0") as here:
            async with await anyio.connect_tcp("127.0.0.1", int(here.url.rpartition(":")[2])) as stream:
                if not is_first:
                    await stream.send(CARD)
                    while not came.endswith(b"}"):
                        came += await stream.receive()
                    came = b""
                if sent:
                    await stream.send(sent)
                with pytest.raises(anyio.EndOfStream):
                    while True:
                        came += await stream.receive()
    assert came.startswith(answered) and bool(came) == bool(answered)


async def test_what_is_whole_is_waited_for_no_more_and_another_request_anew(helper, monkeypatch):
    seen: list[PatientProtocol] = []
    waits: list[object] = []

    def look(self: PatientProtocol) -> None:
        real(self)
        seen.append(self)
        waits.append(self._coming)

    real = PatientProtocol._look
    monkeypatch.setattr(PatientProtocol, "_look", look)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, gateway(running.connect("gateway"), "127.0.0.1:0") as here:
            async with await anyio.connect_tcp("127.0.0.1", int(here.url.rpartition(":")[2])) as stream:
                for piece in (CARD[:20], CARD[20:]):
                    await stream.send(piece)
                    while len(waits) < 2 + (piece == CARD[20:]):
                        await anyio.lowlevel.checkpoint()
                assert waits == [h11.IDLE, h11.IDLE, None]
                assert seen[-1]._given_up is None
                came = b""
                while not came.endswith(b"}"):
                    came += await stream.receive()
                await stream.send(UNTOLD)
                while len(waits) < 4:
                    await anyio.lowlevel.checkpoint()
                assert waits[3:] == [h11.SEND_BODY]
                assert seen[-1]._given_up is not None
            while seen[-1]._given_up is not None:  # nobody is there to wait for
                await anyio.lowlevel.checkpoint()
