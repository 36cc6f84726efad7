"""Requirements, read from the text of the specification."""

from __future__ import annotations

import re

from a2a.conformance.requirements import LEVELS, Level, requirements, specification


def test_every_numbered_paragraph_is_one() -> None:
    text = (specification() / "protocol.md").read_text(encoding="utf-8")
    assert list(requirements()) == re.findall(r"^\*\*([A-Z]+-\d+)\.\*\*", text, re.MULTILINE)


def test_a_requirement_has_its_words_its_heading_and_its_area() -> None:
    found = requirements()["LEASE-8"]
    assert (found.name, found.area, found.level) == ("LEASE-8", "LEASE", Level.MUST)
    assert found.section and not found.section[0].isdigit()
    assert "\n" not in found.text
    assert not found.text.startswith("**")


def test_the_level_is_the_most_binding_word() -> None:
    for found in requirements().values():
        is_should = "SHOULD" in found.text and "MUST" not in found.text
        assert found.level is (Level.SHOULD if is_should else Level.MUST), found.name
    assert LEVELS == (Level.MUST, Level.SHOULD, Level.MAY)
