"""`a2a coordinator`: what it refuses, what it announces, how it ends. Real processes are in tests/process."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import signal
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import click
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from a2a import Server, certificates, connect
from a2a.cli import coordinator as coordinator_module
from a2a.cli.config import Settings
from a2a.cli.coordinator import (
    _COLLECTED_AFTER,
    _allow_files,
    _held_by,
    _names,
    _serve,
    _uncollected,
    announce,
    hosting,
    served_certificate,
    until_stopped,
)
from a2a.cli.exits import Failure
from a2a.cli.output import Output
from a2a.credentials import load_tokens, state_dir
from a2a.engine.leases import proof
from a2a.errors import StoreError
from a2a.hosting import Hosted, host
from a2a.protocol.codec import Frame
from a2a.protocol.messages import HeldStill
from a2a.stores import backup as backup_module
from a2a.stores.base import Appended
from a2a.stores.memory import MemoryStore
from a2a.transports.websocket import WebSocketSettings
from tests.raw_peer import HELLO, join

BOUND = 20


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--listen", "0.0.0.0:0"), "--tls-cert, --tls-key"),
        (("--listen", "127.0.0.1:x"), "expected HOST:PORT"),
        (("--listen", "127.0.0.1:0", "--namespace", "a b"), "namespace: expected"),
        (("--listen", "127.0.0.1:0", "--tls-key", "key.pem"), "--tls-key needs --tls-cert"),
        (("--listen", "127.0.0.1:0", "--tls-cert", "none.pem"), "--tls-cert none.pem"),
        (("--listen", "127.0.0.1:0", "--token-file", "none"), "--token-file"),
        (("-c", "none.toml"), "none.toml"),
        (("--db", ""), "--db: expected the name of a file"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(
    command: Any, tmp_path: Path, arguments: tuple[str, ...], named: str
) -> None:
    done = command("coordinator", "run", "--db", str(tmp_path / "l.db"), *arguments)
    assert done.code == 2, done.err
    assert named in done.err
    assert not (tmp_path / "l.db").exists()


def test_of_certificate_and_key_the_file_that_is_wrong_is_named(command: Any, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_text("not a certificate")
    arguments = ("coordinator", "run", "--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
    done = command(*arguments)
    assert done.code == 2
    assert done.err.endswith(f"Error: --tls-key {key}: No such file or directory\n")
    key.write_text("not a key")
    assert f"Error: --tls-cert {cert}, --tls-key {key}: " in command(*arguments).err
    assert f"Error: --tls-cert {cert} contains no key: expected --tls-key\n" in command(*arguments[:-2]).err
    cert.write_text("-----BEGIN PRIVATE KEY-----\nthat is none\n")
    assert f"Error: --tls-cert {cert}: " in command(*arguments[:-2]).err


async def test_a_coordinator_shows_a_renewed_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    def renew() -> str:
        issued = authority.issue_cert("127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        return issued.cert_chain_pems[0].bytes().decode()

    async def shown(url: str) -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, ssl=trusting)
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return ssl.DER_cert_to_PEM_cert(certificate)

    async def until_renewed(hosted: Hosted, ready: Any) -> None:
        assert await shown(hosted.url) == before
        renewed = renew()
        while await shown(hosted.url) != renewed:
            pass

    before = renew()
    monkeypatch.setattr(certificates, "_LOOKED_AT_EVERY", 0.01)
    monkeypatch.setattr(coordinator_module, "until_stopped", until_renewed)
    settings = Settings(listen="127.0.0.1:0", db=tmp_path / "l.db", tls_cert=cert, tls_key=key)
    with anyio.fail_after(BOUND):
        await _serve(settings, served_certificate(settings), Output(False, True))


@pytest.mark.parametrize(
    ("listen", "hosts", "names"),
    [
        ("127.0.0.1:7420", {"b.example", "a.example"}, ["127.0.0.1", "a.example", "b.example"]),
        ("[::1]:7420", set(), ["::1"]),
        ("0.0.0.0:7420", {"a.example"}, ["a.example"]),
        ("[::]:7420", set(), []),
        ("127.0.0.1:x", {"a.example"}, []),
    ],
)
def test_a_certificate_should_have_a_name_that_clients_connect_to(
    listen: str, hosts: set[str], names: list[str]
) -> None:
    settings = Settings(listen=listen, websocket=WebSocketSettings(hosts=frozenset(hosts)))
    assert _names(settings) == names


def test_an_encrypted_key_is_asked_for_at_a_terminal_only(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = trustme.CA().issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(str(cert))
    private = load_pem_private_key(issued.private_key_pem.bytes(), None)
    encryption = BestAvailableEncryption(b"the phrase")
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    settings = Settings(tls_cert=cert, tls_key=key)
    arguments = ("coordinator", "run", "--listen", "127.0.0.1:0", "--tls-cert", str(cert), "--tls-key", str(key))
    done = command(*arguments)
    assert done.code == 2
    assert done.err.endswith(f"--tls-key {key} is encrypted, and there is no terminal to ask for its pass phrase\n")
    asked: list[str] = []

    def prompt(text: str, **how: Any) -> str:
        assert how["hide_input"]
        asked.append(text)
        return "the phrase"

    monkeypatch.setattr(coordinator_module, "can_ask", lambda: True)
    monkeypatch.setattr(coordinator_module.click, "prompt", prompt)
    assert served_certificate(settings) is not None
    assert asked == [f"pass phrase of {key}"]

    def interrupted(text: str, **how: Any) -> str:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()  # to which Ctrl-C would be told, and not to who asks
        raise click.Abort

    monkeypatch.setattr(coordinator_module.click, "prompt", interrupted)
    assert command(*arguments).code == 130


@pytest.mark.parametrize("more", [(), ("--db", "ledger.db")], ids=["ledger", "tokens"])
def test_a_state_directory_that_cannot_be_used_is_told_with_the_variable_that_names_it(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("A2A_STATE_DIR", "/dev/null/a2a")
    done = command("coordinator", "run", "--listen", "127.0.0.1:0", *more)
    assert done.code == 1
    assert "a2a: the state directory /dev/null/a2a/" in done.err
    assert done.err.endswith(" cannot be made: Not a directory; A2A_STATE_DIR names it\n")


def test_links_in_a_circle_are_told_before_anything_is_made(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "loop.db"
    path.symlink_to(path)
    done = command("coordinator", "run", "--db", str(path), "--listen", "127.0.0.1:0")
    assert (done.code, done.err) == (1, f"a2a: {path}: Too many levels of symbolic links\n")
    assert list(tmp_path.glob("loop.db*")) == [path]
    assert not state_dir().exists()


async def test_a_ledger_in_use_names_the_other_process(command: Any, tmp_path: Path) -> None:
    async with host(tmp_path / "l.db"):
        arguments = ("coordinator", "run", "--db", str(tmp_path / "l.db"), "--listen", "127.0.0.1:0")
        done = await anyio.to_thread.run_sync(command, *arguments)
    assert done.code == 1
    assert f"(pid {os.getpid()})" in done.err


def test_the_collector_stays_away_while_the_ledger_is_folded(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    async def fold(server: Server) -> None:
        seen.append(gc.isenabled())
        raise StoreError("enough was seen")

    monkeypatch.setattr(Server, "open", fold)
    done = command("coordinator", "run", "--db", str(tmp_path / "l.db"), "--listen", "127.0.0.1:0")
    assert (done.code, seen, gc.isenabled()) == (1, [False], True)


def test_the_collector_comes_less_often_once_the_coordinator_is_ready() -> None:
    before = gc.get_threshold()
    try:
        with _uncollected() as collect:
            assert not gc.isenabled()
            collect()
            assert (gc.isenabled(), gc.get_threshold()) == (True, _COLLECTED_AFTER)
            assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1_024, 4_096), (2_000, 4_096)),
        ((1_024, 1_500), (1_500, 1_500)),
        ((1_024, resource.RLIM_INFINITY), (2_000, resource.RLIM_INFINITY)),
        ((3_000, 4_096), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_a_coordinator_may_have_as_many_open_files_as_connections_where_the_system_lets_it(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], raised: tuple[int, int] | None
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: asked.append(pair))
    assert _allow_files(2_000) == min(2_000, raised[0] if raised is not None else 2_000)
    assert asked == ([] if raised is None else [raised])


@pytest.mark.parametrize(
    ("files", "held", "is_few"),
    [(20_100, 20_000, False), (20_000, 19_900, False), (1_024, 924, True), (64, 32, True)],
)
def test_a_coordinator_takes_no_more_connections_than_it_may_have_open_files(
    caplog: pytest.LogCaptureFixture, files: int, held: int, is_few: bool
) -> None:
    caplog.set_level(logging.WARNING, "a2a.cli")
    assert _held_by(files, WebSocketSettings(connections_max=20_000)).connections_max == held
    told = f"have {files} open files: it holds {held} connections at most, not the 20000 it is set to"
    assert (told in caplog.text) is is_few


async def test_an_address_in_use_is_told_as_a_sentence(command: Any, tmp_path: Path) -> None:
    async with host() as hosted:
        address = hosted.url.removeprefix("ws://")
        arguments = ("coordinator", "run", "--db", str(tmp_path / "l.db"), "--listen", address)
        done = await anyio.to_thread.run_sync(command, *arguments)
    assert (done.code, done.err) == (1, f"a2a: cannot listen on {address}: Address already in use\n")


async def test_programs_are_told_what_they_need_to_connect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with host(tmp_path / "l.db") as hosted:
        announce(hosted, Output(as_json=True))
        ready = json.loads(capsys.readouterr().out)
        token_file = Path(ready.pop("tokenFile"))
        operator_file = Path(ready.pop("operatorTokenFile"))
        tokens = load_tokens(hosted.url)
        assert tokens is not None
        assert token_file.read_text().strip() == tokens.token
        assert operator_file.read_text().strip() == tokens.operator_token
        assert ready == {
            "url": hosted.url,
            "db": str(tmp_path / "l.db"),
            "pid": os.getpid(),
            "epoch": 1,
            "durability": "fsync",
        }


async def test_people_are_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with host(tmp_path / "l.db") as kept, host() as passing:
        announce(kept, Output())
        announce(passing, Output())
        assert capsys.readouterr() == (
            "",
            f"coordinator at {kept.url}, ledger in {tmp_path / 'l.db'} (fsync)\n"
            f"coordinator at {passing.url}, ledger in memory only\n",
        )


async def test_a_ledger_that_cannot_be_written_ends_with_a_code_of_its_own() -> None:
    with anyio.fail_after(BOUND):
        async with host() as hosted:
            hosted.server.store.append = lambda entries, expected, done, archived: done(StoreError("disk full"))  # type: ignore[method-assign]

            async def knock() -> None:
                async with connect(hosted.url):
                    pytest.fail("nobody may be let in without a record")

            async with anyio.create_task_group() as group:
                group.start_soon(knock)
                with pytest.raises(Failure, match="disk full") as failed:
                    await until_stopped(hosted, lambda: None)
                assert failed.value.exit_code == 70
                group.cancel_scope.cancel()


async def test_who_runs_an_older_copy_of_a_ledger_is_told_what_to_do() -> None:
    with anyio.fail_after(BOUND):
        async with host() as hosted:
            fence = proof(hosted.server.coordinator.ledger, "w1", "main-90", 91)
            held = [HeldStill("main-90", 91, 0, fence)]
            hello = replace(HELLO, agent_id="w1", token=hosted.tokens.token, held=held)
            peer = await join(hosted.server)
            peer.send(Frame("1", hello))
            with pytest.raises(
                Failure, match=r"w1 holds fence 91 .*; put the newest copy .* restart that agent"
            ) as failed:
                await until_stopped(hosted, lambda: None)
    assert failed.value.exit_code == 70


async def test_nobody_is_told_that_it_is_ready_where_not_even_its_start_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: MemoryStore, entries: object, expected: int, done: Appended, archived: object = ()) -> None:
        done(StoreError("disk full"))

    monkeypatch.setattr(MemoryStore, "append", refuse)
    told: list[str] = []
    with anyio.fail_after(BOUND):
        async with host() as hosted:
            with pytest.raises(Failure, match="disk full; start the coordinator again") as failed:
                await until_stopped(hosted, lambda: told.append("ready"))
    assert failed.value.exit_code == 70
    assert told == []


async def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_TOKEN", "chosen")
    async with hosting(None, "127.0.0.1:0") as hosted:
        assert hosted.tokens.token == "chosen"
    async with hosting(None, "127.0.0.1:0", token="named") as hosted:
        assert hosted.tokens.token == "named"


async def test_an_error_inside_the_block_is_not_taken_for_a_wrong_address() -> None:
    with pytest.raises(ValueError, match="inside"):
        async with hosting(None, "127.0.0.1:0"):
            raise ValueError("inside")
    with pytest.raises(click.UsageError):
        async with hosting(None, "127.0.0.1:x"):
            pass


async def test_a_ledger_that_is_open_is_backed_up_and_proven(command: Any, tmp_path: Path) -> None:
    path, to = tmp_path / "l.db", tmp_path / "copy.db"

    def run(*arguments: str) -> Any:
        done = command(*arguments)
        assert done.code == 0, done.err
        return done

    async with host(path) as hosted, connect(hosted.url, name="ann") as client:
        async with client.delegate("nobody", "x" * 100_000):
            told = await anyio.to_thread.run_sync(run, "coordinator", "backup", str(path), f"{to}.json", "--json")
            copied = json.loads(told.out)
            files = [Path(f"{to}.json"), *Path(f"{to}.json.blobs").glob("??/*")]
            size = sum(file.stat().st_size for file in files)
            assert copied.pop("seconds") >= 0
            assert copied == {"db": f"{to}.json", "lsn": copied["lsn"], "blobs": 1, "bytes": size}
            assert size > 100_000
            told = await anyio.to_thread.run_sync(run, "coordinator", "backup", str(path), str(to))
            assert told.out.startswith(f"{to}: the ledger up to record {copied['lsn']}, {size} bytes with 1 large ")
            records = await anyio.to_thread.run_sync(run, "replay", str(path), "--json")
    assert len(records.out.splitlines()) == copied["lsn"]
    run("replay", str(to), "--verify")
    assert run("replay", str(to), "--json").out == records.out
    async with host(to) as hosted:
        assert hosted.server.coordinator.ledger.epoch == 2
        assert len(hosted.server.coordinator.ledger.tasks) == 1


def test_what_cannot_be_backed_up_is_told(command: Any, tmp_path: Path) -> None:
    ledger, to = tmp_path / "l.db", tmp_path / "copy.db"
    assert command("coordinator", "backup", str(ledger), str(to)).code == 2
    ledger.write_text("no ledger")
    assert command("coordinator", "backup", str(ledger), "").code == 2
    assert command("coordinator", "backup", str(ledger), str(tmp_path)).code == 2
    done = command("coordinator", "backup", str(ledger), str(to))
    assert (done.code, done.out, done.err) == (1, "", f"a2a: {ledger}: expected a ledger, this is not one\n")
    done = command("coordinator", "backup", str(ledger), str(ledger))
    assert (done.code, f"{ledger} already exists" in done.err) == (1, True)
    assert list(tmp_path.iterdir()) == [ledger]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_interrupted_leaves_nothing(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path, to = tmp_path / "l.db", tmp_path / "backups"

    async def make() -> None:
        async with host(path):
            pass

    anyio.run(make)
    to.mkdir()
    steps: list[int] = []

    def interrupt(*_: int) -> None:
        steps.append(len(list(to.iterdir())))
        os.kill(os.getpid(), number)

    monkeypatch.setattr(backup_module, "sync", interrupt)
    before = signal.getsignal(signal.SIGTERM)
    done = command("coordinator", "backup", str(path), str(to / "copy.db"))
    assert (done.code, steps[0] > 0, list(to.iterdir())) == (130, True, [])
    assert signal.getsignal(signal.SIGTERM) == before


def test_how_a_coordinator_stands_is_shown(command: Any, world: Any, gate: Any) -> None:
    shown = json.loads(command("coordinator", "status", "--json").out)
    assert (shown["namespace"], shown["epoch"], shown["tasks"]) == ("main", 1, {})
    assert shown["amounts"]["tasks"] == {"count": 0, "most": 500_000}
    assert shown["up"] >= 0
    task = command("delegate", "wait", "--no-wait").out.strip()
    head, open_ones, columns, *rows = command("coordinator", "status").out.splitlines()
    assert head.startswith(f"{world.url}: namespace main, up ")
    assert "start 1 on its ledger, record " in head
    assert open_ones in ("open tasks: 1 leased", "open tasks: none"), "it may be as of a second ago"
    assert columns.split() == ["COUNT", "ROOM", "FOR", "FULL"]
    told = {row.split("  ")[0]: row.split()[-3:] for row in rows}
    assert told["tasks"] == ["1", "500,000", "0%"]
    assert told["context bytes"][-4:] == ["MB", "1,073.7", "MB", "0%"][-3:]
    assert told["agents known"] == ["1", "-", "-"]
    peers = told["peers connected"]
    assert peers[0].isdecimal() and peers[1:] == ["-", "-"]
    assert task
    world.call(gate.open.set)
