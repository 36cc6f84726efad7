"""How the requests of A2A's operations are read, and how an error is told."""

from __future__ import annotations

import json

import pytest

from a2a.errors import FAULTS
from a2a.protocol import operations
from a2a.protocol.operations import (
    DEPTH_MAX,
    ITEMS_MAX,
    OPERATIONS,
    Fault,
    are_artifacts,
    are_parts,
    decode,
    encode,
    milliseconds_of,
    read_request,
    weight,
)

MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}


def read(operation, request, version="1.0"):
    return read_request(operation, version, json.dumps(request).encode())


def code_of(operation, payload, version="1.0"):
    with pytest.raises(Fault) as raised:
        read_request(operation, version, payload)
    return raised.value.told.code


# Requests -------------------------------------------------------------------------------------------------------------


def test_a_request_keeps_what_is_not_known_and_loses_what_is_null():
    request = {
        "message": MESSAGE | {"taskId": None, "contextId": "c", "tomorrow": {"a": None}},
        "configuration": {"historyLength": None, "returnImmediately": True},
        "metadata": None,
        "x": 1,
    }
    assert read("SendMessage", request) == {
        "message": MESSAGE | {"contextId": "c", "tomorrow": {"a": None}},
        "configuration": {"returnImmediately": True},
        "x": 1,
    }


