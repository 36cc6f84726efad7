"""The certificate that a coordinator shows: what new connections get after a renewal, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from a2a import certificates, loop
from a2a.certificates import ServedCertificate, Validity

BOUND = 20
DAY = 86_400
AUTHORITY = trustme.CA()


def nobody() -> str:
    raise AssertionError("nobody is there to be asked")


class Files:
    """A certificate and its key, each replaced as whoever renews them does: written beside its place, and moved."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"

    def renew(self, issued: trustme.LeafCert, *, phrase: bytes | None = None) -> trustme.LeafCert:
        self.replace_cert(issued)
        self.replace_key(issued, phrase=phrase)
        return issued

    def replace_cert(self, issued: trustme.LeafCert) -> None:
        replace(self.cert, b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    def replace_key(self, issued: trustme.LeafCert, *, phrase: bytes | None = None) -> None:
        pem = issued.private_key_pem.bytes()
        if phrase is not None:
            key = load_pem_private_key(pem, None)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(phrase))
        replace(self.key, pem)

    def served(self, ask: Callable[[], str] = nobody, names: tuple[str, ...] = ()) -> ServedCertificate:
        return ServedCertificate(self.cert, self.key, ask, names)


def replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}")
    beside.write_bytes(content)
    beside.replace(path)


def issue(*names: str, **dates: Any) -> trustme.LeafCert:
    return AUTHORITY.issue_cert(*(names or ("127.0.0.1",)), **dates)


def days_from_now(days: float) -> datetime:
    return datetime.fromtimestamp(time.time(), UTC) + timedelta(days=days)


def lasting(begins: float, ends: float) -> trustme.LeafCert:
    return issue(not_before=days_from_now(begins), not_after=days_from_now(ends))


def shown(served: ServedCertificate) -> bytes:
    """Return what a connection that comes now is shown, in PEM."""
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)
    certificate = certificates._shown_to(client, served.context, "127.0.0.1").getpeercert(binary_form=True)
    assert certificate is not None
    return ssl.DER_cert_to_PEM_cert(certificate).encode()


