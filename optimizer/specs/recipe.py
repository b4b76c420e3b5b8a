"""How a model runs: passes with their taxonomy, runtime settings, and what a runtime executes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.codec import digest
from optimizer.errors import InputError
from optimizer.specs.base import Json


class PassScope(StrEnum):
    HARDWARE_AWARE = "hardware_aware"
    HARDWARE_SPECIFIC = "hardware_specific"


class PassAccuracy(StrEnum):
    SENSITIVE = "sensitive"
    INVARIANT = "invariant"


class PassNeeds(StrEnum):
    NOTHING = "nothing"
    CALIBRATION = "calibration_data"
    EVALUATION = "evaluation_data"
    TRAINING = "training_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedNode:
    """One node as a runtime executes it. ``layers`` are the model's layers it stands for, ``time_us`` its time per call."""

    name: str
    kind: str
    precision: str
    layers: tuple[str, ...] = ()
    time_us: float | None = None


class Precision(StrEnum):
    """Precision hint given to a backend; F32 forbids silent down-conversion."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassStep:
    """One pass with its parameters."""

    name: str
    params: dict[str, Json] = field(default_factory=dict)


STREAMS_MOST, BATCH_MOST = 1024, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """Runtime settings of a session. ``threads`` None means the backend's own default at the cgroup quota.

    ``streams`` requests are in flight at once and share ``threads``; ``batch`` examples go into one request along the first axis.
    ``cached``: the session starts from what its runtime prepared at build time, kept beside the model. ``bucketed``: one session for
    each shape of the traffic.
    """

    threads: int | None = None
    streams: int = 1
    batch: int = 1
    cached: bool = False
    bucketed: bool = False
    precision: Precision = Precision.F32
    spinning: bool | None = None
    device: str = "CPU"
    provider: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (1 <= self.streams <= STREAMS_MOST and 1 <= self.batch <= BATCH_MOST):
            raise InputError("settings.range", f"Streams go from 1 to {STREAMS_MOST}, batches from 1 to {BATCH_MOST:,}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Ordered passes + runtime settings: everything that turns the upload into a running session."""

    backend: str
    passes: tuple[PassStep, ...] = ()
    settings: BackendSettings = field(default_factory=BackendSettings)

    @property
    def key(self) -> str:
        """Identity of the recipe (sha256)."""
        return digest(self)

    @property
    def label(self) -> str:
        """Short text for people, e.g. ``simplify, dynamic_int8 · openvino bf16 · 2 threads``."""
        steps = ", ".join(step.name for step in self.passes) or "as uploaded"
        precision = "" if self.settings.precision is Precision.F32 else f" {self.settings.precision}"
        threads = "" if self.settings.threads is None else f" · {self.settings.threads} thread{'s' if self.settings.threads != 1 else ''}"
        streams = "" if self.settings.streams == 1 else f" · {self.settings.streams} streams"
        batch = "" if self.settings.batch == 1 else f" · batch {self.settings.batch}"
        spin = "" if self.settings.spinning is None else (" · spinning" if self.settings.spinning else " · no spinning")
        start = " · start cache" if self.settings.cached else ""
        buckets = " · a session per shape" if self.settings.bucketed else ""
        return f"{steps} · {self.backend}{precision}{threads}{streams}{batch}{spin}{start}{buckets}"

    @property
    def is_built(self) -> bool:
        """Whether its files differ from the upload's."""
        return bool(self.passes) or self.settings.cached