@pytest.mark.parametrize(
    "many",
    [
        [0] * ITEMS_MAX,
        [{}] * ITEMS_MAX,
        [[[]] for _ in range(ITEMS_MAX // 2)],
        {str(number): 0 for number in range(ITEMS_MAX)},
        [{"a": [{"a": 0}]} for _ in range(ITEMS_MAX // 4)],
    ],
    ids=["numbers", "objects", "lists in lists", "keys", "keys below keys"],
)
def test_a_request_has_only_so_many_keys_and_items(many):
    request = {"message": MESSAGE | {"parts": [{"data": many}]}}
    assert code_of("SendMessage", json.dumps(request).encode()) == -32602


def test_too_many_keys_or_items_are_refused_before_they_are_built(monkeypatch):
    monkeypatch.setattr(operations, "decode", lambda payload: pytest.fail("nothing is built"))
    for many in ("[" + "0," * ITEMS_MAX + "0,0]", "[" + '{"a":0}' * (ITEMS_MAX + 1) + "]"):
        assert code_of("SendMessage", many.encode()) == -32602
    monkeypatch.setattr(operations, "_TEXT", None)
    texts = "[" + '{"a":"b"}' * (ITEMS_MAX + 1) + "]"
    assert code_of("SendMessage", texts.encode()) == -32602, "nor are so many texts looked at one by one"


def test_a_text_may_be_as_long_as_it_likes_whatever_it_holds():
    text = 'a, b: \\ "c" [{' * ITEMS_MAX
    request = {"message": MESSAGE | {"parts": [{"text": text}]}}
    assert read("SendMessage", request)["message"]["parts"] == [{"text": text}]


def test_as_many_keys_and_items_as_there_may_be_are_read():
    beside = weight({"message": MESSAGE | {"parts": [{"data": []}]}})[1]
    request = {"message": MESSAGE | {"parts": [{"data": [0] * (ITEMS_MAX - beside)}]}}
    assert read("SendMessage", request) == request


@pytest.mark.parametrize(
    "wrong", [{"parts": [{}] * 100}, {"parts": [{"text": "hi"}], "extensions": [1] * 100, "referenceTaskIds": [1] * 9}]
)
def test_of_a_list_with_many_wrong_items_the_first_is_told(wrong):
    with pytest.raises(Fault) as raised:
        read("SendMessage", {"message": MESSAGE | wrong})
    assert [found["field"] for found in raised.value.told.data[1]["fieldViolations"]] == [
        f"message.{name}.0" for name in wrong if name != "parts" or len(wrong) == 1
    ]


def test_what_protocol_buffers_leave_empty_is_absent():
    """A printer that is told to print defaults as well prints these of every message."""
    part = {"text": "hi", "filename": "", "mediaType": "", "raw": None, "metadata": None}
    empty = {"contextId": "", "taskId": "", "extensions": [], "referenceTaskIds": []}
    assert read("SendMessage", {"tenant": "", "message": MESSAGE | empty | {"parts": [part]}}) == {
        "tenant": "",
        "message": MESSAGE | {"extensions": [], "referenceTaskIds": [], "parts": [{"text": "hi"}]},
    }
    assert read("SendMessage", {"message": MESSAGE | {"parts": [{"text": ""}]}})["message"]["parts"] == [{"text": ""}]


def test_a_part_may_be_anything_that_json_has():
    parts = [{"data": None}, {"data": [1.5, "x"]}, {"raw": "aGk=", "mediaType": "image/png", "own": 1}, {"url": "u"}]
    assert read("SendStreamingMessage", {"message": MESSAGE | {"parts": parts}})["message"]["parts"] == parts


@pytest.mark.parametrize(
    "wrong",
    [
        {"messageId": None},
        {"messageId": ""},
        {"messageId": "m" * 257},
        {"messageId": 7},
        {"role": "ROLE_AGENT"},
        {"role": None},
        {"parts": None},
        {"parts": []},
        {"parts": {}},
        {"parts": ["text"]},
        {"parts": [{}]},
        {"parts": [{"text": "a", "url": "b"}]},
        {"parts": [{"text": 1}]},
        {"parts": [{"raw": 1}]},
        {"parts": [{"text": "a", "mediaType": 1}]},
        {"parts": [{"text": "a", "metadata": []}]},
        {"parts": [{"raw": "no base64"}]},
        {"parts": [{"raw": "aGk=a"}]},
        {"parts": [{"raw": "a"}]},
        {"taskId": "t" * 129},
        {"contextId": 1},
        {"metadata": []},
        {"extensions": "urn:x"},
        {"referenceTaskIds": [1]},
    ],
    ids=json.dumps,
)
def test_a_message_is_of_its_form(wrong):
    assert code_of("SendMessage", json.dumps({"message": MESSAGE | wrong}).encode()) == -32602


@pytest.mark.parametrize(
    "configuration", [{"returnImmediately": "true"}, {"historyLength": -1}, {"acceptedOutputModes": "text"}, []]
)
def test_a_configuration_is_of_its_form(configuration):
    request = {"message": MESSAGE, "configuration": configuration}
    assert code_of("SendMessage", json.dumps(request).encode()) == -32602


@pytest.mark.parametrize("payload", [b"[]", b"7", b"null", b'"x"'])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_request_is_an_object(operation, payload):
    assert code_of(operation, payload) == -32602


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        b"{} {}",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b"\xff",
        b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
        b"[" * 100_000,
        b'{"a":' + b"1" * 5_000 + b"}",
    ],
    ids=lambda payload: repr(payload[:20]),
)
def test_what_is_no_json_is_told_so(payload):
    assert code_of("GetExtendedAgentCard", payload) == -32700


def test_the_deepest_request_is_read():
    depth = DEPTH_MAX - 1
    assert read_request("GetExtendedAgentCard", "1.0", b'{"a":' + b"[" * depth + b"]" * depth + b"}")


@pytest.mark.parametrize("version", ["", "0.3", "1", "1.1", "10.0", "2.0", "1.0-beta", "1.0.x", " 1.0"])
def test_another_version_is_refused_before_anything_else(version):
    assert code_of("Nonsense", b"nonsense", version) == -32009


@pytest.mark.parametrize("version", ["1.0", "1.0.0", "1.0.12"])
def test_a_version_is_taken_by_its_first_two_numbers(version):
    assert read("GetTask", {"id": "t"}, version) == {"id": "t"}


def test_another_operation_is_named_with_those_there_are():
    with pytest.raises(Fault) as raised:
        read("message/send", {})
    assert raised.value.told.code == -32601
    assert all(operation in raised.value.told.message for operation in OPERATIONS)


# Errors ---------------------------------------------------------------------------------------------------------------


def test_a_fault_has_its_code_its_name_and_its_details():
    told = Fault(-32001, "there is none", facts={"taskId": "t"}).told
    assert (told.code, told.name, told.message) == (-32001, "TaskNotFoundError", "there is none")
    assert told.data == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "TASK_NOT_FOUND",
            "domain": "a2a-protocol.org",
            "metadata": {"taskId": "t"},
        }
    ]


