"""The coordinator's settings file."""

from __future__ import annotations

import textwrap
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from a2a.cli import config
from a2a.cli.config import ConfigError, Settings, read_settings
from a2a.protocol.codec import FrameLimits


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "a2a.toml"
    path.write_text(text)
    return read_settings(path)


def test_an_empty_file_says_what_no_file_does(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Settings()


def test_the_example_is_read_and_has_every_section_and_key_of_the_coordinator(tmp_path: Path) -> None:
    example = "\n".join(line for line in (config.__doc__ or "").splitlines() if line.startswith("    "))
    settings = read(tmp_path, example)
    assert settings.policy.on_confirm_timeout == "accept"
    told = tomllib.loads(textwrap.dedent(example))
    assert told.keys() == set(config._SECTIONS)
    known = {"listen", "namespace", *config._PATHS, *config._NAMES, "on_confirm_timeout", "recovery_grace"}
    assert told["coordinator"].keys() == known


def test_everything_it_may_say(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        """
        [coordinator]
        listen = "0.0.0.0:7421"
        db = "data/ledger.db"
        namespace = "lab"
        tls_cert = "/etc/cert.pem"
        tls_key = "key.pem"
        token_file = "token"
        hosts = ["coordinator.example"]
        origins = ["https://console.example"]
        on_confirm_timeout = "hold"

        [durations]
        heartbeat = 0.5
        lease = 1.5
        queue = 60
        ask = 10

        [limits]
        attempts = 5
        losses = 0
        children_max = 7
        payload_max_bytes = 1000
        message_max_bytes = 2000
        connections_max = 3
        outbox_max_bytes = 4000

        [conflicts]
        appeal = 0.5
        appeal_irreversible = 0

        [retention]
        linger = 2.5
        linger_contexts = 90
        keep_days = 30
        keep_agents_days = 7
        """,
    )
    assert settings.listen == "0.0.0.0:7421"
    assert settings.db == tmp_path / "data/ledger.db"
    assert settings.tls_cert == Path("/etc/cert.pem")
    assert (settings.tls_key, settings.token_file) == (tmp_path / "key.pem", tmp_path / "token")
    policy, websocket = settings.policy, settings.websocket
    assert (policy.namespace, policy.on_confirm_timeout, policy.children_max) == ("lab", "hold", 7)
    assert (policy.linger_ms, policy.linger_contexts_ms, policy.keep_ms) == (2_500, 90_000, 30 * 86_400_000)
    assert policy.keep_agents_ms == 7 * 86_400_000
    assert (policy.appeal_ms, policy.appeal_irreversible_ms) == (500, 0)
    durations = policy.durations
    assert (durations.heartbeat_ms, durations.lease_ms, durations.queue_ms, durations.ask_ms) == (
        500,
        1500,
        60_000,
        10_000,
    )
    assert durations.offer_ms == 5_000, "what is not named stays"
    assert (policy.bounds.attempts, policy.bounds.losses) == (5, 0)
    assert (policy.frame_limits.payload_max_bytes, policy.frame_limits.message_max_bytes) == (1000, 2000)
    assert (websocket.message_max_bytes, websocket.connections_max) == (2000, 3), "the socket has to agree"
    assert (policy.outbox_max_bytes, websocket.outbox_max_bytes) == (4000, 4000)
    assert websocket.hosts == {"coordinator.example"}
    assert websocket.origins == {"https://console.example"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[durations]\nlaese = 1", r"\[durations\] laese: there is no such key; expected one of heartbeat, lease"),
        ("[limits]\nattemts = 1", r"\[limits\] attemts: there is no such key"),
        ("[limits]\nbackoff_ms = 1", r"\[limits\] backoff_ms: there is no such key"),
        ("[coordinator]\nport = 1", r"\[coordinator\] port: there is no such key; expected one of db, hosts, listen"),
        ("[server]\nport = 1", r"no section \[server\]"),
        ("[retention]\nkeep_days = 0.5", "keep_days: expected days from 1"),
        ("[retention]\nlinger = -1", "linger: expected seconds from 0"),
        ("[retention]\nlinger_contexts = -1", r"\[retention\] linger_contexts: expected seconds from 0"),
        ("[retention]\nforget = 1", r"\[retention\] forget: there is no such key"),
        ("[conflicts]\nappeal = -1", r"\[conflicts\] appeal: expected seconds from 0 to ten years"),
        ("[conflicts]\nappeal_ms = 1", r"\[conflicts\] appeal_ms: there is no such key; expected appeal or appeal_irr"),
        ("[limits]\nlinger_ms = 1", r"\[limits\] linger_ms: there is no such key"),
        ("durations = 3", r"durations: expected a section"),
        ("[durations]\nlease = '30'", r"lease: expected a number, got '30'"),
        ("[durations]\nlease = true", r"lease: expected a number, got True"),
        ("[durations]\nlease = 0", r"lease: expected seconds from 0\.1"),
        ("[durations]\nlease = nan", r"lease: expected seconds from 0\.1"),
        ("[durations]\nheartbeat = 20", r"heartbeat: 20 s is more than a third of the lease of 30 s"),
        ("[limits]\nattempts = 0", r"attempts: expected a whole number from 1, got 0"),
        ("[limits]\nmessage_max_bytes = 4", r"message_max_bytes: expected a whole number from 1024, got 4"),
        ("[limits]\noutbox_max_bytes = 2047", r"outbox_max_bytes: expected a whole number from 2048, got 2047"),
        ("[limits]\npayload_max_bytes = 1", r"payload_max_bytes: expected a whole number from 2, got 1"),
        ("[limits]\nitems_max = 63", r"items_max: expected a whole number from 64, got 63"),
        ("[limits]\nlosses = -1", r"losses: expected a whole number from 0, got -1"),
        (
            f"[limits]\nattempts = {2**53}",
            r"attempts: expected a whole number up to 9007199254740991, got 9007199254740992",
        ),
        (
            f"[limits]\nmessage_max_bytes = {2**70}",
            r"message_max_bytes: expected a whole number up to 9007199254740991",
        ),
        ('[coordinator]\ndb = ""', r"\[coordinator\] db: expected the name of a file, got ''"),
        ('[coordinator]\ntls_key = "\\u0000"', r"\[coordinator\] tls_key: expected the name of a file, got '\\x00'"),
        ("[limits]\nattempts = 1.5", r"attempts: expected a whole number, got 1\.5"),
        ("[coordinator]\nlisten = 7420", r"listen: expected a string, got 7420"),
        ("[coordinator]\nhosts = 'a'", r"hosts: expected a list, got 'a'"),
        ("[coordinator]\nhosts = [1]", r"hosts: expected a string, got 1"),
        ("[coordinator]\nnamespace = 'a b'", r"namespace: expected up to 32 letters"),
        ("[coordinator]\non_confirm_timeout = 'x'", r"expected accept, reject or hold"),
        ("[coordinator]\nrecovery_grace = -1", r"\[coordinator\] recovery_grace: expected seconds from 0 to ten years"),
        ("[coordinator]\nrecovery_grace = 'x'", r"recovery_grace: expected a number, got 'x'"),
        ("skills = 3", r"skills: expected a section \[skills\]"),
        ("[skills]\necho = 3", r"skills\.echo: expected a section \[skills\.echo\]"),
        ("[skills.echo]\nlaese = 3", r"\[skills\.echo\] laese: there is no such key; expected one of heartbeat"),
        ("[skills.echo]\nstall = 0", r"\[skills\.echo\] stall: expected seconds from 0\.1"),
        ("[skills.echo]\nlease = 6", r"\[skills\.echo\] heartbeat: 10 s is more than a third of the lease of 6 s"),
        ("[coordinator", r"a2a\.toml: "),
    ],
)
def test_what_it_may_not_say_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        read(tmp_path, text)
    assert str(refused.value).startswith(str(tmp_path / "a2a.toml"))


