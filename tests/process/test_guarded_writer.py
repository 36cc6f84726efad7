"""A writer that is stopped past its lease and goes on writing: the file has seen its successor, and turns it away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import a2a
from a2a import FileGuard
from a2a.conformance.program import free_port
from a2a.engine.records import Accepted, Claimed, ClaimEnded
from tests.chaos.audit import read_ledger
from tests.chaos.processes import Post

BOUND = 60.0


async def written(log: Path, word: str) -> str:
    """Wait until a line with a word is in a log, and return it."""
    while True:
        for line in log.read_text().splitlines():
            if word in line:
                return line
        await asyncio.sleep(0.02)


@pytest.mark.timeout(2 * BOUND)
async def test_a_zombie_writer_is_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    url, ledger, report = f"ws://{address}", tmp_path / "ledger.db", tmp_path / "report.txt"
    environment = {"A2A_STATE_DIR": str(tmp_path / "state"), "A2A_URL": url}
    monkeypatch.setenv("A2A_STATE_DIR", environment["A2A_STATE_DIR"])
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    command = ("-m", "a2a", "coordinator", "run", "--listen", address, "--db", str(ledger), "--ready-json")
    coordinator = Post("coordinator", command, tmp_path, environment)
    writers = [
        Post(name, ("-m", "reference_agents.guarded_writer", "--name", name), tmp_path, environment)
        for name in ("zombie", "heir")
    ]
    zombie, heir = writers
    try:
        await coordinator.start()
        assert await coordinator.line()
        async with asyncio.timeout(BOUND), a2a.connect(url) as client:
            await zombie.start()
            order = {"path": str(report), "text": "all is well", "seconds": 1.0}
            timers = {"lease": 1.0, "heartbeat": 0.2, "offer": 1.0}
            # Until the heir is there, the zombie is all there is to be asked, and does not answer.
            async with client.delegate("write_report", order, timers=timers, losses=100) as task:
                async for event in task.events():
                    if event.note == "has the file":
                        break
                zombie.stop()
                first = FileGuard(report).fences.seen()
                assert first > 0
                await heir.start()
                attempt = await task.result()
            assert attempt > 1
            shown = report.read_text()
            assert shown == f"all is well (attempt {attempt})\n"
            assert FileGuard(report).fences.seen() > first
            zombie.resume()
            refused = await written(zombie.log, "turned away")
            assert f"refuses {first}" in refused
            assert report.read_text() == shown
            async with asyncio.timeout(BOUND), a2a.connect(url) as client:
                while not (conflicts := await client.conflicts(kind="resource")):  # noqa: ASYNC110 - it follows
                    await asyncio.sleep(0.02)
                assert conflicts[0]["object"] == f"resource:files/{str(report).strip('/')}"
            await zombie.end()
            await heir.end()
        await coordinator.end()
    finally:
        for post in (*writers, coordinator):
            await post.clear_away()

    records = await read_ledger(ledger)
    accepted = next(lsn for lsn, record in enumerate(records, 1) if isinstance(record, Accepted))
    assert isinstance(records[accepted], ClaimEnded), "the claim ended with its attempt, in the same append"
    granted = [lsn for lsn, record in enumerate(records, 1) if isinstance(record, Claimed)]
    assert granted[0] == first < accepted < granted[1]
