from __future__ import annotations

import pytest

from benchmarks.agent import AGENT_ID, HOSTED, VOTERS, agent, hosted


@pytest.mark.parametrize("host", HOSTED)
def test_what_is_hosted_has_the_skill_it_is_known_by(host: str) -> None:
    agents = hosted(host, 1)
    assert agents
    assert all(HOSTED[host] in each.skills for each in agents.values())


def test_many_workers_are_one_agent_under_many_ids() -> None:
    assert hosted("worker", 1) == {AGENT_ID: agent}
    assert hosted("worker", 3) == {f"{AGENT_ID}/{number}": agent for number in (1, 2, 3)}


def test_each_voter_is_an_agent_of_its_own() -> None:
    assert len(hosted("voters", 1)) == VOTERS == 3
