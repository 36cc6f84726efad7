from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.peers import crossbar


async def test_the_router_listens_on_loopback_and_its_own_programs_are_started(tmp_path: Path, started: Any) -> None:
    side = await crossbar.start(started, tmp_path, Path("/venv"), "uvloop")
    (worker,) = json.loads((tmp_path / "crossbar" / "config.json").read_text())["workers"]
    (transport,) = worker["transports"]
    assert transport["endpoint"]["interface"] == "127.0.0.1"
    assert transport["serializers"] == ["msgpack"]
    assert [options["program"][0] for _, _, options in started.calls] == ["/venv/bin/crossbar"] + [
        "/venv/bin/python"
    ] * 2
    assert all(str(transport["endpoint"]["port"]) in arguments for _, arguments, _ in started.calls[1:])
    assert (side.name, side.call, side.is_on_loop) == ("crossbar", "delegate", False)
