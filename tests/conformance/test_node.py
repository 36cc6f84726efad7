"""The peer in JavaScript passes every case for agents and clients, and in the other encoding a third of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from a2a.conformance.case import Role
from a2a.conformance.playing import cases, play_peer
from a2a.conformance.stand_in import PeerSettings
from a2a.conformance.wire import JSON, MSGPACK

from .conftest import some, unmet

PEER = Path(__file__).parents[2] / "reference_agents" / "node"
SKILLS = ("conformance.echo", "conformance.work", "conformance.fail", "conformance.ask")
WHERE = "--url {url} --state {state}"

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (PEER / "node_modules").is_dir(),
    reason="needs node and the peer's packages: make node",
)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_the_node_agent_conforms(encoding: str) -> None:
    skills = " ".join(f"--skill {skill}" for skill in SKILLS)
    command = f"node {PEER / 'bin' / 'agent.js'} {WHERE} {skills} --encoding {encoding}"
    chosen = cases(Role.AGENT) if encoding == JSON else some(cases(Role.AGENT))
    settings = PeerSettings(command=command, token="the token of the suite")
    assert unmet(await play_peer(chosen, settings, jobs=2)) == []


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_the_node_client_conforms(encoding: str) -> None:
    task = "--key {key} --json {input} delegate {skill}"
    command = f"node {PEER / 'bin' / 'client.js'} {WHERE} --encoding {encoding} {task}"
    chosen = cases(Role.CLIENT) if encoding == JSON else some(cases(Role.CLIENT))
    settings = PeerSettings(command=command, token="the token of the suite")
    assert unmet(await play_peer(chosen, settings, jobs=2)) == []
