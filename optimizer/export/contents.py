"""The files of a bundle that are read back, and what they say."""

from __future__ import annotations

from dataclasses import dataclass, field

from optimizer.export.plan import SessionPlan
from optimizer.measure.traffic import Bucket
from optimizer.specs import Json, Recipe, TensorSpec

SCHEMA = 1
DESCRIPTION, RECORD, MANIFEST, REQUIREMENTS, SAMPLES = "recipe.json", "measurements.json", "manifest.json", "requirements.txt", "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """``recipe.json``. ``entry`` is relative to the bundle, ``samples`` counts the examples, the tensors are in the session's order.

    ``traffic`` are the shapes it was measured with where there were several; then ``shapes`` leave open what differs (-1).
    """

    schema_version: int = SCHEMA
    entry: str
    recipe: Recipe
    session: SessionPlan
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    traffic: tuple[Bucket, ...] = ()
    runtimes: dict[str, str] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What a replay compares with, part of ``measurements.json``: the environment and the median latency of each fresh start."""

    environment: dict[str, Json] = field(default_factory=dict)
    start_latencies_p50_ms: tuple[float, ...] = ()
    block_s: float = 1.0
    margin: float = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A row of ``manifest.json``."""

    sha256: str
    size_bytes: int
