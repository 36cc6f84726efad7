"""A2A's operations: each is this protocol's own, said in A2A's words."""

from __future__ import annotations

import json

import pytest

from a2a.engine.records import Adopted, Answered, Delegated, Refused, Settled, Steered
from a2a.errors import CODES, FAULTS
from a2a.protocol.messages import (
    A2ACall,
    A2AFault,
    A2AResult,
    AgentUpdate,
    TaskAnswer,
    TaskAsk,
    TaskGet,
    TaskSettled,
)
from a2a.protocol.operations import BINDING, OPERATIONS, PUSH_OPERATIONS

RESULT = b'[{"artifactId":"a1","parts":[{"text":"done"}],"x-own":1}]'


def message(name="m1", text="hello", **fields):
    return {"messageId": name, "role": "ROLE_USER", "parts": [{"text": text}]} | fields


def call(operation, request=None, **fields):
    return A2ACall(operation, json.dumps(request or {}).encode(), **fields)


def ask(peer, operation, request=None, **fields):
    """Return the response to a call that is answered at once."""
    answer = peer.say(call(operation, request, **fields))
    assert isinstance(answer, A2AResult), answer
    return json.loads(answer.payload)


def send(peer, name="m1", text="hello", *, configuration=None, **fields):
    """Send a message without waiting, and return its task."""
    sent = {"message": message(name, text, **fields), "configuration": {"returnImmediately": True}}
    sent["configuration"] |= configuration or {}
    return ask(peer, "SendMessage", sent)["task"]


def fault(peer, operation, request=None, **fields):
    """Make a call that must fail without a record, and return the fault."""
    before = len(peer.town.records)
    answer = peer.say(call(operation, request, **fields))
    assert isinstance(answer, A2AFault), answer
    assert peer.town.records[before:] == []
    assert FAULTS[answer.code] == answer.name
    return answer


def facts(answer):
    return answer.data[0].get("metadata", {})


@pytest.fixture
def worker(town):
    return town.worker("w1", tasks=8)


# Sending --------------------------------------------------------------------------------------------------------------


def test_a_message_is_a_delegation_that_is_accepted_by_itself(town, boss, worker):
    task = send(
        boss, metadata={"own": 1}, referenceTaskIds=["t0"], configuration={"acceptedOutputModes": ["text/plain"]}
    )
    (record,) = town.said(Delegated)
    assert (record.task, record.key, record.scope, record.payload) == (
        task["id"],
        "m1",
        "principal:boss",
        b'[{"text":"hello"}]',
    )
    assert record.spec == {
        "skill": "echo",
        "acceptance": {"evaluator": "auto"},
        "message": {"messageId": "m1", "role": "ROLE_USER", "metadata": {"own": 1}, "referenceTaskIds": ["t0"]},
        "acceptedOutputModes": ["text/plain"],
    }
    assert task["status"]["state"] == "TASK_STATE_SUBMITTED"
    assert "history" not in task
    offer = worker.offer()
    assert (offer.spec["message"]["metadata"], offer.payload) == ({"own": 1}, record.payload)
    worker.report(offer, payload=RESULT)
    assert isinstance(boss.mail()[-1], TaskSettled)
    found = ask(boss, "GetTask", {"id": task["id"]})
    assert found["status"]["state"] == "TASK_STATE_COMPLETED"
    assert found["artifacts"] == json.loads(RESULT), "unknown fields are kept"


def test_the_metadata_of_a_request_are_relayed(town, boss, worker):
    sent = {"message": message(), "configuration": {"returnImmediately": True}, "metadata": {"k": [1, {"x": None}]}}
    ask(boss, "SendMessage", sent)
    assert worker.offer().spec["metadata"] == {"k": [1, {"x": None}]}


def test_the_same_message_again_is_the_same_task(town, boss, worker):
    first = send(boss)
    town.worker("w2", "other")
    assert send(boss) == ask(boss, "GetTask", {"id": first["id"]}), "also where its skill would not be the only one now"
    assert len(town.said(Delegated)) == 1
    other = town.join("boss#2")
    assert send(other)["id"] == first["id"], "a key is the principal's"
    assert len(town.said(Adopted)) == 1
    answer = fault(boss, "SendMessage", {"message": message(text="other")})
    assert (answer.code, facts(answer)["code"]) == (-32600, "idempotency_mismatch")
    assert facts(answer)["retryable"] == "false"


