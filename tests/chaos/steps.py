"""One task from its delegation to its confirmation, with the coordinator killed at the N-th system call of a kind.

Between two system calls nothing changes outside the process, so all N together are all the moments at which it can die.
Each time it is started again on the same ledger, the peers finish what they began, and the ledger is judged.
`python -m tests.chaos.steps` walks through all of them. Needs `strace`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from unittest import mock

import a2a
from a2a import Agent, LinkSettings
from a2a.conformance.program import free_port

from .audit import Findings, Heard, judge, read_ledger
from .processes import BOUND, Post

__all__ = ["CALLS", "Rehearsal", "why_not"]

CALLS: Mapping[str, str] = {
    "send": "write,writev,sendto,sendmsg",
    "page": "pwrite64",
    "sync": "fdatasync",
}
"""The system calls with which a coordinator affects the world: it sends, writes its ledger's file, and syncs it."""


def why_not() -> str | None:
    """Return why this cannot be done here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    return None


class Rehearsal:
    """The same scenario, played any number of times on a fresh ledger, by peers it has never met."""

    def __init__(self, folder: Path) -> None:
        self._stage, self._store = folder / "stage", folder / "store"
        self._address = f"127.0.0.1:{free_port()}"
        self._url = f"ws://{self._address}"
        self._environment = {"A2A_STATE_DIR": str(self._stage / "state")}
        self._ledger = self._stage / "ledger.db"
        self._agent = Agent("doubler")
        self._agent.skill(double)

    async def prepare(self) -> None:
        """Make the ledger."""
        self._stage.mkdir(parents=True)
        coordinator = self._coordinator()
        try:
            await coordinator.start()
            await coordinator.line()
            await coordinator.end()
        finally:
            await coordinator.clear_away()
        self._stage.rename(self._store)

    async def play(self, calls: str, number: int) -> tuple[bool, Findings]:
        """Play the scenario with a coordinator that dies at a call; return whether it died, and the findings."""
        shutil.rmtree(self._stage, ignore_errors=True)
        shutil.copytree(self._store, self._stage)
        coordinator, heard = self._coordinator(), Heard()
        coordinator.under = _tracer(calls, number)
        try:
            await coordinator.start()
            with mock.patch.dict(os.environ, self._environment):
                playing = asyncio.create_task(self._play(heard))
                dying = asyncio.create_task(coordinator.process.wait())
                await asyncio.wait([playing, dying], return_when=asyncio.FIRST_COMPLETED)
                coordinator.under = ()
                if not dying.done():
                    coordinator.process.terminate()
                if await dying == 0:
                    return False, judge(await read_ledger(self._ledger), heard)
                # At work or on its way out: the next process has to find everything.
                await coordinator.start()
                await coordinator.line()
                try:
                    await playing
                except TimeoutError:
                    return True, Findings(lost=["what was begun does not come to its end any more"])
            await coordinator.end()
        finally:
            await coordinator.clear_away()
        return True, judge(await read_ledger(self._ledger), heard)

    async def begin(self, calls: str, number: int) -> tuple[bool, Findings]:
        """Do the same with a coordinator that has no ledger yet and makes one; no peer connects."""
        shutil.rmtree(self._stage, ignore_errors=True)
        self._stage.mkdir()
        coordinator = self._coordinator()
        coordinator.under = _tracer(calls, number)
        try:
            await coordinator.start()
            coordinator.under = ()
            dies = not await coordinator.line()
            if dies:
                await coordinator.process.wait()
                await coordinator.start()
                await coordinator.line()
            await coordinator.kill()
        finally:
            await coordinator.clear_away()
        return dies, judge(await read_ledger(self._ledger))

    def _coordinator(self) -> Post:
        command = ("-m", "a2a", "coordinator", "run", "--listen", self._address, "--db", str(self._ledger))
        return Post("coordinator", (*command, "--ready-json"), self._stage, self._environment)

    async def _play(self, heard: Heard) -> None:
        """Delegate, offer, report, confirm; note what was acknowledged as soon as it is."""
        key, settings = "scenario", LinkSettings(url=self._url, patience=float("inf"))
        serving = asyncio.create_task(self._agent.run(settings=settings))
        try:
            async with asyncio.timeout(BOUND), a2a.connect(name="delegator", settings=settings) as client:
                async with client.delegate("double", {"number": 21}, key) as task:
                    heard.tasks[key] = task.id
                    value = await task.result()
                heard.values[key] = value
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


def _tracer(calls: str, number: int) -> tuple[str, ...]:
    # -D leaves the coordinator our own child. Calls are counted per thread: one thread sends, another one writes.
    # Not the faster --seccomp-bpf: some versions of strace do not count correctly with it.
    inject = f"inject={calls}:signal=KILL:when={number}"
    return ("strace", "-D", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", inject)


async def double(number: int) -> int:
    """Double a number."""
    return 2 * number


async def walk(every: int) -> int:
    """Walk through all steps, or every N-th, and return 1 if one went wrong."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="a2a-steps-") as folder:
        rehearsal = Rehearsal(Path(folder))
        await rehearsal.prepare()
        for name, scene in (("the scenario", rehearsal.play), ("the first start", rehearsal.begin)):
            for what, calls in CALLS.items():
                killed, dies = 0, True
                while dies:
                    number = 1 + killed * every
                    dies, found = await scene(calls, number)
                    for detail in found.wrong():
                        print(f"killed at {what} {number} of {name}: {detail}")
                    wrong += not found.is_sound
                    killed += dies
                print(f"{name}: killed at {what:<4}, {killed:3} times, {wrong} wrong so far", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.steps", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th call of a kind")
    options = parser.parse_args()
    reason = why_not()
    sys.exit(f"not done: {reason}" if reason else asyncio.run(walk(options.every)))
