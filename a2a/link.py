"""The loop that clients and agents share: session, transport, reconnect.

A link keeps one session with one coordinator for as long as its owner lives. A lost connection is not an error: the
link reconnects with back-off and jitter, and the session sends unanswered requests again. A link has one reader, one
writer and one timer, all callbacks of its event loop; its only task is the one that connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from ssl import SSLContext
from typing import Any

import anyio

from .clock import REAL_TIME, PeerClock
from .content import read_json, read_word
from .credentials import (
    DEFAULT_URL,
    StateDirectoryError,
    coordinator_dir,
    load_tokens,
    next_incarnation,
    provide_secret,
    secret_files,
)
from .engine.agent_watching import AgentWatches, WatchedAgents
from .engine.call_following import FollowedCall, FollowedCalls
from .engine.context_watching import ContextWatches, Watched
from .engine.delegation import Delegation, Delegations
from .engine.work import Event as WorkEvent
from .engine.work import Work
from .errors import (
    CODES,
    A2AError,
    ConnectError,
    ConnectionLost,
    ErrorCode,
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
)
from .given import require_kind, require_known, several, words
from .ids import new_secret, numbering
from .loglines import brief
from .protocol.codec import (
    JSON,
    MSGPACK,
    SUBPROTOCOLS,
    UNENCODABLE,
    BadFrame,
    Decoder,
    Encoding,
    Frame,
    FrameLimits,
    encode,
    without_form,
)
from .protocol.messages import (
    A2AEvent,
    A2AFault,
    AgentEvent,
    Bye,
    ClaimAcquire,
    ClaimRenew,
    ContextEventNotice,
    Credit,
    Error,
    HeldStill,
    Message,
    TaskDecline,
    TaskReport,
    TaskYield,
)
from .protocol.session import Event, Identity, Left, Notice, PeerSession, Reply, TurnedAway, Welcomed
from .protocol.types import principal_of
from .transports.base import Receiver, Transport
from .transports.sending import BUSY_PING, FROM_COORDINATOR_MAX, IDLE_PING, Unsendable, send_frames
from .transports.websocket import WebSocketSettings, connect

__all__ = [
    "SAID_AGAIN_FOR",
    "WELCOMED_WITHIN",
    "Dial",
    "Link",
    "LinkSettings",
    "pauses",
    "refused",
    "require_secret",
    "settings_with",
]

log = logging.getLogger("a2a.link")

_BACKOFF = (0.05, 5.0)
"""The first and the longest pause between two tries, in seconds; each is drawn from the upper half of its range."""
_MISSED_AFTER = 2.0
"""Seconds without a coordinator, or of refusals, after which the link logs that. A coordinator that restarts is back
earlier."""
SAID_AGAIN_FOR = 10.0
"""Seconds for which a request that the coordinator cannot answer now is sent again before its caller is told. Where an
archive is gone for good, a person who asks waits that long."""
WELCOMED_WITHIN = 30.0
"""Seconds that a hello may go without an answer. A proxy may hold a connection open whose coordinator is gone, and even
answer pings; a coordinator that is there may take seconds while all its peers come back."""
_ACK_WITHIN = 0.5
"""Seconds an acknowledgement may wait so that it can stand for others. With a tenth of it, fifty clients and as many
agents sent two for every three tasks, each in its own message, and a task took 5 % more of all processors."""

_UNREAD = frozenset({ErrorCode.MALFORMED, ErrorCode.TOO_LARGE})
"""Codes of errors about frames that could not be read (spec ERR-3)."""

Dial = Callable[[Receiver], Any]
"""Opens a connection for a receiver, like `transports.websocket.connect`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """Where the coordinator is, and what this peer shows to be let in."""

    url: str = DEFAULT_URL
    token: str | None = field(default=None, repr=False)
    """None: take it from the user's state directory."""
    operator: bool = False
    """Ask for the operator's role."""
    operator_token: str | None = field(default=None, repr=False)
    """None: take it from the user's state directory, if `operator` is set."""
    ssl: SSLContext | None = None
    encodings: tuple[Encoding, ...] = SUBPROTOCOLS
    """What to offer, the preferred one first."""
    websocket: WebSocketSettings = field(
        # A peer takes long lists and offers from its own coordinator, and may have as much waiting for it.
        default_factory=lambda: WebSocketSettings(
            message_max_bytes=FROM_COORDINATOR_MAX, outbox_max_bytes=FROM_COORDINATOR_MAX
        )
    )
    patience: float | None = None
    """Seconds to keep trying until the first connection stands; infinity for a process that may start before the
    coordinator. None: forever for an agent, not at all for a client."""
    secrets: MutableMapping[str, str] | None = field(default=None, repr=False)
    """Where a principal's secret is kept for its next start; None: in the user's state directory."""
    dial: Dial | None = None
    """Another way to connect than WebSocket, for tests in one process."""
    clock: PeerClock = REAL_TIME
    """Another clock than the machine's, for tests in one process."""

    def __post_init__(self) -> None:
        """Check the encodings and the patience.

        Raises:
            ValueError: there is no encoding, or one that is not spoken here, which every coordinator would turn away;
                or the patience is not a number of seconds from 0 on.
        """
        require_known(several(self.encodings, "encodings"), SUBPROTOCOLS, "encodings")
        if not self.encodings:
            raise ValueError(f"encodings: expected some of {', '.join(SUBPROTOCOLS)}, got none")
        given: object = self.patience
        if given is not None and not (isinstance(given, int | float) and given >= 0):  # NaN fails this too
            raise ValueError(f"patience: expected 0 or more seconds, or None, got {given!r}")


