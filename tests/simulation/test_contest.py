"""Fifty agents contend for twenty names: nobody has what another has, every circle is broken and told.

In short here; `make contest` does it for a minute. Then bugs are planted, to see that the judgement finds them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from a2a.engine import claims, waits
from a2a.engine.live import World
from a2a.engine.names import NameIndex
from a2a.engine.policy import Policy
from a2a.engine.routing import Queues

from .contest import NAMES, Contest, audit
from .holdings import circle, overlap


@pytest.mark.parametrize("seed", [2, 8])
def test_fifty_agents_over_twenty_names(seed: int) -> None:
    assert len(NAMES) == 20
    contest = Contest(seed, agents=50, seconds=4.0)
    found = contest.run()
    assert found.wrong == []
    assert found.counts["deadlock while it waited"] == contest.told["deadlock"] > 5
    assert contest.told["granted"] == found.counts["granted after a wait"] > 20
    assert found.counts["task failed:deadlock"] > 0
    assert found.counts["called back"] > 0
    assert found.counts["circle through sub-task"] > 0
    assert found.counts["granted with a lease"] > 10
    assert contest.coordinator.ledger.claims.claims == {}


def test_a_contest_is_the_same_when_it_is_run_again() -> None:
    first, again = (Contest(3, agents=10, seconds=1.0) for _ in range(2))
    first.run()
    again.run()
    assert first.records == again.records


def test_the_judgement_has_its_own_idea_of_names() -> None:
    assert overlap("a/**", "a")
    assert overlap("a/b/c", "a/**")
    assert overlap("a/**", "a/b/**")
    assert not overlap("a", "a/b")
    assert not overlap("a/b/**", "a/c")


def judged(seed: int = 1) -> str:
    """Return what is wrong in a small contest, as one text."""
    contest = Contest(seed, agents=20, seconds=3.0)
    try:
        return "\n".join(contest.run().wrong)
    except AssertionError as failure:
        return "\n".join([str(failure), *audit(contest.records).wrong])


def test_nothing_is_wrong_where_nothing_was_planted() -> None:
    assert judged() == ""


def test_a_name_that_is_only_found_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = NameIndex.meeting

    def only_itself(self: NameIndex, names: Any, looks: Any = None) -> dict[Any, str]:
        return {key: name for key, name in meeting(self, names, looks).items() if name in names}

    monkeypatch.setattr(NameIndex, "meeting", only_itself)
    assert any("are both current" in judged(seed) for seed in range(1, 6))


def test_a_shared_claim_that_everybody_may_have_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = NameIndex._meeting
    monkeypatch.setattr(NameIndex, "_meeting", lambda self, name, modes: meeting(self, name, ("x",)))
    assert any("are both current" in judged(seed) for seed in range(1, 6))


@pytest.mark.parametrize("where", [claims, waits], ids=["a claim comes", "an owner begins to wait"])
def test_a_circle_that_nobody_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch, where: Any) -> None:
    monkeypatch.setattr(where, "deadlocks", lambda *_, **__: [])
    assert any("nobody broke the circle" in judged(seed) for seed in range(1, 6))


def test_a_circle_through_the_line_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is waited for, too: not only who holds."""
    obstacles = waits._Graph.obstacles
    monkeypatch.setattr(
        waits._Graph, "obstacles", lambda self, wait: [one for one in obstacles(self, wait) if one.is_held]
    )
    assert any("nobody broke the circle" in judged(seed) for seed in range(1, 6))


def test_circles_lead_through_busy_agents_and_through_questions() -> None:
    found = [Contest(seed, agents=20, seconds=3.0).run() for seed in range(1, 11)]
    assert sum(one.counts["circle through capacity"] for one in found) > 1
    assert sum(one.counts["circle through ask"] for one in found) > 1


def test_a_circle_through_a_busy_agent_that_nobody_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "all_busy", lambda *_: [])
    assert any("nobody broke the circle" in judged(seed) for seed in range(1, 13))


def test_a_circle_through_a_question_that_nobody_breaks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "_asked", lambda *_: None)
    assert any("nobody broke the circle" in judged(seed) for seed in range(1, 13))


@pytest.fixture
def none_broken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the waits that are given up in a circle that is none, as long as contests run."""
    wrong: list[str] = []
    deadlocks = waits.deadlocks

    def looked_at(ledger: Any, live: Any, owner: str, newcomer: Any = None, **given: Any) -> Any:
        found = deadlocks(ledger, live, owner, newcomer, **given)
        stuck = circle(World(ledger, live, Policy(), Queues()), newcomer) if found else None
        wrong.extend(
            f"{waits.wait_of(deadlock.victim).owner} is given up for {deadlock.detail}, and {stuck} wait for ever"
            for deadlock in found
            if waits.wait_of(deadlock.victim).owner not in (stuck or ())
        )
        return found

    monkeypatch.setattr(waits, "deadlocks", looked_at)
    monkeypatch.setattr(claims, "deadlocks", looked_at)
    return wrong


def test_no_circle_is_broken_that_is_none(none_broken: list[str]) -> None:
    assert [judged(seed) for seed in range(1, 5)] == [""] * 4
    assert none_broken == []


def test_a_wait_for_one_of_several_that_counts_as_one_for_all_is_noticed(
    none_broken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's other slot would be free one day."""
    all_busy = waits.all_busy
    monkeypatch.setattr(waits, "all_busy", lambda *given: [replace(one, slots=1) for one in all_busy(*given)])
    assert any(judged(seed) or none_broken for seed in range(1, 13))
    assert none_broken


def test_a_victim_that_is_not_told_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = claims.given_up

    def silently(deadlock: Any, now: int) -> Any:
        record = given_up(deadlock, now)
        if hasattr(record, "is_told"):
            record.is_told = False
        return record

    monkeypatch.setattr(claims, "given_up", silently)
    assert any("agents were told" in wrong or "does not end" in wrong for wrong in map(judged, range(1, 6)))


def test_a_claim_that_overtakes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = claims.in_the_way
    monkeypatch.setattr(claims, "in_the_way", lambda *given: [one for one in in_the_way(*given) if one.is_held])
    assert "overtakes" in judged()


def test_a_wait_without_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    due = claims.due_claim
    monkeypatch.setattr(
        "a2a.engine.coordinator.due_claim", lambda claim, now: [] if claim.is_waiting else due(claim, now)
    )
    assert "waits beyond its time" in judged() or "does not end" in judged()


def test_a_claim_that_outlives_its_attempt_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("a2a.engine.coordinator.outlived", lambda *_: [])
    assert "outlives attempt" in judged()
