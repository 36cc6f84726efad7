"""One seed's world, put together: a coordinator, a network, agents, clients, the court.

It runs in two parts. First all peers arrive and work, while the faults of the profile come for as long as they last.
Then the world is calm, and everything has to end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from a2a.engine.replay.run import Replay
from a2a.engine.work import Attempt
from a2a.protocol.messages import AgentUpdate, Credit

from .agents import Agent
from .checkers import SAFETY
from .claimants import declare
from .claiming import CLAIMING
from .clients import Client, Operator, Order, draw_orders
from .contexts import CONTEXTS
from .costs import COSTS, allow, draw_costs
from .court import Court, Violation
from .disk import Disk
from .disputes import Arbiter, Disputes, draw_disputes
from .faults import Weather
from .fees import FEES, draw_fees, limit
from .flapping import plan_flapping
from .impostor import plan_impostors
from .liveness import LIVENESS, compare, fold
from .network import Network
from .patching import PATCHING
from .peers import Peer
from .plan import Plan
from .profiles import Manners, Profile, draw, entangle
from .quarrels import QUARRELS, Quarrels, draw_quarrels
from .refused import REFUSED
from .rulings import RULINGS
from .server import SimServer
from .told import TOLD
from .warden import plan_warden
from .world import World

__all__ = ["Host", "Town"]

_LOOK_EVERY_MS = 1_000
_ARRIVING_MS = 2_000


@dataclass(slots=True)
class Host:
    """Where the processes of one agent or client run, one after the other."""

    name: str
    process: Peer | None = None
    twin: Peer | None = None
    """Another process of the same start: one of the two has to go."""
    starts: int = 0
    twins: int = 0
    """How many twins there were: two processes never share an instance, whichever start they think they are."""
    skills: tuple[str, ...] = ()
    credit: Credit = field(default_factory=Credit)
    labels: dict[str, str] = field(default_factory=dict)
    orders: list[Order] | None = None
    remembered: list[tuple[Attempt, dict[int, bytes]]] = field(default_factory=list)
    is_gone: bool = False
    """It never comes back."""
    is_arbiter: bool = False

    @property
    def is_agent(self) -> bool:
        return bool(self.skills)


_PROPERTIES = (
    *(*SAFETY, *RULINGS, *QUARRELS, *PATCHING, *CONTEXTS, *CLAIMING),
    *(*COSTS, *FEES, *TOLD, *REFUSED, *LIVENESS),
)


class Town:
    """Everything in one world."""

    def __init__(self, world: World, plan: Plan | None = None) -> None:
        self.world = world
        self.plan = plan or Plan()
        chance = world.chance("profile")
        self.profile: Profile = draw(chance)
        # Separate streams: worlds that do not share or claim stay what they were before sharing and claiming existed.
        if (sharing := world.chance("whiteboard").random()) < 0.28:
            self.profile.manners.share = 0.3 if sharing < 0.14 else 1.0
        self.profile.manners.claim = world.chance("claims").choice((0.0, 0.0, 0.3, 0.9))
        if self.profile.manners.claim and world.chance("parts").random() < 0.5:
            entangle(self.profile)
        draw_costs(world, self.profile, self.plan.costs)
        draw_fees(world, self.profile, self.plan.costs)
        self.plan.change(self.profile)
        linger_ms = world.chance("linger").choice((0, 0, 500, 5_000, 60_000))
        few = world.chance("refusals")
        self.profile.policy = replace(
            self.profile.policy,
            linger_ms=linger_ms,
            linger_tasks_max=world.chance("room").choice((0, 3, 10_000)),
            linger_conflicts_max=world.chance("docket").choice((0, 2, 2_000)),
            linger_contexts_ms=linger_ms,
            linger_contexts_max=world.chance("boards").choice((0, 1, 10_000)),
            keep_agents_ms=world.chance("absence").choice((None, None, 2_000, 20_000)),
            raised_keep_ms=world.chance("raised").choice((60_000, 24 * 3600 * 1000)),
            refusals_per_minute=few.choice((2, 16)),
            refusals_alike_max=few.choice((1, 2)),
        )
        self.quarrels: Quarrels | None = draw_quarrels(world, self.profile, self.plan.quarrels)
        self.disputes: Disputes | None = draw_disputes(world, self.profile, self.plan.disputes)
        limit(world, self.profile, self.disputes.orders if self.disputes is not None else ())
        self.manners: Manners = self.profile.manners
        self.is_calm = False
        self.disk = Disk(world, self.profile.disk_latency)
        self.court = Court(self.profile.policy, _PROPERTIES, lambda: self.disk.durable)
        self.server = SimServer(world, self.profile, self.disk, self.court)
        self.server.dies_at = self.plan.dies_at
        self.network = Network(world, self.server)
        self.weather = Weather(self)
        self.hosts: list[Host] = self._people(chance)
        self._looking = world.chance("look")

    @property
    def may_leave_results(self) -> bool:
        """Whether the timer confirms a result that nobody confirms; otherwise somebody has to stay for it."""
        return self.profile.policy.on_confirm_timeout != "hold"

    @property
    def all_tasks(self) -> list[str]:
        """The tasks that are durable, for peers that look around."""
        return [task.id for task in self.court.model.tasks.values() if task.lsn <= self.disk.durable]

    def secret(self, principal: str) -> str:
        """Return the secret that a principal has drawn and its hosts keep."""
        return f"secret of {principal}"

    def is_replaced(self, peer: Peer) -> bool:
        """Whether another process takes this one's place on its host, so that this one may go."""
        host = next((host for host in self.hosts if host.process is peer), None)
        if host is None:
            return True
        twin, host.twin = host.twin, None
        if twin is None:
            return False
        if twin.is_alive:
            host.process = twin
        else:  # it was turned away for a process that is now gone: the host's supervisor starts it again
            self.world.after(1, self.start, host)
        return True

    # A run ------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the world to its end.

        Raises:
            Violation: a property does not hold.
        """
        world = self.world
        self.server.start()
        for host in self.hosts:
            world.at(self._looking.randint(0, _ARRIVING_MS), self.start, host)
        world.at(0, self._look)
        self.weather.begin(self.plan.strikes)
        plan_impostors(self)
        plan_warden(self)
        plan_flapping(self)
        world.run(world.now + self.profile.weather_ms)
        self._calm_down()
        end = world.now + self._patience()
        while (waits := self._unfinished()) is not None:
            if world.now >= end:
                raise Violation(waits[0], f"{(self._patience()) // 1000} s after the last fault: {waits[1]}")
            world.run(world.now + 1_000)
        self._judge()

    def start(self, host: Host, *, twin: bool = False) -> None:
        """Start a process of a host; a twin thinks that it is the same start as the running process."""
        host.starts += not twin
        host.twins += twin
        peer: Peer
        if host.is_agent:
            remembered, host.remembered = host.remembered, []
            peer = Agent(
                self, host.name, host.starts, host.skills, host.credit, host.labels, remembered, host.twins * twin
            )
        elif host.orders is not None:
            name = f"{host.name}#p{host.starts}" if self.profile.own_suffix else host.name
            peer = Client(self, name, host.starts, host.orders)
        elif host.is_arbiter:
            peer = Arbiter(self, host.name, host.starts)
        else:
            peer = Operator(self, host.name, host.starts)
        if twin:
            host.twin = peer
        else:
            host.process = peer
        if self.world.timeline is not None:
            self.world.tell(peer.name, f"STARTS as {peer.instance}")
        peer.start()

    def _people(self, chance: Random) -> list[Host]:
        profile = self.profile
        hosts = []
        for name, skills, tasks, frames in profile.agents:
            labels = {"zone": chance.choice("ab")}
            hosts.append(Host(name, skills=skills, credit=Credit(tasks, frames), labels=labels))
        names = [host.name for host in hosts]
        for number in range(profile.clients):
            principal = f"client{number}"
            orders = draw_orders(profile, self.world.chance(principal), principal, names)
            for order in orders:
                allow(order.request, self.world.chance(principal, order.request.key, "allowed"), profile.manners.spend)
                declare(order.request, self.world.chance(principal, order.request.key, "claims"), profile.manners.claim)
            hosts.append(Host(principal, orders=orders))
        if profile.operator:
            hosts.append(Host("operator"))
        for settled in (self.disputes, self.quarrels):
            for name, skills, tasks, frames in settled.people if settled is not None else ():
                hosts.append(Host(name, skills=skills, credit=Credit(tasks, frames)))
        if self.disputes is not None:
            hosts.append(Host("asker", orders=self.disputes.orders))
        if any(settled is not None and settled.has_arbiter for settled in (self.disputes, self.quarrels)):
            hosts.append(Host("arbiter", is_arbiter=True))
        return hosts

    # Calm -------------------------------------------------------------------------------------------------------------

    def _calm_down(self) -> None:
        """End all faults: stopped processes start, paused ones resume, and agents just do their work."""
        self.is_calm = True
        self.court.calm_at = self.server.clock()
        self.manners = Manners()
        if self.world.timeline is not None:
            self.world.tell("weather", "CALM")
        self.server.dies_at_append = 0.0
        self.server.wall_jump = 0
        self.disk.heal()
        self.server.start()
        for connection in self.network.connections.values():
            connection.up.heal()
            connection.down.heal()
        for host in self.hosts:
            peer = host.process
            if host.twin is not None:
                host.twin.die()
            if host.is_gone:
                continue
            if peer is None or not peer.is_alive:
                self.start(host)
                continue
            peer.resume()
            if host.is_agent:
                peer.session.set_credit(host.credit)
                peer.session.request(AgentUpdate(status="ready"))
            peer.flush()

    def _patience(self) -> int:
        durations = self.profile.policy.durations
        waits = durations.confirm_ms + durations.ask_ms + durations.cancel_ms
        return 600_000 + 4 * waits + 12 * (durations.lease_ms + durations.offer_ms)

    def _unfinished(self) -> tuple[str, str] | None:
        """Say which property still waits, and for what, or None."""
        if not self.server.is_up:
            return "L1", "the coordinator is down"
        waits = self.court.unfinished()
        if waits is not None:
            return waits
        for host in self.hosts:
            peer = host.process
            if host.is_gone or peer is None:
                continue
            if not peer.session.is_open:
                return "L9", f"{peer.name} is not connected"
            if peer.session.waiting:
                return "L8", f"{peer.name} waits for {peer.session.waiting} answers"
            if isinstance(peer, Agent) and peer.work.attempts:
                return "L8", f"{peer.name} holds {sorted(peer.work.attempts)}"
            if isinstance(peer, Client) and (missing := peer.unfinished()) is not None:
                return "L9", missing
        return None

    # Judgement --------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        self.world.steps -= 1  # a look is no event of the world
        if self.server.is_up:
            self.court.look(self.server.clock())
        self.world.after(self._looking.randint(1, _LOOK_EVERY_MS), self._look)

    def _judge(self) -> None:
        """At the end, check the whole world once more."""
        self.world.run(self.world.now + 2_000)
        while self.disk.is_writing:  # tasks may leave memory at any time
            self.world.run(self.world.now + 1)
        coordinator = self.server.coordinator
        self.court.ended(coordinator)
        stored = self.disk.read()
        differs = Replay(coordinator.policy.namespace).run(stored)
        if differs is not None:
            raise Violation("R1", f"record {differs.lsn} is {differs.stands}, decided again it is {differs.expected}")
        if len(stored) != len(self.court.log):
            raise Violation("R2", f"the ledger has {len(self.court.log)} records, the disk {len(stored)}")
        compare("I28", fold(stored, coordinator.policy.namespace), coordinator.ledger)
        for host in self.hosts:
            for order in host.orders or ():
                if len(order.known) > 1:
                    raise Violation("I1", f"{order.request.key} of {host.name} became {sorted(order.known)}")

    def summary(self) -> dict[str, Any]:
        """Return the counts of a run."""
        model = self.court.model
        ends: dict[str, int] = {}
        for task in model.tasks.values():
            end = task.settled
            name = "open" if end is None else f"{end.state}:{end.reason or end.by.partition('#')[0]}"
            ends[name] = ends.get(name, 0) + 1
        return {"records": len(self.court.log), "crashes": self.server.crashes, "tasks": len(model.tasks), "ends": ends}
