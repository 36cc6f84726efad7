"""Each golden vector of the specification, computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from a2a.engine.artifact_hashes import artifact_digest
from a2a.engine.conflicts import comparators
from a2a.engine.conflicts.comparators import Incomparable, classify
from a2a.engine.conflicts.merging import Unmergeable, merge
from a2a.engine.conflicts.patches import overlap
from a2a.engine.conflicts.rungs import weight_of
from a2a.engine.jsonpatch import PatchFailed, PatchLimits, apply_patch
from a2a.engine.names import NameIndex, canonical_names, names_meet
from a2a.engine.policy import Policy
from a2a.engine.results import backoff_ceiling
from a2a.engine.waits import Wait
from a2a.engine.work import effect_key
from a2a.protocol import version
from a2a.protocol.canonical import canonical, content_hash
from a2a.protocol.codec import JSON, MSGPACK, BadFrame, Decoder, Encoding, Frame, encode
from a2a.protocol.messages import KINDS, Unknown
from a2a.protocol.types import ResourceName

FOLDER = Path(__file__).parents[3] / "spec" / "v1" / "vectors"
ENCODINGS: dict[str, Encoding] = {"json": JSON, "msgpack": MSGPACK}


def bytes_of(row: dict[str, Any]) -> bytes:
    """Return the message of a row: text, hexadecimal digits, or pieces some of which are repeated."""
    if "hex" in row:
        return bytes.fromhex(row["hex"])
    pieces = row.get("pieces", [row.get("text")])
    return "".join(item if isinstance(item, str) else item["repeat"] * item["times"] for item in pieces).encode()


def as_json(frames: list[Frame | BadFrame]) -> list[Any]:
    """Return frames as the rows have them, with nothing left out and nothing filled in that the sender left out."""
    assert all(isinstance(frame, Frame) for frame in frames), frames
    return [json.loads(line) for line in encode(frames, JSON).splitlines()]  # type: ignore[arg-type]


def check_frame(row: dict[str, Any]) -> None:
    both = {JSON: row["json"].encode(), MSGPACK: bytes.fromhex(row["msgpack"])}
    for encoding, data in both.items():
        frames = Decoder(encoding).decode(data)
        assert as_json(frames) == [row["frame"]]
        for other, expected in both.items():
            assert encode(frames, other) == expected, f"{encoding} to {other}"  # type: ignore[arg-type]


def check_readable(row: dict[str, Any]) -> None:
    """A field that a row leaves out has its default here, which is what it means to be absent."""
    frames = Decoder(ENCODINGS[row["encoding"]]).decode(bytes_of(row))
    assert frames == Decoder(JSON).decode("\n".join(json.dumps(frame) for frame in row["frames"]).encode())
    as_json(frames)


def check_bad_frame(row: dict[str, Any]) -> None:
    *before, bad = Decoder(ENCODINGS[row["encoding"]]).decode(bytes_of(row))
    assert isinstance(bad, BadFrame), bad
    assert all(isinstance(frame, Frame) for frame in before)
    assert (bad.code.value, bad.fatal, bad.id) == (row["error"], row["ends"], row.get("id"))


def check_canonical(row: dict[str, Any]) -> None:
    value = json.loads(row["json"])
    if row["canonical"] is None:
        with pytest.raises(ValueError):
            canonical(value)
    else:
        assert canonical(value).decode() == row["canonical"]


def check_hash(row: dict[str, Any]) -> None:
    assert canonical(row["header"]).decode() == row["canonical"]
    assert content_hash(row["header"], row["payload"].encode()) == row["hash"]


def check_artifact(row: dict[str, Any]) -> None:
    assert artifact_digest([chunk.encode() for chunk in row["chunks"]]) == row["digest"]


def check_effect_key(row: dict[str, Any]) -> None:
    assert effect_key(row["task"], row["rev"], row["step"], row.get("effectScope", "")) == row["key"]


def check_comparator(row: dict[str, Any]) -> None:
    one, other = row["one"].encode(), row["other"].encode()
    for first, second in ((one, other), (other, one)):
        assert (classify(row["comparator"], [first], second)[0] == 0) is row["equal"]


def check_classes(row: dict[str, Any]) -> None:
    firsts: list[bytes] = []
    found = []
    for payload in row["payloads"]:
        number, _ = classify(row["comparator"], firsts, payload.encode())
        if number == len(firsts):
            firsts.append(payload.encode())
        found.append(number)
    assert found == row["classes"]


def is_comparator(name: str) -> bool:
    try:
        comparators.check_comparator(name)
    except ValueError:
        return False
    return True


def check_claim_name(row: dict[str, Any]) -> None:
    one, other = ({item["name"]: item["mode"]} for item in (row["one"], row["other"]))
    index = NameIndex()
    index.add(1, one)
    assert bool(names_meet(one, other)) is bool(names_meet(other, one)) is row["conflict"]
    assert bool(index.meeting(other)) is row["conflict"]


def is_resource(name: str) -> bool:
    try:
        TypeAdapter[str](ResourceName).validate_python(name)
    except ValidationError:
        return False
    return True


def check_line(row: dict[str, Any]) -> None:
    waits = [
        (Wait(None, "", {}, item["priority"], lsn, item["at"]), item["id"])  # type: ignore[arg-type]
        for lsn, item in enumerate(row["waits"])
    ]
    assert [name for _, name in sorted(waits, key=lambda pair: pair[0].standing)] == row["order"]


def check_version(row: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(version, "OLDEST", row["ours"][0])
        patch.setattr(version, "SPOKEN", row["ours"][1])
        assert version.agree(*row["theirs"]) == row["agreed"]


def check_json_patch(row: dict[str, Any]) -> None:
    document, patch = row["document"].encode(), row["patch"].encode()
    if "error" not in row:
        assert apply_patch(document, patch, PatchLimits()).decode() == row["result"]
        return
    with pytest.raises(PatchFailed) as failed:
        apply_patch(document, patch, PatchLimits())
    assert (failed.value.kind, failed.value.operation) == (row["error"], row["operation"])


def check_patches(row: dict[str, Any]) -> None:
    one, other = row["one"].encode(), row["other"].encode()
    try:
        assert bool(overlap(one, other)) is bool(overlap(other, one)) is row["collide"]
    except Incomparable:
        pytest.fail("patches that cannot be compared collide with nothing; these are to be compared")


def check_merge(row: dict[str, Any]) -> None:
    base, one, other = (None if row[name] is None else row[name].encode() for name in ("base", "one", "other"))
    for first, second in ((one, other), (other, one)):
        try:
            merged = merge(base, first, second).decode()
        except Unmergeable:
            merged = None
        assert merged == row["merged"]


def check_comparator_name(row: dict[str, Any]) -> None:
    assert is_comparator(row["comparator"]) is row["valid"]


def check_resource_name(row: dict[str, Any]) -> None:
    assert is_resource(row["name"]) is row["valid"]


def check_resources(row: dict[str, Any]) -> None:
    assert [list(item) for item in canonical_names(row["resources"]).items()] == row["names"]


def check_backoff(row: dict[str, Any]) -> None:
    assert backoff_ceiling(Policy(), row["failure"] - 1) == row["ceilingMs"]


def check_weight(row: dict[str, Any]) -> None:
    assert weight_of(row["accepted"], row["decided"]) == row["weight"]


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "artifacts": check_artifact,
    "backoff": check_backoff,
    "bad-frames": check_bad_frame,
    "canonical": check_canonical,
    "claim-names": check_claim_name,
    "classes": check_classes,
    "comparator-names": check_comparator_name,
    "comparators": check_comparator,
    "effect-keys": check_effect_key,
    "frames": check_frame,
    "hashes": check_hash,
    "json-patch": check_json_patch,
    "lines": check_line,
    "merges": check_merge,
    "patches": check_patches,
    "readable": check_readable,
    "resource-names": check_resource_name,
    "resource-orders": check_resources,
    "versions": check_version,
    "weights": check_weight,
}
FILES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
ROWS = [
    pytest.param(name, row, id=f"{name}-{number}") for name, rows in FILES.items() for number, row in enumerate(rows)
]


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_a_vector_is_what_the_code_computes(name: str, row: dict[str, Any]) -> None:
    CHECKS[name](row)


def test_each_file_is_computed_and_told_of() -> None:
    assert set(FILES) == set(CHECKS)
    told = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {name for name in FILES if f"`{name}.json`" in told} == set(FILES)


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_frame_of_each_kind(kind: str) -> None:
    names = {row["name"]: row["frame"]["kind"] for row in FILES["frames"]}
    assert names.get(kind) == kind, f"add a row named {kind} to spec/v1/vectors/frames.json, from its example"


def test_a_frame_of_an_unknown_kind_is_among_them() -> None:
    [row] = [row for row in FILES["frames"] if row["frame"]["kind"] not in KINDS]
    [frame] = Decoder(JSON).decode(row["json"].encode())
    assert isinstance(frame, Frame)
    assert isinstance(frame.message, Unknown) and frame.must
