"""What is likely to help, before anything is measured: guesses that order the queue and prove nothing.

The numbers come from measurements on CPU agents (findings.md): speed-up over ONNX Runtime's defaults, and how often a form
of that kind passes a 99 % fidelity gate. The machine's own measurements replace them within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.specs import BackendSettings, HardwareProfile, ModelCard, PassStep, Precision
from optimizer.tools import KNOWN

CONVOLUTIONS = ("Conv", "ConvTranspose")
FOLDABLE = ("BatchNormalization", "Cast", "Identity", "Shape", "Unsqueeze", "Transpose")
SMALLER = {"structured_pruning": (1.6, 0.5), "distillation": (1.8, 0.4)}
COMPILERS = frozenset({"openvino"})
SLOWER_RUNTIMES = {"pytorch": 0.85, "torch_compile": 0.7}
"""The compiled form runs as fast as ONNX Runtime, but compiles for seconds at every start: what starts at once goes first."""
REFERENCE_FLOPS_PER_S = 4e10
"""Float32 FLOP/s of one core, when the host was not benchmarked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """Guessed speed-up over Trial 0 and guessed chance of passing the fidelity gate."""

    speedup: float
    chance: float = 1.0

    @property
    def promise(self) -> float:
        """What orders the queue: a fast form that rarely passes waits behind a good one that does."""
        return 1 + (self.speedup - 1) * self.chance if self.speedup > 1 else self.speedup

    def times(self, speedup: float, chance: float = 1.0) -> Prior:
        return Prior(speedup=self.speedup * speedup, chance=self.chance * chance)


def prior_of(backend: str, settings: BackendSettings, passes: Sequence[PassStep], *, card: ModelCard, hardware: HardwareProfile) -> Prior:
    """The guess for one recipe."""
    prior = _runtime(backend, settings, hardware)
    if settings.spinning is False:
        prior = prior.times(1.1)
    for step in passes:
        prior = _with_pass(prior, step, compiled=backend in COMPILERS, card=card, hardware=hardware)
    return prior


START_SPEEDUPS = {"onnxruntime": 1.0, "openvino": 0.6, "pytorch": 0.3, "torch_compile": 0.1}
"""Starts against ONNX Runtime's: a compiler takes longer to open a model, PyTorch to be imported."""


def start_prior(backend: str, settings: BackendSettings, passes: Sequence[PassStep]) -> float:
    """The guess for cold starts: a cache saves most of what opening takes, smaller weights a little, and so does a graph cleaned ahead."""
    smaller = any("int8" in step.name or "weight_only" in step.name for step in passes)
    return START_SPEEDUPS.get(backend, 0.5) * (1.4 if settings.cached else 1.0) * (1.1 if smaller else 1.0) * (1.05 if passes else 1.0)


def _runtime(backend: str, settings: BackendSettings, hardware: HardwareProfile) -> Prior:
    base = Prior(speedup=1.4) if backend in COMPILERS else Prior(speedup=SLOWER_RUNTIMES.get(backend, 1.0))
    if settings.device != "CPU":
        base = base.times(2.0)
    if settings.precision is Precision.BF16:
        return base.times(2.8 if hardware.matrix_bf16 else 1.1, 0.7)
    if settings.precision is Precision.F16:
        return base.times(1.5 if settings.device != "CPU" else 0.7, 0.8)
    return base


def _with_pass(prior: Prior, step: PassStep, *, compiled: bool, card: ModelCard, hardware: HardwareProfile) -> Prior:
    name = step.name
    foldable = sum(card.operators.get(one, 0) for one in FOLDABLE) / max(1, card.node_count)
    if name in ("simplify", "ort_basic"):
        return prior.times(1.02 + min(0.1, foldable / 2) if compiled else 1.01)
    if name in ("opset_upgrade", "onnx_export"):
        return prior
    if name == "shape_specialisation":
        return prior.times(1.0 if compiled else 1.01)
    if name == "transformer_fusion":
        return prior.times(1.2)
    if name == "dynamic_int8":
        return prior.times(1.7 if hardware.dot_int8 or hardware.matrix_int8 else 1.2, 0.5)
    if name in ("static_int8", "qat_int8"):
        on_reduced = 1.0 if prior.chance == 1 else 0.75
        return prior.times(_static_int8(compiled=compiled, hardware=hardware) * on_reduced, 0.2 if name == "static_int8" else 0.3)
    if name in KNOWN and "int8" in str(step.params.get("variant")):
        return prior.times(_static_int8(compiled=compiled, hardware=hardware), 0.2)
    if name == "openvino_int8":
        return prior.times(1.1 if prior.chance < 1 else _static_int8(compiled=compiled, hardware=hardware), 0.6)
    if name in ("weight_only", "openvino_weight_only"):
        return prior.times(_weight_only(step, card=card, hardware=hardware), 0.7 if step.params.get("bits") == 8 else 0.3)
    if name == "bf16_rounding":
        return prior.times(0.97, 1.2)
    if name in SMALLER:
        return prior.times(*SMALLER[name])
    if name == "partial_bf16":
        return prior.times(0.85, 1.2)
    return prior.times(1.1, 0.8)


def _static_int8(*, compiled: bool, hardware: HardwareProfile) -> float:
    if compiled:
        return 2.5 if hardware.matrix_int8 else 1.6
    return 1.6 if hardware.dot_int8 or hardware.matrix_int8 else 1.1


def _weight_only(step: PassStep, *, card: ModelCard, hardware: HardwareProfile) -> float:
    """What reading fewer bytes saves: as much of the time as the weights' traffic takes beside the arithmetic."""
    peak = _peak_flops(hardware)
    reading = card.weight_bytes / (hardware.memory_bandwidth_bytes_per_s or 8e9)
    computing = (card.flops or 2 * card.parameters) / (0.5 * peak)
    left = reading * int(step.params.get("bits", 8)) / 32
    return max(0.8, (reading + computing) / (left + 1.2 * computing + 1e-12))


def _peak_flops(hardware: HardwareProfile) -> float:
    return hardware.peaks_flops.get("f32") or hardware.peaks_flops.get("float32") or REFERENCE_FLOPS_PER_S * max(1, hardware.cores)


def inference_s(card: ModelCard, hardware: HardwareProfile) -> tuple[float, float]:
    """Guessed (fast, slow) seconds of one inference of Trial 0, from FLOPs and bytes moved; unknown FLOPs guess from the weights."""
    peak = _peak_flops(hardware)
    flops = card.flops if card.flops else 2 * max(card.parameters, 100_000) * 16
    bandwidth = hardware.memory_bandwidth_bytes_per_s or 8e9
    moved = max(card.weight_bytes, card.traffic_bytes or 0) / bandwidth
    per_node = 4e-6 * card.node_count
    fast = max(flops / (0.7 * peak), 0.5 * moved) + 0.25 * per_node
    slow = max(flops / (0.25 * peak), 2 * moved) + 2 * per_node
    return fast, slow
