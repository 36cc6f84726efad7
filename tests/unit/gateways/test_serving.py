"""A gateway on an address: what it takes, what it keeps, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import ssl
import stat

import anyio
import httpx2
import pytest
import trustme

from a2a import Agent, TaskContext
from a2a.credentials import gateway_dir
from a2a.engine import call_following
from a2a.gateways import serving as serving_module
from a2a.gateways.serving import gateway
from a2a.hosting import UnsafeAddress
from a2a.testing import squad

BOUND = 30


async def card(url: str, **options: object) -> httpx2.Response:
    async with httpx2.AsyncClient(**options) as caller:  # type: ignore[arg-type]
        return await caller.get(f"{url}/.well-known/agent-card.json")


async def test_the_token_is_drawn_once_for_an_address_and_only_the_user_can_read_it(helper):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with gateway(running.connect("gateway"), "127.0.0.1:0") as here:
                port = here.url.rpartition(":")[2]
                passing = here.token_files[""]
                assert stat.S_IMODE(passing.stat().st_mode) == 0o600
            assert not passing.exists(), "nobody looks for it at a free port again"
            listen = f"127.0.0.1:{port}"
            tokens = set()
            for _ in range(2):
                async with gateway(running.connect("gateway"), listen) as here:
                    assert here.token_files[""] == gateway_dir(here.url) / "token"
                    tokens.add(here.token_files[""].read_text())
            assert len(tokens) == 1
            async with gateway(running.connect("gateway"), listen, token="given") as here:
                assert here.token_files[""].read_text() == "given\n"


async def test_callers_with_tokens_of_their_own_have_tasks_of_their_own(helper, say, gate):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            clients = {name: running.connect(f"gateway/{name}") for name in ("alice", "bob")}
            async with gateway(clients, "127.0.0.1:0") as here, httpx2.AsyncClient(base_url=here.url) as caller:
                assert list(here.token_files) == ["alice", "bob"]
                tokens = {name: path.read_text().strip() for name, path in here.token_files.items()}
                assert len(set(tokens.values())) == 2
                shown = {
                    name: {"Authorization": f"Bearer {token}", "A2A-Version": "1.0"} for name, token in tokens.items()
                }

                async def send(name: str) -> dict[str, object]:
                    request = say("wait", "m1") | {"configuration": {"returnImmediately": True}}
                    sent = await caller.post("/message:send", json=request, headers=shown[name])
                    task: dict[str, object] = sent.json()["task"]
                    return task

                task = await send("alice")
                assert (await send("bob"))["id"] != task["id"], "the same messageId of another is another task"
                path = f"/tasks/{task['id']}"
                looked_at = (await caller.get(path, headers=shown["bob"])).json()["metadata"]
                assert looked_at["delegator"].startswith("gateway/alice#")
                assert (await caller.post(f"{path}:cancel", headers=shown["bob"])).status_code == 403
                assert (await caller.post(f"{path}:cancel", headers=shown["alice"])).status_code == 200
                assert (await caller.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401
                gate.open.set()
            directory = gateway_dir(here.url)
            assert not directory.exists(), "nobody looks for it at a free port again"


async def test_a_callers_token_is_kept_for_the_address(helper):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with gateway(running.connect("gateway"), "127.0.0.1:0") as here:
                listen = here.url.removeprefix("http://")
            tokens = set()
            for _ in range(2):
                async with gateway({"alice": running.connect("gateway/alice")}, listen) as here:
                    path = here.token_files["alice"]
                    assert path == gateway_dir(here.url) / "callers" / "alice"
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600
                    tokens.add(path.read_text())
            assert len(tokens) == 1


async def test_a_token_that_two_callers_have_is_told(helper):
    async with squad(helper) as running:
        clients = {name: running.connect(f"gateway/{name}") for name in ("alice", "bob")}
        with pytest.raises(ValueError, match="alice and .*bob have the same"):
            async with gateway(clients, "127.0.0.1:0", token="one"):
                pytest.fail("who shows it could be either")
        assert not [path for path in gateway_dir("http://127.0.0.1:1").parent.rglob("*") if path.is_file()]


@pytest.mark.parametrize("token", ["schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel", "one\ntwo", "a\x7f"])
async def test_a_token_that_no_caller_can_show_is_told(helper, token):
    async with squad(helper) as running:
        with pytest.raises(ValueError, match="token: expected one line of printable ASCII") as raised:
            async with gateway(running.connect("gateway"), "127.0.0.1:0", token=token):
                pytest.fail("nobody would ever be let in")
        assert token not in str(raised.value)
        async with gateway(running.connect("gateway"), "127.0.0.1:0") as here:
            listen = here.url.removeprefix("http://")
        gateway_dir(here.url).mkdir()
        (gateway_dir(here.url) / "token").write_text(token)
        with pytest.raises(ValueError, match=r"/token: expected one line of printable ASCII"):
            async with gateway(running.connect("gateway"), listen):
                pytest.fail("nobody would ever be let in")


@pytest.mark.parametrize("names", [["A"], ["a/b"], [".."], [""], []])
async def test_a_caller_without_a_name_is_told(helper, names):
    async with squad(helper) as running:
        with pytest.raises(ValueError, match="caller"):
            async with gateway({name: running.connect("gateway") for name in names}, "127.0.0.1:0"):
                pytest.fail("there is no file for its token")


async def test_health_tells_whoever_asks_whether_the_coordinator_is_reached(helper):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            client = running.connect("gateway")
            async with (
                gateway(client, "127.0.0.1:0") as here,
                httpx2.AsyncClient(base_url=here.url, headers={"Host": "by.any.name"}) as caller,
            ):
                assert ((found := await caller.get("/healthz")).status_code, found.text) == (200, "ok\n")
                await client.link.aclose()
                assert ((found := await caller.get("/healthz")).status_code, found.text) == (503, "no coordinator\n")


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
async def test_beyond_this_machine_there_is_no_listening_without_tls(helper, listen):
    async with squad(helper) as running:
        with pytest.raises(UnsafeAddress):
            async with gateway(running.connect("gateway"), listen):
                pytest.fail("others could listen in")


async def test_with_tls_every_address_may_be_listened_on(helper):
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with gateway(running.connect("gateway"), "0.0.0.0:0", ssl=server) as here:
                assert here.url.startswith("https://127.0.0.1:")
                shown = await card(here.url, verify=client)
                assert shown.json()["supportedInterfaces"][0]["url"] == f"{here.url}/"


@pytest.mark.parametrize("wrong", ["agents.example", "ws://agents.example", "https://"])
async def test_a_public_url_that_is_none_is_told(helper, wrong):
    async with squad(helper) as running:
        with pytest.raises(ValueError, match="expected http://HOST"):
            async with gateway(running.connect("gateway"), "127.0.0.1:0", public_url=wrong):
                pytest.fail("nobody could reach it")


async def test_an_address_in_use_is_told(helper):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running:
            async with gateway(running.connect("gateway"), "127.0.0.1:0") as here:
                with pytest.raises(OSError, match="cannot listen on"):
                    async with gateway(running.connect("other"), here.url.removeprefix("http://")):
                        pytest.fail("it is taken")
                assert (await card(here.url)).status_code == 200, "and the first one stays"


async def test_at_the_end_who_waits_is_told_and_the_address_is_free(helper, say, gate):
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, httpx2.AsyncClient(timeout=BOUND) as caller:
            async with gateway(running.connect("gateway"), "127.0.0.1:0", grace=0.1) as here:
                caller.base_url = here.url
                caller.headers = {
                    "Authorization": f"Bearer {here.token_files[''].read_text().strip()}",
                    "A2A-Version": "1.0",
                }
                sent = asyncio.create_task(caller.post("/message:send", json=say("wait", "m1")))
                streamed = asyncio.create_task(caller.post("/message:stream", json=say("wait", "m1")))
                await gate.begun.wait()
            answered, stream = await sent, await streamed
            assert (answered.status_code, answered.headers["Retry-After"]) == (503, "1")
            assert "the gateway is stopping" in answered.text
            assert (
                stream.status_code == 200 and "event: error" in stream.text and "the gateway is stopping" in stream.text
            )
            with pytest.raises(httpx2.ConnectError):
                await caller.get("/tasks")
            gate.open.set()


async def test_a_reader_that_reads_nothing_holds_up_nobody(say, monkeypatch):
    """What it does not read is bounded, and it may take up the stream where it was."""
    monkeypatch.setattr(call_following, "_BYTES_MAX", 100_000)
    writer = Agent("writer", "1")

    @writer.skill
    async def much(task: TaskContext) -> str:
        for number in range(200):
            await task.artifact("log", "x" * 60_000 + str(number), append=True, last=False)
        return "done"

    with anyio.fail_after(BOUND):
        async with squad(writer) as running, gateway(running.connect("gateway"), "127.0.0.1:0") as here:
            headers = {"Authorization": f"Bearer {here.token_files[''].read_text().strip()}", "A2A-Version": "1.0"}
            async with httpx2.AsyncClient(base_url=here.url, headers=headers, timeout=BOUND) as caller:
                async with caller.stream("POST", "/message:stream", json=say("much", "m1")) as slow:
                    sent = await caller.post("/message:send", json=say("much", "m1"))
                    assert sent.json()["task"]["status"]["state"] == "TASK_STATE_COMPLETED"
                    lines = [line async for line in slow.aiter_lines()]
                assert "event: error" in lines
                assert "were not read" in lines[-2] or "were not read" in lines[-1]


async def test_more_connections_than_may_be_are_turned_away_and_there_is_room_behind_them(helper, monkeypatch):
    monkeypatch.setattr(serving_module, "_CONNECTIONS_MAX", 3)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, gateway(running.connect("gateway"), "127.0.0.1:0") as here:
            port = int(here.url.rpartition(":")[2])
            held = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(3)]
            while (await card(here.url)).status_code != 503:  # they are noticed a moment later
                await anyio.lowlevel.checkpoint()
            for stream in held:
                await stream.aclose()
            while (await card(here.url)).status_code != 200:
                await anyio.lowlevel.checkpoint()


async def test_signals_are_left_to_whoever_runs_it(helper):
    before = signal.getsignal(signal.SIGTERM)
    with anyio.fail_after(BOUND):
        async with squad(helper) as running, gateway(running.connect("gateway"), "127.0.0.1:0"):
            assert signal.getsignal(signal.SIGTERM) is before
