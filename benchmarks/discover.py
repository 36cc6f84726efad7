"""The benchmark `discover`: finding the agents that have a skill, among 100 and among 10,000 cards.

The time is the coordinator's: to read the request, search, and write the answer, which names ten agents either way.
Without sockets: they cost what they cost the relay, and the same for any request.
"""

from __future__ import annotations

import statistics
import time

from a2a.protocol.messages import AgentFilter, AgentFind, AgentFound
from benchmarks.engine import Engine
from benchmarks.report import BenchmarkError, Options, Result

__all__ = ["crowd", "run"]

CARDS = (100, 10_000)
HOLDERS = 10
"""Agents that have each skill."""
FINDS = 200
"""Finds in a round."""


async def run(options: Options) -> list[Result]:
    """Ask both crowds in turn."""
    crowds = {cards: crowd(cards) for cards in CARDS}
    times: dict[int, list[float]] = {cards: [] for cards in CARDS}
    for _ in range(options.rounds):
        for cards, (engine, client) in crowds.items():
            times[cards].append(statistics.median(_find(engine, client, cards, number) for number in range(FINDS)))
    found = [Result(f"discover.{cards}.p50", round(statistics.median(times[cards]) * 1e3, 4), "ms") for cards in CARDS]
    return [found[0], *(each.against(found[0]) for each in found[1:])]


def crowd(cards: int) -> tuple[Engine, int]:
    """Return a coordinator that knows this many agents, and the connection of a client."""
    engine = Engine()
    for number in range(cards):
        engine.join(f"agent-{number}", [_skill(number, cards), "any"])
    return engine, engine.join("client#1")


def _skill(number: int, cards: int) -> str:
    return f"skill-{number % (cards // HOLDERS)}"


def _find(engine: Engine, client: int, cards: int, number: int) -> float:
    question = AgentFind(AgentFilter(skill=_skill(number, cards)))
    begin = time.perf_counter()
    ((_, answer),) = engine.say(client, question)
    seconds = time.perf_counter() - begin
    if not isinstance(answer, AgentFound) or len(answer.agents) != HOLDERS:
        raise BenchmarkError(f"expected {HOLDERS} agents to be found, got {str(answer)[:200]}")
    return seconds
