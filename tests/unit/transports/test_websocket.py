"""What only the WebSocket transport promises: who is let in, how a listener ends, what `connect` makes of whatever
answers, and that other implementations of the protocol can be talked to."""

import asyncio
import errno
import logging
import socket
import ssl
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trustme
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.exceptions import ConnectionClosed, InvalidStatus

from a2a.conformance.program import free_port
from a2a.errors import ConnectError
from a2a.transports.websocket import JSON, MSGPACK, WebSocketSettings, _ClientHandshake, connect, serve

WAIT = 10.0
BINARY, PING, PONG = 0x2, 0x9, 0xA
FIN = 0x80


@pytest.fixture
def answer_to(raw_peer):
    """Gives everything a listener answers to a request."""

    async def ask(listener, request):
        async with raw_peer(listener) as peer:
            await peer.write(request)
            return await peer.read_to_end()

    return ask


# --- who is let in ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"Origin": "https://evil.example"}, 403, "https://evil.example"),
        ({"Origin": "null"}, 403, "null"),
        ({"Origin": ["https://console.example", "https://evil.example"]}, 403, "https://evil.example"),
        ({"Host": "evil.example"}, 403, "evil.example"),
        ({"Host": "evil.example:80"}, 403, "evil.example"),
        ({"Host": "localhost.evil.example"}, 403, "localhost.evil.example"),
        ({"Host": "0.0.0.0"}, 403, "0.0.0.0"),
        ({"Host": ["localhost", "evil.example"]}, 400, "one Host header"),
        ({"Host": None}, 400, "one Host header"),
        ({"Sec_WebSocket_Protocol": None}, 400, f"{MSGPACK}, {JSON}"),
        ({"Sec_WebSocket_Protocol": "chat, mqtt"}, 400, f"{MSGPACK}, {JSON}"),
        ({"Sec_WebSocket_Key": "short"}, 400, "Sec-WebSocket-Key"),
        ({"Upgrade": None, "Connection": None}, 426, "ws://127.0.0.1:"),
        ({"Cookie": ["x" * 1000] * 9}, 431, "8192 bytes"),
    ],
)
async def test_an_upgrade_that_is_not_allowed_is_answered_with_the_reason(
    listening, upgrade, answer_to, changes, status, says
):
    async with listening(origins=frozenset({"https://console.example"})) as listener:
        answer = await answer_to(listener, upgrade(**changes))
        assert answer.startswith(f"HTTP/1.1 {status} ")
        assert says in answer.partition("\r\n\r\n")[2]
        assert listener.recorders == []


@pytest.mark.parametrize("host", ["10.1.2.3", "evil.example"])
async def test_whoever_asks_is_told_that_connections_are_taken(listening, raw_peer, host, caplog):
    caplog.set_level("INFO")
    async with listening() as listener, raw_peer(listener) as peer:
        await peer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        head, _, body = (await peer.read_to_end()).partition("\r\n\r\n")
        assert (head.splitlines()[0], body) == ("HTTP/1.1 200 OK", "ok\n")
        assert listener.recorders == []
    assert "refused" not in caplog.text, "it is asked every second"


async def test_where_no_more_connections_are_taken_that_is_the_answer(listening, raw_peer):
    async with listening(connections_max=1) as listener, raw_peer(listener), raw_peer(listener) as peer:
        await peer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await peer.read_head()).startswith("HTTP/1.1 503 ")


async def test_a_path_changes_nothing_for_an_upgrade(listening, upgrade, raw_peer):
    async with listening() as listener, raw_peer(listener) as peer:
        await peer.write(upgrade().replace(b"GET / ", b"GET /healthz "))
        assert (await peer.read_head()).startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Origin": "https://console.example"},
        {"Host": "LOCALHOST:8080"},
        {"Host": "127.0.0.1"},
        {"Host": "[::1]:8080"},
        {"Host": "agents.example:443"},
    ],
)
async def test_an_upgrade_that_is_allowed_opens_a_connection(listening, upgrade, raw_peer, changes):
    settings = {"origins": frozenset({"https://console.example"}), "hosts": frozenset({"Agents.example"})}
    async with listening(**settings) as listener, raw_peer(listener) as peer:
        await peer.write(upgrade(**changes))
        assert (await peer.read_head()).startswith("HTTP/1.1 101 ")


