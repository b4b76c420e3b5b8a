"""What is asked about: a model as inspected, a host as probed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from optimizer.codec import digest
from optimizer.specs.base import SCHEMA_VERSION, Json


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
