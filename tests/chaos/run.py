"""A run: a continuous load, one fault after the other, and then quiet until everything has ended.

All that the run knows of the work is what the client said; `audit` judges the rest from the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from a2a.conformance.program import free_port

from .plan import Fault
from .processes import BOUND, ChaosError, Post
from .work import LINGER_CONTEXTS, TASKS_IN_TREE, leaf_value, tree_value

__all__ = ["Book", "Town", "town"]

_OPEN_MAX = 300
"""Trees under way: while the coordinator is away, the load waits instead of growing for ever."""
_FILL_OPEN = 400


@dataclass(slots=True)
class Book:
    """What the client said, which nobody may take back."""

    asked: set[int] = field(default_factory=set)
    """Trees that were asked for."""
    tasks: dict[int, str] = field(default_factory=dict)
    """Tree to the task that was acknowledged."""
    values: dict[int, int] = field(default_factory=dict)
    """Tree to the result that was confirmed."""
    contradictions: list[str] = field(default_factory=list)
    """Trees for which the client said two different things, or a wrong value."""

    @property
    def open(self) -> set[int]:
        """Trees whose result is still to come."""
        return self.asked - self.values.keys()

    def note(self, line: bytes) -> bool:
        """Note what the client said; return whether a tree has finished."""
        said = json.loads(line)
        tree = said["tree"]
        if "task" in said:
            known = self.tasks.setdefault(tree, said["task"])
            if known != said["task"]:
                self.contradictions.append(f"tree {tree} was {known} and is {said['task']}")
            return False
        is_news = tree not in self.values
        due = tree_value(tree) if tree >= 0 else leaf_value(-tree, 0, 0)
        if self.values.setdefault(tree, said["value"]) != said["value"] or said["value"] != due:
            self.contradictions.append(f"tree {tree} came to {said['value']}, it should be {due}")
        return is_news


class Town:
    """The processes of a run, and what the client has said so far."""

    def __init__(self, folder: Path, agents: int, rate: float) -> None:
        self.folder = folder
        self.ledger = folder / "ledger.db"
        self.rate = rate
        self.book = Book()
        self.starts: list[int] = []
        """When each process of the coordinator was started, in milliseconds since the epoch."""
        listen = f"127.0.0.1:{free_port()}"
        environment = {"A2A_STATE_DIR": str(folder / "state"), "A2A_URL": f"ws://{listen}"}
        settings = folder / "a2a.toml"
        settings.write_text(f"[retention]\nlinger_contexts = {LINGER_CONTEXTS}\n", encoding="utf-8")
        place = ("--listen", listen, "--db", str(self.ledger), "--config", str(settings))
        command = ("-m", "a2a", "coordinator", "run", *place, "--ready-json")
        self.coordinator = Post("coordinator", command, folder, environment)
        self.client = Post("client", ("-m", "tests.chaos.client"), folder, environment)
        names = [f"agent/{number}" for number in range(1, agents + 1)]
        self.agents = {
            name: Post(name, ("-m", "tests.chaos.agent", "--name", name), folder, environment) for name in names
        }
        self.load_seconds = 0.0
        """Seconds that the load has been on."""
        self._finished = 0
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    @property
    def posts(self) -> list[Post]:
        """All posts, in the order of their start."""
        return [self.coordinator, *self.agents.values(), self.client]

    # Starting and ending ----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start all processes."""
        await self.start_coordinator()
        for agent in self.agents.values():
            await agent.start()
        await self.start_client()

    async def start_coordinator(self) -> None:
        """Start a coordinator on the ledger, and return when it says that it is ready."""
        self.starts.append(int(time.time() * 1000))
        await self.coordinator.start()
        try:
            async with asyncio.timeout(BOUND):
                line = await self.coordinator.line()
        except TimeoutError:
            raise ChaosError(f"the coordinator is not ready{self.coordinator.last_words()}") from None
        if not line:
            raise ChaosError(f"the coordinator ended at its start{self.coordinator.last_words()}")

    async def start_client(self) -> None:
        """Start a client, which continues where the last one stopped."""
        await self.client.start()
        self._listening = asyncio.create_task(self._listen())
        for tree in sorted(self.book.open):
            self.client.tell(str(tree))

    async def _listen(self) -> None:
        while line := await self.client.line():
            self._finished += self.book.note(line)
            self._news.set()

    async def end(self) -> None:
        """Have all processes end by themselves: the client, the agents, the coordinator."""
        for post in reversed(self.posts):
            await post.end(by_signal=post is not self.client)

    # The load ---------------------------------------------------------------------------------------------------------

    def ask(self, tree: int) -> None:
        """Have a tree grown."""
        self.book.asked.add(tree)
        self.client.tell(str(tree))

    async def load(self) -> None:
        """Ask for trees at the rate, until cancelled."""
        pause = TASKS_IN_TREE / self.rate
        begun = time.monotonic()
        tree = max((tree for tree in self.book.asked), default=0)
        try:
            for number in range(1_000_000_000):
                await asyncio.sleep(begun + number * pause - time.monotonic())
                while len(self.book.open) >= _OPEN_MAX:
                    await self._next()
                tree += 1
                self.ask(tree)
        finally:
            self.load_seconds += time.monotonic() - begun

    async def fill(self, tasks: int) -> None:
        """Have the ledger hold this many tasks before the run begins."""
        for number in range(1, tasks + 1):
            while len(self.book.open) >= _FILL_OPEN:
                await self._next()
            self.ask(-number)
        await self.converged()

    async def converged(self) -> None:
        """Wait until every tree has its value."""
        while self.book.open:
            await self._next()

    async def finish(self, trees: int) -> None:
        """Wait until this many more trees have finished."""
        due = self._finished + trees
        while self._finished < due:
            await self._next()

    async def _next(self) -> None:
        """Wait for the client's next line."""
        self._news.clear()
        try:
            async with asyncio.timeout(BOUND):
                await self._news.wait()
        except TimeoutError:
            words = "".join(f"\n{post.name}{post.last_words()}" for post in self.posts)
            raise ChaosError(f"nothing happens for {BOUND:g} s, {len(self.book.open)} trees are open{words}") from None

    # Faults -----------------------------------------------------------------------------------------------------------

    async def strike(self, fault: Fault) -> None:
        """Carry out a fault, and undo it."""
        post = next(post for post in self.posts if post.name == fault.target)
        if fault.kind == "stop":
            post.stop()
            await asyncio.sleep(fault.seconds)
            post.resume()
            return
        await post.kill()
        if post is self.coordinator:
            await self.start_coordinator()
        elif post is self.client:
            assert self._listening is not None, "there was a client"
            await self._listening  # what it had said before it was killed
            await self.start_client()
        else:
            await post.start()


@asynccontextmanager
async def town(folder: Path, *, agents: int, rate: float) -> AsyncIterator[Town]:
    """Run the processes for the duration of the block; those still running at its end are killed, by pid."""
    # Agents and clients find tokens by the address, so two concurrent runs must not share a folder.
    os.makedirs(folder / "state", mode=0o700, exist_ok=True)  # noqa: PTH103 - the mode is for both
    running = Town(folder, agents, rate)
    try:
        yield running
    finally:
        for post in reversed(running.posts):
            await post.clear_away()
