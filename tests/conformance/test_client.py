"""Our own client passes every case there is, and in the other encoding a third of them."""

from __future__ import annotations

import pytest

from a2a.conformance.case import Role
from a2a.conformance.playing import cases, play_peer
from a2a.conformance.stand_in import PeerSettings
from a2a.conformance.wire import JSON

from .conftest import CLIENT, some, unmet


@pytest.mark.parametrize("encoding", [None, JSON])
async def test_our_client_conforms(encoding: str | None) -> None:
    chosen = some(cases(Role.CLIENT)) if encoding else cases(Role.CLIENT)
    settings = PeerSettings(command=CLIENT, token="the token of the suite")
    assert unmet(await play_peer(chosen, settings, encoding=encoding, jobs=2)) == []
