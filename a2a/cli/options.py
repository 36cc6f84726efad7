"""What all commands share: their options, how they connect, and the exit codes.

Light on purpose: slow modules are imported only when a command runs.
"""

from __future__ import annotations

import functools
import math
import re
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from ..credentials import DEFAULT_URL, check_state_dir
from .exits import ExitCode, Failure
from .output import Output
from .parameters import Seconds

if TYPE_CHECKING:
    from ..client import Client

__all__ = [
    "Common",
    "Connection",
    "common_options",
    "connection_options",
    "read_token",
    "ready_json_option",
    "require_extra",
    "retyped",
]

T = TypeVar("T")
_WORD: Final = r"[\w./~-]*\w"
_COMMANDS: Final = re.compile(rf"\ba2a (?:(?:task (?:show|cancel)|conflict show) {_WORD}|context get {_WORD} {_WORD})")


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the coordinator is, and the token for it."""

    url: str
    token: str | None
    """None: A2A_TOKEN, else the one in this user's state directory for the URL."""
    token_file: Path | None = None
    """The file that the token is from, if one was named."""

    def client(self) -> Client:
        """Return a client to enter. It is an operator if this user has the operator's token.

        Raises:
            StateDirectoryError: there is no place to keep this user's secret.
        """
        from ..client import connect

        check_state_dir()
        return connect(self.url, token=self.token, operator=True)

    def lasting_client(self, name: str) -> Client:
        """Return a client to enter under a name, for a command that stays: it waits for its coordinator without limit.

        Raises:
            StateDirectoryError: there is no place to keep its secret.
        """
        from ..client import connect
        from ..link import settings_with

        check_state_dir()
        settings = replace(settings_with(None, url=self.url, token=self.token), patience=math.inf)
        return connect(name=name, settings=settings)

    def typed(self, words: str) -> str:
        """Return `a2a WORDS` as a user types it to reach the same coordinator, in this terminal or another."""
        return f"a2a {words}{self.options}"

    @property
    def options(self) -> str:
        """The options of such a command, with a leading space; empty if commands need none to find the coordinator."""
        named = {}
        if self.url != DEFAULT_URL:  # even if A2A_URL names it, which another terminal may not have
            named["--url"] = self.url
        if self.token_file is not None:
            named["--token-file"] = str(self.token_file.absolute())
        return "".join(f" {option} {shlex.quote(value)}" for option, value in named.items())


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command has."""

    connection: Connection
    out: Output
    timeout: float | None
    """Seconds for the whole command; None: as long as it takes."""

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Connect, do the work, and return its result.

        Raises:
            TimeoutError: it took longer than the timeout.
        """
        return self._run(self.connection.client, work)

    def read(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do work that only reads: as `run`, but from the ledger if no coordinator runs on this machine.

        Raises:
            TimeoutError: it took longer than the timeout.
        """
        from ..credentials import default_ledger
        from ..errors import ConnectError, StoreError, StoreLocked

        try:
            return self.run(work)
        except ConnectError as error:
            ledger = default_ledger()
            # A coordinator that refuses us may have another ledger.
            if not error.is_absent or self.connection.url != DEFAULT_URL or not ledger.exists():
                raise
            try:
                return self._run(lambda: self._left_behind(ledger), work)
            except StoreLocked as exc:
                elsewhere = f"a coordinator has {ledger} open, but does not listen at {DEFAULT_URL}"
                raise Failure(f"{elsewhere}: give its address with --url or A2A_URL", ExitCode.NOT_CONNECTED) from exc
            except StoreError as exc:
                raise Failure(f"nothing listens at {DEFAULT_URL}, and the ledger cannot be read: {exc}") from exc

    def _run(
        self, enter: Callable[[], AbstractAsyncContextManager[Client]], work: Callable[[Client], Awaitable[T]]
    ) -> T:
        import asyncio

        async def connected() -> T:
            is_in = False
            try:
                async with asyncio.timeout(self.timeout) as bound, enter() as client:
                    is_in = True
                    return await work(client)
            except TimeoutError as exc:
                if not bound.expired():
                    raise
                why = "" if is_in else f": {self.connection.url} has not answered"
                raise TimeoutError(f"not done within {self.timeout:g} s{why}") from exc

        return asyncio.run(connected())

    @asynccontextmanager
    async def _left_behind(self, ledger: Path) -> AsyncIterator[Client]:
        from ..client import connect
        from ..hosting import reading

        async with reading(ledger) as settings, connect(name="reader", settings=settings) as client:
            self.out.note(f"no coordinator runs here; this is how it left {ledger}")
            yield client


def retyped(text: str, options: str) -> str:
    """Return an agent's text with commands that reach the reader's coordinator, whose address no agent knows.

    Args:
        options: see `Connection.options`. They are appended to the commands that agents mention: to look at a task or
            cancel it, to look at a conflict, to read a key of a context.
    """
    return _COMMANDS.sub(lambda found: found[0] + options, text)


def require_extra(command: str, extra: str, *modules: str) -> None:
    """Check that the packages of an extra are installed.

    Raises:
        Failure: they are not; the error says what to install.
    """
    try:
        for module in modules:
            import_module(module)
    except ModuleNotFoundError as error:
        needs = " and ".join(modules)
        raise Failure(f"`a2a {command}` needs {needs}: pip install 'a2a-coordinator[{extra}]'") from error


def read_token(path: Path | None, option: str = "--token-file") -> str | None:
    """Return the token in the file that an option names.

    Raises:
        BadParameter: the file cannot be read, or holds no token.
    """
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}", param_hint=option) from exc
    except UnicodeDecodeError as exc:
        raise click.BadParameter(f"{path}: expected a token, as UTF-8 text", param_hint=option) from exc
    if not token:
        raise click.BadParameter(f"{path}: expected a token, got an empty file", param_hint=option)
    return token


_URL = click.option(
    "--url",
    envvar="A2A_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="The coordinator's address.",
)
_TOKEN_FILE = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the namespace's token is; A2A_TOKEN is the token itself.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
ready_json_option = click.option(
    "--ready-json",
    "--json",
    "ready_json",
    is_flag=True,
    help="When ready, write one JSON object with the address to stdout.",
)
"""For commands that serve until they are stopped."""
_QUIET = click.option(
    "--quiet", "-q", "is_quiet", is_flag=True, help="Print only the result, errors, and what needs a person."
)


def connection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --url and --token-file; the command gets them as one `Connection`, its first argument."""

    @_URL
    @_TOKEN_FILE
    @functools.wraps(function)
    def wrapper(*args: Any, url: str, token_file: Path | None, **options: Any) -> Any:
        return function(Connection(url, read_token(token_file), token_file), *args, **options)

    return wrapper


def common_options(timeout: float | None = 30.0) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --url, --token-file, --json, --quiet and --timeout; the command gets them as one `Common`, first."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @connection_options
        @_JSON
        @_QUIET
        @click.option(
            "--timeout",
            type=Seconds(min=0, min_open=True),
            default=timeout,
            show_default=timeout is not None,
            metavar="SECONDS",
            help="The limit for the whole command.",
        )
        @functools.wraps(function)
        def wrapper(
            connection: Connection, *args: Any, as_json: bool, is_quiet: bool, timeout: float | None, **options: Any
        ) -> Any:
            return function(Common(connection, Output(as_json, is_quiet), timeout), *args, **options)

        return wrapper

    return decorate
