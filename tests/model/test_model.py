"""The model with every run of the tests, at its small size; `python -m tests.model` walks further."""

from __future__ import annotations

import pytest

from . import profiles, task
from .profiles import SMALL, missing, walk_all, walk_one
from .rules import Rules
from .variants import VARIANTS, Variant, walk_variant


def test_every_state_keeps_every_promise_and_every_key_of_the_table_is_taken() -> None:
    walked, exercised = walk_all(SMALL)
    broken = walked[-1]
    assert broken.violation is None, f"{broken.name}: {broken.violation}\n" + "\n".join(broken.trace)
    assert missing(exercised) == []


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.rules.__name__)
def test_a_rule_written_wrongly_is_caught(variant: Variant) -> None:
    found = walk_variant(variant)
    assert found.violation is not None, f"nobody noticed: {variant.says}"
    assert found.violation.name in variant.caught_by, "\n".join([str(found.violation), *found.trace])
    assert found.trace, "the shortest way there is told"


def test_an_event_the_model_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    exercised = set(task.NEXT) - set(profiles.UNMODELLED)
    monkeypatch.setitem(task.NEXT, ("leased", "sneeze"), "queued")
    (sentence,) = missing(exercised)
    assert "`sneeze` in the state `leased`" in sentence and "UNMODELLED" in sentence
    monkeypatch.setitem(profiles.UNMODELLED, ("leased", "sneeze"), "Nobody sneezes here.")
    assert missing(exercised) == []
    (sentence,) = missing(exercised | {("leased", "sneeze")})
    assert "take the excuse out" in sentence


@pytest.mark.parametrize(
    ("profile", "key", "after", "name"),
    [
        ("auto", ("canceling", "cancel"), None, "STATE-2"),
        ("auto", ("offered", "revive"), None, "STATE-2"),
        ("every word", ("reported", "rework"), "leased", "L1"),
        ("every word", ("completed", "cancel"), "canceled", "I11"),
        ("two questions", ("parked", "expire"), "queued", "I22"),
    ],
)
def test_a_table_that_is_wrong_is_caught(
    profile: str, key: tuple[str, str], after: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if after is None:
        monkeypatch.delitem(task.NEXT, key)
    else:
        monkeypatch.setitem(task.NEXT, key, after)
    found, _ = walk_one(next(sized for sized in SMALL if sized.profile.name == profile))
    assert found.violation is not None and found.violation.name == name, found.violation


def test_the_same_walk_is_the_same_walk() -> None:
    first, second = walk_one(SMALL[1])[0], walk_one(SMALL[1], Rules)[0]
    assert (first.states, first.transitions, first.depth) == (second.states, second.transitions, second.depth)
