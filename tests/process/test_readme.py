"""The README's programs run as they are printed, each a process of its own, and its links lead somewhere."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from websockets.asyncio.client import connect

import a2a

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GATEWAYS = (ROOT / "a2a" / "gateways" / "README.md").read_text(encoding="utf-8")
PAGES = (
    "README.md",
    "a2a/README.md",
    "reference_agents/README.md",
    "a2a/gateways/README.md",
    "a2a/conformance/README.md",
)
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
AGENT = next(block for block in BLOCKS if "agent.main()" in block)
CLIENT = next(block for block in BLOCKS if "a2a.connect()" in block)
CLAIM = next(block for block in BLOCKS if "FileGuard" in block)
BOUND = 30


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "word_counter.py").write_text(AGENT)
    (tmp_path / "client.py").write_text(CLIENT)
    return tmp_path


@contextmanager
def process(*command: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process for the time of the block, and end it by its id."""
    with (cwd / "said.txt").open("a") as said:
        running = subprocess.Popen([sys.executable, *command], cwd=cwd, stdout=subprocess.PIPE, stderr=said, text=True)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(BOUND)
        finally:
            running.kill()
            if running.stdout:
                running.stdout.close()


@contextmanager
def coordinator(home: Path) -> Iterator[dict[str, str]]:
    arguments = ("coordinator", "run", "--listen", "127.0.0.1:0", "--db", str(home / "ledger.db"), "--ready-json")
    with process("-m", "a2a", *arguments, cwd=home) as running:
        assert running.stdout is not None
        ready: dict[str, str] = json.loads(running.stdout.readline())
        os.environ["A2A_URL"] = ready["url"]
        try:
            yield ready
        finally:
            del os.environ["A2A_URL"]
    assert running.returncode == 0


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", told.lower()).replace(" ", "-") for told in headings}, (
            link
        )


def test_the_agent_has_ten_lines_and_the_client_five() -> None:
    assert len([line for line in AGENT.splitlines() if line.strip()]) <= 10
    assert len([line for line in CLIENT.splitlines() if line.strip() and "import" not in line]) <= 5


def test_the_agent_and_the_client_run_as_printed(home: Path) -> None:
    with coordinator(home), process("word_counter.py", cwd=home) as agent:
        assert run("client.py", cwd=home) == "{'words': 6}\n"
        assert run("client.py", cwd=home) == "{'words': 6}\n"
        listed = [json.loads(line) for line in run("-m", "a2a", "task", "ls", "--json", cwd=home).splitlines()]
        assert len(listed) == 1, "the same key is the same task"
    assert agent.returncode == 0
    assert "word-counter is ready: count_words\n" in (home / "said.txt").read_text()


def test_a_claim_guards_a_file_as_printed(home: Path) -> None:
    (home / "claim.py").write_text(CLAIM)
    guard = a2a.FileGuard(home / "report.txt")
    with coordinator(home):
        run("claim.py", cwd=home)
        first = guard.fences.seen()
        assert (home / "report.txt").read_text() == "all is well\n"
        run("claim.py", cwd=home)
        assert guard.fences.seen() > first > 0
        guard.touch(10**6)
        with pytest.raises(AssertionError, match="FencedOff"):
            run("claim.py", cwd=home)


async def call_of_a2a(url: str, token: str, frame: str) -> dict[str, Any]:
    """Send a frame as it is, behind a hello, and return the payload of its answer."""
    hello = {"versions": ["1.0", "1.0"], "agentId": "raw#1", "instanceId": "1", "incarnation": 1, "token": token}
    async with connect(url, subprotocols=["a2a.coord+json"]) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps({"id": "h1", "kind": "hello", "body": hello}))
        await socket.send(frame)
        async for message in socket:
            for came in map(json.loads, str(message).splitlines()):
                if came.get("re") == json.loads(frame)["id"]:
                    answer: dict[str, Any] = json.loads(came["payload"])
                    return answer
    raise AssertionError("the connection ended without an answer")


