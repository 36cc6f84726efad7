"""The page for who writes a peer shows frames that a coordinator really takes and sends."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import anyio
import click
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from websockets.asyncio.client import ClientConnection, connect

from a2a import SqliteStore
from a2a.cli.main import cli
from a2a.engine.policy import Admission, Policy, digest
from a2a.protocol.codec import JSON
from a2a.protocol.schemas import export
from a2a.server import Server
from a2a.squads import NAMED, load
from tests.unit.test_spec import PROMISES, cited_in

PAGE = (Path(__file__).parents[2] / "spec" / "v1" / "implementing.md").read_text(encoding="utf-8")
LINES = re.findall(r"^(worker|delegator) (→|←) (\{.*\})$", PAGE, re.MULTILINE)
TOKEN = "letmein"
CLOCK = {"confirmMs": 600_000, "offerMs": 5_000}
"""What a field says that goes by the clock: the coordinator may say a little less."""
BOUND = 20.0


class Peer:
    """A connection that takes the frames of the page one by one."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.came: list[dict[str, Any]] = []

    async def next(self) -> dict[str, Any]:
        while not self.came:
            self.came = [json.loads(line) for line in str(await self.socket.recv()).splitlines()]
        return self.came.pop(0)


def by_the_clock(frame: dict[str, Any]) -> dict[str, Any]:
    body = {name: CLOCK.get(name, value) for name, value in frame["body"].items()}
    return {**frame, "body": body}


async def test_a_coordinator_takes_and_sends_the_frames_that_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(LINES) > 15
    monkeypatch.setattr("a2a.server.new_secret", lambda: "the key of this ledger")  # the shown proof is made with it
    server = Server(SqliteStore(tmp_path / "ledger.db"), Policy(admission=Admission(digest(TOKEN))))
    await server.open()
    try:
        with anyio.fail_after(BOUND):
            url = (await server.listen()).url
            settings: dict[str, Any] = {"subprotocols": [JSON], "compression": None}
            async with connect(url, **settings) as worker, connect(url, **settings) as delegator:
                peers = {"worker": Peer(worker), "delegator": Peer(delegator)}
                for who, way, line in LINES:
                    shown = json.loads(line)
                    if way == "→":
                        await peers[who].socket.send(line)
                    else:
                        assert by_the_clock(await peers[who].next()) == shown
                assert not [frame for peer in peers.values() for frame in peer.came]
    finally:
        await server.aclose()


def test_the_peers_shown_have_names_that_no_squad_has_bound_to_secrets_of_its_own() -> None:
    shown = {json.loads(line)["body"]["agentId"].partition("#")[0] for _, _, line in LINES if '"hello"' in line}
    assert len(shown) == 2
    for name in NAMED:
        squad = load(name)
        assert not shown & {*squad.agents, *squad.optional}


def test_the_frames_shown_are_valid_and_the_result_has_the_hash_that_is_worked_out() -> None:
    schemas = export()
    for _, _, line in LINES:
        plain = json.loads(line)
        Draft202012Validator(schemas[f"{plain['kind']}.json"], registry=Registry()).validate(plain)
        if plain["kind"] == "task.report":
            hashed = '{"outcome":"completed"}\n' + plain["payload"]
            assert f"```text\n{hashed}\n```" in PAGE
            assert plain["body"]["resultHash"] == f"sha256:{hashlib.sha256(hashed.encode()).hexdigest()}"


def test_what_the_page_cites_exists() -> None:
    assert len(cited_in(PAGE)) > 20
    assert cited_in(PAGE) <= set(PROMISES)


def test_the_lines_are_no_longer_than_those_of_the_code() -> None:
    assert not [line for line in PAGE.splitlines() if len(line) > 120 and not re.match(r"(worker|delegator) ", line)]


@pytest.mark.parametrize("words", re.findall(r"^\$ a2a ([a-z]+(?: [a-z]+)?)", PAGE, re.MULTILINE))
def test_the_commands_shown_are_there(words: str) -> None:
    group, _, name = words.partition(" ")
    command = cli.get_command(click.Context(cli), group)
    assert command is not None
    if isinstance(command, click.Group):
        assert command.get_command(click.Context(command), name) is not None
