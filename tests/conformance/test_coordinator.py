"""Our own coordinator passes every case there is, in both encodings."""

from __future__ import annotations

import pytest

from a2a.conformance.case import Need, Role
from a2a.conformance.playing import cases, coordinator_from, play_coordinator
from a2a.conformance.wire import JSON, MSGPACK

from .conftest import COORDINATOR, OPERATOR_TOKEN, TOKEN, unmet

CASES = cases(Role.COORDINATOR)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_our_coordinator_conforms(encoding: str) -> None:
    chosen = [case for case in CASES if encoding == JSON or Need.RESTART not in case.needs]
    async with coordinator_from(
        COORDINATOR, token_file=TOKEN, operator_token_file=OPERATOR_TOKEN, run=encoding
    ) as settings:
        assert unmet(await play_coordinator(chosen, settings, encoding=encoding)) == []


def test_there_is_a_case_of_every_area_of_the_specification() -> None:
    from a2a.conformance.requirements import requirements

    areas = {requirement.area for requirement in requirements().values()}
    shown = {name.partition("-")[0] for case in CASES for name in (case.requirement, *case.also)}
    assert areas == shown


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)
