"""A disk that is full: the coordinator stops and says so, and what it had acknowledged is there when there is room."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import a2a
from a2a import LinkSettings
from a2a.conformance.program import free_port
from tests.chaos.audit import Heard, judge, read_ledger
from tests.chaos.processes import Post

pytestmark = pytest.mark.timeout(240)

BOUND = 100.0
INPUT = "x" * 40_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk is mounted by root only")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_room(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)


async def test_a_full_disk_stops_the_coordinator_and_loses_nothing(disk: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    ledger, heard = disk / "ledger.db", Heard()
    command = ("-m", "a2a", "coordinator", "run", "--db", str(ledger), "--ready-json", "--listen", address)
    environment = {"A2A_STATE_DIR": str(tmp_path / "state")}
    first, second = Post("first", command, tmp_path, environment), Post("second", command, tmp_path, environment)
    try:
        await first.start()
        ready = json.loads(await first.line())
        token = Path(ready["tokenFile"]).read_text().strip()
        settings = LinkSettings(url=ready["url"], token=token, secrets={})
        async with asyncio.timeout(BOUND), a2a.connect(name="client", settings=settings) as client:

            async def delegate(number: int) -> None:
                async with client.delegate("nobody", {"number": number, "text": INPUT}, f"key-{number}") as task:
                    heard.tasks[f"key-{number}"] = task.id

            async def delegate_until_it_ends() -> None:
                for number in range(1_000):
                    await delegate(number)

            delegating = asyncio.create_task(delegate_until_it_ends())
            assert await first.process.wait() == 70
            words = first.last_words()
            assert "database or disk is full; start the coordinator again" in words
            assert "Traceback" not in words

            await second.start()
            # There is still no room for what has no answer yet.
            assert await second.process.wait() == 70
            assert "database or disk is full; start the coordinator again" in second.last_words()

            make_room(disk)
            acknowledged = len(heard.tasks)
            await second.start()
            assert json.loads(await second.line())["epoch"] >= 2
            while len(heard.tasks) < acknowledged + 3:
                await delegate(2_000 + len(heard.tasks))
            delegating.cancel()
            await asyncio.wait([delegating])
            listed = {task["id"] for task in await client.list(limit=1_000)}
            assert listed >= set(heard.tasks.values())
        await second.end()
    finally:
        await first.clear_away()
        await second.clear_away()
    assert acknowledged > 10
    assert judge(await read_ledger(ledger), heard).lost == []
