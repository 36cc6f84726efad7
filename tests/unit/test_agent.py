"""The agent: its skills, its card, its program."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

from a2a import Agent
from a2a.testing import squad

BOUND = 20


def test_a_skill_has_a_name_of_its_own() -> None:
    agent = Agent("twin")
    agent.skill(id="x")(lambda: None)
    with pytest.raises(ValueError, match="has a skill x already"):
        agent.skill(id="x")(lambda: None)


def test_main_says_when_the_coordinator_turns_it_away() -> None:
    code = "from a2a import Agent; Agent('x').main(['--url', 'nonsense'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


async def test_the_card_is_what_others_find(helper: Agent) -> None:
    card = helper.card()
    assert (card["name"], card["version"], card["description"]) == ("helper", "2.0", "Helps with tests")
    assert [skill["id"] for skill in card["skills"]][:2] == ["count_words", "wait"]
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            [found] = await running.client.find(agent="helper")
            assert found.card == card
