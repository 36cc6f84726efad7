"""Skills as tools of MCP: their names, what they take, and how a question and an outcome read."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

pytest.importorskip("mcp_types")  # it needs newer packages than the oldest that all else runs with
from a2a.delegator import AgentInfo
from a2a.gateways import tools as module
from a2a.gateways.tools import Question, SkillTool, failure, notice, outcome, text_of, tool_names, tools_of

WORDS = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
NODE = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/Node"}},
    "$defs": {"Node": {"type": "object", "required": ["name"]}},
}


def agent(name: str, *skills: dict[str, Any], status: str = "ready") -> AgentInfo:
    return AgentInfo(name, {"skills": list(skills)}, status, {}, 1, (), 0.0)


def tool(**card: Any) -> SkillTool:
    (found,) = tools_of([agent("one", {"id": "work"} | card)]).values()
    return found


def text(result: Any) -> str:
    (content,) = result.content
    return str(content.text)


# Names ----------------------------------------------------------------------------------------------------------------


def test_an_id_that_is_fit_is_the_name_and_others_have_one_of_their_own() -> None:
    skills = ["resize", "web.fetch", "web/fetch", "web fetch", "x" * 60, "x" * 61, "get_task", "größe"]
    names = tool_names(skills)
    assert names["resize"] == "resize"
    assert len(set(names.values())) == len(skills)
    assert all(module._FIT.fullmatch(name) for name in names.values())
    assert names["web.fetch"].startswith("web_fetch-")
    assert "get_task" not in names.values(), "that is a tool already"
    assert tool_names(["web.fetch"])["web.fetch"] == names["web.fetch"], "it is the same whoever else is there"


def test_an_id_that_looks_like_the_name_of_another_keeps_it_and_the_other_has_a_longer_one() -> None:
    taken = tool_names(["web.fetch"])["web.fetch"]
    names = tool_names(["web.fetch", taken])
    assert names[taken] == taken
    assert len(names["web.fetch"]) == len(taken) + 8


# What they take -------------------------------------------------------------------------------------------------------


def test_a_skill_of_several_agents_is_one_tool_and_who_takes_nothing_has_none() -> None:
    skill = {"id": "work", "name": "Work", "description": "Does it.", "inputSchema": WORDS}
    agents = [agent("b", skill), agent("a", skill), agent("c", {"id": "rest"}, status="draining")]
    (found,) = tools_of([*agents, agent("d", {"id": "gone"}, status="away")]).values()
    shown = found.shown
    assert (shown.name, shown.title, shown.description, shown.input_schema) == ("work", "Work", "Does it.", WORDS)
    assert tools_of(agents, ["other"]) == {}


def test_arguments_are_the_input_and_what_is_wrong_with_them_is_named() -> None:
    words = tool(inputSchema=WORDS)
    assert words.input_of({"text": "x"}) == {"text": "x"}
    with pytest.raises(ValueError, match=r"work does not take these arguments: text: 7 is not of type 'string'"):
        words.input_of({"text": 7})
    with pytest.raises(ValueError, match=r"^work does not take these arguments: 'text' is a required property$"):
        words.input_of({})


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (None, "hello"),
        ({}, "hello"),
        ({"type": 7}, "hello"),
        ({"type": "string"}, "hello"),
        ({"type": "object", "anyOf": [WORDS]}, {"text": "hello"}),
        ({"type": "array", "items": {"$ref": "#/$defs/Node"}, "$defs": NODE["$defs"]}, [{"name": "hello"}]),
    ],
)
def test_an_input_without_named_fields_is_the_argument_input(schema: Any, value: Any) -> None:
    wrapped = tool(inputSchema=schema)
    Draft202012Validator.check_schema(wrapped.shown.input_schema)
    assert wrapped.shown.input_schema["required"] == ["input"]
    assert wrapped.input_of({"input": value}) == value


def test_a_wrapped_input_is_held_against_its_schema() -> None:
    with pytest.raises(ValueError, match="input: 7 is not of type 'string'"):
        tool(inputSchema={"type": "string"}).input_of({"input": 7})
    with pytest.raises(ValueError, match="'input' is a required property"):
        tool().input_of({"text": "x"})


def test_where_agents_say_different_things_they_judge_the_input_themselves() -> None:
    other = {"type": "object", "properties": {"text": {"type": "integer"}}}
    agents = [agent("a", {"id": "work", "inputSchema": WORDS}), agent("b", {"id": "work", "inputSchema": other})]
    assert tools_of(agents)["work"].input_of({"text": 7}) == {"text": 7}


@pytest.mark.parametrize("field", [{"pattern": "(?<n>\\p{L}"}, {"$ref": "#/$defs/Endless"}, {"$ref": "#/$defs/None"}])
def test_a_schema_that_nobody_here_can_read_stands_in_no_way(field: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"text": field}, "$defs": {"Endless": {"$ref": "#/$defs/Endless"}}}
    assert tool(inputSchema=schema).input_of({"text": "x"}) == {"text": "x"}


def test_nothing_is_fetched_that_a_card_refers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a foreign card had us ask somebody"))
    remote = {"type": "object", "properties": {"text": {"$ref": "http://127.0.0.1:9/schema.json"}}}
    assert tool(inputSchema=remote).input_of({"text": 7}) == {"text": 7}


# What a model reads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", [WORDS, NODE])
def test_what_a_tool_returns_is_a_result_or_a_notice(schema: dict[str, Any]) -> None:
    shown = tool(outputSchema=schema).shown.output_schema
    assert shown is not None and shown["type"] == "object"
    check = Draft202012Validator(shown).is_valid
    value = {"text": "x"} if schema is WORDS else {"next": {"name": "x"}}
    assert check(outcome("main-1", value, tool(outputSchema=schema), "a2a task result main-1").structured_content)
    assert check(notice("main-1", "leased", "it works").structured_content)
    assert not check({"text": 7} if schema is WORDS else {"next": {}})


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "string"},
        {"type": "object", "$ref": "#/properties/a"},
        {"type": 7},
        {"type": "object", "properties": {"a": {"pattern": "(?<n>"}}},
    ],
)
def test_other_schemas_of_results_are_not_shown(schema: dict[str, Any]) -> None:
    assert tool(outputSchema=schema).shown.output_schema is None


def test_a_result_is_a_text_as_it_is_or_json() -> None:
    whole = "a2a task result main-1"
    assert text(outcome("main-1", "plain", None, whole)) == "plain"
    assert outcome("main-1", "plain", None, whole).structured_content is None
    assert text(outcome("main-1", {"wörter": 6}, None, whole)) == '{"wörter": 6}'
    assert text_of(b"\xff\x00") == "2 bytes, which are not text"


def test_a_result_that_is_not_what_its_card_says_is_told() -> None:
    told = outcome("main-1", {"text": 7}, tool(outputSchema=WORDS), "a2a task result main-1")
    assert told.is_error and "main-1 is completed, but" in text(told) and '{"text": 7}' in text(told)


def test_a_result_that_is_too_large_is_shown_in_part_and_how_to_get_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TEXT_MAX", 10)
    told = outcome("main-1", {"text": "x" * 20}, tool(outputSchema=WORDS), "a2a task result main-1")
    assert "32 characters" in text(told) and "a2a task result main-1" in text(told) and "x" * 5 not in text(told)
    assert told.structured_content["state"] == "completed"
    assert "x" not in told.structured_content["note"].replace("text", ""), "the host has it once"
    assert len(text(failure("x" * 20))) == 10
    assert text(notice("main-1", "reported", "wait", "y" * 20)) == "wait\n\n" + "y" * 10
    assert text(outcome("main-1", "x" * 10, None, "a2a")) == "x" * 10


def test_a_failure_is_an_error_in_words() -> None:
    assert (failure("no").is_error, text(failure("no"))) == (True, "no")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ("why?", {"type": "string"}),
        ({"question": "sure?", "options": ["yes", "no"]}, {"type": "string", "enum": ["yes", "no"]}),
        ({"question": "good?", "options": ["approve", "reject: FEEDBACK"]}, {"type": "string"}),
        ({"question": "how many?", "schema": {"type": "integer", "minimum": 1}}, {"type": "integer", "minimum": 1}),
        ({"question": "which?", "schema": WORDS}, {"type": "string"}),
    ],
)
def test_a_question_is_a_form_of_one_field(asked: Any, field: dict[str, Any]) -> None:
    form = Question(asked).form
    assert form["properties"] == {"answer": field | {"title": "Answer"}}
    assert form["required"] == ["answer"]


@pytest.mark.parametrize(
    ("asked", "given", "answer"),
    [
        ("why?", "because", "because"),
        ("how many?", "5", 5),
        ("which account?", "12345678901234567890", "12345678901234567890"),
        ("how warm?", "NaN", "NaN"),
        ("how warm?", "1e999", "1e999"),
        ("what is open?", "[" * 5000, "[" * 5000),
        ({"question": "sure?", "options": ["yes", "no"]}, " 2", "no"),
        ({"question": "good?", "options": ["approve", "reject: FEEDBACK"]}, "reject: no", "reject: no"),
        ({"question": "name?", "schema": {"type": "string"}}, "5", "5"),
        ({"question": "which?", "schema": WORDS}, '{"text": "x"}', {"text": "x"}),
        ({"question": "sure?", "schema": {"type": "boolean"}}, True, True),
    ],
)
def test_an_answer_is_what_was_asked_for(asked: Any, given: Any, answer: Any) -> None:
    assert Question(asked).answer_of(given) == answer


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (
            {"question": "good?", "options": ["approve", "reject: FEEDBACK"]},
            "expected one of approve, reject: FEEDBACK",
        ),
        ({"question": "how many?", "schema": {"type": "integer"}}, "expected an answer of the form"),
    ],
)
def test_an_answer_that_is_none_is_told(asked: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Question(asked).answer_of("perhaps")
