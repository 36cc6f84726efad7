"""The specification and the code name the same things: promises, tables, words."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, fields
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry

from a2a.engine.binding import RELAYED_DEPTH, RELAYED_ITEMS
from a2a.engine.conflicts.patches import CHANGES_MAX, DIFF, JSON_PATCH
from a2a.engine.context_state import REVISIONS_KEPT, VALUES_KEPT, WRITES_KEPT
from a2a.engine.leases import HEARTBEAT, Case
from a2a.engine.listing import PAGE
from a2a.engine.patchbook import BYTES_KEPT, PATCH_BYTES_MAX, PATCHES_KEPT
from a2a.engine.policy import Bounds, Durations, Policy
from a2a.engine.results import REPORT
from a2a.engine.waits import AGEING_MS
from a2a.errors import CODES, FAULTS
from a2a.link import WELCOMED_WITHIN
from a2a.peer import HELLO_DEADLINE
from a2a.protocol.canonical import content_hash
from a2a.protocol.codec import JSON, Decoder, Frame, FrameLimits
from a2a.protocol.messages import KINDS, REQUESTS, Limits
from a2a.protocol.operations import BINDING, DEPTH_MAX, OPERATIONS, VERSION, read_request
from a2a.protocol.schemas import export, session_table, state_diagram, state_table

ROOT = Path(__file__).parents[2]
BINDING_TEXT = (ROOT / "spec" / "v1" / "a2a-binding.md").read_text(encoding="utf-8")
SPEC = (ROOT / "spec" / "v1" / "protocol.md").read_text(encoding="utf-8") + "\n\n" + BINDING_TEXT
GLOSSARY = (ROOT / "spec" / "v1" / "glossary.md").read_text(encoding="utf-8")

PREFIXES = (
    *("WIRE", "LIMIT", "ID", "HELLO", "AUTH", "RPC", "MAIL", "FLOW", "REG", "ROUTE", "STATE", "TASK", "TREE"),
    *(
        "BUDGET",
        "FENCE",
        "OFFER",
        "LEASE",
        "ART",
        "ASK",
        "CHECK",
        "STEER",
        "HAND",
        "REPORT",
        "ACCEPT",
        "CANCEL",
        "CLAIM",
        "WAIT",
        "GROUP",
        "COMPARE",
        "CONFLICT",
        "PATCH",
        "RUNG",
        "TIME",
        "DURABLE",
        "READ",
        "WATCH",
        "CTX",
        "ERR",
        "BIND",
    ),
)
PROMISE = re.compile(r"^\*\*([A-Z]+-\d+)\.\*\* ", re.MULTILINE)
CITED = re.compile(rf"\b({'|'.join(PREFIXES)})-(\d+)(?: to (?:\1-)?(\d+))?\b")
SECTIONS = re.compile(r"(?:\(spec|spec section) ([A-Z]{2,}\b(?!-)(?:, [A-Z]{2,}\b(?!-))*)")

PROMISES = PROMISE.findall(SPEC)
SCHEMAS = export()


def cited_in(text: str) -> set[str]:
    """Return the promises a text names, ranges such as `HELLO-1 to HELLO-8` spelled out."""
    return {
        f"{prefix}-{number}"
        for prefix, first, last in CITED.findall(text)
        for number in range(int(first), int(last or first) + 1)
    }


def sources() -> list[Path]:
    return [
        path
        for folder in ("a2a", "tests")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".sql", ".txt", ".md") and path != Path(__file__)
    ]


def rows(table_below: str) -> list[list[str]]:
    """Return the cells of the first table behind a text, without its head."""
    _, found, behind = SPEC.partition(table_below)
    assert found, f"the specification does not say {table_below!r}"
    if table_below.startswith("\n#") and "\nIt has no fields.\n" in behind.partition("\n#")[0]:
        return []
    lines = behind[re.search(r"^\|", behind, re.MULTILINE).start() :].split("\n\n")[0].splitlines()  # type: ignore[union-attr]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def milliseconds(text: str) -> int | None:
    if text == "none":
        return None
    number, unit = text.split()
    return int(number) * {"s": 1000, "min": 60_000, "h": 3_600_000}[unit]


# Promises -------------------------------------------------------------------------------------------------------------


def test_each_promise_has_a_name_of_its_own() -> None:
    assert len(PROMISES) == len(set(PROMISES)), sorted(name for name in PROMISES if PROMISES.count(name) > 1)


def test_the_promises_of_a_section_are_numbered_in_order() -> None:
    seen: dict[str, int] = {}
    for name in PROMISES:
        prefix, number = name.split("-")
        assert int(number) > seen.get(prefix, 0), f"{name} stands behind {prefix}-{seen[prefix]}"
        seen[prefix] = int(number)
    assert set(seen) == set(PREFIXES)


def test_a_promise_says_something_binding_or_plain_and_no_more_than_a_paragraph() -> None:
    for paragraph in SPEC.split("\n\n"):
        names = PROMISE.findall(paragraph)
        assert len(names) <= 1, f"{names} share a paragraph"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_source_cites_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    missing = cited_in(text) - set(PROMISES)
    assert not missing, f"{path.name} cites {sorted(missing)}, which protocol.md does not have"
    sections = {name for found in SECTIONS.findall(text) for name in found.split(", ")}
    assert sections <= set(PREFIXES), f"{path.name} cites the sections {sorted(sections - set(PREFIXES))}"


def test_what_the_specification_cites_exists() -> None:
    assert cited_in(SPEC) <= set(PROMISES), sorted(cited_in(SPEC) - set(PROMISES))


def test_a_range_of_promises_is_spelled_out() -> None:
    assert cited_in("Spec HELLO-1 to HELLO-3, LEASE-5.") == {"HELLO-1", "HELLO-2", "HELLO-3", "LEASE-5"}
    assert SECTIONS.findall("(spec TASK, REPORT). spec WIRE-5 RFC") == ["TASK, REPORT"]


def test_the_lines_are_no_longer_than_those_of_the_code() -> None:
    long = [line for line in SPEC.splitlines() if len(line) > 120 and not line.startswith(("|", "{"))]
    assert not long


# Tables ---------------------------------------------------------------------------------------------------------------


def test_the_state_table_is_that_of_the_code() -> None:
    assert generated("state_table") == state_table(), f"put this between the marks:\n{state_table()}"


def test_the_state_diagram_is_that_of_the_code() -> None:
    assert generated("state_diagram") == state_diagram(), f"put this between the marks:\n{state_diagram()}"


def test_the_table_of_a_connection_is_that_of_the_code() -> None:
    assert generated("session_table") == session_table(), f"put this between the marks:\n{session_table()}"


def generated(function: str) -> str:
    marks = rf"<!-- generated [^\n]*\b{function}; begin -->\n(.*?)<!-- end -->"
    block = re.search(marks, SPEC, re.DOTALL)
    assert block, f"the marks of the block that {function} generates are gone"
    return block[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_table_has_just_the_messages_fields(kind: str) -> None:
    lifted = {"task": "task", "fence": "fence", "generation": "gen", "payload": "payload"}
    expected = {}
    for item in fields(KINDS[kind]):  # type: ignore[arg-type]
        first, *others = item.name.split("_")
        name = lifted.get(item.name, first + "".join(word.capitalize() for word in others))
        expected[name] = (item.default is MISSING and item.default_factory is MISSING, item.name in lifted)
    written = {}
    for name, *_ in rows(f"\n#### `{kind}`\n"):
        plain = re.search(r"`(\w+)`", name)
        assert plain, f"{kind}: {name} names no field"
        written[plain[1]] = (name.startswith("**"), "✉" in name)
    assert written == expected, f"{kind}: field to (required, in the envelope)"


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_table_names_the_words_a_field_may_be(kind: str) -> None:
    schema = SCHEMAS[f"{kind}.json"]
    properties = schema["properties"] | schema["properties"]["body"]["properties"]
    for name, kind_of_value, *_ in rows(f"\n#### `{kind}`\n"):
        field = re.search(r"`(\w+)`", name)
        assert field
        property_ = properties[field[1]]
        words = next((option["enum"] for option in [property_, *property_.get("anyOf", [])] if "enum" in option), None)
        if words is not None:
            assert kind_of_value.split(" = ")[0].split(" \\| ") == words, f"{kind}.{field[1]}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_table_names_the_defaults(kind: str) -> None:
    schema = SCHEMAS[f"{kind}.json"]
    properties = schema["properties"] | schema["properties"]["body"]["properties"]
    for name, kind_of_value, *_ in rows(f"\n#### `{kind}`\n"):
        field = re.search(r"`(\w+)`", name)
        assert field
        default = properties[field[1]].get("default")
        if default is None:
            continue
        _, _, written = kind_of_value.rpartition(" = ")
        expected = json.dumps(default) if not default or not isinstance(default, str) else default
        assert written.strip("`") == expected, f"{kind}.{field[1]} is {default!r} where absent"


def test_each_request_is_named_with_its_reply() -> None:
    named = set(re.findall(r"`([a-z0-9.]+)`", SPEC.partition("**RPC-1.**")[2].split("\n\n")[0])) - {"error"}
    assert named == {request.kind for request in REQUESTS}
    for kind in named:
        assert "Reply: `" in SPEC.partition(f"\n#### `{kind}`\n")[2].split("\n| ")[0], kind


def test_the_error_codes_are_those_of_the_code() -> None:
    written = [(code.strip("`"), retryable) for code, retryable, _ in rows("**ERR-1.**")]
    assert written == [(code.value, "yes" if facts.retryable else "no") for code, facts in CODES.items()]


def test_the_cases_of_a_report_and_a_heartbeat_are_those_of_the_code() -> None:
    written = {case: (report.split(":")[0], beat.split(":")[0]) for case, report, beat in rows("### 11.3 A report")[1:]}
    assert written == {case.name.lower(): (REPORT[case], HEARTBEAT[case]) for case in Case}
    assert [case for case, _ in rows("**FENCE-5.**")] == [case.name.lower() for case in Case]


def test_the_timers_and_their_defaults_are_those_of_the_code() -> None:
    snake = {re.sub("([A-Z])", r"_\1", name.strip("`")).lower(): default for name, default, *_ in rows("**TIME-1.**")}
    assert {name: milliseconds(default) for name, default in snake.items()} == asdict(Durations())


def test_the_bounds_and_their_defaults_are_those_of_the_code() -> None:
    assert {name.strip("`"): int(default) for name, default, *_ in rows("**LIMIT-4.**")} == asdict(Bounds())


def test_the_announced_limits_and_their_defaults_are_those_of_the_code() -> None:
    policy, frames = Policy(), FrameLimits()
    expected = Limits(
        frames.message_max_bytes,
        frames.payload_max_bytes,
        frames.frames_max,
        policy.frames_per_second,
        policy.requests_in_flight,
        policy.outbox_max_bytes,
        policy.durations.heartbeat_ms,
        policy.durations.lease_ms,
    )
    written = {}
    for name, default, _ in rows("**LIMIT-1.**"):
        number, _, unit = default.replace(",", "").partition(" ")
        value = int(number) * {"": 1, "MiB": 2**20, "s": 1000}[unit]
        written[re.sub("([A-Z])", r"_\1", name.strip("`")).lower()] = value
    assert written == asdict(expected)
    assert f"{frames.items_max:,} keys and list items in all" in SPEC
    assert f"at most {frames.depth_max} deep" in SPEC


def test_the_other_limits_are_those_of_the_code() -> None:
    policy = Policy()
    paragraph = SPEC.partition("**LIMIT-7.**")[2].split("\n\n")[0].replace("\n", " ")
    for words in (
        f"{policy.children_max:,} sub-tasks",
        f"{policy.chunks_max:,} artifact chunks with {policy.chunks_max_bytes:,} bytes together",
        f"{policy.asks_max} questions",
        f"{policy.steers_max} words",
        f"{policy.said_max_bytes:,} bytes together",
        f"{policy.checkpoint_max_bytes:,} bytes",
        f"{policy.depth_max} levels",
        f"{policy.claims_max:,} claims",
        f"{policy.line_max} others before it in line",
        f"{policy.watches_max:,} tasks",
        f"{policy.finds_max} finds with `watch`",
        f"{policy.found_max:,} agents",
        f"A card, with the labels beside it, has at most {policy.card_max_bytes:,} bytes",
        f"{policy.evidence_max} are kept",
        f"at most {policy.evidence_foreign_max} under fences that were not the sender's",
    ):
        assert words in paragraph


def test_the_limits_of_all_tasks_are_those_of_the_code() -> None:
    policy = Policy()
    paragraph = SPEC.partition("**LIMIT-12.**")[2].split("\n\n")[0].replace("\n", " ")
    assert f"at most {policy.tasks_max:,} tasks in memory" in paragraph
    assert f"take about {policy.tasks_max_bytes:,} bytes" in paragraph


def test_the_limits_of_contexts_are_those_of_the_code() -> None:
    policy = Policy()
    paragraph = SPEC.partition("**LIMIT-9.**")[2].split("\n\n")[0].replace("\n", " ")
    for words in (
        f"{policy.contexts_max:,} contexts",
        f"{policy.context_keys_max:,} keys",
        f"{policy.context_max_bytes:,} bytes of current values",
        f"a value or a patch at most {policy.context_value_max_bytes:,} bytes",
        f"a write at most {policy.context_ops_max} operations",
        f"{policy.context_patches_max} patches",
        f"of values with at most {policy.context_patched_max_bytes:,} bytes together",
        f"{policy.context_depends_max:,} keys it depends on",
        f"a patch at most {policy.context_patch_operations_max} operations",
        f"{policy.context_depth_max} levels",
        f"{policy.contexts_max_bytes:,} bytes of memory",
        f"{policy.watches_max:,} watches of contexts",
    ):
        assert words in paragraph
    assert f"more than {policy.context_missed_max:,} values" in SPEC.partition("**CTX-9.**")[2].split("\n\n")[0]
    paragraph = SPEC.partition("**LIMIT-10.**")[2].split("\n\n")[0].replace("\n", " ")
    for words in (
        f"newest {VALUES_KEPT} revisions with their values",
        f"newest {REVISIONS_KEPT:,} who wrote them",
        f"newest {WRITES_KEPT:,} writes",
    ):
        assert words in paragraph


def test_the_limits_of_patches_are_those_of_the_code() -> None:
    found = {
        "PATCH-1": ("`text/x-diff`", "`application/json-patch+json`"),
        "PATCH-2": (
            f"the newest {PATCHES_KEPT} for one",
            f"at most {PATCH_BYTES_MAX:,} bytes",
            f"about {BYTES_KEPT:,} bytes in all",
        ),
        "PATCH-3": (f"more than {CHANGES_MAX} hunks or operations",),
    }
    assert found["PATCH-1"] == (f"`{DIFF}`", f"`{JSON_PATCH}`")
    for promise, words in found.items():
        paragraph = SPEC.partition(f"**{promise}.**")[2].split("\n\n")[0].replace("\n", " ")
        for word in words:
            assert word in paragraph, promise


def test_the_times_for_a_hello_and_its_answer_are_those_of_the_code() -> None:
    assert f"no hello was accepted within {HELLO_DEADLINE:g} s" in SPEC
    assert f"was not answered within {WELCOMED_WITHIN:g} s" in SPEC


def test_every_payload_outside_the_envelope_is_named_for_message_pack() -> None:
    """A peer that does not know of one sends text where bytes are wanted, and reads bytes where it wants text."""
    paragraph = SPEC.partition("**WIRE-10.**")[2].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", paragraph.partition("these fields are")[2]))
    assert payloads_in(SCHEMAS) - {"payload"} == {"default", "input", "value", "patch"}
    assert payloads_in(SCHEMAS) <= named


def payloads_in(schema: object) -> set[str]:
    """Return the names of the fields that are payloads, wherever in the schemas they stand."""
    if isinstance(schema, list):
        return {name for item in schema for name in payloads_in(item)}
    if not isinstance(schema, dict):
        return set()
    fields_here = schema.get("properties", {})
    here = {
        name for name, field in fields_here.items() if '"contentMediaType": "application/json"' in json.dumps(field)
    }
    return {name for name in here if not payloads_in(fields_here[name])} | {
        name for item in schema.values() for name in payloads_in(item)
    }


def test_the_times_of_claims_are_those_of_the_code() -> None:
    policy = Policy()
    for promise, words in (
        ("CLAIM-5", f"each {AGEING_MS // 1000} s of waiting"),
        ("CLAIM-7", f"{policy.claim_ttl_ms // 1000} s where it names none"),
        ("CLAIM-10", f"{policy.claim_grace_ms // 1000} s by default"),
    ):
        assert words in SPEC.partition(f"**{promise}.**")[2].split("\n\n")[0].replace("\n", " ")


# The binding of A2A ---------------------------------------------------------------------------------------------------


def test_the_operations_of_a2a_are_those_of_the_code() -> None:
    assert [name.strip("`") for name, *_ in rows("**BIND-4.**")] == list(OPERATIONS)


def test_the_faults_are_those_of_the_code_and_every_error_becomes_one() -> None:
    written = {
        int(code): (name.strip("`"), set(re.findall(r"`(\w+)`", ours))) for code, name, ours in rows("**BIND-13.**")
    }
    assert {code: name for code, (name, _) in written.items()} == FAULTS
    for code, facts in CODES.items():
        assert [number for number, (_, ours) in written.items() if code.value in ours] == [facts.jsonrpc], code


def test_the_numbers_of_the_binding_are_those_of_the_code() -> None:
    policy = Policy()
    for promise, words in (
        ("BIND-1", f"`{BINDING}`, and carries A2A {VERSION}"),
        ("BIND-7", f"nests at most {RELAYED_DEPTH} deep and has at most {RELAYED_ITEMS:,} keys"),
        ("BIND-11", f"{PAGE} where none is named"),
        ("BIND-11", f"more than {policy.call_page_max_bytes:,} bytes"),
        ("BIND-18", f"at most {policy.calls_max:,} of them"),
        ("BIND-19", f"nests deeper than {DEPTH_MAX} is"),
    ):
        assert words in SPEC.partition(f"**{promise}.**")[2].split("\n\n")[0].replace("\n", " "), promise


def test_the_samples_of_the_binding_have_payloads_of_their_kind() -> None:
    lines = "".join(re.findall(r"```jsonl\n(.*?)```", BINDING_TEXT, re.DOTALL)).splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert set(kinds) == {"a2a.call", "a2a.result", "a2a.fault", "a2a.event"}
    for line in lines:
        frame = json.loads(line)
        if frame["kind"] == "a2a.call":
            read_request(frame["body"]["operation"], "1.0", frame["payload"].encode())
        elif frame["kind"] == "a2a.fault":
            assert FAULTS[frame["body"]["code"]] == frame["body"]["name"]
        else:
            assert set(json.loads(frame["payload"])) <= {"task", "statusUpdate", "artifactUpdate"}


# Examples and words ---------------------------------------------------------------------------------------------------


def test_how_often_an_agent_is_taken_over_is_that_of_the_code() -> None:
    policy = Policy()
    paragraph = SPEC.partition("**CONFLICT-18.**")[2].split("\n\n")[0].replace("\n", " ")
    assert policy.takeovers_max == 3
    for words in (
        f"the third takeover within {policy.takeovers_ms // 1000} s",
        f"comes from it within {policy.answer_ms // 1000} s",
        f"after {policy.quarantine_ms // 1000} s it ends",
    ):
        assert words in paragraph


def test_the_example_frames_are_valid_and_their_hashes_right() -> None:
    blocks = re.findall(r"```jsonl\n(.*?)```", SPEC, re.DOTALL)
    lines = "".join(blocks).splitlines()
    assert lines
    hashes = set()
    for line in lines:
        plain = json.loads(line)
        Draft202012Validator(SCHEMAS[f"{plain['kind']}.json"], registry=Registry()).validate(plain)
        (frame,) = Decoder(JSON).decode(line.encode())
        assert isinstance(frame, Frame), frame
        if plain["kind"] == "task.report":
            expected = content_hash({"outcome": plain["body"]["outcome"]}, plain["payload"].encode())
            assert plain["body"]["resultHash"] == expected
        hashes |= {plain["body"]["resultHash"]} if "resultHash" in plain["body"] else set()
    assert len(hashes) == 1, "the result is confirmed as it was reported"


def test_the_words_of_the_glossary_are_used_and_told_once() -> None:
    entries = [line.split("|")[1].strip() for line in GLOSSARY.splitlines() if line.startswith("| ")]
    words = [word for entry in entries if entry != "Word" for word in entry.split(", ")]
    assert len(words) == len(set(words))
    unused = [word for word in words if not re.search(rf"\b{word}", SPEC, re.IGNORECASE)]
    assert not unused, f"protocol.md does not say {unused}"


def test_the_glossary_refers_to_sections_there_are() -> None:
    for line in GLOSSARY.splitlines():
        if line.startswith("| ") and not line.startswith("| Word"):
            sections = re.search(r"\(([A-Z, ]+)\) \|$", line)
            assert sections, line
            assert set(sections[1].split(", ")) <= set(PREFIXES), line


def test_the_table_of_contents_leads_to_every_section() -> None:
    headings = re.findall(r"^## (\d+)\. (.+)$", SPEC, re.MULTILINE)
    contents = re.findall(r"^(\d+)\. \[(.+?)\]\(#(.+?)\)", SPEC, re.MULTILINE)
    assert [(number, title) for number, title, _ in contents] == headings
    for number, title, anchor in contents:
        assert anchor == f"{number}-" + re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
