"""Calls A2A operations of a remote agent: by its JSON-RPC binding (A2A 9) or its HTTP+JSON binding (A2A 11).

This module writes requests and reads answers, each bounded in time and in size. `remote` knows what to ask, and what to
do with an answer. Credentials are sent in one header each, and appear in no error and no log.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urljoin, urlsplit

import httpx2

from ..errors import FAULTS
from ..protocol.messages import A2AFault
from ..protocol.operations import VERSION, Fault, decode, encode
from .carrier import Faulted

__all__ = ["CARD_PATH", "Caller", "Interface", "Unanswered", "card_url", "interface_of", "useless", "wanted"]

CARD_PATH: Final = "/.well-known/agent-card.json"
_CONNECT_WITHIN: Final = 10.0
_ANSWER_WITHIN: Final = 30.0
"""Seconds for an answer that needs no work."""
_QUIET_MAX: Final = 60.0
"""Seconds of silence in a stream, after which we check whether its task goes on."""
_BODY_MAX: Final = 8 * 1024 * 1024
"""Bytes of an answer, or of one event. A payload of two megabytes fits, however JSON writes it: two bytes of UTF-8 may
be an escape of six."""
_CARD_MAX: Final = 256 * 1024
_SHOWN_MAX: Final = 300
_AWAY: Final = frozenset({408, 425, 429, 502, 503, 504})
"""HTTP statuses of a server that cannot answer now, or of a proxy in front of one."""
_UNTOUCHED: Final = frozenset({425, 429})
"""Those statuses that say that nothing was done."""
_PATHS: Final = {
    "SendMessage": ("POST", "/message:send"),
    "SendStreamingMessage": ("POST", "/message:stream"),
    "GetTask": ("GET", "/tasks/{id}"),
    "CancelTask": ("POST", "/tasks/{id}:cancel"),
    "SubscribeToTask": ("POST", "/tasks/{id}:subscribe"),
}
"""The method and path of an operation in HTTP+JSON (A2A 5.3)."""
_BY_BEARER: Final = ("httpAuthSecurityScheme", "oauth2SecurityScheme", "openIdConnectSecurityScheme")
"""Security schemes that result in a token in the header Authorization (A2A 4.5)."""
_CODES: Final = {Fault(code, "").told.data[0]["reason"]: code for code in FAULTS}
"""A2A's errors by the reason that HTTP+JSON tells (A2A 11.6)."""


class Unanswered(Exception):
    """A request has no meaningful answer; it can be asked again.

    Attributes:
        may_count: the request may have been carried out all the same.
        waited: seconds in which nothing was heard.
    """

    def __init__(self, detail: str, *, may_count: bool = True, waited: float = 0.0) -> None:
        super().__init__(detail)
        self.may_count = may_count
        self.waited = waited


@dataclass(frozen=True, slots=True)
class Interface:
    """Where and how to reach a remote agent (A2A 4.4.6)."""

    url: str
    binding: str
    tenant: str = ""


# The card -------------------------------------------------------------------------------------------------------------


def card_url(url: str) -> str:
    """Return the URL of the card, given an agent's address or the URL itself.

    Raises:
        ValueError: it is not an HTTP URL, or has a user or a password in it.
    """
    with suppress(ValueError, httpx2.InvalidURL):
        httpx2.URL(url)  # it refuses more than `urlsplit` does, and else would only at the first request
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc:
            return url if parts.path.endswith(".json") else url.rstrip("/") + CARD_PATH
    shown = re.sub(r"//[^/]*@", "//...@", url)[:_SHOWN_MAX]
    raise ValueError(f"expected http(s)://HOST[:PORT][/PATH] without a user, got {shown!r}")


