"""Describe the host by probing and micro-benchmarks, so that no device inherits wrong defaults."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from optimizer import tools
from optimizer.extensions import package_versions
from optimizer.hardware.cores import allowed_cores
from optimizer.hardware.cpu import DOT_INT8, MATRIX_BF16, MATRIX_INT8, Cpu, read_cpu
from optimizer.hardware.power import power_tier
from optimizer.sandbox.job import ChildJob, Limits
from optimizer.specs import HardwareProfile

if TYPE_CHECKING:
    from optimizer.sandbox import Sandbox

RUNTIMES = ("onnxruntime", "openvino", "torch", "transformers", "numpy", "onnx", "onnxslim", "nncf")
BENCHMARK_LIMIT_S = 90.0


def probe(*, benchmark: bool = True, sandbox: Sandbox | None = None) -> HardwareProfile:
    """The host's profile; with ``benchmark`` also its measured peaks, taken in a child of ``sandbox`` (else of a sandbox made for it)."""
    cpu = read_cpu()
    memory_bytes = psutil.virtual_memory().total
    measured = run_benchmarks(benchmark_params(cpu, memory_bytes=memory_bytes), sandbox=sandbox) if benchmark else {}
    return HardwareProfile(
        os=platform.system(),
        os_version=os_version(),
        architecture=platform.machine(),
        kernel=platform.release(),
        cpu_model=cpu.model,
        microcode=cpu.microcode,
        virtualization=virtualization(cpu),
        cores=allowed_cores(),
        sockets=cpu.sockets,
        memory_bytes=memory_bytes,
        cache_bytes=cpu.cache_bytes,
        instruction_sets=cpu.instruction_sets,
        matrix_bf16=bool(MATRIX_BF16 & set(cpu.instruction_sets)),
        matrix_int8=bool(MATRIX_INT8 & set(cpu.instruction_sets)),
        dot_int8=bool(DOT_INT8 & set(cpu.instruction_sets)),
        peaks_flops=measured.get("peaks_flops", {}),
        memory_bandwidth_bytes_per_s=measured.get("bandwidth", 0.0),
        power_tier=power_tier(),
        runtimes=runtime_versions(),
        devices={"cpu": ("CPU",)},
    )


def run_benchmarks(params: dict[str, Any], *, sandbox: Sandbox | None) -> dict[str, Any]:
    """Result of ``optimizer.hardware.peaks:measure``; empty when the child failed (a profile without peaks is still a profile)."""
    if sandbox is None:
        from optimizer.sandbox import Sandbox  # children that only count cores need no supervisor

        with tempfile.TemporaryDirectory(prefix="parka-") as folder:
            own = Sandbox(root=Path(folder))
            try:
                return run_benchmarks(params, sandbox=own)
            finally:
                own.close()
    outcome = sandbox.run(ChildJob(entry="optimizer.hardware.peaks:measure", params=params, limits=Limits(wall_s=BENCHMARK_LIMIT_S)))
    return outcome.result or {}


def benchmark_params(cpu: Cpu, *, memory_bytes: int) -> dict[str, Any]:
    """What the micro-benchmarks need to know."""
    return {
        "last_level_cache_bytes": max(cpu.cache_bytes.values(), default=0),
        "memory_bytes": memory_bytes,
        "cores": allowed_cores(),
        "precisions": ["f32", "bf16"],
    }


def runtime_versions() -> dict[str, str]:
    """Installed versions of the packages that decide speed, of those that register passes or backends, and of declared tools; absent ones are left out."""
    found = {**tools.versions(), **package_versions()}
    for name in RUNTIMES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def os_version() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.version())
    except OSError:
        return platform.version()


def virtualization(cpu: Cpu) -> str:
    """``container`` where the usual marks are found, ``vm`` under a hypervisor, else empty."""
    in_container = any(map(os.path.exists, ("/.dockerenv", "/run/.containerenv")))
    return " ".join(name for name in (cpu.virtualization, "container" if in_container else "") if name)
