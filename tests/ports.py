"""Loopback ports of this test process: workers that run side by side look in ranges of their own."""

from __future__ import annotations

import os

from parka.embedded.layout import FIRST_PORT, free_port

RANGE = 500


def own_port() -> int:
    """A free port that no other test worker chooses at the same moment."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return free_port(FIRST_PORT + RANGE * int(worker))
