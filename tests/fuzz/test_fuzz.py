"""Each target with a few hundred inputs that Hypothesis draws, with every run of the tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .known import TARGETS
from .source import Source
from .watch import Target, keep, watch

ALWAYS = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=True)
FEWER = {"store": 60}
"""Examples where one takes its time: a ledger is opened from the disk."""


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_ends_as_documented_and_at_once(name: str) -> None:
    target = TARGETS[name]

    @settings(ALWAYS, max_examples=FEWER.get(name, 200))
    @given(st.binary(min_size=64, max_size=3_000))
    def check(data: bytes) -> None:
        # The tests are not there to measure a machine that does something else as well: ten times the bound is a hang.
        finding = watch(target, data, seconds=1.0)
        assert finding is None, finding.says

    check()


def raising(data: bytes) -> None:
    raise KeyError(data)


def circling(data: bytes) -> None:
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass


def circling_twice(data: bytes) -> Iterator[None]:
    for _ in range(2):
        circling(data)
        yield


def growing(data: bytes) -> None:
    bytearray(b"x") * (256 * 1024 * 1024)


@pytest.mark.parametrize(
    "target, kind",
    [
        (raising, "KeyError-test_fuzz-raising"),
        (circling, "slow"),
        (circling_twice, "slow"),
        (growing, "memory"),
    ],
)
def test_what_is_wrong_is_found_and_kept(target: Target, kind: str, tmp_path: Path) -> None:
    finding = watch(target, b"data", seconds=0.01 if kind == "slow" else 5.0, memory=1024 * 1024)
    assert finding is not None and finding.kind == kind
    path = keep(finding, b"data", tmp_path / "found")
    assert path.read_bytes() == b"data" and path.with_suffix(".txt").read_text() == finding.says


def test_an_input_without_anything_wrong_is_no_finding() -> None:
    assert watch(lambda data: None, b"data") is None


def test_the_time_is_that_of_one_turn_and_not_of_all() -> None:
    assert watch(circling_twice, b"data", seconds=0.035) is None


def test_the_same_bytes_are_the_same_choices_and_none_are_the_least() -> None:
    def choices(data: bytes) -> list[object]:
        source = Source(data)
        return [
            source.below(7),
            source.below(70_000),
            source.pick("abc"),
            source.one_in(2),
            source.take(2),
            source.rest(),
        ]

    assert choices(b"some bytes of an input") == choices(b"some bytes of an input")
    assert choices(b"") == [0, 0, "a", False, b"", b""]
    assert Source(b"").is_empty and not Source(b"x").is_empty
