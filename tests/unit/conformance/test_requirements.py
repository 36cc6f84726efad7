"""Requirements, read from the text of the specification."""

from __future__ import annotations

import re

import pytest

from a2a.conformance.requirements import LEVELS, TEXTS, Level, level_of, requirements, specification


def test_every_numbered_paragraph_is_one() -> None:
    text = "".join((specification() / name).read_text(encoding="utf-8") for name in TEXTS)
    assert list(requirements()) == re.findall(r"^\*\*([A-Z]+-\d+)\.\*\*", text, re.MULTILINE)
    assert {"LEASE-8", "BIND-2"} <= set(requirements())


def test_a_requirement_has_its_words_its_heading_and_its_area() -> None:
    found = requirements()["LEASE-8"]
    assert (found.name, found.area, found.level) == ("LEASE-8", "LEASE", Level.MUST)
    assert found.section and not found.section[0].isdigit()
    assert "\n" not in found.text
    assert not found.text.startswith("**")


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("It is so.", Level.MUST),
        ("It is so. It SHOULD be more.", Level.MUST),
        ("It SHOULD be so; it MAY be more.", Level.SHOULD),
        ("It MAY be so.", Level.MAY),
        ("It MUST NOT be so, and MAY be more.", Level.MUST),
    ],
)
def test_the_level_is_that_of_the_most_binding_sentence(words: str, level: Level) -> None:
    assert level_of(words) is level
    assert LEVELS == (Level.MUST, Level.SHOULD, Level.MAY)
