"""On one machine the server's heavier work waits while the local agent is timing."""

from __future__ import annotations

import fcntl
from pathlib import Path

from django.conf import settings

LOCK_NAME = "measuring.lock"


def lock_path() -> Path:
    """The file that the embedded agent locks while it times."""
    return Path(settings.HOME) / "agent" / LOCK_NAME


def is_measuring() -> bool:
    """Whether this machine's agent is timing right now; the kernel frees the lock of a process that died."""
    if not settings.EMBEDDED:
        return False
    try:
        with lock_path().open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