@pytest.mark.skipif(sys.platform != "linux", reason="the only address surely ours is 127.0.0.1")
async def test_a_listener_on_all_addresses_is_called_by_the_one_that_was_reached(
    listening, upgrade, raw_peer, answer_to
):
    async with listening(host="0.0.0.0") as listener:
        for other in ("10.1.2.3", "0.0.0.0"):
            assert (await answer_to(listener, upgrade(Host=other))).startswith("HTTP/1.1 403 ")
        async with raw_peer(listener, "127.0.0.2") as peer:
            await peer.write(upgrade(Host=f"127.0.0.2:{listener.port}"))
            assert (await peer.read_head()).startswith("HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [([MSGPACK], MSGPACK), ([JSON], JSON), ([JSON, MSGPACK], JSON), (["chat", MSGPACK, JSON], MSGPACK)],
)
async def test_the_first_offered_subprotocol_that_is_known_is_chosen(
    listening, connected, make_recorder, offered, chosen
):
    async with (
        listening() as listener,
        connected(listener, make_recorder(), subprotocols=offered) as transport,
    ):
        assert transport.subprotocol == chosen
        assert (await listener.recorders[0].until_opened()).subprotocol == chosen


async def test_a_connection_more_than_the_listener_holds_is_refused_until_one_ends(listening, connected, make_recorder):
    async with listening(connections_max=1, closing_deadline=0.05) as listener:
        async with connected(listener, make_recorder()):
            with pytest.raises(ConnectError, match="HTTP 503") as caught:
                await connect(listener.url, make_recorder())
            assert not caught.value.is_absent
        await listener.recorders[0].until_closed()
        async with asyncio.timeout(WAIT):
            while True:
                try:
                    async with connected(listener, make_recorder()):
                        break
                except ConnectError:  # the refused one takes its closing deadline to go
                    await asyncio.sleep(0.01)


async def test_a_handshake_that_takes_too_long_is_ended(listening, raw_peer):
    async with listening(handshake_deadline=0.05) as listener, raw_peer(listener) as peer:
        await peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        assert (await peer.read_to_end()).startswith("HTTP/1.1 408 ")


async def test_a_peer_that_is_still_writing_can_read_why_it_was_refused(listening, upgrade, raw_peer):
    async with listening() as listener, raw_peer(listener) as peer:
        await peer.write(upgrade(Host="evil.example"))
        for _ in range(64):
            await peer.write(bytes(65536))
        assert (await peer.read_to_end()).startswith("HTTP/1.1 403 ")


async def test_a_peer_that_stays_after_it_was_refused_is_dropped(listening, upgrade, raw_peer):
    async with listening(closing_deadline=0.05) as listener, raw_peer(listener) as peer:
        await peer.write(upgrade(Host="evil.example"))
        await peer.read_to_end()
        with pytest.raises(ConnectionError):
            while True:
                await peer.write(bytes(65536))
                await asyncio.sleep(0)


async def test_a_request_may_come_byte_by_byte_with_messages_right_behind_it(listening, upgrade, raw_peer):
    async with listening() as listener, raw_peer(listener) as peer:
        for byte in upgrade():
            await peer.write(bytes([byte]))
            await asyncio.sleep(0)
        await peer.read_head()
        await peer.write_frame(FIN | BINARY, b"1")
        assert await listener.recorders[0].until_received(1) == [b"1"]


async def test_frames_sent_together_with_the_request_are_answered_after_it(listening, upgrade, raw_peer):
    async with listening() as listener, raw_peer(listener) as peer:
        await peer.write(
            upgrade() + bytes([FIN | PING, 0x80]) + bytes(4) + bytes([FIN | BINARY, 0x81]) + bytes(4) + b"1"
        )
        assert (await peer.read_head()).startswith("HTTP/1.1 101 ")
        assert await peer.read_frame() == (FIN | PONG, b"")
        assert await listener.recorders[0].until_received(1) == [b"1"]


