"""Mailboxes while the coordinator runs: what goes out now, what was acknowledged, who does not come back (spec MAIL).

The durable part of a mailbox is in the ledger. This module has what a start begins without: which connection takes how
much, and how long each agent has been away. Changes of the ledger are returned as records. The coordinator owns one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..protocol.codec import Frame
from ..protocol.messages import Message, TaskOffer
from .agenda import Agenda
from .decision import Need
from .fetching import Fetched
from .forgetting import may_forget
from .ledger import ABOUT_CONFLICTS, Ledger, Mailbox, MailboxEntry
from .live import Connection, World
from .mailbox import render, render_gone
from .records import AgentForgotten, MailboxAcked, Record

__all__ = ["Delivery"]

_ACK_EVERY = 256
"""Acknowledged mailbox entries per record: a record for each would double the ledger's appends."""
_ACKS_APART_MS = 1_000
"""Acknowledgements are also recorded when tasks that mail is about leave memory, but no more often than this."""
_FETCHED_TOGETHER = 16
"""Tasks fetched at once for mail about them: 20,000 went out in 3.7 s, as with 64, and in 5.1 s with 4."""
_FETCHED_BYTES = 4 * 1024 * 1024
"""Once the tasks fetched at once have this many bytes, no further one is: each may have several megabytes, most of them
artifact chunks, which no mail contains."""
_LIGHT_BYTES = 512
"""Smaller payloads do not count as on the wire: the credit for frames limits them to 32 MiB."""


class Delivery:
    """Sends what is in the mailboxes, and expects agents back for what stays in them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._absences = Agenda[str]()
        """When each absent agent is given up: one with a card, or a process with an id of its own."""
        self._receipts_at = 0
        self.needs: list[Need] = []
        """Look-ups for mail about tasks that have left memory; the coordinator empties it."""

    def next_deadline(self) -> int | None:
        """Return when the next agent is given up, or None."""
        return self._absences.next()

    def outgoing(self, now: int) -> list[tuple[int, Frame]]:
        """Return the frames that go out now, each with its connection, as far as the agents' credit for frames goes."""
        ledger, live = self._world.ledger, self._world.live
        posted = list(ledger.posted)
        ledger.posted.clear()
        out: list[tuple[int, Frame]] = []
        for agent in posted:
            connection, mailbox = live.agents.get(agent), ledger.mailboxes.get(agent)
            if connection is None and self._absences.at(agent) is None:
                self.expect_back(agent, now)  # its first mail came after it had gone
            if connection is None or mailbox is None or not mailbox.entries or connection.is_fetching:
                continue
            out += self._sent(connection, mailbox, now)
        return out

    def found(self, connection: Connection, need: Need, fetched: Fetched, now: int) -> list[tuple[int, Frame]]:
        """Resume mail that waited for the archive, and return the frames that go out now, as `outgoing` does.

        Raises:
            LookupError: the archive does not have what it should have.
        """
        ledger = self._world.ledger
        connection.is_fetching = False
        first = need.tasks[0]  # the others are asked for again if they were too much at once
        if first not in fetched.tasks and first not in fetched.gone and first not in ledger.tasks:
            raise LookupError(f"the archive has no task {first}, about which {connection.agent} has mail")
        mailbox = ledger.mailboxes.get(connection.agent or "")
        if mailbox is None or not mailbox.entries:
            return []
        with ledger.lending(fetched.tasks.values()):
            return self._sent(connection, mailbox, now, fetched.gone)

    def _sent(
        self, connection: Connection, mailbox: Mailbox, now: int, gone: Mapping[str, str] = MappingProxyType({})
    ) -> list[tuple[int, Frame]]:
        """Return the frames that go out on a connection, up to the first task that has to be fetched.

        Args:
            connection: where to send.
            mailbox: its agent's mailbox.
            now: the current time.
            gone: tasks of which nothing more is kept, with how each ended.
        """
        ledger, out = self._world.ledger, []
        for entry in _due(self._world, connection, mailbox):
            if entry.task in gone and entry.task not in ledger.tasks:
                message = render_gone(entry, gone[entry.task])
            elif _has_left(ledger, entry):
                connection.is_fetching = True
                self.needs.append(_need(self._world, connection, mailbox))
                break
            else:
                message = render(self._world, connection.agent or "", entry, now)
            _count_sent(self._world, connection, entry, message)
            out.append((connection.id, Frame(f"m{entry.mseq}", message, to=connection.agent, mseq=entry.mseq)))
        return out

    def acknowledged(self, sender: Connection, now: int) -> list[Record]:
        """Note that a connection has room for more, and return the records of what was acknowledged."""
        mailbox = self._world.ledger.mailboxes.get(sender.agent or "")
        if mailbox is None or not mailbox.entries:
            return []
        if mailbox.entries[-1].mseq > sender.sent_mseq:
            self._world.ledger.posted[sender.agent or ""] = None
        is_much = sender.acked_mseq - mailbox.entries[0].mseq + 1 >= _ACK_EVERY
        return self.receipt(sender, now) if is_much else []

    def receipt(self, connection: Connection, now: int) -> list[Record]:
        """Return the record of what was acknowledged on a connection, if some of it is not recorded yet."""
        mailbox = self._world.ledger.mailboxes.get(connection.agent or "")
        if mailbox is None or not mailbox.entries or mailbox.entries[0].mseq > connection.acked_mseq:
            return []
        return [MailboxAcked(now, connection.agent or "", connection.acked_mseq)]

    def receipts(self, now: int) -> list[Record]:
        """Return the records of what was acknowledged on all connections, so that a restart does not send it again."""
        if now - self._receipts_at < _ACKS_APART_MS:
            return []
        self._receipts_at = now
        return [record for connection in self._world.live.agents.values() for record in self.receipt(connection, now)]

    def forgotten(self, agent: str, now: int) -> list[Record]:
        """Return the record that drops the mailbox of a process that is not expected back, if the agent is one."""
        return [AgentForgotten(now, agent)] if may_forget(self._world.ledger, agent) else []

    def expect_back(self, agent: str, now: int) -> None:
        """Begin to wait, for a limited time, for an agent about which there is something to forget."""
        ledger, policy = self._world.ledger, self._world.policy
        if agent in ledger.agents:
            patience: int | None = policy.keep_agents_ms
        else:
            is_passing = "#" in agent and (agent in ledger.mailboxes or agent in ledger.delegating)
            patience = policy.passing_ms if is_passing else None
        if patience is not None:
            # Later than now, even without patience: an agent that cannot be forgotten yet is put back here.
            self._absences.set(agent, now + max(1, patience), 0)

    def expect_no_more(self, agent: str) -> None:
        """Stop waiting for an agent that was forgotten: the next one with its name is waited for anew."""
        self._absences.set(agent, None, 0)

    def given_up(self, now: int) -> Iterator[Record]:
        """Yield the records that forget agents away for too long; wait on while more may come (spec MAIL-8, REG-8).

        Each has to be applied before the next is asked for.
        """
        ledger = self._world.ledger
        while (agent := self._absences.pop(now)) is not None:
            if agent in self._world.live.agents:
                continue
            if may_forget(ledger, agent, with_mail=True):
                yield AgentForgotten(now, agent)
            else:
                self.expect_back(agent, now)


