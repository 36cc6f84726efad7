"""The coordinator's settings file, `a2a.toml`: read, checked, and converted to the server's settings.

    [coordinator]
    listen = "127.0.0.1:7420"
    db = "ledger.db"                # beside this file
    namespace = "main"
    token_file = "token"            # these three beside this file too
    tls_cert = "chain.pem"
    tls_key = "key.pem"
    hosts = ["a2a.example"]         # further names under which it is reached
    origins = ["https://a.example"] # of web pages that may connect; absent: none
    on_confirm_timeout = "accept"   # what an unanswered review becomes: accept, reject or hold
    recovery_grace = 15             # seconds after a start; else the longest lease somebody held

    [durations]                     # seconds
    lease = 30
    heartbeat = 10

    [skills.transcribe]             # durations of the tasks for one skill, on top of those
    lease = 120
    stall = 600                     # without progress for so long, an attempt is taken away; else never

    [limits]
    attempts = 3
    checkpoint_max_bytes = 65536
    depth_max = 8                   # tasks from root to leaf
    conflict_cost_micro = 20000     # what those who decide one conflict may use; absent: any amount

    [conflicts]                     # seconds
    appeal = 60                     # how long an outcome may be appealed before it takes effect; absent: not at all
    appeal_irreversible = 600       # the same, where the task's effect is irreversible

    [retention]
    linger = 60                     # seconds a settled task stays in memory
    linger_contexts = 600           # seconds a shared context stays there that nobody writes
    keep_days = 30                  # how long a settled task can be read; absent: for ever
    keep_agents_days = 30           # how long an agent that is away is known, where nothing more can come for it

An unknown key is an error: otherwise a misspelt limit would be no limit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..engine.policy import Bounds, Durations, Policy
from ..protocol.canonical import NUMBER_MAX
from ..protocol.codec import FrameLimits
from ..transports.websocket import WebSocketSettings

__all__ = ["ConfigError", "Settings", "read_settings"]

S = TypeVar("S")


class ConfigError(ValueError):
    """Settings that cannot be used; the message names the key."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings a coordinator starts with; the command line's options override them."""

    listen: str = "127.0.0.1:7420"
    db: Path | None = None
    """None: in the user's state directory."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    policy: Policy = field(default_factory=Policy)
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)

    def with_namespace(self, name: str) -> Settings:
        """Return these settings for another namespace.

        Raises:
            ConfigError: the name cannot begin a task's id.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", name):
            raise ConfigError(f"namespace: expected up to 32 letters, digits, dots or hyphens, got {name!r}")
        return replace(self, policy=replace(self.policy, namespace=name))

    def with_linger(self, seconds: float) -> Settings:
        """Return these settings with another time for settled tasks to stay in memory.

        Raises:
            ConfigError: it is not a valid duration.
        """
        if not 0 <= seconds <= 366 * 86_400:
            raise ConfigError(f"linger: expected seconds from 0 to a year, got {seconds:g}")
        return replace(self, policy=replace(self.policy, linger_ms=round(seconds * 1000)))

    def with_keep(self, days: float) -> Settings:
        """Return these settings with a time after which settled tasks are gone.

        Raises:
            ConfigError: it is less than a day: repeats of a request may come for that long.
        """
        return replace(self, policy=replace(self.policy, keep_ms=_days("keep_days", days)))

    def with_keep_agents(self, days: float) -> Settings:
        """Return these settings with a time after which agents that are away are forgotten.

        Raises:
            ConfigError: it is less than a day.
        """
        return replace(self, policy=replace(self.policy, keep_agents_ms=_days("keep_agents_days", days)))


def _days(what: str, days: float) -> int:
    """Return a number of days in milliseconds."""
    if not 1 <= days <= 1_000 * 366:
        raise ConfigError(f"{what}: expected days from 1 to a thousand years, got {days:g}")
    return round(days * 86_400_000)


