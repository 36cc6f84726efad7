from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.machine import disk_directory

Figures = dict[str, float]


@pytest.fixture
def quick(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Figures]:
    """Run a benchmark in its quick form, which leaves nothing behind, and return what it measured."""

    def run(name: str) -> Figures:
        try:
            disk_directory(tmp_path)
        except ValueError as exc:
            pytest.skip(str(exc))
        directory, own_state = tmp_path / "ledgers", tmp_path / "state"
        directory.mkdir()
        monkeypatch.setenv("A2A_STATE_DIR", str(own_state))
        code = main([name, "--quick", "--json", "--dir", str(directory)])
        output, errors = capsys.readouterr()
        assert code == 0, errors
        _, *results = [json.loads(line) for line in output.splitlines()]
        names = [result["name"] for result in results]
        assert len(set(names)) == len(names)
        assert {result["ratio_to"] for result in results} <= {None, *names}
        assert all(math.isfinite(result["value"]) for result in results)
        assert not list(directory.iterdir())
        assert not own_state.exists()
        return {result["name"]: result["value"] for result in results}

    return run