@pytest.mark.parametrize(
    "garbage",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", bytes(range(256)), bytes(100_000)],
    ids=["text", "tls", "bytes", "zeros"],
)
async def test_garbage_instead_of_http_disturbs_nobody_else(listening, raw_peer, connected, make_recorder, garbage):
    recorder = make_recorder()
    async with listening() as listener, connected(listener, recorder) as transport:
        async with raw_peer(listener) as peer:
            await peer.write(garbage)
            await peer.read_to_end()
        transport.send(b"undisturbed")
        assert await listener.recorders[0].until_received(1) == [b"undisturbed"]
        assert len(listener.recorders) == 1


async def test_a_socket_bound_before_can_be_listened_on(connected, make_recorder):
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listener = await serve("127.0.0.1", 0, make_recorder, sock=sock)
    assert listener.url == f"ws://127.0.0.1:{port}"
    async with connected(listener, make_recorder()):
        pass
    await listener.aclose()


async def test_a_factory_that_fails_costs_the_connection_it_failed_for(make_recorder, caplog):
    def fail():
        raise RuntimeError("a bug")

    listener = await serve("127.0.0.1", 0, fail)
    with pytest.raises(ConnectError, match="HTTP 500"):
        await connect(listener.url, make_recorder())
    await listener.aclose()
    assert "a bug" in caplog.text


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_closing_the_listener_closes_all_connections_with_1001(listening, make_recorder):
    recorders = [make_recorder() for _ in range(3)]
    async with listening() as listener:
        for recorder in recorders:
            await connect(listener.url, recorder)
        await listener.aclose()
        for recorder in recorders:
            assert (await recorder.until_closed()).startswith("closed by the peer: 1001 (going away)")
        assert [len(recorder.reasons) for recorder in listener.recorders] == [1, 1, 1]
        with pytest.raises(ConnectError, match=f"nothing listens at 127.0.0.1:{listener.port}"):
            await connect(listener.url, make_recorder())
        await listener.aclose()


async def test_closing_the_listener_waits_for_a_deaf_peer_no_longer_than_the_deadline(
    listening, raw_peer, raw_websocket
):
    async with (
        listening(closing_deadline=0.05) as listener,
        raw_websocket(listener) as (_, recorder),
        raw_peer(listener) as half_way,
    ):
        await half_way.write(b"GET / ")
        async with asyncio.timeout(WAIT):
            await listener.aclose()
        assert recorder.reasons[0].endswith("the peer did not end it within 0.05 s")


async def test_everything_ends_with_the_listener_though_its_closing_is_cancelled(listening, raw_websocket):
    async with listening(closing_deadline=60.0) as listener, raw_websocket(listener) as (_, recorder):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await listener.aclose()
        await recorder.until_closed()


# --- connecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://localhost:1", "localhost", "ws://", "ws://localhost:port", "ws://h/#fragment"])
async def test_a_url_that_is_none_is_named(make_recorder, url):
    with pytest.raises(ConnectError, match="expected ws://host:port"):
        await connect(url, make_recorder())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_nobody_listens_at_is_named(make_recorder, host):
    port = free_port()
    with pytest.raises(ConnectError, match=f"^nothing listens at {host}:{port}$") as caught:
        await connect(f"ws://{host}:{port}", make_recorder())
    assert caught.value.is_absent


@pytest.mark.parametrize(
    ("failure", "says", "is_final"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "is not known: Name or service", False),
        (UnicodeError("label empty or too long"), "is not valid: label empty", True),
    ],
)
async def test_a_name_that_cannot_be_looked_up_is_named(make_recorder, monkeypatch, failure, says, is_final):
    async def getaddrinfo(*_, **__):
        raise failure

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    with pytest.raises(ConnectError, match=f"^the name nowhere {says}") as caught:
        await connect("ws://nowhere:1", make_recorder())
    assert caught.value.is_final is is_final


