"""Tokens and secrets in the user's state directory."""

from __future__ import annotations

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from a2a.credentials import (
    StateDirectoryError,
    check_state_dir,
    coordinator_dir,
    keep_secrets_with,
    known_as,
    load_secret,
    load_tokens,
    next_incarnation,
    provide_gateway_token,
    provide_secret,
    provide_tokens,
    secret_files,
    state_dir,
)
from a2a.errors import ConnectError

URL = "ws://127.0.0.1:7420"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))


def test_without_a_ledger_nothing_is_known_of_who_was_here_before_nor_is_it_taken_from_who_came_meanwhile(
    tmp_path: Path,
) -> None:
    secrets = coordinator_dir(URL) / "secrets"
    left = secrets.with_name("secrets.passing")
    left.mkdir(parents=True)
    (left / "of-one-that-was-killed").write_text("x")
    with keep_secrets_with(URL, None):
        assert list(secrets.iterdir()) == []
        with keep_secrets_with(URL, tmp_path / "ledger.db"):
            secret = provide_secret(URL, "helper")
    assert load_secret(URL, "helper") == secret
    assert not left.exists()


def test_the_state_directory_can_be_named_and_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_dir() == tmp_path / "state"
    monkeypatch.delenv("A2A_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert state_dir() == Path("/xdg/a2a")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_STATE_HOME", "elsewhere")
    assert state_dir() == Path("/home/someone/.local/state/a2a"), "a relative one does not count"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_dir() == Path("/home/someone/.local/state/a2a")


def test_a_user_without_a_home_is_told_what_to_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.delenv("A2A_STATE_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    with pytest.raises(StateDirectoryError, match="has no home .*; name a state directory with A2A_STATE_DIR"):
        state_dir()
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path))
    assert state_dir() == tmp_path


def test_tokens_are_drawn_once_and_only_the_user_can_read_them() -> None:
    assert load_tokens(URL) is None
    tokens = provide_tokens(URL)
    assert tokens == provide_tokens(URL) == load_tokens(URL)
    assert tokens.token != tokens.operator_token
    for path in coordinator_dir(URL).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for directory in (coordinator_dir(URL), coordinator_dir(URL).parent, state_dir()):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_what_opens_a_gateway_is_drawn_once_or_given_and_apart_from_a_coordinator() -> None:
    drawn, path = provide_gateway_token("http://127.0.0.1:7480")
    assert provide_gateway_token("http://localhost:7480") == (drawn, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_tokens("ws://127.0.0.1:7480") is None
    assert provide_gateway_token("http://127.0.0.1:7480", token="given") == ("given", path)
    assert path.read_text() == "given\n"
    path.write_text("")
    assert provide_gateway_token("http://127.0.0.1:7480")[0] not in ("", "given", drawn)


def test_names_of_this_machine_are_one_place_and_ports_are_apart() -> None:
    assert coordinator_dir("ws://localhost:7420/") == coordinator_dir(URL)
    assert coordinator_dir("ws://127.0.0.1:7421") != coordinator_dir(URL)


def test_secrets_are_kept_for_each_principal_apart() -> None:
    assert load_secret(URL, "a/b") is None
    one, two = provide_secret(URL, "a/b"), provide_secret(URL, "a_b")
    assert one != two
    assert (load_secret(URL, "a/b"), load_secret(URL, "a_b")) == (one, two)
    [first, _] = sorted((coordinator_dir(URL) / "secrets").iterdir())
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_processes_that_are_first_at_the_same_time_agree_on_one_secret() -> None:
    begin = threading.Barrier(8)

    def provide(_: int) -> str:
        begin.wait(10)
        return provide_secret(URL, "twin")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(provide, range(8)))) == 1
    assert [path.name[:4] for path in (coordinator_dir(URL) / "secrets").iterdir()] == ["twin"]


def incarnation_file(principal: str) -> Path:
    secret = secret_files(URL, principal)[0]
    return secret.with_name(f"{secret.name}.incarnation")


def test_every_start_is_newer_than_those_before_whatever_the_clock_says() -> None:
    provide_secret(URL, "agent")
    assert [next_incarnation(URL, "agent", clock) for clock in (9_000, 9_000, 100, 9_500)] == [
        9_000,
        9_001,
        9_002,
        9_500,
    ]
    assert next_incarnation(URL, "another", 100) == 100
    assert stat.S_IMODE(incarnation_file("agent").stat().st_mode) == 0o600
    assert provide_secret(URL, "agent") == load_secret(URL, "agent")
    assert next_incarnation(URL, "agent", 2**53 - 1) == next_incarnation(URL, "agent", 1) == 2**53 - 1