def settings_with(settings: LinkSettings | None, *, url: str | None, token: str | None) -> LinkSettings:
    """Return settings with the arguments applied to them; without settings, the environment overrides the defaults.

    Raises:
        ValueError: an argument has the wrong type.
    """
    if settings is None:
        settings = LinkSettings(url=os.environ.get("A2A_URL") or DEFAULT_URL, token=os.environ.get("A2A_TOKEN") or None)
    require_kind(settings, LinkSettings, "settings")
    if url is not None:
        require_kind(url, str, "url")
    require_secret(token, "token")
    return replace(settings, url=url or settings.url, token=token or settings.token)


def require_secret(given: object, what: str) -> None:
    """Check that a secret is a text. The error does not show the value."""
    if given is not None and not isinstance(given, str):
        raise ValueError(f"{what}: expected a text, got {type(given).__name__}")


def refused(error: Error) -> Refused:
    """Return the exception for an `error` message."""
    try:
        kind = CODES[ErrorCode(error.code)].error
    except ValueError:
        kind = CODES[ErrorCode.UNAVAILABLE].error  # a newer version's code
    retry_after = None if error.retry_after_ms is None else error.retry_after_ms / 1000
    return kind(error.detail, retryable=error.retryable, retry_after=retry_after, data=_read(error.data or {}))


def _may_pass(error: Error) -> bool:
    """Tell whether a refusal only means that there is no answer now: `unavailable`, or a newer code (ERR-1)."""
    return error.retryable and refused(error).code is ErrorCode.UNAVAILABLE


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each further try: ever longer, and different for each peer."""
    pause, longest = _BACKOFF
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(pause * 2, longest)


@dataclass(slots=True)
class _PutOff:
    """A request that the coordinator could not answer."""

    until: float
    """When it is no longer sent again, by the loop's clock."""
    pauses: Iterator[float]
    timer: asyncio.TimerHandle | None = None


