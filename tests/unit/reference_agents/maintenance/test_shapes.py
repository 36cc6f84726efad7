from __future__ import annotations

import json

import pytest
from pydantic import TypeAdapter, ValidationError

from reference_agents.maintenance import shapes
from reference_agents.maintenance.shapes import Judgement, Patch, Plan, Workspace

CLASSES = [name for name in shapes.__all__ if isinstance(getattr(shapes, name), type)]


@pytest.mark.parametrize("name", CLASSES)
def test_every_shape_has_a_json_schema(name: str) -> None:
    schema = TypeAdapter(getattr(shapes, name)).json_schema()
    assert schema["type"] == "object"
    assert json.loads(json.dumps(schema)) == schema


def test_a_patch_needs_nothing_but_its_text() -> None:
    assert TypeAdapter(Patch).validate_python({"text": ""}) == {"text": ""}


def test_a_plan_of_an_unknown_kind_is_no_plan() -> None:
    plan = {
        "kind": "format-disk", "request": "x", "target": "py311", "old_name": "", "new_name": "", "query": "",
        "paths": [], "may_touch": [],
    }  # fmt: skip
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(Plan).validate_python(plan)


def test_the_judgement_names_everything_the_person_at_the_end_has_to_see() -> None:
    assert {"verdict", "patch", "rejected", "agreements", "tests_before", "tests_after"} <= Judgement.__required_keys__


def test_the_baseline_travels_as_figures_and_a_digest_not_as_a_list_of_all_tests() -> None:
    assert "outcomes" not in Workspace.__annotations__
    assert {"path", "digest", "total"} <= shapes.Baseline.__required_keys__


def test_a_patch_that_is_sent_whole_leaves_room_in_a_message() -> None:
    assert shapes.PATCH_TEXT_BYTES_MAX * 2 <= 256 * 1024


def test_a_workspace_of_an_older_preparer_has_no_notes() -> None:
    assert "notes" not in TypeAdapter(Workspace).json_schema()["required"]
