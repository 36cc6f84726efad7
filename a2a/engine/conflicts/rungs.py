"""Rungs that count: which class has won a ballot, if any (spec RUNG).

Pure functions of a frozen ballot. A tie is undecided and goes to the next rung of the ladder; no result depends on the
order of iteration, on hash order or on a clock. Rungs that need work from somebody (a verifier, a judge, a person) are
not counted here: the procedure asks, and the answers come back as a ballot of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COUNTED", "STRATEGIES", "Ballot", "Outcome", "Rung", "count", "parse_ladder", "weight_of"]

STRATEGIES = (
    "first_wins",
    "authority",
    "majority",
    "quorum",
    "plurality",
    "weighted",
    "verify",
    "judge",
    "panel",
    "merge",
    "retry",
    "human",
    "abort",
)
"""Every rung a ladder may have. Spec RUNG-1 says who decides at each."""
COUNTED = frozenset({"first_wins", "majority", "quorum", "plurality", "weighted"})
"""Rungs that need only the ballot."""
_ALWAYS_DECIDE = frozenset({"first_wins", "abort"})
_LADDER_MAX = 12


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of a ladder."""

    strategy: str
    k: int = 0
    """`quorum`: how many equal answers decide; `panel`: how many judges."""
    margin: int = 1
    """`plurality`: the lead that decides."""
    skill: str = ""
    """`verify`, `judge`, `panel`, `merge`: the skill to ask. A merge without one asks nobody (spec RUNG-6)."""
    timeout_ms: int | None = None
    """How long the rung may take; if absent, the namespace's value for the strategy."""
    on_timeout: str = "abort"
    """`human`: what silence means, `abort`, `first_wins` or `hold`."""
    cost_micro: int | None = None
    """What the tasks asked at this rung may use together; if absent, what the ladder may use."""

    @property
    def merges_itself(self) -> bool:
        """Whether it is a merge that asks nobody."""
        return self.strategy == "merge" and not self.skill


@dataclass(slots=True)
class Ballot:
    """The answers to count; no more enter."""

    electorate: int
    """How many were asked. A member that never answers counts as absent, not as abstaining."""
    votes: dict[int, list[str]] = field(default_factory=dict)
    """Class to its members' references, both in ledger order."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """Reference to its weight in basis points."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a rung: a class, or None for undecided; and why, in words to keep."""

    winner: int | None
    why: str


def parse_ladder(rungs: list[dict[str, Any]], *, irreversible: bool) -> list[Rung]:
    """Read a policy.

    Raises:
        ValueError: it has no rung, too many rungs or an unknown one, or its last rung does not always decide.
    """
    if not 0 < len(rungs) <= _LADDER_MAX:
        raise ValueError(f"a policy has 1 to {_LADDER_MAX} rungs, this one has {len(rungs)}")
    ladder = []
    for plain in rungs:
        strategy = plain.get("strategy")
        if strategy not in STRATEGIES:
            raise ValueError(f"there is no rung {strategy!r}; expected one of {', '.join(STRATEGIES)}")
        rung = Rung(
            strategy,
            plain.get("k", 3 if strategy == "panel" else 0),
            plain.get("margin", 1),
            plain.get("skill", ""),
            plain.get("timeoutMs"),
            plain.get("onTimeout", "abort"),
            plain.get("costMicro"),
        )
        _check(rung)
        ladder.append(rung)
    last = ladder[-1]
    decides = last.strategy in _ALWAYS_DECIDE or (last.strategy == "human" and last.on_timeout != "hold")
    if not decides:
        what = f"{last.strategy} that holds on" if last.strategy == "human" else last.strategy
        raise ValueError(f"the last rung must always decide (first_wins, abort, or human with a timeout), not {what}")
    if irreversible and last.strategy != "abort":
        raise ValueError("where the effect is irreversible the last rung is abort: nothing was executed yet")
    return ladder


def _check(rung: Rung) -> None:
    if rung.strategy == "quorum" and rung.k < 1:
        raise ValueError("quorum: expected how many equal answers decide, as k")
    if rung.strategy == "panel" and (rung.k < 1 or rung.k % 2 == 0):
        raise ValueError(f"panel: expected an odd number of judges as k, got {rung.k}")
    if rung.strategy in ("verify", "judge", "panel") and not rung.skill:
        raise ValueError(f"{rung.strategy}: expected the skill of who is asked")
    if rung.on_timeout not in ("abort", "first_wins", "hold"):
        raise ValueError(f"human: expected abort, first_wins or hold on a timeout, got {rung.on_timeout!r}")


def weight_of(accepted: int, settled: int) -> int:
    """Return an agent's weight in basis points, from its track record so far.

    Twice (accepted + 1) / (settled + 2), Laplace's rule of succession, so that an unknown agent weighs 1. Never less
    than 0.5 or more than 1.5, so that no single record outweighs two others.
    """
    return min(15_000, max(5_000, 20_000 * (accepted + 1) // (settled + 2)))


def count(rung: Rung, ballot: Ballot) -> Outcome:
    """Return the outcome of a counting rung on a frozen ballot."""
    if not ballot.votes:
        return Outcome(None, "nobody answered")
    return _COUNT[rung.strategy](rung, ballot)


def _first_wins(rung: Rung, ballot: Ballot) -> Outcome:
    return Outcome(min(ballot.votes), "it was first in the ledger")


def _majority(rung: Rung, ballot: Ballot) -> Outcome:
    for number, members in ballot.votes.items():
        if 2 * len(members) > ballot.electorate:
            return Outcome(number, f"{len(members)} of {ballot.electorate}")
    return Outcome(None, f"no class has more than half of {ballot.electorate}")


def _quorum(rung: Rung, ballot: Ballot) -> Outcome:
    reached = [number for number, members in ballot.votes.items() if len(members) >= rung.k]
    if len(reached) == 1:
        return Outcome(reached[0], f"{len(ballot.votes[reached[0]])} equal answers, {rung.k} were asked for")
    return Outcome(None, f"{len(reached)} classes have {rung.k} equal answers")


def _plurality(rung: Rung, ballot: Ballot) -> Outcome:
    sizes = sorted((len(members) for members in ballot.votes.values()), reverse=True)
    lead = sizes[0] - (sizes[1] if len(sizes) > 1 else 0)
    if lead < rung.margin or (len(sizes) > 1 and sizes[0] == sizes[1]):
        return Outcome(None, f"the lead is {lead}, {rung.margin} is asked for")
    winner = next(number for number, members in ballot.votes.items() if len(members) == sizes[0])
    return Outcome(winner, f"a lead of {lead}")


def _weighted(rung: Rung, ballot: Ballot) -> Outcome:
    sums = {
        number: sum(ballot.weights.get(member, 10_000) for member in members)
        for number, members in ballot.votes.items()
    }
    for number, weight in sums.items():
        if 2 * weight > sum(sums.values()):
            return Outcome(number, f"{weight} of {sum(sums.values())} basis points")
    return Outcome(None, "no class has more weight than all others together")


_COUNT = {
    "first_wins": _first_wins,
    "majority": _majority,
    "quorum": _quorum,
    "plurality": _plurality,
    "weighted": _weighted,
}
