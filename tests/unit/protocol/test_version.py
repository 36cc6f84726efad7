"""How two peers agree on a version."""

import pytest

from a2a.protocol import version
from a2a.protocol.version import OLDEST, SPOKEN, agree, parse_version


@pytest.mark.parametrize(
    "text, parsed",
    [
        ("1.0", (1, 0)),
        ("0.3", (0, 3)),
        ("12.345", (12, 345)),
        ("9999.9999", (9999, 9999)),
        ("", None),
        ("1", None),
        ("1.", None),
        (".1", None),
        ("1.0.0", None),
        ("01.0", None),
        ("1.00", None),
        ("v1.0", None),
        ("1.0 ", None),
        ("1.0\n", None),
        ("-1.0", None),
        ("1.-1", None),
        ("१.०", None),
        ("12345.0", None),
    ],
)
def test_a_version_is_two_numbers(text, parsed):
    assert parse_version(text) == parsed


def test_what_is_spoken_here_is_a_range():
    assert parse_version(OLDEST) <= parse_version(SPOKEN)


@pytest.mark.parametrize(
    "oldest, newest, chosen",
    [
        ("1.0", "1.0", "1.0"),
        ("1.0", "1.9", "1.0"),
        ("0.1", "1.0", "1.0"),
        ("0.1", "9.0", "1.0"),
        ("1.1", "1.2", None),
        ("0.1", "0.9", None),
        ("2.0", "3.0", None),
        ("1.1", "1.0", None),
        ("x", "1.0", None),
        ("1.0", "x", None),
    ],
)
def test_peers_agree_on_the_newest_version_both_speak(oldest, newest, chosen):
    assert agree(oldest, newest) == chosen


@pytest.mark.parametrize(
    "oldest, newest, chosen",
    [
        ("1.0", "1.1", None),
        ("1.0", "1.2", "1.2"),
        ("1.0", "1.3", "1.3"),
        ("1.3", "1.3", "1.3"),
        ("1.4", "2.0", "1.4"),
        ("1.5", "2.0", None),
    ],
)
def test_a_range_of_our_own_is_met_inside_it(monkeypatch, oldest, newest, chosen):
    monkeypatch.setattr(version, "OLDEST", "1.2")
    monkeypatch.setattr(version, "SPOKEN", "1.4")
    assert agree(oldest, newest) == chosen
