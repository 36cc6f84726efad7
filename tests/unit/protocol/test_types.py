"""The nouns and their limits."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from a2a.protocol import types
from a2a.protocol.types import AgentCard, TaskSpec, principal_of


def accepts(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    "name, ok",
    [
        ("a", True),
        ("w1", True),
        ("team/a.b_c@host:9+x-y", True),
        ("boss#1", True),
        ("boss#Ab-9", True),
        ("a" * 96, True),
        ("a" * 96 + "#" + "b" * 31, True),
        ("", False),
        ("-a", False),
        ("#1", False),
        ("a b", False),
        ("a#", False),
        ("a#b#c", False),
        ("a#b.c", False),
        ("a" * 97, False),
        ("a#" + "b" * 32, False),
        ("ä", False),
        ("a\n", False),
        (7, False),
    ],
)
def test_an_agent_id_is_a_short_plain_name(name, ok):
    assert accepts(types.AgentId, name) is ok


@pytest.mark.parametrize("agent, principal", [("boss", "boss"), ("boss#1", "boss"), ("a/b#c", "a/b")])
def test_what_stands_behind_the_hash_tells_processes_of_one_principal_apart(agent, principal):
    assert principal_of(agent) == principal


@pytest.mark.parametrize(
    "kind, smallest, largest",
    [
        (types.SafeInt, -(2**53) + 1, 2**53 - 1),
        (types.Uint, 0, 2**53 - 1),
        (types.Milliseconds, 0, 10 * 366 * 86_400_000),
    ],
)
def test_numbers_stay_within_what_every_language_holds(kind, smallest, largest):
    assert accepts(kind, smallest)
    assert accepts(kind, largest)
    assert not accepts(kind, smallest - 1)
    assert not accepts(kind, largest + 1)
    assert TypeAdapter(kind).validate_python(5.0) == 5
    assert not accepts(kind, 5.5)


@pytest.mark.parametrize(
    "kind, fits, does_not",
    [
        (types.Identifier, ["a", "a" * 128], ["", "a" * 129, None]),
        (types.Key, ["a", "a" * 256], ["", "a" * 257]),
        (types.Digest, ["sha256:" + "0af" * 21 + "0"], ["sha256:" + "0" * 63, "sha256:" + "A" * 64, "md5:0", "0" * 64]),
        (types.Labels, [{}, {"a": "b"}, {str(n): "" for n in range(64)}], [{"a": 1}, {str(n): "" for n in range(65)}]),
    ],
)
def test_words_have_limits(kind, fits, does_not):
    assert all(accepts(kind, value) for value in fits)
    assert not any(accepts(kind, value) for value in does_not)


CARD = {"name": "n", "description": "d", "version": "1"}
SKILL = {"id": "s", "name": "n", "description": "d", "tags": []}


@pytest.mark.parametrize("missing", CARD)
def test_a_card_has_a_name_a_description_and_a_version(missing):
    assert accepts(AgentCard, CARD)
    assert not accepts(AgentCard, {key: value for key, value in CARD.items() if key != missing})


@pytest.mark.parametrize("missing", SKILL)
def test_a_skill_has_what_a2a_demands(missing):
    assert accepts(AgentCard, CARD | {"skills": [SKILL]})
    skill = {key: value for key, value in SKILL.items() if key != missing}
    assert not accepts(AgentCard, CARD | {"skills": [skill]})


def test_a_card_has_a_bounded_number_of_skills():
    assert accepts(AgentCard, CARD | {"skills": [SKILL] * 256})
    assert not accepts(AgentCard, CARD | {"skills": [SKILL] * 257})


def test_what_a_card_or_a_specification_says_beyond_what_is_known_is_kept():
    card = CARD | {
        "x": {"y": [1]},
        "skills": [SKILL | {"z": None}],
        "provider": {"organization": "o", "url": "u", "w": 1},
    }
    assert TypeAdapter(AgentCard).validate_python(card) == card
    spec = {"skill": "s", "x": 1, "requires": {"y": 2}, "acceptance": {"z": 3}}
    assert TypeAdapter(TaskSpec).validate_python(spec) == spec


@pytest.mark.parametrize(
    "spec, ok",
    [
        ({"skill": "s"}, True),
        ({}, False),
        ({"skill": ""}, False),
        ({"skill": "s", "priority": 9}, True),
        ({"skill": "s", "priority": 10}, False),
        ({"skill": "s", "priority": -1}, False),
        ({"skill": "s", "effect": "irreversible"}, True),
        ({"skill": "s", "effect": "none"}, False),
        ({"skill": "s", "acceptance": {"evaluator": "human"}}, True),
        ({"skill": "s", "acceptance": {"evaluator": "dog"}}, False),
        ({"skill": "s", "requires": {"agent": "-"}}, False),
        ({"skill": "s", "requires": {"exclude": ["a"] * 65}}, False),
        ({"skill": "s", "requires": {"tags": ["a"] * 33}}, False),
        ({"skill": "s", "requires": {"labels": {"a": 1}}}, False),
    ],
)
def test_a_specification_names_a_skill_and_asks_for_what_can_be_asked_for(spec, ok):
    assert accepts(TaskSpec, spec) is ok
