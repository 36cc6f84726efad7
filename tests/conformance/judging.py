"""Has the suite try wrong peers, each a copy of the packages with one bug, and tells which case found it."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from a2a.conformance.case import Case, Failed, Role
from a2a.conformance.playing import cases, coordinator_from, play_coordinator, play_peer, selected
from a2a.conformance.runner import Outcome, Status
from a2a.conformance.stand_in import PeerSettings
from tests.mutants.run import ROOT, apply

from .wrong import Wrong

__all__ = ["Judged", "commands", "judge", "judge_all", "play"]

_COPIED = ("a2a", "reference_agents")
_LEFT_OUT = shutil.ignore_patterns("node")
_TOKEN = "the token of the suite"
_CASES = 4
"""How many cases of an agent or a client run at a time: each is a process of its own."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the suite found about one wrong peer."""

    wrong: Wrong
    by: tuple[str, ...]
    """Cases that failed and are about a broken requirement."""
    missing: tuple[str, ...]
    """Broken requirements that no failed case is about."""
    others: tuple[str, ...]
    """Other cases that failed."""
    tried: int
    seconds: float
    detail: str = ""
    """Why the peer could not be tried, or what the first failure says."""

    @property
    def is_found(self) -> bool:
        """Whether the suite names all that is broken, of a peer that otherwise works."""
        return not self.missing and len(self.by) + len(self.others) < self.tried


@dataclass(frozen=True, slots=True)
class Commands:
    """How the programs of a tree are started."""

    coordinator: str
    agent: str
    client: str
    state: str = "{state}/coordinators/127.0.0.1_{port}"


def commands(tree: Path) -> Commands:
    """Return the command lines that run the code of this tree and no other."""
    # Without -P the working directory would come before the variable.
    python = f"env PYTHONPATH={tree} {sys.executable} -P -m"
    return Commands(
        coordinator=f"{python} a2a coordinator run --quiet --listen 127.0.0.1:{{port}} --db {{state}}/ledger.db",
        agent=f"{python} reference_agents.testee --url {{url}}",
        client=f"{python} a2a delegate {{skill}} --text {{input}} --key {{key}} --url {{url}} --quiet",
    )


async def play(role: Role, tree: Path, chosen: list[Case]) -> list[Outcome]:
    """Try cases on a tree's implementation of a role."""
    known = commands(tree)
    if role is Role.COORDINATOR:
        token, operator_token = f"{known.state}/token", f"{known.state}/operator-token"
        async with coordinator_from(
            known.coordinator, token_file=token, operator_token_file=operator_token, run="wrong"
        ) as settings:
            return await play_coordinator(chosen, settings)
    peer = PeerSettings(command=known.agent if role is Role.AGENT else known.client, token=_TOKEN)
    return await play_peer(chosen, peer, jobs=_CASES)


async def judge(wrong: Wrong, *, whole: bool = False) -> Judged:
    """Make the copy with the bug, and have the suite try it: in the areas of the row, or with all cases."""
    started = time.monotonic()
    chosen = selected(cases(wrong.role), () if whole else wrong.tried)
    with tempfile.TemporaryDirectory(prefix="a2a-wrong-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder)
        await asyncio.to_thread(_plant, wrong, copy)
        try:
            outcomes = await play(wrong.role, copy, chosen)
        except (Failed, OSError) as exc:
            took = time.monotonic() - started
            return Judged(wrong, (), wrong.broken, (), len(chosen), took, f"it does not run: {exc}")
    failed = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    by = [outcome for outcome in failed if outcome.case.requirement in wrong.broken]
    about = {outcome.case.requirement for outcome in by}
    return Judged(
        wrong,
        tuple(outcome.case.id for outcome in by),
        tuple(name for name in wrong.broken if name not in about),
        tuple(outcome.case.id for outcome in failed if outcome not in by),
        len(chosen),
        time.monotonic() - started,
        failed[0].detail if failed else "",
    )


def _plant(wrong: Wrong, copy: Path) -> None:
    for part in _COPIED:
        shutil.copytree(ROOT / part, copy / part, ignore=_LEFT_OUT)
    apply(wrong.edits, copy)


async def judge_all(rows: Iterable[Wrong], *, whole: bool = False, jobs: int = 2) -> AsyncIterator[Judged]:
    """Judge many peers, `jobs` at a time, and yield each judgement as it is known."""
    room = asyncio.Semaphore(jobs)

    async def one(wrong: Wrong) -> Judged:
        async with room:
            return await judge(wrong, whole=whole)

    async with asyncio.TaskGroup() as group:
        for judged in asyncio.as_completed([group.create_task(one(wrong)) for wrong in rows]):
            yield await judged
