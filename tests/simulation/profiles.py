"""The swarm: each seed draws its own namespace, its own peers and its own weather.

A fault that is on in every run hides bugs that show only without it, so each fault is on in about half of the seeds, at
its own rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from a2a.engine.policy import Admission, Bounds, Durations, Policy, digest

__all__ = ["OPERATOR_TOKEN", "TOKEN", "Faults", "Manners", "Profile", "draw", "entangle"]

TOKEN = "open-sesame"
OPERATOR_TOKEN = "i-am-the-operator"


@dataclass(slots=True)
class Faults:
    """How often each fault comes, in times per minute for the whole world; 0 is off."""

    cuts: float = 0.0
    """Connections that break, with everything under way."""
    stalls: float = 0.0
    """Connections that deliver nothing for a while, in one direction or both."""
    one_way: float = 0.0
    """Connections with one direction dead for good, until keep-alive finds out."""
    half_open: float = 0.0
    """Connections that break while one end hears of it very late."""
    slow_readers: float = 0.0
    """Peers that take a while for every message they read."""
    server_crashes: float = 0.0
    server_dies_at_append: float = 0.0
    """Chance that an append is the coordinator's last act, before or after it is durable."""
    disk_full: float = 0.0
    restores: float = 0.0
    """Coordinators that are first started on an older copy of the ledger."""
    wall_jump_ms: int = 0
    """How far the wall clock may have jumped when a coordinator starts."""
    agent_crashes: float = 0.0
    agent_remembers: float = 0.5
    """Chance that a restarted agent still has its attempts."""
    agent_pauses: float = 0.0
    agent_doubles: float = 0.0
    """A second process of an agent starts while the first one works."""
    agent_twins: float = 0.0
    """As before, and both say that they are the same start."""
    client_crashes: float = 0.0
    client_pauses: float = 0.0
    client_gone: float = 0.0
    """Chance that a crashed client never comes back."""
    credit_changes: float = 0.0
    drains: float = 0.0
    byes: float = 0.0
    echoes: float = 0.0
    """Chance, at each reconnection, that the link sends old requests of the session again."""


@dataclass(slots=True)
class Manners:
    """How agents and clients behave; each value is a chance."""

    decline: float = 0.0
    fail: float = 0.0
    fail_for_good: float = 0.0
    reject: float = 0.0
    give_back: float = 0.0
    cancel_unasked: float = 0.0
    dawdle: float = 0.0
    """Work longer than the lease."""
    stubborn: float = 0.0
    """Go on when told to stop, and report late."""
    progress: float = 0.0
    artifact: float = 0.0
    ask: float = 0.0
    ask_and_leave: float = 0.0
    """Do not wait for the answer."""
    cold: float = 0.0
    child: float = 0.0
    same_result: float = 0.5
    """Chance that all attempts of a task come to the same result."""
    review_reject: float = 0.0
    review_rework: float = 0.0
    review_ignore: float = 0.0
    confused: float = 0.0
    """First confirm with a wrong hash or revision."""
    cancel: float = 0.0
    deadline: float = 0.0
    watch: float = 0.5
    answer_twice: float = 0.0
    forget: float = 0.0
    """Lose interest in a task."""
    meddle: float = 0.0
    """Decide about others' tasks, and send messages for other agents' attempts."""
    garble: float = 0.0
    """Report first with a hash that is not the result's, then correctly."""
    share: float = 0.0
    """Count up in the context of the task, together with others."""
    checkpoint: float = 0.0
    spend: float = 0.0
    """Have a budget, and use some of it."""
    charge: float = 0.0
    """Use up budget for answers in a conflict, which has a cost limit."""
    hand_off: float = 0.0
    steer: float = 0.0
    """Steer work under way."""
    quarrel: float = 0.0
    """Raise conflicts between results; write again without looking."""
    claim: float = 0.0
    """Claim names: for an attempt, for itself, and for a task that needs them from the beginning."""
    keep: float = 0.0
    """Claim what everybody wants, and keep it while waiting for others."""


@dataclass(slots=True)
class Profile:
    """One seed's world."""

    policy: Policy
    faults: Faults
    manners: Manners
    agents: list[tuple[str, tuple[str, ...], int, int]]
    """(name, skills, credit for tasks, credit for frames)."""
    clients: int
    own_suffix: bool
    """Each process of a client has its own id after `#`."""
    operator: bool
    tasks: int
    weather_ms: int
    """How long the faults last."""
    latency: tuple[int, int]
    disk_latency: tuple[int, int]
    encodings: tuple[str, ...]
    frames_per_message: int
    """How many frames the coordinator puts into one message: they arrive or are lost together."""
    outbox_messages: int
    """How many messages may wait for a peer before the coordinator gives up its connection."""
    work_ms: tuple[int, int]
    evaluators: tuple[str, ...]
    keys: dict[str, int] = field(default_factory=dict)


