"""The JavaScript peer, which shares nothing with this package but the specification, works with those of Python."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import a2a
from a2a import Agent, TaskContext
from a2a.conformance.program import free_port
from tests.chaos.audit import judge, read_ledger
from tests.chaos.processes import Post

PEER = Path(__file__).parents[2] / "reference_agents" / "node"
BOUND = 60.0
ENCODINGS = ("json", "msgpack")
DOCUMENTS = [{"name": f"{number}.md", "text": f"# Part {number}\n\nIt has {number} words.\n"} for number in range(8)]
BECOME = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
"""A post starts Python; this process then is another one, under the same pid."""


def missing() -> str:
    """Return why the peer cannot run here; nothing where it can."""
    if shutil.which("node") is None:
        return "there is no node"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0] or 0) < 20:
        return f"node 20 or later is needed, this is {version or 'none'}"
    return "" if (PEER / "node_modules").is_dir() else "its packages are missing: make node"


MISSING = missing()
pytestmark = [
    pytest.mark.timeout(BOUND),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]


@dataclass(frozen=True)
class Place:
    """A coordinator with an address of its own, and the peers that are started beside it."""

    folder: Path
    url: str
    coordinator: Post
    posts: list[Post]

    def node(self, name: str, program: str, *arguments: str, encoding: str = "json") -> Post:
        token = self.folder / "state" / "coordinators" / self.url.removeprefix("ws://").replace(":", "_") / "token"
        common = ("--url", self.url, "--token-file", str(token), "--encoding", encoding, "--state", str(self.state))
        command = ("-c", BECOME, "node", str(PEER / "bin" / program), *common, *arguments)
        post = Post(name, command, self.folder, {})
        self.posts.append(post)
        return post

    def agent(self, *arguments: str, encoding: str = "json") -> Post:
        return self.node("node-text", "agent.js", *arguments, encoding=encoding)

    async def client(self, *arguments: str, encoding: str = "json") -> Any:
        """Run the client to its end, and return the JSON it printed."""
        return json.loads(await self.printed(*arguments, encoding=encoding))

    async def printed(self, *arguments: str, encoding: str = "json") -> bytes:
        post = self.node("node-client", "client.js", *arguments, encoding=encoding)
        await post.start()
        assert post.process.stdin is not None
        post.process.stdin.close()
        said, _ = await post.process.communicate()
        assert post.process.returncode == 0, post.last_words()
        return said

    @property
    def state(self) -> Path:
        return self.folder / "node"

    def kept(self) -> list[dict[str, Any]]:
        """Return the requests that the agent has no answer to, as its next process will find them."""
        kept: list[dict[str, Any]] = json.loads((self.state / "node-text.json").read_text())["outbox"]
        return kept


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Have a coordinator run, and judge its ledger when the test is over."""
    address = f"127.0.0.1:{free_port()}"
    environment = {"A2A_STATE_DIR": str(tmp_path / "state"), "A2A_URL": f"ws://{address}"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("A2A_TOKEN", raising=False)
    ledger = tmp_path / "ledger.db"
    command = ("-m", "a2a", "coordinator", "run", "--listen", address, "--db", str(ledger), "--ready-json")
    here = Place(tmp_path, environment["A2A_URL"], Post("coordinator", command, tmp_path, environment), [])
    try:
        await here.coordinator.start()
        assert await here.coordinator.line()
        yield here
        await here.coordinator.end()
    finally:
        for post in (*here.posts, here.coordinator):
            await post.clear_away()
    found = judge(await read_ledger(ledger))
    found.lost.clear()  # for it a task that was cancelled, or rejected, is lost; here that is wanted
    assert found.wrong() == []


@asynccontextmanager
async def running(agent: Agent, url: str) -> AsyncIterator[None]:
    serving = asyncio.create_task(agent.run(url))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def counter() -> Agent:
    agent = Agent("counter")

    @agent.skill
    async def count_words(text: str, task: TaskContext) -> dict[str, int]:
        """Count the words of a text."""
        if not text:
            text = await task.ask("Which text?")
        return {"words": len(text.split())}

    return agent


async def until(client: a2a.Client, task: str, kind: str) -> None:
    async for event in client.watch(task):
        if event.kind == kind:
            return


async def counters_of(client: a2a.Client, task: str) -> tuple[int, dict[str, int]]:
    """Return how many attempts a task had, and what went wrong with them."""
    metadata = (await client.get(task))["metadata"]
    return metadata["attempt"], {kind: times for kind, times in metadata["counters"].items() if times}


async def test_the_tests_of_the_peer_itself_pass() -> None:
    process = await asyncio.create_subprocess_exec(
        "node", "--test", cwd=PEER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_client_of_python_delegates_to_it(place: Place, encoding: str) -> None:
    agent = place.agent(encoding=encoding)
    await agent.start()
    async with a2a.connect() as client:
        given = {"documents": [*DOCUMENTS, {"name": "bad.md", "text": "# A\n\n### B \n\n[x](0.md#none)\n"}]}
        async with client.delegate("markdown_lint", given, "lint") as task:
            found = (await task.result())["findings"]
        assert [(finding["name"], finding["line"], finding["rule"]) for finding in found] == [
            ("bad.md", 3, "heading-skips"),
            ("bad.md", 3, "trailing-space"),
            ("bad.md", 5, "anchor-broken"),
        ]
        async with client.delegate("text_statistics", "One two. Three.", "count") as task:
            assert (await task.result())["total"]["words"] == 3
    await agent.end()


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_it_asks_and_is_answered_it_is_cancelled_and_it_is_sent_back(place: Place, encoding: str) -> None:
    agent = place.agent(encoding=encoding)
    await agent.start()
    async with a2a.connect() as client:
        async with client.delegate("text_statistics", {}, "asked") as task:
            await until(client, task.id, "ask")
            await client.answer(task.id, 1, "One two three.")
            assert (await task.result())["total"]["words"] == 3
        async with client.delegate("text_statistics", {}, "cancelled") as task:
            await until(client, task.id, "ask")
            assert await client.cancel(task.id) == "pending"
            with pytest.raises(a2a.TaskCanceled):
                await task.result()
        async with client.delegate("markdown_lint", {"text": "#A \n"}, "sent-back") as task:
            assert len((await task.result())["findings"]) == 2
            await task.reject({"ignore": ["heading-space"]})
            assert [finding["rule"] for finding in (await task.result())["findings"]] == ["trailing-space"]
        async with client.delegate("text_statistics", {"text": 7}, "unfit") as task:
            with pytest.raises(a2a.TaskFailed, match="a document has a text"):
                await task.result()
    await agent.end()


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_its_client_delegates_to_an_agent_of_python(place: Place, encoding: str) -> None:
    async with running(counter(), place.url), a2a.connect() as client:
        given = ("--key", "hamlet", "--json", '{"text": "to be or not to be"}')
        for _ in range(2):  # the same key is the same task, also for the process that comes after
            result = await place.client("delegate", "count_words", *given, encoding=encoding)
            assert result[0]["parts"] == [{"data": {"words": 6}}]
        asked = ("--json", '{"text": ""}', "--answer", "a text")
        result = await place.client("delegate", "count_words", *asked, encoding=encoding)
        assert result[0]["parts"] == [{"data": {"words": 2}}]
        assert [task["metadata"]["state"] for task in await client.list()] == ["completed", "completed"]
        found = await place.client("find", "count_words", encoding=encoding)
        assert [agent["agent"] for agent in found] == ["counter"]


async def test_its_client_confirms_nothing_that_something_speaks_against(place: Place) -> None:
    agent = Agent("planner")

    @agent.skill
    async def plan(task: TaskContext) -> str:
        await task.context.get("decisions/db")
        await task.other_context(task.context.id).put("decisions/db", "postgres", if_rev=0)
        return "built on nothing"

    async with running(agent, place.url), a2a.connect() as client:
        with pytest.raises(AssertionError, match="relies on revision 0 of decisions/db, which was 1\\s+Not confirmed"):
            await place.client("delegate", "plan", "--json", "{}")
        (task,) = await client.list()
        assert task["metadata"]["state"] == "reported"
        assert (await place.client("cancel", task["id"]))["state"] == "canceled"


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_its_client_reads_and_watches_and_may_not_end_what_others_delegated(place: Place, encoding: str) -> None:
    async with running(counter(), place.url), a2a.connect() as client:
        async with client.delegate("count_words", {"text": "one two"}, "done") as task:
            await task.result()
        told = (await place.printed("watch", task.id, encoding=encoding)).splitlines()
        assert [json.loads(line)["event"] for line in told] == ["created", "grant", "report", "complete"]
        read = await place.client("get", task.id, encoding=encoding)
        assert read["result"][0]["parts"] == [{"data": {"words": 2}}]
        with pytest.raises(AssertionError, match="forbidden"):
            await place.client("cancel", task.id, encoding=encoding)
        assert [view["id"] for view in await place.client("list", encoding=encoding)] == [task.id]


async def test_its_client_and_its_agent_speak_different_encodings(place: Place) -> None:
    agent = place.agent(encoding="msgpack")
    await agent.start()
    page = place.folder / "page.md"
    page.write_text("#Ä\n")
    result = await place.client("delegate", "markdown_lint", str(page))
    assert [finding["detail"] for finding in result[0]["parts"][0]["data"]["findings"]] == ["#Ä"]
    await agent.end()


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_killed_in_the_middle_the_task_ends_once_and_goes_on_behind_the_checkpoint(
    place: Place, encoding: str
) -> None:
    agent = place.agent("--pace", "100", encoding=encoding)
    await agent.start()
    async with a2a.connect() as client:
        async with client.delegate("text_statistics", {"documents": DOCUMENTS}, "long") as task:
            await until(client, task.id, "progress")  # one document at least is done
            await agent.kill()
            await agent.start()
            counted = await task.result()
        assert [document["name"] for document in counted["documents"]] == [given["name"] for given in DOCUMENTS]
        assert await counters_of(client, task.id) == (2, {"losses": 1})
        steps = (await client.get(task.id))["metadata"]["usage"]["steps"]
        assert steps < 2 * len(DOCUMENTS), "what was done before was not done again"
        reports = [event async for event in client.watch(task.id) if event.kind == "report"]
        assert [report.data["outcome"] for report in reports] == ["completed"]
    await agent.end()


async def test_a_report_that_found_no_coordinator_outlasts_its_process(place: Place) -> None:
    """Coordinator and agent die one after the other: the report is in the state file, and ends the first attempt."""
    agent = place.agent("--pace", "100")
    await agent.start()
    async with a2a.connect() as client:
        async with client.delegate("text_statistics", {"documents": DOCUMENTS}, "long") as task:
            await until(client, task.id, "progress")
            await place.coordinator.kill()
            while not place.kept():  # noqa: ASYNC110 - that a file was written is told to nobody
                await asyncio.sleep(0.02)
            assert [frame["kind"] for frame in place.kept()] == ["task.report"]
            await agent.kill()
            await place.coordinator.start()
            assert await place.coordinator.line()
            await agent.start()
            assert len((await task.result())["documents"]) == len(DOCUMENTS)
        assert await counters_of(client, task.id) == (1, {})
    await agent.end()
    assert place.kept() == []


async def test_drained_in_the_middle_its_task_goes_to_another_and_nobody_is_blamed(place: Place) -> None:
    first = place.agent("--pace", "100", "--grace", "0.2")
    second = place.node("node-other", "agent.js", "--id", "node-other")
    await first.start()
    async with a2a.connect() as client:
        async with client.delegate("text_statistics", {"documents": DOCUMENTS}, "long") as task:
            await until(client, task.id, "progress")
            await second.start()
            await first.end()
            assert len((await task.result())["documents"]) == len(DOCUMENTS)
        assert (await client.get(task.id))["metadata"]["agent"] == "node-other"
        assert await counters_of(client, task.id) == (2, {})
    await second.end()


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_squad_of_python_has_it_do_a_part_and_a_kill_in_between_costs_nothing(
    place: Place, encoding: str
) -> None:
    lead = Agent("lead")

    @lead.skill
    async def review(documents: list[dict[str, str]], task: TaskContext) -> dict[str, Any]:
        """Have pages counted, linted and measured by whoever can."""

        async def part(skill: str, given: dict[str, Any], key: str) -> Any:
            async with task.delegate(skill, given, key=key) as child:
                return await child.result()

        text = " ".join(document["text"] for document in documents)
        async with asyncio.TaskGroup() as group:
            counted = group.create_task(part("count_words", {"text": text}, "count"))
            linted = group.create_task(part("markdown_lint", {"documents": documents}, "lint"))
            measured = group.create_task(part("text_statistics", {"documents": documents}, "measure"))
        return {
            "words": counted.result()["words"],
            "findings": len(linted.result()["findings"]),
            "pages": measured.result()["total"]["documents"],
        }

    agent = place.agent("--pace", "50", encoding=encoding)
    await agent.start()
    async with running(lead, place.url), running(counter(), place.url), a2a.connect() as client:
        async with client.delegate("review", {"documents": DOCUMENTS}, "review") as task:
            while not (begun := await client.list(skill="text_statistics")):  # noqa: ASYNC110 - told to the lead only
                await asyncio.sleep(0.02)
            await until(client, begun[0]["id"], "progress")
            await agent.kill()
            await agent.start()
            assert await task.result() == {"words": 7 * len(DOCUMENTS), "findings": 0, "pages": len(DOCUMENTS)}
        states = [told["metadata"]["state"] for told in await client.list()]
        assert states == ["completed"] * 4
        assert await counters_of(client, begun[0]["id"]) == (2, {"losses": 1})
    await agent.end()