def test_equal_parts_are_the_same_message_however_they_are_written(town, boss, worker):
    one = b'{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"data":{"a":1,"b":2.0}}]}}'
    other = b'{ "message": {"role":"ROLE_USER","messageId":"m", "parts":[{"data": {"b":2,"a":1}}], "taskId": null } }'
    for payload in (one, other):
        assert boss.say(A2ACall("SendMessage", payload)) is None
    assert len(town.said(Delegated)) == 1


def test_a_message_keeps_its_context(town, boss, worker):
    assert send(boss, contextId="c1")["contextId"] == "c1"
    assert send(boss, "m2")["contextId"]


def test_a_message_names_its_skill_or_there_is_only_one(town, boss):
    answer = fault(boss, "SendMessage", {"message": message()})
    assert (answer.code, "none yet" in answer.message) == (-32602, True)
    named = {BINDING: {"skill": "plan"}}
    assert send(boss, metadata=named)["metadata"]["skill"] == "plan"
    town.worker("w1")
    assert send(boss, "m2")["metadata"]["skill"] == "echo"
    town.worker("w2", "other")
    answer = fault(boss, "SendMessage", {"message": message("m3")})
    assert answer.code == -32602
    assert BINDING in answer.message
    assert "echo, other" in answer.message
    assert answer.data[1]["fieldViolations"] == [
        {"field": f"message.metadata.{BINDING}.skill", "description": "is missing"}
    ]


@pytest.mark.parametrize("named", ["plan", {}, {"skill": ""}, {"skill": 1}, {"skill": "x" * 129}, None])
def test_what_names_no_skill_is_refused(boss, worker, named):
    request = {"message": message(metadata={BINDING: named})}
    if named is None:
        assert send(boss, metadata={BINDING: None})["metadata"]["skill"] == "echo"
    else:
        assert fault(boss, "SendMessage", request).code == -32602


def test_a_message_with_its_defaults_printed_is_a_delegation(town, boss, worker):
    task = send(boss, parts=[{"text": "hello", "mediaType": "", "filename": ""}], contextId="", taskId="")
    assert "requires" not in town.task(task["id"]).spec
    assert worker.offer().payload == b'[{"text":"hello"}]'


def test_a_media_type_nobody_takes_is_refused(town, boss, worker):
    parts = [{"raw": "aGk=", "mediaType": "image/png"}]
    answer = fault(boss, "SendMessage", {"message": message(parts=parts)})
    assert (answer.code, facts(answer)) == (-32005, {"mediaType": "image/png", "skill": "echo"})
    later = {BINDING: {"skill": "paint"}}
    task = send(boss, parts=parts, metadata=later)
    assert town.task(task["id"]).spec["requires"] == {"mediaType": "image/png"}, "somebody may come who does"
    both = [{"text": "a", "mediaType": "text/plain"}, {"data": 1, "mediaType": "application/json"}]
    assert "requires" not in town.task(send(boss, "m2", parts=both)["id"]).spec


def test_the_same_message_is_answered_also_when_nobody_takes_its_kind_any_more(town, boss):
    painter = town.worker("w1", "paint", tasks=0)
    card = painter.seat.card | {"defaultInputModes": ["image/png"]}
    painter.say(AgentUpdate(card=card))
    parts = [{"raw": "aGk=", "mediaType": "image/png"}]
    task = send(boss, parts=parts)
    painter.say(AgentUpdate(card=card | {"defaultInputModes": ["text/plain"]}))
    assert send(boss, parts=parts)["id"] == task["id"]


def test_what_a_message_says_beside_its_parts_is_bounded(boss, worker):
    deep = {"a": 1}
    for _ in range(16):
        deep = {"a": deep}
    for metadata in ({"a": deep}, {"a": list(range(1_000))}):
        answer = fault(boss, "SendMessage", {"message": message(metadata=metadata)})
        assert (answer.code, "beside its parts" in answer.message) == (-32602, True)
    assert send(boss, parts=[{"data": [deep, *range(5_000)]}])["id"], "its parts are not"


