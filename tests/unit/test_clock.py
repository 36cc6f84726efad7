"""The clock by which peers reckon."""

from __future__ import annotations

import asyncio
import time

import anyio

from a2a.clock import REAL_TIME

BOUND = 20


async def test_real_time_is_the_machines_and_calls_come_in_the_running_loop() -> None:
    called: asyncio.Future[asyncio.AbstractEventLoop] = asyncio.get_running_loop().create_future()
    began = REAL_TIME.now()
    assert abs(began - time.monotonic() * 1000) < 1_000
    with anyio.fail_after(BOUND):
        REAL_TIME.call_later(0.01, lambda which: which.set_result(asyncio.get_running_loop()), called)
        assert await called is asyncio.get_running_loop()
        await REAL_TIME.pause(0.01)
    assert REAL_TIME.now() - began >= 19, "two times ten, in whole milliseconds"
