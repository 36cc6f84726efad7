"""A plan: what a run changes in the world its seed draws, so that a world can be cut down to what matters.

Without a plan the seed decides everything. The test that dies at every append and the one that Hypothesis drives write
plans; a developer who looks for the cause of a failing seed may write one by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from .faults import Strike
from .profiles import Faults, Manners, Profile
from .server import Fatal

__all__ = ["MANNERS", "Plan"]

MANNERS = tuple(item.name for item in fields(Manners))
"""The names of everything an agent or a client may do besides its plain work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What differs from the world of the seed; None leaves it unchanged."""

    strikes: tuple[Strike, ...] | None = None
    """The faults, one by one; no others happen."""
    manners: frozenset[str] | None = None
    """What agents and clients may do, each as often as the seed says, or half of the time if that is never."""
    without: frozenset[str] = frozenset()
    """Manners they leave out: a world drawn before these existed stays what it was."""
    agents: int | None = None
    """How many agents there are at most."""
    clients: int | None = None
    tasks: int | None = None
    """How many tasks clients delegate in all."""
    disputes: bool | None = None
    """Whether the world has groups and conflicts."""
    quarrels: bool | None = None
    """Whether peers say that things contradict each other, and writes that lose may be a conflict."""
    costs: bool | None = None
    """Whether attempts leave and cost something, and are taken away."""
    dies_at: tuple[int, Fatal] | None = None
    """The append, counted from 1 over all processes, at which the coordinator dies, and at which moment of it."""

    def change(self, profile: Profile) -> None:
        """Change a drawn profile as planned."""
        if self.strikes is not None:
            profile.faults = Faults()
        if self.manners is not None:
            drawn = profile.manners
            profile.manners = Manners(**dict.fromkeys(MANNERS, 0.0))
            for name in self.manners:
                setattr(profile.manners, name, getattr(drawn, name) or 0.5)
        for name in self.without:
            setattr(profile.manners, name, 0.0)
        if self.agents is not None:
            profile.agents = profile.agents[: self.agents]
        if self.clients is not None:
            profile.clients = min(profile.clients, self.clients)
        if self.tasks is not None:
            profile.tasks = min(profile.tasks, self.tasks)
            profile.clients = min(profile.clients, self.tasks)
