"""What a host's profile suggests before anything is measured: precisions and thread counts, most promising first."""

from __future__ import annotations

from optimizer.hardware.cores import allowed_cores
from optimizer.specs import HardwareProfile, ModelCard, Precision

BF16_VECTOR = frozenset({"avx512_bf16", "avx_ne_convert", "bf16"})
BF16_MATRIX = frozenset({"amx_bf16", "i8mm_bf16", "sme"})
F16_VECTOR = frozenset({"avx512_fp16", "asimdhp", "fphp"})
F16_MATRIX = frozenset({"amx_fp16"})
SMALL_MODEL_FLOPS = 5_000_000


def precisions(hardware: HardwareProfile) -> tuple[Precision, ...]:
    """Precisions that the host computes natively, most promising first.

    Reduced ones come before f32 only where matrix units multiply their speed. With vector instructions alone the conversions
    cost more than they save: bf16 and f16 ran at 0.6 times the speed of f32 on AVX512-BF16 and -FP16 without AMX (OpenVINO
    2026.4, sentence encoder and two OCR networks), so there they come last.
    """
    sets = {name.lower() for name in hardware.instruction_sets}
    matrix = []
    if hardware.matrix_bf16 or sets & BF16_MATRIX:
        matrix.append(Precision.BF16)
    if sets & F16_MATRIX:
        matrix.append(Precision.F16)
    vector = []
    if sets & BF16_VECTOR:
        vector.append(Precision.BF16)
    if sets & F16_VECTOR:
        vector.append(Precision.F16)
    return tuple(dict.fromkeys([*matrix, Precision.F32, *vector]))


def thread_counts(card: ModelCard, hardware: HardwareProfile) -> tuple[int, ...]:
    """At most three counts between one and the quota. Below about 0.2 ms of work one thread beats two, so it leads there."""
    quota = max(1, hardware.cores)
    counts = dict.fromkeys([quota, max(1, quota // 2), 1])
    is_small = card.flops is not None and card.flops < SMALL_MODEL_FLOPS
    return tuple(reversed(counts)) if is_small else tuple(counts)


def stream_counts(hardware: HardwareProfile) -> tuple[int, ...]:
    """Requests in flight for throughput: one per core (two one-thread streams beat one of two threads by a quarter), half, and one."""
    quota = max(1, hardware.cores)
    return tuple(dict.fromkeys([quota, max(1, quota // 2), 1]))


def quota_threads() -> int:
    """Threads of the cgroup quota, for settings that state none."""
    return allowed_cores()
