"""What follows from a resolution that is not about a group; that it is one append is tried in test_finding."""

from types import SimpleNamespace

import pytest

from a2a.engine.conflicts.effects import follows, merged_value


def merger(*payloads):
    return SimpleNamespace(results=[SimpleNamespace(payload=payload) for payload in payloads])


def test_a_value_is_what_the_merger_came_to_in_canonical_form():
    assert merged_value(merger(b'[{"parts":[{"data":{"b":1, "a":2}}]}]')) == b'{"a":2,"b":1}'


@pytest.mark.parametrize("payload", [b"[]", b"no JSON", b'[{"parts":[{"data":NaN}]}]', b'[{"parts":[{"text":"%s"}]}]'])
def test_what_has_no_such_form_or_is_too_large_is_none(payload):
    filled = payload % (b"x" * 70_000) if b"%s" in payload else payload
    assert merged_value(merger(filled)) is None
    assert merged_value(merger()) is None


def test_what_holds_up_no_key_writes_none(town):
    assert follows(town.ledger, SimpleNamespace(contested=None), "select", "value-1", "", 1) == []
