"""The examples of the specification: each kind of frame, the card and some records, and what is none of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry

from a2a.engine.record_schemas import export_records
from a2a.engine.records import RECORDS
from a2a.protocol.codec import JSON, MSGPACK, BadFrame, Decoder, Frame, encode
from a2a.protocol.messages import KINDS
from a2a.protocol.schemas import export

FOLDER = Path(__file__).parents[3] / "spec" / "v1" / "examples"
SCHEMAS = {f"messages/{name}": schema for name, schema in export().items()}
SCHEMAS |= {f"records/{name}": schema for name, schema in export_records().items()}
VALID = {f"messages/{path.name}": path for path in sorted(FOLDER.glob("*.json"))}
VALID |= {f"records/{path.name}": path for path in sorted((FOLDER / "records").glob("*.json"))}
INVALID = sorted((FOLDER / "invalid").glob("*.json"))


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[schema], registry=Registry())


@pytest.mark.parametrize("kind", [*KINDS, "agent-card"])
def test_there_is_an_example_of_each_kind_and_of_the_card(kind: str) -> None:
    assert f"messages/{kind}.json" in VALID, f"write spec/v1/examples/{kind}.json: a frame with all its fields"


def test_there_are_examples_of_records() -> None:
    assert (
        {"Delegated", "Offered", "Reported", "Settled"}
        <= {path.stem for path in VALID.values() if path.parent.name == "records"}
        <= set(RECORDS)
    )


@pytest.mark.parametrize("schema", VALID)
def test_an_example_is_valid(schema: str) -> None:
    assert schema in SCHEMAS, f"nothing has the schema {schema}"
    validator(schema).validate(read(VALID[schema]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_a_frame_in_both_encodings(kind: str) -> None:
    plain = read(VALID[f"messages/{kind}.json"])
    [frame] = Decoder(JSON).decode(json.dumps(plain).encode())
    assert isinstance(frame, Frame), frame
    assert json.loads(encode([frame], JSON)) == plain, "an example leaves no field to a default"
    assert Decoder(MSGPACK).decode(encode([frame], MSGPACK)) == [frame]


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_what_is_no_example_is_refused_where_it_says(path: Path) -> None:
    told = read(path)
    assert set(told) == {"schema", "why", "at", "value"}
    error = best_match(validator(told["schema"]).iter_errors(told["value"]))
    assert error is not None, f"{path.name} is valid"
    found = list(error.absolute_path)
    assert "".join(f"/{step}" for step in found) == told["at"]
    kind = told["value"].get("kind")
    if kind in KINDS:
        [frame] = Decoder(JSON).decode(json.dumps(told["value"]).encode())
        assert isinstance(frame, BadFrame), "the codec takes what the schema does not"
        assert frame.code == "malformed"