@pytest.fixture
def named(monkeypatch):
    """Gives a name some addresses; connections to those in `dead` get no answer, as where packets are dropped."""

    def name(*addresses, dead=(), away=(), together=1, then=lambda: None):
        loop = asyncio.get_running_loop()
        tried, sock_connect, barrier = [], loop.sock_connect, asyncio.Barrier(together)

        async def getaddrinfo(host, port, **_):
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port)) for one in addresses]

        async def attempt(sock, address):
            tried.append((address[0], sock))
            if address[0] in dead:
                await asyncio.Event().wait()
            if address[0] in away:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            await sock_connect(sock, address)
            await barrier.wait()
            then()

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(loop, "sock_connect", attempt)
        return tried

    return name


async def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(listening, make_recorder, named):
    async with listening() as listener:
        tried = named("127.0.0.9", "127.0.0.1", dead=("127.0.0.9",))
        transport = await connect(f"ws://localhost:{listener.port}", make_recorder())
        assert transport.peer == f"127.0.0.1:{listener.port}"
        (first, sock), (second, _) = tried
        assert (first, second, sock.fileno()) == ("127.0.0.9", "127.0.0.1", -1), "the other attempt has ended"
        transport.close()


async def test_the_next_address_of_a_name_is_tried_at_once_where_one_refuses(
    listening, make_recorder, named, monkeypatch
):
    monkeypatch.setattr("a2a.transports.websocket.NEXT_ADDRESS_AFTER", 60)
    async with listening() as listener:
        named("127.0.0.9", "127.0.0.1")
        transport = await connect(f"ws://localhost:{listener.port}", make_recorder())
        assert transport.peer == f"127.0.0.1:{listener.port}"
        transport.close()


async def test_of_two_addresses_that_answer_at_once_one_is_used(listening, make_recorder, named, monkeypatch):
    monkeypatch.setattr("a2a.transports.websocket.NEXT_ADDRESS_AFTER", 0)
    async with listening() as listener:
        tried = named("127.0.0.1", "127.0.0.1", together=2)
        transport = await connect(f"ws://localhost:{listener.port}", make_recorder())
        assert sum(sock.fileno() == -1 for _, sock in tried) == 1
        transport.close()


async def test_of_a_name_whose_addresses_fail_the_one_that_refused_is_told(make_recorder, named):
    named("127.0.0.9", "127.0.0.1", away=("127.0.0.9",))
    with pytest.raises(ConnectError, match="^nothing listens at localhost:"):
        await connect(f"ws://localhost:{free_port()}", make_recorder())
    named("127.0.0.9", away=("127.0.0.9",))
    with pytest.raises(ConnectError, match=r"localhost:1 cannot be reached: .*Network is unreachable"):
        await connect("ws://localhost:1", make_recorder())


@pytest.mark.parametrize("together", [1, 2])
async def test_a_connect_cancelled_as_an_address_answers_leaves_no_socket(listening, make_recorder, named, together):
    def cancel():
        task.cancel()

    async with listening() as listener:
        tried = named(*["127.0.0.1"] * together, together=together, then=cancel)
        task = asyncio.create_task(connect(f"ws://localhost:{listener.port}", make_recorder()))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [sock.fileno() for _, sock in tried] == [-1] * together


async def test_a_name_whose_addresses_do_not_answer_is_given_up_in_time(make_recorder, named):
    tried = named("127.0.0.8", "127.0.0.9", dead=("127.0.0.8", "127.0.0.9"))
    with pytest.raises(ConnectError, match="timed out after 0.6 s: no TCP connection"):
        await connect("ws://localhost:1", make_recorder(), WebSocketSettings(handshake_deadline=0.6))
    assert [(one, sock.fileno()) for one, sock in tried] == [("127.0.0.8", -1), ("127.0.0.9", -1)]