_SECTIONS = ("coordinator", "durations", "skills", "limits", "conflicts", "retention")
_PATHS = ("db", "tls_cert", "tls_key", "token_file")
_NAMES = ("hosts", "origins")
_APPEALS = ("appeal", "appeal_irreversible")
_DURATIONS = {item.name.removesuffix("_ms"): item.name for item in fields(Durations)}
_BOUNDS = frozenset(item.name for item in fields(Bounds))
_FRAMES = frozenset(item.name for item in fields(FrameLimits)) - {"depth_max"}
"""Without the nesting of frames, which the specification sets: `depth_max` is the depth of sub-tasks here."""
_NUMBERS = ("int", "int | None")
_POLICY = frozenset(item.name for item in fields(Policy) if item.type in _NUMBERS and not item.name.endswith("_ms"))
_MAY_BE_ZERO = _BOUNDS - {"attempts"} | {"conflict_cost_micro"}
_LEAST = {"message_max_bytes": 1024, "items_max": 64, "outbox_max_bytes": 2048, "payload_max_bytes": 2}
"""What a small agent's hello, with its card, and its welcome need: with less, nobody would be let in or told why. For
payloads, the size of the smallest one, an empty list."""
_SOCKET = frozenset({"connections_max"})


def read_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises:
        ConfigError: the file cannot be read, or has an unknown key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    try:
        return _settings(document, path.absolute().parent)
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from exc


def _settings(document: Mapping[str, Any], base: Path) -> Settings:
    unknown = set(document) - set(_SECTIONS)
    if unknown:
        raise ConfigError(f"there is no section [{min(unknown)}]; expected {', '.join(_SECTIONS)}")
    tables = {name: _section(name, document.get(name, {})) for name in _SECTIONS}

    settings = _limited(_timed(Settings(), tables["durations"], tables["skills"]), tables["limits"])
    settings = _retained(_appealed(settings, tables["conflicts"]), tables["retention"])
    for key, value in tables["coordinator"].items():
        where = f"[coordinator] {key}"
        if key == "listen":
            settings = replace(settings, listen=_checked(where, value, str))
        elif key == "namespace":
            settings = settings.with_namespace(_checked(where, value, str))
        elif key in _PATHS:
            settings = replace(settings, **{key: base / _path(where, value)})  # type: ignore[arg-type]
        elif key in _NAMES:
            names = frozenset(_checked(where, name, str) for name in _checked(where, value, list))
            websocket = replace(settings.websocket, **{key: names})  # type: ignore[arg-type]
            settings = replace(settings, websocket=websocket)
        elif key == "on_confirm_timeout":
            if value not in ("accept", "reject", "hold"):
                raise ConfigError(f"{where}: expected accept, reject or hold, got {value!r}")
            settings = replace(settings, policy=replace(settings.policy, on_confirm_timeout=value))
        elif key == "recovery_grace":
            grace_ms = _milliseconds(where, value, at_least=0)
            settings = replace(settings, policy=replace(settings.policy, recovery_grace_ms=grace_ms))
        else:
            known = ("listen", "namespace", *_PATHS, *_NAMES, "on_confirm_timeout", "recovery_grace")
            raise ConfigError(f"{where}: there is no such key; expected one of {', '.join(sorted(known))}")
    return settings


