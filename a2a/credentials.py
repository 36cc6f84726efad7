"""Tokens and secrets on this machine: where they are kept, so that nobody has to be asked (spec AUTH-1 to AUTH-3).

Everything is in the user's state directory, in files that only the user can read: for each coordinator (identified by
its URL) the two tokens, and for each principal its secret and the number of its agents' newest start. Used by the
server and by everything that connects to one.
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
"""Where a coordinator listens, and where peers look for it, by default."""

_INCARNATION_MAX = 2**53 - 1
"""The greatest number that a peer may send (spec WIRE-8)."""


class StateDirectoryError(A2AError):
    """The state of this user cannot be kept: a directory for it can be neither used nor made."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The token that admits to a coordinator, and the one that carries the operator's role."""

    token: str
    operator_token: str
    token_file: Path


def state_dir() -> Path:
    """Return the directory for this user's state: A2A_STATE_DIR, or a2a in the XDG state directory.

    As in the XDG specification, a relative XDG_STATE_HOME is ignored: each directory would have its own tokens.

    Raises:
        StateDirectoryError: none is named, and the user has no home, as in a container with a numeric user id.
    """
    named = os.environ.get("A2A_STATE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    try:
        home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as exc:
        raise StateDirectoryError("this user has no home directory; name a state directory with A2A_STATE_DIR") from exc
    return home / "a2a"


def check_state_dir() -> None:
    """Check that this user's state directory is a directory or can be made; it is not made here.

    Commands call it before they connect: a secret is kept once a connection stands, when an error reaches nobody.

    Raises:
        StateDirectoryError: it is something else, it cannot be made or looked at, or it is empty and cannot be written.
    """
    home = state_dir()
    try:
        is_there = _is_there(home)
    except OSError as exc:
        raise StateDirectoryError(f"the state directory {home} cannot be accessed: {exc.strerror}{_named()}") from exc
    if is_there and not home.is_dir():
        raise StateDirectoryError(f"the state directory {home} is not a directory{_named()}")
    if is_there and not os.access(home, os.W_OK) and not (home / "coordinators").exists():
        # A read-only directory will do if it has secrets.
        raise StateDirectoryError(f"the state directory {home} has no secrets, and cannot be written{_named()}")
    with _told(home):
        if not is_there:
            # Tried, because permissions do not tell it on every file system.
            above = next(parent for parent in home.absolute().parents if parent.exists())
            Path(tempfile.mkdtemp(prefix=".a2a-", dir=above)).rmdir()


def coordinator_dir(url: str) -> Path:
    """Return the directory for the state of the coordinator at `url`.

    Raises:
        ConnectError: `url` is not a valid address.
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
    """Return where a coordinator keeps its ledger by default."""
    return state_dir() / "ledgers" / f"{namespace}.db"


def provide_tokens(url: str, token: str | None = None) -> Tokens:
    """Return the tokens of the coordinator at `url`; draw them at its first start here, or use `token` for the first.

    Raises:
        StateDirectoryError: a file cannot be read, or a drawn token cannot be kept.
    """
    directory = coordinator_dir(url)
    path = directory / "token"
    _make(directory)
    return Tokens(_provided(path, token), _provided(directory / "operator-token"), path)


def load_tokens(url: str) -> Tokens | None:
    """Return the tokens that this user has for the coordinator at `url`, or None.

    Raises:
        StateDirectoryError: a file cannot be read.
    """
    directory = coordinator_dir(url)
    token = _read(directory / "token")
    if token is None:
        return None
    return Tokens(token, _read(directory / "operator-token") or "", directory / "token")


def gateway_dir(url: str) -> Path:
    """Return the directory for the state of the gateway at `url`.

    Raises:
        ConnectError: `url` is not a valid address.
    """
    return state_dir() / "gateways" / coordinator_dir(url).name


def provide_gateway_token(url: str, *, caller: str = "", token: str | None = None) -> tuple[str, Path]:
    """Return the token that admits a caller to the gateway at `url`, and its file; like `provide_tokens`.

    Args:
        url: the gateway's.
        caller: the caller's name, fit for a file name; empty if all callers are one.
        token: the token to use; by default the one on file, else a new one.

    Raises:
        StateDirectoryError: a file cannot be read, or a drawn token cannot be kept.
    """
    directory = gateway_dir(url)
    path = directory / "callers" / caller if caller else directory / "token"
    _make(path.parent)
    return _provided(path, token), path


def load_secret(url: str, principal: str) -> str | None:
    """Return the secret that `principal` shows to the coordinator at `url`, or None if it has none yet."""
    return _read(_secret_file(url, principal))


def provide_secret(url: str, principal: str) -> str:
    """Return the secret that `principal` shows to the coordinator at `url`; draw one if there is none.

    Processes of one principal that start for the first time together agree on one secret.

    Raises:
        StateDirectoryError: the file cannot be read, or is empty, when a new secret would not be the one the principal
            is bound to; or a drawn secret cannot be kept.
    """
    path = _secret_file(url, principal)
    known = _read(path)
    if known is not None:
        return known
    _make(path.parent)
    drawn = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    _create(drawn, new_secret())
    try:
        with contextlib.suppress(FileExistsError):  # another process was quicker: its secret counts
            os.link(drawn, path)
    finally:
        drawn.unlink()
    secret = _read(path)
    if secret is None:
        raise StateDirectoryError(f"{path} is empty; put the secret of {principal} back, or remove the file")
    return secret


def next_incarnation(url: str, principal: str, clock: int) -> int:
    """Return the incarnation of a start of an agent: the time, but greater than that of each earlier start (spec ID-5).

    Otherwise, an agent whose clock was ahead once, or is behind now, as after the start of a machine without a clock of
    its own, would be refused until the time has come. Processes that start at once each get their own. If the number
    cannot be kept, as in a read-only directory, it is returned anyway.

    Args:
        url: the coordinator's.
        principal: the agent's; all its agents count together.
        clock: milliseconds since the epoch.
    """
    secret = _secret_file(url, principal)
    path = secret.with_name(f"{secret.name}.incarnation")  # beside the secret, so it moves with the ledger's secrets
    number = clock
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            number = _after(path, os.pread(descriptor, 64, 0), clock)
            # In place, and always of the same length: a full disk has room for it, and no end of an older number stays.
            os.pwrite(descriptor, b"%016d\n" % number, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        log.info("%s: the number of this start of %s cannot be kept: %s", path, principal, exc.strerror)
        with contextlib.suppress(OSError):
            number = _after(path, path.read_bytes(), clock)
    return number


def _after(path: Path, kept: bytes, clock: int) -> int:
    """Return the incarnation that follows the kept one."""
    newest = int(kept) if kept.strip().isdigit() else None
    if newest is None or newest > _INCARNATION_MAX:
        if kept.strip():
            log.warning("%s: expected the number of the newest start, got %r; counting by the clock", path, kept[:20])
        return clock
    return min(max(clock, newest + 1), _INCARNATION_MAX)


def secret_files(url: str, principal: str) -> tuple[Path, list[Path]]:
    """Return the file of `principal`'s secret for this URL, and the files of its other secrets, for other URLs."""
    path = _secret_file(url, principal)
    shown, others = _read(path), []
    for other in sorted(state_dir().glob(f"coordinators/*/secrets/{path.name}")):
        with contextlib.suppress(OSError, StateDirectoryError):
            if _read(other) not in (None, shown):
                others.append(other)
    return path, others


@contextlib.contextmanager
def keep_secrets_with(url: str, ledger: Path | None) -> Iterator[None]:
    """Make the secrets for `url` those of this ledger inside the block; None: of a ledger that does not stay.

    The ledger binds principals to secrets, and peers look up secrets by URL. The same ledger under another port, or
    another ledger under the same port, would turn away every principal that was here before. So would a moved ledger,
    or a copy: it begins with the secrets that were in use at this URL, which are its own if it was the last one here.
    """
    link = coordinator_dir(url) / "secrets"
    if ledger is None:
        home = link.with_name("secrets.passing")
        shutil.rmtree(home, ignore_errors=True)  # left by a coordinator that was killed
    else:
        file = ledger.resolve()  # resolves the name too: a link is another name of the same ledger
        digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:16]
        home = state_dir() / "ledgers" / f"{_file_name(file.stem)}-{digest}.secrets"
        if file.exists() and not _secrets_in(home):  # without secrets it may have started elsewhere first, or in vain
            is_known_here = home.exists()
            if link.is_symlink():
                _copy(link, home)
            if not is_known_here and not _secrets_in(home):
                log.warning(
                    "%s was used at another address or on another machine: without their secrets, the peers it"
                    " knows are refused. The secrets are where it was used last, in coordinators/HOST_PORT/secrets of"
                    " the state directory; copy them into %s",
                    file,
                    home,
                )
    _make(home)
    if link.is_dir() and not link.is_symlink():
        link.rename(tempfile.mkdtemp(prefix="secrets.", dir=link.parent))  # issued on another machine: not ours to lose
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
    """Make this user's state for the coordinator at `other` also count at `url`, inside the block.

    For a relay: peers that connect through it show what they would show there.

    Raises:
        StateDirectoryError: `url` already has state of another coordinator.
        ConnectError: one of them is not a valid address.
    """
    link, home = coordinator_dir(url), coordinator_dir(other)
    if link == home:
        raise StateDirectoryError(f"expected two addresses, got {url} and {other}")
    _make(home)
    if link.is_symlink():
        link.unlink()  # left by a relay that was killed
    try:
        link.symlink_to(home.absolute(), target_is_directory=True)
    except FileExistsError as exc:
        raise StateDirectoryError(
            f"{link} has the tokens of a coordinator that was at {url}: use another port, or remove it"
        ) from exc
    try:
        yield
    finally:
        link.unlink(missing_ok=True)


