"""A2A over HTTP: its JSON-RPC binding (A2A 9) and its HTTP+JSON binding (A2A 11), as one ASGI application.

This module reads requests and writes answers. A `Carrier` carries operations, and the coordinator decides them.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import CODES, ErrorCode
from ..protocol.messages import A2ACall, A2AEvent, A2AFault
from ..protocol.operations import VERSION, Fault, decode, encode
from ..transports.websocket import HEALTH_PATH, LOOPBACK_NAMES
from .carrier import Carrier, Faulted, faulted

__all__ = ["application"]

_ENVELOPE_MAX = 4_096
"""Bytes that a JSON-RPC request may have besides its parameters."""
_READ_WITHIN = 30.0
"""Seconds in which the body of a request must arrive."""
_PULSE = 15.0
"""Seconds between two comments in a stream: a proxy may end a stream that is silent."""
_SHOWN_MAX = 200
"""Characters of a path that an error shows."""
_CARD_FRESH = 1.0
"""Seconds for which the card is cached: anybody may ask for it."""
_STREAMS = ("SendStreamingMessage", "SubscribeToTask")

_STATUS: dict[int, tuple[int, str]] = {
    -32601: (404, "NOT_FOUND"),
    -32603: (500, "INTERNAL"),
    -32001: (404, "NOT_FOUND"),
    -32002: (400, "FAILED_PRECONDITION"),
    -32003: (400, "FAILED_PRECONDITION"),
    -32004: (400, "FAILED_PRECONDITION"),
    -32006: (500, "INTERNAL"),
    -32007: (400, "FAILED_PRECONDITION"),
    -32008: (400, "FAILED_PRECONDITION"),
    -32009: (400, "FAILED_PRECONDITION"),
}
"""A2A's errors as HTTP status and google.rpc.Code (A2A 5.4); the others are 400, INVALID_ARGUMENT."""
_RPC_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status of a refusal of this protocol to google.rpc.Code."""


# The two bindings -----------------------------------------------------------------------------------------------------


class _JsonRpc:
    """How JSON-RPC tells the outcome of an operation (A2A 9.3 to 9.5)."""

    media_type = "application/json"

    def __init__(self, request_id: Any = None) -> None:
        self._id = encode(request_id)

    def result(self, payload: bytes) -> bytes:
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (self._id, payload)

    def error(self, fault: A2AFault, status: int) -> bytes:
        told = encode({"code": fault.code, "message": fault.message, "data": fault.data})
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (self._id, told)

    def status(self, fault: A2AFault) -> int:
        """Return the HTTP status: always 200, because clients read no JSON-RPC answer with another status."""
        return 200


class _HttpJson:
    """How HTTP+JSON tells the outcome of an operation (A2A 11.4, 11.6)."""

    media_type = "application/a2a+json"

    def result(self, payload: bytes) -> bytes:
        return payload

    def error(self, fault: A2AFault, status: int) -> bytes:
        name = _status_of(fault)[1]
        return encode({"error": {"code": status, "status": name, "message": fault.message, "details": fault.data}})

    def status(self, fault: A2AFault) -> int:
        return _status_of(fault)[0]


_Binding = _JsonRpc | _HttpJson


def _status_of(fault: A2AFault) -> tuple[int, str]:
    code = fault.data[0].get("metadata", {}).get("code") if fault.data else None
    if fault.code in (-32600, -32603) and code in list(ErrorCode):  # A2A has no closer error for these
        status = CODES[ErrorCode(code)].http
        return status, _RPC_CODES.get(status, "FAILED_PRECONDITION")
    return _STATUS.get(fault.code, (400, "INVALID_ARGUMENT"))


def _refusal(binding: _Binding, fault: A2AFault, status: int | None = None, **headers: str) -> Response:
    status = status or binding.status(fault)
    if status in (429, 503):
        headers["Retry-After"] = "1"
    return Response(binding.error(fault, status), status, headers, binding.media_type)


# The door -------------------------------------------------------------------------------------------------------------


class _Door:
    """Admits callers that know a token and use a name of this gateway, and no page of a browser; some paths are public.

    The token identifies the caller: the caller's carrier is `request.state.carrier`.
    """

    def __init__(self, app: ASGIApp, callers: Sequence[tuple[str, Carrier]], names: frozenset[str]) -> None:
        self._app = app
        self._callers = [(token.encode(), carrier) for token, carrier in callers]
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.url.path == HEALTH_PATH:  # anybody may ask, by any name, and learns nothing else
            return None
        binding = _JsonRpc() if request.url.path == "/" else _HttpJson()
        hosts = request.headers.getlist("Host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else ""
        address = (request.scope.get("server") or ("", 0))[0]
        if name not in self._names and (not name or name != address):  # a page's own name may resolve to this machine
            told = faulted(
                ErrorCode.FORBIDDEN, f"Host {', '.join(hosts)!r} is not a name of this gateway (--public-url)"
            )
            return _refusal(binding, told.fault, 403)
        if "Origin" in request.headers:
            told = faulted(ErrorCode.FORBIDDEN, "web pages may not use this gateway: Origin is refused")
            return _refusal(binding, told.fault, 403)
        if request.url.path == _CARD_PATH:
            return None
        shown = request.headers.getlist("Authorization")
        scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
        if scheme.lower() == "bearer" and (carrier := self._carrier_of(token.strip().encode())) is not None:
            request.state.carrier = carrier
            return None
        challenge = 'Bearer realm="a2a"' + (', error="invalid_token"' if shown else "")
        told = faulted(ErrorCode.AUTH, f"the token is {'wrong' if shown else 'missing'}: Authorization: Bearer TOKEN")
        return _refusal(binding, told.fault, 401, **{"WWW-Authenticate": challenge})

    def _carrier_of(self, shown: bytes) -> Carrier | None:
        found = None
        for token, carrier in self._callers:  # always to the last: the time must not tell whose token is close
            if hmac.compare_digest(shown, token):
                found = carrier
        return found


def _host_name(host: str) -> str:
    with suppress(ValueError):
        return urlsplit(f"//{host}").hostname or ""
    return ""


# Requests -------------------------------------------------------------------------------------------------------------

_CARD_PATH = "/.well-known/agent-card.json"
_INTEGERS = ("pageSize", "historyLength")
_BOOLEANS = {"true": True, "false": False}


def application(callers: Sequence[tuple[str, Carrier]], *, url: str) -> ASGIApp:
    """Return the ASGI application of a gateway.

    Args:
        callers: the Bearer token that a caller shows in every request, except for the card and the health, with the
            carrier of its operations; the first carrier serves the public requests.
        url: where clients reach it, as the card says (A2A 4.4.6). Clients may use its name as `Host`, and also the
            loopback names and the address listened on.
    """
    surface = _Surface(callers[0][1], url)
    tasks, configs = "/tasks/{id}", "/tasks/{taskId}/pushNotificationConfigs"
    routes = [
        Route("/", surface.json_rpc, methods=["POST"]),
        Route(_CARD_PATH, surface.card, methods=["GET"]),
        Route(HEALTH_PATH, surface.health, methods=["GET"]),
        *(
            Route(path, surface.http_json(operation), methods=methods)
            for path, operation, methods in (
                ("/message:send", "SendMessage", ["POST"]),
                ("/message:stream", "SendStreamingMessage", ["POST"]),
                ("/extendedAgentCard", "GetExtendedAgentCard", ["GET"]),
                ("/tasks", "ListTasks", ["GET"]),
                (f"{tasks}:cancel", "CancelTask", ["POST"]),
                (f"{tasks}:subscribe", "SubscribeToTask", ["GET", "POST"]),
                (tasks, "GetTask", ["GET"]),
                (configs, "CreateTaskPushNotificationConfig", ["POST"]),
                (configs, "ListTaskPushNotificationConfigs", ["GET"]),
                (f"{configs}/{{id}}", "GetTaskPushNotificationConfig", ["GET"]),
                (f"{configs}/{{id}}", "DeleteTaskPushNotificationConfig", ["DELETE"]),
            )
        ),
    ]
    app = Starlette(routes=routes, exception_handlers={404: _not_routed, 405: _not_routed})
    return _Door(app, callers, LOOPBACK_NAMES | {_host_name(urlsplit(url).netloc)})


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer what goes to no endpoint, as HTTP+JSON answers an operation that there is not (A2A 11.6)."""
    assert isinstance(error, HTTPException), "only those are handled here"
    path, allowed = request.url.path[:_SHOWN_MAX], (error.headers or {}).get("Allow")
    if allowed is None:
        return _refusal(_HttpJson(), Fault(-32601, f"there is no {path}, got {request.method}").told, 404)
    methods = ", ".join(sorted(allowed.split(", ")))
    fault = Fault(-32600, f"{path} takes {methods}, got {request.method}").told
    return _refusal(_HttpJson(), fault, 405, Allow=methods)