async def test_a_listener_without_tls_that_is_spoken_to_in_it_is_told_as_that(listening, make_recorder):
    recorder = make_recorder()
    async with listening() as listener:
        where = f"127.0.0.1:{listener.port}"
        with pytest.raises(ConnectError, match=f"^{where} did not answer in TLS: .* ws://{where}$"):
            await connect(f"wss://{where}", recorder)
    assert recorder.calls == []


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def secured(listening, authority):
    """Opens a listener with a certificate for the names given."""

    def open_listener(*names, **options):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        return listening(ssl=context, **options)

    return open_listener


@pytest.fixture
def trusting(authority):
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_messages_go_both_ways_in_tls(secured, trusting, make_recorder):
    recorder, message = make_recorder(), bytes(range(256)) * 4096
    async with secured("127.0.0.1") as listener:
        assert listener.url == f"wss://127.0.0.1:{listener.port}"
        there = await connect(listener.url, recorder, ssl=trusting)
        there.send(message)
        (peer,) = listener.recorders
        assert await peer.until_received(1) == [message]
        peer.transport.send(message)
        assert await recorder.until_received(1) == [message]
        there.close()
        await peer.until_closed()
        await recorder.until_closed()


async def test_what_is_written_last_in_tls_arrives(secured, trusting, make_recorder):
    recorder = make_recorder()
    async with secured("127.0.0.1") as listener:
        there = await connect(listener.url, recorder, ssl=trusting)
        for number in range(100):
            there.send(b"%d" % number)
        there.close()
        (peer,) = listener.recorders
        await peer.until_closed()
        assert peer.messages == [b"%d" % number for number in range(100)]
        await recorder.until_closed()


async def test_a_certificate_that_nobody_vouches_for_is_refused(secured, make_recorder, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    recorder = make_recorder()
    async with secured("127.0.0.1") as listener:
        with pytest.raises(
            ConnectError, match=r"could not be connected to securely: .*; SSL_CERT_FILE can name other issuers"
        ):
            await connect(listener.url, recorder)
        assert listener.recorders == []
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "which cannot be read: No such file or directory"),
        ("-----BEGIN PRIVATE KEY-----\n", "which holds no certificate"),
        (trustme.CA().cert_pem.bytes().decode(), "which does not have its issuer"),
    ],
    ids=["no file", "a key", "somebody else"],
)
async def test_where_those_to_trust_are_named_in_vain_it_is_said_why(
    secured, make_recorder, monkeypatch, tmp_path, text, why
):
    trusted = tmp_path / "trusted.pem"
    if text is not None:
        trusted.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with secured("127.0.0.1") as listener:
        with pytest.raises(ConnectError) as refused:
            await connect(listener.url, make_recorder())
    assert str(refused.value).endswith(f"; SSL_CERT_FILE names {trusted}, {why}")


async def test_a_certificate_for_another_name_is_refused(secured, trusting, make_recorder):
    recorder = make_recorder()
    async with secured("elsewhere.example") as listener:
        with pytest.raises(ConnectError, match=r"could not be connected to securely: .*127\.0\.0\.1") as refused:
            await connect(listener.url, recorder, ssl=trusting)
    assert str(refused.value).endswith(
        "; connect to a name that it has, or have the coordinator's --tls-cert issued for 127.0.0.1 as well"
    )
    assert recorder.calls == []


