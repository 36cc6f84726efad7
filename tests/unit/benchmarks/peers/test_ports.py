from __future__ import annotations

import socket

from benchmarks.peers.ports import free_port


def test_the_port_can_be_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
