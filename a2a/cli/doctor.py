"""`a2a doctor`: check everything that has to be right, and report what is not."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import re
import shutil
import sqlite3
import ssl
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click

from ..certificates import Validity
from ..credentials import StateDirectoryError, check_state_dir, coordinator_dir, load_tokens, state_dir
from ..engine.records import from_bytes
from ..errors import ConnectError, StoreError, StoreLocked, StoreTooOld
from ..squads import SquadError, load
from ..stores.database import check
from ..stores.lock import check_free
from ..stores.reader import LedgerReader
from .exits import ExitCode, Failure
from .options import Common, Connection, common_options

__all__ = ["Finding", "doctor"]

DISTRIBUTION = "a2a-coordinator"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    what: str
    verdict: Literal["ok", "note", "wrong"]
    """`note`: it may be intended."""
    detail: str


@click.command()
@click.option("--db", type=click.Path(dir_okay=False, path_type=Path), help="Check this ledger too.")
@common_options(timeout=10.0)
def doctor(common: Common, db: Path | None) -> None:
    """Find out what is wrong with this installation, this user's state and the coordinator.

    Nothing is changed. Exit code 1: something is wrong.
    """
    # If no coordinator runs, that is wrong only if one was named.
    source = click.get_current_context().get_parameter_source("url")
    is_named = source is not click.core.ParameterSource.DEFAULT
    findings = [
        *installation(),
        *others_named_a2a(),
        *state(common.connection.url),
        asyncio.run(coordinator(common.connection, common.timeout, is_named=is_named)),
        *asyncio.run(certificate(common.connection.url, common.timeout)),
        *([] if db is None else ledger(db)),
        *helpers(),
    ]
    if common.out.as_json:
        for found in findings:
            common.out.record({"what": found.what, "verdict": found.verdict, "detail": found.detail})
    else:
        common.out.table(("", "", ""), [(found.verdict, found.what, found.detail) for found in findings])
    wrong = [found.what for found in findings if found.verdict == "wrong"]
    if wrong:
        raise Failure(f"wrong: {', '.join(wrong)}", ExitCode.FAILED)


def installation() -> Iterator[Finding]:
    """Check Python, and the packages this one needs."""
    version = ".".join(map(str, sys.version_info[:3]))
    is_new = sys.version_info >= (3, 11)
    yield Finding("Python", "ok" if is_new else "wrong", f"{version} at {sys.executable}")
    try:
        this = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        yield Finding(DISTRIBUTION, "note", "not installed: it runs from source")
        return
    yield Finding(DISTRIBUTION, "ok", f"{this.version} at {Path(__file__).parents[1]}")
    for requirement in this.requires or ():
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "wrong", f"not installed; {requirement} is needed")


def others_named_a2a() -> Iterator[Finding]:
    """Look for other packages with the import name `a2a`: in one place, they overwrite each other."""
    own = Path(__file__).parents[1]
    found = False
    for other in importlib.metadata.distributions():
        name = other.metadata["Name"] or "?"
        if name == DISTRIBUTION or not any(file.parts[0] == "a2a" for file in other.files or ()):
            continue
        found = True
        yield Finding(
            "the name a2a",
            "wrong",
            f"{name} {other.version} in {other.locate_file('')} has a package a2a too: use an environment for each",
        )
    for entry in sys.path:
        place = Path(entry or ".").resolve() / "a2a"
        try:
            is_there = (place / "__init__.py").exists()
        except OSError:  # a directory that this user may not read has nothing to import either
            continue
        if is_there and place != own.resolve():
            found = True
            yield Finding("the name a2a", "wrong", f"{place} is another package of this name on the path")
    if not found:
        yield Finding("the name a2a", "ok", "only this package has it")


def state(url: str) -> Iterator[Finding]:
    """Check whether this user's tokens and secrets are kept from others."""
    try:
        home = state_dir()
        check_state_dir()
    except StateDirectoryError as error:
        yield Finding("state directory", "wrong", str(error).removeprefix("the state directory "))
        return
    if not home.exists():
        yield Finding("state directory", "ok", f"{home} does not exist yet")
        return
    try:
        load_tokens(url)
    except StateDirectoryError as error:
        yield Finding("tokens", "wrong", str(error))
    try:
        foreign, open_to_others = _open_to_others(home, coordinator_dir(url))
    except OSError as error:  # another user's directory
        yield Finding("state directory", "wrong", f"{error.filename} cannot be accessed: {error.strerror}")
        return
    if foreign:
        detail = f"another user owns {', '.join(foreign[:3])}: run as that user, or set A2A_STATE_DIR to another path"
        yield Finding("state directory", "wrong", detail)
    elif open_to_others:
        yield Finding("state directory", "wrong", f"others may read or write {', '.join(open_to_others[:3])}")
    elif not os.access(home, os.W_OK):
        yield Finding("state directory", "wrong", f"{home} cannot be written; set A2A_STATE_DIR to another directory")
    else:
        yield Finding("state directory", "ok", str(home))