@pytest.mark.parametrize(("begins", "ends", "why"), [(-9, -1, "has expired"), (1, 9, "is not yet valid")])
async def test_of_a_certificate_whose_time_is_over_or_to_come_the_clock_is_named(
    listening, authority, trusting, make_recorder, begins, ends, why
):
    now = datetime.now(UTC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    dates = {"not_before": now + timedelta(days=begins), "not_after": now + timedelta(days=ends)}
    authority.issue_cert("127.0.0.1", **dates).configure_cert(context)
    words = rf"{why} .*; the clock here says 20.* UTC: if that is right, have the coordinator's --tls-cert renewed"
    async with listening(ssl=context) as listener:
        with pytest.raises(ConnectError, match=words):
            await connect(listener.url, make_recorder(), ssl=trusting)


async def test_those_to_trust_are_read_at_each_connection(secured, authority, make_recorder, monkeypatch, tmp_path):
    trusted = tmp_path / "trusted.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    trustme.CA().cert_pem.write_to_path(str(trusted))
    async with secured("127.0.0.1") as listener:
        with pytest.raises(ConnectError, match="which does not have its issuer"):
            await connect(listener.url, make_recorder())
        authority.cert_pem.write_to_path(str(trusted))
        recorder = make_recorder()
        (await connect(listener.url, recorder)).close()
        await recorder.until_closed()


async def test_a_listener_with_tls_that_is_spoken_to_without_it_is_told_as_that(secured, make_recorder):
    recorder = make_recorder()
    async with secured("127.0.0.1") as listener:
        where = f"127.0.0.1:{listener.port}"
        with pytest.raises(ConnectError, match=f"^ws://{where} did not answer .* TLS would be at wss://{where}$"):
            await connect(f"ws://{where}", recorder)
    assert recorder.calls == []


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_a_coordinator_that_speaks_no_encoding_that_was_offered_is_not_tried_again(listening, make_recorder):
    recorder = make_recorder()
    async with listening() as listener:
        with pytest.raises(ConnectError) as refused:
            await connect(listener.url, recorder, subprotocols=["a2a.coord+cbor", "chat"])
    says = f"{listener.url} speaks {MSGPACK}, {JSON}, but was asked for a2a.coord+cbor, chat"
    assert (str(refused.value), refused.value.is_final) == (says, True)
    assert recorder.calls == []


async def test_a_refusal_that_names_an_encoding_that_was_offered_is_quoted(make_recorder):
    """It is about something else."""
    answer = f"HTTP/1.1 400 Bad Request\r\n\r\n{JSON} is spoken by {MSGPACK} alone".encode()
    async with plain_server(answer) as (url, _):
        with pytest.raises(ConnectError, match="refused the connection with HTTP 400: a2a") as refused:
            await connect(url, make_recorder(), subprotocols=[JSON])
    assert not refused.value.is_final


@asynccontextmanager
async def plain_server(answer):
    """Answers any request with these bytes, or never. Yields its URL and a queue of the connections it saw end."""
    ended = asyncio.Queue()

    async def talk(reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            if answer is not None:
                writer.write(answer)
                writer.write_eof()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.close()
            ended.put_nowait(True)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", ended
    finally:
        server.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nno a2a", "refused the connection with HTTP 404: no a2a"),
        (b"HTTP/1.1 404 Not Found\r\n\r\nno length", "refused the connection with HTTP 404: no length"),
        (
            b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 5\r\n\r\nWell.",
            "refused the connection with HTTP 426: Well.; a proxy on the way has to pass the headers Upgrade and",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "refused the connection with HTTP 200: OK"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "did not answer as a coordinator does"),
        (
            b"",
            "did not answer as a coordinator does: it ended the connection without an answer; one with TLS would be at",
        ),
    ],
)
async def test_a_server_that_is_no_coordinator_is_told_apart(make_recorder, answer, says):
    recorder = make_recorder()
    async with plain_server(answer) as (url, ended):
        with pytest.raises(ConnectError) as caught:
            await connect(url, recorder)
        assert str(caught.value).startswith(f"{url} {says}")
        assert caught.value.is_absent
        async with asyncio.timeout(WAIT):
            await ended.get()
    assert recorder.calls == []


async def test_a_server_that_does_not_answer_is_given_up_and_left(make_recorder):
    async with plain_server(None) as (url, ended):
        with pytest.raises(ConnectError, match=r"timed out after 0\.05 s: no answer to the handshake"):
            await connect(url, make_recorder(), WebSocketSettings(handshake_deadline=0.05))
        async with asyncio.timeout(WAIT):
            await ended.get()


async def test_a_server_that_says_nothing_in_tls_is_given_up(make_recorder):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"wss://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectError, match=r"timed out after 0\.05 s: no TCP connection, or no answer in TLS"):
            await connect(url, make_recorder(), WebSocketSettings(handshake_deadline=0.05))


async def test_a_cancelled_connect_leaves_no_connection(make_recorder):
    recorder = make_recorder()
    async with plain_server(None) as (url, ended):
        task = asyncio.create_task(connect(url, recorder))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(WAIT):
            await ended.get()
    assert recorder.calls == []


