"""The schemas in `spec/v1/records` are those of the code, and describe what is stored."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from zlib import crc32

import pytest
from jsonschema import Draft202012Validator

from a2a.engine.record_schemas import export_records
from a2a.engine.records import RECORDS, Settled, to_bytes
from a2a.protocol.codec import unpack
from a2a.protocol.schemas import DIALECT, to_text

DIRECTORY = Path(__file__).parents[3] / "spec" / "v1" / "records"
REWRITE = "a2a schema export --records --dir spec/v1/records"


def test_the_files_are_those_of_the_code() -> None:
    expected = {name: to_text(schema) for name, schema in export_records().items()}
    found = {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.glob("*.json")}
    differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    assert not differ, f"{', '.join(differ)} differ from a2a/engine/records.py. Rewrite them: {REWRITE}"


@pytest.mark.parametrize("name", RECORDS)
def test_a_schema_is_one_and_has_the_fields_in_the_order_they_are_stored(name: str) -> None:
    schema = export_records()[f"{name}.json"]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert "$ref" not in str(schema)
    assert list(schema["properties"]) == ["lsn", "record", "version", *(item.name for item in fields(RECORDS[name]))]


def test_the_stored_form_is_the_values_in_the_order_of_the_schema() -> None:
    """As `records/README.md` tells who reads a ledger."""
    body, payload = to_bytes(Settled(5, "main-1", "failed", "losses", by="coordinator"))
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == crc32(body[5:])
    name, version, values = unpack(body[5:])
    assert (name, version, payload) == ("Settled", 1, None)
    named = dict(zip(list(export_records()["Settled.json"]["properties"])[3:], values, strict=True))
    assert (named["at"], named["task"], named["reason"], named["by"]) == (5, "main-1", "losses", "coordinator")
