"""`a2a gateway`: what it refuses, and what it says when an extra is missing. Real processes are in tests/process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--listen", "0.0.0.0:0"), "--tls-cert, --tls-key"),
        (("--listen", "127.0.0.1:x"), "expected HOST:PORT"),
        (("--listen", "127.0.0.1:0", "--public-url", "agents"), "expected http://HOST"),
        (("--listen", "127.0.0.1:0", "--tls-key", "key.pem"), "--tls-key needs --tls-cert"),
        (("--listen", "127.0.0.1:0", "--bearer-file", "none"), "Invalid value for --bearer-file: none: "),
        (("--listen", "127.0.0.1:0", "--token-file", "none"), "Invalid value for --token-file: none: "),
        (("--listen", "127.0.0.1:0", "--grace", "-1"), "--grace"),
        (
            ("--listen", "127.0.0.1:0", "--caller", "A/B"),
            "expected a caller named by lower-case letters, digits, . and -, got 'A/B'",
        ),
        (
            ("--listen", "127.0.0.1:0", "--caller", "alice", "--bearer-file", "none"),
            "with --caller, each caller has its",
        ),
    ],
)
def test_what_cannot_be_run_is_a_usage_error_before_a_coordinator_is_looked_for(
    command: Any, arguments: tuple[str, ...], named: str
) -> None:
    done = command("gateway", *arguments)
    assert done.code == 2, done.err
    assert named in done.err


def test_an_empty_token_is_none(command: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    done = command("gateway", "--listen", "127.0.0.1:0", "--bearer-file", str(tmp_path / "token"))
    assert done.code == 2
    assert "expected a token, got an empty file" in done.err


def test_a_token_that_no_caller_can_show_is_a_usage_error(command: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel")
    done = command("gateway", "--listen", "127.0.0.1:0", "--bearer-file", str(tmp_path / "token"))
    assert done.code == 2
    assert "expected one line of printable ASCII" in done.err


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(command: Any, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    done = command("gateway")
    assert (done.code, done.out) == (1, "")
    assert done.err == "a2a: `a2a gateway` needs starlette and uvicorn: pip install 'a2a-coordinator[gateway]'\n"