def test_the_reasons_are_a2as():
    reasons = [Fault(code, "").told.data[0]["reason"] for code in FAULTS]
    assert reasons == [
        "JSON_PARSE",
        "INVALID_REQUEST",
        "METHOD_NOT_FOUND",
        "INVALID_PARAMS",
        "INTERNAL",
        "TASK_NOT_FOUND",
        "TASK_NOT_CANCELABLE",
        "PUSH_NOTIFICATION_NOT_SUPPORTED",
        "UNSUPPORTED_OPERATION",
        "CONTENT_TYPE_NOT_SUPPORTED",
        "INVALID_AGENT_RESPONSE",
        "EXTENDED_AGENT_CARD_NOT_CONFIGURED",
        "EXTENSION_SUPPORT_REQUIRED",
        "VERSION_NOT_SUPPORTED",
    ]


def test_wrong_fields_are_named_and_not_too_many():
    with pytest.raises(Fault) as raised:
        fields = ("messageId", "role", "contextId", "taskId", "metadata", "extensions", "referenceTaskIds")
        wrong = {"message": {"parts": [{}]} | dict.fromkeys(fields, 1), "configuration": {"historyLength": -1}}
        read("SendMessage", wrong | {"metadata": 1})
    violations = raised.value.told.data[1]["fieldViolations"]
    assert {
        "field": "message.parts.0",
        "description": "Value error, a part has one of text, raw, url and data",
    } in violations
    assert len(violations) == 8
    assert raised.value.told.message.count("; ") == 7


# JSON -----------------------------------------------------------------------------------------------------------------


def test_what_was_read_can_be_written():
    text = '{"a":[1,2.5,"ä",null,true,{"b":"\\u00e4\\ud83d\\ude00"}]}'.encode()
    assert decode(encode(decode(text))) == decode(text)
    assert encode({"ä": 1}) == '{"ä":1}'.encode()


def test_a_value_is_weighed():
    assert weight(7) == (0, 0)
    assert weight([]) == (1, 0)
    assert weight({"a": [1, {"b": 2}], "c": 3}) == (3, 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14T22:13:20.001Z", 1_700_000_000_001),
        ("2023-11-14T22:13:20.000001Z", 1_700_000_000_001),
        ("2023-11-14T22:13:20+00:00", 1_700_000_000_000),
    ],
)
def test_a_timestamp_is_rounded_up(text, expected):
    assert milliseconds_of(text) == expected


NO_PARTS = [
    {},
    [],
    [1],
    [{}],
    [{"kind": "text"}],
    [{"text": 5}],
    [{"text": "a", "data": 1}],
    [{"text": None}],
    [{"raw": "no base64"}],
    [{"text": "a", "metadata": []}],
]
PART = [{"text": "a"}]


@pytest.mark.parametrize("value", NO_PARTS, ids=json.dumps)
def test_what_is_no_list_of_parts(value):
    assert not are_parts(value)
    assert not are_artifacts([{"artifactId": "a", "parts": value}])


@pytest.mark.parametrize(
    "value",
    [
        {},
        [1],
        [{"parts": PART}],
        [{"artifactId": "", "parts": PART}],
        [{"artifactId": "a"}],
        [{"artifactId": "a", "parts": None}],
        [{"artifactId": "a", "parts": PART, "name": 5}],
        [{"artifactId": "a", "parts": PART, "metadata": 5}],
        [{"artifactId": "a", "parts": PART, "extensions": "urn:x"}],
        [{"artifactId": "a", "parts": PART}, {"artifactId": "b", "parts": []}],
    ],
    ids=json.dumps,
)
def test_what_is_no_list_of_artifacts(value):
    assert not are_artifacts(value)


def test_artifacts_and_parts_may_have_more_and_what_is_null():
    part = {"data": None, "text": None, "filename": None, "mediaType": "", "kind": "data", "own": {"x": None}}
    assert are_parts([part, {"raw": "_-8"}, {"url": "u"}])
    assert are_artifacts([])
    assert are_artifacts([{"artifactId": "a", "parts": [part], "name": None, "description": "", "x-own": 1}])


@pytest.mark.parametrize("text", ["", "now", "2023-11-14T22:13:20", "2023-11-14T22:13:20+01:00"])
def test_a_timestamp_is_in_utc(text):
    with pytest.raises(ValueError, match=r"UTC|isoformat"):
        milliseconds_of(text)