def test_a_skill_has_durations_on_top_of_the_namespaces(tmp_path: Path) -> None:
    policy = read(
        tmp_path,
        """
        [durations]
        heartbeat = 2
        lease = 8
        attempt = 900

        [skills.slow]
        lease = 60
        stall = 7.5

        [skills."a b"]
        heartbeat = 1
        """,
    ).policy
    assert (policy.durations.stall_ms, policy.durations.attempt_ms) == (None, 900_000)
    assert dict(policy.skills) == {
        "slow": replace(policy.durations, lease_ms=60_000, stall_ms=7_500),
        "a b": replace(policy.durations, heartbeat_ms=1_000),
    }


def test_without_a_word_no_attempt_is_taken_away_for_its_pace(tmp_path: Path) -> None:
    durations = read(tmp_path, "[skills.echo]").policy.skills["echo"]
    assert (durations.stall_ms, durations.attempt_ms) == (None, None)


@pytest.mark.parametrize(("seconds", "ms"), [("0", 0), ("2.5", 2_500)])
def test_the_time_to_come_back_may_be_none(tmp_path: Path, seconds: str, ms: int) -> None:
    assert read(tmp_path, f"[coordinator]\nrecovery_grace = {seconds}").policy.recovery_grace_ms == ms
    assert read(tmp_path, "").policy.recovery_grace_ms is None


def test_the_depth_is_that_of_sub_tasks_and_frames_nest_as_ever(tmp_path: Path) -> None:
    policy = read(tmp_path, "[limits]\ndepth_max = 3").policy
    assert policy.depth_max == 3
    assert policy.frame_limits == FrameLimits()


def test_what_an_attempt_leaves_is_bounded(tmp_path: Path) -> None:
    policy = read(tmp_path, "[limits]\ncheckpoint_max_bytes = 99\nsteers_max = 3\nhandoffs = 0").policy
    assert (policy.checkpoint_max_bytes, policy.steers_max, policy.bounds.handoffs) == (99, 3, 0)


@pytest.mark.parametrize("cost", [0, 5_000])
def test_what_deciding_a_conflict_may_cost_is_bounded_where_it_is_said(tmp_path: Path, cost: int) -> None:
    assert read(tmp_path, f"[limits]\nconflict_cost_micro = {cost}").policy.conflict_cost_micro == cost
    assert read(tmp_path, "").policy.conflict_cost_micro is None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.toml: No such file or directory$"):
        read_settings(tmp_path / "none.toml")
