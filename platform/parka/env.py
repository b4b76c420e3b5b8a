"""The one reader of the environment; ``NAME_FILE`` holds the path of a file with the value (secrets)."""

from __future__ import annotations

import os
from pathlib import Path

TRUE = {"1", "true", "yes", "on"}


def read(name: str, default: str = "") -> str:
    """Value of ``name``, or the content of the file that ``name_FILE`` points to, or the default."""
    file = os.environ.get(f"{name}_FILE")
    if file:
        return Path(file).read_text().strip()
    return os.environ.get(name, default)


def flag(name: str, *, default: bool = False) -> bool:
    """Whether ``name`` is one of 1, true, yes, on."""
    value = read(name)
    return value.lower() in TRUE if value else default


def number(name: str, default: int) -> int:
    """Whole number."""
    value = read(name)
    return int(value) if value else default


def words(name: str, default: str = "") -> list[str]:
    """Comma-separated list without blanks."""
    return [word.strip() for word in read(name, default).split(",") if word.strip()]


def home() -> Path:
    """The one folder everything is written under: ``PARKA_HOME``, else ``.parka`` beside ``manage.py`` or in the working folder."""
    return Path(read("PARKA_HOME") or ".parka").resolve()