def draw(chance: Random) -> Profile:
    """Draw a world."""
    faults = _faults(chance)
    policy = _policy(chance, can_hold=not faults.client_crashes)
    lease = policy.durations.lease_ms
    manners = _manners(chance)
    agents = _agents(chance)
    operator = chance.random() < 0.3
    evaluators = ["delegator", "delegator", "auto"] + (["human"] if operator else [])
    longest = chance.choice((lease // 4, lease, 2 * lease))
    return Profile(
        policy=policy,
        faults=faults,
        manners=manners,
        agents=agents,
        clients=chance.randint(1, 3),
        own_suffix=chance.random() < 0.5,
        operator=operator,
        tasks=chance.randint(4, 20),
        weather_ms=chance.choice((30_000, 60_000, 120_000)),
        latency=chance.choice(((0, 0), (1, 5), (1, 80), (20, 400))),
        disk_latency=chance.choice(((0, 1), (1, 10), (5, 60))),
        encodings=chance.choice((("a2a.coord+msgpack",), ("a2a.coord+json",), ("a2a.coord+msgpack", "a2a.coord+json"))),
        frames_per_message=chance.choice((1, 4, 16)),
        outbox_messages=chance.choice((8, 64, 1_000)),
        work_ms=(chance.choice((0, 20, 300)), max(400, longest)),
        evaluators=tuple(evaluators),
    )


def entangle(profile: Profile) -> None:
    """Have attempts wait for sub-tasks, for answers and for busy agents as well as for names."""
    profile.manners.child, profile.manners.ask, profile.manners.ask_and_leave, profile.manners.keep = 1.0, 0.8, 0.0, 0.8
    skills = (("plan", "work"), ("plan",))
    profile.agents = [
        (name, able, 1, frames) for (name, _, _, frames), able in zip(profile.agents, skills, strict=False)
    ]


def _policy(chance: Random, *, can_hold: bool) -> Policy:
    lease = chance.choice((1_000, 3_000, 10_000, 30_000))
    durations = Durations(
        heartbeat_ms=max(20, lease // chance.choice((3, 4, 6))),
        lease_ms=lease,
        offer_ms=chance.choice((500, 1_500, 5_000)),
        queue_ms=None,
        confirm_ms=chance.choice((5_000, 20_000, 120_000)),
        ask_ms=chance.choice((10_000, 60_000, 300_000)),
        cancel_ms=chance.choice((1_000, 10_000)),
    )
    bounds = Bounds(
        attempts=chance.choice((1, 3, 5)),
        losses=chance.choice((0, 1, 3, 8)),
        declines=chance.choice((1, 3, 10)),
        reworks=chance.choice((0, 1, 2, 3)),
        revivals=chance.choice((0, 1, 3)),
    )
    return Policy(
        namespace="sim",
        durations=durations,
        bounds=bounds,
        admission=Admission(digest(TOKEN), digest(OPERATOR_TOKEN)),
        on_confirm_timeout=chance.choice(("accept", "accept", "reject") + (("hold",) if can_hold else ())),
        backoff_ms=chance.choice((50, 1_000)),
        depth_max=chance.choice((2, 3, 4)),
        children_max=chance.choice((1, 3, 100)),
        evidence_max=chance.choice((2, 16)),
        chunks_max=chance.choice((2, 1_000)),
        asks_max=chance.choice((1, 2, 100)),
    )


def _agents(chance: Random) -> list[tuple[str, tuple[str, ...], int, int]]:
    named = chance.choice(("a{}", "a{}", "pool#{}"))
    if chance.random() < 0.1:  # one agent with credit for one task: its sub-tasks wait for itself
        return [(named.format(0), ("plan", "work"), 1, chance.choice((1, 256)))]
    agents = []
    for number in range(chance.randint(1, 5)):
        skills: tuple[str, ...] = (
            ("plan", "work") if number == 0 else chance.choice((("work",), ("work",), ("plan", "work")))
        )
        agents.append((named.format(number), skills, chance.choice((1, 1, 2, 4)), chance.choice((1, 2, 8, 256))))
    return agents


def _faults(chance: Random) -> Faults:
    def often(*rates: float) -> float:
        return chance.choice(rates) if chance.random() < 0.5 else 0.0

    if chance.random() < 0.05:
        return Faults()  # fine weather shows bugs that faults hide
    return Faults(
        cuts=often(2, 8, 30),
        stalls=often(1, 4, 12),
        one_way=often(1, 4),
        half_open=often(1, 4),
        slow_readers=often(1, 4),
        server_crashes=often(0.5, 2, 4),
        server_dies_at_append=often(0.005, 0.03),
        disk_full=often(0.5),
        restores=often(0.5),
        wall_jump_ms=int(often(2_000, 3_600_000)),
        agent_crashes=often(1, 4, 10),
        agent_remembers=chance.choice((0.0, 0.5, 1.0)),
        agent_pauses=often(1, 4, 8),
        agent_doubles=often(0.5, 2),
        agent_twins=often(0.5, 2),
        client_crashes=often(0.5, 2),
        client_pauses=often(0.5, 2),
        client_gone=chance.choice((0.0, 0.0, 0.2)),
        credit_changes=often(1, 6),
        drains=often(1, 3),
        byes=often(0.5, 2),
        echoes=often(0.3, 1.0),
    )


def _manners(chance: Random) -> Manners:
    def often(*chances: float) -> float:
        return chance.choice(chances) if chance.random() < 0.5 else 0.0

    return Manners(
        decline=often(0.1, 0.3),
        fail=often(0.1, 0.3),
        fail_for_good=often(0.05),
        reject=often(0.05),
        give_back=often(0.1, 0.2),
        cancel_unasked=often(0.05),
        dawdle=often(0.1, 0.3),
        stubborn=often(0.3, 1.0),
        progress=often(0.3, 1.0),
        artifact=often(0.3, 0.8),
        ask=often(0.2, 0.6),
        ask_and_leave=often(0.1, 0.5),
        cold=often(0.3),
        child=often(0.5, 1.0),
        same_result=chance.choice((0.0, 0.5, 1.0)),
        review_reject=often(0.1),
        review_rework=often(0.2, 0.6),
        review_ignore=often(0.1),
        confused=often(0.3),
        cancel=often(0.2, 0.6),
        deadline=often(0.3),
        watch=chance.choice((0.0, 0.5, 1.0)),
        answer_twice=often(0.3),
        forget=often(0.1),
        meddle=often(0.1, 0.5),
        garble=often(0.1),
    )
