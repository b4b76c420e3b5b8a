"""The engine's nouns: frozen, versioned values with a JSON round trip (``optimizer.codec``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from optimizer.codec import digest
from optimizer.errors import InputError
from optimizer.kpis import Direction, kpi

SCHEMA_VERSION = 1
Json = Any


class TaskKind(StrEnum):
    """What the network does, as far as fidelity must know it."""

    CLASSIFICATION = "classification"
    EMBEDDING = "embedding"
    SEQUENCE = "sequence"
    DETECTION = "detection"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A graph input or output. ``dtype`` is a numpy name or ``string``; a dim is a size, a symbol or None (unknown).

    ``ranked`` is False when not even the number of dims is declared. What is no tensor has its kind as dtype (``sequence``).
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    ranked: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What inspection learned of a model without executing it.

    ``flops`` and ``traffic_bytes`` hold for one call at ``bindings``; ``precisions`` are weight bytes per dtype; ``vocabularies``
    are the rows of the table that an integer input indexes; ``charset`` are the printable ASCII characters a text reader knows.
    """

    schema_version: int = SCHEMA_VERSION
    format: str
    entry: str
    sha256: str
    size_bytes: int
    producer: str = ""
    ir_version: int = 0
    opset: int = 0
    domains: dict[str, int] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    parameters: int = 0
    weight_bytes: int = 0
    flops: int | None = None
    traffic_bytes: int | None = None
    bindings: dict[str, int] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    precisions: dict[str, int] = field(default_factory=dict)
    node_count: int = 0
    control_flow: bool = False
    quantized: bool = False
    random: bool = False
    data_dependent_shapes: bool = False
    state_pairs: tuple[tuple[str, str], ...] = ()
    external_files: tuple[str, ...] = ()
    task: TaskKind = TaskKind.GENERIC
    vocabularies: dict[str, int] = field(default_factory=dict)
    charset: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of the symbolic dims of the inputs, in order of appearance."""
        seen = {dim: None for tensor in self.inputs for dim in tensor.shape if isinstance(dim, str)}
        return tuple(seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProfile:
    """A host as probed and micro-benchmarked. ``peaks_flops`` is FLOP/s per dtype, measured."""

    schema_version: int = SCHEMA_VERSION
    os: str
    os_version: str
    architecture: str
    kernel: str
    cpu_model: str
    microcode: str = ""
    virtualization: str = ""
    cores: int
    sockets: int = 1
    memory_bytes: int
    cache_bytes: dict[str, int] = field(default_factory=dict)
    instruction_sets: tuple[str, ...] = ()
    matrix_bf16: bool = False
    matrix_int8: bool = False
    dot_int8: bool = False
    peaks_flops: dict[str, float] = field(default_factory=dict)
    memory_bandwidth_bytes_per_s: float = 0.0
    accelerators: tuple[dict[str, Json], ...] = ()
    power_tier: str = "D"
    runtimes: dict[str, str] = field(default_factory=dict)
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Digest of what makes numbers comparable; measured peaks vary from run to run and stay out."""
        return digest(
            [self.os, self.architecture, self.cpu_model, self.microcode, self.cores, self.sockets, self.memory_bytes,
             sorted(self.instruction_sets), [sorted((k, str(v)) for k, v in a.items()) for a in self.accelerators]]
        )  # fmt: skip


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


class Validity(StrEnum):
    VALID = "VALID"
    VALID_WITH_WARNINGS = "VALID_WITH_WARNINGS"
    INVALID = "INVALID"
    INSUFFICIENT_SAMPLES = "INSUFFICIENT_SAMPLES"


class Provenance(StrEnum):
    """Origin of a number, strongest first."""

    MEASURED = "measured"
    DERIVED = "derived"
    USER_ENTERED = "user_entered"
    CATALOG_DEFAULT = "catalog_default"
    MODELED = "modeled"

    @property
    def is_estimate(self) -> bool:
        """Estimates are displayed as such and prove nothing."""
        return self in (Provenance.CATALOG_DEFAULT, Provenance.MODELED)


