"""Mailboxes while the coordinator runs: what goes out now, what was acknowledged, who does not come back (spec MAIL).

What is durable of a mailbox is in the ledger. Here is what a start begins without: who has a connection that takes how
much, and who was away for how long. What changes the ledger is returned as a record. The coordinator owns one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..protocol.codec import Frame
from ..protocol.messages import TaskOffer
from .agenda import Agenda
from .forgetting import may_forget
from .ledger import Mailbox
from .live import Connection, World
from .mailbox import render
from .records import AgentForgotten, MailboxAcked, Record

__all__ = ["Delivery"]

_ACK_EVERY = 256
"""Mailbox entries acknowledged before that is recorded: a record each would double the ledger's appends."""
_ACKS_APART_MS = 1_000
"""Where mail alone keeps tasks in memory, what was acknowledged is recorded at once, but not more often than this."""
_LIGHT_BYTES = 512
"""Smaller payloads are not counted among what is on the wire: of those the credit for frames leaves 32 MiB at most."""


class Delivery:
    """What goes out of the mailboxes, and who is expected back for what stays in them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._absences = Agenda[str]()
        """When each agent that has gone is given up: one with a card, and a process with an id of its own."""
        self._receipts_at = 0

    def next_deadline(self) -> int | None:
        """Return when somebody is given up next, or None."""
        return self._absences.next()

    def outgoing(self, now: int) -> list[tuple[int, Frame]]:
        """Return what goes out now, with its connection: to who is here, as far as their credit for frames goes."""
        ledger, live = self._world.ledger, self._world.live
        posted = list(ledger.posted)
        ledger.posted.clear()
        out: list[tuple[int, Frame]] = []
        for agent in posted:
            connection, mailbox = live.agents.get(agent), ledger.mailboxes.get(agent)
            if connection is None and self._absences.at(agent) is None:
                self.expect_back(agent, now)  # the first mail that it has came when it had gone
            if connection is None or mailbox is None or not mailbox.entries:
                continue
            out += [(connection.id, frame) for frame in _unsent(self._world, connection, mailbox, now)]
        return out

    def acknowledged(self, sender: Connection, now: int) -> list[Record]:
        """Note that there is room for more on a connection, and return what is to be recorded of what was said."""
        mailbox = self._world.ledger.mailboxes.get(sender.agent or "")
        if mailbox is None or not mailbox.entries:
            return []
        if mailbox.entries[-1].mseq > sender.sent_mseq:
            self._world.ledger.posted[sender.agent or ""] = None
        is_much = sender.acked_mseq - mailbox.entries[0].mseq + 1 >= _ACK_EVERY
        return self.receipt(sender, now) if is_much else []

    def receipt(self, connection: Connection, now: int) -> list[Record]:
        """Return the record of what was acknowledged on a connection, if there is any that was not recorded yet."""
        mailbox = self._world.ledger.mailboxes.get(connection.agent or "")
        if mailbox is None or not mailbox.entries or mailbox.entries[0].mseq > connection.acked_mseq:
            return []
        return [MailboxAcked(now, connection.agent or "", connection.acked_mseq)]

    def receipts(self, now: int) -> list[Record]:
        """Return the records of what was acknowledged on all connections, as mail alone keeps tasks in memory."""
        if now - self._receipts_at < _ACKS_APART_MS:
            return []
        self._receipts_at = now
        return [record for connection in self._world.live.agents.values() for record in self.receipt(connection, now)]

    def forgotten(self, agent: str, now: int) -> list[Record]:
        """Return the record that lets go of the mailbox of a process that is not expected back, if it is none."""
        return [AgentForgotten(now, agent)] if may_forget(self._world.ledger, agent) else []

    def expect_back(self, agent: str, now: int) -> None:
        """Wait for an agent of which there is something to forget for some time, and not for ever."""
        ledger, policy = self._world.ledger, self._world.policy
        if agent in ledger.agents:
            patience: int | None = policy.keep_agents_ms
        else:
            is_passing = "#" in agent and (agent in ledger.mailboxes or agent in ledger.delegating)
            patience = policy.passing_ms if is_passing else None
        if patience is not None:
            # Later than now, also where nobody is waited for: who is looked at in vain is put back here.
            self._absences.set(agent, now + max(1, patience), 0)

    def given_up(self, now: int) -> Iterator[Record]:
        """Yield the records that forget who was away for too long; while more may come, wait on (MAIL-8, REG-8).

        Each has to be true before the next is asked for.
        """
        while (agent := self._absences.pop(now)) is not None:
            if agent in self._world.live.agents:
                continue
            if may_forget(self._world.ledger, agent, with_mail=True):
                yield AgentForgotten(now, agent)
            else:
                self.expect_back(agent, now)


def _unsent(world: World, connection: Connection, mailbox: Mailbox, now: int) -> Iterator[Frame]:
    """Return the entries that go out now, as far as the peer's credit for frames goes, and count them as sent.

    Nor more than a connection holds: it would end over what came while its peer was away, and so would the next one.
    """
    room = world.policy.outbox_max_bytes // 2
    agent, first = connection.agent or "", mailbox.entries[0].mseq
    start = connection.sent_mseq + 1 - first
    stop = min(len(mailbox.entries), connection.acked_mseq + connection.credit_frames + 1 - first)
    for index in range(max(0, start), stop):
        if connection.unacked_bytes >= room:
            return
        entry = mailbox.entries[index]
        connection.sent_mseq = entry.mseq
        message = render(world, agent, entry, now)
        size = len(getattr(message, "payload", None) or b"")
        if isinstance(message, TaskOffer) and (message.attempt > 1 or message.steers):
            size += world.ledger.tasks[message.task].said_bytes + _left_bytes(message)
        if size >= _LIGHT_BYTES:
            connection.unacked.append((entry.mseq, size))
            connection.unacked_bytes += size
        yield Frame(f"m{entry.mseq}", message, to=agent, mseq=entry.mseq)


def _left_bytes(offer: TaskOffer) -> int:
    """Return how many bytes an offer has in what earlier attempts left."""
    size = len(offer.checkpoint.payload) if offer.checkpoint is not None else 0
    if offer.dossier is not None:
        size += sum(len(attempt.payload or b"") for attempt in offer.dossier.attempts)
    return size
