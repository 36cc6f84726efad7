"""The simulated shell of a peer: session, work and delegations on one connection, tied together as in `a2a.link`.

A peer here is one process. It can be paused, like a process under SIGSTOP: bytes wait in its socket and timers fire
late. It can die and lose what it had only in memory. Its host keeps what outlives it (name, secret, orders).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from a2a.engine.context_watching import ContextWatches
from a2a.engine.delegation import Delegation, Delegations
from a2a.engine.work import AttemptState, Work
from a2a.engine.work import Event as WorkEvent
from a2a.errors import RemoteProtocolError
from a2a.protocol.codec import Decoder, Frame, FrameLimits, encode
from a2a.protocol.messages import (
    ClaimAcquire,
    ClaimRelease,
    ConflictAppeal,
    ConflictOpened,
    ConflictPosition,
    ConflictVote,
    ContextWrite,
    Credit,
    HeldStill,
    Message,
    TaskAccept,
    TaskAnswer,
    TaskArtifact,
    TaskAsk,
    TaskCancel,
    TaskCheckpoint,
    TaskConfirm,
    TaskDecline,
    TaskDelegate,
    TaskGet,
    TaskHandoff,
    TaskHeartbeat,
    TaskReport,
    TaskSteer,
    TaskYield,
    Welcome,
)
from a2a.protocol.session import Identity, Left, Notice, PeerSession, Reply, TurnedAway, Welcomed
from a2a.protocol.types import principal_of

from .claimants import Claimant
from .court import Violation
from .network import Connection
from .profiles import OPERATOR_TOKEN, TOKEN
from .timeline import brief
from .world import Event, World

if TYPE_CHECKING:
    from .town import Town

__all__ = ["Peer"]

_BACKOFF_MS = (50, 5_000)
_LIMITS = FrameLimits(message_max_bytes=64 << 20, frames_max=65_536, items_max=4_000_000)
_ECHOED = (
    ClaimAcquire,
    ClaimRelease,
    TaskDelegate,
    TaskAccept,
    TaskDecline,
    TaskHeartbeat,
    TaskArtifact,
    TaskAsk,
    TaskAnswer,
    TaskReport,
    TaskConfirm,
    TaskCancel,
    TaskYield,
    TaskGet,
    ContextWrite,
    TaskCheckpoint,
    TaskHandoff,
    TaskSteer,
)
"""What a link may send again: everything known by a key. A credit or a watch is known by being the latest."""
_REMEMBERED = 64


class Peer:
    """One process of a client or an agent."""

    def __init__(
        self,
        town: Town,
        agent_id: str,
        start: int,
        *,
        card: dict[str, Any] | None = None,
        labels: dict[str, str] | None = None,
        credit: Credit | None = None,
        operator: bool = False,
        twin: int = 0,
    ) -> None:
        self.town = town
        self.world: World = town.world
        self.name = agent_id
        self.instance = f"{agent_id}:{start}{f'.{twin}' if twin else ''}"
        self.chance: Random = town.world.chance(self.instance)
        self._link_chance: Random = town.world.chance(self.instance, "link")
        identity = Identity(
            agent_id,
            self.instance,
            start,
            token=TOKEN,
            secret=town.secret(principal_of(agent_id)),
            operator_token=OPERATOR_TOKEN if operator else None,
            card=card,
            labels=labels or {},
        )
        self.session = PeerSession(identity, self._new_id, credit=credit, held=self._held)
        self.work = Work(self.session)
        self.delegations = Delegations(self.session)
        self.contexts = ContextWatches(self.session)
        self.connection: Connection | None = None
        self.is_alive = True
        self.is_paused = False
        self.unreachable_until = 0
        """It cannot connect before this time."""
        self.encoding = self._link_chance.choice(town.profile.encodings)
        self.replies: dict[str, Message] = {}
        """Replies that a caller waits for."""
        self.claims = Claimant(self)
        self._awaited: set[str] = set()
        self._ids = 0
        self._greeted_at = 0
        self._decoder = Decoder(self.encoding, _LIMITS)  # type: ignore[arg-type]
        self._pause_between = _BACKOFF_MS[0]
        self._inbox: list[bytes] = []
        self._missed: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._timer: Event | None = None
        self._timer_at: int | None = None
        self._history: list[Frame] = []
        self._mail: list[Frame] = []

    # For those who build on it ----------------------------------------------------------------------------------------

    def on_work(self, events: list[WorkEvent]) -> None:
        """Start or stop attempts."""

    def on_change(self, changed: list[Delegation]) -> None:
        """News came for these delegations."""

    def on_welcome(self) -> None:
        """A connection was welcomed."""

    def after_news(self) -> None:
        """Frames arrived and were taken."""

    def on_end(self) -> None:
        """The process dies."""

    def on_dispute(self, opened: ConflictOpened) -> None:
        """A conflict to which it is a party opened or goes on: take a position, or appeal against the outcome."""
        chance = self.world.chance("party", self.instance, opened.conflict, opened.level)
        said: list[tuple[int, Message]] = []
        if chance.random() < 0.4:
            words = b'[{"text":"said by %s"}]' % self.instance.encode()
            said.extend((5_000, ConflictPosition(opened.conflict, words, "mine")) for _ in range(2))
        if chance.random() < 0.4 and not self.town.is_calm:
            ground: Any = chance.choice(("new_evidence", "misapplied_policy"))
            said.extend((30_000, ConflictAppeal(opened.conflict, ground)) for _ in range(12))
        if chance.random() < self.town.manners.meddle:
            said.append((5_000, ConflictVote(opened.conflict, opened.subjects[-1].ref, "none of its business")))
        for latest, message in said:
            self.later(chance.randint(0, latest), self._speak_up, message)

    def _speak_up(self, message: Message) -> None:
        if self.session.is_open:
            self.session.request(message)

    # What its owner calls ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect."""
        self._dial()

    def later(self, pause: int, call: Callable[..., Any], *arguments: Any) -> Event:
        """Have a call made in this process, unless it has died; a paused process makes it when it resumes."""
        return self.world.after(pause, self._due, call, arguments)

    def await_reply(self, request: str) -> Callable[[], bool]:
        """Keep the reply to a request, and return a function that tells whether it has come."""
        self._awaited.add(request)
        return lambda: request in self.replies

    def die(self, *, server_knows: int = 0, keep: float = 0.0) -> None:
        """End the process without a message."""
        if not self.is_alive:
            return
        self.is_alive = False
        self.on_end()
        if self.connection is not None:
            self.connection.break_("the process died", server_knows=server_knows, keep=(keep, 0.0))
            self.connection = None

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does."""
        self.is_paused = True

    def resume(self) -> None:
        """Resume: first the timers that were due, then what its socket has, then a close that came."""
        if not self.is_paused or not self.is_alive:
            return
        self.is_paused = False
        inbox, self._inbox = self._inbox, []
        missed, self._missed = self._missed, []
        for call, arguments in missed:
            if call == self._closed:
                continue
            call(*arguments)
        for data in inbox:
            self._received(data)
        for call, arguments in missed:
            if call == self._closed:
                call(*arguments)
        self.flush()

    def flush(self) -> None:
        """Send pending frames, and set the timer."""
        if self.is_paused or not self.is_alive:
            return
        self.work.tick(self.world.now)
        connection = self.connection
        if connection is not None:
            frames = self.session.outgoing()
            if frames:
                connection.up.send(encode(frames, self.encoding))  # type: ignore[arg-type]
                if self.town.profile.faults.echoes:
                    self._remember(frames)
        deadline = self.work.next_deadline()
        if deadline != self._timer_at:
            World.call_off(self._timer)
            self._timer, self._timer_at = None, deadline
            if deadline is not None:
                self._timer = self.later(max(0, deadline - self.world.now), self._ticked)

    def tell(self, what: str) -> None:
        """Write a line of the story."""
        self.world.tell(self.name, what)

    # The link ---------------------------------------------------------------------------------------------------------

    def _new_id(self) -> str:
        self._ids += 1
        return f"{self.instance}.{self._ids}"

    def _held(self) -> list[HeldStill]:
        return self.work.held()

    def _due(self, call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if not self.is_alive:
            return
        if self.is_paused:
            self._missed.append((call, arguments))
            return
        call(*arguments)
        self.flush()

    def _ticked(self) -> None:
        self._timer = self._timer_at = None

    def _dial(self) -> None:
        if self.world.now < self.unreachable_until and not self.town.is_calm:
            self.world.at(self.unreachable_until, self._dial)
        elif self.is_alive and self.connection is None:
            self.town.network.dial(self.town.profile.latency, self.encoding, self._opened)

    def _opened(self, connection: Connection | None) -> None:
        if connection is None:
            self._dial_again()
            return
        if not self.is_alive or self.connection is not None:
            connection.break_("nobody is there any more", keep=(0, 0))
            return
        self.connection = connection
        decoder = Decoder(self.encoding, _LIMITS)  # type: ignore[arg-type]
        connection.down.deliver = lambda data: self._arrived(connection, decoder, data)
        connection.peer_closed = lambda reason: self._due(self._closed, (connection,))
        self.session.connected()
        self._greeted_at = self.world.now
        if self.is_paused:
            self._missed.append((self.flush, ()))
        self.flush()

    def _dial_again(self) -> None:
        if self.is_alive:
            pause = int(self._pause_between * self._link_chance.uniform(0.5, 1.0))
            self._pause_between = min(self._pause_between * 2, _BACKOFF_MS[1])
            self.world.after(pause, self._dial)

    def _closed(self, connection: Connection) -> None:
        if connection is not self.connection:
            return
        if self.world.timeline is not None:
            self.tell(f"loses connection {connection.number}")
        self.connection = None
        self.session.disconnected()
        self._dial_again()

    def _arrived(self, connection: Connection, decoder: Decoder, data: bytes) -> None:
        if not self.is_alive or connection is not self.connection:
            return
        self._decoder = decoder
        if self.is_paused:
            self._inbox.append(data)
            return
        self._received(data)
        self.flush()

    def _received(self, data: bytes) -> None:
        self.world.mark(b">", data)
        work: list[WorkEvent] = []
        changed: list[Delegation] = []
        for frame in self._decoder.decode(data):
            if not isinstance(frame, Frame):
                raise Violation("wire", f"{self.name} got what cannot be read: {frame.detail}")
            if self.world.timeline is not None:
                self.tell(f"< {brief(frame)}")
            self.town.court.took(self.name, frame)
            if frame.mseq is not None and self.town.profile.faults.echoes:
                self._mail = [*self._mail[-7:], frame]
            try:
                events = self.session.receive(frame)
            except RemoteProtocolError as error:
                raise Violation("I29", f"{self.name}: {error}") from error
            for event in events:
                self._take(event, work, changed)
            if not self.is_alive:
                return
        if work:
            self.on_work(work)
        if changed:
            self.on_change(changed)
        self.after_news()

    def _take(self, event: Any, work: list[WorkEvent], changed: list[Delegation]) -> None:
        now = self.world.now
        if isinstance(event, Reply | Notice):
            self.claims.hear(event.message)
        if isinstance(event, Reply):
            self.town.court.told(self.name, event.message, event.request)
            if event.re in self._awaited:
                self._awaited.discard(event.re)
                self.replies[event.re] = event.message
            changed.extend(self.delegations.on_reply(event))
            work.extend(self.work.on_reply(event, now))
            self.contexts.on_reply(event)
        elif isinstance(event, Notice):
            self.town.court.told(self.name, event.message)
            if isinstance(event.message, ConflictOpened):
                self.on_dispute(event.message)
            changed.extend(self.delegations.on_notice(event.message, event.re))
            work.extend(self.work.on_notice(event.message, event.re, now))
            for watched in self.contexts.on_notice(event.message, event.re):
                self.town.court.heard(watched)
        elif isinstance(event, Welcomed):
            self._pause_between = _BACKOFF_MS[0]
            work.extend(self.work.on_welcome(event.welcome, self._greeted_at, now))
            self._check_held(event.welcome)
            self.delegations.on_welcome()
            self.contexts.on_welcome()
            self._echo()
            self.on_welcome()
        elif isinstance(event, TurnedAway):
            if event.error.retry_after_ms is not None:
                return  # another process of it is or may be here: a link tries again
            if not self.town.is_replaced(self):
                raise Violation("ID", f"{self.instance} is turned away: {event.error.code} {event.error.detail}")
            self.die()
        elif isinstance(event, Left) and event.reason == "taken_over":
            if not self.town.is_replaced(self):
                raise Violation("ID", f"{self.instance} is taken over, and it is the newest process of its host")
            self.die()

    def _check_held(self, welcome: Welcome) -> None:
        """Check that an attempt without authority does not go on (L8, on the worker's side)."""
        for held in welcome.held:
            attempt = self.work.attempts.get((held.task, held.fence))
            if held.verdict != "keep" and attempt is not None and attempt.state is not AttemptState.ENDING:
                raise Violation(
                    "L8", f"{self.name} was told that {held.fence} of {held.task} is {held.verdict}, and goes on"
                )

    # A link that repeats ----------------------------------------------------------------------------------------------

    def _remember(self, frames: list[Frame]) -> None:
        self._history.extend(frame for frame in frames if isinstance(frame.message, _ECHOED))
        del self._history[:-_REMEMBERED]

    def _echo(self) -> None:
        """After a new handshake, have the link send old frames of this session again, in order."""
        chance, echoes = self._link_chance, self.town.profile.faults.echoes
        if self.town.is_calm or chance.random() >= echoes:
            return
        for mail in self._mail:
            self.later(chance.randint(0, 2_000), self._hear_again, self.connection, mail)
        picked = sorted(chance.sample(range(len(self._history)), min(len(self._history), chance.randint(1, 6))))
        for number in picked:
            self.world.after(chance.randint(0, 2_000), self._say_again, self.connection, self._history[number])

    def _hear_again(self, connection: Connection | None, frame: Frame) -> None:
        known = frame.mseq is not None and frame.mseq <= self.session._cursor
        if connection is not None and connection is self.connection and self.session.is_open and known:
            self._received(encode([frame], self.encoding))  # type: ignore[arg-type]

    def _say_again(self, connection: Connection | None, frame: Frame) -> None:
        if connection is None or connection is not self.connection or not self.session.is_open:
            return
        if self.world.timeline is not None:
            self.tell(f"(the link says again) {brief(frame)}")
        connection.up.send(encode([frame], self.encoding))  # type: ignore[arg-type]
