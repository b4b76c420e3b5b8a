"""Which folders of the host would show a child more than a program and its libraries."""

from __future__ import annotations

import os
from pathlib import Path

HOME = "PARKA_HOME"


def shows_too_much(folder: Path) -> bool:
    """Whether the folder is or holds the root of the host, the owner's home or ``PARKA_HOME``."""
    whole = folder.resolve()
    return any(one.resolve().is_relative_to(whole) for one in _private())


def _private() -> list[Path]:
    found = [Path("/"), *(Path(one) for one in (os.environ.get(HOME),) if one)]
    try:
        return [*found, Path.home()]
    except RuntimeError:  # an account without an entry in the system's table has no home
        return found
