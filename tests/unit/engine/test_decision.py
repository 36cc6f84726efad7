"""What a handler returns, and what a machine hands to its shell."""

import pytest

from a2a.engine.decision import NOTHING, Decision, Ready, may_wait, refuse, reply
from a2a.engine.records import Adopted
from a2a.errors import CODES, ErrorCode
from a2a.protocol.messages import Error, Ok, TaskCreated

RECORD = Adopted(1, "main-1", "boss")


def test_nothing_is_no_record_and_no_answer():
    assert (NOTHING.records, NOTHING.reply, NOTHING.close) == ([], None, None)


def test_an_answer_has_its_records():
    assert reply(Ok(), RECORD) == Decision([RECORD], Ok())
    assert reply(Ok()) == Decision([], Ok())


@pytest.mark.parametrize(
    ("answer", "may"),
    [
        (Ok(), True),
        (TaskCreated("main-1", 1, True, "queued", "main-c1"), True),
        (TaskCreated("main-1", 1, False, "queued", "main-c1"), False),
        (Error("stale", "no"), False),
    ],
)
def test_what_is_to_be_acted_on_does_not_wait(answer, may):
    assert may_wait(answer) is may


def test_decisions_do_not_share_their_records():
    first, second = reply(Ok()), reply(Ok())
    first.records.append(RECORD)
    assert second.records == []
    refused = refuse(ErrorCode.STALE, "no")
    refused.records.append(RECORD)
    assert refuse(ErrorCode.STALE, "no").records == []


@pytest.mark.parametrize("code", ErrorCode)
def test_a_refusal_says_whether_the_same_may_succeed_later(code):
    assert refuse(code, "because").reply == Error(code.value, "because", CODES[code].retryable)


def test_a_refusal_may_name_a_time_data_and_what_is_worth_keeping():
    decision = refuse(ErrorCode.QUOTA, "full", retry_after_ms=5, data={"a": 1}, records=[RECORD])
    assert decision == Decision([RECORD], Error("quota", "full", True, 5, {"a": 1}))


@pytest.mark.parametrize("ready", [Ready(records=[(1, RECORD)]), Ready(frames=[(1, None)]), Ready(closes=[(1, "")])])
def test_there_is_something_to_do_where_anything_is_to_be_kept_sent_or_closed(ready):
    assert ready
    assert not Ready()
