"""The table is about the code that is there, and a few of its rows run with every run of the tests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .probe import names
from .run import ROOT, look_for, planted
from .table import MUTANTS, Edit, Mutant

QUICK = [mutant for mutant in MUTANTS if mutant.quick]
HARMLESS = Mutant(
    "harmless",
    "Nothing is wrong.",
    "a2a/engine/results.py",
    "REPORT: dict[",
    "# A remark.\nREPORT: dict[",
    caught_by=("I6",),
)


def by_name(mutant: Mutant) -> str:
    return mutant.name


@pytest.mark.parametrize("mutant", MUTANTS, ids=by_name)
def test_what_a_row_changes_stands_there_once(mutant: Mutant) -> None:
    for edit in mutant.edits:
        text = (ROOT / edit.file).read_text(encoding="utf-8")
        assert planted(text, edit) != text, "a row changes something"


def test_every_row_has_a_name_of_its_own_and_says_who_catches_it() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert all(mutant.caught_by and mutant.says.endswith(".") for mutant in MUTANTS)
    assert len(QUICK) >= 6


@pytest.mark.parametrize("mutant", QUICK, ids=by_name)
def test_a_planted_bug_is_caught(mutant: Mutant) -> None:
    found = look_for(mutant, seeds=60, seconds=40)
    assert found.by in mutant.caught_by, f"{mutant.says} {found.others} {found.detail}"
    assert found.seeds >= 1 and found.detail


def test_an_engine_without_a_bug_survives() -> None:
    found = look_for(HARMLESS, seeds=3)
    assert (found.by, found.seeds, found.others) == (None, 3, {})


def test_a_bug_that_another_checker_finds_is_not_caught() -> None:
    mutant = next(mutant for mutant in QUICK if mutant.name == "no-idempotency-check")
    found = look_for(replace(mutant, caught_by=("I29",)), seeds=6)
    assert found.by is None and found.others, found


def test_a_change_that_does_not_run_is_no_bug_that_was_caught() -> None:
    found = look_for(replace(HARMLESS, after="def REPORT: dict["), seeds=3)
    assert found.by is None and "SyntaxError" in found.detail


def test_what_is_not_there_or_there_twice_is_refused() -> None:
    for text in ("nothing", "one one"):
        with pytest.raises(LookupError, match="not once"):
            planted(text, Edit("somewhere.py", "one", "two"))


def test_the_names_of_a_failure_are_those_of_its_checkers() -> None:
    assert names("I7: I8: main-3: Revived under the dead fence 4") == ["I7", "I8"]
    assert names("I29: FLOW-1: a0 has 5 entries: too many") == ["I29", "FLOW-1"]
    assert names("offer: sim-9 is offered")[0] == "offer"