def test_parts_without_a_canonical_form_are_refused(boss, worker):
    answer = fault(boss, "SendMessage", {"message": message(parts=[{"data": 2**60}])})
    assert (answer.code, answer.data[1]["fieldViolations"][0]["field"]) == (-32602, "message.parts")


def test_metadata_without_a_canonical_form_are_refused(boss, worker):
    answer = fault(boss, "SendMessage", {"message": message(metadata={"n": 2**60})})
    assert (answer.code, facts(answer)["code"]) == (-32600, "malformed")


def test_nothing_is_pushed(boss, worker):
    for operation in PUSH_OPERATIONS:
        assert fault(boss, operation, {"taskId": "t"}).code == -32003
    configuration = {"taskPushNotificationConfig": {"url": "https://example.com"}}
    assert fault(boss, "SendMessage", {"message": message(), "configuration": configuration}).code == -32003


# More of a conversation -----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(boss, worker):
    """A task that waits for an answer."""
    task = send(boss)
    offer = worker.offer()
    worker.say(TaskAsk(offer.task, 1, b'[{"text":"which?"}]', fence=offer.fence))
    return task, offer


def test_a_question_is_the_words_of_the_status(boss, asked):
    task, _ = asked
    status = ask(boss, "GetTask", {"id": task["id"]})["status"]
    assert status["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert status["message"] == {
        "messageId": f"{task['id']}-ask-1",
        "contextId": task["contextId"],
        "taskId": task["id"],
        "role": "ROLE_AGENT",
        "parts": [{"text": "which?"}],
    }


def test_a_message_to_a_task_that_asks_is_the_answer(town, boss, worker, asked):
    task, offer = asked
    after = send(boss, "m2", "this one", taskId=task["id"])
    assert after["status"]["state"] == "TASK_STATE_WORKING"
    (record,) = town.said(Answered)
    assert (record.ask_no, record.by, record.payload, record.key) == (1, "boss", b'[{"text":"this one"}]', "m2")
    assert isinstance(worker.mail()[-1], TaskAnswer)


