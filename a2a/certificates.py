"""The certificate that a coordinator shows: read again when its files change, and checked for problems.

A certificate is renewed every few months, or every few hours, and a coordinator runs for longer. So the files are
looked at now and then, and whoever renews them needs no signal and no restart. Each connection is shown the newest
certificate and key that fit each other; half-replaced or damaged files change nothing. Used by `a2a coordinator run`
and by `a2a doctor`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import anyio.to_thread

from .transports.websocket import FOR_ANOTHER

__all__ = ["ServedCertificate", "Validity"]

log = logging.getLogger("a2a.certificates")

_LOOKED_AT_EVERY = 10.0
"""Seconds between two looks at the files. Each look reads two files of some kilobytes."""
_TOLD_BEFORE = 7 * 86_400
"""Seconds before a certificate's end at which a warning is logged, or a fifth of its lifetime if that is less:
automatic renewal happens with a third left."""
_NO_CHECK_TIME = 0x20_0000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name: an expired certificate can be read too."""


@dataclass(frozen=True, slots=True)
class Validity:
    """The validity and the names that a certificate states."""

    begins: float
    """Seconds since the epoch, as `ends`."""
    ends: float
    names: tuple[str, ...]

    @classmethod
    def of(cls, shown: Any) -> Self:
        """Return the validity of a verified certificate, from what the ssl module makes of it (`getpeercert`).

        Raises:
            ValueError: the certificate has no dates, or unreadable ones.
        """
        try:
            begins, ends = (ssl.cert_time_to_seconds(shown[of]) for of in ("notBefore", "notAfter"))
        except (KeyError, TypeError) as exc:
            raise ValueError(f"expected a certificate with its dates, got {shown!r}") from exc
        return cls(begins, ends, tuple(str(name) for _, name in shown.get("subjectAltName", ())))

    @property
    def end(self) -> str:
        """When it ends, in words."""
        return f"ends on {_date(self.ends)}"

    def trouble(self) -> str:
        """Return in words that it has not begun, is about to end, or has ended; an empty text if none of these."""
        now = time.time()
        left = self.ends - now
        if now < self.begins:
            return f"is not valid before {_date(self.begins)}, and the clock here says {_date(now)}"
        if left <= 0:
            return f"ended on {_date(self.ends)}: clients no longer accept it"
        return self.end if left <= min(_TOLD_BEFORE, (self.ends - self.begins) / 5) else ""


