"""`a2a doctor`."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import socket
import sqlite3
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from a2a import connect
from a2a import squads as squads_module
from a2a.cli import doctor as doctor_module
from a2a.cli.doctor import certificate, helpers, installation, ledger, others_named_a2a, state
from a2a.credentials import coordinator_dir, provide_tokens, state_dir
from a2a.engine.plain import LARGE_BYTES
from a2a.hosting import host
from a2a.stores.database import LEDGERS, MIGRATIONS
from tests.ledger_file import change_entry

URL = "ws://127.0.0.1:1"


def test_where_all_is_well_it_says_so(command: Any, world: Any) -> None:
    done = command("doctor")
    assert done.code == 0, done.out
    assert f"{world.url} lets " in done.out
    assert "as an operator; memory" in done.out
    found = [json.loads(line) for line in command("doctor", "--json").out.splitlines()]
    assert not [item for item in found if item["verdict"] == "wrong"]
    assert {"Python", "a2a-coordinator", "pydantic", "the name a2a", "coordinator", "git"} <= {
        item["what"] for item in found
    }


@pytest.mark.parametrize(("days", "verdict"), [(90, "ok"), (5, "note")])
async def test_the_end_of_a_certificate_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, verdict: str
) -> None:
    authority, trusted = trustme.CA(), tmp_path / "trusted.pem"
    ends = datetime.now(UTC) + timedelta(days=days)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", not_after=ends).configure_cert(context)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with host(ssl=context) as hosted:
        trusted.write_bytes(trustme.CA().cert_pem.bytes())
        assert await certificate(hosted.url, 20.0) == []
        trusted.write_bytes(authority.cert_pem.bytes())
        [found] = await certificate(hosted.url, 20.0)
    assert (found.what, found.verdict) == ("certificate", verdict)
    assert found.detail.startswith(f"ends on {ends:%Y-%m-%d}")
    assert await certificate(hosted.url, 20.0) == [], "nobody is there"
    assert await certificate("wss://127.0.0.1:99999", 20.0) == []
    monkeypatch.setattr(doctor_module.asyncio, "open_connection", None)
    assert await certificate("ws://127.0.0.1:1", 20.0) == [], "nobody is spoken to in TLS there"


def test_that_no_coordinator_runs_is_wrong_where_one_was_named(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    done = command("doctor", "--url", URL)
    assert (done.code, done.err) == (1, "a2a: wrong: coordinator\n")
    assert "nothing listens at 127.0.0.1:1; `a2a coordinator run` starts one" in done.out
    monkeypatch.delenv("A2A_URL", raising=False)
    option = next(parameter for parameter in doctor_module.doctor.params if parameter.name == "url")
    monkeypatch.setattr(option, "default", URL)
    assert command("doctor").code == 0


def test_where_something_else_listens_no_other_is_advised(command: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor() as pool:

        def hang_up() -> None:
            with taken.accept()[0] as heard:
                heard.recv(65_536)  # what is not read when it closes is answered with a reset

        answered = pool.submit(hang_up)
        done = command("doctor", "--json", "--url", f"ws://127.0.0.1:{taken.getsockname()[1]}")
        answered.result(timeout=30)
    [found] = [found for found in map(json.loads, done.out.splitlines()) if found["what"] == "coordinator"]
    assert found["verdict"] == "wrong"
    assert "did not answer as a coordinator does" in found["detail"]
    assert "starts one" not in found["detail"]


def test_a_token_that_is_missing_or_wrong_is_wrong(command: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_TOKEN", "not it")
    done = command("doctor")
    assert done.code == 1
    assert "the token does not open this namespace" in done.out
    monkeypatch.delenv("A2A_TOKEN")
    world.hosted.tokens.token_file.unlink()
    done = command("doctor")
    assert done.code == 1
    assert f"a token is needed; there is none in {coordinator_dir(world.hosted.url)}: set A2A_TOKEN" in done.out


def test_a_package_that_is_missing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "msgpack":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    wrong = [found.what for found in installation() if found.verdict == "wrong"]
    assert wrong == ["msgpack"]


def test_without_an_installation_it_runs_from_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "DISTRIBUTION", "not-installed")
    assert list(installation())[-1].detail == "not installed: it runs from source"


def test_another_package_named_a2a_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [found.verdict for found in others_named_a2a()] == ["ok"]
    site = tmp_path / "site"
    info = site / "a2a_sdk-1.3.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a2a-sdk\nVersion: 1.3.0\n")
    (info / "RECORD").write_text("a2a/__init__.py,,\na2a/types.py,,\n")
    # Of the files that a package names, newer versions of Python list those only that are there.
    (site / "a2a").mkdir()
    (site / "a2a" / "types.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    [found] = others_named_a2a()
    assert found.verdict == "wrong"
    assert "a2a-sdk 1.3.0" in found.detail
    (site / "a2a" / "__init__.py").write_text("")
    assert str(site / "a2a") in list(others_named_a2a())[-1].detail


def test_what_others_may_read_is_wrong() -> None:
    assert [found.detail for found in state(URL)] == [f"{state_dir()} does not exist yet"]
    provide_tokens(URL)
    assert [found.verdict for found in state(URL)] == ["ok"]
    token = coordinator_dir(URL) / "token"
    token.chmod(0o644)
    [found] = state(URL)
    assert (found.verdict, found.detail) == ("wrong", f"others may read or write {token}")


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("A2A_STATE_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    [found] = state(URL)
    assert (found.what, found.verdict) == ("state directory", "wrong")
    assert found.detail.endswith("name a state directory with A2A_STATE_DIR")


def test_a_state_directory_that_cannot_be_written_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    provide_tokens(URL)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    [found] = state(URL)
    assert found.detail == f"{state_dir()} cannot be written; set A2A_STATE_DIR to another directory"


def test_a_state_directory_of_another_user_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    provide_tokens(URL)
    (coordinator_dir(URL) / "token").chmod(0o644)
    monkeypatch.setattr(os, "getuid", lambda: state_dir().stat().st_uid + 1)
    [found] = state(URL)
    assert found.verdict == "wrong"
    assert found.detail.startswith(f"another user owns {state_dir()}, {coordinator_dir(URL)}, ")
    assert found.detail.endswith(": run as that user, or set A2A_STATE_DIR to another path")


def keep_out(monkeypatch: pytest.MonkeyPatch, closed: Path) -> None:
    """Have a directory be one that only somebody else may look into; root may look into all."""

    def kept(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def look(path: Any, **options: Any) -> os.stat_result:
            if isinstance(path, Path) and closed in path.parents:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return real(path, **options)

        return look

    for name in ("stat", "lstat"):  # `Path` takes one or the other, from one Python to the next
        monkeypatch.setattr(os, name, kept(getattr(os, name)))


@pytest.mark.parametrize("closed", ["", "coordinators"])
def test_a_directory_that_may_not_be_looked_into_is_named_and_the_rest_is_told(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "kept" / "state"))
    provide_tokens(URL)
    keep_out(monkeypatch, tmp_path / "kept" / ("state/coordinators" if closed else ""))
    done = command("doctor", "--json", "--url", URL)
    found = {item["what"]: item for item in map(json.loads, done.out.splitlines())}
    named = coordinator_dir(URL) if closed else state_dir()
    assert found["state directory"]["verdict"] == "wrong"
    assert f"{named} cannot be accessed: Permission denied" in found["state directory"]["detail"]
    assert {"Python", "coordinator", "git"} <= set(found)
    assert done.code == 1


def test_a_folder_of_the_path_that_may_not_be_looked_into_has_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "closed")])
    keep_out(monkeypatch, tmp_path / "closed")
    assert [found.verdict for found in others_named_a2a()] == ["ok"]


async def test_a_ledger_is_looked_at_while_it_is_used_and_after(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    async with host(path):
        sound, locked = ledger(path)
    assert sound.verdict == "ok"
    assert (locked.verdict, locked.detail) == ("ok", f"this process (pid {os.getpid()}) has this ledger open")
    sound, locked = ledger(path)
    assert [(found.verdict, found.detail) for found in (sound, locked)] == [
        ("ok", "2 records"),
        ("ok", "nobody has it open"),
    ]


async def test_a_ledger_with_something_in_it_that_cannot_be_read_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    async with host(path) as hosted, connect(hosted.url, name="ann") as client:
        async with client.delegate("nobody", "x" * LARGE_BYTES):
            pass
    [blob] = (file for file in Path(f"{path}.blobs").rglob("*") if file.is_file())
    kept = blob.read_bytes()
    blob.unlink()
    missing = next(ledger(path))
    assert (missing.verdict, blob.name in missing.detail) == ("wrong", True), missing.detail
    blob.write_bytes(kept)
    assert next(ledger(path)).verdict == "ok"
    change_entry(path, 2, body=b"\x91")
    damaged = next(ledger(path))
    assert damaged.verdict == "wrong"
    assert "record 2 cannot be read: not a record this version knows" in damaged.detail


def test_a_ledger_of_an_older_version_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(MIGRATIONS[0])
        connection.execute(f"PRAGMA application_id = {LEDGERS[0]}")
        connection.execute("PRAGMA user_version = 1")
    [found] = ledger(path)
    assert found.verdict == "note"
    assert found.detail == "0 records of an older version, not read: the next start brings it up to date"


async def test_a_ledger_that_cannot_be_opened_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    async with host(path):
        pass
    Path(f"{path}-wal").mkdir()  # in the way of a file that SQLite makes beside it
    found = list(ledger(path))
    assert [(one.verdict, one.detail) for one in found] == [("wrong", "cannot be opened: unable to open database file")]


def test_a_ledger_that_is_none_is_wrong(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l.db").write_text("not a ledger")
    assert "this is not an SQLite database" in next(ledger(Path("l.db"))).detail
    assert next(ledger(Path("none.db"))).verdict == "wrong"
    done = command("doctor", "--db", "l.db", "--url", URL)
    assert done.code == 1
    assert "wrong: coordinator, ledger l.db" in done.err


def test_what_is_not_needed_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = {item.what: item for item in helpers()}
    assert (found["git"].verdict, found["git"].detail) == ("note", "not found: the squad works on repositories")


@pytest.mark.parametrize(
    ("module", "use"),
    [
        ("starlette", "`a2a gateway` needs it (a2a-coordinator[gateway])"),
        ("mcp", "`a2a mcp` needs it (a2a-coordinator[mcp])"),
        ("httpx2", "`a2a agent remote` needs it (a2a-coordinator[remote])"),
    ],
)
def test_an_extra_that_is_missing_is_noted_with_what_needs_it(
    monkeypatch: pytest.MonkeyPatch, module: str, use: str
) -> None:
    assert {item.what: item.verdict for item in helpers()}["starlette"] == "ok"
    monkeypatch.setattr(doctor_module, "find_spec", lambda name: None)
    found = {item.what: item for item in helpers()}[module]
    assert (found.verdict, found.detail) == ("note", f"not installed: {use}")


def test_tools_of_the_squad_that_are_missing_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {item.what: item for item in helpers()}
    assert found["the squad's tools"].verdict == "ok"
    monkeypatch.setattr(squads_module, "find_spec", lambda name: None)
    found = {item.what: item for item in helpers()}
    assert (found["the squad's tools"].verdict, found["the squad's tools"].detail) == (
        "note", "not installed: ruff, pyupgrade, libcst, bandit; `a2a run` needs them (a2a-coordinator[squad])"
    )  # fmt: skip


def test_without_the_squad_its_tools_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reference_agents.maintenance", None)
    [found] = [item for item in helpers() if item.what == "the squad's tools"]
    assert found.verdict == "note"
    assert "there is no squad maintenance" in found.detail


def test_a_state_directory_that_is_a_file_is_wrong(command: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_TOKEN", world.hosted.tokens.token)
    monkeypatch.setenv("A2A_STATE_DIR", "/dev/null")
    done = command("doctor", "--json")
    verdicts = {found["what"]: found["verdict"] for found in map(json.loads, done.out.splitlines())}
    assert verdicts["state directory"] == "wrong"
    assert {"Python", "coordinator", "git"} <= set(verdicts)


def test_a_token_that_is_no_text_is_wrong(command: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    provide_tokens(world.url).token_file.write_bytes(b"\xff")
    done = command("doctor")
    assert done.code == 1
    assert "token is not text" in done.out
    assert "git" in done.out


@pytest.mark.parametrize("arguments", [("doctor",), ("task", "ls")])
def test_a_state_directory_that_cannot_be_made_is_wrong(
    command: Any, world: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    token = world.hosted.tokens.token
    monkeypatch.setenv("A2A_STATE_DIR", "/dev/null/a2a")
    monkeypatch.setenv("A2A_TOKEN", token)
    done = command(*arguments)
    assert done.code == 1
    assert "/dev/null/a2a cannot be made: Not a directory" in done.out + done.err
    assert "Traceback" not in done.out + done.err