def _open_to_others(home: Path, directory: Path) -> tuple[list[str], list[str]]:
    """Return the paths that belong to another user, and those that others may read or write."""
    foreign, is_open_to_others = [], []
    for path in (home, directory, *_below(directory)):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        is_open = bool(stat.S_IMODE(status.st_mode) & (0o022 if stat.S_ISDIR(status.st_mode) else 0o077))
        if stat.S_ISLNK(status.st_mode):
            continue
        if status.st_uid != os.getuid():
            foreign.append(str(path))
        elif is_open:
            is_open_to_others.append(str(path))
    return foreign, is_open_to_others


def _below(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


async def coordinator(connection: Connection, timeout: float | None, *, is_named: bool) -> Finding:
    """Check whether the coordinator runs and lets this user in."""
    what = "coordinator"
    try:
        async with asyncio.timeout(timeout), connection.client() as client:
            role = "as an operator" if client.is_operator else "without the operator's role"
            return Finding(what, "ok", f"{connection.url} lets {client.agent_id} in, {role}; {client.durability}")
    except TimeoutError:
        return Finding(what, "wrong", f"{connection.url} does not answer")
    except StateDirectoryError:
        return Finding(what, "note", "not checked: a secret for it could not be kept")
    except ConnectError as error:
        if "refused" in str(error):
            return Finding(what, "wrong", str(error))
        # If something else listens, or an untrusted coordinator, there is no room for another.
        hint = "; `a2a coordinator run` starts one" if str(error).startswith("nothing listens") else ""
        return Finding(what, "wrong" if is_named else "note", f"{error}{hint}")


async def certificate(url: str, timeout: float | None) -> list[Finding]:
    """Check how long the coordinator's certificate lasts. The connection check has reported a rejected one."""
    try:
        where = urlsplit(url)
        if where.scheme != "wss":
            return []
        async with asyncio.timeout(timeout):
            context = ssl.create_default_context()
            _, writer = await asyncio.open_connection(where.hostname, where.port or 443, ssl=context)
            validity = Validity.of(writer.get_extra_info("peercert"))
            writer.transport.abort()
    except (OSError, ValueError):  # includes TLS errors and timeouts
        return []
    return [Finding("certificate", "note" if validity.trouble() else "ok", validity.end)]


def ledger(path: Path) -> Iterator[Finding]:
    """Check whether a ledger is whole, and who has it open."""
    what = f"ledger {path}"
    try:
        end = check(path.absolute())
    except (StoreError, OSError) as error:
        yield Finding(what, "wrong", str(error))
        return
    except sqlite3.Error as error:  # not about the file's contents: its directory cannot be written, or the like
        yield Finding(what, "wrong", f"cannot be opened: {error}")
        return
    try:
        unread = _unread(path)
    except StoreTooOld:
        yield Finding(what, "note", f"{end} records of an older version, not read: the next start brings it up to date")
    else:
        yield Finding(what, "wrong", unread) if unread else Finding(what, "ok", f"{end} records")
    if not Path(f"{path.resolve()}.lock").exists():
        return
    try:
        check_free(path.resolve())
    except StoreLocked as error:
        yield Finding(what, "ok", str(error).removeprefix(f"{path.resolve()}: ").partition(";")[0])
    except OSError as error:
        yield Finding(what, "wrong", f"its lock cannot be used: {error}")
    else:
        yield Finding(what, "ok", "nobody has it open")


def _unread(path: Path) -> str:
    """Return the error of the first record that cannot be read, or an empty text.

    Raises:
        StoreTooOld: nothing is wrong with it, but none can be read.
    """
    lsn = 0
    try:
        with LedgerReader(path) as reader:
            for entry in reader.entries():
                lsn = entry.lsn
                from_bytes(entry.body, entry.payload)
    except ValueError as error:
        return f"record {lsn} cannot be read: {error}"
    except StoreTooOld:
        raise
    except StoreError as error:
        return str(error)
    return ""


def helpers() -> Iterator[Finding]:
    """Look for optional packages, which are used if installed."""
    for module, use in (
        ("uvloop", "a faster coordinator"),
        ("rich", "live progress"),
        ("starlette", f"`a2a gateway` needs it ({DISTRIBUTION}[gateway])"),
        ("mcp", f"`a2a mcp` needs it ({DISTRIBUTION}[mcp])"),
        ("httpx2", f"`a2a agent remote` needs it ({DISTRIBUTION}[remote])"),
    ):
        is_there = find_spec(module) is not None
        yield Finding(module, "ok" if is_there else "note", "installed" if is_there else f"not installed: {use}")
    for program, use in (("git", "the squad works on repositories"), ("unshare", "the squad's sandbox")):
        at = shutil.which(program)
        yield Finding(program, "ok" if at else "note", at or f"not found: {use}")
    try:
        missing = load("maintenance").missing()
    except SquadError as error:  # another distribution has that name, or it was left out
        yield Finding("the squad's tools", "note", str(error))
        return
    lacks = f"not installed: {', '.join(missing)}; `a2a run` needs them ({DISTRIBUTION}[squad])"
    yield Finding("the squad's tools", "note" if missing else "ok", lacks if missing else "installed")
