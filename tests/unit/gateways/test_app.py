"""A2A over HTTP as a caller sees it: both bindings, their errors, streams, and who is let in."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import anyio
import httpx2
import pytest

from a2a.errors import ErrorCode
from a2a.gateways import app as app_module
from a2a.gateways import carrier as carrier_module
from a2a.gateways.carrier import faulted
from a2a.protocol.messages import A2ACall, A2AEvent
from a2a.protocol.operations import encode

BOUND = 30
INFO = "type.googleapis.com/google.rpc.ErrorInfo"


async def test_a_message_is_answered_with_its_task_once_that_has_ended(reach, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            answered = await reached.rpc("SendMessage", say("count_words", "m1", {"text": "a b c"}), id="seven")
            task = answered["result"]["task"]
            assert (answered["jsonrpc"], answered["id"]) == ("2.0", "seven")
            assert task["status"]["state"] == "TASK_STATE_COMPLETED"
            assert task["artifacts"][0]["parts"] == [{"data": {"words": 3}}]
            again = await reached.rpc("SendMessage", say("count_words", "m1", {"text": "a b c"}))
            assert again["result"]["task"] == task, "the same message is the same task"
            found = await reached.rpc("GetTask", {"id": task["id"]})
            assert found["result"] == task
            listed = (await reached.rpc("ListTasks", {"pageSize": 1}))["result"]
            assert ([one["id"] for one in listed["tasks"]], listed["totalSize"]) == ([task["id"]], 1)


async def test_a_message_as_large_as_one_may_be_is_answered_as_any_other(reach, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            left = reached.client.link.session.payload_max - len(encode(say("count_words", "m1", {"text": ""})))
            request = say("count_words", "m1", {"text": "a" * left})
            task = (await reached.rpc("SendMessage", request))["result"]["task"]
            assert task["status"]["state"] == "TASK_STATE_COMPLETED"
            request = say("count_words", "m2", {"text": "a" * (left + 1)})
            refused = await reached.caller.post("/message:send", json=request)
            assert refused.status_code == 413


async def test_a_message_that_does_not_wait_is_answered_as_soon_as_it_is_durable(reach, say, gate):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            request = say("wait", "m1") | {"configuration": {"returnImmediately": True}}
            task = (await reached.rpc("SendMessage", request))["result"]["task"]
            assert task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING")
            waiting = asyncio.create_task(reached.rpc("SendMessage", say("wait", "m1")))
            await gate.begun.wait()
            gate.open.set()
            assert (await waiting)["result"]["task"]["id"] == task["id"]


async def test_a_question_is_answered_by_a_message_to_its_task(reach, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            asked = (await reached.rpc("SendMessage", say("sure", "m1")))["result"]["task"]
            assert asked["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
            answer = say("sure", "m2", taskId=asked["id"], parts=[{"text": "yes"}])
            told = (await reached.rpc("SendMessage", answer))["result"]["task"]
            assert told["status"]["state"] == "TASK_STATE_COMPLETED"
            assert told["artifacts"][0]["parts"] == [{"data": True}]
            again = (await reached.rpc("SendMessage", answer))["result"]["task"]
            assert again == told


async def test_a_task_is_cancelled(reach, say, gate):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            waiting = asyncio.create_task(reached.rpc("SendMessage", say("wait", "m1")))
            await gate.begun.wait()
            task = (await reached.rpc("ListTasks"))["result"]["tasks"][0]["id"]
            assert "result" in await reached.rpc("CancelTask", {"id": task})
            assert (await waiting)["result"]["task"]["status"]["state"] == "TASK_STATE_CANCELED"
            refused = (await reached.caller.post(f"/tasks/{task}:subscribe")).json()["error"]
            assert refused["details"][0]["reason"] == "UNSUPPORTED_OPERATION"


async def test_a_stream_tells_all_with_the_ids_to_go_on_from(reach, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            events = [one async for one in reached.stream("SendStreamingMessage", say("stream", "m1"))]
            assert [data["id"] for _, data in events] == [1] * len(events)
            told = [data["result"] for _, data in events]
            assert "task" in told[0]
            assert told[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
            ids = [number for number, _ in events]
            assert ids == sorted(ids)
            assert ids[-1] == told[-1]["statusUpdate"]["metadata"]["generation"]
            assert "artifactUpdate" in told[-2] and ids[-2] == ids[-1] - 1, "the result is not whole before its status"


async def test_a_stream_that_broke_is_taken_up_without_a_gap(reach, say, gate):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            broken = reached.stream("SendStreamingMessage", say("wait", "m1"))
            first, told = await anext(broken)
            await broken.aclose()
            await gate.begun.wait()
            task = told["result"]["task"]["id"]
            events = list[Any]()
            async for number, data in reached.stream("SubscribeToTask", {"id": task}, last_id=first):
                events.append((number, data["result"]))
                gate.open.set()
            (at, now), *others = events
            assert (at, "task" in now) == (first, True), "what it came by is still to come"
            told = [update["statusUpdate"]["metadata"] for _, update in others if "statusUpdate" in update]
            generations = [one["generation"] for one in told if one["event"] != "progress"]
            assert generations == list(range(first + 1, others[-1][0] + 1))


@pytest.mark.parametrize("ends_meanwhile", [False, True])
async def test_a_stream_goes_on_behind_a_lost_connection_to_the_coordinator(
    reach, say, gate, ends_meanwhile, monkeypatch
):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            link = reached.client.link
            stream = reached.stream("SendStreamingMessage", say("wait", "m1"))
            told = [(await anext(stream))[1]["result"]]
            await gate.begun.wait()
            may_connect, dial = anyio.Event(), link._dial

            async def dial_later() -> None:
                await may_connect.wait()
                await dial()

            monkeypatch.setattr(link, "_dial", dial_later)
            link._transport.abort()
            calls = reached.squad.server.coordinator.live.calls
            while calls:
                await anyio.lowlevel.checkpoint()
            if ends_meanwhile:
                gate.open.set()
                task = told[0]["task"]["id"]
                while (await reached.squad.client.get(task))["status"]["state"] != "TASK_STATE_COMPLETED":
                    await anyio.lowlevel.checkpoint()
            may_connect.set()
            while not calls and not ends_meanwhile:
                await anyio.lowlevel.checkpoint()
            gate.open.set()
            told += [data["result"] async for _, data in stream]
            updates = [one["statusUpdate"]["metadata"] for one in told if "statusUpdate" in one]
            generations = [one["generation"] for one in updates if one["event"] != "progress"]
            if ends_meanwhile:
                assert told[-1]["task"]["artifacts"][0]["parts"] == [{"text": "attempt 1"}]
            else:
                assert told[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED"
                assert generations == list(range(2, generations[-1] + 1)), "none is missing, and none comes twice"


@pytest.mark.parametrize(
    ("path", "method", "says"),
    [
        ("/tasks/main-99", "GET", (404, "TASK_NOT_FOUND", "NOT_FOUND")),
        ("/tasks/main-99:cancel", "POST", (404, "TASK_NOT_FOUND", "NOT_FOUND")),
        ("/tasks/main-99:subscribe", "GET", (404, "TASK_NOT_FOUND", "NOT_FOUND")),
        ("/tasks?pageSize=1000", "GET", (400, "INVALID_PARAMS", "INVALID_ARGUMENT")),
        ("/tasks?pageSize=many", "GET", (400, "INVALID_PARAMS", "INVALID_ARGUMENT")),
        ("/tasks?includeArtifacts=perhaps", "GET", (400, "INVALID_PARAMS", "INVALID_ARGUMENT")),
        ("/tasks/t/pushNotificationConfigs", "POST", (400, "PUSH_NOTIFICATION_NOT_SUPPORTED", "FAILED_PRECONDITION")),
        ("/tasks/t/pushNotificationConfigs", "GET", (400, "PUSH_NOTIFICATION_NOT_SUPPORTED", "FAILED_PRECONDITION")),
        ("/tasks/t/pushNotificationConfigs/c", "GET", (400, "PUSH_NOTIFICATION_NOT_SUPPORTED", "FAILED_PRECONDITION")),
        (
            "/tasks/t/pushNotificationConfigs/c",
            "DELETE",
            (400, "PUSH_NOTIFICATION_NOT_SUPPORTED", "FAILED_PRECONDITION"),
        ),
    ],
)
async def test_errors_of_http_json(reach, path, method, says):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            answered = await reached.caller.request(method, path)
            error = answered.json()["error"]
            info = error["details"][0]
            assert (answered.status_code, info["reason"], error["status"]) == says
            assert (error["code"], info["@type"], info["domain"]) == (says[0], INFO, "a2a-protocol.org")


@pytest.mark.parametrize(
    ("path", "method", "status", "words"),
    [
        ("/nowhere", "GET", 404, "there is no /nowhere, got GET"),
        ("/", "GET", 405, "/ takes POST, got GET"),
        ("/tasks", "DELETE", 405, "/tasks takes GET, HEAD, got DELETE"),
        ("/" + "x" * 1_000, "POST", 404, "there is no /xxx"),
    ],
)
async def test_what_goes_to_no_endpoint_is_answered_in_json(reach, path, method, status, words):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            answered = await reached.caller.request(method, path)
            error = answered.json()["error"]
            assert (answered.status_code, error["code"]) == (status, status)
            assert error["message"].startswith(words) and len(error["message"]) < 300
            assert error["details"][0]["@type"] == INFO
            assert ("Allow" in answered.headers) is (status == 405)


async def test_http_json_is_the_same_operations(reach, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            caller = reached.caller
            request = say("count_words", "m1", {"text": "a b"})
            sent = await caller.post("/message:send", json=request)
            assert (sent.status_code, sent.headers["Content-Type"]) == (200, "application/a2a+json")
            task = sent.json()["task"]
            assert (await caller.get(f"/tasks/{task['id']}?historyLength=2")).json() == task
            query = {"pageSize": "5", "includeArtifacts": "true", "status": "TASK_STATE_COMPLETED"}
            assert (await caller.get("/tasks", params=query)).json()["tasks"] == [task]
            streamed = await caller.post("/message:stream", json=request)
            (line,) = [line for line in streamed.text.splitlines() if line.startswith("data: ")]
            assert json.loads(line.removeprefix("data: ")) == {"task": task}
            refused = await caller.post(f"/tasks/{task['id']}:cancel", json={})
            assert (refused.status_code, refused.json()["error"]["details"][0]["reason"]) == (
                400,
                "TASK_NOT_CANCELABLE",
            )
            card = (await caller.get("/extendedAgentCard")).json()
            assert card == (await caller.get("/.well-known/agent-card.json")).json()


async def test_the_card_is_for_everybody_and_says_how_to_come_in(reach):
    with anyio.fail_after(BOUND):
        async with reach(public_url="https://agents.example/a2a/") as reached:
            async with httpx2.AsyncClient() as stranger:
                card = (await stranger.get(f"{reached.here.url}/.well-known/agent-card.json")).json()
            assert card["supportedInterfaces"] == [
                {"url": "https://agents.example/a2a/", "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
                {"url": "https://agents.example/a2a", "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
            ]
            (name,) = card["securitySchemes"]
            assert card["securitySchemes"][name]["httpAuthSecurityScheme"]["scheme"] == "Bearer"
            assert card["securityRequirements"] == [{"schemes": {name: {"list": []}}}]
            assert "count_words" in [skill["id"] for skill in card["skills"]]


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        (b"{", -32700, None),
        (b'{"a":1,"a":2}', -32700, None),
        (b"[]", -32600, None),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ListTasks"}]', -32600, None),
        (b"7", -32600, None),
        (b'{"id":1,"method":"ListTasks"}', -32600, 1),
        (b'{"jsonrpc":"1.0","id":"x","method":"ListTasks"}', -32600, "x"),
        (b'{"jsonrpc":"2.0","id":1}', -32600, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600, 1),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ListTasks"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ListTasks"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":"x"}', -32600, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":["x"]}', -32602, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"message/send"}', -32601, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":""}', -32601, 1),
        (b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % (b"x" * 65), -32601, 1),
        (b'{"jsonrpc":"2.0","id":null,"method":"GetTask"}', -32602, None),
    ],
)
async def test_errors_of_json_rpc(reach, said, code, named):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            answered = await reached.caller.post("/", content=said, headers={"Content-Type": "application/json"})
            told = answered.json()
            assert (answered.status_code, told["jsonrpc"], told["id"], told["error"]["code"]) == (
                200,
                "2.0",
                named,
                code,
            )
            assert told["error"]["data"][0]["@type"] == INFO
            assert "result" in await reached.rpc("ListTasks"), "the connection to the coordinator stands"


async def test_a_notification_is_carried_out_and_has_no_answer(reach, say, gate):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            said = {"jsonrpc": "2.0", "method": "SendMessage", "params": say("wait", "m1")}
            answered = await reached.caller.post("/", json=said)
            assert (answered.status_code, answered.content) == (204, b"")
            await gate.begun.wait()
            gate.open.set()
            answered = await reached.caller.post("/", json=said | {"params": {}})
            assert (answered.status_code, answered.content) == (204, b"")


@pytest.mark.parametrize(("version", "path"), [("0.3", "/tasks"), ("", "/tasks"), ("x" * 99, "/tasks"), ("2.0", "/")])
async def test_another_version_is_refused(reach, version, path):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            headers = {"A2A-Version": version}
            if path == "/":
                said = {"jsonrpc": "2.0", "id": 1, "method": "NoSuch"}
                told = (await reached.caller.post(path, json=said, headers=headers)).json()["error"]
                assert told["code"] == -32009
            else:
                answered = await reached.caller.get(path, headers=headers)
                assert (answered.status_code, answered.json()["error"]["details"][0]["reason"]) == (
                    400,
                    "VERSION_NOT_SUPPORTED",
                )


async def test_service_parameters_travel(reach, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            del reached.caller.headers["A2A-Version"]
            assert (await reached.caller.get("/tasks?A2A-Version=1.0.1")).status_code == 200
            many = ",".join(f"urn:{number}" for number in range(100))
            headers = {"A2A-Version": "1.0", "A2A-Extensions": f"urn:a, urn:b,,{many}"}
            assert (await reached.caller.get("/tasks", headers=headers)).status_code == 200
            wrong = await reached.caller.get("/tasks/t:subscribe", headers={"A2A-Version": "1.0", "Last-Event-ID": "x"})
            assert (wrong.status_code, wrong.json()["error"]["details"][0]["reason"]) == (400, "INVALID_PARAMS")


@pytest.mark.parametrize("path", ["/", "/message:send"])
async def test_a_body_of_another_kind_or_too_large_a_one_is_refused(reach, path, say):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            caller, most = reached.caller, reached.squad.client.link.session.payload_max
            assert (await caller.post(path, content=b"{}", headers={"Content-Type": "text/plain"})).status_code == 415
            refused = await caller.post(path, content=b"{}")
            assert refused.status_code == 415
            assert refused.json()["error"]["code"] == (-32005 if path == "/" else 415)

            async def pieces(size: int) -> Any:
                for _ in range(size // 65_536 + 1):
                    yield b" " * 65_536

            json_type = {"Content-Type": "application/json"}
            assert (await caller.post(path, content=b" " * (most + 5_000), headers=json_type)).status_code == 413
            assert (await caller.post(path, content=pieces(most + 5_000), headers=json_type)).status_code == 413
            request = say("echo", "m1", "x" * most)
            said = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": request} if path == "/" else request
            refused = await caller.post(path, json=said)
            assert refused.status_code == 413
            assert "SendMessage" not in refused.text and f"at most {most} bytes" in refused.text


async def test_a_body_that_does_not_come_is_not_waited_for(reach, monkeypatch):
    monkeypatch.setattr(app_module, "_READ_WITHIN", 0.1)
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            head = {**reached.caller.headers, "content-type": "application/json", "content-length": "9"}
            lines = "".join(f"{name}: {value}\r\n" for name, value in (head | {"host": "localhost"}).items())
            async with await anyio.connect_tcp("127.0.0.1", int(reached.here.url.rpartition(":")[2])) as stream:
                await stream.send(f"POST / HTTP/1.1\r\n{lines}\r\n{{".encode())
                assert (await stream.receive()).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "shown", [[], ["Bearer wrong"], ["Basic {token}"], ["{token}"], ["Bearer {token}", "Bearer x"]]
)
async def test_without_the_token_nobody_comes_in(reach, shown):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            token = reached.here.token_files[""].read_text().strip()
            headers = [("A2A-Version", "1.0"), *(("Authorization", one.format(token=token)) for one in shown)]
            async with httpx2.AsyncClient(base_url=reached.here.url) as stranger:
                for path in ("/tasks", "/extendedAgentCard", "/nowhere"):
                    refused = await stranger.get(path, headers=headers)
                    assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
                    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
                assert (await stranger.post("/", json={}, headers=headers)).status_code == 401
                assert (
                    await stranger.get("/tasks", headers=[*headers[:1], ("Authorization", f"bearer {token}")])
                ).is_success


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": ""}, {"Origin": "http://localhost"}, {"Origin": "null"}]
)
@pytest.mark.parametrize("path", ["/tasks", "/.well-known/agent-card.json"])
async def test_no_page_of_a_browser_comes_in(reach, headers, path):
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            assert (await reached.caller.get(path, headers=headers)).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:99", "[::1]:1", "agents.example", "Agents.Example:443"])
async def test_the_names_of_the_gateway_are_known(reach, host):
    with anyio.fail_after(BOUND):
        async with reach(public_url="https://agents.example") as reached:
            assert (await reached.caller.get("/tasks", headers={"Host": host})).status_code == 200


async def test_a_caller_that_hangs_up_leaves_its_task_going_and_its_place_to_others(reach, say, gate, monkeypatch):
    monkeypatch.setattr(carrier_module, "OPEN_MAX", 1)
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            with pytest.raises(httpx2.TimeoutException):
                said = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": say("wait", "m1")}
                await reached.caller.post("/", json=said, timeout=0.5)
            await gate.begun.wait()
            while "error" in await reached.rpc("ListTasks"):  # the gateway hears of it a moment later
                await anyio.lowlevel.checkpoint()
            gate.open.set()
            again = await reached.rpc("SendMessage", say("wait", "m1"))
            assert again["result"]["task"]["artifacts"][0]["parts"] == [{"text": "attempt 1"}]


async def test_a_stream_that_was_left_gives_its_place_to_others_though_nothing_happens(reach, say, gate, monkeypatch):
    monkeypatch.setattr(carrier_module, "OPEN_MAX", 1)
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            stream = reached.stream("SendStreamingMessage", say("wait", "m1"))
            await anext(stream)
            await gate.begun.wait()
            assert "error" in await reached.rpc("ListTasks")
            await stream.aclose()
            while "error" in await reached.rpc("ListTasks"):  # the gateway hears of it a moment later
                await anyio.lowlevel.checkpoint()
            gate.open.set()


class Coordinator:
    """What a carrier is to the application, with answers of the test's own."""

    payload_max = 1_000

    def __init__(self) -> None:
        self.is_away = False
        self.asked = 0

    async def answer(self, call: A2ACall) -> bytes:
        self.asked += 1
        if self.is_away:
            raise faulted(ErrorCode.UNAVAILABLE, "nobody answers", retryable=True)
        return b'{"name": "main"}'

    async def events(self, call: A2ACall) -> Any:
        yield A2AEvent("t", 7, b'{"task":\r\n{"id":\n"t"}}', last=True)


