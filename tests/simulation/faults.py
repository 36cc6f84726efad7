"""The weather: faults come at random, each at its own rate, until it is calm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from a2a.engine.coordinator import Coordinator
from a2a.protocol.codec import Frame
from a2a.protocol.messages import AgentUpdate, Bye, Credit
from a2a.protocol.session import PeerSession

from .agents import Agent
from .court import Violation
from .network import Connection
from .peers import Peer

if TYPE_CHECKING:
    from .town import Host, Town

__all__ = ["FAULTS", "Strike", "Weather"]


@dataclass(frozen=True, slots=True)
class Strike:
    """A planned fault: which, when, and the seed for the rest of it."""

    at: int
    fault: str
    chance: int = 0


class Weather:
    """Plans the faults of a profile, and makes them happen."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.world = town.world
        self.chance = town.world.chance("weather")

    def begin(self, script: Sequence[Strike] | None = None) -> None:
        """Begin the weather: at random, or as planned."""
        faults = self.town.profile.faults
        self.town.server.dies_at_append = faults.server_dies_at_append
        self.town.server.wall_jump = faults.wall_jump_ms
        if script is not None:
            for strike in script:
                self.world.at(strike.at, self._strike_once, strike)
            return
        for name, fault in FAULTS.items():
            rate = getattr(faults, name)
            if rate:
                self._plan(rate, fault)

    def _strike_once(self, strike: Strike) -> None:
        if not self.town.is_calm:
            self.chance = Random(strike.chance)
            FAULTS[strike.fault](self)

    def _plan(self, rate: float, fault: Fault) -> None:
        pause = self.chance.expovariate(rate / 60_000)
        self.world.after(max(1, int(pause)), self._strike, rate, fault)

    def _strike(self, rate: float, fault: Fault) -> None:
        if not self.town.is_calm:
            fault(self)
            self._plan(rate, fault)

    def _tell(self, what: str) -> None:
        if self.world.timeline is not None:
            self.world.tell("weather", what)

    @property
    def _lease(self) -> int:
        return self.town.profile.policy.durations.lease_ms

    # Network ----------------------------------------------------------------------------------------------------------

    def _connection(self) -> Connection | None:
        standing = [connection for connection in self.town.network.connections.values() if not connection.is_over]
        return self.chance.choice(standing) if standing else None

    def _cut(self) -> None:
        connection = self._connection()
        if connection is None:
            return
        chance = self.chance
        knows = [chance.choice((0, chance.randint(0, 300), chance.randint(0, 5_000))) for _ in range(2)]
        keep = (chance.choice((0.0, chance.random(), 1.0)), chance.choice((0.0, chance.random(), 1.0)))
        self._tell(f"CUTS connection {connection.number}, peer knows in {knows[0]}, coordinator in {knows[1]} ms")
        connection.break_("cut", peer_knows=knows[0], server_knows=knows[1], keep=keep)
        if chance.random() < 0.3:
            self._cut_off(connection, self.world.now + chance.randint(0, 2 * self._lease))
        elif chance.random() < 0.3:  # a link that broke once often breaks again as soon as it is up
            self.world.after(chance.randint(0, 1_500), self._cut_newest)

    def _cut_off(self, connection: Connection, until: int) -> None:
        """Cut the peer of a connection off from the network for a while."""
        for host in self.town.hosts:
            if host.process is not None and host.process.connection is connection:
                self._tell(f"CUTS OFF {host.process.name} until {until / 1000}")
                host.process.unreachable_until = until

    def _cut_newest(self) -> None:
        standing = self.town.network.connections
        if standing and not self.town.is_calm:
            connection = standing[max(standing)]
            self._tell(f"CUTS connection {connection.number}, the newest")
            connection.break_("cut again", keep=(self.chance.random(), self.chance.random()))

    def _stall(self) -> None:
        connection = self._connection()
        if connection is None:
            return
        until = self.world.now + self.chance.randint(100, max(200, 2 * self._lease))
        which = self.chance.choice(("up", "down", "both"))
        self._tell(f"STALLS connection {connection.number} {which} until {until / 1000}")
        if which != "down":
            connection.up.stall(until)
        if which != "up":
            connection.down.stall(until)

    def _go_one_way(self) -> None:
        connection = self._connection()
        if connection is None:
            return
        chance = self.chance
        which, found = chance.choice(("up", "down")), chance.randint(5_000, 40_000)
        self._tell(f"connection {connection.number} is dead {which}, keep-alive finds out in {found} ms")
        (connection.up if which == "up" else connection.down).stall(self.world.now + found)
        knows = [chance.randint(0, 5_000) for _ in range(2)]
        self.world.after(found - 1, self._cut_for_silence, connection, knows)

    @staticmethod
    def _cut_for_silence(connection: Connection, knows: list[int]) -> None:
        connection.break_("keep-alive", peer_knows=knows[0], server_knows=knows[1], keep=(0, 0))

    def _half_open(self) -> None:
        connection = self._connection()
        if connection is None:
            return
        chance = self.chance
        knows = [chance.randint(0, 300), chance.randint(10_000, 40_000)]
        chance.shuffle(knows)
        self._tell(f"HALF-OPENS {connection.number}: peer knows in {knows[0]}, coordinator in {knows[1]} ms")
        keep = (chance.random(), chance.random())
        connection.break_("half-open", peer_knows=knows[0], server_knows=knows[1], keep=keep)

    def _slow_reader(self) -> None:
        connection = self._connection()
        if connection is not None:
            pace, until = self.chance.choice((50, 500, 2_000)), self.chance.randint(1_000, 30_000)
            self._tell(f"connection {connection.number} takes {pace} ms a message, for {until} ms")
            connection.down.pace = pace
            self.world.after(until, connection.down.heal)

    # The coordinator --------------------------------------------------------------------------------------------------

    def _crash_server(self) -> None:
        self.town.server.crash("weather")

    def _restore_older_copy(self) -> None:
        """Start the coordinator on an older copy; the first agent that shows what it lost has to stop it (DURABLE-7).

        No other peer speaks before that agent, and what the coordinator decided on the copy is thrown away with it.
        """
        town, chance = self.town, self.chance
        if not town.server.is_up:
            return
        town.server.crash("weather", restart=False)
        self.world.after(chance.randint(100, 2_000), town.server.start)
        holders = [host.process for host in town.hosts if host.process is not None and host.process.work.held()]
        if not holders:
            return
        records = town.disk.read()
        agent = chance.choice(holders)
        newest = max(held.fence for held in agent.work.held())
        copies = [end for end in town.disk.ends if 0 < end < newest]  # no empty one: that is a new ledger
        if not copies:
            return
        kept = chance.choice(copies)
        self._tell(f"RESTORES the first {kept} of {len(records)} records, and {agent.name} holds {newest}")
        older = Coordinator(town.profile.policy, durability="fsync")
        older.restore(records[:kept], "another key", town.server.clock())
        older.opened(1, "fresh", town.server.clock())
        again = PeerSession(agent.session.identity, lambda: "again", credit=agent.session.credit, held=agent.work.held)
        again.connected()
        for frame in again.outgoing():
            older.step(1, Frame(frame.id, frame.message), town.server.clock())
        ready = older.ready(town.server.clock())
        for need in ready.needs:  # the archive of that time does not have later tasks
            older.found(need, [], town.server.clock())
            ready = older.ready(town.server.clock())
        if ready.halt is None:
            raise Violation(
                "DURABLE-7", f"{agent.name} holds {newest}, and the copy that ends with {kept} is gone on with"
            )

    def _fill_disk(self) -> None:
        self._tell("FILLS the disk")
        self.town.disk.refuse_next()

    # Agents and clients -----------------------------------------------------------------------------------------------

    def _host(self, *, agents: bool) -> Host | None:
        chosen = [
            host
            for host in self.town.hosts
            if host.is_agent == agents
            and (agents or host.orders is not None)
            and host.process is not None
            and host.process.is_alive
        ]
        return self.chance.choice(chosen) if chosen else None

    def _crash_agent(self) -> None:
        host = self._host(agents=True)
        if host is None or not isinstance(host.process, Agent):
            return
        chance, peer = self.chance, host.process
        if chance.random() < self.town.profile.faults.agent_remembers:
            host.remembered = peer.remember()
        self._tell(f"KILLS {host.name}{', which will remember' if host.remembered else ''}")
        peer.die(server_knows=chance.choice((0, chance.randint(0, 5_000))), keep=chance.random())
        down = chance.choice((0, chance.randint(0, 2_000), chance.randint(0, 2 * self._lease)))
        self.world.after(down + 1, self._start_again, host, peer)

    def _start_again(self, host: Host, former: Peer) -> None:
        if host.process is former and not host.is_gone:
            self.town.start(host)

    def _pause_agent(self) -> None:
        host = self._host(agents=True)
        if host is not None and host.process is not None:
            self._pause(host.process, self.chance.randint(self._lease // 2, 3 * self._lease))

    def _pause_client(self) -> None:
        host = self._host(agents=False)
        if host is not None and host.process is not None:
            self._pause(host.process, self.chance.randint(500, 30_000))

    def _pause(self, peer: Peer, how_long: int) -> None:
        if not peer.is_paused:
            self._tell(f"PAUSES {peer.name} for {how_long} ms")
            peer.pause()
            self.world.after(how_long, peer.resume)

    def _double_agent(self) -> None:
        host = self._host(agents=True)
        if host is not None:
            self._tell(f"STARTS {host.name} a second time")
            self.town.start(host)

    def _twin_agent(self) -> None:
        host = self._host(agents=True)
        if host is not None and (host.twin is None or not host.twin.is_alive):
            self._tell(f"STARTS {host.name} a second time, as the same start")
            self.town.start(host, twin=True)

    def _crash_client(self) -> None:
        host = self._host(agents=False)
        if host is None or host.process is None:
            return
        chance, peer = self.chance, host.process
        host.is_gone = chance.random() < self.town.profile.faults.client_gone and self.town.may_leave_results
        self._tell(f"KILLS {peer.name}{' for good' if host.is_gone else ''}")
        peer.die(server_knows=chance.choice((0, chance.randint(0, 5_000))), keep=chance.random())
        self.world.after(chance.randint(1, 10_000), self._start_again, host, peer)

    def _change_credit(self) -> None:
        host = self._host(agents=True)
        if host is None or host.process is None:
            return
        credit = Credit(self.chance.choice((0, 1, 3)), self.chance.choice((1, 4, 256)))
        self._tell(f"{host.name} takes {credit.tasks} tasks and {credit.frames} frames")
        host.process.later(0, host.process.session.set_credit, credit)

    def _drain(self) -> None:
        host = self._host(agents=True)
        if host is None or host.process is None:
            return
        peer = host.process
        status = self.chance.choice(("draining", "ready"))
        peer.later(0, peer.session.request, AgentUpdate(status=status))  # type: ignore[arg-type]

    def _say_bye(self) -> None:
        host = self._host(agents=self.chance.random() < 0.5)
        if host is not None and host.process is not None:
            host.process.later(0, host.process.session.tell, Bye("see you"))


Fault = Callable[[Weather], None]

FAULTS: dict[str, Fault] = {
    "cuts": Weather._cut,
    "stalls": Weather._stall,
    "one_way": Weather._go_one_way,
    "half_open": Weather._half_open,
    "slow_readers": Weather._slow_reader,
    "server_crashes": Weather._crash_server,
    "restores": Weather._restore_older_copy,
    "disk_full": Weather._fill_disk,
    "agent_crashes": Weather._crash_agent,
    "agent_pauses": Weather._pause_agent,
    "agent_doubles": Weather._double_agent,
    "agent_twins": Weather._twin_agent,
    "client_crashes": Weather._crash_client,
    "client_pauses": Weather._pause_client,
    "credit_changes": Weather._change_credit,
    "drains": Weather._drain,
    "byes": Weather._say_bye,
}
"""Every fault that strikes at a given time, by the name of its rate in `Faults`."""
