"""Tokens and secrets in the user's state directory."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from a2a.credentials import (
    coordinator_dir,
    keep_secret,
    load_secret,
    load_tokens,
    provide_tokens,
    save_secret,
    state_dir,
)

URL = "ws://127.0.0.1:7420"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))


def test_the_state_directory_can_be_named_and_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert state_dir() == tmp_path / "state"
    monkeypatch.delenv("A2A_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert state_dir() == Path("/xdg/a2a")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert state_dir() == Path("/home/someone/.local/state/a2a")


def test_tokens_are_drawn_once_and_only_the_user_can_read_them() -> None:
    assert load_tokens(URL) is None
    tokens = provide_tokens(URL)
    assert tokens == provide_tokens(URL) == load_tokens(URL)
    assert tokens.token != tokens.operator_token
    for path in coordinator_dir(URL).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(coordinator_dir(URL).stat().st_mode) == 0o700


def test_names_of_this_machine_are_one_place_and_ports_are_apart() -> None:
    assert coordinator_dir("ws://localhost:7420/") == coordinator_dir(URL)
    assert coordinator_dir("ws://127.0.0.1:7421") != coordinator_dir(URL)


def test_secrets_are_kept_for_each_principal_apart() -> None:
    assert load_secret(URL, "a/b") is None
    save_secret(URL, "a/b", "one")
    save_secret(URL, "a_b", "two")
    assert (load_secret(URL, "a/b"), load_secret(URL, "a_b")) == ("one", "two")
    [first, _] = sorted((coordinator_dir(URL) / "secrets").iterdir())
    assert stat.S_IMODE(first.stat().st_mode) == 0o600


def test_the_first_secret_drawn_for_a_principal_is_everybodys() -> None:
    assert keep_secret(URL, "a", "one") == "one"
    assert keep_secret(URL, "a", "two") == "one"
    assert load_secret(URL, "a") == "one"
    [kept] = (coordinator_dir(URL) / "secrets").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_a_secret_stays_inside_the_directory_whatever_the_name() -> None:
    save_secret(URL, "../../../etc/x", "s")
    inside = coordinator_dir(URL) / "secrets"
    assert [path.parent for path in inside.rglob("*") if path.is_file()] == [inside]
