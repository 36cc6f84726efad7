"""`a2a schema export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from a2a.engine.record_schemas import export_records
from a2a.protocol.schemas import export, to_text

ROOT = Path(__file__).parents[3]


def test_all_schemas_as_one_object(command: Any) -> None:
    done = command("schema", "export")
    assert done.code == 0
    assert json.loads(done.out) == export()


def test_files_are_written_and_checked(command: Any, tmp_path: Path) -> None:
    directory = tmp_path / "messages"
    assert command("schema", "export", "--dir", str(directory), "--check").code == 1
    done = command("schema", "export", "--dir", str(directory))
    assert done.code == 0
    assert {path.name: path.read_text("utf-8") for path in directory.iterdir()} == {
        name: to_text(schema) for name, schema in export().items()
    }
    assert command("schema", "export", "--dir", str(directory), "--check").code == 0
    (directory / "hello.json").write_text("{}")
    (directory / "foreign.json").write_text("{}")
    done = command("schema", "export", "--dir", str(directory), "--check")
    assert done.code == 1
    assert "foreign.json, hello.json" in done.err
    done = command("schema", "export", "--dir", str(directory))
    assert "1 written" in done.err
    assert "left in place: foreign.json" in done.err
    assert (directory / "foreign.json").exists()


def test_the_schemas_of_the_specification_are_as_the_code_has_them(command: Any) -> None:
    done = command("schema", "export", "--dir", str(ROOT / "spec/v1/messages"), "--check")
    assert done.code == 0, done.err


def test_checking_needs_something_to_check(command: Any) -> None:
    assert command("schema", "export", "--check").code == 2


def test_the_schemas_of_records_are_written_and_checked_alike(command: Any, tmp_path: Path) -> None:
    done = command("schema", "export", "--records", "--dir", str(ROOT / "spec/v1/records"), "--check")
    assert done.code == 0, done.err
    assert json.loads(command("schema", "export", "--records").out) == export_records()
    assert command("schema", "export", "--records", "--dir", str(tmp_path)).code == 0
    assert {path.name for path in tmp_path.iterdir()} == set(export_records())
