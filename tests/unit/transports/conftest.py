"""What the transport tests share: a receiver that writes down what it is told."""

import asyncio
from collections.abc import Callable

import pytest

from a2a.transports.base import Transport

WAIT = 10.0
"""The bound of every wait; a test that passes never gets near it."""


class Recorder:
    """A receiver that keeps everything. `until` waits for what it is told next, it never polls."""

    def __init__(self) -> None:
        self.transport: Transport | None = None
        self.calls: list[str] = []
        self.messages: list[bytes] = []
        self.reasons: list[str] = []
        self.on_opened: Callable[[Transport], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self._changed = asyncio.Event()

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        self._note("opened")
        if self.on_opened:
            self.on_opened(transport)

    def received(self, data: bytes) -> None:
        self.messages.append(data)
        self._note("received")
        if self.on_message:
            self.on_message(data)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self._note("closed")

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    async def until_opened(self) -> Transport:
        await self.until(lambda: self.transport)
        assert self.transport is not None
        return self.transport

    async def until_received(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.messages) >= count)
        return self.messages

    async def until_closed(self) -> str:
        await self.until(lambda: self.reasons)
        return self.reasons[0]

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()


@pytest.fixture
def make_recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture(autouse=True)
def no_callback_failed(caplog):
    """An exception in a callback ends in the log of the event loop, and nowhere else."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"] == []
