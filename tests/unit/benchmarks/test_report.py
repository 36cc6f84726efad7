from __future__ import annotations

import json
from pathlib import Path

from benchmarks.report import Note, Options, Result, as_facts, as_json, as_table


def test_a_result_in_json_has_the_five_keys() -> None:
    assert json.loads(as_json(Result("relay.throughput", 10.0, "tasks/s"))) == {
        "name": "relay.throughput",
        "value": 10.0,
        "unit": "tasks/s",
        "ratio": None,
        "ratio_to": None,
    }


def test_the_ratio_is_the_value_over_that_of_the_other() -> None:
    relay = Result("relay.cpu", 40.0, "us/task")
    assert Result("delegate.cpu", 50.0, "us/task").against(relay) == Result(
        "delegate.cpu", 50.0, "us/task", 1.25, "relay.cpu"
    )


def test_the_table_names_what_a_ratio_is_to() -> None:
    relay = Result("relay.throughput", 1000.0, "tasks/s")
    lines = as_table([relay, Result("delegate.throughput", 500.0, "tasks/s").against(relay)]).splitlines()
    assert lines[0].split() == ["relay.throughput", "1,000.000", "tasks/s"]
    assert lines[1].split() == ["delegate.throughput", "500.000", "tasks/s", "0.50", "x", "relay.throughput"]


def test_facts_are_one_line_each() -> None:
    assert as_facts({"cores": 2, "versions": {"a": "1", "b": "2"}, "load_average": [0.5, 1.0]}) == (
        "cores: 2\nversions: a 1, b 2\nload_average: 0.5, 1.0"
    )


def test_quick_is_one_round_and_the_default_at_least_five(tmp_path: Path) -> None:
    quick = Options.quick(tmp_path, "asyncio")
    assert quick.rounds == 1
    assert quick.is_quick
    assert not Options(tmp_path, "asyncio").is_quick
    assert Options(tmp_path, "asyncio").rounds >= 5


def test_a_note_stands_among_the_figures() -> None:
    note = Note("peers.some", "skipped, it is not there")
    assert json.loads(as_json(note)) == {"name": "peers.some", "note": "skipped, it is not there"}
    figure, words = as_table([Result("peers.another.cpu", 10.0, "us/task"), note]).splitlines()
    assert figure.split() == ["peers.another.cpu", "10.000", "us/task"]
    assert words == "peers.some         skipped, it is not there"
