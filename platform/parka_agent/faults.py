"""Points at which a test may have this process killed; without ``PARKA_AGENT_CRASH_AT`` they do nothing."""

from __future__ import annotations

import os
import signal
from enum import StrEnum

VARIABLE = "PARKA_AGENT_CRASH_AT"


class Point(StrEnum):
    """Moments of an attempt that leave different things undone."""

    AFTER_CLAIM = "after_claim"
    AFTER_DOWNLOAD = "after_download"
    AFTER_UPLOAD = "after_upload"
    BEFORE_RESULT = "before_result"
    AFTER_RESULT = "after_result"


def crash_point(point: Point) -> None:
    """SIGKILL this process when the environment names this point."""
    if os.environ.get(VARIABLE) == point:
        os.kill(os.getpid(), signal.SIGKILL)
