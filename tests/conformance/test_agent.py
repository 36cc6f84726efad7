"""Our own agent passes every case there is, in both encodings."""

from __future__ import annotations

import pytest

from a2a.conformance.case import Role
from a2a.conformance.playing import cases, play_peer
from a2a.conformance.stand_in import PeerSettings
from a2a.conformance.wire import JSON

from .conftest import AGENT, unmet


@pytest.mark.parametrize("encoding", [None, JSON])
async def test_our_agent_conforms(encoding: str | None) -> None:
    settings = PeerSettings(command=AGENT, token="the token of the suite")
    assert unmet(await play_peer(cases(Role.AGENT), settings, encoding=encoding, jobs=2)) == []
