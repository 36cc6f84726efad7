from __future__ import annotations

import sys

import pytest

from benchmarks.peers.roles import play


def test_the_role_named_is_played_beside_the_port_named(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[tuple[str, int]] = []

    async def worker(port: int) -> None:
        played.append(("worker", port))

    async def client(port: int) -> None:
        played.append(("client", port))

    monkeypatch.setattr(sys, "argv", ["peer", "client", "--port", "7"])
    play("A peer.", {"worker": worker, "client": client})
    assert played == [("client", 7)]


def test_another_role_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["peer", "judge", "--port", "7"])
    with pytest.raises(SystemExit) as ended:
        play("A peer.", {})
    assert ended.value.code == 2
