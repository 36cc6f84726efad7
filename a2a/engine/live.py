"""What is true only now: which agents are connected, how much they take, until when each lease runs.

Liveness is not history (spec LEASE-3). Nothing here is stored; after a restart it is built again from the hellos of
the agents, and only its consequences (such as a lease that expired) become records. Handlers may change it directly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..protocol.messages import AgentFilter
from ..protocol.types import principal_of
from .artifact_hashes import ArtifactHashes
from .ledger import Ledger
from .names import NameIndex
from .policy import Policy
from .schema_hashes import SchemaHashes
from .spending import Spending
from .task_state import Task

if TYPE_CHECKING:
    from .census import Census
    from .conflicts.patches import Overlap
    from .routing import Queues

__all__ = ["Connection", "Line", "Live", "OpenCall", "Progress", "World"]


@dataclass(slots=True)
class Connection:
    """One connection, and the agent that speaks on it once it is welcomed."""

    id: int
    fresh_secret: str
    """Drawn by the shell; issued if this turns out to be the first hello of a principal."""
    agent: str | None = None
    role: str = "member"
    instance: str = ""
    incarnation: int = 0
    card: dict[str, Any] = field(default_factory=dict)
    credit_tasks: int = 0
    credit_frames: int = 256
    sent_mseq: int = 0
    """The newest mailbox entry sent here."""
    acked_mseq: int = 0
    """The newest mailbox entry acknowledged; recorded now and then, not each time."""
    unacked: deque[tuple[int, int]] = field(default_factory=deque)
    """(mseq, bytes of the payload) of the heavy entries that were sent here and not acknowledged."""
    unacked_bytes: int = 0
    """The bytes of all `unacked` entries together."""
    is_fetching: bool = False
    """Whether its mail waits for the archive."""
    seen: int = 0
    asked_at: int | None = None
    """When it was last asked whether its process is still there, because another one came; None: never."""
    has_answered: bool = True
    """Whether anything arrived since `asked_at`."""
    watches: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Task to (id of the watch request, generation sent last)."""
    context_watches: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """(context, prefix) to (id of the watch request, place of the write sent last)."""
    reported: dict[tuple[str, int, str], None] = field(default_factory=dict)
    """(task, fence, hash) of the reports answered here lately: to repeat one on the same connection has no purpose."""
    finding: dict[str, AgentFilter] = field(default_factory=dict)
    """Id of an `agent.find` request with `watch` to its filter."""
    calls: dict[str, str] = field(default_factory=dict)
    """Id of an `a2a.call` that waits, or whose stream goes on, to its task."""


@dataclass(slots=True)
class OpenCall:
    """An `a2a.call` that is answered when its task stands still, or whose stream goes on (spec BIND-9, BIND-15)."""

    connection: Connection
    request: str
    is_stream: bool
    told: int = 0
    """For a stream: the generation sent last."""


@dataclass(slots=True)
class Progress:
    """How far an attempt says it is."""

    progress_no: int = 0
    progress_bp: int | None = None
    note: str = ""
    at: int = 0
    """When a heartbeat told it; 0: none did."""
    is_told: bool = False
    """Whether watchers were told of it: later heartbeats are not passed on until there is more to tell."""
    moved_at: int = 0
    """When the attempt last moved: told progress, streamed a chunk or left a checkpoint."""
    usage: dict[str, Any] | None = None
    """What the attempt has used so far."""


Standing = tuple[int, int]
"""A place in line: the lesser comes first, and no two are equal."""


@dataclass(slots=True)
class Alike:
    """The queued tasks that wait for exactly the same resources, in the order in which they stand."""

    names: dict[str, str]
    standings: list[Standing] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    """The task at each standing."""

    def at(self, standing: Standing) -> Task | None:
        """Return the task that stands at a place, or None where none does."""
        place = self.behind(standing) - 1
        return self.tasks[place] if place >= 0 and self.standings[place] == standing else None

    def behind(self, standing: Standing) -> int:
        """Return the index of the first task that stands behind a place, or the number of tasks if none does."""
        return bisect_right(self.standings, standing)