def _due(world: World, connection: Connection, mailbox: Mailbox) -> Iterator[MailboxEntry]:
    """Yield the entries that go out now, as far as the peer's credit for frames goes; each is counted before the next.

    And no more than a connection holds: else the mail of a peer that was away would end it, and then the next one.
    """
    for index in _places_due(connection, mailbox):
        if _room(world, connection) <= 0:
            return
        yield mailbox.entries[index]


def _places_due(connection: Connection, mailbox: Mailbox) -> range:
    """Return the range of mailbox entries that the peer's credit for frames lets go out."""
    first = mailbox.entries[0].mseq
    start = connection.sent_mseq + 1 - first
    return range(max(0, start), min(len(mailbox.entries), connection.acked_mseq + connection.credit_frames + 1 - first))


def _room(world: World, connection: Connection) -> int:
    """Return how many bytes of payloads may go out on a connection before its peer acknowledges some."""
    return world.policy.outbox_max_bytes // 2 - connection.unacked_bytes


def _need(world: World, connection: Connection, mailbox: Mailbox) -> Need:
    """Return what to fetch for the entries that go out next: no more than may be sent, as it has no other use.

    However many entries wait, only a few are looked at.
    """
    missing: dict[str, None] = {}
    for index in _places_due(connection, mailbox):
        if _has_left(world.ledger, mailbox.entries[index]):
            missing[mailbox.entries[index].task] = None
        if len(missing) == _FETCHED_TOGETHER:
            break
    most = min(_FETCHED_BYTES, _room(world, connection))
    return Need(connection.id, tuple(missing), is_for_mail=True, bytes_max=most)


def _has_left(ledger: Ledger, entry: MailboxEntry) -> bool:
    """Tell whether an entry is about a task that has left memory; a conflict stays while there is mail about it."""
    return entry.claim is None and entry.kind not in ABOUT_CONFLICTS and entry.task not in ledger.tasks


def _count_sent(world: World, connection: Connection, entry: MailboxEntry, message: Message) -> None:
    connection.sent_mseq = entry.mseq
    size = len(getattr(message, "payload", None) or b"")
    if isinstance(message, TaskOffer) and (message.attempt > 1 or message.steers):
        size += world.ledger.tasks[message.task].said_bytes + _left_bytes(message)
    if size >= _LIGHT_BYTES:
        connection.unacked.append((entry.mseq, size))
        connection.unacked_bytes += size


def _left_bytes(offer: TaskOffer) -> int:
    """Return how many bytes of an offer earlier attempts left."""
    size = len(offer.checkpoint.payload) if offer.checkpoint is not None else 0
    if offer.dossier is not None:
        size += sum(len(attempt.payload or b"") for attempt in offer.dossier.attempts)
    return size
