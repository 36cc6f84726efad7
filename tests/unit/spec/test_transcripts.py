"""The transcripts of the specification, played against the engine."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry

from a2a.protocol.messages import KINDS
from a2a.protocol.schemas import export

from .transcript import FOLDER, Mismatch, play

FILES = sorted(FOLDER.glob("*.txt"))
SPEC = "".join((FOLDER.parent / name).read_text(encoding="utf-8") for name in ("protocol.md", "a2a-binding.md"))
LINKED = re.findall(r"\]\(transcripts/([\w-]+\.txt)\)", SPEC)
SCHEMAS = export()
RACES = [line for line in SPEC.partition("\n## 14. Races\n")[2].partition("\n## ")[0].splitlines() if line[:2] == "| "]


@cache
def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[f"{kind}.json"], registry=Registry())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_transcript_is_what_happens(path: Path) -> None:
    """And each of its frames is of the form that its schema gives."""
    text = path.read_text(encoding="utf-8")
    frames: list[dict[str, Any]] = []
    assert play(text, frames=frames) == text
    for frame in frames:
        if frame["kind"] in KINDS:
            validator(frame["kind"]).validate(frame)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_transcript_names_the_paragraphs_it_shows(path: Path) -> None:
    title, *_ = lines = path.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    [shown] = [line for line in lines if line.startswith("# Shows: ")]
    for promise in shown.removeprefix("# Shows: ").split(", "):
        assert f"\n**{promise}.** " in SPEC, f"there is no {promise}"


def test_the_specification_links_to_each_transcript_where_it_is_shown() -> None:
    assert {path.name for path in FILES} == set(LINKED)


@pytest.mark.parametrize("row", RACES[1:], ids=lambda row: row.split("|")[1].strip()[:50])
def test_each_race_has_a_transcript(row: str) -> None:
    assert "](transcripts/" in row, "show it in spec/v1/transcripts, and link to it"


# The player -----------------------------------------------------------------------------------------------------------

HELLO = (
    'desk > {"id":"d1","kind":"hello","body":{"versions":["1.0","1.0"],"agentId":"desk","instanceId":"i",'
    '"incarnation":1,"token":"letmein","secret":"s"}}'
)
WELCOME = (
    'desk < {"kind":"welcome","re":"d1","to":"desk","body":{"version":"1.0","namespace":"main","epoch":1,'
    '"durability":"memory","limits":"$_","nextMseq":1,"role":"member","resumed":false}}'
)
GREETING = f"connect desk\n{HELLO}\n{WELCOME}\n"
DELEGATE = 'desk > {"id":"d2","kind":"task.delegate","body":{"key":"k","spec":{"skill":"s"}}}\n'
CREATED = (
    'desk < {"kind":"task.created","re":"d2","to":"desk","task":"$task","gen":1,'
    '"body":{"created":true,"state":"queued","contextId":"$context"}}\n'
)


def test_a_placeholder_is_learned_and_stays_what_it_was() -> None:
    play(GREETING + DELEGATE + CREATED)
    play(
        GREETING
        + DELEGATE
        + CREATED
        + DELEGATE.replace("d2", "d3")
        + CREATED.replace("d2", "d3").replace("true", "false")
    )
    with pytest.raises(Mismatch, match="/body/contextId is 'main-c3', not 'main-3'"):
        play(GREETING + DELEGATE + CREATED.replace("$context", "$task"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"connect desk\n{HELLO}\n", "at the end desk has got"),
        (GREETING + 'desk < {"kind":"ok"}\n', "line 4: nothing came"),
        (GREETING.replace('"epoch":1', '"epoch":2'), "/body/epoch is 1, not 2"),
        (GREETING.replace('"epoch":1', '"epoch":true'), "/body/epoch is 1, not True"),
        (GREETING.replace('"epoch":1,', ""), "/body has"),
        (GREETING.replace('"limits":"$_",', '"limits":[],'), "/body/limits is"),
        (GREETING + "closed desk\n", "the connection is still open"),
        (GREETING + "advance 3 moons\n", "nobody knows what that is"),
        (GREETING + 'desk > {"id":"1","kind":"task.get","task":"$never","body":{}}\n', "never"),
    ],
)
def test_a_transcript_that_does_not_say_what_happens_fails(text: str, problem: str) -> None:
    with pytest.raises(Mismatch, match=re.escape(problem)):
        play(text)


def test_what_comes_is_written_down_and_then_is_what_happens() -> None:
    recorded = play(f"# A task\n\nconnect desk\n{HELLO}\n{DELEGATE}advance 1 s\ndrop desk\n", is_recording=True)
    assert '"task": "$task"' in recorded and '"limits": "$_"' in recorded
    assert play(recorded) == recorded


def test_the_transcripts_show_every_kind() -> None:
    shown = {kind for path in FILES for kind in re.findall(r'"kind": "([a-z0-9.]+)"', path.read_text(encoding="utf-8"))}
    assert set(KINDS) <= shown, "have a conversation in which it is said"
