"""Micro-benchmarks that need numpy only: matrix multiply in float32 and the STREAM triad."""

from __future__ import annotations

import time

import numpy as np

from optimizer.units import NS_PER_S

REPEATS = 5
GEMM_SIDE = 1024
TRIAD_SHARE_OF_MEMORY = 16
TRIAD_BYTES_MOST = 512 * 2**20
TRIAD_BYTES_LEAST = 64 * 2**20


def best_seconds(work: object, *, repeats: int = REPEATS) -> float:
    """Shortest of several runs after one warm-up: a roof is what the host can do undisturbed."""
    if not callable(work):
        raise TypeError("work must be callable")
    work()
    durations = []
    for _ in range(repeats):
        begin = time.perf_counter_ns()
        work()
        durations.append(time.perf_counter_ns() - begin)
    return min(durations) / NS_PER_S


def gemm_flops_per_s(*, side: int = GEMM_SIDE) -> float:
    """FLOP/s of a square float32 matrix product, 2·n³ operations."""
    rng = np.random.default_rng(1)
    left, right = (rng.random((side, side), dtype=np.float32) for _ in range(2))
    out = np.empty_like(left)
    return float(2 * side**3 / best_seconds(lambda: np.matmul(left, right, out=out)))


def triad_bytes(*, last_level_cache_bytes: int, memory_bytes: int) -> int:
    """Bytes per array: four times the last-level cache, within a bounded share of memory."""
    wanted = max(TRIAD_BYTES_LEAST, 4 * last_level_cache_bytes)
    return int(min(wanted, TRIAD_BYTES_MOST, memory_bytes // TRIAD_SHARE_OF_MEMORY))


def triad_bytes_per_s(*, array_bytes: int) -> float:
    """Sustained bytes/s of ``a = b + s·c`` in two numpy steps; counts the five array passes that they make."""
    count = array_bytes // 8
    first, second, third = np.zeros(count), np.ones(count), np.ones(count)

    def triad() -> None:
        np.multiply(third, 3.0, out=first)
        np.add(first, second, out=first)

    return float(5 * count * 8 / best_seconds(triad, repeats=3))
