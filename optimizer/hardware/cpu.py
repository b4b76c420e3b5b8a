"""What the kernel says of the CPU and its memory."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

TRACKED = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "asimdhp", "bf16", "i8mm", "sve", "sve2", "sme",
)  # fmt: skip
DOT_INT8 = {"avx512_vnni", "avx_vnni", "asimddp", "i8mm"}
MATRIX_BF16 = {"amx_bf16", "sme"}
MATRIX_INT8 = {"amx_int8", "i8mm", "sme"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Model, microcode, tracked instruction sets, sockets, caches (bytes per name) and hypervisor."""

    model: str
    microcode: str
    instruction_sets: tuple[str, ...]
    sockets: int
    cache_bytes: dict[str, int]
    virtualization: str


def read_cpu(*, cpuinfo: Path = Path("/proc/cpuinfo"), system: Path = Path("/sys/devices/system/cpu")) -> Cpu:
    """Read Linux' files; elsewhere what the standard library knows."""
    blocks = cpu_blocks(cpuinfo)
    first = blocks[0] if blocks else {}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    return Cpu(
        model=first.get("model name") or platform.processor() or platform.machine(),
        microcode=first.get("microcode", ""),
        instruction_sets=tuple(name for name in TRACKED if name in flags),
        sockets=max(1, len({block.get("physical id", "0") for block in blocks})),
        cache_bytes=cache_sizes(system / "cpu0" / "cache"),
        virtualization="vm" if "hypervisor" in flags else "",
    )


def cpu_blocks(cpuinfo: Path) -> list[dict[str, str]]:
    """One dict per logical CPU."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return []
    return [dict(field(line) for line in block.splitlines() if ":" in line) for block in text.split("\n\n") if block.strip()]


def field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def cache_sizes(folder: Path) -> dict[str, int]:
    """Bytes by ``L1d L1i L2 L3``."""
    return {name: size for name, size in map(cache_entry, sorted(folder.glob("index*"))) if size}


def cache_entry(index: Path) -> tuple[str, int]:
    try:
        level, kind, size = ((index / part).read_text().strip() for part in ("level", "type", "size"))
    except OSError:
        return "", 0
    suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
    unit = {"K": 2**10, "M": 2**20}.get(size[-1], 1)
    return f"L{level}{suffix}", int(size.rstrip("KM")) * unit