def _section(name: str, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{name}: expected a section [{name}]")
    return table


def _timed(settings: Settings, table: Mapping[str, Any], skills: Mapping[str, Any]) -> Settings:
    durations = _durations("[durations]", settings.policy.durations, table)
    of_skills = {
        skill: _durations(f"[skills.{skill}]", durations, _section(f"skills.{skill}", own))
        for skill, own in skills.items()
    }
    return replace(settings, policy=replace(settings.policy, durations=durations, skills=of_skills))


def _durations(where: str, durations: Durations, table: Mapping[str, Any]) -> Durations:
    named = {}
    for key, value in table.items():
        if key not in _DURATIONS:
            raise ConfigError(f"{where} {key}: there is no such key; expected one of {', '.join(_DURATIONS)}")
        named[_DURATIONS[key]] = _milliseconds(f"{where} {key}", value, at_least=0.1)
    durations = replace(durations, **named)
    if durations.heartbeat_ms * 3 > durations.lease_ms:
        raise ConfigError(
            f"{where} heartbeat: {durations.heartbeat_ms / 1000:g} s is more than a third of the lease of "
            f"{durations.lease_ms / 1000:g} s; one lost heartbeat would cost the lease"
        )
    return durations


def _milliseconds(where: str, value: Any, *, at_least: float) -> int:
    seconds = _checked(where, value, int, float)
    if not at_least <= seconds <= 10 * 366 * 86_400:
        raise ConfigError(f"{where}: expected seconds from {at_least:g} to ten years, got {seconds:g}")
    return round(seconds * 1000)


def _appealed(settings: Settings, table: Mapping[str, Any]) -> Settings:
    named = {}
    for key, value in table.items():
        where = f"[conflicts] {key}"
        if key not in _APPEALS:
            raise ConfigError(f"{where}: there is no such key; expected {' or '.join(_APPEALS)}")
        named[f"{key}_ms"] = _milliseconds(where, value, at_least=0)
    return replace(settings, policy=replace(settings.policy, **named))  # type: ignore[arg-type]


def _retained(settings: Settings, table: Mapping[str, Any]) -> Settings:
    for key, value in table.items():
        where = f"[retention] {key}"
        if key == "linger":
            settings = settings.with_linger(_checked(where, value, int, float))
        elif key == "linger_contexts":
            linger_ms = _milliseconds(where, value, at_least=0)
            settings = replace(settings, policy=replace(settings.policy, linger_contexts_ms=linger_ms))
        elif key == "keep_days":
            settings = settings.with_keep(_checked(where, value, int, float))
        elif key == "keep_agents_days":
            settings = settings.with_keep_agents(_checked(where, value, int, float))
        else:
            expected = "linger, linger_contexts, keep_days or keep_agents_days"
            raise ConfigError(f"{where}: there is no such key; expected {expected}")
    return settings


def _limited(settings: Settings, table: Mapping[str, Any]) -> Settings:
    policy, websocket = settings.policy, settings.websocket
    for key, value in table.items():
        known = _BOUNDS | _FRAMES | _POLICY | _SOCKET
        if key not in known:
            raise ConfigError(f"[limits] {key}: there is no such key; expected one of {', '.join(sorted(known))}")
        number = _checked(f"[limits] {key}", value, int)
        least = 0 if key in _MAY_BE_ZERO else _LEAST.get(key, 1)
        if number < least:
            raise ConfigError(f"[limits] {key}: expected a whole number from {least}, got {number}")
        if number > NUMBER_MAX:  # peers are told some of these numbers, and records have others
            raise ConfigError(f"[limits] {key}: expected a whole number up to {NUMBER_MAX}, got {number}")
        change = {key: number}
        if key in _BOUNDS:
            policy = replace(policy, bounds=replace(policy.bounds, **change))
        elif key in _FRAMES:
            policy = replace(policy, frame_limits=replace(policy.frame_limits, **change))
        elif key in _POLICY:
            policy = replace(policy, **change)  # type: ignore[arg-type]
        if key in ("connections_max", "message_max_bytes", "outbox_max_bytes"):
            websocket = replace(websocket, **change)  # type: ignore[arg-type]
    return replace(settings, policy=policy, websocket=websocket)


def _path(where: str, value: Any) -> str:
    path = _checked(where, value, str)
    if not path or "\0" in path:
        raise ConfigError(f"{where}: expected the name of a file, got {path!r}")
    return path


def _checked(where: str, value: Any, *kinds: type[S]) -> S:
    if not isinstance(value, kinds) or isinstance(value, bool):
        names = {str: "a string", int: "a whole number", float: "a number", list: "a list"}
        raise ConfigError(f"{where}: expected {names[kinds[-1]]}, got {value!r}")
    return value
