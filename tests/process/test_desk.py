"""The desk as processes: it answers from files and lines, and goes on where a killed lead was."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

import a2a
from a2a.squads import known
from reference_agents.desk import AGENTS
from tests.process.squads import check_ledger, command, ledger_of, processes, squad_up

BOUND = 90.0
HELD = "desk-ngrams"


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "lease.md").write_text("# Leases\n\nA heartbeat renews the lease.\n\nAn offer comes first.\n")
    (folder / "birds.txt").write_text("Penguins swim under the ice.\n")
    (folder / "picture.md").write_bytes(b"\x89PNG\0")
    return folder


def ask(words: str, documents: Path, url: str) -> tuple[str, ...]:
    return ("ask", words, "--folder", str(documents), "--url", url, "--json")


async def test_a_question_is_answered_with_file_and_lines(home: Path, documents: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home, "desk") as url:
        async with command(home, "ask", *ask("who renews a lease?", documents, url)) as asking:
            assert await asking.end() == 0, asking.errors.read_text()
            answer = asking.result
        [first, *_] = answer["citations"]
        assert (first["path"], first["line"], first["end"]) == ("lease.md", 3, 3)
        assert first["quote"] == "A heartbeat renews the lease."
        assert answer["is_carried"] and answer["heard"] == sorted(set(AGENTS) - {"desk"})
        assert answer["skipped"] == [{"path": "picture.md", "why": "binary"}]
        await check_ledger(url, asking.said[-1]["task"])
        (documents / "lease.md").write_text("# Leases\n\n\nA beat renews the lease.\n")
        async with command(home, "again", *ask("who renews a lease?", documents, url)) as asking:
            assert await asking.end() == 0, asking.errors.read_text()
            [first, *_] = asking.result["citations"]
        assert (first["line"], first["quote"]) == (4, "A beat renews the lease."), "of the folder as it is now"


async def test_documents_that_contradict_each_other_become_a_conflict(home: Path, documents: Path) -> None:
    (documents / "old.md").write_text("A lease lasts 10 seconds.\n")
    (documents / "new.md").write_text("News.\n\nA lease lasts 30 seconds.\n")
    async with asyncio.timeout(BOUND), squad_up(home, "desk") as url:
        async with command(home, "ask", *ask("how long does a lease last?", documents, url)) as asking:
            assert await asking.end() == 0, asking.errors.read_text()
            answer = asking.result
        assert {fact["quote"] for fact in answer["contradicting"]} == {
            "A lease lasts 10 seconds.", "A lease lasts 30 seconds.",
        }  # fmt: skip
        async with command(home, "show", "conflict", "show", answer["conflict"], "--url", url, "--json") as showing:
            assert await showing.end() == 0, showing.errors.read_text()
            shown = str(showing.said)
        assert "A lease lasts 10 seconds." in shown and "A lease lasts 30 seconds." in shown
        assert all(agent in shown for agent in answer["heard"])
        async with a2a.connect(url) as client:
            ended = await ledger_of(client, asking.said[-1]["task"])
        [disputed] = [task["metadata"] for task in ended.values() if task["metadata"].get("conflicts")]
        assert (disputed["reason"], disputed["conflicts"]) == ("unresolved", [answer["conflict"]])


async def test_a_killed_lead_goes_on_and_no_retriever_is_asked_twice(home: Path, documents: Path) -> None:
    async with asyncio.timeout(BOUND), squad_up(home, "desk") as url:
        held, quick = processes()[HELD], set(AGENTS) - {"desk", HELD}
        os.kill(held, signal.SIGSTOP)
        try:
            async with command(home, "ask", *ask("who renews a lease?", documents, url)) as asking:
                missing = set(quick)
                while missing:
                    told = await asking.next_line()
                    assert told is not None, asking.errors.read_text()
                    story = told.get("value") if told["kind"] == "artifact" else None
                    if story is not None and story["kind"] == "found":
                        missing.discard(story["who"])
                os.kill(processes()["desk"], signal.SIGKILL)
                os.kill(held, signal.SIGCONT)
                root = told["task"]
                async with a2a.connect(url) as client:
                    before = await ledger_of(client, root)
                assert await asking.end() == 0, asking.errors.read_text()
                answer = asking.result
        finally:
            os.kill(held, signal.SIGCONT)
        assert answer["citations"][0]["quote"] == "A heartbeat renews the lease."
        assert answer["heard"] == sorted({HELD, *quick})
        async with a2a.connect(url) as client:
            after = await ledger_of(client, root)
            assert (await client.get(root))["metadata"]["attempt"] == 2, "the lead was killed in the middle of it"
        looks = {key: task["metadata"] for (parent, key), task in after.items() if parent == root}
        assert sorted(look["agent"] for look in looks.values()) == answer["heard"]
        assert {look["attempt"] for look in looks.values()} == {1}, "none was executed twice"
        done = {name: task for name, task in before.items() if task["metadata"]["agent"] in quick}
        assert len(done) == len(quick)
        assert {name: after[name] for name in done} == done, "no finished task was touched again"
        await check_ledger(url, root)
        restarts = {program["name"]: program["restarts"] for state in known() for program in state["programs"]}
        assert restarts == dict.fromkeys(AGENTS, 0) | {"coordinator": 0, "desk": 1}
