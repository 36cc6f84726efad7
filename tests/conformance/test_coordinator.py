"""Our own coordinator passes every case there is, in both encodings."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from a2a.conformance.case import Need, Role
from a2a.conformance.conversation import Conversation
from a2a.conformance.peer import Settings
from a2a.conformance.playing import cases, coordinator_from, play_coordinator, selected
from a2a.conformance.runner import Status
from a2a.conformance.wire import JSON, MSGPACK
from a2a.engine.policy import Policy
from a2a.hosting import host
from a2a.protocol.codec import FrameLimits

from .conftest import COORDINATOR, OPERATOR_TOKEN, TOKEN, unmet

CASES = cases(Role.COORDINATOR)


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
async def test_our_coordinator_conforms(encoding: str) -> None:
    chosen = [case for case in CASES if encoding == JSON or Need.RESTART not in case.needs]
    async with coordinator_from(
        COORDINATOR, token_file=TOKEN, operator_token_file=OPERATOR_TOKEN, run=encoding
    ) as settings:
        assert unmet(await play_coordinator(chosen, settings, encoding=encoding)) == []


MORE = Policy(
    depth_max=1_000,
    evidence_max=1_000,
    evidence_foreign_max=1_000,
    said_max_bytes=64 * 1024 * 1024,
    checkpoint_max_bytes=1024 * 1024,
    conflict_subjects_max=1_000,
    conflict_max_bytes=8 * 1024 * 1024,
    conflicts_raised_max=1_000,
    asks_max=1_000,
    steers_max=1_000,
    claims_max=10_000,
    finds_max=1_000,
    card_max_bytes=8 * 1024 * 1024,
)
LESS = Policy(
    depth_max=2,
    evidence_max=2,
    evidence_foreign_max=1,
    said_max_bytes=100_000,
    checkpoint_max_bytes=1_000,
    conflict_subjects_max=2,
    conflict_max_bytes=100_000,
    conflicts_raised_max=3,
    asks_max=2,
    steers_max=2,
    claims_max=2,
    finds_max=2,
    card_max_bytes=1_000,
)
SMALL = Policy(
    frame_limits=FrameLimits(message_max_bytes=64 * 1024, payload_max_bytes=32 * 1024, frames_max=64),
    outbox_max_bytes=2 * 1024 * 1024,
)


@pytest.mark.parametrize(
    ("policy", "left_out"),
    [
        (
            MORE,
            {
                "TREE-1": "a tree may have a hundred levels",
                "LIMIT-7/a_task_is": "a checkpoint may have more than 262,144 bytes",
                "LIMIT-7/what_is_said": "what is said to a task may have more than 16,777,216 bytes",
                "LIMIT-7/of_reports": "more than 4 reports of others",
                "LIMIT-11/a_raise": "a conflict may have more than 16 subjects",
                "LIMIT-7/a_task_asks": "a task may ask more than 100 questions",
                "LIMIT-7/a_task_hears": "a task may hear more than 100 words",
                "LIMIT-7/an_agent_has": "an agent may have more than 1,000 claims",
                "LIMIT-7/a_connection": "a connection may watch with more than 256 finds",
                "LIMIT-7/a_card": "a card may have more than 1,048,576 bytes",
                "LIMIT-11/a_principal": "a principal may have raised more than 16 open conflicts",
                "LIMIT-11/an_evidence": "a conflict may have more than 1,048,576 bytes",
            },
        ),
        (LESS, {}),
        (
            SMALL,
            {
                "LIMIT-7/a_task_is": "no payload here is larger than a checkpoint",
                "LIMIT-9/a_value": "no message here is larger than a value",
                "LIMIT-7/a_card": "no message here is larger than a card",
                "LIMIT-9/a_write": "no message here is as large as the values of a write",
                "LIMIT-11/an_evidence": "no message here is larger than a conflict",
            },
        ),
    ],
    ids=["more", "less", "small"],
)
async def test_a_coordinator_that_is_set_to_other_numbers_fails_no_case(
    policy: Policy, left_out: dict[str, str]
) -> None:
    chosen = selected(CASES, ("LIMIT", "TREE-1", "REPORT-6", "RPC-6", "COMPARE-3"))
    async with host(policy=policy) as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token, operator_token=hosted.tokens.operator_token)
        outcomes = await play_coordinator(chosen, settings)
    told = [outcome for outcome in outcomes if outcome.status is not Status.PASSED]
    assert len(told) == len(left_out), unmet(told)
    for outcome, (name, reason) in zip(told, left_out.items(), strict=True):
        assert outcome.status is Status.SKIPPED, unmet(told)
        assert outcome.case.id.startswith(name)
        assert outcome.detail.startswith(reason)


async def test_a_suite_that_is_slow_to_speak_fails_no_coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a case has to say in time it has more time for than a busy machine takes."""
    send_frames = Conversation.send_frames

    async def late(self: Conversation, *frames: dict[str, Any]) -> None:
        await asyncio.sleep(0.2)
        await send_frames(self, *frames)

    monkeypatch.setattr(Conversation, "send_frames", late)
    chosen = selected(CASES, ("FENCE-4", "OFFER-6", "OFFER-8", "LEASE-4", "LEASE-8"))
    async with host() as hosted:
        settings = Settings(hosted.url, token=hosted.tokens.token, operator_token=hosted.tokens.operator_token)
        assert unmet(await play_coordinator(chosen, settings)) == []


def test_there_is_a_case_of_every_area_of_the_specification() -> None:
    from a2a.conformance.requirements import requirements

    areas = {requirement.area for requirement in requirements().values()}
    shown = {name.partition("-")[0] for case in CASES for name in (case.requirement, *case.also)}
    assert areas == shown


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]
    assert len(set(names)) == len(names)
