"""Tokens and secrets on this machine: where they are kept, so that nobody has to be asked (spec AUTH-1 to AUTH-3).

Everything lies in the user's state directory, in files only the user can read: per coordinator (known by its URL) the
two tokens, and per principal the secret it is bound to and the number of its agents' newest start. Used by the server
and by everything that connects to one.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import A2AError, ConnectError
from .ids import new_secret

__all__ = [
    "DEFAULT_URL",
    "StateDirectoryError",
    "Tokens",
    "check_state_dir",
    "coordinator_dir",
    "default_ledger",
    "gateway_dir",
    "keep_secrets_with",
    "known_as",
    "load_secret",
    "load_tokens",
    "next_incarnation",
    "provide_gateway_token",
    "provide_secret",
    "provide_tokens",
    "secret_files",
    "state_dir",
]

log = logging.getLogger("a2a.credentials")

DEFAULT_URL = "ws://127.0.0.1:7420"
"""Where a coordinator listens, and is looked for, when nobody says otherwise."""

_INCARNATION_MAX = 2**53 - 1
"""The greatest number that a peer may say (spec WIRE-8)."""


class StateDirectoryError(A2AError):
    """What this user has to keep cannot be kept: a directory for it can neither be used nor made."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What opens a coordinator's door, and what carries the operator's role there."""

    token: str
    operator_token: str
    token_file: Path


