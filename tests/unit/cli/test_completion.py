"""`a2a completion`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from a2a.cli.completion import SHELLS, VARIABLE
from a2a.cli.main import COMMANDS

BOUND = 30


def completed(*words: str, shell: str = "bash", check: str = "") -> list[str]:
    """Return what a tab after these words offers, as the script asks for it."""
    program = f"import sys; from a2a.cli.main import run\ntry: run([])\nfinally: {check or 'pass'}"
    asked = {VARIABLE: f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True, timeout=BOUND,
        check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("shell", list(SHELLS))
def test_each_shell_gets_a_script_that_asks_a2a(command: Any, shell: str) -> None:
    done = command("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in done.out
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=done.out, text=True, check=True, timeout=BOUND)


def test_the_script_of_bash_completes(command: Any, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    a2a = tmp_path / "a2a"
    a2a.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m a2a "$@"\n')
    a2a.chmod(0o755)
    words = 'COMP_WORDS=(a2a do); COMP_CWORD=1; _a2a_completion a2a do a2a; echo "${COMPREPLY[@]}"'
    program = f"{command('completion', 'bash').out}\n{words}"
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", program], env=env, capture_output=True, text=True, timeout=BOUND, check=False)
    assert (done.stdout, done.stderr) == ("doctor\n", "")


def test_without_a_name_it_is_the_users_shell(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/usr/local/bin/fish")
    assert command("completion").out == command("completion", "fish").out
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    done = command("completion")
    assert done.code == 2
    assert "expected one of bash, zsh, fish; $SHELL names tcsh" in done.err


def test_commands_and_their_options_are_offered() -> None:
    assert completed("a2a", "") == list(COMMANDS)
    assert completed("a2a", "do") == ["doctor"]
    assert completed("a2a", "task", "sh") == ["show"]
    assert "--concurrency" in completed("a2a", "agent", "exec", "--con")


def test_a_tab_loads_nothing_that_costs_time() -> None:
    heavy = "print('x,' + repr({'pydantic', 'websockets', 'msgpack', 'anyio', 'asyncio', 'rich'} & set(sys.modules)))"
    assert completed("a2a", "doc", check=heavy) == ["doctor", "set()"]