def weakest(*provenances: Provenance) -> Provenance:
    """A KPI takes the weakest provenance of its inputs."""
    order = list(Provenance)
    return max(provenances, key=order.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A value with its interval, counts, validity and origin. An open end of the interval is None."""

    kpi: str
    value: float | None
    unit: str
    ci_low: float | None = None
    ci_high: float | None = None
    confidence: float = 0.95
    n: int = 0
    n_eff: int = 0
    starts: int = 0
    method: str = ""
    validity: Validity = Validity.VALID
    reasons: tuple[str, ...] = ()
    provenance: Provenance = Provenance.MEASURED
    samples_sha256: str = ""


class Operator(StrEnum):
    AT_MOST = "<="
    AT_LEAST = ">="


@dataclass(frozen=True, slots=True, kw_only=True)
class KpiTarget:
    """A limit on one KPI; ``relative`` makes ``value`` a fraction of the baseline's measured value."""

    kpi: str
    value: float
    relative: bool = False
    op: Operator | None = None

    def __post_init__(self) -> None:
        metric = kpi(self.kpi)
        if not metric.targetable:
            raise InputError("target.not_targetable", f"{metric.title} cannot carry a target.")
        if not math.isfinite(self.value):
            raise InputError("target.not_finite", f"The target for {metric.title} must be a finite number.")
        if self.value <= 0 and not (self.kpi == "accuracy_delta_pp" and not self.relative):
            raise InputError("target.not_positive", f"The target for {metric.title} must be above zero.")
        natural = Operator.AT_MOST if metric.direction is Direction.LOWER else Operator.AT_LEAST
        if self.op is None:
            object.__setattr__(self, "op", natural)
        elif self.op is not natural:
            raise InputError("target.direction", f"{metric.title} is better when {metric.direction}; write {natural} instead of {self.op}.")


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    UNPROVEN = "unproven"


class Effect(StrEnum):
    """Decision of a comparison at its margin."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


class Scenario(StrEnum):
    """The load of an experiment (measurement.md 3). Offline: every sample is there at once; batch and parallel streams are free."""

    SINGLE_STREAM = "single_stream"
    OFFLINE = "offline"


OFFLINE_OBJECTIVES = ("throughput_per_s", "cost_usd_per_million_inferences")


class InputSource(StrEnum):
    """Where the inputs come from decides what may win (measurement.md 9)."""

    REAL = "real"
    PROXY = "proxy"
    SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Wall time for one run, and the counts of the chosen preset."""

    preset: str = "quick"
    total_s: float = 210.0
    looks: tuple[int, ...] = (8, 16)
    finalists: int = 2
    accuracy_examples: int = 500
    block_s: float = 1.0

    @property
    def accuracy_examples_most(self) -> int:
        """Sealed examples that a proof may take where a form agrees too narrowly for the usual number."""
        return 4 * self.accuracy_examples

    def __post_init__(self) -> None:
        if not math.isfinite(self.total_s) or self.total_s <= 0:
            raise InputError("budget.not_positive", "The time budget must be a finite number of seconds above zero.")


SHAPES_MOST = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficShare:
    """One bar of the histogram of the user's requests: sizes of open dimensions, and how often they come."""

    bindings: dict[str, int]
    weight: float = 1.0

    @property
    def words(self) -> str:
        """Such as ``sequence=64``."""
        return ", ".join(f"{name}={size}" for name, size in self.bindings.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """One question to the engine: targets, objective, budget and the limits of the search.

    The scenario follows from the objective where none is stated: throughput and cost are asked of samples that are all there.
    """

    schema_version: int = SCHEMA_VERSION
    targets: tuple[KpiTarget, ...] = ()
    objective: str = "latency_p50_ms"
    budget: Budget = field(default_factory=Budget)
    scenario: Scenario | None = None
    bindings: dict[str, int] = field(default_factory=dict)
    traffic: tuple[TrafficShare, ...] = ()
    task: TaskKind | None = None
    margin: float = 0.03
    seed: int = 1
    passes: tuple[str, ...] | None = None
    backends: tuple[str, ...] | None = None
    max_threads: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.margin <= 0.10:
            raise InputError("margin.range", "The margin must lie between 0 and 0.10.")
        check_traffic(self.traffic)
        if self.traffic and self.scenario is Scenario.OFFLINE:
            raise InputError("traffic.offline", "A histogram of shapes is measured one request at a time: use the scenario single_stream.")
        if self.scenario is None:
            is_offline = self.objective in OFFLINE_OBJECTIVES and not self.traffic
            natural = Scenario.OFFLINE if is_offline else Scenario.SINGLE_STREAM
            object.__setattr__(self, "scenario", natural)
        elif self.is_offline and self.objective not in OFFLINE_OBJECTIVES:
            raise InputError(
                "scenario.objective",
                f"Offline has no {kpi(self.objective).title} to improve: use {' or '.join(OFFLINE_OBJECTIVES)}, or the scenario single_stream.",
            )

    @property
    def widest(self) -> dict[str, int]:
        """The bindings with the largest size of each dimension that the traffic changes: examples are kept at these."""
        names = self.traffic[0].bindings if self.traffic else ()
        return {**self.bindings, **{name: max(one.bindings[name] for one in self.traffic) for name in names}}

    @property
    def is_offline(self) -> bool:
        """Whether all samples are there at once, so that batch and parallel streams are free."""
        return self.scenario is Scenario.OFFLINE


def check_traffic(traffic: Sequence[TrafficShare]) -> None:
    """Raises InputError ``traffic.too_many``, ``traffic.weight``, ``traffic.bindings``."""
    if len(traffic) > SHAPES_MOST:
        raise InputError("traffic.too_many", f"A histogram has at most {SHAPES_MOST} shapes; merge the rare ones into the next larger.")
    if not all(math.isfinite(one.weight) and one.weight > 0 for one in traffic):
        raise InputError("traffic.weight", "Every weight of the histogram must be a finite number above zero.")
    names = {tuple(sorted(one.bindings)) for one in traffic}
    if len(names) > 1 or () in names:
        raise InputError("traffic.bindings", "Every row of the histogram must give a size to the same dimensions, at least one.")
    if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for one in traffic for size in one.bindings.values()):
        raise InputError("traffic.bindings", "Sizes in the histogram are whole numbers from 1.")
    if len({tuple(sorted(one.bindings.items())) for one in traffic}) < len(traffic):
        raise InputError("traffic.bindings", "The histogram lists a shape twice; add up its weights.")


class Stage(StrEnum):
    """Stages of a trial, in order; reports are idempotent per (trial, stage)."""

    BUILD = "build"
    GATE = "gate"
    SCREEN = "screen"
    RACE = "race"
    CONFIRM = "confirm"


class StageStatus(StrEnum):
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a stage failed: stable code, sentence, and whether the cause lay outside the trial (a stray kill)."""

    code: str
    detail: str
    stray: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRef:
    """A file that belongs to a stage; ``path`` is local to the machine that wrote it."""

    role: str
    sha256: str
    size_bytes: int
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What one stage of one trial yielded; trial 0 is the untouched baseline."""

    trial: int
    stage: Stage
    recipe: Recipe
    status: StageStatus = StageStatus.OK
    failure: Failure | None = None
    measurements: tuple[Measurement, ...] = ()
    verdict: Verdict | None = None
    detail: dict[str, Json] = field(default_factory=dict)
    artifacts: tuple[ArtifactRef, ...] = ()
    environment: dict[str, Json] = field(default_factory=dict)


class Decision(StrEnum):
    """How a search ended."""

    WINNER = "winner"
    KEEP_ORIGINAL = "keep_original"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A finalist against the baseline, paired over race blocks. ``ratios`` are per-block speed-ups."""

    trial: int
    kpi: str
    speedup: Measurement
    effect: Effect
    blocks: int
    looks: int
    ratios: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeDuel:
    """One shape of the traffic: median latency of the judged trial's calls against the original's, paired over race blocks."""

    trial: int
    bindings: dict[str, int]
    share: float
    speedup: Measurement
    effect: Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class NotTried:
    """A recipe or pass that was left out, and why."""

    label: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstProven:
    """The form that was found first of those that are proven faster and to meet every target.

    ``forms`` had been tried by then (the original not counted), ``seconds`` had passed since the search began; the proof came later.
    """

    trial: int
    forms: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """The answer: a decision with its reason, the picks and the race behind them."""

    schema_version: int = SCHEMA_VERSION
    decision: Decision
    reason: str
    winner: int | None = None
    nearest: int | None = None
    picks: dict[str, int] = field(default_factory=dict)
    duels: tuple[Duel, ...] = ()
    shapes: tuple[ShapeDuel, ...] = ()
    not_tried: tuple[NotTried, ...] = ()
    input_source: InputSource = InputSource.SYNTHETIC
    sealed_examples: int = 0
    trials: int = 0
    elapsed_s: float = 0.0
    first_proven: FirstProven | None = None
    warnings: tuple[str, ...] = ()