class _Surface:
    """The endpoints of a gateway."""

    def __init__(self, common: Carrier, url: str) -> None:
        self._common = common
        self._url = url
        self._card: tuple[float, bytes] | None = None
        self._carded = asyncio.Lock()

    async def json_rpc(self, request: Request) -> Response:
        """Answer a request of JSON-RPC 2.0 (A2A 9)."""
        binding = _JsonRpc()
        try:
            said = await self._said(request)
            if not isinstance(said, dict):
                kind = "a batch, which is not supported" if isinstance(said, list) else type(said).__name__
                raise _invalid(f"expected a JSON-RPC request as an object, got {kind}")
            has_id, named = "id" in said, said.get("id")
            if isinstance(named, bool | list | dict):
                raise _invalid("expected a text, a number or null as the id of a JSON-RPC request")
            binding = _JsonRpc(named)
            operation, params = said.get("method"), said.get("params", {})
            if said.get("jsonrpc") != "2.0" or not isinstance(operation, str):
                raise _invalid('expected a JSON-RPC request with "jsonrpc": "2.0" and a text as its "method"')
            if not isinstance(params, dict | list):
                raise _invalid(f"params: expected an object, got {type(params).__name__}")
            if isinstance(params, list):
                raise Faulted(Fault(-32602, "params: expected an object, as A2A has no parameters by position").told)
            call = _call(request, operation, params)
            if has_id:
                return await self._answered(request, binding, call, params)
            with suppress(Faulted):  # nobody is told the outcome of a notification
                await self._carried(request.state.carrier, call, params, waits=False)
            return Response(status_code=204)
        except Faulted as error:
            return _refusal(binding, error.fault, error.status)
        except ClientDisconnect:
            return Response(status_code=400)

    def http_json(self, operation: str) -> Any:
        """Return the endpoint of one HTTP+JSON operation (A2A 11)."""

        async def endpoint(request: Request) -> Response:
            binding = _HttpJson()
            try:
                has_body = request.method == "POST"
                said = await self._said(request, b"{}") if has_body else _typed(request.query_params)
                if not isinstance(said, dict):
                    raise _invalid(f"expected the request of {operation} as an object, got {type(said).__name__}")
                params = said | request.path_params
                return await self._answered(request, binding, _call(request, operation, params), params)
            except Faulted as error:
                return _refusal(binding, error.fault, error.status)
            except ClientDisconnect:
                return Response(status_code=400)

        return endpoint

    async def card(self, request: Request) -> Response:
        """Show the public card (A2A 8.2). Anybody may ask for it, so one look at the coordinator serves many."""
        async with self._carded:
            now = asyncio.get_running_loop().time()
            if self._card is None or now - self._card[0] > _CARD_FRESH:
                try:
                    self._card = now, self._with_interfaces(await self._common.answer(A2ACall("GetExtendedAgentCard")))
                except Faulted as error:
                    if self._card is None:
                        return _refusal(_HttpJson(), error.fault)
        return Response(self._card[1], media_type="application/json", headers={"Cache-Control": "max-age=1"})

    async def health(self, request: Request) -> Response:
        """Tell a load balancer whether this gateway reaches the coordinator."""
        is_open = self._common.is_open
        return Response("ok\n" if is_open else "no coordinator\n", 200 if is_open else 503, media_type="text/plain")

    def _with_interfaces(self, card: bytes) -> bytes:
        """Return the coordinator's card with the interfaces of this gateway (A2A 4.4.6, 4.5)."""
        interfaces = [
            {"url": url, "protocolBinding": binding, "protocolVersion": VERSION}
            for url, binding in ((f"{self._url}/", "JSONRPC"), (self._url, "HTTP+JSON"))
        ]
        bearer = {"scheme": "Bearer", "description": "A token of the gateway; all who have it are one caller."}
        schemes = {"token": {"httpAuthSecurityScheme": bearer}}
        return encode(json.loads(card) | {"supportedInterfaces": interfaces, "securitySchemes": schemes})

    async def _said(self, request: Request, absent: bytes = b"") -> Any:
        """Return the JSON of a request's body.

        Raises:
            Faulted: it is too large, too late, or not JSON.
        """
        most = self._common.payload_max
        said = bytearray()
        try:
            async with asyncio.timeout(_READ_WITHIN):
                async for piece in request.stream():
                    said += piece
                    if len(said) > most + _ENVELOPE_MAX:
                        raise _too_large(most)
        except TimeoutError:
            late = f"the body of the request did not arrive within {_READ_WITHIN:g} s"
            raise faulted(ErrorCode.DEADLINE, late, status=408) from None
        media = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if (said or not absent) and media not in ("application/json", "application/a2a+json"):
            raise Faulted(Fault(-32005, f"expected the Content-Type application/json, got {media!r}").told, 415)
        try:
            return decode(bytes(said) or absent)
        except ValueError as error:
            raise Faulted(Fault(-32700, f"the request is not JSON: {error}").told) from None

    async def _answered(self, request: Request, binding: _Binding, call: A2ACall, params: dict[str, Any]) -> Response:
        carrier: Carrier = request.state.carrier
        if len(call.payload) > carrier.payload_max:
            raise _too_large(carrier.payload_max)
        if call.operation in _STREAMS:
            events = carrier.events(call)
            first = await anext(events)
            return _EventStream(binding, first, events)
        configuration = params.get("configuration")
        waits = not (isinstance(configuration, dict) and configuration.get("returnImmediately"))
        payload: bytes | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_until_gone, request.receive, group.cancel_scope)
            try:
                payload = await self._carried(carrier, call, params, waits=waits)
            except Faulted as error:
                return _refusal(binding, error.fault, error.status)
            finally:
                group.cancel_scope.cancel()
        if payload is None:
            return Response(status_code=400)  # nobody reads it
        return Response(binding.result(payload), media_type=binding.media_type)

    async def _carried(self, carrier: Carrier, call: A2ACall, params: dict[str, Any], *, waits: bool) -> bytes:
        if call.operation == "SendMessage":
            return await carrier.sent(call, params, waits=waits)
        answer = await carrier.answer(call)
        return self._with_interfaces(answer) if call.operation == "GetExtendedAgentCard" else answer


