"""What counts as a contradiction between cited passages, and who speaks for which side."""

from __future__ import annotations

import pytest

from reference_agents.desk.contradictions import contradicting, sentences, speakers
from reference_agents.desk.shapes import Citation, Fact, Vote

QUESTION = "how long does a lease last?"


def cited(path: str, quote: str, line: int = 1, **ranks: int) -> Citation:
    votes = [Vote(agent=agent, rank=rank) for agent, rank in ranks.items()]
    return Citation(path=path, line=line, end=line, heading="", quote=quote, score=1.0, votes=votes, in_favour=0)


def facts_of(*quotes: str, question: str = QUESTION) -> list[tuple[str, str]]:
    citations = [cited(f"{number}.md", quote) for number, quote in enumerate(quotes)]
    return [(fact["path"], fact["says"]) for fact in contradicting(question, citations)]


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("A lease lasts 10 seconds.", "Leases last 30 seconds.", ("10", "30")),
        ("A lease lasts 10 s.", "It is short. A lease lasts\n1.5 s, then.", ("10", "1.5")),
        ("- A lease lasts 10,000 ms.", "1. A lease lasts 1_000 ms.", ("10000", "1000")),
        ("A lease lasts for ever.", "A lease does not last for ever.", ("", "not")),
        ("| lease | lasts | 10 | seconds |", "A lease lasts 20 seconds.", ("10", "20")),
    ],
)
def test_other_figures_or_a_not_in_the_same_words_contradict(one: str, other: str, says: tuple[str, str]) -> None:
    assert facts_of(one, other) == [("0.md", says[0]), ("1.md", says[1])]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A lease lasts 10 seconds.", "A lease lasts 10 seconds, as said."),
        ("A lease lasts 10 seconds.", "A lease lasts 10,000 ms."),
        ("A lease lasts 10 seconds.", "An offer waits 30 seconds for an answer."),
        ("A lease lasts 10 seconds.", "A lease of one that nobody has heard lasts 30 seconds."),
        ("A lease lasts 10 seconds.", "A lease lasts 10 to 30 seconds."),
        ("A lease lasts 10 seconds.", "A lease does not last 30 seconds."),
        ("1. A lease lasts for ever.", "2. A lease lasts for ever."),
        ("A lease lasts as RFC-10 says.", "A lease lasts as RFC-30 says."),
        ("lease 10", "lease 30"),
    ],
)
def test_what_may_both_be_true_does_not(one: str, other: str) -> None:
    assert facts_of(one, other) == []


def test_only_what_the_question_is_about_counts() -> None:
    said = ("A penguin weighs 10 kilos.", "A penguin weighs 30 kilos.")
    assert facts_of(*said) == []
    assert len(facts_of(*said, question="penguins?")) == 2


def test_of_equal_facts_the_first_cited_counts_and_there_are_two_sides() -> None:
    quotes = [f"A lease lasts {number} seconds." for number in (10, 10, 30, 30, 60)]
    assert facts_of(*quotes) == [("0.md", "10"), ("2.md", "30")]


def test_a_passage_does_not_contradict_itself() -> None:
    assert facts_of("A lease lasts 10 seconds. A lease lasts 30 seconds.") == []


def test_sentences_are_yielded_as_lines_break_and_marks_do_not() -> None:
    assert list(sentences("- One\n  goes. Two; three 1.5!\n")) == ["One goes.", "Two;", "three 1.5!"]
    assert list(sentences("")) == []


def sides(*citations: Citation) -> list[Fact]:
    return contradicting(QUESTION, citations)


def test_each_side_has_a_speaker_and_the_others_speak_for_what_they_have_further_up() -> None:
    cites = [cited("a.md", "A lease lasts 10 s."), cited("b.md", "A lease lasts 30 s.", line=4)]
    cites[0]["votes"] = [Vote(agent=agent, rank=1) for agent in ("r-a", "r-b", "r-c", "r-d")]
    cites[1]["votes"] = [Vote(agent="r-b", rank=5), Vote(agent="r-c", rank=2)]
    facts = sides(*cites)
    assert speakers(facts, cites, ["r-a", "r-b", "r-c", "r-d"]) == {"r-a": 0, "r-c": 1, "r-b": 0, "r-d": 0}
    assert speakers(facts, cites, ["r-c", "r-x"]) == {"r-c": 0, "r-x": 1}, "who did not find it can still look"
    assert speakers(facts, cites, ["r-a"]) == {}