def _is_there(path: Path) -> bool:
    """Like `Path.exists`, which since Python 3.14 returns False for a path it is not permitted to see.

    Raises:
        OSError: the path may not be looked at.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _secrets_in(directory: Path) -> list[Path]:
    """Return the complete files with secrets in a directory, which may not exist."""
    return [path for path in directory.iterdir() if not path.name.startswith(".")] if directory.is_dir() else []


def _copy(secrets: Path, home: Path) -> None:
    """Make `home` with a copy of the secrets, whole or not at all; unreadable ones are left out."""
    _make(home.parent)
    with _told(home):
        made = Path(tempfile.mkdtemp(prefix=".secrets.", dir=home.parent))
        for path in _secrets_in(secrets):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                _create(made / path.name, path.read_text(encoding="utf-8").strip())
        made.rename(home)  # replaces an empty one


def _secret_file(url: str, principal: str) -> Path:
    # The readable part is for people; the digest tells apart names that it maps together. A name that is not a text can
    # be bound nowhere: the coordinator or the frame refuses it.
    digest = hashlib.sha256(principal.encode(errors="surrogatepass")).hexdigest()[:8]
    return coordinator_dir(url) / "secrets" / f"{_file_name(principal)}-{digest}"


def _make(directory: Path) -> None:
    with _told(directory):
        # One at a time: with `parents`, those above would get the usual mode, and others could look in.
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
    """Return the end of an error about the state directory: what named it, or how to name another."""
    return f"; A2A_STATE_DIR {'names it' if os.environ.get('A2A_STATE_DIR') else 'can name another one'}"


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", text)[:80]


def _provided(path: Path, given: str | None = None) -> str:
    """Return the token in a file, after writing the given one to it, or a new one if there is none.

    A power failure may leave an empty file, which is no token.
    """
    kept = _read(path)
    token = (given or "").strip() or kept or new_secret()
    if token != kept:
        _write(path, token)
    return token


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as exc:
        raise StateDirectoryError(f"{path} is not text; put it back as it was, or remove it") from exc
    except OSError as exc:
        raise StateDirectoryError(f"{path} cannot be read: {exc.strerror}{_named()}") from exc


def _write(path: Path, text: str) -> None:
    """Write a file that only this user can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    _create(temporary, text)
    temporary.replace(path)


def _create(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as exc:  # another user's file, or a read-only file system
        raise StateDirectoryError(f"{path} cannot be written: {exc.strerror}{_named()}") from exc
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as exc:  # as on a full disk, for which the error names no file
        path.unlink(missing_ok=True)
        raise StateDirectoryError(f"{path} cannot be written: {exc.strerror}{_named()}") from exc