def _call(request: Request, operation: str, params: Mapping[str, Any]) -> A2ACall:
    """Return a request as a call, with its service parameters (A2A 3.2.6, spec BIND-3)."""
    version = request.headers.get("A2A-Version") or request.query_params.get("A2A-Version") or ""
    if not version.strip():
        detail = f"a request without A2A-Version is of A2A 0.3, which is not supported: send A2A-Version: {VERSION}"
        raise Faulted(Fault(-32009, detail, facts={"requested": "0.3", "supported": VERSION}).told)
    if not 0 < len(operation) <= 64:
        raise Faulted(Fault(-32601, f"A2A {VERSION} has no operation with a name of {len(operation)} characters").told)
    named = [one.strip() for line in request.headers.getlist("A2A-Extensions") for one in line.split(",")]
    from_gen, last = None, request.headers.get("Last-Event-ID")
    if operation == "SubscribeToTask" and last is not None:
        if re.fullmatch(r"[0-9]{1,15}", last) is None:
            raise Faulted(Fault(-32602, f"Last-Event-ID: expected the id of an event, got {last[:64]!r}").told)
        from_gen = int(last)
    return A2ACall(operation, encode(params), version.strip()[:32], [one for one in named if one][:64], from_gen)


def _typed(query: Mapping[str, str]) -> dict[str, Any]:
    """Return query parameters as typed values (A2A 11.5); the coordinator refuses invalid ones."""
    params: dict[str, Any] = {name: value for name, value in query.items() if name != "A2A-Version"}
    for name in _INTEGERS:
        if re.fullmatch(r"-?[0-9]{1,15}", params.get(name, "")):
            params[name] = int(params[name])
    if "includeArtifacts" in params:
        params["includeArtifacts"] = _BOOLEANS.get(params["includeArtifacts"], params["includeArtifacts"])
    return params


