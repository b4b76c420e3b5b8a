"""Raw samples as one compressed, content-addressed file per trial (measurement.md 1)."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.errors import EngineFault
from optimizer.specs import ArtifactRef

COLUMNS = ("start_id", "block_id", "issued_ns", "completed_ns", "items", "calls_per_sample", "in_flight")
ROWS_MOST = 1_000_000
ROLE = "samples"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSamples:
    """One fresh process: integer nanoseconds, one row per request (or per group of ``calls_per_sample`` requests).

    A request holds ``items`` examples; with several ``in_flight`` at once the rows overlap and stand by completion.
    """

    start_id: int
    block_id: int
    issued_ns: Array
    completed_ns: Array
    items: int = 1
    calls_per_sample: int = 1
    in_flight: int = 1

    @property
    def durations_ns(self) -> Array:
        """Per request: a group's time divided by its calls."""
        return (self.completed_ns - self.issued_ns) / self.calls_per_sample


def write_samples(starts: list[StartSamples], *, folder: Path) -> ArtifactRef:
    """Store the starts in ``folder`` under their sha256 and return the reference. Raises EngineFault ``samples.too_many``."""
    rows = sum(len(start.issued_ns) for start in starts)
    if rows > ROWS_MOST:
        raise EngineFault("samples.too_many", f"{rows} samples exceed the {ROWS_MOST} rows of a raw record; use shorter blocks.")
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, suffix=".npz")
    with os.fdopen(handle, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **columns(starts))
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    path = folder / f"{digest}.npz"
    Path(name).replace(path)
    return ArtifactRef(role=ROLE, sha256=digest, size_bytes=path.stat().st_size, path=str(path))


def columns(starts: list[StartSamples]) -> dict[str, Array]:
    """The file's columns, each int64 ``[rows]``."""

    def repeated(values: list[int]) -> Array:
        return np.repeat(np.array(values, np.int64), [len(start.issued_ns) for start in starts])

    return {
        "start_id": repeated([start.start_id for start in starts]),
        "block_id": repeated([start.block_id for start in starts]),
        "issued_ns": joined([start.issued_ns for start in starts]),
        "completed_ns": joined([start.completed_ns for start in starts]),
        "items": repeated([start.items for start in starts]),
        "calls_per_sample": repeated([start.calls_per_sample for start in starts]),
        "in_flight": repeated([start.in_flight for start in starts]),
    }


def joined(parts: list[Array]) -> Array:
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)


def read_samples(path: Path) -> list[StartSamples]:
    """The starts of a stored record, in order."""
    with np.load(path, allow_pickle=False) as file:
        table = {name: file[name] for name in COLUMNS if name in file.files}
    table.setdefault("in_flight", np.ones_like(table["items"]))
    return list(_starts(table))


def _starts(table: dict[str, Array]) -> Iterator[StartSamples]:
    keys = np.stack([table["start_id"], table["block_id"]], axis=1)
    for start_id, block_id in dict.fromkeys(map(tuple, keys.tolist())):
        rows = (table["start_id"] == start_id) & (table["block_id"] == block_id)
        yield StartSamples(
            start_id=start_id,
            block_id=block_id,
            issued_ns=table["issued_ns"][rows],
            completed_ns=table["completed_ns"][rows],
            items=int(table["items"][rows][0]),
            calls_per_sample=int(table["calls_per_sample"][rows][0]),
            in_flight=int(table["in_flight"][rows][0]),
        )
