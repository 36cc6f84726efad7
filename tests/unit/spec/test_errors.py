"""The page of errors, the specification and the code name the same codes, borders, requests and data."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

from a2a.errors import CODES, ErrorCode
from a2a.protocol.codec import JSON, Decoder, Frame

ROOT = Path(__file__).parents[3]
SPEC = (ROOT / "spec" / "v1" / "protocol.md").read_text(encoding="utf-8")
PAGE = (ROOT / "spec" / "v1" / "errors.md").read_text(encoding="utf-8")


def rows(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table behind a text, without its head."""
    table = text.partition(heading)[2].partition("\n| ")[2].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def test_the_codes_are_those_of_the_code_with_what_they_become_at_a_border() -> None:
    meanings = {words(code)[0]: meaning for code, _, meaning in rows(SPEC, "**ERR-1.**")}
    expected = [
        [f"`{code}`", "yes" if facts.retryable else "no", str(facts.http), str(facts.jsonrpc), meanings[code]]
        for code, facts in CODES.items()
    ]
    assert rows(PAGE, "## The codes") == expected


def test_a_code_is_listed_with_the_requests_that_name_it() -> None:
    expected: dict[str, list[str]] = {code.value: [] for code in ErrorCode}
    for kind, head in re.findall(r"\n#### `([a-z.]+)`\n\n(.*?)\n\n", SPEC, re.DOTALL):
        for word in words(" ".join(head.split()).partition("Errors: ")[2]):
            if word in expected:
                expected[word].append(kind)
    written = {words(code)[0]: words(kinds) for code, kinds in rows(PAGE, "## Which requests")}
    assert written == expected, "name each request in errors.md with the codes of its `Errors:` in protocol.md"


def test_the_data_is_what_the_engine_sends() -> None:
    """Where a handler spells the data out; the others add to what one of them says of a key or a conflict."""
    sent: set[tuple[str, frozenset[str]]] = set()
    for path in sorted((ROOT / "a2a" / "engine").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refuse"):
                continue
            data = next((keyword.value for keyword in node.keywords if keyword.arg == "data"), None)
            if isinstance(data, ast.Dict) and isinstance(code := node.args[0], ast.Attribute):
                sent.add(
                    (ErrorCode[code.attr].value, frozenset(str(ast.literal_eval(key)) for key in data.keys if key))
                )
    assert sent, "the engine refuses with data"
    written = {(words(code)[0], frozenset(words(data))) for code, _, data in rows(PAGE, "## What comes with it")}
    assert sent <= written, f"errors.md does not tell of {sorted(map(str, sent - written))}"
    revision = {"key", "rev", "author", "value"}
    put_together = {
        ("schema", frozenset(revision | {"operation"})),
        ("conflict", frozenset(revision | {"operation"})),
        ("not_found", frozenset(revision)),
        ("gone", frozenset({"key", "rev", "author"})),
        ("denied", frozenset({"conflict"})),
        ("denied", frozenset({"holders", "holdersMore"})),
    }
    assert written == sent | put_together


def test_the_example_is_a_frame() -> None:
    [line] = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
    [frame] = Decoder(JSON).decode(line.encode())
    assert isinstance(frame, Frame), frame
    assert CODES[ErrorCode(json.loads(line)["body"]["code"])].retryable