def test_an_answer_again_answers_no_other_question(town, boss, worker, asked):
    task, offer = asked
    send(boss, "m2", "this one", taskId=task["id"])
    worker.say(TaskAsk(offer.task, 2, b'[{"text":"and?"}]', fence=offer.fence))
    count = len(town.records)
    again = send(boss, "m2", "this one", taskId=task["id"])
    assert again["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert len(town.records) == count
    answer = boss.say(call("SendMessage", {"message": message("m2", "another", taskId=task["id"])}))
    assert (answer.code, facts(answer)["code"]) == (-32600, "already_answered")
    send(boss, "m3", "that one", taskId=task["id"])
    worker.report(offer, payload=RESULT)
    assert send(boss, "m2", "this one", taskId=task["id"])["status"]["state"] == "TASK_STATE_COMPLETED"
    assert len(town.said(Answered)) == 2


def test_a_message_to_a_task_at_work_is_a_word(town, boss, worker):
    task = send(boss)
    offer = worker.offer()
    for _ in range(2):
        send(boss, "m2", "hurry", taskId=task["id"], contextId=task["contextId"])
    (record,) = town.said(Steered)
    assert (record.key, record.payload) == ("m2", b'[{"text":"hurry"}]')
    worker.report(offer, payload=RESULT)
    worker.say(TaskGet(task["id"]))


def test_a_message_to_a_task_that_has_ended_is_refused(town, boss, worker):
    task = send(boss)
    worker.report(worker.offer(), payload=RESULT)
    answer = fault(boss, "SendMessage", {"message": message("m2", taskId=task["id"])})
    assert (answer.code, facts(answer)) == (-32004, {"taskId": task["id"]})


def test_a_word_again_is_answered_also_after_the_end(town, boss, worker):
    task = send(boss)
    offer = worker.offer()
    send(boss, "m2", "hurry", taskId=task["id"])
    worker.report(offer, payload=RESULT, steer_no=1)
    assert town.task(task["id"]).is_terminal
    assert send(boss, "m2", "hurry", taskId=task["id"])["id"] == task["id"]


def test_a_message_to_no_task_or_to_one_of_another_context_is_refused(boss, asked):
    task, _ = asked
    assert fault(boss, "SendMessage", {"message": message("m2", taskId="none")}).code == -32001
    other = message("m2", taskId=task["id"], contextId="other")
    assert fault(boss, "SendMessage", {"message": other}).code == -32602


def test_only_who_may_answers_and_the_refusal_is_kept(town, boss, asked):
    task, _ = asked
    stranger = town.join("stranger")
    answer = stranger.say(call("SendMessage", {"message": message("m2", taskId=task["id"])}))
    assert (answer.code, facts(answer)["code"]) == (-32600, "forbidden")
    town.pass_time(1)
    (kept,) = town.said(Refused)
    assert (kept.agent, kept.kind, kept.code, kept.task) == ("stranger", "task.answer", "forbidden", task["id"])


# Tasks ----------------------------------------------------------------------------------------------------------------


def test_a_task_that_never_was_is_not_found(boss):
    for operation in ("GetTask", "CancelTask", "SubscribeToTask"):
        answer = fault(boss, operation, {"id": "main-7"})
        assert (answer.code, facts(answer)) == (-32001, {"taskId": "main-7"})


def test_a_task_is_cancelled(town, boss, worker):
    queued, held = send(boss, metadata={BINDING: {"skill": "later"}}), send(boss, "m2")
    assert ask(boss, "CancelTask", {"id": queued["id"]})["status"]["state"] == "TASK_STATE_CANCELED"
    assert ask(boss, "CancelTask", {"id": queued["id"]})["status"]["state"] == "TASK_STATE_CANCELED"
    shown = ask(boss, "CancelTask", {"id": held["id"]})
    assert (shown["status"]["state"], shown["metadata"]["state"]) == ("TASK_STATE_WORKING", "canceling")
    assert len(town.said(Settled)) == 1


def test_an_ended_task_is_not_cancelable(town, boss, worker):
    task = send(boss)
    worker.report(worker.offer(), payload=RESULT)
    answer = boss.say(call("CancelTask", {"id": task["id"]}))
    assert (answer.code, answer.name) == (-32002, "TaskNotCancelableError")
    stranger = town.join("stranger")
    assert stranger.say(call("CancelTask", {"id": task["id"]})).code == -32600


@pytest.mark.parametrize(
    "result", [b"{}", b'["done"]', b'[{"artifactId":1,"parts":[{}]}]', b'[{"artifactId":"a","parts":[]}]', b"nonsense"]
)
def test_a_result_that_is_no_list_of_artifacts_is_the_agents_fault(boss, worker, result):
    task = send(boss)
    worker.report(worker.offer(), payload=result)
    answer = fault(boss, "GetTask", {"id": task["id"]})
    assert (answer.code, answer.name) == (-32006, "InvalidAgentResponseError")


def test_a_failed_task_says_why(town, boss, worker):
    task = send(boss, metadata={BINDING: {"skill": "later"}})
    ask(boss, "CancelTask", {"id": task["id"]})
    assert "artifacts" in ask(boss, "GetTask", {"id": task["id"]})
    failed = send(boss, "m2")
    worker.report(worker.offer(), "failed")
    status = ask(boss, "GetTask", {"id": failed["id"]})["status"]
    assert status["state"] == "TASK_STATE_FAILED"
    assert status["message"]["parts"][0]["text"]


def test_a_task_that_waits_for_a_word_has_no_artifacts_yet(boss, worker):
    task = boss.delegate()
    worker.report(worker.offer(), payload=RESULT)
    assert ask(boss, "GetTask", {"id": task})["artifacts"] == []


# The request ----------------------------------------------------------------------------------------------------------


def test_versions_operations_and_requests_are_checked_in_this_order(boss):
    answer = fault(boss, "Nonsense", version="0.3")
    assert (answer.code, facts(answer)) == (-32009, {"requested": "0.3", "supported": "1.0"})
    assert fault(boss, "Nonsense").code == -32601
    answer = boss.say(A2ACall("GetTask", b"nonsense"))
    assert answer.code == -32700
    assert fault(boss, "GetTask", {"id": 7}).data[1]["fieldViolations"][0]["field"] == "id"
    assert fault(boss, "GetTask", {"id": "t"}, version="1.0.1", extensions=["urn:x"]).code == -32001


def test_every_operation_has_a_handler(boss):
    for operation in OPERATIONS:
        answer = boss.say(call(operation, {"message": message(), "id": "t"}))
        assert answer is not None
        assert getattr(answer, "code", 0) != -32601, operation


def test_every_error_of_this_protocol_has_one_of_a2a() -> None:
    assert {facts.jsonrpc for facts in CODES.values()} <= set(FAULTS)


# The card -------------------------------------------------------------------------------------------------------------


def test_the_card_has_every_skill_on_file_once(town, boss):
    assert fault(boss, "GetExtendedAgentCard").name == "ExtendedAgentCardNotConfiguredError"
    town.coordinator.live.addresses.append("ws://127.0.0.1:1")
    town.worker("w2", "echo", "draw")
    one = town.worker("w1", "echo")
    one.say(AgentUpdate(card=one.seat.card | {"defaultInputModes": ["text/x"], "skills": [SKILL | {"own": 1}]}))
    card = ask(boss, "GetExtendedAgentCard")
    assert card["supportedInterfaces"] == [
        {"url": "ws://127.0.0.1:1", "protocolBinding": BINDING, "protocolVersion": "1.0"}
    ]
    assert [skill["id"] for skill in card["skills"]] == ["draw", "echo"]
    assert card["skills"][1] == {"inputModes": ["text/x"]} | SKILL | {"own": 1}, "of the agent with the smallest id"
    assert card["capabilities"] == {"streaming": True, "pushNotifications": False, "extendedAgentCard": True}
    assert set(card) >= {"name", "description", "version", "defaultInputModes", "defaultOutputModes"}


SKILL = {"id": "echo", "name": "Echo", "description": "says it again", "tags": ["x"]}


# The archive ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def archived(make_town):
    """A town where a task has left memory, its delegator, and the task."""
    town = make_town(linger_ms=0)
    boss, worker = town.join("boss"), town.worker("w1")
    task = send(boss)
    worker.report(worker.offer(), payload=RESULT)
    boss.acknowledge()
    worker.acknowledge()
    town.pass_time(5_000)
    assert task["id"] not in town.ledger.tasks
    return town, boss, task["id"]


def test_an_archived_task_is_answered_as_before(archived):
    town, boss, task = archived
    found = ask(boss, "GetTask", {"id": task})
    assert found["artifacts"] == json.loads(RESULT)
    count = len(town.records)
    assert ask(boss, "SendMessage", {"message": message()}) == {"task": found}
    assert fault(boss, "SendMessage", {"message": message("m2", taskId=task)}).code == -32004
    assert boss.say(call("CancelTask", {"id": task})).code == -32002
    assert fault(boss, "SubscribeToTask", {"id": task}).code == -32004
    assert len(town.records) == count
    assert not town.coordinator.live.calls


def test_an_archived_task_is_adopted_by_its_message(archived):
    town, boss, task = archived
    other = town.join("boss#2")
    assert ask(other, "SendMessage", {"message": message()})["task"]["id"] == task
    assert len(town.said(Adopted)) == 1
    town.is_slow = True
    assert ask(other, "SendMessage", {"message": message()})["task"]["id"] == task, "it is at hand again"


def test_what_is_wrong_is_told_also_where_there_is_an_archive(archived):
    town, boss, task = archived
    assert fault(boss, "GetTask", {"id": 7}).code == -32602
    assert fault(boss, "Nonsense", {"id": task}).code == -32601
    assert fault(boss, "ListTasks", {"pageToken": "x"}).code == -32602
    assert fault(boss, "GetTaskPushNotificationConfig", {"id": 7, "message": 7}).code == -32003


def test_an_archive_that_cannot_be_read_is_said_to_be_unavailable(archived):
    town, boss, task = archived
    town.is_slow = True
    assert boss.say(call("GetTask", {"id": task})) is None
    town.coordinator.found(town.needs.pop(), None, town.now)
    town.flush()
    assert list(boss.replies.values())[-1].code == "unavailable"


def test_a_task_of_this_protocol_is_seen_by_the_operations(boss):
    task = boss.delegate()
    assert ask(boss, "GetTask", {"id": task})["metadata"]["key"] == "k"
