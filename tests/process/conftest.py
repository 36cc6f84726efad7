"""What the tests of processes share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of its own; nothing of the surroundings leads anywhere else."""
    for name in ("A2A_URL", "A2A_TOKEN", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("A2A_STATE_DIR", str(tmp_path / "state"))
    return tmp_path
