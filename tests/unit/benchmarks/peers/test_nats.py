from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import nats


async def test_the_server_syncs_each_message_to_the_disk_of_the_run(tmp_path: Path, started: Any) -> None:
    side = await nats.start(started, tmp_path, Path("/venv"), "uvloop")
    config = (tmp_path / "nats.conf").read_text()
    assert "sync_interval: always" in config
    assert f'store_dir: "{tmp_path / "nats"}"' in config
    assert 'listen: "127.0.0.1:' in config
    programs = [options["program"][0] for _, _, options in started.calls]
    assert programs == ["/venv/bin/nats-server", "/venv/bin/python", "/venv/bin/python"]
    assert (side.name, side.call, side.is_on_loop) == ("nats", "delegate", False)