def pem_of(issued: trustme.LeafCert) -> bytes:
    return issued.cert_chain_pems[0].bytes()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was told since it was asked last."""

    def take() -> list[str]:
        records = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        caplog.clear()
        return records

    return take


def test_a_renewed_certificate_is_shown_to_who_comes_then(files: Files, told: Any) -> None:
    first = files.renew(issue())
    served = files.served()
    assert shown(served) == pem_of(first)
    served.look()
    assert shown(served) == pem_of(first)
    for _ in range(2):
        renewed = files.renew(issue())
        served.look()
        assert shown(served) == pem_of(renewed)
    assert told() == []


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, loop.new_loop], ids=["asyncio", "the fastest"])
def test_connections_that_are_there_go_on_and_others_get_the_renewed_one_without_a_word(
    files: Files, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    monkeypatch.setattr(certificates, "_LOOKED_AT_EVERY", 0.01)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(renewed_beside_a_connection(files))


async def renewed_beside_a_connection(files: Files) -> None:
    client = ssl.create_default_context()
    AUTHORITY.configure_trust(client)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def say(line: bytes, to: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        to[1].write(line)
        assert await to[0].readline() == line

    first = files.renew(issue())
    served = files.served()
    with anyio.fail_after(BOUND):
        async with served.renewed(), await asyncio.start_server(echo, "127.0.0.1", 0, ssl=served.context) as server:
            port = server.sockets[0].getsockname()[1]
            before = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            await say(b"before\n", before)
            renewed = files.renew(issue())
            certificate = b""
            while certificate != pem_of(renewed):
                assert certificate in (b"", pem_of(first))
                after = await asyncio.open_connection("127.0.0.1", port, ssl=client)
                await say(b"after\n", after)
                peer = after[1].get_extra_info("ssl_object").getpeercert(binary_form=True)
                certificate = ssl.DER_cert_to_PEM_cert(peer).encode()
                after[1].close()
            await say(b"still here\n", before)
            before[1].close()


async def test_a_look_that_fails_is_not_the_last(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files.renew(issue())
    served, again, looks = files.served(), asyncio.Event(), 0
    here = asyncio.get_running_loop()

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("can't start new thread")
        here.call_soon_threadsafe(again.set)

    monkeypatch.setattr(served, "look", look)
    monkeypatch.setattr(certificates, "_LOOKED_AT_EVERY", 0.01)
    with anyio.fail_after(BOUND):
        async with served.renewed():
            await again.wait()
    assert f"{files.cert} could not be checked" in caplog.text


def test_a_pair_that_is_half_replaced_changes_nothing_and_is_not_told_of_at_once(files: Files, told: Any) -> None:
    first = files.renew(issue())
    served, renewed = files.served(), issue()
    files.replace_cert(renewed)
    served.look()
    assert shown(served) == pem_of(first)
    files.replace_key(renewed)
    served.look()
    assert shown(served) == pem_of(renewed)
    assert told() == []


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"not a certificate", "PEM"), (None, "No such file or directory: "), ("of another key", "key values mismatch")],
    ids=["damaged", "gone", "half replaced"],
)
def test_what_stays_of_no_use_is_told_once_and_what_was_shown_before_is_shown_on(
    files: Files, told: Any, content: Any, why: str
) -> None:
    first = files.renew(issue())
    served = files.served()
    if content is None:
        files.cert.unlink()
    elif isinstance(content, bytes):
        replace(files.cert, content)
    else:
        files.replace_cert(issue())
    for _ in range(4):
        served.look()
        assert shown(served) == pem_of(first)
    [words] = told()
    assert words.startswith(f"{files.cert} with {files.key} cannot be used; the previous certificate stays in use: ")
    assert why in words
    files.key.unlink()
    for _ in range(3):
        served.look()
    assert len(told()) == 1, "it is of no use for another reason"
    renewed = files.renew(issue())
    for _ in range(3):
        served.look()
    assert shown(served) == pem_of(renewed)
    assert told() == []


def test_a_link_that_is_turned_to_another_pair_renews_it(tmp_path: Path, told: Any) -> None:
    pairs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        pairs.append(Files(tmp_path / name).renew(issue()))
    # As Kubernetes does it: the files lead through one link, so that both are replaced at once.
    current, files = tmp_path / "..data", Files(tmp_path)
    current.symlink_to("one")
    files.cert.symlink_to("..data/cert.pem")
    files.key.symlink_to("..data/key.pem")
    served = files.served()
    assert shown(served) == pem_of(pairs[0])
    turned = tmp_path / "..tmp"
    turned.symlink_to("two")
    turned.replace(current)
    served.look()
    assert shown(served) == pem_of(pairs[1])
    assert told() == []


def test_a_key_may_be_in_the_same_file(files: Files) -> None:
    issued, renewed = issue(), issue()
    replace(files.cert, issued.private_key_and_cert_chain_pem.bytes())
    served = ServedCertificate(files.cert, None, nobody)
    replace(files.cert, renewed.private_key_and_cert_chain_pem.bytes())
    served.look()
    assert shown(served) == pem_of(renewed)


def test_a_pass_phrase_is_asked_for_once_and_fits_the_renewed_key(files: Files, told: Any) -> None:
    asked: list[str] = []

    def ask() -> str:
        asked.append("the phrase")
        return asked[-1]

    files.renew(issue(), phrase=b"the phrase")
    served = files.served(ask)
    renewed = files.renew(issue(), phrase=b"the phrase")
    served.look()
    assert shown(served) == pem_of(renewed)
    files.renew(issue(), phrase=b"another one")
    served.look()
    served.look()
    assert shown(served) == pem_of(renewed)
    assert len(told()) == 1
    plain = files.renew(issue())
    served.look()
    assert shown(served) == pem_of(plain)
    assert (asked, told()) == (["the phrase"], [])


def test_nobody_is_asked_for_the_pass_phrase_of_a_renewed_key(files: Files, told: Any) -> None:
    first = files.renew(issue())
    served = files.served()
    files.renew(issue(), phrase=b"the phrase")
    served.look()
    served.look()
    assert shown(served) == pem_of(first)
    [words] = told()
    assert words.endswith("the key is encrypted, and its pass phrase is asked for only at a start")


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [
        (-90, 8, ""),
        (-90, 6, "ends on "),
        (-0.5, 0.5, ""),
        (-0.9, 0.1, "ends on "),
        (-90, -1, "ended on "),
        (1, 90, "is not valid before "),
    ],
)
def test_a_certificate_that_keeps_clients_away_by_its_time_is_told_of_once(
    files: Files, told: Any, begins: float, ends: float, words: str
) -> None:
    files.renew(lasting(begins, ends))
    served = files.served()
    for _ in range(2):
        served.look()
    records = told()
    assert len(records) == bool(words)
    if words:
        assert records[0].startswith(
            f"{files.cert} {words}{days_from_now(begins if begins > 0 else ends):%Y-%m-%d %H:}"
        )
        assert records[0].endswith(". A renewed one in its place is picked up without a restart")


def test_the_end_of_a_certificate_is_told_before_and_then_until_it_is_renewed(
    files: Files, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.renew(lasting(-80, 10))
    served = files.served()
    assert told() == []
    now = time.time()
    heard: list[str] = []
    for day in (2, 4, 6, 11, 12):
        monkeypatch.setattr(certificates.time, "time", lambda day=day: now + day * DAY)
        served.look()
        heard += (words.removeprefix(f"{files.cert} ").partition(" ")[0] for words in told())
    assert heard == ["ends", "ended"]
    files.renew(lasting(-1, 100))
    served.look()
    assert told() == []
    files.renew(lasting(-100, -1))
    served.look()
    assert len(told()) == 1, "that the one before had ended does not count for this one"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), ""),
        (("127.0.0.1",), ""),
        (("10.0.0.1", "a.example"), ""),
        (("10.0.0.1",), "10.0.0.1"),
        (("10.0.0.1", "localhost"), "10.0.0.1 or localhost"),
    ],
)
def test_a_certificate_that_names_nothing_clients_connect_to_is_told_of(
    files: Files, told: Any, names: tuple[str, ...], words: str
) -> None:
    files.renew(issue("a.example", "127.0.0.1"))
    files.served(names=names)
    expected = f"{files.cert} names a.example, 127.0.0.1: clients do not accept it for {words}"
    assert told() == ([expected] if words else [])


def test_a_certificate_that_is_none_for_a_server_is_told_of(
    files: Files, told: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(context: ssl.SSLContext) -> None:
        error = ssl.SSLCertVerificationError("no")
        error.verify_message, error.verify_code = "unsuitable certificate purpose", 26
        raise error

    monkeypatch.setattr(certificates, "_validity", refuse)
    files.renew(issue())
    files.served().look()
    assert told() == [f"{files.cert} is not accepted by clients: unsuitable certificate purpose"]


@pytest.mark.parametrize(
    "shown", [None, {}, {"notBefore": "Jan  1 00:00:00 2000 GMT"}, {"notBefore": "x", "notAfter": "y"}]
)
def test_what_has_no_dates_has_no_validity(shown: Any) -> None:
    with pytest.raises(ValueError, match="expected a certificate with its dates, got|does not match format"):
        Validity.of(shown)
