"""What simulated peers do with claims: hold and wait, in circles too, change their minds, and release or forget.

All draws here come from separate random streams: a seed whose peers claim nothing stays what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import TYPE_CHECKING, Any

from a2a.engine.work import Attempt
from a2a.protocol.messages import (
    ClaimAcquire,
    ClaimDenied,
    ClaimGranted,
    ClaimPreempt,
    ClaimQueued,
    ClaimRelease,
    ClaimRenew,
    Message,
    TaskDelegate,
)

if TYPE_CHECKING:
    from .peers import Peer

__all__ = ["NAMES", "Claimant", "declare"]

ASKED_AGAIN_MS = 60_000
NAMES = ("repo/**", "repo/a/**", "repo/a/x", "repo/b", "deploy", "merge:repo")
"""Few, so that claims meet."""
Script = Generator["int | Callable[[], bool]", None, None]


def draw_names(chance: Random, most: int) -> list[dict[str, str]]:
    """Draw names to claim."""
    names = chance.sample(NAMES, chance.randint(1, most))
    return [{"name": name, "mode": "x" if chance.random() < 0.7 else "s"} for name in names]


def declare(request: TaskDelegate, chance: Random, often: float) -> None:
    """Have a task need names, sometimes."""
    if chance.random() < often / 2:
        request.spec["resources"] = draw_names(chance, 2)  # type: ignore[typeddict-item]


class Claimant:
    """The claims of one process."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.chance = peer.world.chance(peer.instance, "claims")
        self._number = peer.world.now
        self.words: dict[tuple[int, int], Message] = {}
        """(task's fence, claim number) to the last message about it."""
        self.fences: list[int] = []
        """Fences of claims it had at some time; the newest few."""

    def hear(self, message: Message) -> None:
        """Take a message about claims."""
        if isinstance(message, ClaimGranted | ClaimDenied):
            self.words[message.fence or 0, message.claim_no] = message
        if isinstance(message, ClaimGranted):
            self.fences = [*self.fences[-7:], message.claim_fence]
        elif isinstance(message, ClaimPreempt) and self.chance.random() < 0.5:
            self._peer.later(self.chance.randint(0, 3_000), self._release, message.claim_fence)

    def _release(self, fence: int) -> None:
        self._peer.session.request(ClaimRelease(fence))

    def _draw(self, attempt: Attempt | None) -> ClaimAcquire:
        chance = self.chance
        self._number = max(self._number + 1, self._peer.world.now)
        ttls = (None, None, 2_000, 20_000) if attempt is not None else (1_000, 5_000, 20_000)
        return ClaimAcquire(
            self._number,
            draw_names(chance, 3),  # type: ignore[arg-type]
            attempt.task if attempt is not None else None,
            attempt.fence if attempt is not None else None,
            ttl_ms=chance.choice(ttls),
            wait_ms=chance.choice((0, 500, 5_000, 20_000)),
            priority=chance.choice((0, 0, 0, 1, 2)),
            preemptible=chance.random() < 0.3,
        )

    def hold(self, attempt: Attempt | None, depth: int = 2) -> Script:
        """Claim, wait for the answer, perhaps claim more meanwhile, and release it soon or late or never."""
        chance, session = self.chance, self._peer.session
        request = self._draw(attempt)
        key = (request.fence or 0, request.claim_no)
        has_answer = self._peer.await_reply(sent := session.request(request))
        yield has_answer
        if isinstance(self._peer.replies.pop(sent), ClaimQueued):
            if chance.random() < 0.1:  # it changes its mind
                yield chance.randint(1, 500)
                session.request(ClaimRelease(None, request.claim_no, request.task, request.fence))
                return
            yield from self._word(request, key)
        word = self.words.pop(key, None)
        if not isinstance(word, ClaimGranted):
            return
        if depth > 1 and chance.random() < 0.6:
            yield chance.randint(1, 500)
            yield from self.hold(attempt, depth - 1)
        if word.ttl_ms is not None and chance.random() < 0.3:
            session.request(ClaimRenew(word.claim_fence))
        yield chance.randint(0, 1_500)
        draw = chance.random()
        if draw < 0.6:
            self._peer.later(chance.choice((0, 2_000)), self._release, word.claim_fence)
        elif draw < 0.8:
            session.request(ClaimRelease(None, request.claim_no, request.task, request.fence))
        if chance.random() < 0.2:
            self._release(chance.choice(self.fences))  # perhaps an older one

    def keep(self, attempt: Attempt) -> Script:
        """Claim one of the names that everybody wants, until the attempt ends, also while it asks and waits."""
        request = self._draw(attempt)
        request.claims = [{"name": self.chance.choice(NAMES[-2:])}]  # type: ignore[list-item]
        request.wait_ms, request.ttl_ms, request.preemptible = 5_000, None, False
        key = (request.fence or 0, request.claim_no)
        has_answer = self._peer.await_reply(sent := self._peer.session.request(request))
        yield has_answer
        if isinstance(self._peer.replies.pop(sent), ClaimQueued):
            yield from self._word(request, key)
        self.words.pop(key, None)

    def _word(self, request: ClaimAcquire, key: tuple[int, int]) -> Script:
        """Wait for the notice, and sometimes ask for it: another process of this agent may have got it."""
        peer = self._peer
        is_queued = True
        while is_queued:
            asked_again_at = peer.world.now + ASKED_AGAIN_MS
            yield lambda until=asked_again_at: key in self.words or peer.world.now >= until  # type: ignore[misc]
            if key in self.words:
                return
            has_answer = peer.await_reply(sent := peer.session.request(request))
            yield has_answer
            is_queued = isinstance(peer.replies.pop(sent), ClaimQueued)

    def meddle(self, fences: list[int]) -> None:
        """Release a claim that belongs to another peer."""
        if fences:
            self._release(self.chance.choice(fences))


def run(later: Callable[..., Any], script: Script) -> None:
    """Run a script that belongs to no attempt, and check every 100 ms whether its wait is over."""
    for wish in script:
        if callable(wish):
            if not wish():
                later(100, _wait, later, script, wish)
                return
        else:
            later(wish, run, later, script)
            return


def _wait(later: Callable[..., Any], script: Script, wish: Callable[[], bool]) -> None:
    if wish():
        run(later, script)
    else:
        later(100, _wait, later, script, wish)