def interface_of(
    card: Mapping[str, Any], asked: str, allowed: Collection[str] = (), *, secret: bool = False
) -> Interface:
    """Return the first of a card's interfaces that this module supports.

    Args:
        card: the card.
        asked: its URL.
        allowed: hosts besides its own that an interface may be on.
        secret: whether credentials are sent, which go to another machine only over https.

    Raises:
        ValueError: there is none; the text says what there is.
    """
    offered = [one for one in _list(card.get("supportedInterfaces")) if isinstance(one, dict)]
    for one in offered:
        url, binding = urljoin(asked, str(one.get("url") or "")), str(one.get("protocolBinding") or "").upper()
        version = str(one.get("protocolVersion") or VERSION).split(".")
        if binding not in ("JSONRPC", "HTTP+JSON") or version[:2] != VERSION.split("."):
            continue
        if urlsplit(url).scheme not in ("http", "https"):
            continue  # JSON-RPC may as well be offered over a WebSocket
        here, there = urlsplit(card_url(asked)), urlsplit(card_url(url))
        if there.hostname not in {here.hostname, *allowed}:
            raise ValueError(
                f"the card leads to another host, {there.hostname}: --allow-host {there.hostname} allows it"
            )
        if here.scheme == "https" and there.scheme == "http":
            raise ValueError(f"the card leads from https to http, at {url}")
        if secret and there.scheme == "http" and not _is_here(there.hostname or ""):
            raise ValueError(f"credentials are sent to another machine over https only, not to {url}")
        return Interface(url.rstrip("/") if binding == "HTTP+JSON" else url, binding, str(one.get("tenant") or ""))
    told = ", ".join(f"{one.get('protocolBinding')} {one.get('protocolVersion')}" for one in offered) or "none"
    raise ValueError(
        f"expected an interface JSONRPC or HTTP+JSON of A2A {VERSION} in the card, got {told[:_SHOWN_MAX]}"
    )


def wanted(card: Mapping[str, Any], headers: Collection[str]) -> str:
    """Return which credentials the card demands and these headers lack, in words; empty if they suffice.

    Each comes with the option of `a2a agent remote` that gives it.

    Args:
        card: the card (A2A 4.4.1, 4.5).
        headers: names of the headers that are sent.
    """
    given = {name.lower() for name in headers}
    schemes = card.get("securitySchemes") if isinstance(card.get("securitySchemes"), dict) else {}
    asked = [one.get("schemes") for one in _list(card.get("securityRequirements")) if isinstance(one, dict)]
    demands = [[name for name in one if isinstance(name, str)] if isinstance(one, dict | list) else [] for one in asked]
    # If no requirement says which schemes are wanted, each scheme alone is enough.
    ways = demands or [[name] for name in schemes or {}]
    told = []
    for way in ways:
        missing = [words for name in way if (words := _missing((schemes or {}).get(name), name, given))]
        if not missing:
            return ""
        told.append(" and ".join(missing))
    return ", or ".join(told)


def _missing(scheme: Any, name: str, given: Collection[str]) -> str:
    kind, said = next(iter(scheme.items()), ("", {})) if isinstance(scheme, dict) else ("", {})
    said = said if isinstance(said, dict) else {}
    header, what = "Authorization", name
    if kind == "apiKeySecurityScheme":
        where = str(said.get("location"))
        header = {"header": str(said.get("name")), "cookie": "Cookie"}.get(where, "")
        if not header:
            return f"an API key in the {where} ({name}), which cannot be given here"
        what = f"an API key in the cookie {said.get('name')}" if where == "cookie" else "an API key"
    elif kind == "mtlsSecurityScheme":
        return f"a client's certificate ({name}), which cannot be given here"
    elif kind == "httpAuthSecurityScheme" and str(said.get("scheme")).lower() != "bearer":
        what = f"credentials of the scheme {said.get('scheme')}"
    elif kind in _BY_BEARER:
        return "" if "authorization" in given else "a bearer token: --bearer-file FILE"
    return "" if header.lower() in given else f"{what}: --header-file {header}=FILE"


# Calls ----------------------------------------------------------------------------------------------------------------