def state_dir() -> Path:
    """Return the directory for this user's state: A2A_STATE_DIR, or a2a in the XDG state directory.

    As the XDG specification has it, a relative XDG_STATE_HOME does not count: each directory would have its own tokens.

    Raises:
        StateDirectoryError: none is named, and the user has no home, as in a container that runs under a number.
    """
    named = os.environ.get("A2A_STATE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    try:
        home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as exc:
        raise StateDirectoryError("this user has no home for the state directory; name one: A2A_STATE_DIR") from exc
    return home / "a2a"


def check_state_dir() -> None:
    """Look whether the directory for this user's state is one, or can be made; it is not made.

    For commands, before they connect: a secret has to be kept when a connection stands, where nobody could be told.

    Raises:
        StateDirectoryError: it is something else, or it is not there, and cannot be made, or nobody lets us see; or it
            is empty, and cannot be written.
    """
    home = state_dir()
    try:
        is_there = _is_there(home)
    except OSError as exc:
        raise StateDirectoryError(f"the state directory {home} cannot be looked at: {exc.strerror}{_named()}") from exc
    if is_there and not home.is_dir():
        raise StateDirectoryError(f"the state directory {home} is no directory{_named()}")
    if is_there and not os.access(home, os.W_OK) and not (home / "coordinators").exists():
        # One that is only read will do where there are secrets in it.
        raise StateDirectoryError(f"the state directory {home} has no secrets, and cannot be written{_named()}")
    with _told(home):
        if not is_there:
            # Tried, as permissions do not tell it of every file system.
            above = next(parent for parent in home.absolute().parents if parent.exists())
            Path(tempfile.mkdtemp(prefix=".a2a-", dir=above)).rmdir()


def coordinator_dir(url: str) -> Path:
    """Return the directory for what is known about the coordinator at `url`.

    Raises:
        ConnectError: there is no such address.
    """
    try:
        parts = urlsplit(url)
        named_port = parts.port
    except ValueError as exc:
        raise ConnectError(
            f"{url} is not the address of a coordinator; expected ws://host:port", is_final=True
        ) from exc
    host = {"localhost": "127.0.0.1", "::1": "127.0.0.1"}.get(parts.hostname or "", parts.hostname or "")
    port = named_port or (443 if parts.scheme == "wss" else 80)
    return state_dir() / "coordinators" / f"{_file_name(host)}_{port}"


def default_ledger(namespace: str = "main") -> Path:
    """Return where a coordinator keeps its ledger when nobody says otherwise."""
    return state_dir() / "ledgers" / f"{namespace}.db"


def provide_tokens(url: str, token: str | None = None) -> Tokens:
    """Return the tokens of the coordinator at `url`, drawing them at its first start here; `token` takes that place.

    Raises:
        StateDirectoryError: what is there cannot be read, or what is drawn cannot be kept.
    """
    directory = coordinator_dir(url)
    path = directory / "token"
    _make(directory)
    return Tokens(_provided(path, token), _provided(directory / "operator-token"), path)


def load_tokens(url: str) -> Tokens | None:
    """Return the tokens of the coordinator at `url` as far as this user has them, or None.

    Raises:
        StateDirectoryError: what is there cannot be read.
    """
    directory = coordinator_dir(url)
    token = _read(directory / "token")
    if token is None:
        return None
    return Tokens(token, _read(directory / "operator-token") or "", directory / "token")


def gateway_dir(url: str) -> Path:
    """Return the directory for what is known about the gateway at `url`.

    Raises:
        ConnectError: there is no such address.
    """
    return state_dir() / "gateways" / coordinator_dir(url).name


def provide_gateway_token(url: str, *, caller: str = "", token: str | None = None) -> tuple[str, Path]:
    """Return what opens the door of the gateway at `url` to a caller, and the file it is in: as `provide_tokens`.

    Args:
        url: of the gateway.
        caller: the caller's name, fit for a file; empty where all callers are one.
        token: what it shall be; drawn, if need be, where it is not given.

    Raises:
        StateDirectoryError: what is there cannot be read, or what is drawn cannot be kept.
    """
    directory = gateway_dir(url)
    path = directory / "callers" / caller if caller else directory / "token"
    _make(path.parent)
    return _provided(path, token), path


def load_secret(url: str, principal: str) -> str | None:
    """Return the secret that `principal` shows to the coordinator at `url`, or None where it has none yet."""
    return _read(_secret_file(url, principal))


def provide_secret(url: str, principal: str) -> str:
    """Return the secret that `principal` shows to the coordinator at `url`, drawing it where there is none.

    Processes of one principal that come first at the same time agree on one.

    Raises:
        StateDirectoryError: what is there cannot be read, or is empty: another one would not be the one it is bound to.
            Or what is drawn cannot be kept.
    """
    path = _secret_file(url, principal)
    known = _read(path)
    if known is not None:
        return known
    _make(path.parent)
    drawn = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    _create(drawn, new_secret())
    try:
        with contextlib.suppress(FileExistsError):  # another process was quicker: its secret is the one
            os.link(drawn, path)
    finally:
        drawn.unlink()
    secret = _read(path)
    if secret is None:
        raise StateDirectoryError(f"{path} is empty; put the secret of {principal} back, or remove the file")
    return secret


def next_incarnation(url: str, principal: str, clock: int) -> int:
    """Return the incarnation of a start of an agent: the time, and more than that of each start before (spec ID-5).

    A clock that was ahead once, or is behind now as after the start of a machine that has none of its own, would else
    have the agent refused until the time has come. Of processes that start at once each gets its own. Where it cannot
    be kept, as in a directory that is only read, it is returned all the same.

    Args:
        url: the coordinator's.
        principal: the agent's; all its agents count together.
        clock: milliseconds since the epoch.
    """
    secret = _secret_file(url, principal)
    path = secret.with_name(f"{secret.name}.incarnation")  # beside the secret: both are moved with the ledger's others
    number = clock
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            number = _after(path, os.pread(descriptor, 64, 0), clock)
            # In its place, and always as long: so a full disk has room for it, and no end of an older one stays.
            os.pwrite(descriptor, b"%016d\n" % number, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        log.info("%s: the number of this start of %s is not kept: %s", path, principal, exc.strerror)
        with contextlib.suppress(OSError):
            number = _after(path, path.read_bytes(), clock)
    return number


def _after(path: Path, kept: bytes, clock: int) -> int:
    """Return the incarnation that follows the one that is kept."""
    newest = int(kept) if kept.strip().isdigit() else None
    if newest is None or newest > _INCARNATION_MAX:
        if kept.strip():
            log.warning("%s: expected the number of the newest start, got %r; counting by the clock", path, kept[:20])
        return clock
    return min(max(clock, newest + 1), _INCARNATION_MAX)


def secret_files(url: str, principal: str) -> tuple[Path, list[Path]]:
    """Return where the secret of `principal` for this URL is kept, and where others of it are, for other URLs."""
    path = _secret_file(url, principal)
    shown, others = _read(path), []
    for other in sorted(state_dir().glob(f"coordinators/*/secrets/{path.name}")):
        with contextlib.suppress(OSError, StateDirectoryError):
            if _read(other) not in (None, shown):
                others.append(other)
    return path, others


@contextlib.contextmanager
def keep_secrets_with(url: str, ledger: Path | None) -> Iterator[None]:
    """Inside the block, have the secrets for `url` be those of this ledger; None: of a ledger that does not stay.

    Principals are bound in the ledger, and looked up by URL. The same ledger under another port, or another one under
    the same port, would turn away everybody who was here before. So would one that was moved, or a copy: it begins
    with the secrets that were in use at this URL, which are its own where it is what was here last.
    """
    link = coordinator_dir(url) / "secrets"
    if ledger is None:
        home = link.with_name("secrets.passing")
        shutil.rmtree(home, ignore_errors=True)  # one that was killed left it
    else:
        file = ledger.resolve()  # its name too: a link to it is another name of the same ledger
        digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:16]
        home = state_dir() / "ledgers" / f"{_file_name(file.stem)}-{digest}.secrets"
        if file.exists() and not _secrets_in(home):  # none: it may have been started elsewhere first, or in vain
            is_known_here = home.exists()
            if link.is_symlink():
                _copy(link, home)
            if not is_known_here and not _secrets_in(home):
                log.warning(
                    "%s was used at another address or on another machine: whoever it knows by a secret is turned away"
                    " without it. They are where it was used last, in coordinators/HOST_PORT/secrets of the state"
                    " directory; copy them into %s",
                    file,
                    home,
                )
    _make(home)
    if link.is_dir() and not link.is_symlink():
        link.rename(tempfile.mkdtemp(prefix="secrets.", dir=link.parent))  # issued by another machine: not ours to lose
    temporary = link.with_name(f".secrets.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(home.absolute(), target_is_directory=True)
    temporary.replace(link)
    try:
        yield
    finally:
        if ledger is None:
            shutil.rmtree(home, ignore_errors=True)
            if link.is_symlink() and link.readlink() == home.absolute():
                link.unlink(missing_ok=True)


@contextlib.contextmanager
def known_as(url: str, other: str) -> Iterator[None]:
    """Inside the block, have what this user knows of the coordinator at `other` count at `url` as well.

    For a relay: whoever connects through it shows what is shown there.

    Raises:
        StateDirectoryError: there is something about another coordinator at `url`.
        ConnectError: one of them is no address.
    """
    link, home = coordinator_dir(url), coordinator_dir(other)
    if link == home:
        raise StateDirectoryError(f"expected two addresses, got {url} and {other}")
    _make(home)
    if link.is_symlink():
        link.unlink()  # of a relay that was killed
    try:
        link.symlink_to(home.absolute(), target_is_directory=True)
    except FileExistsError as exc:
        raise StateDirectoryError(
            f"{link} has the tokens of a coordinator that was at {url}: take another port, or remove it"
        ) from exc
    try:
        yield
    finally:
        link.unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    """As `Path.exists`, which from Python 3.14 on takes what nobody lets us see for what is not there.

    Raises:
        OSError: nobody lets us see.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _secrets_in(directory: Path) -> list[Path]:
    """Return the files with secrets in a directory, which may not be there; what is still being made is none."""
    return [path for path in directory.iterdir() if not path.name.startswith(".")] if directory.is_dir() else []


def _copy(secrets: Path, home: Path) -> None:
    """Make `home` with the secrets that are elsewhere, whole or not at all; one that cannot be read is left out."""
    _make(home.parent)
    with _told(home):
        made = Path(tempfile.mkdtemp(prefix=".secrets.", dir=home.parent))
        for path in _secrets_in(secrets):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                _create(made / path.name, path.read_text(encoding="utf-8").strip())
        made.rename(home)  # in the place of an empty one


def _secret_file(url: str, principal: str) -> Path:
    # The readable part is for people; the digest tells apart what it would fold together.
    # A name that is no text can be bound nowhere: that is for the coordinator, or the frame, to refuse.
    digest = hashlib.sha256(principal.encode(errors="surrogatepass")).hexdigest()[:8]
    return coordinator_dir(url) / "secrets" / f"{_file_name(principal)}-{digest}"


def _make(directory: Path) -> None:
    with _told(directory):
        # One after the other: with `parents` those above would get the usual mode, and others could look in.
        missing = [path for path in (directory, *directory.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def _told(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StateDirectoryError(f"the state directory {directory} cannot be made: {exc.strerror}{_named()}") from exc


def _named() -> str:
    """Say behind what is wrong with the state directory how it comes to be that one, or how to name another."""
    return f"; A2A_STATE_DIR names {'it' if os.environ.get('A2A_STATE_DIR') else 'another one'}"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", text)[:80]


def _provided(path: Path, given: str | None = None) -> str:
    """Return the token in a file, where it is put if it is given, or drawn if there is none.

    A machine that lost its power may have left an empty file, which opens no door.
    """
    kept = _read(path)
    token = (given or "").strip() or kept or new_secret()
    if token != kept:
        _write(path, token)
    return token


def _read(path: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        try:
            return path.read_text(encoding="utf-8").strip() or None
        except UnicodeDecodeError as exc:
            raise StateDirectoryError(f"{path} holds no text; put it back as it was, or remove it") from exc
        except PermissionError as exc:
            raise StateDirectoryError(f"{path} cannot be read: {exc.strerror}{_named()}") from exc
    return None


def _write(path: Path, text: str) -> None:
    """Write a file that only this user can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    _create(temporary, text)
    temporary.replace(path)


def _create(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as exc:  # of another user's, or on a file system that is only read
        raise StateDirectoryError(f"{path} cannot be written: {exc.strerror}{_named()}") from exc
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as exc:  # a full disk, of which the error names no file
        path.unlink(missing_ok=True)
        raise StateDirectoryError(f"{path} cannot be written: {exc.strerror}{_named()}") from exc
