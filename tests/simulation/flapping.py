"""Processes that take one agent from each other again and again, and agents that only die as often (CONFLICT-18).

They come in worlds with quarrels, from a separate stream, so that other worlds do not change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from a2a.engine.records import ConflictOpened, Offered
from a2a.protocol.messages import Error, Hello, Message, Welcome

from .court import Cause, Court, LifeChecker
from .profiles import Profile
from .world import World

if TYPE_CHECKING:
    from .town import Host, Town

__all__ = ["FLAPPING", "draw_limits", "plan_flapping"]

_SHARE_OF_WORLDS = 0.6


def draw_limits(world: World, profile: Profile) -> None:
    """Draw how often an agent may be taken over, and what follows."""
    chance = world.chance("flapping", "limits")
    profile.policy = replace(
        profile.policy,
        takeovers_max=chance.choice((2, 3)),
        takeovers_ms=chance.choice((10_000, 60_000)),
        answer_ms=chance.choice((200, 2_000)),
        quarantine_ms=chance.choice((3_000, 20_000)),
    )


def plan_flapping(town: Town) -> None:
    """Start an agent again and again during the weather, in some worlds."""
    chance = town.world.chance("flapping")
    if town.quarrels is None or chance.random() >= _SHARE_OF_WORLDS:
        return
    agents = [host for host in town.hosts if host.is_agent]
    for _ in range(chance.randint(1, 2)):
        host, at, dies = chance.choice(agents), chance.randint(0, town.profile.weather_ms), chance.random() < 0.3
        for _ in range(chance.randint(3, 7)):
            at += chance.choice((chance.randint(1, 100), chance.randint(100, 2_000), chance.randint(2_000, 5_000)))
            if at < town.profile.weather_ms:
                town.world.after(at, _start, town, host, chance.randint(0, 3_000) if dies else None)


def _start(town: Town, host: Host, server_knows: int | None) -> None:
    """Start another process of an agent, next to the running one or after it died without the coordinator knowing."""
    former = host.process
    if former is None or not former.is_alive:
        return
    if server_knows is not None:
        former.die(server_knows=server_knows)
    if town.world.timeline is not None:
        town.world.tell("weather", f"STARTS {host.name} {'after a death' if server_knows is not None else 'once more'}")
    town.start(host)


class TakenTooOften(LifeChecker):
    """An agent is in quarantine only if its processes take it from each other, and then no process gets past it."""

    name = "CONFLICT-18"
    records = (Offered, ConflictOpened)
    requests = (Hello,)

    def __init__(self, court: Court) -> None:
        super().__init__(court)
        self._welcomed: dict[int, tuple[str, int]] = {}
        """Connection to the instance that was welcomed on it, and when."""
        self._asked: dict[int, tuple[int, int]] = {}
        """Connection to when its peer was asked whether it is there, and the frames that had come by then."""
        self._taken: dict[str, list[int]] = {}
        """Agent to the times when a process took the place of another that was connected."""
        self._surely: dict[str, list[int]] = {}
        """Of these, the times when the other had been heard just before, by any definition."""

    def starting(self) -> None:
        for known in (self._welcomed, self._asked, self._taken, self._surely):
            known.clear()

    def before(self, record: Any, lsn: int, cause: Cause) -> None:
        if isinstance(record, Offered):
            known = self.model.quarantine(record.agent)
            self.hold(known is None, f"{record.task} is offered to {record.agent}, and {known} is open")
            return
        if record.rule != "d2":
            return
        policy, agent = self.court.policy, record.object.removeprefix("agent:")
        is_person = record.ladder == [{"strategy": "human", "timeoutMs": policy.quarantine_ms}]
        self.hold(is_person, f"{record.conflict} is decided by {record.ladder}")
        is_hello = isinstance(cause.message, Hello) and cause.agent == agent
        self.hold(is_hello and cause.there is not None, f"{record.conflict} opens, and nobody takes {agent} over")
        assert cause.there is not None, "just seen"
        times = self._lately(self._taken, agent)
        self.hold(len(times) >= policy.takeovers_max - 1, f"{agent} is in quarantine, and was taken over at {times}")
        self.hold(self._has_answered(cause.there.connection), f"nobody has said that the other {agent} is still there")

    def _lately(self, known: dict[str, list[int]], agent: str) -> list[int]:
        return [at for at in known.get(agent, ()) if self.court.cause.now - at < self.court.policy.takeovers_ms]

    def _has_answered(self, connection: int) -> bool:
        asked = self._asked.get(connection)
        return asked is not None and self.court.frames[connection] > asked[1]

    def _is_asked_anew(self, connection: int) -> bool:
        return connection not in self._asked or self._has_answered(connection)

    def answered(self, agent: str, message: Hello, reply: Message) -> None:
        cause, there = self.court.cause, self.court.cause.there
        if there is not None and self._welcomed[there.connection][0] != message.instance_id:
            if isinstance(reply, Welcome):
                self._takes_over(agent, there.connection)
            elif (
                isinstance(reply, Error) and reply.retry_after_ms is not None and self._is_asked_anew(there.connection)
            ):
                self._asked[there.connection] = (cause.now, self.court.frames[there.connection])
        if isinstance(reply, Welcome):
            self._welcomed[cause.connection] = (message.instance_id, cause.now)

    def _takes_over(self, agent: str, there: int) -> None:
        policy, now = self.court.policy, self.court.cause.now
        is_often = len(self._lately(self._surely, agent)) >= policy.takeovers_max - 1
        if policy.ladder_for("identity") and (is_often or self.model.quarantine(agent) is not None):
            asked_at, _ = self._asked.get(there, (now, 0))
            is_silent = not self._has_answered(there) and now - asked_at >= policy.answer_ms
            self.hold(is_silent, f"{agent} is taken over once more, from a process that may be there")
        self._taken.setdefault(agent, []).append(now)
        if there not in self._asked and now - self._welcomed[there][1] <= policy.durations.heartbeat_ms:
            self._surely.setdefault(agent, []).append(now)


FLAPPING: tuple[type[LifeChecker], ...] = (TakenTooOften,)
