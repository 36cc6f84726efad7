"""A JSON Schema for each record of the ledger, for readers without this software.

They describe a record's JSON form, as `a2a replay --json` prints it. Built from the dataclasses of `records`; nothing
here writes a file, and the ledger itself never reads a schema. Used by `a2a schema export --records` and by the tests
that keep `spec/` and the code equal.
"""

from __future__ import annotations

from pydantic.json_schema import JsonSchemaValue

from ..protocol.schemas import DIALECT, NAMES, described
from .records import RECORDS, Record

__all__ = ["export_records"]

_LSN: JsonSchemaValue = {
    "description": "Its position in the ledger, from 1.",
    "type": "integer",
    "minimum": 1,
    "maximum": 2**53 - 1,
}


def export_records() -> dict[str, JsonSchemaValue]:
    """Return file name to schema, one for each record of the current version."""
    return {f"{name}.json": _record(name, record) for name, record in RECORDS.items()}


def _record(name: str, record: type[Record]) -> JsonSchemaValue:
    schema = described(record)
    schema.pop("title", None)
    head = {"lsn": _LSN, "record": {"const": name}, "version": {"const": record.version}}
    return {
        "$schema": DIALECT,
        "$id": f"{NAMES}record:{name}",
        "title": name,
        "description": schema.pop("description"),
        "type": "object",
        "properties": head | schema.pop("properties"),
        "required": [*head, *schema.pop("required")],
    }