def _read(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of an error, with the values of its payloads in place of their bytes (spec WIRE-10)."""
    read = dict(facts)
    answer, value = facts.get("answer"), facts.get("value")
    if isinstance(answer, bytes | str):
        read["answer"] = read_word(answer)
    if isinstance(value, bytes | str):
        with contextlib.suppress(ValueError, RecursionError):  # else it stays as it came
            read["value"] = read_json(value)
    return read


class Link:
    """One peer's link to its coordinator.

    Args:
        settings: where the coordinator is, and what to show it.
        identity: the agent or client that speaks.
        credit: how many attempts it takes at once; None for a peer that only delegates.
        on_work: gets the attempts to start and stop.
        on_change: gets the delegations that have news.
        on_written: gets the watches of contexts and of agents, and the calls of A2A, that have news.
        on_notice: gets every other notice: those about claims.
    """

    def __init__(
        self,
        settings: LinkSettings,
        identity: Identity,
        *,
        credit: Credit | None = None,
        on_work: Callable[[list[WorkEvent]], None] | None = None,
        on_change: Callable[[list[Delegation]], None] | None = None,
        on_written: Callable[[list[Watched | WatchedAgents | FollowedCall]], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> None:
        self.settings = settings
        self.identity = identity
        self.clock = settings.clock
        self.session = PeerSession(identity, numbering(), credit=credit, held=self._held, puts_off=self._puts_off)
        self.work = Work(self.session)
        self.delegations = Delegations(self.session)
        self.contexts = ContextWatches(self.session)
        self.agents = AgentWatches(self.session)
        self.calls = FollowedCalls(self.session)
        self._on_work = on_work or _nothing
        self._on_change = on_change or _nothing
        self._on_written = on_written or _nothing
        self._on_notice = on_notice or _nothing
        self._loop = asyncio.get_running_loop()
        self._transport: Transport | None = None
        self._decoder = Decoder(MSGPACK)
        self._encoding: Encoding = MSGPACK
        self._replies: dict[str, asyncio.Future[Message]] = {}
        self._put_off: dict[str, _PutOff] = {}
        """Requests that the coordinator could not answer, until they are answered or nobody waits for them."""
        self._is_flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: int | None = None
        self._is_closing = False
        self._gone: asyncio.Event = asyncio.Event()
        self._welcomed: asyncio.Future[None] = self._loop.create_future()
        self._runner: asyncio.Task[None] | None = None
        self._refusal: Error | None = None
        self._left: str | None = None
        self._trouble: ConnectError | None = None
        """Why the newest connection could not be used at all."""
        self._end = ""
        """How the newest connection ended."""
        self._is_let_in = False
        """Whether the newest connection was welcomed."""
        self._missing_since: float | None = None
        """The time since which nobody answers."""
        self._is_missed = False
        """Whether that was logged."""
        self._absence: asyncio.TimerHandle | None = None
        """Runs while there is no connection; then callers of A2A operations are told."""
        self._complained_of: dict[str, Any] | None = None
        """The `data` of the newest refusal that was logged: the same is not logged at every try."""
        self._refused_since: float | None = None
        """The time since which this peer is refused."""
        self._is_busy = False
        self._is_doubted = False
        """Whether the coordinator could not read a frame, and did not say which request it was."""
        self._ack_timer: asyncio.TimerHandle | None = None
        """Runs while an acknowledgement waits for a frame to travel with."""
        self._fewer_wait = asyncio.Event()
        """Set when a request no longer waits, and when the link ends; several calls of `drained` may wait for it."""
        self._greeted_at = 0
        """When the newest hello was sent."""
        self._greeting: asyncio.TimerHandle | None = None
        """Runs while it has no answer."""

    # What the owner calls ---------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and return when the coordinator has welcomed this peer.

        Raises:
            ConnectError: the coordinator was not reached in time, or did not let this peer in.
        """
        self.clock.joined(self)
        self._runner = self._loop.create_task(self._run(), name=f"link of {self.identity.agent_id}")
        self._runner.add_done_callback(self._ended)
        try:
            await asyncio.shield(self._welcomed)
        except BaseException:
            await self.aclose()
            raise

    @property
    def is_opening(self) -> bool:
        """Whether the coordinator has not welcomed this peer yet."""
        return not self._welcomed.done()

    async def wait_closed(self) -> None:
        """Wait until the link has ended for good.

        Raises:
            ConnectError: the coordinator did not let this peer in again, or another instance took its place.
        """
        assert self._runner is not None, "open() comes first"
        await asyncio.shield(self._runner)

    @property
    def has_ended(self) -> bool:
        """Whether this link will bring nothing more."""
        return self._is_closing or self.is_stranded or (self._runner is not None and self._runner.done())

    @property
    def is_stranded(self) -> bool:
        """Whether its event loop was closed while it was in use."""
        return self._loop.is_closed()

    def lost(self, what: str = "the link was closed") -> ConnectionLost:
        """Return the error for callers whose answer will not come; it says why if nobody closed the link."""
        runner = self._runner
        has_failed = runner is not None and runner.done() and not runner.cancelled()
        error = runner.exception() if runner is not None and has_failed else None
        return ConnectionLost(what if error is None else f"{what}: {words(error)}")

    def require_loop(self) -> None:
        """Check that this is the link's own event loop: in another one, a caller would wait forever.

        Raises:
            LocalProtocolError: it is another loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise LocalProtocolError(
                f"{self.identity.agent_id} is connected in an event loop other than this one: "
                "use it there, connect once in each loop, or use a2a.sync, which threads can share"
            )

    async def call(self, message: Message) -> Message:
        """Send a request and return its answer, over as many connections as that takes.

        If the coordinator cannot answer now (`unavailable`, spec ERR-1), it is sent again for a while, with pauses.

        Raises:
            Refused: the coordinator answered `error`.
            ConnectionLost: the link was closed before an answer came.
            LocalProtocolError: this is another event loop than the link's.
        """
        self.require_loop()
        request = self.session.request(message)
        return await self.reply_to(request)

    def expect(self, request: str) -> asyncio.Future[Message]:
        """Keep the answer to a request from now on: it may arrive before anybody awaits it in `reply_to`.

        Raises:
            ConnectionLost: the link is closed.
            LocalProtocolError: this is another event loop than the link's.
        """
        self.require_loop()
        self.wake()
        if self.has_ended:
            raise self.lost("the link is closed")
        future = self._replies[request] = self._loop.create_future()
        return future

    async def reply_to(
        self, request: str, expected: asyncio.Future[Message] | None = None, *, stands: bool = False
    ) -> Message:
        """Return the answer to a request that was already made; see `call`.

        Args:
            request: its id.
            expected: what `expect` returned; None if the request was made in this turn of the loop.
            stands: whether the request stays, and its answer counts, if the caller stops waiting.
        """
        future = expected or self.expect(request)
        try:
            answer = await future
        finally:
            self._replies.pop(request, None)
            if not stands and (not future.done() or future.cancelled()):
                self.session.forget(request)
                self._no_longer_put_off(request)
                self._fewer_wait.set()
        if isinstance(answer, Error):
            raise refused(answer)
        return answer

    def wake(self) -> None:
        """Send what the session has to say, at the end of this turn of the loop."""
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def now(self) -> int:
        """Return this link's clock in milliseconds. It measures durations, and means nothing to other processes."""
        return int(time.monotonic() * 1000)

    def renew(self) -> None:
        """Replace the connection, which ends the streams on it that nobody follows (spec BIND-18)."""
        if self._transport is not None:
            self._transport.close(1000, "made anew")

    async def drained(self, timeout: float) -> bool:
        """Wait until every request has its answer, and return whether that took at most `timeout` seconds."""
        return await self._until(lambda: not self.session.waiting, timeout)

    async def gave_up(self, timeout: float) -> bool:
        """Wait until the id of each task that was given up is known, and return whether that was in time: as `drained`.

        The link cancels them as it closes, at the latest.
        """
        return await self._until(lambda: not self.delegations.are_given_up, timeout)

    async def _until(self, is_so: Callable[[], bool], timeout: float) -> bool:
        deadline = self._loop.time() + timeout
        self.session.hurry()
        self.wake()
        while not is_so():
            if self._loop.time() >= deadline or self._runner is None or self._runner.done():
                return False
            self._fewer_wait.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._fewer_wait.wait()
            except TimeoutError:
                return False
        return True

    async def leave(self, timeout: float) -> bool:
        """Say good-bye, and return whether the coordinator closed the connection within `timeout` seconds.

        Nothing may wait for an answer any longer, and `aclose` comes next. The coordinator closes after it has counted
        this peer as gone (spec HELLO-9); that this side has closed, it may learn only after the caller went on.
        """
        if not self.session.is_open:
            return False
        self._acknowledge()  # it takes nothing after the bye
        gone = self._gone
        self.session.tell(Bye())
        self.wake()
        try:
            async with asyncio.timeout(timeout):
                await gone.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self) -> None:
        """Close the connection and end the link, even if cancelled; that takes the closing deadline at most."""
        # Half closed, it would leave a connection, which keeps others from being this peer, and a task that holds it.
        with anyio.CancelScope(shield=True):
            await self._close()

    async def _close(self) -> None:
        self._is_closing = True
        self._acknowledge()
        if self._transport is not None:
            self._transport.close(1000, "bye")  # the runner goes on when that is over
        else:
            self._gone.set()
        if self._runner is not None and not self._runner.done():
            if self._transport is None:
                self._runner.cancel()
            await asyncio.wait([self._runner], timeout=self.settings.websocket.closing_deadline + 1)
            if self._transport is not None:
                self._transport.abort()  # it had its time; a loop must not end with an open connection
            self._runner.cancel()
            await asyncio.wait([self._runner])
        for timer in (self._timer, self._ack_timer, self._absence):
            if timer is not None:
                timer.cancel()
        self._fail_replies(self.lost())
        if not self._welcomed.done():
            self._welcomed.cancel()

    # Connecting -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        started = self._loop.time()
        rests = pauses()
        while not self._is_closing:
            self._refusal = self._left = None
            self._is_let_in = False
            self._gone = asyncio.Event()
            self._show_papers()
            try:
                await self._dial()
            except ConnectError as error:
                if error.is_final or self._is_too_late(started):
                    raise
                self._found_none(error)
            else:
                await self._gone.wait()
                if self._was_let_in(started):
                    rests = pauses()
            if self.has_ended:
                return
            await asyncio.sleep(next(rests))

    def _found_none(self, error: ConnectError) -> None:
        """Note that nobody answers, and log it once it lasts."""
        log.info("%s; trying again", error)
        if self._is_missed:
            return
        if self._missing_since is None:
            self._missing_since = self._loop.time()
        elif self._loop.time() - self._missing_since >= _MISSED_AFTER:
            self._is_missed = True
            log.warning("%s; %s waits until it is %s", error, self.identity.agent_id, self._there_or_back)

    @property
    def _there_or_back(self) -> str:
        return "back" if self._welcomed.done() else "there"

    def _held(self) -> list[HeldStill]:
        return self.work.held()

    def _is_too_late(self, started: float) -> bool:
        """Tell whether the link has not been welcomed once within its owner's patience."""
        return not self._welcomed.done() and self._loop.time() - started >= (self.settings.patience or 0.0)

    def _was_let_in(self, started: float) -> bool:
        """Tell whether the connection that just ended had been welcomed; raise if another try is of no use."""
        if self._trouble is not None:
            raise self._trouble
        if self._left == "taken_over":
            raise ConnectError(f"another instance of {self.identity.agent_id} took its place")
        error = self._refusal
        if error is not None and not self._may_try_again(error, started):
            told = f"{refused(error)}{self._what_to_do(error)}"
            raise ConnectError(f"{self.settings.url} refused {self.identity.agent_id}: {told}")
        if error is None:
            self._refused_since = None
        elif self._is_to_be_told(error):
            told = f"{refused(error)}{self._what_to_do(error)}"
            log.warning("%s refused %s, trying again: %s", self.settings.url, self.identity.agent_id, told)
        if error is None and not self._is_closing and self._is_too_late(started):
            raise ConnectError(f"there was no welcome from {self.settings.url}: {self._end}")
        return self._is_let_in

    def _is_to_be_told(self, error: Error) -> bool:
        """Tell whether a refusal that may pass is news: its subject was not logged yet, or it lasts."""
        about = error.data
        if about is None:
            if self._refused_since is None:
                self._refused_since = self._loop.time()
            lasts = self._loop.time() - self._refused_since >= _MISSED_AFTER
            about = {} if lasts and self._complained_of is None else self._complained_of
        if about == self._complained_of:
            return False
        self._complained_of = about
        return True

    def _what_to_do(self, error: Error) -> str:
        """Return advice about a start that is not the newest, a missing token, or a wrong secret.

        These have no codes of their own, so the detail is matched. For any other wording the advice is empty.
        """
        if error.code == ErrorCode.DENIED and "is an older one" in error.detail:
            agent, now = self.identity.agent_id, time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
            return (
                f"; starts are counted by the clock, which says {now} UTC here. It was ahead of that when {agent} was"
                " last started, or is ahead on the machine where it was. If this clock is behind, set it right; if"
                f" another process of {agent} should run instead, end this one; otherwise an operator can have the"
                f" agent forgotten, after which it gets in: a2a agent forget {agent}"
            )
        if error.code == ErrorCode.AUTH and not self.identity.token:
            kept = coordinator_dir(self.settings.url)
            return f"; there is none in {kept}: set A2A_TOKEN, or give --token-file, or token= in Python"
        if error.code != ErrorCode.AUTH or "secret" not in error.detail or self.settings.secrets is not None:
            return ""
        # Each address has its own secret.
        principal = principal_of(self.identity.agent_id)
        kept, others = secret_files(self.settings.url, principal)
        elsewhere = f": for other addresses this user has {', '.join(map(str, others))}" if others else ""
        return (
            f"; that was the one in {kept}, which is for this address alone. If {principal} was there before, from"
            f" another address or machine, put its secret from there in that file{elsewhere}; if it is lost, an"
            f" operator can let it in again: a2a agent forget {principal} --secret; otherwise use another name"
        )

    def _may_try_again(self, error: Error, started: float) -> bool:
        return error.retryable and not self._is_too_late(started)

    def _show_papers(self) -> None:
        """Fill in the tokens; the coordinator may have written new ones since the last try."""
        settings, identity = self.settings, self.identity
        tokens = None
        if settings.token is None or (settings.operator and settings.operator_token is None):
            try:
                tokens = load_tokens(settings.url)
            except StateDirectoryError as error:
                if self.is_opening:
                    raise
                # It may pass, as when this process has too many open files, and what was shown mostly still counts.
                log.info("%s shows its tokens of before: %s", identity.agent_id, error)
                return
        identity.token = settings.token if settings.token is not None else tokens.token if tokens else ""
        if settings.operator:
            identity.operator_token = settings.operator_token or (tokens.operator_token if tokens else None) or None

    def _show_secret(self) -> None:
        """Fill in the secret and, if it is kept on disk, the number of this start of an agent.

        The secret is kept before it is shown, so that a lost welcome cannot lose it.

        This waits for a connection: a coordinator that starts may put another ledger's secrets in place.
        """
        if self.identity.secret is None:
            principal, kept = principal_of(self.identity.agent_id), self.settings.secrets
            if kept is None:
                self.identity.secret = provide_secret(self.settings.url, principal)
                if self.identity.card is not None:  # clients are known only while they are connected (spec ID-6)
                    number = next_incarnation(self.settings.url, principal, self.identity.incarnation)
                    self.identity.incarnation = number
            else:
                self.identity.secret = kept.setdefault(principal, new_secret())

    async def _dial(self) -> None:
        settings = self.settings
        receiver = _Receiver(self)
        if settings.dial is not None:
            await settings.dial(receiver)
            return
        await connect(settings.url, receiver, settings.websocket, subprotocols=settings.encodings, ssl=settings.ssl)

    def _ended(self, runner: asyncio.Task[None]) -> None:
        error = None if runner.cancelled() else runner.exception()
        if not self._welcomed.done():
            if error is not None:
                self._welcomed.set_exception(error)
            else:
                self._welcomed.cancel()
        self._fail_replies(error if isinstance(error, ConnectError) else self.lost())
        self._fewer_wait.set()
        self._on_change([])
        self._on_written([])

    def _fail_replies(self, error: Exception) -> None:
        for future in self._replies.values():
            if not future.done():
                future.set_exception(error)
        self._replies.clear()
        for request in list(self._put_off):
            self._no_longer_put_off(request)

    # What has no answer now -------------------------------------------------------------------------------------------

    def _puts_off(self, request: str, message: Message, error: Error) -> bool:
        """Schedule a request that the coordinator cannot answer now to be sent again; tell whether it was."""
        # A claim's time counts from when it was last asked for, so its owner sends these again itself.
        if not _may_pass(error) or isinstance(message, ClaimAcquire | ClaimRenew):
            return False
        for forgotten in [known for known in self._put_off if not self.session.awaits(known)]:
            self._no_longer_put_off(forgotten)
        now = self._loop.time()
        put_off = self._put_off.get(request) or _PutOff(now + SAID_AGAIN_FOR, pauses())
        pause = next(put_off.pauses) if error.retry_after_ms is None else error.retry_after_ms / 1000
        if now + pause > put_off.until:
            return False
        log.info("%s cannot answer %s now and is asked again: %s", self.settings.url, message.kind, error.detail)
        self._no_longer_put_off(request)
        self._put_off[request] = put_off
        put_off.timer = self._loop.call_later(pause, self._say_again, request)
        return True

    def _say_again(self, request: str) -> None:
        self.session.say_again(request)
        self.wake()

    def _no_longer_put_off(self, request: str) -> None:
        put_off = self._put_off.pop(request, None)
        if put_off is not None and put_off.timer is not None:
            put_off.timer.cancel()

    # What the transport calls -----------------------------------------------------------------------------------------

    def _opened(self, transport: Transport) -> None:
        self._transport = transport
        self._is_busy = True  # somebody waits at least for the welcome
        transport.keepalive(BUSY_PING)
        self._encoding = JSON if transport.subprotocol == JSON else MSGPACK
        self._decoder = Decoder(self._encoding, _OUR_LIMITS)
        try:
            self._show_secret()
        except (A2AError, OSError) as error:
            self._trouble = ConnectError(f"{self.identity.agent_id} has nowhere to keep its secret: {error}")
            transport.close(1000, "no secret")
            return
        self.session.connected()
        self._greeted_at = self.now()
        self._greeting = self._loop.call_later(WELCOMED_WITHIN, self._is_ignored)
        self._flush()

    def _is_ignored(self) -> None:
        if self._transport is not None:
            self._transport.close(1008, f"no answer to the hello within {WELCOMED_WITHIN:g} s")

    def _received(self, data: bytes) -> None:
        events: list[Event] = []
        try:
            for frame in self._decoder.decode(data):
                if log.isEnabledFor(logging.DEBUG):
                    log.debug("< %s", brief(frame))
                events.extend(self.session.receive(frame))
        except RemoteProtocolError as error:
            log.error("%s broke the protocol: %s; connecting again", self.settings.url, error)
            if self._transport is not None:
                self._transport.close(1002, str(error)[:100])
        self._take_all(events)
        self._flush()

    def _take_all(self, events: list[Event]) -> None:
        now = self.now()
        work: list[WorkEvent] = []
        changed: list[Delegation] = []
        for event in events:
            self._take(event, now, work, changed)
        if work:
            self._on_work(work)
        if changed:
            self._on_change(changed)

    def _take(self, event: Any, now: int, work: list[WorkEvent], changed: list[Delegation]) -> None:
        if isinstance(event, Reply):
            self._no_longer_put_off(event.re)
            future = self._replies.get(event.re)
            if future is not None and not future.done():
                future.set_result(event.message)
            if isinstance(event.message, Error) and isinstance(event.request, TaskReport | TaskYield | TaskDecline):
                word, what = event.request, refused(event.message)
                log.warning("%s of task %s, fence %d, was refused: %s", word.kind, word.task, word.fence, what)
            changed.extend(self.delegations.on_reply(event))
            work.extend(self.work.on_reply(event, now))
            self._written(self.contexts.on_reply(event))
            self._written(self.agents.on_reply(event))
            self._written(self.calls.on_reply(event))
            self._fewer_wait.set()
        elif isinstance(event, Notice):
            if isinstance(event.message, ContextEventNotice):
                self._written(self.contexts.on_notice(event.message, event.re))
                return
            if isinstance(event.message, AgentEvent):
                watching = self.agents.on_notice(event.message, event.re)
                self._written(watching)
                if not watching:
                    self._on_notice(event)
                return
            if isinstance(event.message, A2AEvent | A2AFault):
                self._written(self.calls.on_notice(event.message, event.re))
                return
            if isinstance(event.message, Error):
                log.warning(
                    "%s refused what %s sent: %s", self.settings.url, self.identity.agent_id, event.message.detail
                )
                self._is_doubted = self._is_doubted or event.message.code in _UNREAD
            followed = self.delegations.on_notice(event.message, event.re)
            started = self.work.on_notice(event.message, event.re, now)
            changed.extend(followed)
            work.extend(started)
            if not followed and not started:
                self._on_notice(event)
        elif isinstance(event, Welcomed):
            self._greeted(event, now, work)
        elif isinstance(event, TurnedAway):
            self._refusal = event.error
        elif isinstance(event, Left):
            self._left = event.reason

    def _written(self, watches: Sequence[Watched | WatchedAgents | FollowedCall]) -> None:
        if watches:
            self._on_written(list(watches))

    def _greeted(self, event: Welcomed, now: int, work: list[WorkEvent]) -> None:
        welcome = event.welcome
        self._is_let_in = True
        self._end_greeting()
        if self._is_missed:
            log.warning("%s is %s", self.settings.url, self._there_or_back)
        self._missing_since, self._is_missed = None, False
        work.extend(self.work.on_welcome(welcome, self._greeted_at, now))
        self.delegations.on_welcome()
        self.contexts.on_welcome()
        self.agents.on_welcome()
        self.calls.on_welcome()
        if self._absence is not None:
            self._absence.cancel()
            self._absence = None
        if not self._welcomed.done():
            self._welcomed.set_result(None)

    def _closed(self, reason: str) -> None:
        log.info("connection of %s closed: %s", self.identity.agent_id, reason)
        self._transport, self._end = None, reason
        self._end_greeting()
        self.session.disconnected()
        self._gone.set()
        if self._absence is None and not self._is_closing:
            self._absence = self._loop.call_later(SAID_AGAIN_FOR, self._has_no_answer)

    def _end_greeting(self) -> None:
        if self._greeting is not None:
            self._greeting.cancel()
            self._greeting = None

    def _has_no_answer(self) -> None:
        """Refuse all calls of A2A operations, since nobody answers: other parties may wait for their callers."""
        detail = f"{self.settings.url} has not answered for {SAID_AGAIN_FOR:g} s: ask again later"
        self._written(self.calls.refuse(Error(ErrorCode.UNAVAILABLE, detail, retryable=True)))

    def _acknowledge(self) -> None:
        """Send what there is to send, or only an acknowledgement."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._flush(is_ack_due=True)

    def _flush(self, *, is_ack_due: bool = False) -> None:
        self._is_flushing = False
        self.work.tick(self.now())
        if self._transport is not None:
            self._watch_closely()
            frames = self.session.outgoing(is_ack_due=is_ack_due)
            if self.session.owes_ack and self._ack_timer is None:
                self._ack_timer = self._loop.call_later(_ACK_WITHIN, self._acknowledge)
            if frames:
                if log.isEnabledFor(logging.DEBUG):
                    for frame in frames:
                        log.debug("> %s", brief(frame))
                self._send(frames)
        self._arm()

    def _send(self, frames: list[Frame]) -> None:
        lost: list[Event] = []

        def unsendable(frame: Frame, code: ErrorCode, reason: str) -> None:
            log.error("%s of %s cannot be sent: %s", frame.message.kind, self.identity.agent_id, reason)
            lost.extend(self.session.unsendable(frame, code, reason))
            self.wake()  # what follows from it may be something to send

        assert self._transport is not None, "there is a connection to send on"
        if self._is_doubted:
            frames = [frame for frame in frames if not self._is_unreadable(frame, unsendable)]
        most = self.session.message_max
        # Each frame may fit although several in one message do not.
        together = 1 if self._is_doubted else self.session.frames_max
        send_frames(
            self._transport, frames, self._encoding, message_max=most, frames_max=together, unsendable=unsendable
        )
        if lost:
            self._take_all(lost)
            if self._refusal is not None and self._transport is not None:
                self._transport.close(1000, "no hello")

    def _is_unreadable(self, frame: Frame, unsendable: Unsendable) -> bool:
        """Read a frame as the coordinator will, and drop an unreadable one: each repeat would end the connection."""
        assert self.session.welcome is not None, "what could not be read was said after the welcome"
        told = self.session.welcome.limits
        limits = FrameLimits(message_max_bytes=told.message_max_bytes, payload_max_bytes=told.payload_max_bytes)
        try:
            read = next(iter(Decoder(self._encoding, limits).decode(encode([frame], self._encoding))))
        except UNENCODABLE:
            return False  # sending it will find that
        if isinstance(read, BadFrame):
            unsendable(frame, read.code, without_form(frame) or read.detail)
        return isinstance(read, BadFrame)

    def _watch_closely(self) -> None:
        """Ping the coordinator more often while something depends on it."""
        is_busy = not self.session.is_open or bool(self.work.attempts) or self.session.waiting > 0
        is_busy = is_busy or self.delegations.are_open or self.contexts.are_open or self.agents.are_open
        is_busy = is_busy or self.calls.are_open
        if is_busy is not self._is_busy and self._transport is not None:
            self._is_busy = is_busy
            self._transport.keepalive(BUSY_PING if is_busy else IDLE_PING)

    def _arm(self) -> None:
        deadline = self.work.next_deadline()
        if deadline == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = deadline
        if deadline is not None and not self._is_closing:
            self._timer = self._loop.call_later(max(0, deadline - self.now()) / 1000, self._ticked)

    def _ticked(self) -> None:
        self._timer = self._timer_at = None
        self._flush()


_OUR_LIMITS = FrameLimits(
    message_max_bytes=FROM_COORDINATOR_MAX,
    payload_max_bytes=FROM_COORDINATOR_MAX,
    frames_max=65_536,
    depth_max=40,
    items_max=4_000_000,
)
"""Limits for what the coordinator sends. They exceed its own limits, as it combines what it took (spec LIMIT-2)."""


class _Receiver:
    """Ties one connection to the link, which opens the next one only after this one has ended."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def opened(self, transport: Transport) -> None:
        self._link._opened(transport)

    def received(self, data: bytes) -> None:
        self._link._received(data)

    def closed(self, reason: str) -> None:
        self._link._closed(reason)


def _nothing(_: Any) -> None:
    """The callback of an owner that does not want to be told."""
