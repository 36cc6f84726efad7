"""The load a client process puts on a router, and what it measures.

It does not know the router: a `Call` carries one text to the worker and brings the answer back. The client process
takes phases as JSON lines on stdin and answers each with a JSON line of figures; the end of stdin ends it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.machine import cpu_seconds

__all__ = [
    "ANSWER",
    "CHILDREN",
    "CHUNKS",
    "TEXT",
    "Call",
    "Figures",
    "Phase",
    "answer_to",
    "measure",
    "run_role",
    "serve_phases",
]

TEXT = ("Look at what the task asks, do the smallest thing that answers it, and say so. " * 4)[:256]
ANSWER = TEXT[::-1]
NUMBER_DIGITS = 20
"""Each text begins with its own number, so that a coordinator that stores equal payloads once does not gain by it."""
CHUNKS = 100
"""Chunks of a task that streams, each as long as the text."""
CHILDREN = (1, 4, 16, 64)
"""How many sub-tasks a task is split into."""

Call = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Phase:
    """One order to the client process."""

    call: str
    """Which of the client's calls to use."""
    in_flight: int
    seconds: float
    router_pid: int
    """The process whose processor time is read before and after the phase."""
    repeats: int = 1
    """How often `TEXT` is in the text of a task, which begins with a number."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one phase measured."""

    tasks: int
    seconds: float
    p50_seconds: float
    router_cpu_seconds: float


def answer_to(text: str) -> str:
    """Return the worker's answer: as many bytes as came."""
    return text[::-1]


async def measure(call: Call, phase: Phase) -> Figures:
    """Keep `phase.in_flight` calls open for `phase.seconds`, then wait for the last of them."""
    durations: list[float] = []
    numbers = itertools.count(time.time_ns())  # other phases have other numbers
    text = (TEXT * phase.repeats)[NUMBER_DIGITS:]
    answered = answer_to(text)
    router_cpu = cpu_seconds(phase.router_pid)
    begin = time.perf_counter()
    end = begin + phase.seconds

    async def lane() -> None:
        while (start := time.perf_counter()) < end:
            number = str(next(numbers)).zfill(NUMBER_DIGITS)
            answer = await call(number + text)
            durations.append(time.perf_counter() - start)
            if not (answer.startswith(answered) and answer.removeprefix(answered) == answer_to(number)):
                raise ValueError(f"expected the text reversed, got {answer[:1000]!r}")

    async with asyncio.TaskGroup() as lanes:
        for _ in range(phase.in_flight):
            lanes.create_task(lane())
    return Figures(
        tasks=len(durations),
        seconds=time.perf_counter() - begin,
        p50_seconds=statistics.median(durations),
        router_cpu_seconds=cpu_seconds(phase.router_pid) - router_cpu,
    )


async def serve_phases(calls: Mapping[str, Call]) -> None:
    """Say that the client is ready, then run phases from stdin until it ends."""
    orders = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    print(json.dumps({"ready": True}), flush=True)
    try:
        while order := await orders.readline():
            phase = Phase(**json.loads(order))
            print(json.dumps(asdict(await measure(calls[phase.call], phase))), flush=True)
    finally:
        transport.close()


def run_role(role: Coroutine[Any, Any, None], loop: str) -> None:
    """Run a role of a benchmark to its end on the event loop named."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(role)
