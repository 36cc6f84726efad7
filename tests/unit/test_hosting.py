"""A coordinator on an address of this machine."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import anyio
import pytest

from a2a import A2AError, Agent, Policy, Server, connect
from a2a.conformance.program import free_port
from a2a.credentials import coordinator_dir, load_secret, load_tokens
from a2a.errors import ConnectError, StoreCorrupt, StoreLocked
from a2a.hosting import UnsafeAddress, host, parse_address, reading
from a2a.link import LinkSettings
from a2a.protocol.messages import TaskDelegate, TaskGet
from a2a.stores.sqlite import SqliteStore
from a2a.transports.websocket import WebSocketSettings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:80", ("::1", 80)),
        (":80", ("127.0.0.1", 80)),
        ("example", ("example", 7420)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


def test_an_address_without_a_port_has_that_of_whoever_asks() -> None:
    assert parse_address("localhost", 1234) == ("localhost", 1234)


@pytest.mark.parametrize("text", ["", "7420", "a:b", "a:70000", "a/b:1", "u@a:1", "ws://a:1", "[::1:80"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_address(text)


async def test_what_is_no_name_of_a_ledger_is_told() -> None:
    with pytest.raises(ValueError, match=r"^db: expected the name of a file, got 7$"):
        async with host(7):  # type: ignore[arg-type]
            pytest.fail("there is nothing to keep a ledger in")


async def test_a_client_of_this_user_gets_in_and_is_an_operator() -> None:
    async with host() as hosted:
        async with connect(hosted.url, operator=True) as client:
            assert client.is_operator
            assert client.durability == "memory"
        with pytest.raises(ConnectError, match="auth"):
            async with connect(hosted.url, token="guessed"):
                pass


async def test_what_is_told_about_it(tmp_path: Path) -> None:
    async with host(tmp_path / "l.db", policy=Policy(namespace="lab")) as hosted:
        assert hosted.db == tmp_path / "l.db"
        assert hosted.server.policy.namespace == "lab"
        assert hosted.tokens == load_tokens(hosted.url)
        assert hosted.server.policy.admission.admits(hosted.tokens.token)
        assert not hosted.server.policy.admission.admits("")


async def test_a_token_that_is_given_takes_the_place_of_the_one_drawn() -> None:
    async with host(token="chosen") as hosted:
        assert hosted.tokens.token == "chosen"
        async with connect(hosted.url):
            pass


async def test_on_a_free_port_nothing_is_left_behind() -> None:
    async with host() as hosted:
        assert coordinator_dir(hosted.url).is_dir()
    assert not coordinator_dir(hosted.url).exists()
    with pytest.raises(ConnectError, match="nothing listens"):
        async with connect(hosted.url):
            pass


async def test_on_a_chosen_port_the_tokens_stay() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with host(listen=address) as first:
        assert first.url == f"ws://{address}"
    async with host(listen=address) as second:
        assert second.tokens == first.tokens


async def test_the_same_ledger_knows_its_principals_under_every_port(tmp_path: Path) -> None:
    secrets = []
    for _ in range(2):
        async with host(tmp_path / "l.db") as hosted:
            async with connect(hosted.url, name="ann"):
                secrets.append(load_secret(hosted.url, "ann"))
    assert secrets[0] is not None
    assert secrets[0] == secrets[1]


async def test_a_ledger_knows_its_principals_through_a_link_and_where_it_was_moved(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    old, link, new = tmp_path / "l.db", tmp_path / "link.db", tmp_path / "elsewhere" / "l.db"
    secrets = []

    async def come(db: Path) -> None:
        async with host(db, address) as hosted, connect(hosted.url, name="ann"):
            secrets.append(load_secret(hosted.url, "ann"))

    await come(old)
    link.symlink_to(old)
    await come(link)
    new.parent.mkdir()
    old.rename(new)
    await come(new)
    assert secrets[0] is not None
    assert secrets == [secrets[0]] * 3


async def test_a_moved_ledger_that_was_tried_elsewhere_first_still_knows_who_was_here(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    old, new = tmp_path / "l.db", tmp_path / "elsewhere.db"
    async with host(old, address) as hosted, connect(hosted.url, name="ann"):
        secret = load_secret(hosted.url, "ann")
    old.rename(new)
    async with host(new):
        pass
    async with host(new, address) as hosted, connect(hosted.url, name="ann"):
        assert load_secret(hosted.url, "ann") == secret


async def test_a_ledger_whose_secrets_are_not_here_says_where_they_are(tmp_path, monkeypatch, caplog) -> None:
    ledger = tmp_path / "l.db"
    async with host(ledger) as hosted, connect(hosted.url, name="ann"):
        pass
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "another machine"))
    caplog.clear()
    async with host(ledger) as hosted:
        with pytest.raises(ConnectError, match="ann is bound to a secret"):
            async with connect(hosted.url, name="ann"):
                pass
    [said] = [record.getMessage() for record in caplog.records if record.name == "a2a.credentials"]
    assert str(ledger) in said
    home = Path(said.rpartition("copy them into ")[2])
    assert home.is_dir()


async def test_nothing_is_said_of_the_secrets_of_a_new_ledger(tmp_path: Path, caplog) -> None:
    for _ in range(2):
        async with host(tmp_path / "l.db"):
            pass
    assert not [record for record in caplog.records if record.name == "a2a.credentials"]


async def test_a_new_ledger_begins_without_the_secrets_of_the_one_before(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with host(tmp_path / "a.db", address) as hosted, connect(hosted.url, name="ann"):
        assert load_secret(hosted.url, "ann") is not None
    async with host(tmp_path / "b.db", address) as hosted:
        assert load_secret(hosted.url, "ann") is None


async def test_two_ledgers_take_turns_under_one_port(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    for db in (tmp_path / "a.db", tmp_path / "b.db", tmp_path / "a.db", None, tmp_path / "b.db", None):
        async with host(db, address) as hosted, connect(hosted.url, name="ann") as client:
            await client.list()


async def test_who_comes_while_the_ledger_is_folded_waits_at_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    waiting: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    fold = Server.open

    async def fold_slowly(server: Server) -> None:
        waiting.append(await asyncio.open_connection("127.0.0.1", port))
        await fold(server)

    monkeypatch.setattr(Server, "open", fold_slowly)
    async with host(listen=f"127.0.0.1:{port}"):
        [(reader, writer)] = waiting
        writer.write(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
        with anyio.fail_after(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 4")
        writer.close()


async def test_a_ledger_in_use_is_refused_and_the_address_is_free_again(tmp_path: Path) -> None:
    async with host(tmp_path / "l.db") as first:
        address = f"127.0.0.1:{free_port()}"
        with pytest.raises(StoreLocked):
            async with host(tmp_path / "l.db", address):
                pass
        async with host(None, address):
            pass
        async with connect(first.url):
            pass


async def test_what_is_no_ledger_is_told_before_anything_is_made_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = tmp_path / "notes.py"
    notes.write_text("print(1)")
    with pytest.raises(StoreCorrupt, match=r"notes.py: expected a ledger, this is not an SQLite database"):
        async with host(notes):
            pass
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("notes")] == ["notes.py"]
    assert [record for record in caplog.records if record.name.startswith("a2a")] == []


async def test_an_address_in_use_is_refused_before_the_ledger_is_touched(tmp_path: Path) -> None:
    async with host() as first:
        address = first.url.removeprefix("ws://")
        with pytest.raises(OSError, match=f"cannot listen on {address}: Address already in use"):
            async with host(tmp_path / "l.db", address):
                pass
    assert not (tmp_path / "l.db").exists()


async def test_an_unknown_name_cannot_be_listened_on() -> None:
    with pytest.raises(OSError, match=r"cannot listen on no-such-host\.invalid:0"):
        async with host(None, "no-such-host.invalid:0"):
            pass


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_beyond_this_machine_there_is_no_listening_without_tls(address: str) -> None:
    with pytest.raises(UnsafeAddress, match="can be reached from other machines"):
        async with host(None, address):
            pass


async def test_with_tls_every_address_may_be_listened_on() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    async with host(None, "0.0.0.0:0", ssl=context) as hosted:
        assert hosted.url.startswith("wss://127.0.0.1:"), "clients here find the tokens by this URL"


async def test_the_block_ends_cleanly_whatever_happens_inside(tmp_path: Path, helper: Agent) -> None:
    with pytest.raises(A2AError, match="inside"):
        async with host(tmp_path / "l.db") as hosted:
            async with connect(hosted.url) as client:
                await client.list()
            raise A2AError("inside")
    async with host(tmp_path / "l.db") as hosted:
        assert hosted.server.coordinator.ledger.epoch == 2


async def test_a_block_that_is_cancelled_leaves_the_ledger_to_the_next(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        with anyio.CancelScope() as scope:
            async with host(tmp_path / "l.db") as first:
                async with connect(first.url) as client:
                    await client.list()
                scope.cancel()
                await anyio.sleep_forever()
        async with host(tmp_path / "l.db") as second:
            assert second.server.coordinator.ledger.epoch == 2
        assert not coordinator_dir(first.url).exists()


@pytest.mark.parametrize("step", ["_load_snapshot", "_flush"])
async def test_who_is_cancelled_before_the_ledger_is_open_leaves_it_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    take = getattr(Server, step)

    def take_and_be_cancelled(server: Server) -> Any:
        scope.cancel()
        return take(server)

    with anyio.fail_after(20):
        with monkeypatch.context() as patched:
            patched.setattr(Server, step, take_and_be_cancelled)
            with anyio.CancelScope() as scope:
                async with host(tmp_path / "l.db"):
                    pytest.fail("it was not open")
        async with host(tmp_path / "l.db"):
            pass


async def test_who_is_cancelled_does_not_wait_for_ever_for_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, closed = anyio.Event(), anyio.Event()
    close = SqliteStore.aclose

    async def close_slowly(store: SqliteStore) -> None:
        await answers.wait()
        await close(store)
        closed.set()

    monkeypatch.setattr(SqliteStore, "aclose", close_slowly)
    monkeypatch.setattr("a2a.hosting._CLOSES_WITHIN", 0.0)
    with anyio.fail_after(20):
        with anyio.CancelScope() as scope:
            async with host(tmp_path / "l.db"):
                scope.cancel()
                await anyio.sleep_forever()
        assert not closed.is_set()
        answers.set()
        await closed.wait()  # nobody waits for it, and it is closed all the same
        async with host(tmp_path / "l.db"):
            pass


async def test_a_reader_that_is_cancelled_closes_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Server] = []
    close = Server.aclose

    async def close_and_tell(server: Server) -> None:
        await close(server)
        closed.append(server)

    with anyio.fail_after(20):
        async with host(tmp_path / "l.db"):
            pass
        monkeypatch.setattr(Server, "aclose", close_and_tell)
        with anyio.CancelScope() as scope:
            async with reading(tmp_path / "l.db") as settings, connect(settings=settings, name="reader"):
                scope.cancel()
                await anyio.sleep_forever()
        assert len(closed) == 1


async def test_a_client_leaves_by_the_whole_closing_handshake(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "a2a.link")
    async with host() as hosted:
        async with connect(hosted.url) as client:
            await client.list()
        assert client.link._transport is None
        assert "closed here: 1000 (OK) bye" in caplog.text


async def test_a_ledger_that_nobody_has_open_can_be_read_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with anyio.fail_after(20):
        async with host(path) as hosted:
            settings = LinkSettings(url=hosted.url, token=hosted.tokens.token, secrets={})
            async with connect(settings=settings, name="someone") as client:
                async with client.delegate("nothing", key="k") as task:
                    pass
        before = path.read_bytes()
        Path(f"{path}.lock").unlink()  # as with a copy, on a medium that cannot be written as well
        async with reading(path) as settings, connect(settings=settings, name="reader") as client:
            assert not Path(f"{path}.lock").exists()
            [listed] = await client.list()
            assert listed["id"] == task.id
            assert (await client.get(task.id))["metadata"]["state"] == "queued"
            async with client.delegate("other", key="k2"):
                pass  # goes into the copy, and with it
        assert path.read_bytes() == before


async def test_a_connection_holds_as_much_as_its_peer_is_told_it_does() -> None:
    with anyio.fail_after(20):
        async with host(settings=WebSocketSettings(connections_max=5)) as hosted, connect(hosted.url) as client:
            given = "x" * 1_900_000
            tasks = [(await client.link.call(_delegation(number, given))).task for number in range(10)]  # type: ignore[attr-defined]
            found = await asyncio.gather(*(client.link.call(TaskGet(task)) for task in tasks))
            assert sum(len(task.input) for task in found) > WebSocketSettings().outbox_max_bytes  # type: ignore[attr-defined]


async def test_as_much_is_read_at_once_from_a_ledger_as_from_its_coordinator(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with anyio.fail_after(20):
        async with host(path) as hosted, connect(hosted.url) as client:
            given = "x" * 1_900_000
            tasks = [(await client.link.call(_delegation(number, given))).task for number in range(10)]  # type: ignore[attr-defined]
        async with reading(path) as settings, connect(settings=settings, name="reader") as client:
            found = await asyncio.gather(*(client.link.call(TaskGet(task)) for task in tasks))
            assert sum(len(task.input) for task in found) > 16 * 1024 * 1024  # type: ignore[attr-defined]


def _delegation(number: int, given: str) -> TaskDelegate:
    return TaskDelegate(f"k{number}", {"skill": "nothing"}, json.dumps([{"text": given}]).encode())


async def test_a_ledger_is_read_under_names_that_are_bound_in_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with anyio.fail_after(20):
        async with host(path) as hosted:
            async with connect(hosted.url) as client:  # the user's name
                async with client.delegate("nothing", key="k") as task:
                    pass
            async with connect(hosted.url, name="reader"):
                pass
        before = path.read_bytes()
        async with reading(path) as settings:
            for name in (None, "reader", None):
                async with connect(settings=settings, name=name) as client:
                    assert (await client.get(task.id))["metadata"]["state"] == "queued"
        assert path.read_bytes() == before
        async with host(path) as hosted, connect(hosted.url) as client:
            assert [listed["id"] for listed in await client.list()] == [task.id]


async def test_a_ledger_that_a_coordinator_has_open_is_not_read_behind_its_back(tmp_path: Path) -> None:
    with anyio.fail_after(20):
        async with host(tmp_path / "ledger.db"):
            with pytest.raises(StoreLocked):
                async with reading(tmp_path / "ledger.db"):
                    pass
