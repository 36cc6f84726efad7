"""The chunks that one attempt streams: sent in order, confirmed as the answers come (spec ART-2).

A handler goes on while its newest chunks are unconfirmed: else each would wait for its own sync. The number of
unconfirmed chunks is bounded, and whatever rests on them waits for them. The session keeps each until it is answered
and sends it again after a reconnect, in order. Made by an attempt's context, in the handler's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from .engine.work import Attempt
from .errors import A2AError, ConnectionLost
from .protocol.messages import Message

if TYPE_CHECKING:
    from .runner import Runner

__all__ = ["UNCONFIRMED_BYTES_MAX", "UNCONFIRMED_MAX", "ChunkStream"]

UNCONFIRMED_MAX = 64
"""Chunks of one attempt without an answer. Eight handlers that stream as fast as they can reach 0.21 of a bare relay's
chunks with 32, 0.25 with 64, and 0.09 if each chunk waits for its answer."""
UNCONFIRMED_BYTES_MAX = 1024 * 1024
"""Bytes in unconfirmed chunks at which no further chunk is sent: the link keeps each until it is answered."""


class ChunkStream:
    """The chunks under way of all artifacts of one attempt.

    A refused chunk stands for all chunks after it: each call for that artifact raises the first refusal, until the
    artifact begins anew.
    """

    def __init__(self, runner: Runner, attempt: Attempt) -> None:
        self._runner = runner
        self._attempt = attempt
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        """Callers that wait for room go before later ones: chunks have an order."""
        self._fewer = asyncio.Event()
        self._count = 0
        self._bytes = 0
        self._under_way: dict[str, int] = {}
        """Artifact to the number of its chunks that have no answer yet."""
        self._failures: dict[str, BaseException] = {}
        """Artifact to why the first of its failed chunks failed."""
        self._untold: list[str] = []
        """Artifacts whose failure no call has raised yet."""
        self._answers: set[asyncio.Task[None]] = set()
        """In the link's loop: one task for each chunk under way."""

    async def send(self, name: str, payload: bytes, *, append: bool, last: bool) -> None:
        """Send a chunk once there is room for it; with `last`, return when the whole artifact is durable.

        Raises:
            A2AError: this chunk, or an earlier one of the artifact, was refused.
        """
        async with self._turn:
            if not append and name in self._failures:
                await self._until(lambda: name not in self._under_way)  # chunks refused on account of the first
                del self._failures[name]
                if name in self._untold:
                    self._untold.remove(name)  # the artifact begins anew: the old failure is over
            await self._until(self._has_room)
            self._check(name)
            self._count += 1
            self._bytes += len(payload)
            self._under_way[name] = self._under_way.get(name, 0) + 1
            self._runner.in_link(self._request, name, payload, append, last)
        if last:
            await self._until(lambda: name not in self._under_way)
            self._check(name)

    async def confirmed(self) -> None:
        """Wait until every chunk that was sent has its answer.

        Raises:
            A2AError: a chunk was refused, and no call has raised that yet.
        """
        await self._until(lambda: not self._count)
        if self._untold:
            self._check(self._untold[0])

    def _has_room(self) -> bool:
        return self._count < UNCONFIRMED_MAX and self._bytes < UNCONFIRMED_BYTES_MAX

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._fewer.clear()
            await self._fewer.wait()

    def _check(self, name: str) -> None:
        failure = self._failures.get(name)
        if failure is not None:
            if name in self._untold:
                self._untold.remove(name)
            raise failure

    def _answered(self, name: str, size: int, error: BaseException | None) -> None:
        self._count -= 1
        self._bytes -= size
        self._under_way[name] -= 1
        if not self._under_way[name]:
            del self._under_way[name]
        if error is not None and name not in self._failures:
            self._failures[name] = error
            self._untold.append(name)
        self._fewer.set()

    # In the link's loop -----------------------------------------------------------------------------------------------

    def _request(self, name: str, payload: bytes, append: bool, last: bool) -> None:
        link = self._runner.link
        try:
            request = link.work.artifact(self._attempt, name, payload, append=append, last=last)
            reply = link.expect(request)  # here: the task below begins later, when the answer may already be there
        except A2AError as error:
            self._tell(name, len(payload), error)
            return
        answer = asyncio.get_running_loop().create_task(self._wait_for(request, reply, name, len(payload)))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

    async def _wait_for(self, request: str, reply: asyncio.Future[Message], name: str, size: int) -> None:
        error: A2AError | None = ConnectionLost("the link was closed")
        try:
            await self._runner.link.reply_to(request, reply)
            error = None
        except A2AError as refusal:
            error = refusal
        finally:
            self._tell(name, size, error)

    def _tell(self, name: str, size: int, error: A2AError | None) -> None:
        with contextlib.suppress(RuntimeError):  # the handler's loop is closed: nobody waits there
            self._loop.call_soon_threadsafe(self._answered, name, size, error)