def _invalid(detail: str) -> Faulted:
    return Faulted(Fault(-32600, detail).told)


def _too_large(most: int) -> Faulted:
    return faulted(ErrorCode.TOO_LARGE, f"the parameters of a request may have at most {most} bytes", status=413)


# Streams --------------------------------------------------------------------------------------------------------------


class _EventStream(Response):
    """Server-sent events (A2A 9.4.2, 11.7); each has as its id the generation from which to resume."""

    def __init__(self, binding: _Binding, first: A2AEvent, others: AsyncGenerator[A2AEvent, None]) -> None:
        super().__init__(
            media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        del self.headers["Content-Length"]
        self._binding = binding
        self._first = first
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._others), anyio.create_task_group() as group:
            group.start_soon(_until_gone, receive, group.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            group.start_soon(_pulse, send)
            await _tell(send, self._event(self._first))
            try:
                async for event in self._others:
                    await _tell(send, self._event(event))
            except Faulted as error:
                kind = b"event: error\n" if isinstance(self._binding, _HttpJson) else b""
                told = self._binding.error(error.fault, self._binding.status(error.fault))
                await _tell(send, kind + b"data: %b\n\n" % told)
            group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b""})

    def _event(self, event: A2AEvent) -> bytes:
        # A line break would end the data; in JSON it can be a space.
        data = self._binding.result(event.payload).replace(b"\r", b" ").replace(b"\n", b" ")
        return b"id: %d\ndata: %b\n\n" % (event.generation, data)


async def _tell(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _pulse(send: Send) -> None:
    while True:
        await anyio.sleep(_PULSE)
        await _tell(send, b":\n\n")


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel the work for a caller that has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