async def test_a_message_of_a2a_reaches_the_agent_that_is_shown(home: Path) -> None:
    frame = re.search(r"```json\n(\{.*a2a\.call.*\})\n```", README)
    assert frame is not None
    with ExitStack() as stack:
        ready = stack.enter_context(coordinator(home))
        stack.enter_context(process("word_counter.py", cwd=home))
        with anyio.fail_after(BOUND):
            answer = await call_of_a2a(ready["url"], Path(ready["tokenFile"]).read_text().strip(), frame[1])
    assert answer["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
    assert answer["task"]["artifacts"][0]["parts"][0]["data"] == {"words": 3}


def test_a_client_of_a2a_reaches_the_agent_as_printed(home: Path) -> None:
    printed = re.search(r"^\$ curl -s http://127.0.0.1:7480(/\S+) (.*) \| jq -c '(.*)'\n(.*)$", GATEWAYS, re.MULTILINE)
    assert printed is not None
    path, options, shown, result = printed.groups()
    with ExitStack() as stack:
        stack.enter_context(coordinator(home))
        stack.enter_context(process("word_counter.py", cwd=home))
        gateway = stack.enter_context(
            process("-m", "a2a", "gateway", "--listen", "127.0.0.1:0", "--ready-json", cwd=home)
        )
        assert gateway.stdout is not None
        ready: dict[str, str] = json.loads(gateway.stdout.readline())
        words = iter(shlex.split(options.replace("$(cat FILE)", Path(ready["tokenFile"]).read_text().strip())))
        headers = {"Content-Type": "application/json"}
        body = ""
        for option, value in zip(words, words, strict=True):
            name, _, rest = value.partition(": ")
            body = value if option == "--json" else body
            headers |= {name: rest} if option == "-H" else {}
        answered = httpx2.post(ready["url"] + path, content=body, headers=headers, timeout=BOUND)
    assert shown == ".task.artifacts[].parts[].data"
    found = [part["data"] for artifact in answered.json()["task"]["artifacts"] for part in artifact["parts"]]
    assert [json.dumps(data, separators=(",", ":")) for data in found] == [result]
    assert gateway.returncode == 0


async def test_a_host_of_mcp_reaches_the_agent_with_the_settings_as_printed(home: Path) -> None:
    mcp = pytest.importorskip("mcp")  # it needs newer packages than the oldest that all else runs with
    printed = re.search(r"```json\n(\{\"mcpServers\".*\})\n```", GATEWAYS)
    assert printed is not None
    (settings,) = json.loads(printed[1])["mcpServers"].values()
    with ExitStack() as stack:
        stack.enter_context(coordinator(home))
        stack.enter_context(process("word_counter.py", cwd=home))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        how = mcp.StdioServerParameters(**settings, env={**os.environ, "PATH": path}, cwd=home)
        with anyio.fail_after(BOUND):
            async with mcp.Client(how) as host:
                while "count_words" not in [tool.name for tool in (await host.list_tools()).tools]:
                    await anyio.lowlevel.checkpoint()
                done = await host.call_tool("count_words", {"text": "to be or not to be"})
    assert done.structured_content == {"words": 6}


def test_a_peer_in_plain_json_joins_and_finishes_a_task(home: Path) -> None:
    peer = ROOT / "reference_agents" / "json_peer.py"
    source = peer.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 41
    assert "a2a" not in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE)
    with ExitStack() as stack:
        ready = stack.enter_context(coordinator(home))
        stack.enter_context(process(str(peer), ready["url"], ready["tokenFile"], cwd=home))
        assert run("-m", "a2a", "delegate", "upper_json", "--text", "hello", cwd=home) == "HELLO\n"
        (home / "wrong").write_text("not the token\n")
        wrong = [sys.executable, str(peer), ready["url"], str(home / "wrong")]
        refused = subprocess.run(wrong, check=False, capture_output=True, text=True, timeout=BOUND)
        assert refused.stdout == "< error the token does not open this namespace\n"
    alone = subprocess.run([sys.executable, str(peer)], check=False, capture_output=True, text=True, timeout=BOUND)
    assert (alone.returncode, alone.stderr) == (1, "usage: python json_peer.py URL TOKEN_FILE\n")
