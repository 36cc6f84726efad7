"""A2A's operations, carried over one client's link for many callers (spec BIND).

The coordinator decides what an operation does, and whether it may. This module does what one connection for many
callers needs: it limits how many wait at a time and how long they wait for an absent coordinator, and keeps one
caller's answers from holding up another's. A message that waits is sent first, and then its task is followed, so it
counts against no limit while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from ..client import Client
from ..engine.call_following import UNSUPPORTED_OPERATION, FollowedCall
from ..errors import CODES, ConnectionLost, ErrorCode, Refused
from ..link import refused
from ..protocol.messages import A2ACall, A2AEvent, A2AFault, A2AResult, Error
from ..protocol.operations import Fault, decode, encode

__all__ = ["OPEN_MAX", "Carrier", "Faulted", "faulted"]

OPEN_MAX = 512
"""Calls open at a time. A connection may have 1,024 (spec BIND-18), including those that nobody follows any longer."""
_STANDS_STILL = frozenset(
    f"TASK_STATE_{state}"
    for state in ("COMPLETED", "FAILED", "CANCELED", "REJECTED", "INPUT_REQUIRED", "AUTH_REQUIRED")
)
"""A2A's terminal and interrupted states, in which a waiting message is answered (A2A 3.2.2)."""


class Faulted(Exception):
    """An operation was answered with one of A2A's errors.

    Attributes:
        fault: the error.
        status: the HTTP status, if a request was refused before it became an operation.
    """

    def __init__(self, fault: A2AFault, status: int | None = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.status = status


def faulted(code: ErrorCode, detail: str, *, retryable: bool = False, status: int | None = None) -> Faulted:
    """Return the exception for the error `code` of this protocol (spec BIND-13, BIND-14)."""
    facts = {"code": code.value, "retryable": str(retryable).lower()}
    return Faulted(Fault(CODES[code].jsonrpc, detail, facts=facts).told, status)


class Carrier:
    """Carries A2A's operations.

    Args:
        client: the client whose link carries them, and which owns the tasks; it has to be entered before a call.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._admitted = 0
        self._open: set[FollowedCall] = set()
        self._streams: set[FollowedCall] = set()
        """The open calls that callers follow themselves."""
        self._ending: Error | None = None
        self._all_over = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether operations get through: the coordinator is connected, and the end has not begun."""
        return self._ending is None and self._client.link.session.is_open

    @property
    def payload_max(self) -> int:
        """How many bytes an operation's request may have (spec LIMIT-1)."""
        return self._client.link.session.payload_max

    async def answer(self, call: A2ACall) -> bytes:
        """Return the answer to an operation; for a stream, its first event.

        Raises:
            Faulted: the answer is an error.
        """
        with self._admission():
            return await self._first(call)

    async def sent(self, call: A2ACall, request: dict[str, Any], *, waits: bool) -> bytes:
        """Send a message, and return the answer (A2A 3.1.1).

        Args:
            call: a call of `SendMessage`.
            request: its payload, decoded.
            waits: whether to wait until the task has ended or waits for an answer (spec BIND-9), not only until the
                message is durable.

        Raises:
            Faulted: the answer is an error.
        """
        configuration = request.get("configuration")
        known = {} if configuration is None else configuration
        if isinstance(known, dict) and known.get("returnImmediately") in (None, False):
            at_once = encode(request | {"configuration": known | {"returnImmediately": True}})
            if len(at_once) <= self.payload_max:  # else the coordinator waits, and the call counts meanwhile
                call = replace(call, payload=at_once)
        with self._admission():
            sent = await self._first(call)
            task = decode(sent)["task"]
            if waits and not _stands_still(task):
                named = encode({"id": task["id"]})
                await self._stood_still(A2ACall("SubscribeToTask", named))
                sent = b'{"task":%b}' % await self._first(A2ACall("GetTask", named))
            return sent

    async def events(self, call: A2ACall) -> AsyncGenerator[A2AEvent, None]:
        """Yield the events of a stream; the generation of an event is where to resume after it (spec BIND-17).

        Raises:
            Faulted: it is refused, or ends with an error.
        """
        with self._admission():
            async with aclosing(self._answers(call, is_stream=True)) as answers:
                async for answer in answers:
                    if isinstance(answer, A2AEvent):
                        yield answer

    async def end(self, grace: float) -> None:
        """Accept no more calls, end the streams, and let other calls end within `grace` seconds. Their tasks go on."""
        detail = "the gateway is stopping: ask again, and continue streams with SubscribeToTask"
        self._ending = Error(ErrorCode.UNAVAILABLE, detail, retryable=True)
        self._refuse(self._streams, self._ending)
        if self._admitted:
            self._all_over.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._all_over.wait()
            except TimeoutError:
                self._refuse(self._open, self._ending)

    @contextmanager
    def _admission(self) -> Iterator[None]:
        if self._ending is not None:
            raise _told(refused(self._ending))
        if self._admitted >= OPEN_MAX:
            detail = f"{OPEN_MAX} calls are open, the most at a time: wait for one of them to end"
            raise faulted(ErrorCode.QUOTA, detail, retryable=True)
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1
            if not self._admitted:
                self._all_over.set()

    async def _first(self, call: A2ACall) -> bytes:
        async with aclosing(self._answers(call)) as answers:
            async for answer in answers:
                return answer.payload
        raise faulted(ErrorCode.UNAVAILABLE, f"{call.operation} had no answer", retryable=True)

    async def _stood_still(self, call: A2ACall) -> None:
        try:
            async with aclosing(self._answers(call, newest_only=True)) as events:
                async for event in events:
                    told = decode(event.payload)
                    if _stands_still(told.get("task") or told.get("statusUpdate") or {}):
                        return
        except Faulted as error:
            if error.fault.code != UNSUPPORTED_OPERATION:  # otherwise the task has ended meanwhile
                raise

    async def _answers(
        self, call: A2ACall, *, is_stream: bool = False, newest_only: bool = False
    ) -> AsyncGenerator[A2AResult | A2AEvent, None]:
        followed = None
        try:
            followed = self._client.follow_call(call, newest_only=newest_only)
            self._open.add(followed)
            if is_stream:
                self._streams.add(followed)
            while answers := await self._client.next_answers(followed):
                for answer in answers:
                    if isinstance(answer, A2AFault):
                        raise Faulted(answer)
                    yield answer
        except Refused as error:
            raise _told(error) from error
        except ConnectionLost as error:
            raise faulted(ErrorCode.UNAVAILABLE, str(error), retryable=True) from error
        finally:
            if followed is not None:
                self._client.unfollow_call(followed)
                self._open.discard(followed)
                self._streams.discard(followed)

    def _refuse(self, calls: Collection[FollowedCall], error: Error) -> None:
        self._client.written([*self._client.link.calls.refuse(error, calls)])


def _told(error: Refused) -> Faulted:
    return faulted(error.code, error.detail, retryable=error.retryable)


def _stands_still(told: dict[str, Any]) -> bool:
    return told.get("status", {}).get("state") in _STANDS_STILL
