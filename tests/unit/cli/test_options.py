"""What every command shares."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import anyio
import click
import pytest
from click.testing import CliRunner

from a2a import Client, LinkSettings, connect
from a2a.cli.options import Common, Connection, common_options, connection_options, read_token, retyped
from a2a.cli.output import Output
from a2a.credentials import DEFAULT_URL, default_ledger
from a2a.hosting import host


@click.command()
@click.argument("word")
@common_options(timeout=7.0)
def shared(common: Common, word: str) -> None:
    click.echo(f"{word} {common!r}")


def test_a_command_gets_its_common_options_as_one(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    arguments = ["hi", "--url", "ws://here:1", "--token-file", str(token), "--json", "--quiet", "--timeout", "3"]
    expected = Common(Connection("ws://here:1", "secret", token), Output(as_json=True, is_quiet=True), 3.0)
    assert CliRunner().invoke(shared, arguments).output == f"hi {expected!r}\n"


def test_the_url_comes_from_the_environment_and_the_timeout_from_the_command() -> None:
    expected = Common(Connection("ws://there:2", None), Output(), 7.0)
    assert CliRunner(env={"A2A_URL": "ws://there:2"}).invoke(shared, ["hi"]).output == f"hi {expected!r}\n"


@pytest.mark.parametrize(
    ("connection", "options"),
    [
        (Connection(DEFAULT_URL, None), ""),
        (Connection("ws://there:2", "secret"), " --url ws://there:2"),
        (Connection(DEFAULT_URL, "secret", Path("/my files/token")), " --token-file '/my files/token'"),
        (Connection("wss://[::1]:3", "s", Path("token")), f" --url 'wss://[::1]:3' --token-file {Path.cwd()}/token"),
    ],
)
def test_a_command_to_type_finds_the_same_coordinator(connection: Connection, options: str) -> None:
    assert connection.typed("task show main-1") == f"a2a task show main-1{options}"


def test_the_commands_in_what_an_agent_says_find_the_readers_coordinator() -> None:
    said = "a2a task show m-1 tells, a2a task cancel m-1 ends it (a2a conflict show m-k2): a2a context get m-c3 a/b."
    at = " --url ws://there:1"
    assert retyped(said, at) == (
        f"a2a task show m-1{at} tells, a2a task cancel m-1{at} ends it (a2a conflict show m-k2{at}): "
        f"a2a context get m-c3 a/b{at}."
    )
    assert retyped(said, "") == said
    for other in ("a2a coordinator", "a2a task ls", "aa2a task show m-1", "read a2a task show, please"):
        assert retyped(other, at) == other


@pytest.mark.parametrize("given", ["nan", "inf", "0", "-1", "soon"])
def test_a_timeout_that_is_no_duration_is_a_usage_error(given: str) -> None:
    done = CliRunner().invoke(shared, ["hi", "--timeout", given])
    assert (done.exit_code, "Invalid value for '--timeout'" in done.output) == (2, True)


def test_the_own_options_of_a_command_stand_before_the_common_ones() -> None:
    @click.command()
    @click.option("--own")
    @connection_options
    def command(connection: Connection, own: str) -> None: ...

    names = [parameter.name for parameter in command.params]
    assert names == ["own", "url", "token_file"]


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_token_file_without_a_token_is_a_usage_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(click.BadParameter, match="token"):
        read_token(path)


def test_a_token_file_that_is_no_text_is_told_without_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"secret\xff")
    with pytest.raises(click.BadParameter, match="token: expected a token, as UTF-8 text$"):
        read_token(tmp_path / "token")


def test_no_token_file_is_no_token() -> None:
    assert read_token(None) is None


def test_work_runs_with_a_client_that_is_an_operator(world: Any) -> None:
    async def work(client: Client) -> bool:
        return client.is_operator

    assert Common(Connection(world.url, None), Output(), 20.0).run(work)


def test_work_that_takes_too_long_is_a_timeout(world: Any) -> None:
    async def work(client: Client) -> None:
        async with client.delegate("nobody has this") as task:
            await task.result()

    with pytest.raises(TimeoutError, match=r"not done within 0\.2 s$"):
        Common(Connection(world.url, None), Output(), 0.2).run(work)


def test_a_coordinator_that_says_nothing_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TimeoutError, match=rf"^not done within 0\.2 s: {url} has not answered$"):
            Common(Connection(url, None), Output(), 0.2).run(lambda client: client.list())


def test_a_timeout_of_the_work_itself_is_left_alone(world: Any) -> None:
    async def work(client: Client) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        Common(Connection(world.url, None), Output(), 20.0).run(work)


def test_what_only_looks_reads_the_ledger_where_no_coordinator_runs(
    monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    async def leave_a_task() -> str:
        ledger = default_ledger()
        ledger.parent.mkdir(parents=True)
        async with host(ledger) as hosted:
            settings = LinkSettings(url=hosted.url, token=hosted.tokens.token, secrets={})
            async with connect(settings=settings, name="reader") as client:  # as the command calls itself
                async with client.delegate("nothing", key="k"):
                    return hosted.url

    url = anyio.run(leave_a_task)
    elsewhere = command("task", "ls", "--url", url)
    assert (elsewhere.code, "nothing listens" in elsewhere.err) == (3, True), "only the default one's ledger is known"
    monkeypatch.setattr("a2a.cli.options.DEFAULT_URL", url)
    listed = command("task", "ls", "--url", url)
    assert (listed.code, "nothing" in listed.out) == (0, True)
    assert "no coordinator runs here" in listed.err
    assert command("task", "cancel", "main-3", "--url", url).code == 3, "changing needs a coordinator"


def test_a_ledger_that_a_coordinator_elsewhere_has_open_is_not_read(
    monkeypatch: pytest.MonkeyPatch, command: Any
) -> None:
    nobody = "ws://127.0.0.1:1"
    monkeypatch.setattr("a2a.cli.options.DEFAULT_URL", nobody)

    async def listed() -> Any:
        default_ledger().parent.mkdir(parents=True)
        async with host(default_ledger()):
            return await anyio.to_thread.run_sync(lambda: command("task", "ls", "--url", nobody))

    done = anyio.run(listed)
    assert (done.code, done.out) == (3, "")
    elsewhere = f"a2a: a coordinator has {default_ledger()} open, but does not listen at {nobody}: give its address"
    assert elsewhere in done.err
    assert "no coordinator runs here" not in done.err


@pytest.mark.parametrize("arguments", [("task", "ls"), ("task", "show", "main-3"), ("conflict", "ls")])
def test_a_ledger_does_not_answer_for_a_coordinator_that_refuses(
    monkeypatch: pytest.MonkeyPatch, world: Any, command: Any, arguments: tuple[str, ...]
) -> None:
    async def leave_a_ledger() -> None:
        default_ledger().parent.mkdir(parents=True, exist_ok=True)
        async with host(default_ledger()):
            pass

    anyio.run(leave_a_ledger)
    monkeypatch.setattr("a2a.cli.options.DEFAULT_URL", world.url)
    monkeypatch.setenv("A2A_TOKEN", "another")
    done = command(*arguments)
    assert (done.code, done.out) == (3, "")
    assert f"{world.url} refused" in done.err
    assert "auth: the token does not open this namespace" in done.err
