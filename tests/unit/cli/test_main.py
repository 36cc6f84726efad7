"""The command `a2a`: loading, and what becomes of errors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from a2a import errors
from a2a.cli import main as main_module
from a2a.cli.exits import ExitCode, Failure
from a2a.cli.main import COMMANDS, cli, exit_code, main


def test_help_loads_nothing_that_costs_time() -> None:
    program = (
        "import sys; from a2a.cli.main import run; code = run(['--help'])\n"
        "heavy = {'pydantic', 'websockets', 'msgpack', 'anyio', 'asyncio', 'rich', 'json', 'logging', 'a2a.errors'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy or code else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("columns, width", [("60", 58), ("20", 50), ("500", 78), ("0", 78), ("many", 78)])
def test_help_is_as_wide_as_the_terminal_within_reason(
    command: Any, monkeypatch: pytest.MonkeyPatch, columns: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = command("--help").out.splitlines()
    assert width - 12 < max(map(len, lines)) <= width


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_help_page_can_be_loaded(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert isinstance(command, click.Command)
    assert command.name == name


def test_every_command_has_a_help_page(command: Any) -> None:
    def walk(group: click.Group, path: list[str]) -> None:
        for name in group.list_commands(click.Context(group)):
            found = group.get_command(click.Context(group), name)
            assert found is not None
            done = command(*path, name, "--help")
            assert done.code == 0, done.err
            assert f"Usage: a2a {' '.join([*path, name])}" in done.out
            if isinstance(found, click.Group):
                walk(found, [*path, name])

    walk(cli, [])


def test_every_command_that_says_something_can_say_it_in_json() -> None:
    def without(group: click.Group, path: str) -> list[str]:
        found = []
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            assert command is not None
            if isinstance(command, click.Group):
                found += without(command, f"{path}{name} ")
            elif not any("--json" in parameter.opts for parameter in command.params):
                found.append(f"{path}{name}")
        return found

    # The first two write JSON and nothing else, the third a script.
    assert without(cli, "") == ["mcp", "schema export", "completion"]


@pytest.mark.parametrize("level", ["foo", "10"])
def test_a_level_that_is_none_is_a_usage_error(command: Any, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("A2A_LOG", level)
    done = command("task", "ls")
    assert done.code == 2
    assert f"A2A_LOG: expected DEBUG, INFO, WARNING, ERROR or CRITICAL, got '{level}'" in done.err


def test_an_address_that_is_none_is_told_as_that(command: Any) -> None:
    done = command("task", "ls", "--url", "ws://127.0.0.1:99999")
    assert done.code == 3
    assert done.err == "a2a: ws://127.0.0.1:99999 is not the address of a coordinator; expected ws://host:port\n"


def test_a_name_that_no_machine_can_have_is_told_without_another_try(command: Any) -> None:
    for name in ("a" * 64, "a..b"):
        done = command("task", "ls", "--url", f"ws://{name}:7420")
        assert done.code == 3
        assert done.err.startswith(f"a2a: the name {name} is not valid: ")


def test_an_unknown_command_is_a_usage_error(command: Any) -> None:
    done = command("dalegate")
    assert done.code == 2
    assert "No such command 'dalegate'" in done.err


def test_the_version_is_told(command: Any) -> None:
    assert command("--version").out.startswith("a2a 0.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConnectError("x"), 3),
        (errors.ConnectionLost("x"), 3),
        (errors.Unauthenticated("x"), 3),
        (errors.Forbidden("x"), 1),
        (TimeoutError("x"), 4),
        (errors.TaskFailed("t", "error"), 5),
        (errors.TaskCanceled("t", "canceled"), 5),
        (errors.TaskFailed("t", "unconfirmed"), 5),
        (errors.TaskFailed("t", "rejected", "too short"), 7),
        (errors.TaskRejected("t", "rejected"), 7),
        (errors.StoreLocked("x"), 1),
        (errors.A2AError("x"), 1),
        (OSError(98, "in use"), 1),
        (Failure("x"), 1),
        (Failure("x", ExitCode.LEDGER_LOST), 70),
        (click.UsageError("x"), 2),
        (click.Abort(), 130),
        (KeyError("x"), 1),
    ],
    ids=repr,
)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make a command `fail` that raises what it is given."""

    def make(error: BaseException) -> None:
        @click.command()
        def fail() -> None:
            raise error

        monkeypatch.setitem(main_module.COMMANDS, "fail", (".main", "fail", "Fail."))
        monkeypatch.setattr(main_module, "fail", fail, raising=False)

    return make


def test_an_error_is_a_sentence_without_a_traceback(command: Any, failing: Any) -> None:
    failing(errors.Forbidden("not for \x1b[31myou"))
    done = command("fail")
    assert (done.code, done.out) == (1, "")
    assert done.err == "a2a: forbidden: not for \\x1b[31myou\n"


def test_an_error_in_a_group_is_found(command: Any, failing: Any) -> None:
    failing(ExceptionGroup("outer", [ExceptionGroup("inner", [errors.TaskFailed("main-1", "error", "no")])]))
    done = command("fail")
    assert (done.code, done.err) == (5, "a2a: task main-1: error: no\n")


def test_a_bug_is_called_one(command: Any, failing: Any) -> None:
    failing(KeyError("x"))
    done = command("fail")
    assert done.code == 1
    assert done.err == "a2a: KeyError: 'x' (a bug; A2A_LOG=DEBUG shows where)\n"


def test_an_error_of_the_system_is_told_without_its_number(command: Any, failing: Any) -> None:
    failing(FileNotFoundError(2, "No such file or directory", "there"))
    assert command("fail").err == "a2a: there: No such file or directory\n"


def test_a_working_directory_that_was_removed_is_told(
    command: Any, failing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    failing(FileNotFoundError(2, "No such file or directory"))
    assert command("fail").err == "a2a: the working directory no longer exists: go to one that does\n"
    monkeypatch.chdir(tmp_path)
    assert command("fail").err == "a2a: No such file or directory\n"


def test_the_code_stands_where_nobody_can_be_told_why() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        for arguments, code in (
            (["replay", "/"], ExitCode.USAGE),
            (["task", "ls", "--url", "ws://x.invalid:1"], ExitCode.NOT_CONNECTED),
        ):
            command = [sys.executable, "-m", "a2a", *arguments]
            assert subprocess.run(command, stderr=gone, timeout=30, check=False).returncode == code


def test_ctrl_c_ends_with_130(command: Any, failing: Any) -> None:
    failing(KeyboardInterrupt())
    assert command("fail").code == 130


def test_where_nothing_listens_a_way_on_is_named(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A2A_URL", "ws://127.0.0.1:1")
    done = command("task", "ls")
    assert done.code == 3
    assert done.err.startswith("a2a: nothing listens at 127.0.0.1:1\n")
    assert "`a2a coordinator run` starts one, `a2a dev` " in done.err


def test_main_exits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
