"""What was released stays: no schema of a released version is broken by one of today."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from a2a.engine import records
from a2a.engine.record_schemas import export_records
from a2a.protocol.schemas import export
from a2a.protocol.version import SPOKEN

from .compatible import broken

FROZEN = Path(__file__).parents[3] / "spec" / "frozen"
VERSIONS = sorted(path.name for path in FROZEN.iterdir() if path.is_dir())
TODAY = {"messages": export(), "records": export_records()}
FILES = [
    pytest.param(path, id=str(path.relative_to(FROZEN)))
    for version in VERSIONS
    for folder in TODAY
    for path in sorted((FROZEN / version / folder).glob("*.json"))
]
WHAT_TO_DO = (
    "A peer of {version} relies on it. Keep the field, the kind and the words as they were, and add what is new beside "
    "them, with a default that means what its absence meant; or make a version 2 of the protocol. A record may change "
    "its form: raise its `version`, and add a function to `records._UPGRADES` (spec/frozen/README.md)."
)


@pytest.mark.parametrize("path", FILES)
def test_nothing_that_was_released_is_broken(path: Path) -> None:
    version, folder = path.parts[-3:-1]
    now = TODAY[folder].get(path.name)
    assert now is not None, f"{path.stem} is gone. {WHAT_TO_DO.format(version=version)}"
    before = json.loads(path.read_text(encoding="utf-8"))
    found = unexplained(before, now)
    assert not found, f"{path.stem}: {'; '.join(found)}. {WHAT_TO_DO.format(version=version)}"


def unexplained(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what is broken, unless the record has a new version and older ones are brought up to it."""
    if "record" not in before["properties"]:
        return broken(before, now)
    name, old = before["properties"]["record"]["const"], before["properties"]["version"]["const"]
    new = now["properties"]["version"]["const"]
    if new > old:
        return [
            f"nothing brings version {number} of it up to {number + 1}"
            for number in range(old, new)
            if (name, number) not in records._UPGRADES
        ]
    found = broken(before, now)
    fields = list(now["properties"])
    if fields[: len(before["properties"])] != list(before["properties"]):
        found.append("its fields are in another order, and that is how they are stored")
    return found


def test_each_version_that_was_released_is_kept() -> None:
    """The one spoken now is kept from its release on; of 1.0, which is to come, what there is."""
    assert VERSIONS[0] == "1.0"
    assert SPOKEN in VERSIONS, f"freeze what is spoken now in spec/frozen/{SPOKEN}"
    for version in VERSIONS:
        for folder in TODAY:
            assert any((FROZEN / version / folder).glob("*.json"))


# What is found, and what is not ---------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], Any]


def body_of(schema: dict[str, Any]) -> Any:
    return schema["properties"]["body"]


BREAKING: dict[str, tuple[str, Change]] = {
    "a field that is gone": ("task.report", lambda it: body_of(it)["properties"].pop("usage")),
    "a field of the envelope that is gone": ("task.report", lambda it: it["properties"].pop("fence")),
    "a new field that is required": (
        "task.report",
        lambda it: (body_of(it)["properties"].update(mood={"type": "string"}), body_of(it)["required"].append("mood")),
    ),
    "a field that is required now": ("task.yield", lambda it: body_of(it).update(required=["reason"])),
    "a field that need not be there now": ("task.report", lambda it: body_of(it)["required"].remove("outcome")),
    "a word that is gone": ("task.report", lambda it: body_of(it)["properties"]["outcome"]["enum"].remove("rejected")),
    "text that is one of some words now": (
        "task.yield",
        lambda it: body_of(it)["properties"]["reason"].update(enum=["busy"]),
    ),
    "another type": ("task.report", lambda it: it["properties"]["fence"].update(type="string")),
    "a type that lost one": ("task.report", lambda it: it["properties"]["re"].update(type="string")),
    "a lower limit": ("task.yield", lambda it: body_of(it)["properties"]["reason"].update(maxLength=255)),
    "a limit where there was none": ("ping", lambda it: it["properties"]["to"].update(maxLength=9)),
    "a higher minimum": ("task.report", lambda it: it["properties"]["fence"].update(minimum=1)),
    "another default": ("task.yield", lambda it: body_of(it)["properties"]["reason"].update(default="x")),
    "another pattern": ("hello", lambda it: body_of(it)["properties"]["agentId"].update(pattern="^[a-z]+$")),
    "another kind": ("ping", lambda it: it["properties"]["kind"].update(const="task.ping")),
    "a form less": ("task.report", lambda it: body_of(it)["properties"]["usage"]["anyOf"].pop()),
    "a field inside an object that is gone": (
        "task.delegate",
        lambda it: it["$defs"]["TaskSpec"]["properties"].pop("effect"),
    ),
    "an object that takes no more fields": (
        "task.delegate",
        lambda it: it["$defs"]["TaskSpec"].update(additionalProperties=False),
    ),
}  # fmt: skip

ADDING: dict[str, tuple[str, Change]] = {
    "a new field": ("task.report", lambda it: body_of(it)["properties"].update(mood={"type": "string", "default": ""})),
    "a new field inside an object": (
        "task.delegate",
        lambda it: it["$defs"]["TaskSpec"]["properties"].update(mood={"type": "string"}),
    ),
    "a new word": ("task.report", lambda it: body_of(it)["properties"]["outcome"]["enum"].append("postponed")),
    "a wider limit": ("task.yield", lambda it: body_of(it)["properties"]["reason"].update(maxLength=512)),
    "another description": ("task.yield", lambda it: it.update(description="Otherwise.")),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_change_that_breaks_is_found(name: str) -> None:
    kind, change = BREAKING[name]
    before = TODAY["messages"][f"{kind}.json"]
    after = deepcopy(before)
    change(after)
    assert broken(before, after), name


@pytest.mark.parametrize("name", ADDING)
def test_an_addition_passes(name: str) -> None:
    kind, change = ADDING[name]
    before = TODAY["messages"][f"{kind}.json"]
    after = deepcopy(before)
    change(after)
    assert after != before
    assert broken(before, after) == []


def test_a_record_of_another_version_needs_an_upgrade(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TODAY["records"]["Settled.json"]
    after = deepcopy(before)
    after["properties"]["version"]["const"] = 2
    del after["properties"]["detail"]
    assert unexplained(before, after) == ["nothing brings version 1 of it up to 2"]
    monkeypatch.setitem(records._UPGRADES, ("Settled", 1), lambda named: named)
    assert unexplained(before, after) == []


def test_the_fields_of_a_record_keep_their_order() -> None:
    before = TODAY["records"]["Settled.json"]
    after = deepcopy(before)
    after["properties"]["note"] = {"type": "string", "default": ""}
    assert unexplained(before, after) == []
    after["properties"] = {"note": after["properties"].pop("note")} | after["properties"]
    assert unexplained(before, after)
