"""Writes the files of an upload where loaders may open them: plain copies of what the model needs, nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from optimizer.units import MIB

PIECE = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedModel:
    """The entry file in its folder, and what of the bundle was left out."""

    entry: Path
    warnings: tuple[str, ...] = ()


def copy_private(source: Path, target: Path) -> None:
    """Copy bytes into a new private file; never a link."""
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as out, source.open("rb") as file:
        while piece := file.read(PIECE):
            out.write(piece)


def left_out(names: list[str]) -> tuple[str, ...]:
    """The warning about files that the model does not need."""
    if not names:
        return ()
    listed = ", ".join(name[-60:] for name in names[:5]) + (", …" if len(names) > 5 else "")
    return (f"{len(names)} file{'s' if len(names) > 1 else ''} of the zip not needed by the model were left out: {listed}.",)
