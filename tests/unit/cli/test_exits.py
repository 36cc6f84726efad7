"""What a command ends with."""

from __future__ import annotations

import pytest

from a2a.cli.exits import ExitCode, Failure


def test_no_two_ends_have_the_same_number_and_the_usual_ones_are_as_usual() -> None:
    numbers = [code.value for code in ExitCode.__members__.values()]
    assert len(set(numbers)) == len(numbers)
    assert (ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, ExitCode.INTERRUPTED) == (0, 1, 2, 130)


@pytest.mark.parametrize("code", [ExitCode.FAILED, ExitCode.NOT_CONFORMANT])
def test_a_failure_has_its_sentence_and_its_number(code: ExitCode) -> None:
    failure = Failure("the ledger is gone", code)
    assert (failure.format_message(), failure.exit_code) == ("the ledger is gone", code.value)
    assert Failure("so").exit_code == ExitCode.FAILED
