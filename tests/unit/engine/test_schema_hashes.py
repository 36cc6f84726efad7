"""The hashes of the input schemas on agents' cards."""

import pytest

from a2a.engine import schema_hashes
from a2a.protocol.canonical import content_hash
from a2a.protocol.messages import AgentFilter, AgentFind, AgentUpdate

SCHEMA = {"type": "object"}
OTHER = {"type": "array"}


@pytest.fixture
def hashed(monkeypatch):
    """The schemas that were hashed, in order."""
    seen = []

    def noted(schema, payload):
        seen.append(schema)
        return content_hash(schema, payload)

    monkeypatch.setattr(schema_hashes, "content_hash", noted)
    return seen


def find(schema):
    return AgentFind(AgentFilter(input_schema=content_hash(schema, b"")), watch=True)


def names(found):
    return [info.agent for info in found.agents]


def test_a_schema_is_hashed_once_however_many_ask_for_it(town, boss, hashed):
    worker = town.worker("w1", {"id": "a", "inputSchema": SCHEMA}, {"id": "b"})
    for _ in range(5):
        assert names(boss.say(find(SCHEMA))) == ["w1"]
        assert names(boss.say(find(OTHER))) == []
    assert hashed == [SCHEMA]
    worker.say(AgentUpdate(labels={"zone": "eu"}))
    assert hashed == [SCHEMA], "its card is the same"
    assert [notice.change for notice in boss.notices] == ["changed"] * 5


def test_a_new_card_has_the_hashes_of_its_own_schemas(town, boss, make_card):
    worker = town.worker("w1", {"id": "a", "inputSchema": SCHEMA})
    assert names(boss.say(find(SCHEMA))) == ["w1"]
    worker.say(AgentUpdate(card=make_card({"id": "a", "inputSchema": OTHER})))
    assert names(boss.say(find(SCHEMA))) == []
    assert names(boss.say(find(OTHER))) == ["w1"]
    assert [notice.change for notice in boss.notices] == ["left"]


def test_nothing_is_kept_of_an_agent_that_was_forgotten(town, boss, hashed):
    for name in ("w1", "w2"):
        town.worker(name, {"id": "a", "inputSchema": SCHEMA}).drop()
    town.pass_time(town.policy.keep_agents_ms - 1)
    town.worker("w2", {"id": "a", "inputSchema": SCHEMA})
    assert names(boss.say(find(SCHEMA))) == ["w1", "w2"]
    town.pass_time(1)
    assert names(boss.say(find(SCHEMA))) == list(town.coordinator.live.schema_hashes._known) == ["w2"]