async def test_a_connect_cancelled_as_it_opens_closes_what_it_opened(listening, make_recorder):
    recorder = make_recorder()
    async with listening() as listener:
        task = asyncio.create_task(connect(listener.url, recorder))
        recorder.on_opened = lambda transport: task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await recorder.until_closed() == "aborted here"
        await listener.recorders[0].until_closed()


async def test_a_connect_cancelled_as_the_answer_comes_is_no_error(listening, make_recorder, monkeypatch):
    recorder, raised = make_recorder(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    take = _ClientHandshake._take

    def cancelled_before(handshake, events, rest):
        task.cancel()
        take(handshake, events, rest)

    monkeypatch.setattr(_ClientHandshake, "_take", cancelled_before)
    async with listening() as listener:
        task = asyncio.create_task(connect(listener.url, recorder))
        with pytest.raises(asyncio.CancelledError):
            await task
        await listener.recorders[0].until_closed()
    assert raised == [] and recorder.calls == []


# --- other implementations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("subprotocol", "kind"), [(MSGPACK, bytes), (JSON, str)])
async def test_a_client_of_websockets_talks_to_our_server(listening, subprotocol, kind):
    def prepare(recorder):
        recorder.on_opened = lambda transport: setattr(recorder, "on_message", transport.send)

    async with listening(prepare=prepare, ping_interval=0.02) as listener:
        async with websockets.asyncio.client.connect(listener.url, subprotocols=[subprotocol]) as client:
            assert client.subprotocol == subprotocol
            assert client.protocol.extensions == [], "no compression, though it was offered"
            message = "grün" if kind is str else b"\x00\xff"
            await client.send(message)
            assert await client.recv() == message
            await client.send([message[:1], message[1:]])
            assert await client.recv() == message
            await (await client.ping())
        assert await listener.recorders[0].until_closed() == "closed by the peer: 1000 (OK)"


async def test_a_client_of_websockets_is_told_the_code_of_our_close(listening):
    async with listening() as listener:
        async with websockets.asyncio.client.connect(listener.url, subprotocols=[MSGPACK]) as client:
            listener.recorders[0].transport.close(4001, "taken over")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "taken over")
        assert await listener.recorders[0].until_closed() == "closed here: 4001 (private use) taken over"


async def test_a_client_of_websockets_reads_why_it_was_refused(listening):
    async with listening() as listener:
        with pytest.raises(InvalidStatus) as caught:
            await websockets.asyncio.client.connect(listener.url, origin="https://evil.example", subprotocols=[MSGPACK])
        assert caught.value.response.status_code == 403
        assert b"https://evil.example" in caught.value.response.body


@pytest.mark.parametrize("subprotocol", [MSGPACK, JSON])
async def test_our_client_talks_to_a_server_of_websockets(make_recorder, subprotocol):
    async def echo(connection):
        async for message in connection:
            await connection.send(message)
            await connection.send([message[:2], message[2:]])

    recorder = make_recorder()
    async with websockets.asyncio.server.serve(echo, "127.0.0.1", 0, subprotocols=[JSON, MSGPACK]) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = await connect(url, recorder, WebSocketSettings(ping_interval=0.02), subprotocols=[subprotocol])
        assert transport.subprotocol == subprotocol
        transport.send(b"hello")
        assert await recorder.until_received(2) == [b"hello", b"hello"]
        transport.close()
        assert await recorder.until_closed() == "closed here: 1000 (OK)"


async def test_a_server_of_websockets_that_names_no_subprotocol_is_not_ours(make_recorder, caplog):
    caplog.set_level(logging.CRITICAL, "websockets.server")

    async def wait(connection):
        await connection.wait_closed()

    recorder = make_recorder()
    async with websockets.asyncio.server.serve(wait, "127.0.0.1", 0) as server:
        with pytest.raises(ConnectError, match="not an a2a coordinator"):
            await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", recorder)
    assert recorder.calls == []
