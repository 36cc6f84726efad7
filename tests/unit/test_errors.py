"""The error tree, and the table that ties wire codes to classes."""

import inspect
import json
import re
from typing import Any

import pytest

from a2a import errors
from a2a.errors import CODES, A2AError, AttemptFailed, Declined, ErrorCode, Refused, TaskFailed, raised_at


def test_every_code_has_its_facts():
    assert set(CODES) == set(ErrorCode)


def test_a_code_is_its_own_word_on_the_wire():
    for code in ErrorCode:
        assert code.value == code.name.lower()
        assert re.fullmatch(r"[a-z_]+", code)


@pytest.mark.parametrize("code", ErrorCode)
def test_a_refusal_is_of_the_class_of_its_code(code):
    kind = CODES[code].error
    assert issubclass(kind, Refused)
    assert kind is not Refused
    assert kind.code is code
    assert kind.__module__ == "a2a.errors"
    assert str(kind("because")) == f"{code}: because"


def test_no_two_codes_share_a_class():
    assert len({facts.error for facts in CODES.values()}) == len(CODES)
    assert CODES[ErrorCode.IDEMPOTENCY_MISMATCH].error.__name__ == "IdempotencyMismatch"


@pytest.mark.parametrize("code", ErrorCode)
def test_what_a_code_becomes_at_other_borders_is_an_error_there(code):
    facts = CODES[code]
    assert 400 <= facts.http < 600
    assert facts.jsonrpc in {-32600, -32602, -32603, -32001, -32002, -32004, -32009}


def test_a_server_that_is_at_its_limit_says_to_try_again():
    assert {code for code, facts in CODES.items() if facts.retryable} == {
        ErrorCode.GENERATION_MISMATCH,
        ErrorCode.CONFLICT,
        ErrorCode.DENIED,
        ErrorCode.DEADLOCK,
        ErrorCode.QUOTA,
        ErrorCode.NO_CAPABLE_AGENT,
        ErrorCode.UNAVAILABLE,
    }
    assert {code for code, facts in CODES.items() if facts.http >= 500 and not facts.retryable} == {
        ErrorCode.UNSUPPORTED_KIND,
        ErrorCode.DEADLINE,
    }


def test_a_refusal_has_what_the_error_message_said():
    refused = CODES[ErrorCode.QUOTA].error("full", retryable=True, retry_after=1.5, data={"limit": 3})
    assert (refused.detail, refused.retryable, refused.retry_after, refused.data) == ("full", True, 1.5, {"limit": 3})
    plain = CODES[ErrorCode.STALE].error("old")
    assert (plain.retryable, plain.retry_after, plain.data) == (False, None, {})


def test_refusals_do_not_share_their_data():
    first, second = (CODES[ErrorCode.STALE].error("old") for _ in range(2))
    first.data["a"] = 1
    assert second.data == {}


def test_everything_raised_on_purpose_has_one_root():
    raised = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, BaseException)]
    assert len(raised) > 15
    assert all(issubclass(item, A2AError) for item in raised)


def test_all_of_the_tree_is_public_and_drawn():
    public = {name for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, A2AError)}
    assert public <= set(errors.__all__)
    of_codes = {facts.error.__name__ for facts in CODES.values()}
    assert all(name in errors.__doc__ for name in public - of_codes)


def test_what_a_task_group_wrapped_is_found_however_deep():
    first, second, third = ValueError("1"), KeyError("2"), KeyboardInterrupt()
    group = BaseExceptionGroup("outer", [ExceptionGroup("inner", [first, second]), third])
    assert errors.leaves(group) == [first, second, third]
    assert errors.leaves(first) == [first]


def test_a_task_error_names_the_task_and_why():
    error = TaskFailed("main-5", "losses", "two agents died")
    assert (error.task, error.reason, error.detail) == ("main-5", "losses", "two agents died")
    assert str(error) == "task main-5: losses: two agents died"
    assert str(TaskFailed("main-5", "losses")) == "task main-5: losses"


def test_a_handler_that_gives_up_says_whether_another_attempt_may_help():
    error = AttemptFailed("no network", code="network", retryable=True)
    assert (str(error), error.error_code, error.retryable) == ("no network", "network", True)
    assert (AttemptFailed("x").error_code, AttemptFailed("x").retryable) == ("error", False)


def test_a_handler_that_declines_says_for_how_long():
    assert (Declined("busy", retry_after=5).reason, Declined("busy", retry_after=5).retry_after) == ("busy", 5)
    assert (Declined().reason, Declined().retry_after) == ("unsupported", 1.0)


@pytest.mark.parametrize(
    ("reason", "retry_after"),
    [("whatever", 1.0), ("", 1.0), *(("busy", time) for time in (-1, float("nan"), float("inf"), 1e30, "soon", None))],
)
def test_a_task_is_declined_for_a_reason_there_is_and_for_a_time_that_ends(reason: str, retry_after: Any) -> None:
    with pytest.raises(ValueError, match="(reason|retry_after): expected"):
        Declined(reason, retry_after=retry_after)


def test_the_place_of_an_error_of_a_module_is_told_unless_it_says_it_itself() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        assert re.fullmatch(r".*json.decoder\.py:\d+: ", raised_at(error, __file__))
    assert raised_at(ValueError("raised nowhere"), __file__) == ""
    try:
        raise ImportError("by the import itself")
    except ImportError as error:
        assert raised_at(error, __file__) == ""
    with pytest.raises(SyntaxError) as caught:
        compile("def (", "module.py", "exec")
    assert raised_at(caught.value, __file__) == ""