class Caller:
    """Calls the operations of one remote agent.

    Args:
        asked: the URL of its card.
        headers: returns the headers with its credentials; called for each request, because token files are renewed.
        allowed: hosts besides the card's that its interface may be on.
    """

    def __init__(
        self, asked: str, *, headers: Callable[[], Mapping[str, str]] = dict, allowed: Collection[str] = ()
    ) -> None:
        self.asked = asked
        self.interface = Interface("", "")
        """From the newest card."""
        self.headers = headers
        self._allowed = allowed
        self._numbers = itertools.count(1)
        self._client = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity", "A2A-Version": VERSION},
            verify=ssl.create_default_context(),  # like our own connections: also by the file SSL_CERT_FILE names
            follow_redirects=False,  # requests are for this agent, not for wherever it points
            trust_env=not _is_here(urlsplit(asked).hostname or ""),  # a proxy is asked for other machines only
            limits=httpx2.Limits(max_connections=None),  # concurrency bounds them
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def card(self) -> dict[str, Any]:
        """Fetch the card, and use its interface from now on.

        Raises:
            ValueError: it is not a card, or has no interface that can be used.
            Unanswered, Faulted: the card cannot be fetched.
        """
        # Without credentials, because the card is public (A2A 8.2): only the card tells where they may go.
        async with _within(_ANSWER_WITHIN), self._asked("GET", self.asked, None, {}, _ANSWER_WITHIN) as response:
            card = _object(await _body(response, _CARD_MAX), "its card")
        self.interface = interface_of(card, self.asked, self._allowed, secret=bool(self.headers()))
        return card

    async def call(
        self, operation: str, request: Mapping[str, Any], *, within: float = _ANSWER_WITHIN
    ) -> dict[str, Any]:
        """Call an operation, and return its answer.

        Raises:
            Faulted: the answer is an error.
            Unanswered: there is no answer within `within` seconds, or none with any meaning.
        """
        async with _within(within), self._operation(operation, request, within) as response:
            return self._result(await _body(response, _BODY_MAX), operation)

    async def events(
        self, operation: str, request: Mapping[str, Any], *, within: float = _ANSWER_WITHIN
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Call a streaming operation, and yield its events.

        The head of the answer, each sign of life up to the first event, and an answer that is no stream have to arrive
        within `within` seconds.

        Raises:
            Faulted: it is refused, or ends with an error.
            Unanswered: it was cut off, or was silent for too long.
        """
        async with self._operation(operation, request, within) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                async with _within(within):
                    body = await _body(response, _BODY_MAX)
                yield self._result(body, operation)  # some send one event as plain JSON
                return
            async for data in _sent(response, within):
                yield self._result(data, operation)

    @asynccontextmanager
    async def _operation(
        self, operation: str, request: Mapping[str, Any], within: float
    ) -> AsyncIterator[httpx2.Response]:
        interface, said = self.interface, dict(request)
        method, path = _PATHS[operation]
        headers = {"Content-Type": "application/json", **self.headers()}
        if operation in ("SendStreamingMessage", "SubscribeToTask"):
            headers["Accept"] = "text/event-stream"
        if interface.binding == "JSONRPC":
            method, url = "POST", interface.url
            said |= {"tenant": interface.tenant} if interface.tenant else {}
            said = {"jsonrpc": "2.0", "id": next(self._numbers), "method": operation, "params": said}
        else:
            tenant = f"/{quote(interface.tenant, safe='')}" if interface.tenant else ""
            url = interface.url + tenant + path.format(id=quote(str(said.get("id")), safe=""))
            if "{id}" in path:
                del said["id"]
            if method == "GET":
                url += "?" + "&".join(f"{name}={quote(str(value))}" for name, value in said.items()) if said else ""
        body = None if method == "GET" else encode(said)
        async with self._asked(method, url, body, headers, within) as response:
            yield response

    @asynccontextmanager
    async def _asked(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], within: float
    ) -> AsyncIterator[httpx2.Response]:
        """Send a request, and yield its response unless it is an error or a redirect; that comes within `within`."""
        where = f"{method} {url}"
        # A connection gives up first: then nothing was done. Those who read the body bound its pieces.
        timeout = httpx2.Timeout(max(within, _QUIET_MAX) + 1, connect=min(_CONNECT_WITHIN, within / 2))
        try:
            async with AsyncExitStack() as stack:
                async with _within(within):
                    sent = self._client.stream(method, url, content=body, headers=headers, timeout=timeout)
                    response = await stack.enter_async_context(sent)
                    if response.status_code != 200:
                        raise await _told(response, where)
                if response.headers.get("content-encoding", "identity") != "identity":
                    # Nobody asked for it, and a few encoded bytes may expand to any number.
                    raise useless(f"{where} is answered in the encoding {_shown(response.headers['content-encoding'])}")
                yield response
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            if isinstance(_root(error), ssl.SSLCertVerificationError):
                raise useless(f"{where}: its certificate is not trusted: {_root(error)}") from error
            raise Unanswered(f"{where}: {_words(error)}", may_count=False) from error
        except httpx2.TimeoutException as error:
            raise Unanswered(f"{where}: nothing was heard for {within:g} s", waited=within) from error
        except httpx2.TransportError as error:
            raise Unanswered(f"{where}: {_words(error)}") from error

    def _result(self, body: bytes, operation: str) -> dict[str, Any]:
        said = _object(body, operation)
        if self.interface.binding == "HTTP+JSON":
            if isinstance(said.get("error"), dict):  # the last event of a stream
                raise _fault(said, operation)
            return said
        if isinstance(said.get("error"), dict):
            raise _fault(said, operation)
        if not isinstance(said.get("result"), dict):
            raise useless(f"{operation} is answered with neither a result nor an error")
        result: dict[str, Any] = said["result"]
        return result


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise Unanswered(f"no complete answer came within {seconds:g} s", waited=seconds) from error


async def _body(response: httpx2.Response, most: int) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > most:
            raise useless(f"an answer has more than {most} bytes")
    return bytes(body)


async def _sent(response: httpx2.Response, patience: float) -> AsyncIterator[bytes]:
    """Yield the data of each server-sent event; comments show that the server is alive."""
    pieces, rest, data = response.aiter_raw(), b"", b""
    while True:
        try:
            async with asyncio.timeout(patience):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise Unanswered(f"a stream was silent for {patience:g} s", waited=patience) from None
        if piece is None:
            return
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data":
                data += value.removeprefix(b" ") + b"\n"
                if len(data) > _BODY_MAX:
                    break
            elif not name and not value and data:
                yield data
                data, patience = b"", _QUIET_MAX
        if len(rest) + len(data) > _BODY_MAX:
            raise useless(f"an event has more than {_BODY_MAX} bytes")


# Errors ---------------------------------------------------------------------------------------------------------------


async def _told(response: httpx2.Response, where: str) -> Exception:
    """Return the exception for a status other than 200."""
    status, body = response.status_code, b""
    if 300 <= status < 400:
        to = _shown(response.headers.get("location", "nowhere"))
        return Faulted(
            A2AFault(-32600, "InvalidRequestError", f"{where} redirects to {to}, which is not followed"), status
        )
    with suppress(Faulted, httpx2.TransportError):
        body = await _body(response, 64 * 1024)
    try:
        said = decode(body)
    except ValueError:
        said = None
    fault = _fault(said, where) if isinstance(said, dict) and ("error" in said or "type" in said) else None
    if status in _AWAY:
        words = f"{where} is answered with {status}"
        return Unanswered(f"{words}: {fault}" if fault else words, may_count=status not in _UNTOUCHED)
    if fault is not None:
        return fault
    text = _shown(body.decode(errors="replace"))
    name = -32603 if status >= 500 else -32600
    return Faulted(A2AFault(name, FAULTS[name], f"{where} is answered with {status}: {text}".rstrip(": ")), status)


def _fault(said: Mapping[str, Any], where: str) -> Faulted | Unanswered:
    """Return the error in an answer, in the form of either binding (A2A 9.5, 11.6)."""
    error: Any = said.get("error")
    error = error if isinstance(error, dict) else said
    details = error.get("data") or error.get("details")
    data = [one for one in _list(details if isinstance(details, list) else [details]) if isinstance(one, dict)]
    named = str(said.get("type", "")).rpartition("/")[2].replace("-", "_").upper()
    reasons = [str(one.get("reason")) for one in data] + [named]
    code = next((_CODES[reason] for reason in reasons if reason in _CODES), None)
    if code is None:
        code = next((known for known in FAULTS if known == error.get("code")), -32600)
    words = f"{where}: {_shown(str(error.get('message') or error.get('detail') or error))}"
    if any(isinstance(one.get("metadata"), dict) and one["metadata"].get("retryable") == "true" for one in data):
        return Unanswered(words)
    return Faulted(A2AFault(code, FAULTS[code], words, data))


def useless(detail: str) -> Faulted:
    """Return the exception for an answer that cannot be used."""
    return Faulted(A2AFault(-32006, FAULTS[-32006], detail))


def _object(body: bytes, what: str) -> dict[str, Any]:
    try:
        said = decode(body)
    except ValueError as error:
        raise useless(f"{what} is not answered with JSON: {_shown(str(error))}") from None
    if not isinstance(said, dict):
        raise useless(f"{what}: expected an object as its answer, got {type(said).__name__}")
    return said


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _root(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


def _words(error: Exception) -> str:
    return _shown(str(error)) or type(error).__name__


def _shown(text: str) -> str:
    return re.sub(r"[\x00-\x20\x7f-\x9f]+", " ", text).strip()[:_SHOWN_MAX]


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
