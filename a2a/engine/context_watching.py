"""A peer's machine for the contexts it watches: what was written, and where each watch resumes (spec CTX-8).

Pure, like its siblings: replies and notices in, changed watches out. A watch belongs to a connection, its position in
the ledger to the watcher: after a new handshake it resumes from there. Used by clients, and by agents in their tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..protocol.messages import ContextEventNotice, ContextValue, ContextWatch, Error, Message
from ..protocol.session import PeerSession, Reply

__all__ = ["ContextWatches", "Watched"]

_VALUES_MAX = 10_000
"""Values kept for a watcher: if it falls further behind, it has to read the context, as if it had been away."""


@dataclass(slots=True, eq=False)
class Watched:
    """Keys of one context, as one watcher knows them."""

    context_id: str
    prefix: str
    lsn: int
    """The position of the newest write seen."""
    values: list[ContextValue] = field(default_factory=list)
    """Values written and not taken yet."""
    refused: Error | None = None
    """Why the watch ended: the coordinator refused it, or its watcher was too slow."""


class ContextWatches:
    """The contexts that one peer watches."""

    def __init__(self, session: PeerSession) -> None:
        self.session = session
        self._watched: dict[tuple[str, str], list[Watched]] = {}
        self._requests: dict[str, tuple[str, str]] = {}
        """The newest watch request of each (context, prefix): its events name it."""

    @property
    def are_open(self) -> bool:
        """Whether somebody watches a context."""
        return bool(self._watched)

    def watch(self, context_id: str, prefix: str, from_lsn: int) -> Watched:
        """Watch; the returned record changes as news arrive. forget() it when nobody cares any more."""
        watched = Watched(context_id, prefix, from_lsn)
        self._watched.setdefault((context_id, prefix), []).append(watched)
        self._ask(context_id, prefix)
        return watched

    def forget(self, watched: Watched) -> None:
        """Stop watching."""
        pair = (watched.context_id, watched.prefix)
        others = self._watched.get(pair, [])
        if watched not in others:
            return
        others.remove(watched)
        if not others:
            del self._watched[pair]
            self._drop(pair)
            self.session.request(ContextWatch(*pair, stop=True))

    def on_welcome(self) -> None:
        """Watch again, each watch from where it stands."""
        for context_id, prefix in self._watched:
            self._ask(context_id, prefix)

    def on_reply(self, reply: Reply) -> list[Watched]:
        """Take a reply, and return the watches that it ended."""
        pair = self._requests.get(reply.re)
        if pair is None or not isinstance(reply.message, Error):
            return []
        ended = self._watched.pop(pair, [])
        self._drop(pair)
        for watched in ended:
            watched.refused = reply.message
        return ended

    def on_notice(self, message: Message, re: str | None) -> list[Watched]:
        """Take a notice, and return the watches that it has news for."""
        pair = self._requests.get(re or "")
        if pair is None or not isinstance(message, ContextEventNotice):
            return []
        told = [watched for watched in self._watched.get(pair, ()) if watched.lsn < message.lsn]
        for watched in told:
            watched.lsn = message.lsn
            watched.values.extend(message.values)
            if len(watched.values) > _VALUES_MAX:
                self.forget(watched)
                watched.values.clear()
                watched.refused = Error("gone", f"more than {_VALUES_MAX} values were written and not taken")
        return told

    def _ask(self, context_id: str, prefix: str) -> None:
        """Watch from where the slowest watcher stands: a connection has one watch of a prefix."""
        pair = (context_id, prefix)
        self._drop(pair)
        lsn = min(watched.lsn for watched in self._watched[pair])
        self._requests[self.session.request(ContextWatch(context_id, prefix, lsn))] = pair

    def _drop(self, pair: tuple[str, str]) -> None:
        """Forget the earlier request: what still arrives for it is sent again for the next one."""
        for request in [request for request, known in self._requests.items() if known == pair]:
            del self._requests[request]
            self.session.forget(request)