def test_processes_that_start_at_once_have_a_number_each() -> None:
    provide_secret(URL, "agent")
    next_incarnation(URL, "agent", 9_000)
    begin = threading.Barrier(8)

    def start(_: int) -> int:
        begin.wait(10)
        return next_incarnation(URL, "agent", 100)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(start, range(8))) == list(range(9_001, 9_009))


@pytest.mark.parametrize("kept", [b"", b"no number", b"-5", b"9" * 17, b"\xff"])
def test_a_number_that_was_damaged_counts_for_nothing(kept: bytes, caplog: pytest.LogCaptureFixture) -> None:
    provide_secret(URL, "agent")
    incarnation_file("agent").write_bytes(kept)
    assert next_incarnation(URL, "agent", 100) == 100
    assert (f"{incarnation_file('agent')}: expected the number of the newest start" in caplog.text) is (kept != b"")
    assert next_incarnation(URL, "agent", 1) == 101


@pytest.mark.parametrize("call", ["open", "pwrite"], ids=["only read", "full"])
def test_a_number_that_cannot_be_kept_is_beyond_the_one_that_is(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    provide_secret(URL, "agent")
    next_incarnation(URL, "agent", 9_000)

    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS if call == "open" else errno.ENOSPC, "no")

    monkeypatch.setattr(os, call, refuse)
    assert next_incarnation(URL, "agent", 100) == 9_001
    assert next_incarnation(URL, "never here", 100) == 100


def test_the_numbers_of_starts_go_along_with_a_ledger_that_was_moved(tmp_path: Path) -> None:
    ledger, moved = tmp_path / "ledger.db", tmp_path / "moved.db"
    ledger.touch()
    provide_tokens(URL)
    with keep_secrets_with(URL, ledger):
        provide_secret(URL, "agent")
        next_incarnation(URL, "agent", 9_000)
    ledger.rename(moved)
    with keep_secrets_with(URL, moved):
        assert next_incarnation(URL, "agent", 100) == 9_001


def test_secrets_of_a_principal_for_other_addresses_are_found() -> None:
    urls = [f"ws://127.0.0.1:{port}" for port in (1, 2, 3, 4)]
    for url in urls[:3]:
        provide_secret(url, "desk")
    provide_secret(urls[3], "other")
    kept = [secret_files(url, "desk")[0] for url in urls]
    kept[0].write_text(kept[2].read_text())
    assert secret_files(urls[0], "desk") == (kept[0], [kept[1]]), "one that is the same would be no better"
    assert secret_files(urls[3], "desk") == (kept[3], kept[:3])
    kept[2].write_bytes(b"\xff")
    assert secret_files(urls[3], "desk") == (kept[3], kept[:2])


def test_a_secret_stays_inside_the_directory_whatever_the_name() -> None:
    provide_secret(URL, "../../../etc/x")
    inside = coordinator_dir(URL) / "secrets"
    assert [path.parent for path in inside.rglob("*") if path.is_file()] == [inside]


def test_a_token_that_was_lost_is_drawn_again() -> None:
    lost = provide_tokens(URL)
    lost.token_file.write_text("")
    tokens = provide_tokens(URL)
    assert tokens == load_tokens(URL)
    assert tokens.operator_token == lost.operator_token
    assert len(tokens.token) == len(lost.token)


def test_what_is_kept_and_cannot_be_read_is_named() -> None:
    provide_secret(URL, "ann")
    [secret] = (coordinator_dir(URL) / "secrets").iterdir()
    secret.write_text("")
    with pytest.raises(StateDirectoryError, match=f"{secret} is empty; put the secret of ann back"):
        provide_secret(URL, "ann")
    token = provide_tokens(URL).token_file
    token.write_bytes(b"\xff")
    for read in (load_tokens, provide_tokens):
        with pytest.raises(StateDirectoryError, match=f"{token} is not text"):
            read(URL)


def test_what_belongs_to_somebody_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    token = provide_tokens(URL).token_file

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StateDirectoryError, match=f"^{token} cannot be read: Permission denied"):
        load_tokens(URL)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(StateDirectoryError, match=f"{state_dir()} cannot be accessed: Permission denied"):
        check_state_dir()


