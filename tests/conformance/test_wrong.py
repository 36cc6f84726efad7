"""The suite finds wrong peers: a few of the table with every run of the tests, all of them with `make wrong-peers`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from a2a.conformance.case import Role
from a2a.conformance.playing import cases, selected
from a2a.conformance.requirements import requirements
from tests.mutants.run import ROOT, planted
from tests.mutants.table import Edit

from .judging import judge
from .wrong import WRONG, Wrong

QUICK = [wrong for wrong in WRONG if wrong.quick]
RIGHT = Wrong(
    "right",
    Role.CLIENT,
    "Nothing is wrong.",
    (
        Edit(
            "a2a/client.py", "from __future__ import annotations\n", "from __future__ import annotations  # a remark\n"
        ),
    ),
    broken=("RPC-3",),
)

LATE = Wrong(
    "comes-back-late",
    Role.AGENT,
    "The agent waits for a second or two before it connects again, which HELLO-12 lets it.",
    (Edit("a2a/link.py", "_BACKOFF = (0.05, 5.0)", "_BACKOFF = (2.0, 5.0)"),),
    broken=("HELLO-6",),
)

UNTAGGED = Wrong(
    "says-no-more-than-it-has-to",
    Role.AGENT,
    "A skill of the agent has no tags.",
    (Edit("reference_agents/testee.py", 'id="conformance.echo", tags=["conformance"], ', 'id="conformance.echo", '),),
    broken=("REG-5",),
)


def by_name(wrong: Wrong) -> str:
    return wrong.name


@pytest.mark.parametrize("wrong", WRONG, ids=by_name)
def test_what_a_row_changes_stands_there_once(wrong: Wrong) -> None:
    texts: dict[str, str] = {}
    for edit in wrong.edits:
        text = texts.get(edit.file) or (ROOT / edit.file).read_text(encoding="utf-8")
        texts[edit.file] = planted(text, edit)
        assert texts[edit.file] != text, "a row changes something"


@pytest.mark.parametrize("wrong", WRONG, ids=by_name)
def test_a_row_names_requirements_that_cases_of_its_role_are_about(wrong: Wrong) -> None:
    chosen = selected(cases(wrong.role), wrong.tried)
    assert wrong.says.endswith(".") and wrong.broken
    assert set(wrong.broken) <= {case.requirement for case in chosen} <= set(requirements())


def test_there_are_wrong_peers_of_every_role_each_with_a_name_of_its_own() -> None:
    assert len({wrong.name for wrong in WRONG}) == len(WRONG) >= 25
    assert {wrong.role for wrong in QUICK} == set(Role)


@pytest.mark.parametrize("wrong", QUICK, ids=by_name)
async def test_a_wrong_peer_is_found(wrong: Wrong) -> None:
    judged = await judge(wrong)
    assert judged.is_found, f"{wrong.says} {judged}"


@pytest.mark.parametrize("right", [RIGHT, LATE, UNTAGGED], ids=by_name)
async def test_a_peer_with_nothing_wrong_is_not_found(right: Wrong) -> None:
    judged = await judge(right)
    assert not judged.is_found and judged.missing == right.broken and not judged.others, judged


async def test_a_peer_that_does_not_run_is_not_found() -> None:
    edit = replace(RIGHT.edits[0], file="a2a/__init__.py", after="import nothing_of_this_name\n")
    judged = await judge(replace(RIGHT, role=Role.COORDINATOR, edits=(edit,)))
    assert not judged.is_found and "nothing_of_this_name" in judged.detail, judged


async def test_a_peer_of_which_every_case_fails_is_not_found() -> None:
    silent = Edit("a2a/engine/handlers.py", "    Hello: on_hello,\n", "    Hello: lambda *_: NOTHING,\n")
    wrong = replace(RIGHT, role=Role.COORDINATOR, edits=(silent,), broken=("HELLO-4",), areas=("HELLO-4",))
    judged = await judge(wrong)
    assert judged.by and not judged.missing and not judged.is_found, judged
