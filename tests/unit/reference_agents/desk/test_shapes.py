from __future__ import annotations

from pydantic import TypeAdapter

from reference_agents.desk.shapes import Answer, Ballot


def test_the_shapes_are_what_agents_say_of_their_results() -> None:
    ballot, answer = (TypeAdapter(shape).json_schema() for shape in (Ballot, Answer))
    assert set(ballot["required"]) == {"found", "searched", "skipped", "skipped_total", "content"}
    assert set(answer["required"]) >= {"text", "citations", "heard", "unheard"}
    assert set(ballot["$defs"]["Found"]["required"]) == {"path", "line", "end", "heading", "quote", "score"}