def test_a_file_that_cannot_be_read_for_any_reason_is_named() -> None:
    token = provide_tokens(URL).token_file
    token.unlink()
    token.mkdir()
    with pytest.raises(StateDirectoryError, match=f"^{token} cannot be read: Is a directory"):
        load_tokens(URL)


def test_a_state_directory_that_is_a_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "file"))
    with pytest.raises(StateDirectoryError, match="file is not a directory; A2A_STATE_DIR names it"):
        check_state_dir()


def test_a_state_directory_that_cannot_be_made_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_state_dir()
    assert not state_dir().exists(), "it was only tried"
    (tmp_path / "file").touch()
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "file" / "a2a"))
    with pytest.raises(StateDirectoryError, match="file/a2a cannot be made: Not a directory"):
        check_state_dir()
    with pytest.raises(StateDirectoryError, match="cannot be made: Not a directory"):
        provide_secret("ws://127.0.0.1:1", "someone")


def test_of_a_state_directory_that_was_not_named_it_is_told_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("A2A_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(StateDirectoryError, match="file/a2a cannot be made: .*; A2A_STATE_DIR can name another one"):
        check_state_dir()


def test_a_state_directory_that_is_only_read_will_do_where_something_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    state_dir().mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(StateDirectoryError, match="has no secrets, and cannot be written; A2A_STATE_DIR names it"):
        check_state_dir()
    provide_secret(URL, "someone")
    check_state_dir()


def test_a_directory_that_cannot_be_written_is_named_with_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    provide_tokens(URL)

    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)  # root may write everywhere
    with pytest.raises(StateDirectoryError, match=r"someone-.* cannot be written: Permission denied; A2A_STATE_DIR"):
        provide_secret(URL, "someone")


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "ws://127.0.0.1:many", "ws://[::1"])
def test_what_is_no_address_has_no_directory(url: str) -> None:
    with pytest.raises(ConnectError, match="is not the address of a coordinator; expected ws://host:port"):
        coordinator_dir(url)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here is always full")
def test_what_a_full_disk_does_not_keep_is_named_and_not_left_half(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, *how: str, **options: str) -> object:
        os.close(descriptor)
        return Path("/dev/full").open("w", encoding="utf-8")

    monkeypatch.setattr(os, "fdopen", full)
    directory = coordinator_dir(URL)
    with pytest.raises(StateDirectoryError, match=f"{directory}/.* cannot be written: No space left"):
        provide_tokens(URL)
    with pytest.raises(StateDirectoryError, match=f"{directory}/secrets/.* cannot be written: No space left"):
        provide_secret(URL, "someone")
    assert [path for path in directory.rglob("*") if path.is_file()] == []


def test_a_relay_is_known_as_what_is_behind_it_and_only_as_long_as_it_is_there() -> None:
    relay = "ws://127.0.0.1:7421"
    tokens = provide_tokens(URL)
    with known_as(relay, URL):
        known = load_tokens(relay)
        assert known is not None
        assert known.token == tokens.token
        assert provide_secret(relay, "planner") == provide_secret(URL, "planner")
    assert load_tokens(relay) is None
    assert not coordinator_dir(relay).is_symlink()
    assert load_secret(URL, "planner") is not None


def test_what_a_killed_relay_left_is_in_nobodys_way() -> None:
    relay, other = "ws://127.0.0.1:7421", "ws://127.0.0.1:7422"
    provide_tokens(other)
    coordinator_dir(relay).symlink_to(coordinator_dir(other))
    tokens = provide_tokens(URL)
    with known_as(relay, URL):
        known = load_tokens(relay)
        assert known is not None
        assert known.token == tokens.token
    assert load_tokens(other) is not None


def test_a_relay_takes_no_place_that_a_coordinator_has() -> None:
    relay = "ws://127.0.0.1:7421"
    tokens = provide_tokens(relay)
    with pytest.raises(StateDirectoryError, match="has the tokens of a coordinator that was at ws://127.0.0.1:7421"):
        with known_as(relay, URL):
            pytest.fail("it is taken")
    assert load_tokens(relay) == tokens
    with pytest.raises(StateDirectoryError, match="expected two addresses"), known_as(URL, "ws://localhost:7420"):
        pytest.fail("it is the same")