class ServedCertificate:
    """A certificate and its key in files; each connection gets what the files hold by then.

    Args:
        cert: the certificate, followed by those that lead to a trusted one (PEM).
        key: its private key (PEM); None if it is in the same file.
        ask: returns the pass phrase of an encrypted key. It is called once; a renewed key has the same one, or none.
        names: what clients connect to; the certificate should name one of these.

    Raises:
        OSError: the files cannot be read, or their contents do not fit together.
    """

    def __init__(self, cert: Path, key: Path | None, ask: Callable[[], str], names: Sequence[str] = ()) -> None:
        self._cert = cert
        self._key = key
        self._files = [cert] if key is None else [cert, key]
        self._names = names
        self._ask: Callable[[], str] | None = ask
        self._phrase: str | None = None
        self._seen = self._digest()
        """The digest of the files at the newest look."""
        self._trouble = ""
        """Why the files are not what is shown."""
        self._is_told = False
        """Whether that was logged."""
        self._told_of_time = ""
        self._validity: Validity | None = None
        self._newest = self.context = self._loaded()
        """`context` is the one to listen with."""
        self._ask = None  # whoever started this may be gone when the key is read again
        self._examine(self._newest)
        self.context.sni_callback = self._show

    def _show(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """At the start of each handshake, with a server name or without: use the newest certificate."""
        connection.context = self._newest

    @asynccontextmanager
    async def renewed(self) -> AsyncIterator[None]:
        """Look at the files now and then inside the block."""

        async def look() -> None:
            while True:
                await asyncio.sleep(_LOOKED_AT_EVERY)
                try:
                    await anyio.to_thread.run_sync(self.look, abandon_on_cancel=True)  # a disk may be slow
                except Exception:
                    log.exception("%s could not be checked", self._cert)

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])

    def look(self) -> None:
        """Load the files if they have changed, and log what is wrong.

        Files that cannot be used are logged at the second look that finds them: two files are not replaced at once.
        """
        found = self._digest()
        if found != self._seen:
            self._seen = found
            self._trouble, self._is_told = "", False
            try:
                context = self._loaded()
            except OSError as exc:
                self._trouble = str(exc)
            else:
                self._newest = context
                log.info("%s was replaced: new connections get the new certificate", self._cert)
                self._examine(context)
        elif self._trouble and not self._is_told:
            self._is_told = True
            together = " with ".join(map(str, self._files))
            log.error("%s cannot be used; the previous certificate stays in use: %s", together, self._trouble)
        self._tell_time()

    def _digest(self) -> bytes:
        """Return a digest of the files' contents. File times will not do: a copy may keep them."""
        digest = hashlib.sha256()
        for path in self._files:
            try:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except OSError as exc:
                digest.update(str(exc).encode())
        return digest.digest()

    def _loaded(self) -> ssl.SSLContext:
        """Return a context with the certificate and key in the files, which fit each other."""
        for path in self._files:
            path.open("rb").close()  # loading them raises an error that names no file
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._cert, self._key, self._pass_phrase)
        return context

    def _pass_phrase(self) -> str:
        if self._phrase is None:
            if self._ask is None:
                raise OSError("the key is encrypted, and its pass phrase is asked for only at a start")
            self._phrase = self._ask()
        return self._phrase

    def _examine(self, context: ssl.SSLContext) -> None:
        """Read the certificate of a context, and log what keeps its clients away."""
        self._validity, self._told_of_time = None, ""
        try:
            self._validity = _validity(context)
            is_named = not self._names or any(_is_for(context, name) for name in self._names)
        except ssl.SSLCertVerificationError as exc:
            log.warning("%s is not accepted by clients: %s", self._cert, exc.verify_message)
            return
        except (ssl.SSLError, ValueError) as exc:
            log.info("%s could not be examined: %s", self._cert, exc)
            return
        if not is_named:
            has = ", ".join(self._validity.names) or "nobody"
            log.warning("%s names %s: clients do not accept it for %s", self._cert, has, " or ".join(self._names))
        self._tell_time()

    def _tell_time(self) -> None:
        """Log once that the certificate has not begun, is about to end, or has ended."""
        trouble = self._validity.trouble() if self._validity is not None else ""
        kind = trouble.partition(" ")[0]
        if kind and kind != self._told_of_time:
            self._told_of_time = kind
            log.warning("%s %s. A renewed one in its place is picked up without a restart", self._cert, trouble)


def _validity(context: ssl.SSLContext) -> Validity:
    """Return what the certificate of a server context states, as a client sees it.

    The ssl module decodes only certificates that a client has verified, so this uses a client that trusts this one.

    Raises:
        SSLError: the certificate is not one for a server.
        ValueError: its dates cannot be read.
    """
    return Validity.of(_shown_to(_trusting(context), context, None).getpeercert())


def _is_for(context: ssl.SSLContext, name: str) -> bool:
    """Tell whether a client that connects to this name accepts the certificate."""
    client = _trusting(context)
    client.check_hostname = True
    try:
        _shown_to(client, context, name)
    except ssl.SSLCertVerificationError as exc:
        if exc.verify_code not in FOR_ANOTHER:
            raise
        return False
    return True


def _trusting(server: ssl.SSLContext) -> ssl.SSLContext:
    """Return a client context that trusts a server context's certificate at any time, and nothing else."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE
    certificate = _shown_to(anything, server, None).getpeercert(binary_form=True)
    assert certificate is not None, "a server shows one"
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cadata=certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    return client


def _shown_to(client: ssl.SSLContext, server: ssl.SSLContext, name: str | None) -> ssl.SSLObject:
    """Return the client's side of a handshake between two contexts, in memory.

    Raises:
        SSLError: the client does not accept what it is shown.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(back, there, server_hostname=name),
        server.wrap_bio(there, back, server_side=True),
    )
    for _ in range(3):  # the client speaks three times at most, and the server answers
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    return sides[0]


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
