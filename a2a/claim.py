"""A claim, for whoever made it: waited for on entering, renewed while held, given back on leaving.

    async with client.claim("repo/a/src/**", wait=10) as claim:
        guard.write(text, claim.fence)

Everything runs in the link's event loop; handlers run in another one and use `context.TaskClaim`. The code that keeps
late writers out is in `guards`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from .errors import (
    ClaimLost,
    ConnectError,
    ConnectionLost,
    Deadlock,
    Denied,
    LocalProtocolError,
    Refused,
    StaleFence,
    Unavailable,
)
from .given import milliseconds, milliseconds_if_any
from .link import SAID_AGAIN_FOR, pauses
from .protocol.messages import (
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimPreempt,
    ClaimQueued,
    ClaimRelease,
    ClaimRenew,
    Message,
)
from .protocol.types import Resource

if TYPE_CHECKING:
    from .delegator import Delegator

__all__ = ["Claim", "Mode", "Name", "acquire", "resources"]

Mode = Literal["x", "s"]
Name = str | tuple[str, Mode]
"""What to claim: a name, or a name and its mode."""

_MARGIN = 0.9
"""The share of its time, counted from when it was asked for, during which a holder relies on a claim."""
_ASKED_AGAIN = 60.0
"""Seconds after which a claim in line asks how it stands."""
_RENEW = 1 / 3
"""The share of its time after which a claim is renewed."""


def resources(names: Sequence[Name], mode: Mode = "x") -> list[Resource]:
    """Return the names as they travel; names without a mode get this one.

    Raises:
        ValueError: an entry is neither a name nor a name with its mode.
    """
    pairs = [(name, mode) if isinstance(name, str) else _pair(name) for name in names]
    return [{"name": name, "mode": its_mode} for name, its_mode in pairs]


def _pair(given: object) -> tuple[str, Mode]:
    match given:
        case (str(name), ("x" | "s") as mode):
            return name, mode
    raise ValueError(f"expected a name, or a name with its mode as in ('repo/a', 's'), got {given!r}")


class Claim:
    """Names that this side holds, alone or shared, inside the block. Made by `claim`; enter it to hold them."""

    def __init__(self, owner: Delegator, request: ClaimAcquire) -> None:
        self._owner = owner
        self._request = request
        self._word: asyncio.Future[ClaimGranted | ClaimDenied] | None = None
        self._granted: ClaimGranted | None = None
        self._until: int | None = None
        """When this side stops relying on the claim, by the link's clock; None: it lasts as long as the attempt."""
        self._renewing: asyncio.Task[None] | None = None
        self._lost = ""
        self.stopping = ""
        """Why the claim has to be given back soon, because one of higher priority waits for it, or empty."""

    async def __aenter__(self) -> Self:
        link = self._owner.link
        if self._word is not None:
            raise LocalProtocolError("a claim can be entered only once; make another one")
        link.require_loop()
        self._word = asyncio.get_running_loop().create_future()
        self._request = replace(self._request, claim_no=self._owner._next_claim_no())
        self._owner._claims[self._request.claim_no] = self
        try:
            answer, asked_at = await self._asked(self._request, SAID_AGAIN_FOR)
            if isinstance(answer, ClaimQueued):
                answer = await self._heard(self._word)
                if isinstance(answer, ClaimGranted) and answer.ttl_ms is not None:
                    # Its time cannot count from its arrival: it may have been under way for long.
                    answer, asked_at = await self._renewed(answer)
            self._take(answer, asked_at)
        except Unavailable:
            self._give_back()  # it may have been granted by mailbox
            raise
        except Refused:
            self._forget()
            raise
        except BaseException:
            self._give_back()  # it may still be granted
            raise
        return self

    async def _heard(self, word: asyncio.Future[ClaimGranted | ClaimDenied]) -> Message:
        """Wait for the word by mailbox, and ask for it now and then: another process of this name may have got it."""
        while True:
            await asyncio.wait([word], timeout=_ASKED_AGAIN)
            if word.done():
                return word.result()
            answer, _ = await self._asked(self._request, SAID_AGAIN_FOR)
            if not isinstance(answer, ClaimQueued):
                return answer

    async def _asked(self, request: ClaimAcquire | ClaimRenew, patience: float) -> tuple[Message, int]:
        """Return the answer to a request, and when it was last sent, by the link's clock: a claim's time counts so.

        A request that the coordinator cannot answer now is sent again for `patience` seconds, with pauses (spec ERR-1).
        """
        link, rests = self._owner.link, pauses()
        until = link.now() + patience * 1000
        while True:
            asked_at = link.now()
            try:
                return await link.call(request), asked_at
            except Unavailable as refusal:
                pause = next(rests) if refusal.retry_after is None else refusal.retry_after
                if not refusal.retryable or link.now() + pause * 1000 > until:
                    raise
            await link.clock.pause(pause)

    async def _renewed(self, granted: ClaimGranted) -> tuple[Message, int]:
        """Return the renewed grant, or a denial if the renewal came too late."""
        try:
            return await self._asked(ClaimRenew(granted.claim_fence), SAID_AGAIN_FOR)
        except StaleFence:
            detail = f"it was granted under fence {granted.claim_fence}, and ended before this side heard of it"
            return ClaimDenied(granted.claim_no, "ended", detail), self._owner.link.now()

    def _take(self, answer: Message, asked_at: int) -> None:
        if isinstance(answer, ClaimDenied):
            kind = Deadlock if answer.reason == "deadlock" else Denied
            raise kind(f"{self._named}: {answer.detail}", retryable=True, data={"cycle": answer.cycle})
        if not isinstance(answer, ClaimGranted):
            raise LocalProtocolError(f"expected claim.granted, the coordinator answered {answer.kind}")
        self._granted = answer
        if answer.ttl_ms is not None:
            self._until = asked_at + int(answer.ttl_ms * _MARGIN)
            self._renewing = asyncio.get_running_loop().create_task(self._renew(answer.claim_fence, answer.ttl_ms))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.link.require_loop()
        self._give_back()

    def _give_back(self) -> None:
        """Give the claim back by its number, which it has from the beginning.

        The request is kept and sent again like every other, but nobody waits for its answer.
        """
        self._forget()
        link, request = self._owner.link, self._request
        if not link.has_ended:
            link.session.request(ClaimRelease(None, request.claim_no, request.task, request.fence))
            link.wake()

    def _abandon(self) -> None:
        """Give it back unless that was done: the caller that waited for it does not know that it is held."""
        if self._owner._claims.get(self._request.claim_no) is self:
            self._give_back()

    def _forget(self) -> None:
        self._owner._claims.pop(self._request.claim_no, None)
        self._lost = self._lost or "it was given back"
        if self._renewing is not None:
            self._renewing.cancel()

    @property
    def names(self) -> list[str]:
        """The names that were claimed."""
        return [resource["name"] for resource in self._request.claims]

    @property
    def _named(self) -> str:
        return f"the claim on {', '.join(self.names)}"

    @property
    def fence(self) -> int:
        """Greater than the fence of every earlier claim on these names; for whatever guards the resources."""
        if self._granted is None:
            raise LocalProtocolError("enter the claim first: async with client.claim(...) as claim")
        return self._granted.claim_fence

    def check(self) -> None:
        """Call it before an outside effect.

        Raises:
            ClaimLost: somebody else may have the names by now.
        """
        if self._granted is None:
            raise LocalProtocolError("enter the claim first: async with client.claim(...) as claim")
        if self._lost:
            raise ClaimLost(f"{self._named} (fence {self.fence}) is no longer held: {self._lost}")
        if self._until is not None and self._owner.link.now() >= self._until:
            raise ClaimLost(f"{self._named} (fence {self.fence}) may have ended: it was not renewed in time")

    async def _renew(self, fence: int, ttl_ms: int) -> None:
        link = self._owner.link
        with contextlib.suppress(ConnectionLost, ConnectError):
            while True:
                await link.clock.pause(ttl_ms * _RENEW / 1000)
                try:
                    _, asked_at = await self._asked(ClaimRenew(fence), ttl_ms / 1000)
                except Refused as refused:
                    self._lost = self._lost or refused.detail
                    return
                self._until = max(self._until or 0, asked_at + int(ttl_ms * _MARGIN))

    def _noticed(self, message: ClaimGranted | ClaimDenied | ClaimPreempt) -> None:
        """In the link's loop: take a notice from the mailbox."""
        if isinstance(message, ClaimPreempt):
            self.stopping = message.reason
            self._owner.link.clock.call_later(message.grace_ms / 1000, self._preempted, message.reason)
        elif self._word is not None and not self._word.done():
            self._word.set_result(message)

    def _preempted(self, reason: str) -> None:
        self._lost = self._lost or reason

    def _link_ended(self) -> None:
        if self._word is not None and not self._word.done():
            self._word.set_exception(self._owner.link.lost())
            self._word.exception()  # nobody may have begun to wait for it


def acquire(
    claim_no: int,
    names: Sequence[Name],
    *,
    attempt: tuple[str, int] | None = None,
    mode: Mode = "x",
    wait: float = 0.0,
    ttl: float | None = None,
    priority: int = 0,
    preemptible: bool = False,
) -> ClaimAcquire:
    """Return the request for a claim; durations are in seconds.

    Raises:
        LocalProtocolError: nothing is claimed.
        ValueError: a duration or a name is not valid.
    """
    if not names:
        raise LocalProtocolError("a claim needs at least one name")
    task, fence = attempt or (None, None)
    wait_ms, ttl_ms = milliseconds(wait, "wait"), milliseconds_if_any(ttl, "ttl")
    return ClaimAcquire(claim_no, resources(names, mode), task, fence, ttl_ms, wait_ms, priority, preemptible)