@pytest.fixture
async def alone() -> Any:
    """An application, what it is in front of, and a caller of it."""
    behind = Coordinator()
    transport = httpx2.ASGITransport(app_module.application([("t", behind)], url="http://localhost"))
    headers = {"Authorization": "Bearer t", "A2A-Version": "1.0"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as caller:
        yield behind, caller


async def test_the_coordinator_is_asked_for_a_card_once_for_many_and_missed_by_none(alone, monkeypatch):
    behind, caller = alone
    behind.is_away = True
    missing = await caller.get("/.well-known/agent-card.json")
    assert (missing.status_code, missing.headers["Retry-After"]) == (503, "1")
    behind.is_away, behind.asked = False, 0
    shown = [await caller.get("/.well-known/agent-card.json") for _ in range(5)]
    assert ({one.json()["name"] for one in shown}, behind.asked) == ({"main"}, 1)
    monkeypatch.setattr(app_module, "_CARD_FRESH", 0.0)
    behind.is_away = True
    again = await caller.get("/.well-known/agent-card.json")
    assert (again.json(), behind.asked) == (shown[0].json(), 2)


async def test_an_event_is_one_line_however_the_coordinator_writes_it(alone):
    _, caller = alone
    streamed = await caller.get("/tasks/t:subscribe")
    (first, data, *rest) = streamed.text.split("\n")
    assert (first, json.loads(data.removeprefix("data: ")), rest) == ("id: 7", {"task": {"id": "t"}}, ["", ""])


async def test_too_many_at_a_time_are_told_so(reach, say, gate, monkeypatch):
    monkeypatch.setattr(carrier_module, "OPEN_MAX", 1)
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            waiting = asyncio.create_task(reached.rpc("SendMessage", say("wait", "m1")))
            await gate.begun.wait()
            refused = await reached.caller.get("/tasks")
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert refused.json()["error"]["details"][0]["metadata"] == {"code": "quota", "retryable": "true"}
            assert (await reached.rpc("ListTasks"))["error"]["code"] == -32603
            gate.open.set()
            await waiting


async def test_an_idle_stream_is_heard_of(reach, say, gate, monkeypatch):
    monkeypatch.setattr(app_module, "_PULSE", 0.01)
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            request = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": say("wait", "m1")}
            async with reached.caller.stream("POST", "/", json=request) as answered:
                async for line in answered.aiter_lines():
                    if line == ":":
                        gate.open.set()
            assert gate.ended


async def test_nothing_is_logged_of_a_caller_that_hangs_up(reach, say, gate, caplog):
    caplog.set_level(logging.WARNING)
    with anyio.fail_after(BOUND):
        async with reach() as reached:
            stream = reached.stream("SendStreamingMessage", say("wait", "m1"))
            await anext(stream)
            await stream.aclose()
            gate.open.set()
            await reached.rpc("SendMessage", say("wait", "m1"))
    assert caplog.records == []