@dataclass(slots=True)
class Line:
    """The queued tasks that an agent would take, and that wait for their resources (spec CLAIM-9).

    Tasks that wait for exactly the same resources are found as one, by the first of them: however many they are, only
    one at a time may go on, and the others need not be looked at.
    """

    tasks: dict[str, Task] = field(default_factory=dict)
    names: dict[str, dict[str, str]] = field(default_factory=dict)
    """Task to its resources: name to mode."""
    called: dict[str, Task] = field(default_factory=dict)
    """Tasks that are looked at again in this pass: a task that no agent would take now loses its place."""
    holders: dict[str, Task] = field(default_factory=dict)
    """Tasks that had claims when they joined, from a lapsed attempt; in line they get no others."""
    by_skill: dict[str, dict[str, Task]] = field(default_factory=dict)
    _standings: dict[str, Standing] = field(default_factory=dict)
    _alike: dict[tuple[tuple[str, str], ...], Alike] = field(default_factory=dict)
    """By their resources."""
    _index: NameIndex = field(default_factory=NameIndex)

    def join(self, task: Task, names: dict[str, str], standing: Standing, *, has_claims: bool = False) -> bool:
        """Add a task to the line, and tell whether it was not in line before."""
        if task.id in self.tasks:
            return False
        if has_claims:
            self.holders[task.id] = task
        self.tasks[task.id], self.names[task.id], self._standings[task.id] = task, names, standing
        self.by_skill.setdefault(task.spec["skill"], {})[task.id] = task
        key = tuple(names.items())
        alike = self._alike.get(key)
        if alike is None:
            alike = self._alike[key] = Alike(names)
            self._index.add(key, names)
        place = alike.behind(standing)
        alike.standings.insert(place, standing)
        alike.tasks.insert(place, task)
        return True

    def leave(self, task: Task) -> dict[str, str] | None:
        """Take a task out of line, and return its resources, or None if it was not in line."""
        if self.tasks.pop(task.id, None) is None:
            return None
        self.holders.pop(task.id, None)
        others = self.by_skill[task.spec["skill"]]
        del others[task.id]
        if not others:
            del self.by_skill[task.spec["skill"]]
        names, standing = self.names.pop(task.id), self._standings.pop(task.id)
        key = tuple(names.items())
        alike = self._alike[key]
        place = alike.behind(standing) - 1
        del alike.standings[place], alike.tasks[place]
        if not alike.tasks:
            del self._alike[key]
            self._index.remove(key, names)
        return names

    def standing_of(self, task: str, alike: Alike) -> Standing | None:
        """Return where a task stands among these alike tasks, or None if it is not one of them."""
        return self._standings[task] if task in self.tasks and self.names[task] == alike.names else None

    def meeting(self, names: Mapping[str, str]) -> Iterator[tuple[Alike, str]]:
        """Yield the alike tasks that wait for names in conflict with these, each with one such name of theirs."""
        for key, name in self._index.meeting(names).items():
            yield self._alike[key], name


@dataclass(slots=True)
class Live:
    """The volatile half of the coordinator's state."""

    connections: dict[int, Connection] = field(default_factory=dict)
    agents: dict[str, Connection] = field(default_factory=dict)
    """Agent to the connection it speaks on. `came` and `left` change it."""
    present: dict[str, int] = field(default_factory=dict)
    """Principal to the number of its connected processes."""
    lease_until: dict[str, int] = field(default_factory=dict)
    """Task to the end of its running lease, or of its offer."""
    progress: dict[str, Progress] = field(default_factory=dict)
    spending: Spending = field(default_factory=Spending)
    schema_hashes: SchemaHashes = field(default_factory=SchemaHashes)
    artifact_hashes: ArtifactHashes = field(default_factory=ArtifactHashes)
    watchers: dict[str, dict[int, Connection]] = field(default_factory=dict)
    """Task to the connections that watch it."""
    context_watchers: dict[str, dict[int, Connection]] = field(default_factory=dict)
    """Context to the connections that watch it."""
    finders: dict[int, Connection] = field(default_factory=dict)
    """Connections that watch for agents."""
    calls: dict[str, dict[tuple[int, str], OpenCall]] = field(default_factory=dict)
    """Task to the open calls about it, by their connection and request."""
    addresses: list[str] = field(default_factory=list)
    """Where the coordinator listens."""
    released: dict[str, dict[str, int]] = field(default_factory=dict)
    """Agent to the tasks it holds whose slot is free because they only wait for their sub-tasks, with their fences."""
    line: Line = field(default_factory=Line)
    tries: dict[tuple[str, str, str], tuple[int, int, str]] = field(default_factory=dict)
    """(context, key, agent) to the revision its last write was for, how many writes in a row were for no newer one, and
    the name of the last write."""
    takeovers: dict[str, list[int]] = field(default_factory=dict)
    """Agent to the times when another process took the place of one heard just before, oldest first."""
    comparing: dict[str, str] = field(default_factory=dict)
    """Group to the member whose result a job is comparing."""
    merging: dict[str, int] = field(default_factory=dict)
    """Conflict to the rung at which a job is merging."""
    overlapping: dict[str, Overlap] = field(default_factory=dict)
    """Task to the job that is comparing its result with another."""
    away_since: dict[str, int] = field(default_factory=dict)
    """Principal that an open task depends on to the time since which none of its processes is connected."""
    started_at: int = 0
    """When the coordinator started: it saw nobody stand still before."""
    grace_until: int = 0
    """After a start no stored deadline fires before this time (spec TIME-4)."""
    census: Census | None = None
    """The last count, for requests that ask how the coordinator stands."""
    restored_lsn: int = 0
    """The newest record this process found in the store."""
    durability: str = "memory"

    def came(self, agent: str, connection: Connection) -> None:
        """Note the connection on which an agent speaks from now on."""
        if agent not in self.agents:
            principal = principal_of(agent)
            self.present[principal] = self.present.get(principal, 0) + 1
        self.agents[agent] = connection

    def left(self, agent: str) -> None:
        """Note that an agent is no longer connected."""
        del self.agents[agent]
        principal = principal_of(agent)
        self.present[principal] -= 1
        if not self.present[principal]:
            del self.present[principal]

    def free_credit(self, agent: str, ledger: Ledger) -> int:
        """Return how many more attempts the agent takes; 0 if it is away."""
        connection = self.agents.get(agent)
        if connection is None:
            return 0
        held = ledger.holding.get(agent)
        used = len(held) if held else 0
        released = self.released.get(agent)
        if released and held:
            used -= sum(held.get(task) == fence for task, fence in released.items())
        return connection.credit_tasks - used


@dataclass(slots=True)
class World:
    """Everything a handler reads."""

    ledger: Ledger
    live: Live
    policy: Policy
    queues: Queues
